"""Command `predict`: new images, scored by the networks and the blend of the submission.

It is not a DVC stage. It reads params.yaml, the networks in models/, and the submission with its
card: which networks, how they are blended, what the columns are called, and whether ids have a
suffix. The competition's images and data/store are not needed.
"""

import csv
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from pipeline.core import paths
from pipeline.core.errors import EnsembleError, ImageError, TableError, examples
from pipeline.core.files import new_file, sha256_of
from pipeline.core.progress import say, track
from pipeline.core.tables import probability_columns, read_csv
from pipeline.ensemble.blend import FittedBlend, Prediction
from pipeline.ensemble.saved import read_fitted
from pipeline.params import Config
from pipeline.predict.images import (
    BrokenImage,
    ImageFolder,
    decode_batches,
    have_suffix,
    name_images,
    open_images,
)
from pipeline.prepare.config import PrepareConfig
from pipeline.raw.archive import ImageArchive
from pipeline.scoring.card import Card, read_card
from pipeline.train.device import choose_compute, deterministic
from pipeline.train.infer import BATCH, TrainedNetwork, load_network

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Ensemble:
    """The networks of a submission, and what it says of the competition."""

    networks: dict[str, list[TrainedNetwork]]
    """Each model's networks, one for each fold, in the order of the card."""
    classes: list[str]
    blend: FittedBlend
    id_column: str
    label_column: str
    """The submission's where it holds labels, else `label`."""
    with_suffix: bool
    """Whether ids are file names with their suffix."""


@dataclass(frozen=True)
class ScoredBatch:
    """A batch of images; ids and predictions are parallel."""

    image_ids: list[str]
    prediction: Prediction
    broken: list[BrokenImage]


def run(config: Config, source: Path, output: Path) -> None:
    """Write a row for each image of a folder, a zip or NAME.zip/FOLDER: id, probabilities, label.

    The columns are the submission's id, one `p_CLASS` for each class, and the label, called as in
    a submission of labels; the rows are in the order of the files. Images that cannot be read have
    no row: they are listed with their reasons in OUTPUT.broken.csv, and raise ImageError after all
    others are written.
    """
    _check_output(output, source, paths.submission(config.ensemble.name))
    ensemble = load_ensemble(config)
    with open_images(source) as images:
        image_ids = name_images(images.members, ensemble.with_suffix)
        if images.ignored:
            say(f"{source}: {len(images.ignored)} other files ignored {examples(images.ignored)}")
        if image_ids == images.members and any("/" in name for name in image_ids):
            say(f"{source}: some images have the same file name: their ids are their paths")
        with new_file(output) as partial:
            with partial.open("w", encoding="utf-8", newline="") as file:
                batches = score(ensemble, images, images.members, image_ids, config.prepare)
                broken = _write(file, ensemble, batches)
            rows = len(image_ids) - len(broken)
            listed = _list_broken(output, broken)
            if not rows:
                raise ImageError(f"{_summarise(source, broken, len(image_ids))}, see {listed}")
    networks = sum(map(len, ensemble.networks.values()))
    say(f"{output}: {rows} images, from {networks} networks")
    if broken:
        raise ImageError(
            f"{_summarise(source, broken, len(image_ids))}: they have no row in {output}, and are "
            f"listed in {listed} with the reasons. Get them from their source again, or leave "
            "them out"
        )


def load_ensemble(config: Config) -> Ensemble:
    """Load the submission's networks, on the device and in the precision that params.yaml names.

    Raises EnsembleError or TrainError where a network is missing or is not the one that made the
    submission.
    """
    deterministic(config.train.threads)
    card, weights = find_weights(config)
    networks = {}
    for model, files in weights.items():
        compute = choose_compute(config.train.device, config.train.models[model].precision)
        tta = config.train.models[model].tta
        networks[model] = [load_network(file, compute, tta) for file in files]
    every = [network for several in networks.values() for network in several]
    classes = every[0].classes
    for network in every:
        if network.classes != classes:
            raise EnsembleError(
                f"models: expected networks of the same classes, found {classes} and "
                f"{network.classes}. Run: dvc repro"
            )
    blend = read_fitted(paths.card(config.ensemble.name), card.blend.fitted, len(networks))
    submission = read_csv(paths.submission(config.ensemble.name))
    id_column = submission.columns[0]
    label_column = submission.columns[1] if card.test.holds == "labels" else "label"
    with_suffix = have_suffix(list(submission[id_column]))
    return Ensemble(networks, classes, blend, id_column, label_column, with_suffix)


