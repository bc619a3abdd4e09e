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

ensemble.form names what a row holds where this is not what the competition asks for; of one_of,
0 or 1 for each class (flags) is written only then. A sample of a single column has no ids: its rows
are the test rows, in their order. One output may be called otherwise than the sample's column.

Every other combination is an error. A submission that Kaggle refuses for its format still counts
towards the day's limit, so everything that Kaggle checks, and the order, is checked here first.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray

from pipeline.core.errors import SubmissionError, TableError, examples, named
from pipeline.core.shapes import Labels, Outputs
from pipeline.core.tables import check_ids, first_repeated, read_csv, write_table
from pipeline.core.task import SEPARATOR, SUM_OFF, AnyOf, Kind, Number, OneOf, Task
from pipeline.scoring.metric import Metric
from pipeline.scoring.names import Asked, Holds

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
    """The sample's columns: the id first, unless it is the only one."""
    ids: list[str]
    """The ids, in the sample's order; without ids the rows' numbers, from 1 on."""
    task: Task

    holds: ClassVar[Holds]
    tasks: ClassVar[tuple[Kind, ...]]
    one_column: ClassVar[bool]
    """Whether a row is one cell, and not one for each output."""

    @property
    def has_ids(self) -> bool:
        """Whether a row has an id. Without, its place tells which test row it is."""
        return len(self.columns) > 1

    @property
    def value_columns(self) -> list[str]:
        """The columns without the id's."""
        return self.columns[1:] if self.has_ids else self.columns

    @property
    def places(self) -> list[int]:
        """Of each value column the output that it holds."""
        columns, outputs = self.value_columns, self.task.outputs
        if len(columns) == len(outputs) == 1:
            return [0]
        place_of = {name: place for place, name in enumerate(outputs)}
        return [place_of[column] for column in columns]

    def check_rows(self, row_ids: list[str]) -> None:
        """Raise TableError unless the sample has the test rows, each once."""
        if self.has_ids:
            check_ids(self.sample, self.ids, row_ids)
        elif len(self.ids) != len(row_ids):
            raise TableError(
                f"{self.sample}: expected a line for each of {len(row_ids)} test rows, since it "
                f"has no ids, found {len(self.ids)}. Run: dvc repro"
            )

    def _each(self, cells: Callable[[int], list[str]]) -> dict[str, Sequence[str]]:
        """The cells of each value column, by the place of its output."""
        return {
            column: cells(place)
            for column, place in zip(self.value_columns, self.places, strict=True)
        }

    def _probabilities(self, path: Path, table: pd.DataFrame) -> Outputs:
        """Those of the value columns, in their order."""
        parsed = []
        for column in self.value_columns:
            is_number = table[column].str.fullmatch(_NUMBER)
            values = table[column].where(is_number, "nan").to_numpy(np.float64)
            self._refuse(path, table, column, ~(values <= 1), "a probability in [0, 1]")
            parsed.append(values)
        return np.stack(parsed, axis=1)

    def _refuse(
        self,
        path: Path,
        table: pd.DataFrame,
        column: str,
        wrong: Bool[ndarray, " rows"],
        expected: str,
    ) -> None:
        """Raise SubmissionError for the first row that is wrong."""
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            place = "" if len(self.value_columns) == 1 else f"column {column}: "
            which = f" (id {table.iloc[:, 0].iloc[row]})" if self.has_ids else ""
            raise SubmissionError(
                f"{path}: line {table.index[row] + 2}: {place}expected {expected}, found "
                f"{table[column].iloc[row]!r}{which}"
            )

    @abstractmethod
    def cells(self, rows: Submitted) -> dict[str, Sequence[str]]:
        """The text of each column but the id's; rows as in `ids`."""

    @abstractmethod
    def parse(self, path: Path, table: pd.DataFrame) -> Submitted:
        """What the cells say. Raises SubmissionError with the first mistake."""


class LabelForm(Form):
    """One class."""

    holds = "labels"
    tasks = ("one_of",)
    one_column = True

    def cells(self, rows: Submitted) -> dict[str, Sequence[str]]:
        return {self.value_columns[0]: self.task.decode(rows.decided)}

    def parse(self, path: Path, table: pd.DataFrame) -> Submitted:
        names, column = self.task.outputs, self.value_columns[0]
        unknown = ~table[column].isin(names).to_numpy()
        self._refuse(path, table, column, unknown, f"one of the labels {named(names)}")
        decided = self.task.encode(path, table[column])
        values = np.zeros((len(decided), len(names)))
        values[np.arange(len(decided)), decided] = 1
        return Submitted(values, decided)


