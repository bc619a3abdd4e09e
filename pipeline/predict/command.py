"""Command `predict`: new images, scored by the networks and the blend of the submission.

It is not a DVC stage. It reads params.yaml, the networks in models/, and the submission with its
card, which say which networks there are, how they are blended, what the columns are called, and
whether ids have a suffix. The competition's images and data/store are not needed.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.core import paths
from pipeline.core.errors import EnsembleError, ImageError, TableError, examples
from pipeline.core.files import sha256_of
from pipeline.core.progress import say, track
from pipeline.core.tables import class_indices, probability_columns, read_csv, write_table
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
class ScoredImages:
    """The images that could be read, in the order of the files: ids and predictions in parallel."""

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
    if output.is_dir():
        raise TableError(f"{output}: expected a file to write, found a folder. Set --output")
    submission = paths.submission(config.ensemble.name)
    for kept, what in ((source, "the images"), (submission, "the submission")):
        if output.resolve() == kept.resolve():
            raise TableError(f"{output}: would overwrite {what}. Set --output to another file")
    ensemble = load_ensemble(config)
    with open_images(source) as images:
        image_ids = name_images(images.members, ensemble.with_suffix)
        if images.ignored:
            say(f"{source}: other files ignored: {len(images.ignored)} {examples(images.ignored)}")
        if image_ids == images.members and any("/" in name for name in image_ids):
            say(f"{source}: some images have the same file name: their ids are their paths")
        found = score(ensemble, images, images.members, image_ids, config.prepare)
    listed = output.with_name(f"{output.stem}.broken.csv")
    listed.unlink(missing_ok=True)
    failure = ""
    if found.broken:
        write_table(listed, pd.DataFrame(found.broken))
        first = examples([f"{image.file}: {image.reason}" for image in found.broken])
        failure = f"{source}: {len(found.broken)} of {len(image_ids)} images cannot be read {first}"
    if not found.image_ids:
        raise ImageError(f"{failure}, see {listed}")
    write_table(output, _tabulate(ensemble, found))
    networks = sum(map(len, ensemble.networks.values()))
    say(f"{output}: {len(found.image_ids)} images, from {networks} networks")
    if failure:
        raise ImageError(
            f"{failure}: they have no row in {output}, and are listed in {listed} with the "
            "reasons. Get them from their source again, or leave them out"
        )


def load_ensemble(config: Config) -> Ensemble:
    """The submission's networks. Raises EnsembleError or TrainError on a missing or wrong one."""
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
    made = paths.submission(config.ensemble.name)
    submission = read_csv(made)
    if len(submission.columns) < 2:
        raise TableError(f"{made}: expected two columns or more, found {list(submission.columns)}")
    id_column = submission.columns[0]
    label_column = "label"
    if card.test.holds == "labels":
        label_column = submission.columns[1]
        class_indices(made, submission[label_column], classes)
    with_suffix = have_suffix(list(submission[id_column]))
    return Ensemble(networks, classes, blend, id_column, label_column, with_suffix)


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
        if sha256_of(file) != network.sha256.get(WEIGHTS):
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
) -> ScoredImages:
    """Decode and predict batch by batch, in the order of the members, and blend.

    The submission was blended from tables, whose nine digits give a network's float32 back exactly:
    the same images in the same batches get the same bits.
    """
    found: list[str] = []
    broken: list[BrokenImage] = []
    by_batch = [np.empty((len(ensemble.networks), 0, len(ensemble.classes)))]
    with warnings.catch_warnings():
        # Pillow warns of oddities in files that it reads all the same, or refuses right after.
        warnings.filterwarnings("ignore", module="PIL")
        batches = decode_batches(images, members, image_ids, config, BATCH)
        for batch in track(batches, "predicting", -(-len(members) // BATCH)):
            found += batch.image_ids
            broken += batch.broken
            if batch.image_ids:
                by_model = [
                    np.mean([network.predict(batch.pixels) for network in networks], axis=0)
                    for networks in ensemble.networks.values()
                ]
                by_batch.append(np.stack(by_model))
    return ScoredImages(found, ensemble.blend.apply(np.concatenate(by_batch, axis=1)), broken)


def _tabulate(ensemble: Ensemble, found: ScoredImages) -> pd.DataFrame:
    table = pd.DataFrame({ensemble.id_column: found.image_ids})
    for place, column in enumerate(probability_columns(ensemble.classes)):
        table[column] = [f"{value:.9g}" for value in found.prediction.probabilities[:, place]]
    table[ensemble.label_column] = [ensemble.classes[place] for place in found.prediction.predicted]
    return table


def _named(networks: list[tuple[str, int]]) -> str:
    return ", ".join(f"{model} fold {fold}" for model, fold in networks)
