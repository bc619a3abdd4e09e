"""Command `predict`: new images, scored by the networks and the blend of the submission.

It is not a DVC stage. The submission and its card say which networks there are, how they are
blended, what the columns are called, and whether ids have a suffix; the networks in models/ say how
images are decoded and predicted. params.yaml, which may have changed since, chooses the submission,
the device and the largest image. The competition's images and data/store are not needed.
"""

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.core import paths
from pipeline.core.competition import Decoding, ImageDecoding
from pipeline.core.errors import EnsembleError, ImageError, TableError, examples
from pipeline.core.files import sha256_of
from pipeline.core.ours import refuse_others, remember
from pipeline.core.progress import say, track
from pipeline.core.tables import average_rows, read_csv, write_table
from pipeline.core.task import SEPARATOR, AnyOf, Number, OneOf, Task
from pipeline.ensemble.blend import FittedBlend, Prediction
from pipeline.ensemble.saved import read_fitted
from pipeline.params import Config
from pipeline.predict.images import (
    BrokenImage,
    decode_batches,
    have_suffix,
    open_rows,
)
from pipeline.prepare.config import ImagesConfig, PrepareConfig
from pipeline.prepare.decode import Decoder, ImageDecoder, ignore_oddities
from pipeline.prepare.pictures import Picture, Readable
from pipeline.prepare.signal_files import SignalDecoder
from pipeline.scoring.card import Card, read_card
from pipeline.train.device import deterministic
from pipeline.train.infer import BATCH, TrainedNetwork, load_network

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Ensemble:
    """The networks of a submission, and what it says of the competition."""

    networks: dict[str, list[TrainedNetwork]]
    """Each model's networks, one for each fold, in the order of the card."""
    task: Task
    decoding: Decoding
    blend: FittedBlend
    id_column: str
    label_column: str
    """The submission's where it holds labels, else `label`."""
    with_suffix: bool
    """Whether ids are file names with their suffix."""


@dataclass(frozen=True)
class ScoredImages:
    """The images that could be read, in the order of the files: ids and predictions in parallel.

    An id that several files have stands once, with the mean of what each model says of them.
    notes: what was done to how many of them.
    """

    image_ids: list[str]
    prediction: Prediction
    broken: list[BrokenImage]
    notes: Counter[str]


def run(config: Config, source: Path, output: Path) -> None:
    """Write id, probabilities and label of each image of a folder, an archive or NAME.zip/FOLDER;
    or of each signal of these, of a table or of an array.

    The columns are the submission's id, one `p_CLASS` for each class, and the label, called as in
    a submission of labels (of numbers, one `y_NAME` for each); the rows are in the order of the
    files. Images that cannot be read have no row: they are listed with their reasons in
    OUTPUT.broken.csv, and raise ImageError after all others are written. Raises OutputError where a
    file that is not ours would be replaced.
    """
    if output.is_dir():
        raise TableError(f"{output}: expected a file to write, found a folder. Set --output")
    listed = output.with_name(f"{output.stem}.broken.csv")
    reserved = [*paths.OWN_FILES, *config.outputs()]
    refuse_others(output, listed, reserved=reserved)
    ensemble, row = load_ensemble(config), config.prepare.row
    asked = ensemble.decoding, ensemble.id_column, ensemble.with_suffix
    with open_rows(source, *asked) as new:
        image_ids = new.image_ids
        if new.ignored:
            say(f"{source}: other files ignored: {len(new.ignored)} {examples(new.ignored)}")
        found = score(ensemble, new.files, new.pictures, image_ids, config.prepare)
    for note, count in found.notes.items():
        say(f"{source}: {count} of {len(image_ids)} {row}s: {note}")
    refuse_others(output, listed, reserved=reserved)  # what came while it computed
    listed.unlink(missing_ok=True)
    failure = ""
    if found.broken:
        write_table(listed, pd.DataFrame(found.broken))
        remember(listed)
        first = examples([f"{image.file}: {image.reason}" for image in found.broken])
        failure = f"{source}: {len(found.broken)} of {len(image_ids)} {row}s cannot be read {first}"
    if not found.image_ids:
        raise ImageError(f"{failure}, see {listed}")
    write_table(output, _tabulate(ensemble, found))
    remember(output)
    networks = sum(map(len, ensemble.networks.values()))
    say(f"{output}: {len(found.image_ids)} {row}s, from {networks} networks")
    if failure:
        raise ImageError(
            f"{failure}: they have no row in {output}, and are listed in {listed} with the "
            "reasons. Get them from their source again, or leave them out"
        )