class ProbabilityForm(Form):
    """The second class's probability."""

    holds = "probability"
    tasks = ("one_of",)
    one_column = True

    def cells(self, rows: Submitted) -> dict[str, Sequence[str]]:
        return {self.value_columns[0]: _digits(rows.values[:, 1])}

    def parse(self, path: Path, table: pd.DataFrame) -> Submitted:
        second = self._probabilities(path, table)
        values = np.hstack([1 - second, second])
        return Submitted(values, self.task.decide(values, None))


class _EachForm(Form):
    """A probability in each column, in any order."""

    one_column = False

    def cells(self, rows: Submitted) -> dict[str, Sequence[str]]:
        return self._each(lambda place: _digits(rows.values[:, place]))

    def parse(self, path: Path, table: pd.DataFrame) -> Submitted:
        values = self._probabilities(path, table)
        if isinstance(self.task, OneOf):
            _check_sums(path, table, values)
        values = values[:, np.argsort(self.places)]
        return Submitted(values, self.task.decide(values, None))


class ProbabilitiesForm(_EachForm):
    """The probability of each class."""

    holds = "probabilities"
    tasks = ("one_of",)


class ChancesForm(_EachForm):
    """The probability of each label, whatever the others' are."""

    holds = "chances"
    tasks = ("any_of",)


class FlagsForm(Form):
    """0 or 1 for each label, in columns of any order; of one_of a single 1."""

    holds = "flags"
    tasks = ("one_of", "any_of")
    one_column = False

    def cells(self, rows: Submitted) -> dict[str, Sequence[str]]:
        def flags(place: int) -> list[str]:
            decided = rows.decided
            has = decided == place if decided.ndim == 1 else decided[:, place]
            return [str(int(flag)) for flag in has]

        return self._each(flags)

    def parse(self, path: Path, table: pd.DataFrame) -> Submitted:
        for column in self.value_columns:
            wrong = ~table[column].isin(["0", "1"]).to_numpy()
            self._refuse(path, table, column, wrong, "0 or 1")
        flags = table[self.value_columns].to_numpy()[:, np.argsort(self.places)] == "1"
        decided: Labels = flags
        if isinstance(self.task, OneOf):
            if len(wrong := table.index[flags.sum(axis=1) != 1]):
                raise SubmissionError(
                    f"{path}: line {wrong[0] + 2}: expected a 1 for one class, else 0"
                )
            decided = np.asarray(flags.argmax(axis=1))
        return Submitted(flags.astype(np.float64), decided)


@dataclass(frozen=True)
class LabelsForm(Form):
    """All labels that hold, in one cell."""

    separator: str
    holds = "labels"
    tasks = ("any_of",)
    one_column = True

    def cells(self, rows: Submitted) -> dict[str, Sequence[str]]:
        names = self.task.outputs
        sets = [[names[place] for place in np.flatnonzero(row)] for row in rows.decided]
        return {self.value_columns[0]: [self.separator.join(each) for each in sets]}

    def parse(self, path: Path, table: pd.DataFrame) -> Submitted:
        names, column = self.task.outputs, self.value_columns[0]
        known = set(names)
        sets = [text.split(self.separator) if text else [] for text in table[column]]
        wrong = np.array([len(set(s) & known) < len(s) for s in sets])
        self._refuse(path, table, column, wrong, f"each label once, of {named(names)}")
        decided = self.task.encode(path, [SEPARATOR.join(s) for s in sets])
        return Submitted(decided.astype(np.float64), decided)


@dataclass(frozen=True)
class BestForm(Form):
    """The most probable classes in order, with blanks between."""

    best: int
    holds = "best"
    tasks = ("one_of",)
    one_column = True

    def cells(self, rows: Submitted) -> dict[str, Sequence[str]]:
        order = np.argsort(-rows.values, axis=1, kind="stable")[:, : self.best]
        return {self.value_columns[0]: [" ".join(self.task.decode(row)) for row in order]}

    def parse(self, path: Path, table: pd.DataFrame) -> Submitted:
        names, column = self.task.outputs, self.value_columns[0]
        lists, known = [text.split(" ") for text in table[column]], set(names)
        count = min(self.best, len(names))
        wrong = np.array([len(set(n) & known) != count or len(n) != count for n in lists])
        self._refuse(path, table, column, wrong, f"{count} classes with blanks between, each once")
        flat = self.task.encode(path, [name for listed in lists for name in listed])
        places = flat.reshape(-1, count)
        values = np.zeros((len(lists), len(names)))
        np.put_along_axis(values, places, 1 / np.arange(1, count + 1), axis=1)
        return Submitted(values, places[:, 0])


