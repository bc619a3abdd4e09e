"""The file for Kaggle: exactly the sample submission's columns, ids and order.

    the metric scores    the sample has the id and           a row holds
    labels               one column                          the label
    probabilities        one column, of two classes          the second class's probability
    probabilities        one column per class, in any order  the probability of each

Every other combination is an error. A submission that Kaggle refuses for its format still counts
towards the day's limit, so everything that Kaggle checks, and the order, is checked here first.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray

from pipeline.core.errors import SubmissionError, examples
from pipeline.core.shapes import Labels, Probabilities
from pipeline.core.tables import SUM_OFF, class_indices, first_repeated, read_csv, write_table
from pipeline.scoring.card import Holds
from pipeline.scoring.metrics import Metric

_NUMBER = r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"


@dataclass(frozen=True)
class Form:
    """What a submission must look like."""

    sample: Path
    columns: list[str]
    """The sample's columns: the id first."""
    ids: list[str]
    """The ids, in the sample's order."""
    classes: list[str]
    """The classes in the order of the probabilities, which may differ from the columns'."""
    holds: Holds


@dataclass(frozen=True)
class Submitted:
    """What a submission says about each row, in the order of the form's ids."""

    probabilities: Probabilities
    """1 for a submitted label."""
    predicted: Labels
    """The submitted label, or the most probable class."""


def read_form(sample: Path, metric: Metric, classes: list[str]) -> Form:
    """The form that the sample submission and the metric ask for.

    Raises SubmissionError where the sample's columns cannot hold what the metric scores.
    """
    template = read_csv(sample)
    columns = list(template.columns)
    holds = _choose_content(sample, columns, metric, classes)
    return Form(sample, columns, list(template[columns[0]]), classes, holds)


def require_order(form: Form, metric: Metric, ordered: bool) -> None:
    """Raise SubmissionError where the order of the classes counts and nothing says it.

    ordered: whether the order of form.classes means something (core/competition.py).
    """
    reasons = {
        f"the metric {metric.name} depends on it": metric.needs_order,
        f"{form.sample} asks for the probability of one of them": form.holds == "probability",
    }
    for reason, counts in reasons.items():
        if counts and not ordered:
            raise SubmissionError(
                f"params.yaml: prepare.classes: expected the classes in their order, since "
                f"{reason}; found words, whose order nothing says: {', '.join(form.classes)}. Set "
                f"prepare.classes to [{', '.join(form.classes)}] or to another order, of two "
                "classes the positive one last"
            )


def _choose_content(sample: Path, columns: list[str], metric: Metric, classes: list[str]) -> Holds:
    named = f"params.yaml: ensemble.metric: {metric.name} scores {metric.needs}"
    if len(columns) == 2:
        if metric.needs == "labels":
            return "labels"
        if len(classes) == 2:
            return "probability"
        raise SubmissionError(
            f"{sample}: expected a column for each of the {len(classes)} classes "
            f"{examples(classes)}, since {named}; found the columns {columns}, which hold one "
            "number a row. Set ensemble.metric to one that scores labels, or "
            "prepare.sample_submission to a file with those columns"
        )
    if sorted(columns[1:]) != sorted(classes):
        raise SubmissionError(
            f"{sample}: expected the id and one column, or one for each class {classes}, found "
            f"{columns}. Set prepare.sample_submission in params.yaml to the right file"
        )
    if metric.needs == "labels":
        raise SubmissionError(
            f"{named}, but {sample} has a column for each class: expected a metric that scores "
            "probabilities (log_loss, macro_roc_auc; with two classes roc_auc)"
        )
    return "probabilities"


def write_submission(
    path: Path,
    form: Form,
    image_ids: list[str],
    probabilities: Probabilities,
    predicted: Labels,
) -> None:
    """Write predictions by id in the sample's columns and order, then read them back and check.

    Probabilities have 9 significant digits, as in tables.write_predictions.
    """
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    if missing := [image_id for image_id in form.ids if image_id not in row_of]:
        raise SubmissionError(
            f"{path}: {len(missing)} of {len(form.ids)} test images of {form.sample} have no "
            f"prediction {examples(missing)}. Run: dvc repro"
        )
    rows = [row_of[image_id] for image_id in form.ids]
    id_column, *others = form.columns
    table = pd.DataFrame({id_column: form.ids})
    for column in others:
        if form.holds == "labels":
            table[column] = [form.classes[place] for place in predicted[rows]]
        else:
            place = form.classes.index(column) if form.holds == "probabilities" else 1
            table[column] = [f"{value:.9g}" for value in probabilities[rows, place]]
    write_table(path, table)
    read_submission(path, form)


