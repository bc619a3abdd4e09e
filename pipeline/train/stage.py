"""Stage `train`: one model trained without one fold, and its predictions for that fold and test.

The scored fold's rows are not passed to the training at all; their labels are read once, at the
end, for the line that says how good it is.
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pipeline.core import paths
from pipeline.core.arrays import read_array
from pipeline.core.competition import Decoding, read_competition, read_decoding
from pipeline.core.errors import FoldError, TableError, TrainError
from pipeline.core.files import new_folder
from pipeline.core.progress import say
from pipeline.core.shapes import Packed
from pipeline.core.tables import (
    FOLD_COLUMNS,
    IMAGE_COLUMNS,
    check_ids,
    predictions_file,
    read_table,
    write_predictions,
    write_table,
)
from pipeline.core.task import Number, Task
from pipeline.split.folds import assign_folds
from pipeline.train.checkpoint import Checkpoint, hash_of_inputs, hold_lock
from pipeline.train.config import AnyModel, InnerEpoch, ProbeConfig, TrainConfig
from pipeline.train.device import (
    choose_compute,
    describe_indeterminism,
    deterministic,
    suit_network,
)
from pipeline.train.fit import History, TrainingRows, fit
from pipeline.train.infer import predict
from pipeline.train.kinds import mean_and_std
from pipeline.train.linear import compute_features, fit_probe, predict_features
from pipeline.train.models import build_model, check_sizes, describe, save_model
from pipeline.train.shortage import describe_shortage
from pipeline.train.world import ALONE, World, launch


def run(section: TrainConfig, member: str, fold: int) -> None:
    """Write models/MEMBER/foldFOLD: weights, out-of-fold and test predictions, history.

    Only the device, the threads, the processes and the member's model of the section are used: the
    rest may change and this training stays up to date. Raises TrainError, which names the member
    and fold, where the training cannot go on.
    """
    place = f"params.yaml: train.models.{member} (fold {fold})"
    try:
        with hold_lock(paths.RESUME / f"{member}-fold{fold}.lock"):
            if section.world == 1 or isinstance(section.models[member], ProbeConfig):
                _train_in(section, member, fold, ALONE)
            else:
                launch(_train_in, section.device, section.world, section, member, fold)
    except TrainError as error:
        raise TrainError(f"{place}: {error}") from error


def _train_in(section: TrainConfig, member: str, fold: int, world: World) -> None:
    """Train in one process of `world`."""
    config = section.models[member]
    try:
        _train(section, member, config, fold, world)
    except (ImportError, MemoryError, OSError, RuntimeError) as error:
        said = describe_shortage(error, config) or describe_indeterminism(error)
        if said is None:
            raise
        raise TrainError(said) from error


def _train(section: TrainConfig, member: str, config: AnyModel, fold: int, world: World) -> None:
    name, threads = f"{member} fold {fold}", section.threads
    deterministic(threads)
    compute = choose_compute(section.device, config.precision)
    world.join(compute.device)
    task = read_competition(paths.COMPETITION).task
    decoding = read_decoding(paths.DECODING)
    table = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
    image_ids = list(table["image_id"])
    labels = task.encode(paths.TRAIN_TABLE, table["label"])
    images = _read_rows(paths.TRAIN_IMAGES, len(image_ids), decoding)
    test_ids = list(read_table(paths.TEST_TABLE, IMAGE_COLUMNS)["image_id"])
    test_images = _read_rows(paths.TEST_IMAGES, len(test_ids), decoding)
    scored, rows = _rows_of_fold(fold, image_ids, task, config)

    torch.manual_seed(config.seed)
    mean, std = mean_and_std(images, rows.training)
    model = build_model(config.network, task, decoding, list(mean), list(std))
    check_sizes(model, config.sizes_px)
    compute = suit_network(compute, config.precision, model, decoding)
    place = compute.device.type if world.size == 1 else f"{world.size} × {compute.device.type}"
    say(f"{name}: {len(rows.training)} {decoding.kind} on {place}, {compute.dtype}")
    inputs = [paths.TRAIN_IMAGES, paths.TRAIN_TABLE, paths.FOLDS]
    machine = f"{compute.kind} {threads} {world.size} {section.sync_batch_norm}"
    key = hash_of_inputs(f"{fold} {machine} {config.model_dump_json()}", inputs)
    checkpoint = Checkpoint(paths.RESUME / key)
    live = LiveTable(paths.live_table(member, fold), len(rows.training))

    def show(history: History) -> None:
        live.write(history)
        values = ", ".join(f"{column} {value:.4g}" for column, value in history[-1].items())
        say(f"{name}: {values} (of {config.epochs})")

    if isinstance(config, ProbeConfig):
        model = model.to(compute.device).to(memory_format=torch.channels_last)
        features = compute_features(model, images, test_images, config, compute, threads)
        known = rows.training
        history = [fit_probe(model, features.train, labels, known, config, compute, threads)]
        show(history)
        oof = predict_features(model, features.train[torch.from_numpy(scored)], compute)
        test = predict_features(model, features.test, compute)
    else:
        model, history = fit(
            model, images, labels, rows, config, compute, checkpoint, show,
            world, section.sync_batch_norm,
        )  # fmt: skip
        oof = predict(model, images, scored, compute, config.tta, world)
        test = predict(model, test_images, np.arange(len(test_ids)), compute, config.tta, world)
    if not world.leads:
        return

    with new_folder(paths.model_folder(member, fold)) as folder:
        description = describe(config, task, decoding, threads)
        save_model(folder / "weights.safetensors", model, description)
        write_predictions(
            predictions_file(folder / "oof.csv", task),
            [image_ids[row] for row in scored],
            oof,
            task,
        )
        write_predictions(predictions_file(folder / "test.csv", task), test_ids, test, task)
        write_table(folder / "history.csv", pd.DataFrame(history))
    checkpoint.remove()
    right = task.right(task.decide(oof, None), labels[scored])
    found, value = "accuracy", float(right.mean())
    if isinstance(task, Number):
        found, value = "squared error", float(task.losses(oof, labels[scored]).mean())
    live.write(history, (found.replace(" ", "_"), value))
    say(f"{name}: out-of-fold {found} {value:.4f} on {len(scored)} {decoding.kind}")


class LiveTable:
    """live/MEMBER-foldFOLD.csv: the progress of a training, for `dvc plots` and `make run`.

    The columns of the history, and of the epochs that this process trained `seconds` and
    `images_per_s`; at the end the last row has `out_of_fold_accuracy`, of numbers
    `out_of_fold_squared_error`. Its times are in no output: the same inputs give the same bytes
    there.
    """

    def __init__(self, path: Path, images: int) -> None:
        """images: those of an epoch. A table of an earlier run is removed."""
        self._path = path
        self._images = images
        self._seconds: dict[int | float, float] = {}
        self._last = time.monotonic()
        path.unlink(missing_ok=True)

    def write(self, history: History, out_of_fold: tuple[str, float] | None = None) -> None:
        """Replace the table, after each epoch and once more with a score and its name."""
        now = time.monotonic()
        if out_of_fold is None:
            self._seconds[history[-1]["epoch"]] = now - self._last
            self._last = now
        table = pd.DataFrame(history)
        seconds = table["epoch"].map(self._seconds)
        table["seconds"], table["images_per_s"] = seconds, self._images / seconds
        if out_of_fold is not None:
            name, value = out_of_fold
            table.loc[table.index[-1], f"out_of_fold_{name}"] = value
        write_table(self._path, table)


def _read_rows(path: Path, rows: int, decoding: Decoding) -> Packed:
    packed = read_array(path, rows)
    expected = (rows, *decoding.shape)
    if packed.shape != expected or packed.dtype != decoding.dtype:
        raise TableError(
            f"{path}: expected {decoding.dtype} in the shape {expected}, found {packed.dtype} in "
            f"{packed.shape}. Run: dvc repro --force prepare"
        )
    return packed


def _rows_of_fold(
    fold: int, image_ids: list[str], task: Task, config: AnyModel
) -> tuple[np.ndarray, TrainingRows]:
    """The scored rows, and the other rows of the same repeat, split where an epoch is chosen."""
    table = read_table(paths.FOLDS, FOLD_COLUMNS)
    repeat = table.loc[table["fold"] == str(fold), "repeat"]
    if repeat.empty:
        raise FoldError(f"{paths.FOLDS}: no rows of fold {fold}. Run: dvc repro split")
    table = table[table["repeat"] == repeat.iloc[0]]
    check_ids(paths.FOLDS, list(table["image_id"]), image_ids)
    table = table.set_index("image_id").loc[image_ids]
    scored = np.flatnonzero(table["fold"] == str(fold))
    training = np.flatnonzero(table["fold"] != str(fold))
    if not isinstance(config.epoch, InnerEpoch):
        return scored, TrainingRows(training, inner=np.array([], np.int64))
    known = table[(table["fold"] != str(fold)) & (table["fold"] != "")]
    labels, groups = list(known["label"]), list(known["group"])
    inner = assign_folds(task, labels, groups, config.epoch.folds, config.seed) == 0
    chosen = table.index.isin(known.index[inner])
    return scored, TrainingRows(training[~chosen[training]], np.flatnonzero(chosen))
