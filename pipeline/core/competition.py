"""What later stages know of the competition and its rows: two records in data/store/."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.core.record import Record, read_record, write_record
from pipeline.core.task import Task


class Competition(Record):
    """The columns and the task, for all later stages.

    id_column, label_column: of the sample submission, which has no ids where id_column is None.
    """

    id_column: str | None
    label_column: str
    task: Task


class ImageDecoding(Record):
    """How an image becomes a row of the store's arrays: (size_px, size_px, channels), uint8.

    size_px, fit: of section `prepare`. Its max_side_px is a limit, and changes no pixel.
    channels: 3 for RGB, 1 for grey.
    black_white: the values that become 0 and 255 in images of more than 8 bits, as found in the
    training images (prepare/levels.py); null where these have 8 bits.
    """

    kind: Literal["images"] = "images"
    size_px: int
    channels: Literal[1, 3]
    fit: Literal["stretch", "pad"]
    black_white: tuple[float, float] | None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a row."""
        return self.size_px, self.size_px, self.channels

    @property
    def dtype(self) -> str:
        """NumPy's name of a row's numbers."""
        return "uint8"


class SignalDecoding(Record):
    """How a signal becomes a row of the store's arrays: (length, channels), float32.

    rate_hz: samples a second, where the files say it.
    fitted: what of a signal is made to fit where it is another: its rate (resampled), its channels
    (their mean), its length (cut or padded). Whatever is not named here has to be the same.
    """

    kind: Literal["signals"] = "signals"
    length: int
    channels: int
    rate_hz: int | None = None
    fitted: tuple[Literal["rate", "channels", "length"], ...] = Field(
        default=(), exclude_if=lambda fitted: not fitted
    )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a row."""
        return self.length, self.channels

    @property
    def dtype(self) -> str:
        """NumPy's name of a row's numbers."""
        return "float32"


Decoding = Annotated[ImageDecoding | SignalDecoding, Field(discriminator="kind")]
"""How the competition's rows become arrays. A network must see new ones made so, too: its weights
file says the same, whatever stands in params.yaml by then."""


class StoredRows(Record):
    """data/store/decoding.json."""

    rows: Decoding


def write_decoding(path: Path, decoding: Decoding) -> None:
    """Write what read_decoding reads."""
    write_record(path, StoredRows(rows=decoding))


def read_decoding(path: Path) -> Decoding:
    """What `prepare` wrote. Raises TableError where it is missing or in another shape."""
    return read_record(path, StoredRows, "prepare").rows


def read_competition(path: Path) -> Competition:
    """What `prepare` wrote. Raises TableError where it is missing or in another shape."""
    return read_record(path, Competition, "prepare")
