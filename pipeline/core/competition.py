"""data/store/competition.json: the competition's columns and task, for all later stages."""

from pathlib import Path

from pipeline.core.record import Record, read_record
from pipeline.core.task import Task


class Competition(Record):
    """What every later stage knows of the competition.

    id_column, label_column: of the sample submission.
    """

    id_column: str
    label_column: str
    task: Task


def read_competition(path: Path) -> Competition:
    """What `prepare` wrote. Raises TableError where it is missing or in another shape."""
    return read_record(path, Competition, "prepare")