def find_weights(config: Config) -> tuple[Card, dict[str, list[Path]]]:
    """Find the submission's card, and the weights of its networks: files by model, in its order.

    Raises EnsembleError where the card, params.yaml and models/ do not agree.
    """
    path, submission = paths.card(config.ensemble.name), paths.submission(config.ensemble.name)
    card = read_card(path)
    if card.external:
        raise EnsembleError(
            f"{path}: {len(card.external)} of its models come from elsewhere "
            f"{examples([external.model for external in card.external])}: without their networks "
            "no other image can be scored. Take them out of ensemble.external, and run: "
            "dvc repro ensemble"
        )
    wanted = [(model, fold) for model in config.train.members for fold in config.train.folds]
    found = [(network.model, network.fold) for network in card.networks]
    if found != wanted:
        raise EnsembleError(
            f"{path}: expected the networks of {paths.PARAMS}, {_named(wanted)}; found "
            f"{_named(found)}. Run: dvc repro"
        )
    weights: dict[str, list[Path]] = {}
    for network in card.networks:
        file = paths.model_folder(network.model, network.fold) / WEIGHTS
        if not file.is_file():
            raise EnsembleError(f"{file}: no such file. Run: dvc repro, or dvc checkout")
        if sha256_of(file) != network.sha256[WEIGHTS]:
            raise EnsembleError(
                f"{file}: expected the network that made {submission}, found another one (by the "
                f"SHA-256 in {path}). Run: dvc repro ensemble"
            )
        weights.setdefault(network.model, []).append(file)
    return card, weights


def score(
    ensemble: Ensemble,
    images: ImageFolder | ImageArchive,
    members: list[str],
    image_ids: list[str],
    config: PrepareConfig,
) -> Iterator[ScoredBatch]:
    """Decode and predict batch by batch, in the order of the members.

    The submission was blended from tables, whose nine digits give a network's float32 back exactly:
    the same images in the same batches get the same bits.
    """
    with warnings.catch_warnings():
        # Pillow warns of oddities in files that it reads all the same, or refuses right after.
        warnings.filterwarnings("ignore", module="PIL")
        batches = decode_batches(images, members, image_ids, config, BATCH)
        for batch in track(batches, "predicting", -(-len(members) // BATCH)):
            if batch.image_ids:
                by_model = [
                    np.mean([network.predict(batch.pixels) for network in networks], axis=0)
                    for networks in ensemble.networks.values()
                ]
                prediction = ensemble.blend.apply(np.stack(by_model))
            else:
                nothing = np.empty((0, len(ensemble.classes)))
                prediction = Prediction(nothing, np.empty(0, np.int64))
            yield ScoredBatch(batch.image_ids, prediction, batch.broken)


def _write(file: TextIO, ensemble: Ensemble, batches: Iterator[ScoredBatch]) -> list[BrokenImage]:
    rows = csv.writer(file, lineterminator="\n")
    columns = probability_columns(ensemble.classes)
    rows.writerow([ensemble.id_column, *columns, ensemble.label_column])
    broken = []
    for batch in batches:
        broken += batch.broken
        found = batch.prediction
        for image_id, probabilities, place in zip(
            batch.image_ids, found.probabilities, found.predicted, strict=True
        ):
            label = ensemble.classes[place]
            rows.writerow([image_id, *(f"{value:.9g}" for value in probabilities), label])
    return broken


def _list_broken(output: Path, broken: list[BrokenImage]) -> Path:
    """Write the broken images beside the output; without any, remove an earlier list."""
    path = output.with_name(f"{output.stem}.broken.csv")
    if not broken:
        path.unlink(missing_ok=True)
        return path
    with new_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", "reason"])
        rows.writerows([image.file, image.reason] for image in broken)
    return path


def _summarise(source: Path, broken: list[BrokenImage], images: int) -> str:
    first = examples([f"{image.file}: {image.reason}" for image in broken])
    return f"{source}: {len(broken)} of {images} images cannot be read {first}"


def _check_output(output: Path, source: Path, submission: Path) -> None:
    if output.is_dir():
        raise TableError(f"{output}: expected a file to write, found a folder. Set --output")
    for kept, what in ((source, "the images"), (submission, "the submission")):
        if output.resolve() == kept.resolve():
            raise TableError(f"{output}: would overwrite {what}. Set --output to another file")


def _named(networks: list[tuple[str, int]]) -> str:
    return ", ".join(f"{model} fold {fold}" for model, fold in networks)
