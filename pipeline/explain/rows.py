"""A trained network with the rows that it predicted, and those among them that are shown."""

import difflib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from pipeline.core import paths
from pipeline.core.arrays import read_array
from pipeline.core.competition import ImageDecoding, SignalDecoding, read_competition
from pipeline.core.errors import TableError
from pipeline.core.files import sha256_of
from pipeline.core.shapes import Labels, Outputs
from pipeline.core.tables import (
    FOLD_COLUMNS,
    IMAGE_COLUMNS,
    predictions_file,
    read_predictions,
    read_table,
)
from pipeline.core.task import AnyOf, Number, OneOf, Task, describe_label
from pipeline.train.models import Classifier, Description, load_model

MOST_SHOWN, MOST_CLASSES = 6, 4


@dataclass(frozen=True)
class Predicted:
    """The rows of train or test that a network has predicted; all but `images` are parallel."""

    image_ids: list[str]
    places: Int[ndarray, " rows"]
    """The place of each row in `images`."""
    images: ndarray
    """All that are stored, memory-mapped."""
    values: Outputs
    decided: Labels
    labels: Labels | None
    """None of test."""
    groups: list[str]
    """Empty of test."""


@dataclass(frozen=True)
class Trained:
    """A network with what it was trained on and what it was scored on."""

    member: str
    fold: int
    model: Classifier
    description: Description
    weights_sha256: str
    task: Task
    scored: Predicted
    test: Predicted
    known: Int[ndarray, " training"]
    """The rows of train that it was not scored on."""
    labels: Labels
    """Those of all rows of train."""
    image_ids: list[str]
    """Those of all rows of train."""

    @property
    def decoding(self) -> ImageDecoding | SignalDecoding:
        return self.description.decoding

    @property
    def grouped(self) -> bool:
        """Whether any group has several rows."""
        return len(set(self.scored.groups)) < len(self.scored.groups)

    def label_names(self, rows: Int[ndarray, " some"]) -> list[str]:
        """The labels of scored rows; of numbers in which third of them the first number is."""
        labels = self.scored.labels
        assert labels is not None
        if isinstance(self.task, Number):
            thirds = np.searchsorted(np.quantile(labels[:, 0], [1 / 3, 2 / 3]), labels[rows, 0])
            return [("lowest third", "middle third", "highest third")[third] for third in thirds]
        return [describe_label(self.task, labels[row]) for row in rows]

    def wrong(self, rows: Int[ndarray, " some"]) -> list[bool]:
        """Which of the scored rows are mistakes; of numbers the tenth with the largest losses."""
        scored = self.scored
        assert scored.labels is not None
        if isinstance(self.task, Number):
            losses = self.task.losses(scored.values, scored.labels)
            return (losses[rows] > np.quantile(losses, 0.9)).tolist()  # type: ignore[no-any-return]
        right = self.task.right(scored.decided[rows], scored.labels[rows])
        return (~right).tolist()  # type: ignore[no-any-return]


def read_trained(member: str, fold: int) -> Trained:
    """Read what the stages before have written for a member and a fold.

    Raises TrainError or TableError where a file is missing or does not belong to the others.
    """
    folder = paths.model_folder(member, fold)
    weights = folder / "weights.safetensors"
    model, description = load_model(weights)
    task = read_competition(paths.COMPETITION).task
    train = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
    image_ids, labels = list(train["image_id"]), task.encode(paths.TRAIN_TABLE, train["label"])
    folds = read_table(paths.FOLDS, FOLD_COLUMNS)
    repeat = folds.loc[folds["fold"] == str(fold), "repeat"]
    in_fold = folds[folds["repeat"].isin(repeat)].set_index("image_id")["fold"]
    is_scored = (in_fold.reindex(image_ids).fillna("") == str(fold)).to_numpy()
    if not is_scored.any():
        raise TableError(f"{paths.FOLDS}: no rows of fold {fold}. Run: dvc repro split")
    images = _read_rows(paths.TRAIN_IMAGES, len(image_ids), description)
    places = np.flatnonzero(is_scored)
    scored_ids = [image_ids[place] for place in places]
    values = read_predictions(predictions_file(folder / "oof.csv", task), scored_ids, task)
    scored = Predicted(
        scored_ids, places, images, values, task.decide(values, None), labels[places],
        list(train["group"].iloc[places]),
    )  # fmt: skip
    test_ids = list(read_table(paths.TEST_TABLE, IMAGE_COLUMNS)["image_id"])
    values = read_predictions(predictions_file(folder / "test.csv", task), test_ids, task)
    test = Predicted(
        test_ids,
        np.arange(len(test_ids)),
        _read_rows(paths.TEST_IMAGES, len(test_ids), description),
        values,
        task.decide(values, None),
        None,
        [],
    )
    known = np.flatnonzero(~is_scored)
    sha256 = sha256_of(weights)
    return Trained(
        member, fold, model, description, sha256, task, scored, test, known, labels, image_ids
    )


