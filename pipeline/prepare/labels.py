"""What is predicted for each row: the labels of a table, and the task that they make.

Everything is read as text, so that the id 007 and the class NA stay what they are. Which table and
which columns hold them is stated in roles.py and rows.py.
"""

import re
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.core.errors import CompetitionError, TableError, require
from pipeline.core.progress import say
from pipeline.core.task import SEPARATOR, AnyOf, Kind, Number, OneOf, Task
from pipeline.prepare.sample import Sample, read_values

_INTEGER = re.compile(r"[+-]?[0-9]+")
_WHOLE = re.compile(r"[+-]?[0-9]+\.0*")
_OBJECTS = re.compile(
    r"(?i)(^|_)rle(_|$)|encoded_?pixels|prediction_?string|bbox|bounding_?box|segmentation"
)
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")

SEPARATORS = (" ", ",", "|")
"""What may stand between the classes of a cell."""

_TASK = "Set prepare.task in params.yaml to what the labels are: one_of, any_of or number"

_EITHER_FILE = (
    "Set prepare.labels or prepare.sample_submission in params.yaml if one is the wrong file"
)


def read_labels(
    place: Path,
    table: pd.DataFrame,
    columns: list[str],
    sample: Sample,
    kind: Kind | None,
    given: list[str] | None,
) -> tuple[list[str], Task]:
    """Each row's label as our tables have it, and the task.

    columns: that hold them. kind: the task, if known. given: the classes in their order, if known.
    Of a column for each class, a row's classes are those with a 1; of one column, a cell is the
    class, or several with blanks, commas or bars between. Other numbers in several columns are
    numbers to predict. Labels 1.0 become 1 where the sample submission shows integers.
    Raises CompetitionError on an invalid value, fewer than two classes, a number written in two
    ways, and classes other than those given or the columns of the sample submission.
    """
    if objects := [name for name in columns if _OBJECTS.search(name)]:
        raise CompetitionError(
            f"{place}: expected labels of whole images, found masks or boxes in the column "
            f"{objects[0]}, which are not predicted here. Set prepare.label_column in params.yaml "
            "if the label is another column"
        )
    if kind == "number" or (len(columns) > 1 and kind is None and _are_numbers(table[columns])):
        return _read_numbers(place, table, columns, sample, kind)
    if len(columns) > 1:
        return _read_flags(place, table, columns, kind)
    return _read_cells(place, table, columns[0], sample, kind, given)


def _are_numbers(cells: pd.DataFrame) -> bool:
    """Whether columns hold numbers alone, not all of them whole."""
    numbers = cells.apply(pd.to_numeric, errors="coerce")
    return bool(numbers.notna().all(axis=None) and (numbers % 1 != 0).any(axis=None))


def _read_flags(
    path: Path, table: pd.DataFrame, columns: list[str], kind: Kind | None
) -> tuple[list[str], OneOf | AnyOf]:
    """The classes of a column each; one_of if each row has exactly one and kind is not any_of."""
    _refuse_separators(path, columns)
    cells = table[columns].replace({"1.0": "1", "0.0": "0"})
    bad = [
        f"{name} of row {row + 1}: {cells[name].iloc[row]!r}"
        for name in columns
        for row in np.flatnonzero(~cells[name].isin(["0", "1"]))[:1]
    ]
    requirement = ("0 or 1 in the column of each class", bad, _TASK)
    require(CompetitionError, path, f"{len(columns)} columns", requirement)
    flags = cells.to_numpy() == "1"
    single = bool((flags.sum(axis=1) == 1).all())
    if kind == "one_of" and not single:
        row = int(np.flatnonzero(flags.sum(axis=1) != 1)[0])
        raise CompetitionError(
            f"{path}: expected one class for each image, as prepare.task is one_of, found "
            f"{flags[row].sum()} in row {row + 1}. Set prepare.task in params.yaml to any_of"
        )
    if single and kind != "any_of":
        return [columns[place] for place in flags.argmax(axis=1)], OneOf(classes=columns)
    task = AnyOf(classes=columns, at_least_one=bool(flags.any(axis=1).all()))
    return task.decode(flags), task


def _read_numbers(
    path: Path, table: pd.DataFrame, columns: list[str], sample: Sample, kind: Kind | None
) -> tuple[list[str], Number]:
    task = Number(names=sample.label_columns if len(columns) == 1 else columns)
    labels = table[columns].agg(SEPARATOR.join, axis=1).tolist()
    try:
        task.encode(path, labels)
    except TableError as error:
        raise CompetitionError(
            f"{error}. {_TASK} (now {kind or 'auto'}), or correct the file"
        ) from error
    return labels, task


