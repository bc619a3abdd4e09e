"""Reading and writing the tables between stages: CSV, UTF-8, ids and labels as text.

Every reader checks columns and ids, since a table joined by row position, or one with a missing
row, gives a wrong submission without any error. Text is never converted: the id 007 and the
class NA stay what they are.
"""

import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.core import wide
from pipeline.core.errors import TableError, examples, named
from pipeline.core.files import MOST_FIELD, new_file
from pipeline.core.shapes import Outputs
from pipeline.core.task import Task

IMAGE_COLUMNS = [
    "image_id", "row_id", "label", "group", "duplicate", "file", "width", "height", "mode",
    "sha256", "pixels",
]  # fmt: skip
"""Columns of data/store/train.csv and test.csv; row i is row i of the array.

image_id: unique in train and test together. row_id: the id of the row that is predicted, as the
competition writes it: the image_id too, unless several images belong to a row, or an id is in train
and in test. label: the class as the labels file writes it, empty in test. group: patient, slide, …;
the row_id itself where there are no groups; empty in test. duplicate: the first image_id (train
before test) of the cluster of equal or near-equal images, its own where there is none. file: the
member of the archive.
width, height, mode: the original's. sha256: of the file. pixels: the first 16 digits of the
SHA-256 of the stored pixels.
"""

FOLD_COLUMNS = ["image_id", "label", "group", "repeat", "fold"]
"""Columns of folds/folds.csv: one row for each image and repeat.

Fold numbers are unique over the repeats. The rows with fold k are those that fold k's models
are scored on; they are trained on the other rows of the same repeat.
"""

_KEYS = {tuple(IMAGE_COLUMNS): ["image_id"], tuple(FOLD_COLUMNS): ["image_id", "repeat"]}
_WHOLE_NUMBERS = {"width", "height", "repeat", "fold"}

MOST_COLUMNS = 100_000
"""Of a CSV: the sample submission may have one for each class."""

MOST_IN_CSV = 200
"""Outputs of a table of predictions that is a CSV; of more it is core/wide.py's."""

csv.field_size_limit(MOST_FIELD)


def read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read a CSV as text, with exactly these columns in this order.

    Raises TableError on a missing file, other columns, no rows, an invalid line, and in the tables
    above on an id that stands twice or a number that is none.
    """
    table = read_csv(path)
    if list(table.columns) != columns:
        raise TableError(
            f"{path}: expected the columns {named(columns)}, found {named(list(table.columns))}"
        )
    if table.empty:
        raise TableError(f"{path}: expected rows, found none")
    for name in sorted(_WHOLE_NUMBERS & set(columns)):
        if wrong := table[name][~table[name].str.fullmatch("[0-9]{1,9}")].tolist():
            raise TableError(f"{path}: expected whole numbers in {name}, found {wrong[0][:80]!r}")
    if key := _KEYS.get(tuple(columns)):
        twice = table[table.duplicated(key)]["image_id"].tolist()
        if twice:
            raise TableError(f"{path}: {len(twice)} ids stand twice {examples(twice)}")
    return table


def read_csv(path: Path) -> pd.DataFrame:
    """Read any CSV as text: nothing is turned into a number or a missing value.

    Raises TableError, with the line, for a missing file, and wherever pandas would guess or drop
    something: other characters than UTF-8's, NUL, a quote that is not closed or stands inside text,
    a line break inside quotes, more or fewer fields than the header has, a column name twice.
    """
    if not path.is_file():
        raise TableError(f"{path}: no such file. Run: dvc repro")
    text = _read_text(path)
    sound, rows = 0, 0  # lines, and those that are not blank, without the header
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(reader, [])
        if not header or len(header) > MOST_COLUMNS:
            raise ValueError(f"expected 1 to {MOST_COLUMNS:,} columns, found {len(header):,}")
        if repeated := first_repeated([name for name in header if name]):
            raise ValueError(f"expected each column name once, found {repeated[0]!r} twice")
        sound = 1
        for row in reader:
            if reader.line_num != sound + 1:
                raise ValueError("a line break inside quotes: is a quote not closed?")
            if row:  # pandas skips blank lines, too
                rows += 1
                if len(row) != len(header):
                    raise ValueError(f"expected {len(header)} fields, found {len(row)}")
            sound += 1
        table = pd.read_csv(io.StringIO(text), dtype=str, na_filter=False, index_col=False)
        if len(table) != rows:
            raise ValueError(f"expected {rows} rows, found {len(table)}")
    except (ValueError, csv.Error) as error:
        reason = " ".join(str(error).split())
        raise TableError(f"{path}: not a CSV file: line {sound + 1}: {reason}") from error
    return table


def _read_text(path: Path) -> str:
    content = path.read_bytes()
    place, fault = content.find(b"\0"), "a NUL character"
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place, fault = error.start, f"not UTF-8 ({error.reason})"
    if place >= 0:
        line = content.count(b"\n", 0, place) + 1
        raise TableError(f"{path}: not a CSV file: line {line}: {fault}")
    return text


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table whole or not at all, with the same bytes on every system."""
    with new_file(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n", encoding="utf-8")


def predictions_file(csv_file: Path, task: Task) -> Path:
    """Where a task's table of predictions lies: the CSV, or a file of many outputs beside it."""
    return csv_file if len(task.outputs) <= MOST_IN_CSV else csv_file.with_suffix(wide.SUFFIX)


def write_predictions(path: Path, image_ids: list[str], values: Outputs, task: Task) -> None:
    """Write one number an output, keyed by image id, with 9 significant digits; or as wide.py."""
    if path.suffix == wide.SUFFIX:
        wide.write_wide(path, image_ids, task.columns, values)
        return
    table = pd.DataFrame(values, columns=task.columns).map("{:.9g}".format)
    table.insert(0, "image_id", image_ids)
    write_table(path, table)


def read_predictions(path: Path, image_ids: list[str], task: Task) -> Outputs:
    """Read predictions in the order of `image_ids`; raises as check_ids, parse_predictions."""
    if path.suffix == wide.SUFFIX:
        found, columns, values = wide.read_wide(path)
        if columns != task.columns:
            raise TableError(
                f"{path}: expected the columns {named(task.columns)}, found {named(columns)}"
            )
        check_ids(path, found, image_ids)
        return _order_predictions(path, found, values.astype(np.float64), image_ids, task)
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
    return _order_predictions(place, list(table["image_id"]), values, image_ids, task)


def read_ids(path: Path) -> list[str]:
    """The ids of a whole table of predictions. Raises TableError where its last line is cut."""
    if path.suffix == wide.SUFFIX:
        return wide.read_wide(path)[0]
    found = list(read_csv(path).get("image_id", []))
    if not path.read_bytes().endswith(b"\n"):  # nobody else counts its rows
        raise TableError(f"{path}: its last line is cut. Run: dvc repro ensemble")
    return found


def _order_predictions(
    place: Path | str, found: list[str], values: Outputs, image_ids: list[str], task: Task
) -> Outputs:
    """Those of the ids, in their order. Raises TableError for a row that is none of the task."""
    valid = task.valid(values)
    if not valid.all():
        first = int(np.flatnonzero(~valid)[0])
        raise TableError(
            f"{place}: expected {task.expected} in each row, found {int((~valid).sum())} of "
            f"{len(valid)} rows with others (first: {found[first]} with "
            f"{named(values[first].tolist())})"
        )
    if found == image_ids:
        return values
    row_of = pd.Series(np.arange(len(found)), index=found)
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
