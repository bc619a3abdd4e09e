"""Models' predictions, joined by image id, never by position; each row the mean of its images.

A model's networks each predict the fold that they were trained without (out-of-fold) and the test
images. Together they predict every image by the network that did not see it, and the test images
by their mean. A model from elsewhere comes as two tables of such predictions.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray
from safetensors import SafetensorError, safe_open

from pipeline.core import paths
from pipeline.core.errors import EnsembleError, TableError
from pipeline.core.files import sha256_of
from pipeline.core.shapes import Outputs
from pipeline.core.tables import (
    average_rows,
    check_ids,
    parse_predictions,
    predictions_file,
    read_csv,
    read_predictions,
)
from pipeline.core.task import Number, Task
from pipeline.ensemble.blend import Stacked
from pipeline.ensemble.config import ExternalMember
from pipeline.scoring.card import Network

TestOutputs = Float[ndarray, "test_rows outputs"]


@dataclass(frozen=True)
class PredictedImages:
    """Which images are predicted, and which rows of the competition they belong to.

    Every array has a row for each of `rows`, or of the test rows in the order of their images.
    """

    image_ids: list[str]
    """The training images that are scored."""
    test_ids: list[str]
    folds: pd.DataFrame
    """folds/folds.csv: tables.FOLD_COLUMNS and each image's row_id, with images that are not
    scored as well."""
    task: Task
    test_row_ids: list[str]
    """Of each test image."""

    @cached_property
    def row_ids(self) -> list[str]:
        """Of each training image that is scored."""
        row_of = dict(zip(self.folds["image_id"], self.folds["row_id"], strict=True))
        return [row_of[image_id] for image_id in self.image_ids]

    @cached_property
    def rows(self) -> list[str]:
        """The training rows that are scored."""
        return list(dict.fromkeys(self.row_ids))


@dataclass(frozen=True)
class ModelPredictions:
    """One model's predictions of the training rows that are scored, and of the test rows."""

    name: str
    out_of_fold: Outputs
    test: TestOutputs
    test_by_fold: dict[int, TestOutputs] = field(default_factory=dict)
    """What each fold's network says about the test rows; empty for a model from elsewhere."""
    networks: list[Network] = field(default_factory=list)
    """The same networks as the card describes them."""


def read_model(model: str, trained: list[int], images: PredictedImages) -> ModelPredictions:
    """The predictions of one model of train.members.

    Out-of-fold: each row's mean over the repeats, each by the network of the row's fold. Test: the
    mean over all networks, of each image before of each row, as `predict` has it. trained: the
    folds that have a network. Raises TableError where a file is missing or damaged, or has other
    ids than its fold.
    """
    place_of = {row_id: place for place, row_id in enumerate(images.rows)}
    total = np.zeros((len(place_of), len(images.task.outputs)))
    count = np.zeros(len(place_of), np.int64)
    test_by_fold, networks = {}, []
    for fold in trained:
        folder = paths.model_folder(model, fold)
        _check_weights(folder / "weights.safetensors", f"train@{model}-{fold}")
        scored = images.folds[images.folds["fold"] == str(fold)]
        oof_file, test_file = (
            predictions_file(folder / name, images.task) for name in ("oof.csv", "test.csv")
        )
        by_image = _read_network(oof_file, list(scored["image_id"]), images.task)
        found = average_rows(list(scored["row_id"]), by_image)
        scored = scored.drop_duplicates("row_id")
        rows = [place_of[row_id] for row_id in scored["row_id"]]
        total[rows] += found
        count[rows] += 1
        of_test = _read_network(test_file, images.test_ids, images.task)
        test_by_fold[fold] = of_test.astype(np.float32)  # exact, and half the memory
        labels = images.task.encode(paths.FOLDS, scored["label"])
        right = images.task.right(images.task.decide(found, None), labels)
        files = ("weights.safetensors", oof_file.name, test_file.name)
        networks.append(
            Network(
                model=model,
                fold=fold,
                accuracy=None if isinstance(images.task, Number) else float(right.mean()),
                rows=len(rows),
                sha256={name: sha256_of(folder / name) for name in files},
            )
        )
    test: TestOutputs = np.zeros(test_by_fold[trained[0]].shape)
    for each in test_by_fold.values():
        test += each
    test /= len(test_by_fold)
    return ModelPredictions(
        model,
        total / count[:, None],
        average_rows(images.test_row_ids, test),
        {fold: average_rows(images.test_row_ids, each) for fold, each in test_by_fold.items()},
        networks,
    )


def _check_weights(path: Path, stage: str) -> None:
    """What `predict` will need: a file that is whole, so that the card does not name another."""
    try:
        with safe_open(path, framework="np"):
            return
    except (OSError, SafetensorError) as error:
        found = "a file cut short or damaged" if path.exists() else "no such file"
        raise TableError(
            f"{path}: expected the weights of a network, found {found}. "
            f"Run: dvc repro --force {stage}"
        ) from error


