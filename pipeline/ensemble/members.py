"""Models' predictions, joined by image id, never by position.

A member is one model on one fold: it predicts its own fold (out-of-fold) and the test images. The
members of one model together make one column: every image by the network that did not see it, and
the test images by the mean of its networks. A model from elsewhere comes as one such column.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from pipeline.core.errors import EnsembleError, TableError, examples
from pipeline.core.shapes import Probabilities
from pipeline.core.tables import (
    check_ids,
    class_indices,
    probability_columns,
    read_csv,
    read_predictions,
)
from pipeline.scoring.metrics import accuracy


@dataclass(frozen=True)
class Member:
    """Where one model's predictions for one fold lie."""

    model: str
    fold: int
    folder: Path


@dataclass(frozen=True)
class External:
    """Where the predictions of a model from elsewhere lie; sha256: of both files together."""

    name: str
    oof: Path
    test: Path
    folds: Literal["checked", "unchecked"]
    sha256: str


@dataclass(frozen=True)
class Column:
    """One model's predictions for the training images that are scored, and for the test images."""

    name: str
    out_of_fold: Probabilities
    test: Float[ndarray, "test_rows classes"]


def read_model(
    members: list[Member],
    image_ids: list[str],
    test_ids: list[str],
    folds: pd.DataFrame,
    classes: list[str],
) -> Column:
    """The column of one model from its members, in the order of the ids.

    Out-of-fold: each image's mean over the repeats, each by the network of the fold that it lies
    in. Test: the mean over all networks. folds: tables.FOLD_COLUMNS. Raises TableError where a
    member's ids are not exactly its fold's.
    """
    place = {image_id: row for row, image_id in enumerate(image_ids)}
    total = np.zeros((len(place), len(classes)))
    count = np.zeros(len(place), np.int64)
    for member in members:
        ids = list(folds.loc[folds["fold"] == str(member.fold), "image_id"])
        rows = [place[image_id] for image_id in ids]
        total[rows] += read_predictions(member.folder / "oof.csv", ids, classes)
        count[rows] += 1
    test = [read_predictions(member.folder / "test.csv", test_ids, classes) for member in members]
    return Column(members[0].model, total / count[:, None], np.stack(test).mean(axis=0))


def score_member(member: Member, folds: pd.DataFrame, classes: list[str]) -> tuple[float, int]:
    """The accuracy of one member on its own fold, and the rows of that fold."""
    own = folds[folds["fold"] == str(member.fold)]
    labels = class_indices(member.folder / "oof.csv", own["label"], classes)
    return accuracy(
        read_predictions(member.folder / "oof.csv", list(own["image_id"]), classes), labels
    ), len(own)


def read_tests_by_fold(
    members: list[Member],
    others: list[Column],
    test_ids: list[str],
    folds: pd.DataFrame,
    classes: list[str],
) -> list[Float[ndarray, "models test_rows classes"]]:
    """What each fold's networks say of the test images: one fold of each repeat, by model.

    others: models from elsewhere, whose folds are not known: their mean stands in each.
    """
    folder_of = {(member.model, member.fold): member.folder for member in members}
    repeat_of = dict(zip(folds["fold"], folds["repeat"], strict=True))
    by_repeat: dict[str, list[int]] = {}
    for fold in sorted({member.fold for member in members}):
        by_repeat.setdefault(repeat_of[str(fold)], []).append(fold)
    found = []
    for of_each_repeat in zip(*by_repeat.values(), strict=False):
        own = [
            np.mean(
                [
                    read_predictions(folder_of[model, fold] / "test.csv", test_ids, classes)
                    for fold in of_each_repeat
                ],
                axis=0,
            )
            for model in dict.fromkeys(member.model for member in members)
        ]
        found.append(np.stack([*own, *(other.test for other in others)]))
    return found


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


def read_external(
    external: External,
    image_ids: list[str],
    test_ids: list[str],
    folds: pd.DataFrame,
    classes: list[str],
) -> Column:
    """The column of a model from elsewhere, its out-of-fold rows cut down to `image_ids`.

    Raises EnsembleError where the files are not those of params.yaml, or where the folds are not
    ours or not stated; TableError where a file has not every training image once (every test
    image), other columns, or values that are no probabilities.
    """
    _check_bytes(external)
    table = read_csv(external.oof)
    columns = ["image_id", *probability_columns(classes)]
    stated = "fold" in table.columns
    if list(table.columns.drop("fold", errors="ignore")) != columns:
        raise TableError(
            f"{external.oof}: expected the columns {columns}, and `fold` among them or not, "
            f"found {list(table.columns)}"
        )
    every = list(dict.fromkeys(folds["image_id"]))
    check_ids(external.oof, list(table["image_id"]), every)
    if stated:
        _check_folds(external, table.set_index("image_id")["fold"], folds)
    elif external.folds == "checked":
        raise EnsembleError(
            f"{external.oof}: expected a column `fold` with folds/folds.csv's fold of each image, "
            f"found {list(table.columns)}. Ask for it; or, where you know that no image was "
            f"predicted by a model trained on it or on its group, set folds: unchecked for "
            f"{external.name} in params.yaml: ensemble.external"
        )
    out_of_fold = _probabilities(external.oof, table, image_ids, columns[1:])
    test = read_predictions(external.test, test_ids, classes)
    return Column(external.name, out_of_fold, test)


def _check_bytes(external: External) -> None:
    digest = hashlib.sha256()
    for path in (external.oof, external.test):
        if not path.is_file():
            raise TableError(
                f"{path}: no such file: params.yaml: ensemble.external: {external.name}"
            )
        digest.update(path.read_bytes())
    if digest.hexdigest() != external.sha256:
        raise EnsembleError(
            f"params.yaml: ensemble.external: {external.name}: expected files with sha256 "
            f"{external.sha256}, found {digest.hexdigest()} for {external.oof} and "
            f"{external.test}. Where these are the ones that you mean, write that"
        )


def _check_folds(external: External, found: "pd.Series[str]", folds: pd.DataFrame) -> None:
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
        f"{external.oof}: column fold: expected the folds of one repeat of folds/folds.csv, found "
        f"others for {len(fewest)} of {len(found)} images (first: {first} in {found[first]!r}, "
        f"{ours[first]!r} in folds.csv): its models may have seen the images that they predict"
    )


def _probabilities(
    path: Path, table: pd.DataFrame, image_ids: list[str], columns: list[str]
) -> Probabilities:
    """As tables.read_predictions, for a table that may have more rows."""
    try:
        every = table[columns].to_numpy(np.float64)
    except ValueError as error:
        raise TableError(f"{path}: expected numbers as probabilities: {error}") from error
    bad = ~((every >= 0) & (every <= 1)).all(axis=1) | (abs(every.sum(axis=1) - 1) > 1e-4)
    if bad.any():
        raise TableError(
            f"{path}: {int(bad.sum())} of {len(bad)} rows are no probabilities in [0, 1] that add "
            f"up to 1 {examples(list(table['image_id'][bad]))}"
        )
    row_of = pd.Series(np.arange(len(table)), index=table["image_id"])
    chosen: Probabilities = every[row_of.loc[image_ids].to_numpy()]
    return chosen
