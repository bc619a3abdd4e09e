"""The ids to predict, from the sample submission or, where there is none, from the test images."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.core.errors import CompetitionError, require
from pipeline.core.tables import first_repeated
from pipeline.prepare.tables import Table

ID, LABEL = "id", "label"
"""The columns of a submission where no sample says otherwise."""


@dataclass(frozen=True)
class Sample:
    """The sample submission.

    id_column: None where its rows are the test rows in order; ids are then their numbers from 1 on.
    values: the label column's; those of the first class where there are several.
    """

    place: Path
    table: pd.DataFrame
    id_column: str | None
    label_columns: list[str]
    ids: list[str]
    values: list[str]

    @property
    def columns(self) -> list[str]:
        """The id's, if there is one, and then the label's or one for each class."""
        return list(self.table.columns)


def read_sample(table: Table, without_ids: bool) -> Sample:
    """without_ids: whether a single column may be the label's.

    Raises CompetitionError on too few columns, or an invalid or repeated id.
    """
    cells, columns = table.whole, list(table.whole.columns)
    if len(columns) == 1 and without_ids:
        ids = [str(number) for number in range(1, len(cells) + 1)]
        return Sample(table.place, cells, None, columns, ids, list(cells[columns[0]]))
    if len(columns) < 2:
        raise CompetitionError(
            f"{table.place}: expected two columns, the id and the label, or the id and one for "
            f"each class; found {len(columns)}: {columns}. If this is no sample submission, set "
            "prepare.sample_submission in params.yaml"
        )
    ids = read_values(table.place, cells, columns[0])
    remedy = (
        f"Get the file from its source again; if another column than the first, {columns[0]}, has "
        "the ids, write a copy with it in front and name that in prepare.sample_submission; "
        "several rows for an id (masks, boxes) are not predicted"
    )
    once = ("each id once", first_repeated(ids), remedy)
    require(CompetitionError, table.place, f"{len(ids)} rows", once)
    return Sample(table.place, cells, columns[0], columns[1:], ids, list(cells[columns[1]]))


def no_sample(place: Path, ids: list[str], id_column: str = ID) -> Sample:
    """The columns of an id and a label, where a competition shows no sample submission."""
    table = pd.DataFrame({id_column: ids, LABEL: ""}, dtype=str)
    return Sample(place, table, id_column, [LABEL], ids, [""] * len(ids))


def read_values(place: Path, table: pd.DataFrame, column: str) -> list[str]:
    """A column's values. Raises CompetitionError on none, and on an empty or padded one."""
    values = [str(value) for value in table[column]]
    if not values:
        raise CompetitionError(
            f"{place}: expected rows, found none. Get the file from its source again"
        )
    bad = [
        f"row {row}: {value!r}"
        for row, value in enumerate(values, start=1)
        if not value or value != value.strip()
    ]
    expected = f"text without blanks around it in the column {column}"
    requirement = (expected, bad, "Repair the file at its source")
    require(CompetitionError, place, f"{len(values)} values", requirement)
    return values