class NumbersForm(Form):
    """Numbers."""

    holds = "numbers"
    tasks = ("number",)
    one_column = False

    def cells(self, rows: Submitted) -> dict[str, Sequence[str]]:
        return self._each(lambda place: _digits(rows.values[:, place]))

    def parse(self, path: Path, table: pd.DataFrame) -> Submitted:
        signed = rf"[+-]?{_NUMBER}"
        for column in self.value_columns:
            wrong = ~table[column].str.fullmatch(signed).to_numpy()
            self._refuse(path, table, column, wrong, "a number")
        ordered = [self.value_columns[at] for at in np.argsort(self.places)]
        values = table[ordered].to_numpy(np.float64)
        return Submitted(values, values)


FORMS: tuple[type[Form], ...] = (
    LabelForm, LabelsForm, FlagsForm, ProbabilityForm, ProbabilitiesForm, ChancesForm, BestForm,
    NumbersForm,
)  # fmt: skip


def read_form(
    sample: Path,
    metric: Metric,
    task: Task,
    asked: Asked = "auto",
    template: pd.DataFrame | None = None,
) -> Form:
    """The form that the sample submission and the metric ask for, or the one that is named.

    Raises SubmissionError where the sample's columns cannot hold it, or its cells show another.
    """
    template = read_csv(sample) if template is None else template
    columns = list(template.columns)
    has_ids = len(columns) > 1
    ids = list(template[columns[0]]) if has_ids else [str(row + 1) for row in range(len(template))]
    place = (sample, columns, ids, task)
    values = columns[1:] if has_ids else columns
    each = sorted(values) == sorted(task.outputs)
    if len(values) == len(task.outputs) == 1:  # whatever the columns are called
        each = each or isinstance(task, Number) or metric.needs == "predictions" or asked == "flags"
    if not (len(values) == 1 or each):
        what = "number" if isinstance(task, Number) else "class"
        raise SubmissionError(
            f"{sample}: expected the id and one column, or one for each {what} "
            f"{named(task.outputs)}, found {named(columns)}. Set prepare.sample_submission in "
            "params.yaml to the right file"
        )
    cells = [] if len(values) > 1 else [cell for cell in template[values[0]] if cell]
    if asked == "auto":
        kind = _kind_of(sample, columns, metric, task, each)
        _check_cells(sample, cells, kind, metric, task)
    else:
        kind = _kind_asked(sample, columns, task, each, asked)
    if kind is LabelsForm:
        assert isinstance(task, AnyOf)
        return LabelsForm(*place, task.separator)
    if kind is BestForm:
        best = metric.best or max([len(cell.split(" ")) for cell in cells], default=1)
        return BestForm(*place, best)
    return kind(*place)


def _kind_of(
    sample: Path, columns: list[str], metric: Metric, task: Task, each: bool
) -> type[Form]:
    """What the table at the top says."""
    one_column, needs_labels = len(columns) < 3, metric.needs == "labels"
    named_metric = f"params.yaml: ensemble.metric: {metric.name}"
    if isinstance(task, Number):
        if each:
            return NumbersForm
        raise SubmissionError(f"{sample}: expected a column for each of {named(task.outputs)}")
    if isinstance(task, AnyOf):
        if each:
            return FlagsForm if needs_labels else ChancesForm
        if needs_labels:
            return LabelsForm
    elif metric.best and one_column:
        return BestForm
    elif needs_labels:
        if one_column:
            return LabelForm
        raise SubmissionError(
            f"{named_metric} scores labels, but {sample} has a column for each class: expected a "
            "metric that scores predictions (log_loss, macro_roc_auc; with two classes roc_auc), "
            "or ensemble.form probabilities or flags (0 and 1)"
        )
    elif each:
        return ProbabilitiesForm
    elif len(task.classes) == 2:
        return ProbabilityForm
    raise SubmissionError(
        f"{sample}: expected a column for each of the {len(task.outputs)} classes "
        f"{examples(task.outputs)}, since {named_metric} scores predictions; found the columns "
        f"{columns}, which hold one number a row. Set ensemble.metric to one that scores labels, "
        "ensemble.form to labels, or prepare.sample_submission to a file with those columns"
    )


