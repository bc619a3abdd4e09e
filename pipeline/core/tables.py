"""Reading and writing the tables between stages: CSV, UTF-8, ids and labels as text.

Every reader checks columns and ids, since a table joined by row position, or one with a missing
row, gives a wrong submission without any error. Text is never converted: the id 007 and the
class NA stay what they are.
"""

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.core.errors import TableError, examples
from pipeline.core.files import new_file
from pipeline.core.shapes import Outputs
from pipeline.core.task import Task

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


def write_predictions(path: Path, image_ids: list[str], values: Outputs, task: Task) -> None:
    """Write one number an output, keyed by image id, with 9 significant digits."""
    table = pd.DataFrame(values, columns=task.columns).map("{:.9g}".format)
    table.insert(0, "image_id", image_ids)
    write_table(path, table)


def read_predictions(path: Path, image_ids: list[str], task: Task) -> Outputs:
    """Read predictions in the order of `image_ids`; raises as check_ids, parse_predictions."""
    table = read_table(path, ["image_id", *task.columns])
    check_ids(path, list(table["image_id"]), image_ids)
    return parse_predictions(path, table, image_ids, task)


def parse_predictions(
    place: Path | str, table: pd.DataFrame, image_ids: list[str], task: Task
) -> Outputs:
    """The predictions of these ids, in their order; the table may have more rows and columns.

    Raises TableError for a row that is no prediction of the task.
    """
    try:
        values = table[task.columns].to_numpy(np.float64)
    except ValueError as error:
        raise TableError(f"{place}: expected numbers as predictions: {error}") from error
    valid = task.valid(values)
    if not valid.all():
        first = int(np.flatnonzero(~valid)[0])
        raise TableError(
            f"{place}: expected {task.expected} in each row, found {int((~valid).sum())} of "
            f"{len(valid)} rows with others (first: {table['image_id'].iloc[first]} with "
            f"{values[first].tolist()})"
        )
    row_of = pd.Series(np.arange(len(table)), index=table["image_id"])
    ordered: Outputs = values[row_of.loc[image_ids].to_numpy()]
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
