"""Which table is the sample submission, which has the labels, which the groups, which lists test.

A solution (a CSV with a column `Usage`, or named solution…) is never a candidate for anything.
`auto` means, in this order:

1. `prepare.sample_submission`: the only CSV whose name says so: "sample" or "example" and
   "submission", or "submission" alone, in any case and with any separators. Its first column is the
   id, unless it has one column: then the rows of the test table are meant, in order.
2. `prepare.labels`: the only other table of the first kind that there is:
   a) with all columns of the sample submission;
   b) with its id column, and one whose values are exactly the classes that its columns name;
   c) with its label column or columns, but without its ids;
   d) as b, without its ids;
   e) with its id column and one more that repeats, or a JSON of images and their categories;
   where prepare.label_column is set, with that column alone.
   Without any, the label is the folder of an image, or the beginning of its name
   (without_table.py), unless a table may have other labels of the same images.
3. `prepare.groups.file`: the only remaining table of exactly two columns, one of which is the id
   column; the other is the group, of at least 10 different ones. It covers each labelled id.

Several candidates are an error that lists them and names the parameter to set: nothing is guessed.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.core.errors import CompetitionError, TableError, named
from pipeline.prepare.labels import SEPARATORS
from pipeline.prepare.tables import CATEGORY, Table

SIGNALS = "signals, by their ids"
"""What a table of signals is, which may be those of train and of test."""

FEWEST_GROUPS = 10
"""A table of two columns that is taken for the groups unasked has at least so many."""

_GROUP_WORDS = re.compile(
    r"(?i)(^|[^a-z])(patient|subject|person|participant|individual|driver|user|owner|family|group"
    r"|speaker|singer|actor|author|recordist|bird|lesion"
    r"|site|hospital|center|centre|scanner|machine|camera|slide|case|study|series|session|visit"
    r"|recording|plate|batch|experiment|location|sequence|video|specimen|donor)s?([^a-z]|$)"
)


class Roles:
    """Chooses among the tables. Each choice raises CompetitionError unless exactly one fits."""

    def __init__(self, raw: Path, tables: dict[str, Table]) -> None:
        self.raw = raw
        self.tables = tables
        self.taken: dict[str, str] = {}
        """What each table that was chosen is, and why."""

    def sample_submissions(self) -> list[str]:
        """The tables whose names say that they are sample submissions."""
        wanted = [name for name in self.tables if says_submission(name)]
        shown = [n for n in wanted if "sample" in _letters(n) or "example" in _letters(n)]
        return shown or wanted

    def sample_submission(self, value: str) -> Table:
        rule = (
            'a CSV whose name contains "sample" and "submission" (where the competition has none: '
            "none)"
        )
        role = "sample submission, by its name"
        found = self.sample_submissions()
        return self._choose("sample_submission", value, self.tables, found, rule, role)

    def labels(self, value: str, sample: list[str], column: str) -> Table | None:
        """The labels file, None where auto finds no candidate.

        sample: its columns. column: of the labels, or auto.
        """
        rest = self._rest()
        kinds = self._kinds_of_labels(sample)
        if column != "auto":
            kinds = {f"with the column {column}": lambda table: column in table.columns}
        if value == "auto":
            for kind, fits in kinds.items():
                candidates = [name for name in rest if fits(rest[name])]
                if candidates:
                    rule = f"a table {kind}"
                    return self._choose("labels", value, rest, candidates, rule, f"labels, {kind}")
            return None
        return self._choose("labels", value, rest, [], "", "labels, as prepare.labels says")

    def keep_classes(self, classes: list[str]) -> None:
        """These columns hold labels in every table, however they are numbered."""
        self.tables = {name: table.with_classes(classes) for name, table in self.tables.items()}

    def groups(self, value: str, id_columns: list[str]) -> Table:
        rest = self._rest()
        pairs = {name: table for name, table in rest.items() if len(table.columns) == 2}
        candidates = [name for name in pairs if set(id_columns) & set(pairs[name].columns)]
        rule = (
            f"a table beside {' and '.join(self.taken)} with two columns, one of them "
            f"{' or '.join(dict.fromkeys(id_columns))} (or set prepare.groups to {{source: none}})"
        )
        table = self._choose("groups.file", value, rest, candidates, rule, "groups")
        if value == "auto":
            other = next((c for c in table.columns if c not in id_columns), table.columns[1])
            count = table.cells[other].nunique()
            if count < FEWEST_GROUPS:
                raise CompetitionError(
                    f"{table.place}: it might hold the groups, but {other} has {count} different "
                    f"values, and a guess needs {FEWEST_GROUPS}. If these are patients, slides or "
                    f"the like, set prepare.groups in params.yaml to {{source: file, file: "
                    f"{table.name}}}, else to {{source: none}}"
                )
        return table

    def test_table(self, ids: list[str], id_column: str) -> tuple[Table, str] | None:
        """A table with a column that has all ids of the sample submission, and that column.

        One that is called as the sample submission's is preferred.
        """
        wanted = set(ids)
        columns = [(name, each) for name, table in self._rest().items() for each in table.columns]
        for name, column in sorted(columns, key=lambda pair: pair[1] != id_column):
            table = self.tables[name]
            if wanted <= set(table.cells[column]):
                self.taken[name] = f"test images, by its column {column}"
                return table, column
        return None

    def beside(self, *columns: str) -> list[Table]:
        """The tables that are nothing yet, have these columns and more, and can be read."""
        found = []
        for table in self._rest().values():
            with suppress(TableError):  # a table that nobody needs may be broken
                has_more = set(columns) < set(table.columns)
                found += [table] if has_more and len(table.cells) else []
        return found

    def with_numbers(self) -> list[Table]:
        """The tables that hold signals, and are nothing else."""
        of_signals = {n: self.tables[n] for n, role in self.taken.items() if role == SIGNALS}
        return [table for table in (self._rest() | of_signals).values() if table.holds_numbers]

    def pixels_of_test(self, count: int) -> Table | None:
        """The only table with pixels and as many rows as the sample submission."""
        found = [t for t in self._rest().values() if t.pixels and len(t.pixels[0]) == count]
        if len(found) != 1:
            return None
        self.taken[found[0].name] = "test images, pixel by pixel"
        return found[0]

    def _kinds_of_labels(self, sample: list[str]) -> dict[str, Callable[[Table], bool]]:
        id_column, classes = sample[0], sample[1:]
        lower = {name.lower() for name in classes}

        def one_column_of_classes(table: Table) -> bool:
            return len(classes) > 1 and bool(class_columns(table, classes))

        def has_labels(table: Table) -> bool:
            return bool(classes) and lower <= {name.lower() for name in table.columns}

        def one_more(table: Table) -> bool:
            if CATEGORY in table.columns:
                return True
            others = [name for name in table.columns if name != id_column]
            return (
                len(classes) == 1
                and id_column in table.columns
                and len(others) == 1
                and not names_groups(others[0])
                and 1 < table.cells[others[0]].nunique() < len(table.cells)
            )

        whose = "the sample submission's"
        return {
            f"with {whose} columns {named(sample, most=5)}": lambda table: (
                set(sample) <= set(table.columns)
            ),
            f"with {whose} column {id_column} and a column of its {len(classes)} classes": (
                lambda table: id_column in table.columns and one_column_of_classes(table)
            ),
            f"with {whose} columns {named(classes, most=5)}": has_labels,
            f"with a column of {whose} {len(classes)} classes": one_column_of_classes,
            f"with {whose} column {id_column} and one more that repeats, or with the categories of "
            "images": one_more,
        }

    def _rest(self) -> dict[str, Table]:
        return {name: table for name, table in self.tables.items() if name not in self.taken}

    def _choose(
        self, parameter: str, value: str, found: dict[str, Table], candidates: list[str],
        rule: str, role: str,
    ) -> Table:  # fmt: skip
        described = {name: f"{name} ({', '.join(found[name].columns[:20])})" for name in found}
        listed = ", ".join(described.values()) or "no file of that kind"
        if value != "auto":
            of_name = [name for name in found if value in (name, Path(name).name)]
            if len(of_name) != 1:
                raise CompetitionError(
                    f"{self.raw}: prepare.{parameter} names {value}, which is not one of the files "
                    f"to choose from: {listed}. Set prepare.{parameter} in params.yaml to one of "
                    "them, or to auto"
                )
            candidates = of_name
        if len(candidates) != 1:
            several = ", ".join(described[name] for name in candidates)
            what = f"{len(candidates)}: {several}" if candidates else f"none among: {listed}"
            raise CompetitionError(
                f"{self.raw}: expected exactly one candidate for prepare.{parameter}, {rule}; "
                f"found {what}. Set prepare.{parameter} in params.yaml to a file's name"
            )
        self.taken[candidates[0]] = role
        return found[candidates[0]]


def says_submission(name: str) -> bool:
    """Whether a table's name says that it is a submission, as a sample or not."""
    return "submission" in _letters(name) or "submit" in _letters(name)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z]", "", Path(name).name.lower())


def class_columns(table: Table, classes: list[str]) -> list[str]:
    """The columns whose values, or those of the lists in their cells, are exactly the classes."""
    wanted: set[Any] = set(classes)

    def has_them(cells: set[str]) -> bool:
        return cells == wanted or any(
            set().union(*(cell.split(mark) for cell in cells)) == wanted for mark in SEPARATORS
        )

    return [name for name in table.columns if has_them(set(table.cells[name]))]


def names_groups(column: str) -> bool:
    """Whether a column's name says that it tells which images belong together."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column)  # PatientID as Patient ID
    return _GROUP_WORDS.search(spaced) is not None