def check_submission(path: Path, form: Form) -> dict[str, int]:
    """Count the labels, or the most probable classes, of a submission that Kaggle would accept.

    Raises SubmissionError as read_submission does.
    """
    predicted = read_submission(path, form).predicted
    counts = np.bincount(predicted, minlength=len(form.classes))
    return dict(zip(form.classes, counts.tolist(), strict=True))


def read_submission(path: Path, form: Form) -> Submitted:
    """Read and check a submission.

    Raises SubmissionError with the first mistake: other columns; ids that are missing, unknown,
    repeated or out of order; empty or unknown labels; values that are not numbers in [0, 1]; rows
    whose probabilities do not add up to 1.
    """
    if not path.is_file():
        raise SubmissionError(f"{path}: no such file. Run: dvc repro ensemble")
    found = read_csv(path)
    if list(found.columns) != form.columns:
        raise SubmissionError(
            f"{path}: expected the columns {form.columns} of the sample submission, "
            f"found {list(found.columns)}"
        )
    id_column, *others = form.columns
    _check_ids(path, list(found[id_column]), form.ids)
    if form.holds == "labels":
        unknown = ~found[others[0]].isin(form.classes).to_numpy()
        _refuse(path, found, others[0], unknown, f"one of the labels {form.classes}")
        predicted = class_indices(path, found[others[0]], form.classes)
        return Submitted(np.eye(len(form.classes))[predicted], predicted)
    values = np.stack([_parse_numbers(path, found, column) for column in others], axis=1)
    if form.holds == "probability":
        probabilities = np.hstack([1 - values, values])
    else:
        _check_sums(path, found, values)
        probabilities = values[:, [others.index(name) for name in form.classes]]
    return Submitted(probabilities, probabilities.argmax(axis=1))


def _parse_numbers(path: Path, table: pd.DataFrame, column: str) -> Float[ndarray, " rows"]:
    is_number = table[column].str.fullmatch(_NUMBER)
    values = table[column].where(is_number, "nan").to_numpy(np.float64)
    _refuse(path, table, column, ~(values <= 1), "a probability in [0, 1]")
    return values


def _refuse(
    path: Path, table: pd.DataFrame, column: str, wrong: Bool[ndarray, " rows"], expected: str
) -> None:
    """Raise SubmissionError for the first row that is wrong."""
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        place = "" if len(table.columns) == 2 else f"column {column}: "
        raise SubmissionError(
            f"{path}: line {row + 2}: {place}expected {expected}, found "
            f"{table[column].iloc[row]!r} (id {table.iloc[:, 0].iloc[row]})"
        )


def _check_sums(path: Path, table: pd.DataFrame, values: Float[ndarray, "rows columns"]) -> None:
    sums = values.sum(axis=1)
    wrong = np.flatnonzero(abs(sums - 1) > SUM_OFF)
    if len(wrong):
        row = int(wrong[0])
        raise SubmissionError(
            f"{path}: line {row + 2}: expected probabilities that add up to 1, found "
            f"{sums[row]:.6g} (id {list(table.iloc[:, 0])[row]}); {len(wrong)} of {len(sums)} rows "
            "do not"
        )


def _check_ids(path: Path, found: list[str], expected: list[str]) -> None:
    known = set(expected)
    problems = {
        "ids stand twice": first_repeated(found),
        "ids are not in the sample submission": [name for name in found if name not in known],
        "ids of the sample submission are missing": sorted(known - set(found)),
    }
    for problem, ids in problems.items():
        if ids:
            raise SubmissionError(f"{path}: {len(ids)} {problem} {examples(ids)}")
    for row, (name, wanted) in enumerate(zip(found, expected, strict=True)):
        if name != wanted:
            raise SubmissionError(
                f"{path}: line {row + 2}: expected {wanted}, by the order of the sample "
                f"submission, found {name}"
            )