def _read_network(path: Path, image_ids: list[str], task: Task) -> Outputs:
    """A network's predictions, which are float32: nine digits give them back exactly."""
    predictions = read_predictions(path, image_ids, task)
    if path.suffix == ".csv":
        predictions = predictions.astype(np.float32).astype(np.float64)
    return predictions


def stack_tests_by_fold(models: list[ModelPredictions], folds: pd.DataFrame) -> Iterator[Stacked]:
    """The test predictions of as many networks as an out-of-fold row has: one fold of each repeat.

    A model from elsewhere does not tell its folds' predictions: its mean is used in each.
    """
    repeat_of = dict(zip(folds["fold"], folds["repeat"], strict=True))
    by_repeat: dict[str, list[int]] = {}
    for fold in sorted({fold for model in models for fold in model.test_by_fold}):
        by_repeat.setdefault(repeat_of[str(fold)], []).append(fold)
    for one_of_each in zip(*by_repeat.values(), strict=False):
        yield np.stack(
            [
                np.mean([model.test_by_fold[f] for f in one_of_each], axis=0, dtype=np.float64)
                if model.test_by_fold
                else model.test
                for model in models
            ]
        )


def covered_images(folds: pd.DataFrame, trained: list[int]) -> list[str]:
    """The images that the trained folds score, in the order of folds.csv.

    Raises EnsembleError where some are scored in more repeats than others.
    """
    scored = folds[folds["fold"].isin([str(fold) for fold in trained])]
    count = scored["image_id"].value_counts()
    if count.nunique() > 1:
        counts = {int(n): int((count == n).sum()) for n in sorted(count.unique())}
        raise EnsembleError(
            f"out-of-fold predictions: expected as many for each image, found {counts} "
            "(predictions: images). Train the same folds of each repeat: params.yaml: train.folds"
        )
    covered = set(count.index)
    return [image_id for image_id in dict.fromkeys(folds["image_id"]) if image_id in covered]


def read_external(external: ExternalMember, images: PredictedImages) -> ModelPredictions:
    """The predictions of a model from elsewhere, without the training images that are not scored,
    which the file may have or not.

    Raises EnsembleError where the files are not those of params.yaml, or where the folds are not
    ours or not stated; TableError where a file does not have every training image (every test
    image) exactly once, or has other columns or invalid predictions.
    """
    oof, test = Path(external.oof), Path(external.test)
    _check_bytes(external)
    table = read_csv(oof)
    columns = ["image_id", *images.task.columns]
    if list(table.columns.drop("fold", errors="ignore")) != columns:
        raise TableError(
            f"{oof}: expected the columns {columns}, and `fold` among them or not, "
            f"found {list(table.columns)}"
        )
    folds = images.folds[images.folds["fold"] != ""]
    never = set(images.folds["image_id"]) - set(folds["image_id"])
    table = table[~table["image_id"].isin(never)]
    check_ids(oof, list(table["image_id"]), list(dict.fromkeys(folds["image_id"])))
    if "fold" in table.columns:
        _check_folds(oof, table.set_index("image_id")["fold"], folds)
    elif external.folds == "checked":
        raise EnsembleError(
            f"{oof}: expected a column `fold` with folds/folds.csv's fold of each image, "
            f"found {list(table.columns)}. Ask for it; or, where you know that no image was "
            f"predicted by a model trained on it or on its group, set folds: unchecked for "
            f"{external.name} in params.yaml: ensemble.external"
        )
    out_of_fold = parse_predictions(oof, table, images.image_ids, images.task)
    return ModelPredictions(
        external.name,
        average_rows(images.row_ids, out_of_fold),
        average_rows(images.test_row_ids, read_predictions(test, images.test_ids, images.task)),
    )


def _check_bytes(external: ExternalMember) -> None:
    digest = hashlib.sha256()
    for path in (Path(external.oof), Path(external.test)):
        if not path.is_file():
            raise TableError(
                f"{path}: no such file: params.yaml: ensemble.external: {external.name}"
            )
        digest.update(path.read_bytes())
    if digest.hexdigest() != external.sha256:
        raise EnsembleError(
            f"params.yaml: ensemble.external: {external.name}: expected files with sha256 "
            f"{external.sha256}, found {digest.hexdigest()} for {external.oof} and "
            f"{external.test}. If these are the right files, write that one"
        )


def _check_folds(oof: Path, found: "pd.Series[str]", folds: pd.DataFrame) -> None:
    """Raise EnsembleError unless the column equals the folds of one of our repeats."""
    fewest: list[str] = []
    for _, repeat in folds.groupby("repeat"):
        ours = repeat.set_index("image_id")["fold"]
        wrong = [image_id for image_id in ours.index if found[image_id] != ours[image_id]]
        if not wrong:
            return
        fewest = wrong if not fewest or len(wrong) < len(fewest) else fewest
    first = fewest[0]
    ours = folds.drop_duplicates("image_id").set_index("image_id")["fold"]
    raise EnsembleError(
        f"{oof}: column fold: expected the folds of one repeat of folds/folds.csv, found "
        f"others for {len(fewest)} of {len(found)} images (first: {first} in {found[first]!r}, "
        f"{ours[first]!r} in folds.csv): its models may have seen the images that they predict"
    )
