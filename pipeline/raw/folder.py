"""Which file of a competition's raw folder is what, by its name and its columns.

The rule is stated in pipeline/prepare/layout.py. No candidate, or several, is an error that lists
what was found and names the parameter to set: nothing is guessed.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pipeline.core.errors import CompetitionError, examples
from pipeline.core.tables import read_csv

_AUTO = "auto"


@dataclass(frozen=True)
class RawFolder:
    """The CSVs that are no solution, each with its columns, and the zips; by name, sorted."""

    path: Path
    csvs: dict[str, list[str]]
    zips: list[str]

    @classmethod
    def of(cls, path: Path) -> Self:
        """List a folder. Raises CompetitionError where there is none, or a CSV is none."""
        if not path.is_dir():
            raise CompetitionError(f"{path}: no such folder. Run: dvc repro download")
        names = sorted(file.name for file in path.iterdir() if file.is_file())
        csvs = [name for name in names if is_csv(path / name) and not is_solution(path / name)]
        return cls(
            path,
            {name: csv_columns(path / name) for name in csvs},
            [name for name in names if is_zip(path / name)],
        )

    def sample_submission(self, value: str) -> Path:
        """Choose the sample submission. Raises CompetitionError unless exactly one fits."""
        candidates = [name for name in self.csvs if _is_sample(name)]
        rule = 'a CSV whose name contains "sample" and "submission"'
        return self._choose("prepare.sample_submission", value, self._described(), candidates, rule)

    def labels(self, value: str, sample: Path, columns: list[str]) -> Path:
        """Choose the labels file. Raises CompetitionError unless exactly one fits.

        columns: the sample submission's.
        """
        rest = self._described(sample)
        id_column, *classes = columns
        if len(classes) == 1:
            candidates = [name for name in rest if set(columns) <= set(self.csvs[name])]
            rule = f"a CSV beside {sample.name} with its columns {columns}"
        else:
            candidates = [
                name
                for name in rest
                if id_column in self.csvs[name] and find_class_columns(self.path / name, classes)
            ]
            rule = (
                f"a CSV beside {sample.name} with its column {id_column} and one of the "
                f"{len(classes)} classes that its other columns name {examples(classes)} (or, if "
                "these are no classes, set prepare.sample_submission to another file)"
            )
        return self._choose("prepare.labels", value, rest, candidates, rule)

    def groups(self, value: str, sample: Path, labels: Path, id_columns: list[str]) -> Path:
        """Choose the groups file. Raises CompetitionError unless exactly one fits."""
        rest = self._described(sample, labels)
        candidates = [
            name
            for name in rest
            if len(self.csvs[name]) == 2 and set(id_columns) & set(self.csvs[name])
        ]
        rule = (
            f"a CSV beside {sample.name} and {labels.name} with two columns, one of them "
            f"{' or '.join(dict.fromkeys(id_columns))} (or set prepare.groups to {{source: none}})"
        )
        return self._choose("prepare.groups.file", value, rest, candidates, rule)

    def images(self, value: str, split: Literal["train", "test"]) -> tuple[Path, str]:
        """Choose the zip and the folder in it. Raises CompetitionError unless exactly one fits."""
        name, _, inside = value.partition("/")
        candidates = [zip_name for zip_name in self.zips if split in zip_name.lower()]
        rule = f'a zip whose name contains "{split}" (or name a folder in a zip: NAME.zip/FOLDER)'
        found = {zip_name: zip_name for zip_name in self.zips}
        return self._choose(f"prepare.{split}_images", name, found, candidates, rule), inside

    def _described(self, *taken: Path) -> dict[str, str]:
        return {
            name: f"{name} ({', '.join(columns)})"
            for name, columns in self.csvs.items()
            if self.path / name not in taken
        }

    def _choose(
        self, parameter: str, value: str, found: dict[str, str], candidates: list[str], rule: str
    ) -> Path:
        if value in found:
            return self.path / value
        listed = ", ".join(found.values()) or "no file of that kind"
        if value != _AUTO:
            raise CompetitionError(
                f"{self.path}: {parameter} names {value}, which is none of the files to choose "
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
    """Whether a file calls itself a CSV."""
    return path.suffix.lower() == ".csv"


def is_zip(path: Path) -> bool:
    """Whether a file calls itself a zip."""
    return path.suffix.lower() == ".zip"


def is_solution(path: Path) -> bool:
    """Whether a CSV holds the answers: named solution….csv, or with a column `Usage`."""
    return path.name.lower().startswith("solution") or "Usage" in csv_columns(path)


def csv_columns(path: Path) -> list[str]:
    """The first line of a CSV. Raises CompetitionError where it is not a CSV's."""
    # A foreign encoding is an error only in the files that are chosen: tables.read_csv.
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            return next(csv.reader(file), [])
        except csv.Error as error:
            raise CompetitionError(
                f"{path}: expected a CSV, found a first line that is none: {error}. "
                "Repair the file or take it out of the folder"
            ) from error


def _is_sample(name: str) -> bool:
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    return "sample" in letters and "submission" in letters
