"""What the rows of a submission hold.

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
Every other combination is an error.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray

from pipeline.core.errors import SubmissionError, TableError, named
from pipeline.core.shapes import Labels, Outputs
from pipeline.core.tables import check_ids
from pipeline.core.task import SEPARATOR, SUM_OFF, Kind, OneOf, Task
from pipeline.scoring.names import Holds

NUMBER = r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
"""The pattern of a cell with a number that is not negative."""


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
        """The place of the output that each value column holds."""
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
            is_number = table[column].str.fullmatch(NUMBER)
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
        signed = rf"[+-]?{NUMBER}"
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