def _kind_asked(
    sample: Path, columns: list[str], task: Task, each: bool, asked: Holds
) -> type[Form]:
    """The form of that name. Raises SubmissionError where task or columns are of another one."""

    def fits(form: type[Form]) -> bool:
        of_two = form is not ProbabilityForm or len(task.outputs) == 2
        shape = len(columns) < 3 if form.one_column else each
        return task.kind in form.tasks and shape and of_two

    fitting = {form.holds: form for form in FORMS if fits(form)}
    if asked not in fitting:
        raise SubmissionError(
            f"params.yaml: ensemble.form: {asked} does not fit a task of kind {task.kind} with "
            f"{len(task.outputs)} outputs and the columns {named(columns)} of {sample}; expected "
            f"auto or {' or '.join(fitting)}"
        )
    return fitting[asked]


def _check_cells(
    sample: Path, cells: list[str], kind: type[Form], metric: Metric, task: Task
) -> None:
    """Raise SubmissionError where the sample's cells show something else than the form.

    They may be of no class at all, as a placeholder: then they show nothing.
    """
    known = set(task.outputs)
    lists = [cell.split(" ") for cell in cells if cell not in known]
    listed = {len(names) for names in lists if len(names) > 1 and known.issuperset(names)}
    found, expected = "", ""
    if kind is BestForm and listed and listed != {min(metric.best, len(known))}:
        found = f"lists of {' or '.join(map(str, sorted(listed)))} classes"
        expected = f"{metric.best} of them"
    elif kind is LabelForm and listed:
        found, expected = "lists of classes", "one class"
    elif kind is LabelForm and any(map(_is_fraction, cells)) and not known & set(cells):
        found, expected = "fractions", "a label"
    elif kind is LabelForm and cells and _are_whole(cells) and not any(map(_is_number, known)):
        raise SubmissionError(
            f"{sample}: expected labels such as {task.outputs[0]!r}, found whole numbers such as "
            f"{cells[0]!r}, and only the competition's page says which class has which. Write a "
            "table of the training images and their numbers and name it in prepare.labels, or set "
            "ensemble.form to labels to submit the names"
        )
    if found:
        raise SubmissionError(
            f"{sample}: its cells are {found}, such as {cells[0]!r}, but params.yaml: "
            f"ensemble.metric: {metric.name} asks for {expected} in each. Set ensemble.metric to "
            f"the competition's (map_at_3, top_3_error; roc_auc, log_loss), or ensemble.form to "
            f"{kind.holds}, which writes {expected} all the same"
        )


def _is_number(cell: str) -> bool:
    return re.fullmatch(_NUMBER, cell) is not None


def _are_whole(cells: list[str]) -> bool:
    return all(_is_number(cell) and float(cell).is_integer() for cell in cells)


def _is_fraction(cell: str) -> bool:
    return _is_number(cell) and not float(cell).is_integer()


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
    if not form.has_ids:
        form.check_rows(image_ids)
    names = form.ids if form.has_ids else image_ids
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    if missing := [image_id for image_id in names if image_id not in row_of]:
        raise SubmissionError(
            f"{path}: {len(missing)} of {len(form.ids)} test images of {form.sample} have no "
            f"prediction {examples(missing)}. Run: dvc repro"
        )
    rows = [row_of[image_id] for image_id in names]
    cells = form.cells(Submitted(values[rows], decided[rows]))
    ids = {form.columns[0]: form.ids} if form.has_ids else {}
    write_table(path, pd.DataFrame({**ids, **cells}))
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
            f"{path}: expected the columns {named(form.columns)} of the sample submission, "
            f"found {named(list(found.columns))}"
        )
    if form.has_ids:
        _check_ids(path, list(found[form.columns[0]]), form.ids)
    elif len(found) != len(form.ids):
        raise SubmissionError(
            f"{path}: expected {len(form.ids)} rows, as the sample submission has, found "
            f"{len(found)}"
        )
    return form.parse(path, found)


def _digits(values: Float[ndarray, " rows"]) -> list[str]:
    return [f"{value:.9g}" for value in values]


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
