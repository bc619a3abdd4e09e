"""Which file of the raw folder is the sample submission, the labels, the groups, the images.

A CSV with a column `Usage`, or whose name begins with `solution`, is a solution and never a
candidate for anything. `auto` means, in this order:

1. `prepare.sample_submission`: the only CSV whose name contains both "sample" and "submission",
   in any case and with any separators. Its first column is the id. Either one more follows, the
   label column; or one for each class, named like the class, in any order.
2. `prepare.labels`: the only other CSV that has both the id and the label column; it may have
   more. One that is set by name may have other column names: if it has exactly two columns, the
   first is the id and the second the label. If the sample submission has one column per class,
   the labels file is the only other CSV that has the id column and either the same columns, with 0
   and 1 in them, or a label column that holds exactly these classes.
3. `prepare.groups.file`: the only remaining CSV of exactly two columns, one of which is the id
   column (the sample submission's or the labels file's); the other is the group. In one that is
   set by name the first is the id, if neither column has the id's name. It covers each labelled
   id; it may also have ids of the sample submission.
4. `prepare.train_images`, `prepare.test_images`: the only zip whose name contains "train", or
   "test", in any case. `bundle.zip/folder` is a folder inside a zip.

No candidate, or several, is an error that lists what was found and names the parameter to set:
nothing is guessed.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pipeline.core.errors import CompetitionError, examples
from pipeline.core.tables import read_csv


@dataclass(frozen=True)
class RawFolder:
    """The CSVs that are no solution, each with its columns, and the zips; sorted by name."""

    path: Path
    csvs: dict[str, list[str]]
    zips: list[str]

    @classmethod
    def of(cls, path: Path) -> Self:
        """List a folder. Raises CompetitionError on a missing folder or an invalid CSV."""
        if not path.is_dir():
            raise CompetitionError(f"{path}: no such folder. Run: dvc repro download")
        names = sorted(file.name for file in path.iterdir())  # a broken link is named, too
        csvs = [name for name in names if is_csv(path / name) and not is_solution(path / name)]
        zips = [name for name in names if is_zip(path / name)]
        return cls(path, {name: csv_columns(path / name) for name in csvs}, zips)

    # Each of the following raises CompetitionError unless exactly one file fits.

    def sample_submission(self, value: str) -> Path:
        letters = {name: re.sub(r"[^a-z0-9]", "", name.lower()) for name in self.csvs}
        candidates = [n for n in letters if "sample" in letters[n] and "submission" in letters[n]]
        rule = 'a CSV whose name contains "sample" and "submission"'
        return self._choose("prepare.sample_submission", value, self._described(), candidates, rule)

    def labels(self, value: str, sample: Path, columns: list[str]) -> Path:
        """columns: the sample submission's."""
        rest = self._described(sample)
        id_column, *classes = columns
        if len(classes) == 1:
            candidates = [name for name in rest if set(columns) <= set(self.csvs[name])]
            rule = f"a CSV beside {sample.name} with its columns {columns}"
        else:
            with_id = [name for name in rest if id_column in self.csvs[name]]
            candidates = [name for name in with_id if set(classes) <= set(self.csvs[name])]
            candidates += [n for n in with_id if find_class_columns(self.path / n, classes)]
            rule = (
                f"a CSV beside {sample.name} with its column {id_column} and one of the "
                f"{len(classes)} classes that its other columns name {examples(classes)} (or, if "
                "these are no classes, set prepare.sample_submission to another file)"
            )
        return self._choose("prepare.labels", value, rest, candidates, rule)

    def groups(self, value: str, sample: Path, labels: Path, id_columns: list[str]) -> Path:
        rest = self._described(sample, labels)
        pairs = [name for name in rest if len(self.csvs[name]) == 2]
        candidates = [name for name in pairs if set(id_columns) & set(self.csvs[name])]
        rule = (
            f"a CSV beside {sample.name} and {labels.name} with two columns, one of them "
            f"{' or '.join(dict.fromkeys(id_columns))} (or set prepare.groups to {{source: none}})"
        )
        return self._choose("prepare.groups.file", value, rest, candidates, rule)

    def images(self, value: str, split: Literal["train", "test"]) -> tuple[Path, str]:
        """Choose the zip and the folder in it."""
        name, _, inside = value.partition("/")
        candidates = [zip_name for zip_name in self.zips if split in zip_name.lower()]
        rule = f'a zip whose name contains "{split}" (or name a folder in a zip: NAME.zip/FOLDER)'
        found = {zip_name: zip_name for zip_name in self.zips}
        return self._choose(f"prepare.{split}_images", name, found, candidates, rule), inside

    def _described(self, *taken: Path) -> dict[str, str]:
        rest = {name: self.csvs[name] for name in self.csvs if self.path / name not in taken}
        return {name: f"{name} ({', '.join(columns)})" for name, columns in rest.items()}

    def _choose(
        self, parameter: str, value: str, found: dict[str, str], candidates: list[str], rule: str
    ) -> Path:
        if value in found:
            return self.path / value
        listed = ", ".join(found.values()) or "no file of that kind"
        if value != "auto":
            raise CompetitionError(
                f"{self.path}: {parameter} names {value}, which is not one of the files to choose "
                f"from: {listed}. Set {parameter} in params.yaml to one of them, or to auto"
            )
        if len(candidates) != 1:
            several = ", ".join(found[name] for name in candidates)
            what = f"{len(candidates)}: {several}" if candidates else f"none among: {listed}"
            raise CompetitionError(
                f"{self.path}: expected exactly one candidate for {parameter}, {rule}; found "
                f"{what}. Set {parameter} in params.yaml to a file's name"
            )
        return self.path / candidates[0]


def find_class_columns(path: Path, classes: list[str]) -> list[str]:
    """The columns of a CSV whose values are exactly the classes. Raises TableError."""
    table = read_csv(path)
    return [name for name in table.columns if set(table[name]) == set(classes)]


def is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


def is_solution(path: Path) -> bool:
    """Whether a CSV holds the answers: named solution….csv, or with a column `Usage`."""
    return path.name.lower().startswith("solution") or "Usage" in csv_columns(path)


def csv_columns(path: Path) -> list[str]:
    """The first line of a CSV. Raises CompetitionError where it cannot be parsed."""
    # Another encoding is an error only in the files that are chosen: tables.read_csv.
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            return next(csv.reader(file), [])
        except csv.Error as error:
            raise CompetitionError(
                f"{path}: expected a CSV, found an invalid first line: {error}. "
                "Repair the file or remove it from the folder"
            ) from error
