"""What later stages know of the competition and its images: two records in data/store/."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.core.record import Record, read_record


class Competition(Record):
    """The columns and classes, for all later stages.

    id_column, label_column: of the sample submission. classes: as the labels file writes them, in
    the order of the probabilities. ordered: whether that order means something, as that of numbers
    does, and is not just that of words in a dictionary.
    """

    id_column: str
    label_column: str
    classes: Annotated[list[str], Field(min_length=2)]
    ordered: bool


class Decoding(Record):
    """How an image becomes a row of the store's arrays. A network must see new images made so, too:
    its weights file says the same, whatever stands in params.yaml by then.

    The fields are those of section `prepare`. Its max_side_px is a limit, and changes no pixel.
    """

    size_px: int
    fit: Literal["stretch", "pad"]
    bits: int | None


def read_decoding(path: Path) -> Decoding:
    """What `prepare` wrote. Raises TableError where it is missing or in another shape."""
    return read_record(path, Decoding, "prepare")


def read_competition(path: Path) -> Competition:
    """What `prepare` wrote. Raises TableError where it is missing or in another shape."""
    return read_record(path, Competition, "prepare")