def _read_rows(path: Path, rows: int, description: Description) -> ndarray:
    array = read_array(path, rows)
    if array.shape[1:] != description.decoding.shape:
        raise TableError(
            f"{path}: expected rows of the shape {description.decoding.shape}, as the network was "
            f"trained on, found {array.shape[1:]}. Run: dvc repro"
        )
    return array


def choose_rows(scored: Predicted, task: Task) -> list[int]:
    """The surest right row of each class, at most MOST_CLASSES, then the surest mistakes, together
    at most MOST_SHOWN. For numbers the smallest losses, then the largest ones."""
    assert scored.labels is not None
    losses, right = (
        task.losses(scored.values, scored.labels),
        task.right(scored.decided, scored.labels),
    )
    order = _sorted(losses, scored.image_ids)
    if isinstance(task, Number):
        half = min(MOST_SHOWN, len(order)) // 2
        return [*order[:half], *order[::-1][:half]]
    counts = task.count(scored.labels)
    by_count = sorted(range(len(task.outputs)), key=lambda place: -counts[task.outputs[place]])
    found: list[int] = []
    for place in sorted(by_count[:MOST_CLASSES]):
        has = scored.labels == place if scored.labels.ndim == 1 else scored.labels[:, place]
        found += [row for row in order if right[row] and has[row] and row not in found][:1]
    sure = losses if isinstance(task, AnyOf) else scored.values.max(axis=1)
    mistakes = [row for row in _sorted(-sure, scored.image_ids) if not right[row]]
    return found + mistakes[: MOST_SHOWN - len(found)]


def _sorted(keys: ndarray, names: list[str]) -> list[int]:
    return sorted(range(len(names)), key=lambda row: (float(keys[row]), names[row]))


def explained_output(task: Task, rows: Predicted, row: int) -> tuple[int, int]:
    """The output that the maps of a row are of: its place before the softmax, and after it.

    The decided class, the label with the largest probability, or the first number.
    """
    if isinstance(task, Number):
        return 0, 0
    place = int(rows.decided[row] if isinstance(task, OneOf) else rows.values[row].argmax())
    return (int(task.place_learned[place]) if isinstance(task, OneOf) else place), place


def find_row(trained: Trained, image_id: str) -> tuple[Predicted, int]:
    """An image of the fold or of test. Raises TableError for any other."""
    for rows in (trained.scored, trained.test):
        if image_id in rows.image_ids:
            return rows, rows.image_ids.index(image_id)
    member, fold = trained.member, trained.fold
    if image_id in trained.image_ids:
        table = read_table(paths.FOLDS, FOLD_COLUMNS)
        own = table.loc[table["image_id"] == image_id, "fold"]
        other = own[own != ""]
        raise TableError(
            f"{image_id}: the network {member} of fold {fold} was trained on it, so what it says "
            "there shows nothing. "
            + (
                f"Ask the one that was not: python -m pipeline explain {member} {other.iloc[0]} "
                f"{image_id}"
                if len(other)
                else "It is in no fold: every network was trained on it"
            )
        )
    near = difflib.get_close_matches(image_id, trained.scored.image_ids + trained.test.image_ids)
    hint = f"did you mean {', '.join(near)}?" if near else f"try {trained.scored.image_ids[0]}"
    kind = trained.decoding.kind
    raise TableError(f"{image_id}: expected an id of the {kind} of train or test; {hint}")
