"""The ids to predict, and the ids to learn from with their labels and classes.

Everything is read as text, so that the id 007 and the class NA stay what they are. Which file
and which columns hold them is stated in pipeline/raw/roles.py.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.core.errors import CompetitionError, TableError, require
from pipeline.core.tables import first_repeated, read_csv
from pipeline.core.task import SEPARATOR, AnyOf, Kind, Number, OneOf, Task
from pipeline.raw.roles import find_class_columns

_INTEGER = re.compile(r"[+-]?[0-9]+")
_WHOLE = re.compile(r"[+-]?[0-9]+\.0*")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")

SEPARATORS = (" ", ",", "|")
"""What may stand between the classes of a cell."""

_TASK = "Set prepare.task in params.yaml to what the labels are: one_of, any_of or number"

_EITHER_FILE = (
    "Set prepare.labels or prepare.sample_submission in params.yaml if one is the wrong file"
)


@dataclass(frozen=True)
class Sample:
    """The sample submission. columns: the id, then the label or one column a class.

    values: the label column's; those of the first class where there are several.
    """

    path: Path
    columns: list[str]
    image_ids: list[str]
    values: list[str]


@dataclass(frozen=True)
class Labelled:
    """The labels file: image_ids and labels in parallel. labels: as our tables have them."""

    path: Path
    id_column: str
    label_column: str
    image_ids: list[str]
    labels: list[str]
    task: Task


def read_sample(path: Path) -> Sample:
    """The ids to predict. Raises CompetitionError on one column, or an invalid or repeated id."""
    table = read_csv(path)
    columns = list(table.columns)
    if len(columns) < 2:
        raise CompetitionError(
            f"{path}: expected two columns with a comma between, the id and the label, or the id "
            f"and one for each class; found {len(columns)}: {columns}. If this is no sample "
            "submission, set prepare.sample_submission in params.yaml"
        )
    image_ids = read_values(path, table, columns[0])
    once = ("each id once", first_repeated(image_ids), "Get the file from its source again")
    require(CompetitionError, path, f"{len(image_ids)} rows", once)
    return Sample(path, columns, image_ids, list(table[columns[1]]))


def read_labels(path: Path, sample: Sample, kind: Kind | None, given: list[str] | None) -> Labelled:
    """Read the labels file. kind: the task, if known. given: the classes in their order, if known.

    Of a column for each class, as the sample submission has them, a row's classes are those with
    a 1; of one column, a cell is the class, or several with blanks, commas or bars between.
    Labels 1.0 become 1 where the sample submission shows integers.
    Raises CompetitionError on wrong columns, an invalid value, an id that appears twice or is in
    the sample submission, fewer than two classes, a number written in two ways, and classes other
    than those given or the columns of the sample submission.
    """
    table = read_csv(path)
    columns = sample.columns[1:]
    if set(sample.columns) <= set(table.columns) and (kind == "number" or len(columns) > 1):
        id_column = sample.columns[0]
        read = _read_numbers if kind == "number" else _read_flags
        labels, task = read(path, table, columns, kind)
    else:
        id_column, label_column = _find_columns(path, list(table.columns), sample)
        columns = [label_column]
        if kind == "number":
            labels, task = _read_numbers(path, table, columns, kind)
        else:
            labels, task = _read_cells(path, table, label_column, sample, kind, given)
    image_ids = read_values(path, table, id_column)
    _check_rows(path, sample, image_ids, labels)
    return Labelled(path, id_column, columns[0], image_ids, labels, task)


def _check_rows(path: Path, sample: Sample, image_ids: list[str], labels: list[str]) -> None:
    rows = pd.DataFrame({"id": image_ids, "label": labels})
    by_id = rows[rows["id"].duplicated(keep=False)].groupby("id")["label"].unique()
    disagreeing_first = sorted(by_id.items(), key=lambda item: -len(item[1]))
    repeated = [f"{image_id} is {' and '.join(names)}" for image_id, names in disagreeing_first]
    tested = set(sample.image_ids)
    both = [image_id for image_id in image_ids if image_id in tested]
    require(
        CompetitionError,
        path,
        f"{len(image_ids)} rows",
        ("each id once", repeated, "Keep one row an id"),
        (f"no id of {sample.path.name}", both, _EITHER_FILE),
    )


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
    path: Path, table: pd.DataFrame, columns: list[str], kind: Kind | None
) -> tuple[list[str], Number]:
    task = Number(names=columns)
    labels = table[columns].agg(SEPARATOR.join, axis=1).tolist()
    try:
        task.encode(path, labels)
    except TableError as error:
        raise CompetitionError(f"{error}. {_TASK} (now {kind}), or correct the file") from error
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
    separator = _find_separator(cells) if kind != "one_of" else None
    if kind == "any_of" or separator is not None:
        sets = [cell.split(separator or " ") if cell else [] for cell in cells]
        classes = sorted({name for names in sets for name in names})
        _refuse_separators(path, classes)
        bad = [repr(cell) for cell, names in zip(cells, sets, strict=True) if _is_no_set(names)]
        requirement = ("each class of an image once", bad, _TASK)
        require(CompetitionError, path, f"{len(cells)} rows", requirement)
        classes, _ = _order(path, classes, sample.columns, given)
        task = AnyOf(
            classes=classes, separator=separator or " ", at_least_one=all(map(bool, cells))
        )
        return [SEPARATOR.join(names) for names in sets], task
    labels = read_values(path, table, column)
    if all(map(_WHOLE.fullmatch, labels)) and all(map(_INTEGER.fullmatch, sample.values)):
        labels = [label.partition(".")[0] for label in labels]
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise CompetitionError(
            f"{path}: expected at least two classes, found only {classes[0]}. Set "
            "prepare.labels in params.yaml if this is the wrong file"
        )
    classes, ordered = _order(path, classes, sample.columns, given)
    columns = sample.columns[1:]
    if len(columns) > 1:
        unlabelled = [f"{name} has no labelled image" for name in columns if name not in classes]
        unnamed = [f"{name} has no column" for name in classes if name not in columns]
        expected = f"the id and a column for each class of {path.name}"
        requirement = (expected, unlabelled + unnamed, _EITHER_FILE)
        require(CompetitionError, sample.path, f"{len({*columns, *classes})} classes", requirement)
    return labels, OneOf(classes=classes, ordered=ordered)


def _find_separator(cells: list[str]) -> str | None:
    """What stands between the classes of a cell; None where cells are single classes.

    Lists are made of fewer different words than there are different lists; a class of several
    words is not.
    """
    different = set(cells)
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
    path: Path, classes: list[str], columns: list[str], given: list[str] | None
) -> tuple[list[str], bool]:
    """The classes in their order, and whether that means something."""
    if given is not None:
        if sorted(given) != classes:
            raise CompetitionError(
                f"{path}: expected the classes of prepare.classes, {given}, found {classes}. "
                "Correct prepare.classes in params.yaml, or set it to null"
            )
        return given, True
    if len(classes) == len(columns) == 2 and columns[1] in classes:
        return sorted(classes, key=columns[1].__eq__), True
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


def read_values(path: Path, table: pd.DataFrame, column: str) -> list[str]:
    """A column's values. Raises CompetitionError on none, and on an empty or padded one."""
    values = [str(value) for value in table[column]]
    if not values:
        raise CompetitionError(
            f"{path}: expected rows, found none. Get the file from its source again"
        )
    bad = [
        f"row {row}: {value!r}"
        for row, value in enumerate(values, start=1)
        if not value or value != value.strip()
    ]
    expected = f"text without blanks around it in the column {column}"
    requirement = (expected, bad, "Repair the file at its source")
    require(CompetitionError, path, f"{len(values)} values", requirement)
    return values


def _find_columns(path: Path, found: list[str], sample: Sample) -> list[str]:
    """The id and the label column of the labels file."""
    wanted, expected = sample.columns, str(sample.columns)
    if len(wanted) > 2:
        wanted = [wanted[0], *find_class_columns(path, wanted[1:])]
        expected = f"{wanted[0]} and one with the classes"
    if len(wanted) == 2 and set(wanted) <= set(found):
        return wanted
    if len(found) != 2:
        raise CompetitionError(
            f"{path}: expected the columns {expected}, or exactly two with a comma between, the "
            f"id and the label; found {len(found)}: {found}. Set prepare.labels in params.yaml "
            "to the right file"
        )
    return found
