"""Reading and writing the tables between stages: CSV, UTF-8, ids and labels as text.

Every reader checks columns and ids, since a table joined by row position, or one with a missing
row, gives a wrong submission without any error. Text is never converted: the id 007 and the
class NA stay what they are.
"""

import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.core.errors import TableError, examples
from pipeline.core.files import new_file
from pipeline.core.shapes import Labels, Probabilities

IMAGE_COLUMNS = [
    "image_id", "label", "group", "duplicate", "file", "width", "height", "mode", "sha256",
    "pixels",
]  # fmt: skip
"""Columns of data/store/train.csv and test.csv; row i is row i of the array.

image_id: as the competition writes it. label: the class as the labels file writes it,
empty in test. group: patient, slide, …; the image_id itself where there are no groups;
empty in test. duplicate: the first image_id (train before test) of the cluster of equal or
near-equal images, its own where there is none. file: the member of the archive.
width, height, mode: the original's. sha256: of the file. pixels: the first 16 digits of the
SHA-256 of the stored pixels.
"""

FOLD_COLUMNS = ["image_id", "label", "group", "repeat", "fold"]
"""Columns of folds/folds.csv: one row for each image and repeat.

Fold numbers are unique over the repeats. The rows with fold k are those that fold k's models
are scored on; they are trained on the other rows of the same repeat.
"""

SUM_OFF = 1e-4
"""How far the sum of a row's probabilities may be from 1."""


def read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read a CSV as text, with exactly these columns in this order.

    Raises TableError on a missing file, other columns, no rows, or an invalid line.
    """
    table = read_csv(path)
    if list(table.columns) != columns:
        raise TableError(f"{path}: expected the columns {columns}, found {list(table.columns)}")
    if table.empty:
        raise TableError(f"{path}: expected rows, found none")
    return table


def read_csv(path: Path) -> pd.DataFrame:
    """Read any CSV as text: nothing is turned into a number or a missing value.

    Raises TableError for a missing file, and for a line with more fields than the header.
    """
    if not path.is_file():
        raise TableError(f"{path}: no such file. Run: dvc repro")
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas drops surplus fields
        try:
            return pd.read_csv(
                path, dtype=str, na_filter=False, encoding="utf-8-sig", index_col=False
            )
        # ValueError: pandas' parser errors and an encoding that is not UTF-8.
        except (ValueError, pd.errors.ParserWarning) as error:
            reason = " ".join(str(error).split())
            raise TableError(f"{path}: not a CSV file with a header: {reason}") from error


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table whole or not at all, with the same bytes on every system."""
    with new_file(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n", encoding="utf-8")


def class_indices(place: Path, labels: Iterable[str], classes: list[str]) -> Labels:
    """The index of each label's class. Raises TableError, with `place`, for any other label."""
    index_of = {name: index for index, name in enumerate(classes)}
    labels = list(labels)
    if unknown := sorted(set(labels) - set(classes)):
        raise TableError(
            f"{place}: expected labels of the training images, {classes}, found {unknown[0]!r}"
        )
    return np.array([index_of[label] for label in labels], np.int64)


def probability_columns(classes: list[str]) -> list[str]:
    return [f"p_{name}" for name in classes]


def write_predictions(
    path: Path, image_ids: list[str], probabilities: Probabilities, classes: list[str]
) -> None:
    """Write one probability in [0, 1] a class, keyed by image id, with 9 significant digits."""
    table = pd.DataFrame(probabilities, columns=probability_columns(classes))
    table = table.map("{:.9g}".format)
    table.insert(0, "image_id", image_ids)
    write_table(path, table)


def read_predictions(path: Path, image_ids: list[str], classes: list[str]) -> Probabilities:
    """Read predictions in the order of `image_ids`; raises as check_ids, parse_probabilities."""
    table = read_table(path, ["image_id", *probability_columns(classes)])
    check_ids(path, list(table["image_id"]), image_ids)
    return parse_probabilities(path, table, image_ids, classes)


def parse_probabilities(
    place: Path | str, table: pd.DataFrame, image_ids: list[str], classes: list[str]
) -> Probabilities:
    """The probabilities of these ids, in their order; the table may have more rows and columns.

    Raises TableError unless each row's probabilities are in [0, 1] and add up to 1 within SUM_OFF.
    """
    try:
        values = table[probability_columns(classes)].to_numpy(np.float64)
    except ValueError as error:
        raise TableError(f"{place}: expected numbers as probabilities: {error}") from error
    bad = ~((values >= 0) & (values <= 1)).all(axis=1) | (abs(values.sum(axis=1) - 1) > SUM_OFF)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise TableError(
            f"{place}: {int(bad.sum())} of {len(bad)} rows are no probabilities in [0, 1] that add "
            f"up to 1 (first: {table['image_id'].iloc[first]} with {values[first].tolist()})"
        )
    row_of = pd.Series(np.arange(len(table)), index=table["image_id"])
    ordered: Probabilities = values[row_of.loc[image_ids].to_numpy()]
    return ordered


def check_ids(place: Path | str, found: list[str], expected: list[str]) -> None:
    """Raise TableError unless `found` has each of the `expected` ids once and no other."""
    faults = {
        "ids stand twice": first_repeated(found),
        f"of {len(expected)} ids are missing": sorted(set(expected) - set(found)),
        "ids are not expected here": sorted(set(found) - set(expected)),
    }
    for fault, ids in faults.items():
        if ids:
            raise TableError(f"{place}: {len(ids)} {fault} {examples(ids)}")


def first_repeated(ids: list[str]) -> list[str]:
    """The ids that appear more than once, in the order of their first appearance."""
    return [image_id for image_id, count in Counter(ids).items() if count > 1]
