"""The file for Kaggle: exactly the sample submission's columns, ids and order.

    task     metric scores  sample has the id and     a row holds           (Form.holds)
    one_of   labels         one column                the label             labels
    one_of   predictions    one column, two classes   the second's chance   probability
    one_of   predictions    a column for each class   the chance of each    probabilities
    one_of   the k best     one column                k classes in order    best
    any_of   labels         one column                its labels, or none   labels
    any_of   labels         a column for each label   0 or 1                flags
    any_of   predictions    a column for each label   the chance of each    chances
    number   predictions    a column for each number  the number            numbers

Every other combination is an error. A submission that Kaggle refuses for its format still counts
towards the day's limit, so everything that Kaggle checks, and the order, is checked here first.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray

from pipeline.core.errors import SubmissionError, examples
from pipeline.core.shapes import Labels, Outputs
from pipeline.core.tables import first_repeated, read_csv, write_table
from pipeline.core.task import SUM_OFF, AnyOf, Number, OneOf, Task
from pipeline.scoring.card import Holds
from pipeline.scoring.metric import Metric

_NUMBER = r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"


@dataclass(frozen=True)
class Submitted:
    """What a submission says about each row, in the order of the form's ids."""

    values: Outputs
    """1 for a submitted label; 1, 1/2, 1/3, … for listed classes."""
    decided: Labels


@dataclass(frozen=True)
class Form(ABC):
    """What a submission must look like."""

    sample: Path
    columns: list[str]
    """The sample's columns: the id first."""
    ids: list[str]
    """The ids, in the sample's order."""
    task: Task

    holds: ClassVar[Holds]

    @abstractmethod
    def cells(self, rows: Submitted) -> dict[str, Sequence[str]]:
        """The text of each column but the id's; rows as in `ids`."""

    @abstractmethod
    def parse(self, path: Path, table: pd.DataFrame) -> Submitted:
        """What the cells say. Raises SubmissionError with the first mistake."""


class LabelForm(Form):
    """One class."""

    holds = "labels"

    def cells(self, rows: Submitted) -> dict[str, Sequence[str]]:
        return {self.columns[1]: self.task.decode(rows.decided)}

    def parse(self, path: Path, table: pd.DataFrame) -> Submitted:
        names, column = self.task.outputs, self.columns[1]
        unknown = ~table[column].isin(names).to_numpy()
        _refuse(path, table, column, unknown, f"one of the labels {names}")
        decided = self.task.encode(path, table[column])
        return Submitted(np.eye(len(names))[decided], decided)


class ProbabilityForm(Form):
    """The second class's probability."""

    holds = "probability"

    def cells(self, rows: Submitted) -> dict[str, Sequence[str]]:
        return {self.columns[1]: _digits(rows.values[:, 1])}

    def parse(self, path: Path, table: pd.DataFrame) -> Submitted:
        second = _parse_probabilities(path, table, self.columns[1:])
        values = np.hstack([1 - second, second])
        return Submitted(values, self.task.decide(values, None))


class _EachForm(Form):
    """A probability in each column, in any order."""

    def cells(self, rows: Submitted) -> dict[str, Sequence[str]]:
        return {c: _digits(rows.values[:, self.task.outputs.index(c)]) for c in self.columns[1:]}

    def parse(self, path: Path, table: pd.DataFrame) -> Submitted:
        values = _parse_probabilities(path, table, self.columns[1:])
        if isinstance(self.task, OneOf):
            _check_sums(path, table, values)
        values = values[:, [self.columns[1:].index(name) for name in self.task.outputs]]
        return Submitted(values, self.task.decide(values, None))


class ProbabilitiesForm(_EachForm):
    """The probability of each class."""

    holds = "probabilities"


class ChancesForm(_EachForm):
    """The probability of each label, whatever the others' are."""

    holds = "chances"