def load_ensemble(config: Config) -> Ensemble:
    """The submission's networks. Raises EnsembleError or TrainError on a missing or wrong one."""
    deterministic(config.train.threads)
    card, weights = find_weights(config)
    networks = {
        model: [load_network(file, config.train.device) for file in files]
        for model, files in weights.items()
    }
    every = [network.description for several in networks.values() for network in several]
    task, decoding = every[0].task, every[0].decoding
    for other in every:
        if other.task != task:
            raise EnsembleError(
                f"models: expected networks of the same classes, found {task.outputs} and "
                f"{other.task.outputs}. Run: dvc repro"
            )
        if other.decoding != decoding:
            raise EnsembleError(
                f"models: expected networks of the same {decoding.kind}, found {decoding} and "
                f"{other.decoding}. Run: dvc repro"
            )
    blend = read_fitted(paths.card(config.ensemble.name), card.blend.fitted, len(networks), task)
    made = paths.submission(config.ensemble.name)
    submission = read_csv(made)
    has_ids = len(submission.columns) > 1  # as scoring/forms.py has it
    id_column = submission.columns[0] if has_ids else "image_id"
    label_column = "label"
    if card.test.holds == "labels":
        label_column = submission.columns[-1]
        if isinstance(task, OneOf):
            task.encode(made, submission[label_column])
    with_suffix = has_ids and have_suffix(list(submission[id_column]))
    return Ensemble(networks, task, decoding, blend, id_column, label_column, with_suffix)


def find_weights(config: Config) -> tuple[Card, dict[str, list[Path]]]:
    """The submission's card, and weights by model. Raises EnsembleError where they disagree."""
    path, submission = paths.card(config.ensemble.name), paths.submission(config.ensemble.name)
    card = read_card(path)
    if card.external:
        raise EnsembleError(
            f"{path}: {len(card.external)} of its models come from elsewhere "
            f"{examples([external.model for external in card.external])}: without their networks "
            "no other image can be scored. Take them out of ensemble.external, and run: "
            "dvc repro ensemble"
        )
    folds = dict.fromkeys(network.fold for network in card.networks)
    wanted = [(model, fold) for model in card.blend.models for fold in folds]
    found = [(network.model, network.fold) for network in card.networks]
    if found != wanted or not found:
        raise EnsembleError(
            f"{path}: expected the networks of its models, {_named(wanted)}; found "
            f"{_named(found)}. Run: dvc repro --force ensemble"
        )
    weights: dict[str, list[Path]] = {}
    for network in card.networks:
        file = paths.model_folder(network.model, network.fold) / WEIGHTS
        if not file.is_file():
            raise EnsembleError(f"{file}: no such file. Run: dvc repro, or dvc checkout")
        if sha256_of(file) != network.sha256.get(WEIGHTS):
            raise EnsembleError(
                f"{file}: expected the network that made {submission}, found another one (by the "
                f"SHA-256 in {path}). Run: dvc repro ensemble"
            )
        weights.setdefault(network.model, []).append(file)
    return card, weights


def score(
    ensemble: Ensemble,
    images: Readable,
    pictures: list[Picture],
    image_ids: list[str],
    config: PrepareConfig,
) -> ScoredImages:
    """Decode and predict batch by batch, in the order of the pictures, and blend.

    image_ids: of each picture; those of the same id are the images of one row.
    The submission was blended from tables, whose nine digits give a network's float32 back exactly:
    the same images in the same batches get the same bits.
    """
    found: list[str] = []
    broken: list[BrokenImage] = []
    notes: Counter[str] = Counter()
    by_batch = [np.empty((len(ensemble.networks), 0, len(ensemble.task.outputs)))]
    with warnings.catch_warnings():
        ignore_oddities()
        decoder = _choose_decoder(ensemble.decoding, config)
        batches = decode_batches(images, pictures, image_ids, decoder, BATCH)
        for batch in track(batches, "predicting", -(-len(pictures) // BATCH)):
            found += batch.image_ids
            broken += batch.broken
            notes.update(batch.notes)
            if batch.image_ids:
                by_model = [
                    np.mean([network.predict(batch.pixels) for network in networks], axis=0)
                    for networks in ensemble.networks.values()
                ]
                by_batch.append(np.stack(by_model))
    by_image = np.concatenate(by_batch, axis=1)
    by_row = np.stack([average_rows(found, values) for values in by_image])
    rows = list(dict.fromkeys(found))
    return ScoredImages(rows, ensemble.blend.apply(by_row), broken, notes)


def _choose_decoder(decoding: Decoding, config: PrepareConfig) -> Decoder:
    """What makes rows as the networks know them; config only limits the size of an image."""
    if isinstance(decoding, ImageDecoding) and isinstance(config, ImagesConfig):
        return ImageDecoder(decoding, config.max_side_px)
    if isinstance(decoding, ImageDecoding) or isinstance(config, ImagesConfig):
        raise EnsembleError(
            f"models: expected networks of {config.kind}, as prepare.kind in {paths.PARAMS} says; "
            f"found networks of {decoding.kind}. Run: dvc repro"
        )
    return SignalDecoder(decoding)


def _tabulate(ensemble: Ensemble, found: ScoredImages) -> pd.DataFrame:
    table = pd.DataFrame({ensemble.id_column: found.image_ids})
    for column, values in zip(ensemble.task.columns, found.prediction.values.T, strict=True):
        table[column] = [f"{value:.9g}" for value in values]
    if isinstance(ensemble.task, Number):
        return table
    labels = ensemble.task.decode(found.prediction.decided)
    if isinstance(ensemble.task, AnyOf):
        labels = [text.replace(SEPARATOR, ensemble.task.separator) for text in labels]
    table[ensemble.label_column] = labels
    return table


def _named(networks: list[tuple[str, int]]) -> str:
    return ", ".join(f"{model} fold {fold}" for model, fold in networks)
