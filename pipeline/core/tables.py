"""Reading and writing the tables between stages: CSV, UTF-8, ids and labels as text.

Every reader checks columns and ids, since a table joined by row position, or one with a missing
row, gives a wrong submission without any error. Text is never converted: the id 007 and the
class NA stay what they are.
"""

import codecs
import csv
import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

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
are scored on; they are trained on the other rows of the same repeat. A row without a fold is
trained on in each, and never scored.
"""

_KEYS = {tuple(IMAGE_COLUMNS): ["image_id"], tuple(FOLD_COLUMNS): ["image_id", "repeat"]}
_WHOLE_NUMBERS = {"width": "+", "height": "+", "repeat": "+", "fold": "*"}
"""How many digits: at least one, or none too."""

MOST_COLUMNS = 100_000
"""Of a CSV: the sample submission may have one for each class."""

MOST_IN_CSV = 200
"""Outputs of a table of predictions that is a CSV; of more it is core/wide.py's."""

_MISSING = ["", "NA", "nan", "NaN", "null"]

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
    for name in sorted(_WHOLE_NUMBERS.keys() & set(columns)):
        digits = f"(?![0-9]{{10}})[0-9]{_WHOLE_NUMBERS[name]}"
        if wrong := table[name][~table[name].str.fullmatch(digits)].tolist():
            raise TableError(f"{path}: expected whole numbers in {name}, found {wrong[0][:80]!r}")
    if key := _KEYS.get(tuple(columns)):
        twice = table[table.duplicated(key)]["image_id"].tolist()
        if twice:
            raise TableError(f"{path}: {len(twice)} ids stand twice {examples(twice)}")
    return table


@dataclass(frozen=True)
class Dialect:
    """How a CSV of a competition is written; by default as we write our own.

    line_breaks: whether they may stand inside quotes. numbers: the columns that are numbers; all
    others are text. missing: whether a number may lack, as NaN.
    """

    encoding: str = "utf-8"
    separator: str = ","
    line_breaks: bool = False
    numbers: Sequence[str] = ()
    missing: bool = False


OURS = Dialect()


def read_csv(path: Path, dialect: Dialect = OURS) -> pd.DataFrame:
    """Read any CSV as text: nothing is turned into a number or a missing value.

    Raises TableError, with the line, for a missing file, and wherever pandas would guess or drop
    something: other characters than the encoding's, NUL, a quote that is not closed or stands
    inside text, an unexpected line break inside quotes, more or fewer fields than the header has, a
    column name twice, text in a column of numbers.
    """
    if not path.is_file():
        raise TableError(f"{path}: no such file. Run: dvc repro")
    content = path.read_bytes()
    encoding = _check_text(path, content, dialect.encoding)
    sound, rows = 0, 0  # lines, and those that are not blank, without the header
    try:
        lines = io.TextIOWrapper(io.BytesIO(content), encoding, newline="")
        reader = csv.reader(lines, strict=True, delimiter=dialect.separator)
        header = next(reader, [])
        if not header or len(header) > MOST_COLUMNS:
            raise ValueError(f"expected 1 to {MOST_COLUMNS:,} columns, found {len(header):,}")
        if repeated := first_repeated([name for name in header if name]):
            raise ValueError(f"expected each column name once, found {repeated[0]!r} twice")
        sound = reader.line_num
        for row in reader:
            if reader.line_num != sound + 1 and not dialect.line_breaks:
                raise ValueError("a line break inside quotes: is a quote not closed?")
            if row:  # pandas skips blank lines, too
                rows += 1
                if len(row) != len(header):
                    raise ValueError(f"expected {len(header)} fields, found {len(row)}")
            sound = reader.line_num
        types: Any = defaultdict(lambda: str, dict.fromkeys(dialect.numbers, np.float32))
        lines = io.TextIOWrapper(io.BytesIO(content), encoding, newline="")
        absent = dict.fromkeys(dialect.numbers if dialect.missing else [], _MISSING)
        with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite
            table = pd.read_csv(
                lines, sep=dialect.separator, dtype=types, index_col=False,
                na_filter=bool(absent), keep_default_na=False, na_values=absent,
            )  # fmt: skip
        if len(table) != rows:
            raise ValueError(f"expected {rows} rows, found {len(table)}")
    except (ValueError, csv.Error) as error:
        reason = " ".join(str(error).split())
        raise TableError(f"{path}: not a CSV file: line {sound + 1}: {reason}") from error
    return table


def _check_text(path: Path, content: bytes, encoding: str) -> str:
    """The encoding to read a CSV with. Raises TableError on what is not text of it."""
    place, fault = content.find(b"\0"), "a NUL character"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding, place = "utf-16", -1
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        place, fault = error.start, f"not {encoding.upper()} ({error.reason})"
    if place >= 0:
        line = content.count(b"\n", 0, place) + 1
        raise TableError(f"{path}: not a CSV file: line {line}: {fault}")
    return "utf-8-sig" if encoding == "utf-8" else encoding


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table whole or not at all, with the same bytes on every system."""
    with new_file(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n", encoding="utf-8")


def predictions_file(csv_file: Path, task: Task) -> Path:
    """Where a task's table of predictions lies: the CSV, or a file of many outputs beside it."""
    return csv_file if len(task.outputs) <= MOST_IN_CSV else csv_file.with_suffix(wide.SUFFIX)


def write_predictions(path: Path, image_ids: list[str], values: Outputs, task: Task) -> None:
    """Write one number an output, keyed by image id, with 9 significant digits; or as wide.py.

    Of ensemble/oof.csv, which has a prediction for each row, the ids are row ids.
    """
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


def average_rows(row_ids: list[str], values: Float[ndarray, "images outputs"]) -> Outputs:
    """The mean of the images of each row, in the order of the rows' first images.

    row_ids: of each image. Where each has one image, the values are the same to the bit.
    """
    places, rows = pd.factorize(np.array(row_ids, object))
    if len(rows) == len(values):
        return values
    total = np.zeros((len(rows), values.shape[1]))
    np.add.at(total, places, values)
    averaged: Outputs = total / np.bincount(places)[:, None]
    return averaged


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
    check_end(path, "ensemble")
    return found


def check_end(path: Path, stage: str) -> None:
    """Raise TableError where the last line of a table is cut, whose rows nobody else counts."""
    if not path.read_bytes().endswith(b"\n"):
        raise TableError(f"{path}: its last line is cut. Run: dvc repro --force {stage}")


def _order_predictions(
    place: Path | str, found: list[str], values: Outputs, image_ids: list[str], task: Task
) -> Float[ndarray, "ids outputs"]:
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
    return np.asarray(values[row_of.loc[image_ids].to_numpy()])


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
