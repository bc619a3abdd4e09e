"""data/store/competition.json: the competition's columns and classes, for all later stages."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.core.record import Record, read_record


class Competition(Record):
    """What every later stage knows of the competition.

    id_column, label_column: of the sample submission. classes: as the labels file writes them, in
    the order of the probabilities. ordered: whether that order means something, as that of numbers
    does, and is not just that of words in a dictionary.
    """

    id_column: str
    label_column: str
    classes: Annotated[list[str], Field(min_length=2)]
    ordered: bool


def read_competition(path: Path) -> Competition:
    """What `prepare` wrote. Raises TableError where it is missing or in another shape."""
    return read_record(path, Competition, "prepare")
