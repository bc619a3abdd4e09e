"""The ids to predict, and the ids to learn from with their labels and classes.

Everything is read as text, so that the id 007 and the class NA stay what they are. Which file
and which columns hold them is stated in pipeline/raw/roles.py.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pandas as pd

from pipeline.core.errors import CompetitionError, require
from pipeline.core.tables import first_repeated, read_csv
from pipeline.raw.roles import find_class_columns

_INTEGER = re.compile(r"[+-]?[0-9]+")
_WHOLE = re.compile(r"[+-]?[0-9]+\.0*")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")

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
    """The labels file: image_ids and labels in parallel; classes, ordered: as in Competition."""

    path: Path
    id_column: str
    label_column: str
    image_ids: list[str]
    labels: list[str]
    classes: list[str]
    ordered: bool


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


def read_labels(path: Path, sample: Sample, given: list[str] | None) -> Labelled:
    """Read the labels file. given: the classes in their order, if the parameters say it.

    Labels 1.0 become 1 where the sample submission shows integers.
    Raises CompetitionError on wrong columns, an empty value or one with blanks around it, an id
    that appears twice or is in the sample submission, fewer than two classes, a number written in
    two ways, and classes other than those given or the columns of the sample submission.
    """
    table = read_csv(path)
    id_column, label_column = _find_columns(path, list(table.columns), sample)
    image_ids = read_values(path, table, id_column)
    labels = read_values(path, table, label_column)
    if all(map(_WHOLE.fullmatch, labels)) and all(map(_INTEGER.fullmatch, sample.values)):
        table[label_column] = table[label_column].str.partition(".")[0]
        labels = list(table[label_column])
    by_id = table[table[id_column].duplicated(keep=False)].groupby(id_column)[label_column].unique()
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
    return Labelled(path, id_column, label_column, image_ids, labels, classes, ordered)


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
