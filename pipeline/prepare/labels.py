"""The ids to predict, and the ids to learn from with their labels and classes.

Everything is read as text, so that the id 007 and the class NA stay what they are. Which file
and which columns hold them is stated in pipeline/raw/roles.py.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.core.errors import CompetitionError, examples
from pipeline.core.tables import first_repeated, read_csv
from pipeline.raw.roles import find_class_columns


@dataclass(frozen=True)
class Sample:
    """The sample submission. columns: the id, then the label or one column a class."""

    path: Path
    columns: list[str]
    image_ids: list[str]


@dataclass(frozen=True)
class Labelled:
    """The labels file. image_ids and labels are parallel; classes are in their order.

    classes: sorted by number where all are integers, else as text.
    """

    path: Path
    id_column: str
    label_column: str
    image_ids: list[str]
    labels: list[str]
    classes: list[str]


def read_sample(path: Path) -> Sample:
    """Read the sample submission.

    Raises CompetitionError on fewer than two columns, and on an id that is empty, has blanks
    around it or appears twice.
    """
    table = read_csv(path)
    columns = list(table.columns)
    if len(columns) < 2:
        raise CompetitionError(
            f"{path}: expected two columns with a comma between, the id and the label, or the id "
            f"and one for each class; found {len(columns)}: {columns}. If this is no sample "
            "submission, set prepare.sample_submission in params.yaml"
        )
    image_ids = read_values(path, table, columns[0])
    if repeated := first_repeated(image_ids):
        raise CompetitionError(
            f"{path}: expected each id once, found {len(repeated)} twice {examples(repeated)}. "
            "Get the file from its source again"
        )
    return Sample(path, columns, image_ids)


def read_labels(path: Path, sample: Sample) -> Labelled:
    """Read the labels file.

    Raises CompetitionError on wrong columns, an empty value or one with blanks around it, an id
    that appears twice or is in the sample submission, fewer than two classes, and classes other
    than the columns of the sample submission.
    """
    table = read_csv(path)
    id_column, label_column = _find_columns(path, list(table.columns), sample)
    image_ids = read_values(path, table, id_column)
    labels = read_values(path, table, label_column)
    _check_labelled_once(path, image_ids, labels)
    tested = set(sample.image_ids)
    if both := [image_id for image_id in image_ids if image_id in tested]:
        raise CompetitionError(
            f"{path}: expected no id of {sample.path.name}, found {len(both)} in both "
            f"{examples(both)}. Set prepare.labels or prepare.sample_submission in params.yaml "
            "if one is the wrong file"
        )
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise CompetitionError(
            f"{path}: expected at least two classes, found only {classes[0]}. Set "
            "prepare.labels in params.yaml if this is the wrong file"
        )
    if all(re.fullmatch(r"[+-]?[0-9]+", name) for name in classes):
        classes.sort(key=int)
    if len(sample.columns) > 2:
        _check_class_columns(sample, path, classes)
    return Labelled(path, id_column, label_column, image_ids, labels, classes)


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
    if bad:
        raise CompetitionError(
            f"{path}: expected text without blanks around it in the column {column}, found "
            f"{len(bad)} of {len(values)} values empty or with blanks {examples(bad)}. "
            "Repair the file at its source"
        )
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


def _check_labelled_once(path: Path, image_ids: list[str], labels: list[str]) -> None:
    repeated = first_repeated(image_ids)
    if not repeated:
        return
    given: dict[str, set[str]] = {}
    for image_id, label in zip(image_ids, labels, strict=True):
        given.setdefault(image_id, set()).add(label)
    disagreeing = [
        f"{image_id} is {' and '.join(sorted(given[image_id]))}"
        for image_id in repeated
        if len(given[image_id]) > 1
    ]
    verdict = "the labels agree"
    if disagreeing:
        verdict = f"the labels of {len(disagreeing)} disagree {examples(disagreeing)}"
    raise CompetitionError(
        f"{path}: expected each id once, found {len(repeated)} twice or more "
        f"{examples(repeated)}; {verdict}. Keep one row an id"
    )


def _check_class_columns(sample: Sample, labels_file: Path, classes: list[str]) -> None:
    columns = sample.columns[1:]
    faults = {
        "no labelled image": [name for name in columns if name not in classes],
        "no column": [name for name in classes if name not in columns],
    }
    for fault, names in faults.items():
        if names:
            raise CompetitionError(
                f"{sample.path}: expected the id and a column for each class of "
                f"{labels_file.name}, found {len(names)} of them with {fault} {examples(names)}. "
                "Set prepare.labels or prepare.sample_submission in params.yaml to the right file"
            )
