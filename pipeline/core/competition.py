"""What later stages know of the competition and its images: two records in data/store/."""

from pathlib import Path
from typing import Literal

from pipeline.core.record import Record, read_record
from pipeline.core.task import Task


class Competition(Record):
    """The columns and the task, for all later stages.

    id_column, label_column: of the sample submission, which has no ids where id_column is None.
    """

    id_column: str | None
    label_column: str
    task: Task


class Decoding(Record):
    """How an image becomes a row of the store's arrays. A network must see new images made so, too:
    its weights file says the same, whatever stands in params.yaml by then.

    size_px, fit: of section `prepare`. Its max_side_px is a limit, and changes no pixel.
    black_white: the values that become 0 and 255 in images of more than 8 bits, as found in the
    training images (prepare/levels.py); null where these have 8 bits.
    """

    size_px: int
    fit: Literal["stretch", "pad"]
    black_white: tuple[float, float] | None


def read_decoding(path: Path) -> Decoding:
    """What `prepare` wrote. Raises TableError where it is missing or in another shape."""
    return read_record(path, Decoding, "prepare")


def read_competition(path: Path) -> Competition:
    """What `prepare` wrote. Raises TableError where it is missing or in another shape."""
    return read_record(path, Competition, "prepare")