class FlagsForm(Form):
    """0 or 1 for each label, in columns of any order."""

    holds = "flags"

    def cells(self, rows: Submitted) -> dict[str, Sequence[str]]:
        names = self.task.outputs
        return {c: [str(int(v)) for v in rows.decided[:, names.index(c)]] for c in self.columns[1:]}

    def parse(self, path: Path, table: pd.DataFrame) -> Submitted:
        for column in self.columns[1:]:
            _refuse(path, table, column, ~table[column].isin(["0", "1"]).to_numpy(), "0 or 1")
        decided = table[self.task.outputs].to_numpy() == "1"
        return Submitted(decided.astype(np.float64), decided)


@dataclass(frozen=True)
class LabelsForm(Form):
    """All labels that hold, in one cell."""

    separator: str
    holds = "labels"

    def cells(self, rows: Submitted) -> dict[str, Sequence[str]]:
        names = self.task.outputs
        sets = [[names[place] for place in np.flatnonzero(row)] for row in rows.decided]
        return {self.columns[1]: [self.separator.join(each) for each in sets]}

    def parse(self, path: Path, table: pd.DataFrame) -> Submitted:
        names, column = self.task.outputs, self.columns[1]
        sets = [text.split(self.separator) if text else [] for text in table[column]]
        wrong = np.array([len(set(s) & set(names)) < len(s) for s in sets])
        _refuse(path, table, column, wrong, f"each label once, of {names}")
        decided = np.array([[name in s for name in names] for s in sets])
        return Submitted(decided.astype(np.float64), decided)


@dataclass(frozen=True)
class BestForm(Form):
    """The most probable classes in order, with blanks between."""

    best: int
    holds = "best"

    def cells(self, rows: Submitted) -> dict[str, Sequence[str]]:
        order = np.argsort(-rows.values, axis=1, kind="stable")[:, : self.best]
        return {self.columns[1]: [" ".join(self.task.decode(row)) for row in order]}

    def parse(self, path: Path, table: pd.DataFrame) -> Submitted:
        names, column = self.task.outputs, self.columns[1]
        lists = [text.split(" ") for text in table[column]]
        count = min(self.best, len(names))
        wrong = np.array([len(set(n) & set(names)) != count or len(n) != count for n in lists])
        _refuse(path, table, column, wrong, f"{count} classes with blanks between, each once")
        places = np.stack([self.task.encode(path, listed) for listed in lists])
        values = np.zeros((len(lists), len(names)))
        np.put_along_axis(values, places, 1 / np.arange(1, count + 1), axis=1)
        return Submitted(values, places[:, 0])


class NumbersForm(Form):
    """Numbers."""

    holds = "numbers"

    def cells(self, rows: Submitted) -> dict[str, Sequence[str]]:
        return {c: _digits(rows.values[:, self.task.outputs.index(c)]) for c in self.columns[1:]}

    def parse(self, path: Path, table: pd.DataFrame) -> Submitted:
        signed = rf"[+-]?{_NUMBER}"
        for column in self.columns[1:]:
            wrong = ~table[column].str.fullmatch(signed).to_numpy()
            _refuse(path, table, column, wrong, "a number")
        values = table[self.task.outputs].to_numpy(np.float64)
        return Submitted(values, values)


def read_form(sample: Path, metric: Metric, task: Task) -> Form:
    """The form that the sample submission and the metric ask for.

    Raises SubmissionError where the sample's columns cannot hold what the metric scores.
    """
    template = read_csv(sample)
    columns = list(template.columns)
    place = (sample, columns, list(template[columns[0]]), task)
    named = f"params.yaml: ensemble.metric: {metric.name}"
    one_column, each = len(columns) == 2, sorted(columns[1:]) == sorted(task.outputs)
    if not (one_column or each):
        what = "number" if isinstance(task, Number) else "class"
        raise SubmissionError(
            f"{sample}: expected the id and one column, or one for each {what} {task.outputs}, "
            f"found {columns}. Set prepare.sample_submission in params.yaml to the right file"
        )
    if isinstance(task, Number):
        if each:
            return NumbersForm(*place)
        raise SubmissionError(f"{sample}: expected a column for each of {task.outputs}")
    if isinstance(task, AnyOf):
        if each:
            return (FlagsForm if metric.needs == "labels" else ChancesForm)(*place)
        if metric.needs == "labels":
            return LabelsForm(*place, task.separator)
    elif metric.best and one_column:
        return BestForm(*place, metric.best)
    elif metric.needs == "labels":
        if one_column:
            return LabelForm(*place)
        raise SubmissionError(
            f"{named} scores labels, but {sample} has a column for each class: expected a metric "
            "that scores predictions (log_loss, macro_roc_auc; with two classes roc_auc)"
        )
    elif each:
        return ProbabilitiesForm(*place)
    elif len(task.classes) == 2:
        return ProbabilityForm(*place)
    raise SubmissionError(
        f"{sample}: expected a column for each of the {len(task.outputs)} classes "
        f"{examples(task.outputs)}, since {named} scores predictions; found the columns {columns}, "
        "which hold one number a row. Set ensemble.metric to one that scores labels, or "
        "prepare.sample_submission to a file with those columns"
    )