def _read_cells(
    path: Path,
    table: pd.DataFrame,
    column: str,
    sample: Sample,
    kind: Kind | None,
    given: list[str] | None,
) -> tuple[list[str], OneOf | AnyOf]:
    """The class of a cell, or the classes where cells are lists."""
    cells = list(table[column])
    single = kind is None and set(cells) <= {*sample.label_columns, *(given or [])}
    separator = None if single or kind == "one_of" else _find_separator(cells)
    if kind == "any_of" and separator is None:
        there = [each for each in reversed(SEPARATORS) if any(each in cell for cell in cells)]
        separator = there[0] if there else " "
    if separator is None:
        rows = enumerate(cells, start=1)
        empty = [f"row {row}: {cell!r}" for row, cell in rows if not cell.strip()]
        remedy = "Add them, or leave these rows out: prepare.unlabelled: leave_out"
        requirement = (f"a label in the column {column}", empty, remedy)
        require(CompetitionError, path, f"{len(cells)} values", requirement)
        return _read_classes(path, read_values(path, table, column), sample, given)
    if any(separator in cell for cell in cells):
        say(
            f"{path}: a cell of {column} is a list of labels, with {separator!r} between them "
            "(prepare.task: one_of takes a cell as one class)"
        )
    return _read_lists(path, cells, separator, sample, given)


def _read_lists(
    path: Path, cells: list[str], separator: str, sample: Sample, given: list[str] | None
) -> tuple[list[str], AnyOf]:
    sets = [cell.split(separator) if cell else [] for cell in cells]
    classes = sorted({name for names in sets for name in names})
    _refuse_separators(path, classes)
    bad = [repr(cell) for cell, names in zip(cells, sets, strict=True) if _is_no_set(names)]
    requirement = ("each class of an image once", bad, _TASK)
    require(CompetitionError, path, f"{len(cells)} rows", requirement)
    classes, _ = _order(path, classes, sample, given)
    task = AnyOf(classes=classes, separator=separator, at_least_one=all(map(bool, cells)))
    return [SEPARATOR.join(names) for names in sets], task


def _read_classes(
    path: Path, labels: list[str], sample: Sample, given: list[str] | None
) -> tuple[list[str], OneOf]:
    if all(map(_WHOLE.fullmatch, labels)) and all(map(_INTEGER.fullmatch, sample.values)):
        shown = sample.place.name
        say(f"{path}: classes such as {labels[0]} are whole numbers, as {shown} writes them")
        labels = [label.partition(".")[0] for label in labels]
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise CompetitionError(
            f"{path}: expected at least two classes, found only {classes[0]}. Set "
            "prepare.labels in params.yaml if this is the wrong file"
        )
    classes, ordered = _order(path, classes, sample, given)
    columns = sample.label_columns
    if len(columns) > 1:
        labelled, named = set(classes), set(columns)
        unlabelled = [f"{name} has no labelled image" for name in columns if name not in labelled]
        unnamed = [f"{name} has no column" for name in classes if name not in named]
        expected = f"the id and a column for each class of {path.name}"
        requirement = (expected, unlabelled + unnamed, _EITHER_FILE)
        require(CompetitionError, sample.place, f"{len({*columns, *classes})} classes", requirement)
    return labels, OneOf(classes=classes, ordered=ordered)


def _find_separator(cells: list[str]) -> str | None:
    """What stands between the classes of a cell; None where cells are single classes.

    Lists are made of fewer different words than there are different lists; a class of several
    words is not.
    """
    different = {cell.strip() for cell in cells}
    for separator in SEPARATORS:
        words = {word for cell in different for word in cell.split(separator)}
        if any(separator in cell for cell in different) and len(words) < len(different):
            return separator
    return None


def _is_no_set(names: list[str]) -> bool:
    return len(set(names)) < len(names) or any(name != name.strip() or not name for name in names)


def _refuse_separators(path: Path, classes: list[str]) -> None:
    bad = [name for name in classes if SEPARATOR in name]
    requirement = (f"classes without {SEPARATOR!r} in their names", bad, "Rename them")
    require(CompetitionError, path, f"{len(classes)} classes", requirement)


def _order(
    path: Path, classes: list[str], sample: Sample, given: list[str] | None
) -> tuple[list[str], bool]:
    """The classes in their order, and whether that means something."""
    if given is not None:
        if sorted(given) != classes:
            raise CompetitionError(
                f"{path}: expected the classes of prepare.classes, {given}, found {classes}. "
                "Correct prepare.classes in params.yaml, or set it to null"
            )
        return given, True
    columns = sample.label_columns
    if len(classes) == 2 and len(columns) == 1 and columns[0] in classes:
        return sorted(classes, key=columns[0].__eq__), True
    if not all(map(_NUMBER.fullmatch, classes)):
        return classes, False
    classes = sorted(classes, key=Decimal)
    for name, following in pairwise(classes):
        if Decimal(name) == Decimal(following):
            raise CompetitionError(
                f"{path}: expected each class written in one way, found {name} and {following}. "
                "Repair the file at its source"
            )
    return classes, True