def require_order(form: Form, metric: Metric) -> None:
    """Raise SubmissionError where the order of the classes counts and nothing says it."""
    if not isinstance(form.task, OneOf) or form.task.ordered:
        return
    reasons = {
        f"the metric {metric.name} depends on it": metric.uses_order,
        f"{form.sample} asks for the probability of one of them": form.holds == "probability",
    }
    for reason, counts in reasons.items():
        if counts:
            classes = ", ".join(form.task.classes)
            raise SubmissionError(
                f"params.yaml: prepare.classes: expected the classes in their order, since "
                f"{reason}; found words, whose order nothing says: {classes}. Set prepare.classes "
                f"to [{classes}] or to another order, of two classes the positive one last"
            )


def write_submission(
    path: Path, form: Form, image_ids: list[str], values: Outputs, decided: Labels
) -> None:
    """Write predictions by id in the sample's columns and order, then read them back and check.

    Numbers have 9 significant digits, as in tables.write_predictions.
    """
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    if missing := [image_id for image_id in form.ids if image_id not in row_of]:
        raise SubmissionError(
            f"{path}: {len(missing)} of {len(form.ids)} test images of {form.sample} have no "
            f"prediction {examples(missing)}. Run: dvc repro"
        )
    rows = [row_of[image_id] for image_id in form.ids]
    cells = form.cells(Submitted(values[rows], decided[rows]))
    write_table(path, pd.DataFrame({form.columns[0]: form.ids, **cells}))
    read_submission(path, form)


def check_submission(path: Path, form: Form) -> dict[str, int]:
    """Count the labels, or the most probable classes, of a submission that Kaggle would accept.

    Raises SubmissionError as read_submission does.
    """
    return form.task.count(read_submission(path, form).decided)


def read_submission(path: Path, form: Form) -> Submitted:
    """Read and check a submission.

    Raises SubmissionError with the first mistake: other columns; ids that are missing, unknown,
    repeated or out of order; cells that the form does not have.
    """
    if not path.is_file():
        raise SubmissionError(f"{path}: no such file. Run: dvc repro ensemble")
    found = read_csv(path)
    if list(found.columns) != form.columns:
        raise SubmissionError(
            f"{path}: expected the columns {form.columns} of the sample submission, "
            f"found {list(found.columns)}"
        )
    _check_ids(path, list(found[form.columns[0]]), form.ids)
    return form.parse(path, found)


def _digits(values: Float[ndarray, " rows"]) -> list[str]:
    return [f"{value:.9g}" for value in values]


def _parse_probabilities(path: Path, table: pd.DataFrame, columns: list[str]) -> Outputs:
    parsed = []
    for column in columns:
        is_number = table[column].str.fullmatch(_NUMBER)
        values = table[column].where(is_number, "nan").to_numpy(np.float64)
        _refuse(path, table, column, ~(values <= 1), "a probability in [0, 1]")
        parsed.append(values)
    return np.stack(parsed, axis=1)


def _refuse(
    path: Path, table: pd.DataFrame, column: str, wrong: Bool[ndarray, " rows"], expected: str
) -> None:
    """Raise SubmissionError for the first row that is wrong."""
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        place = "" if len(table.columns) == 2 else f"column {column}: "
        raise SubmissionError(
            f"{path}: line {table.index[row] + 2}: {place}expected {expected}, found "
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
