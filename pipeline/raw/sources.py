"""Where the bytes of a file of the tree lie: in a folder, in a zip, or in another file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from zipfile import ZipInfo

from pipeline.core.errors import ArchiveError
from pipeline.core.files import disk_errors_named
from pipeline.raw.archive import CHUNK_BYTES, MOST_MEMBER_BYTES, ImageArchive

DateTime = tuple[int, int, int, int, int, int]

LONG_AGO: DateTime = (1980, 1, 1, 0, 0, 0)
"""The time of a file that has none of its own: the earliest that a zip can have."""


class Source(Protocol):
    """A file of the tree, wherever it lies."""

    @property
    def size(self) -> int: ...
    @property
    def date_time(self) -> DateTime: ...
    def read(self) -> bytes: ...


class FileSource(Source, Protocol):
    """One that may be a table or an archive."""

    def as_file(self, new: Callable[[], Path]) -> Path:
        """A file of its own; new: the path for it, where there is none yet."""
        ...


@dataclass(frozen=True)
class Piece:
    """A member of an archive: so many bytes of a file. name: its path in the archive."""

    name: str
    file: Path
    start: int
    size: int
    date_time: DateTime

    def read(self) -> bytes:
        """The bytes; several threads may call it."""
        with self.file.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)

    def as_file(self, new: Callable[[], Path]) -> Path:
        to = new()
        with self.file.open("rb") as file, disk_errors_named(to), to.open("wb") as out:
            file.seek(self.start)
            for start in range(0, self.size, CHUNK_BYTES):
                out.write(file.read(min(CHUNK_BYTES, self.size - start)))
        return to


@dataclass(frozen=True)
class PlainFile:
    """A file that lies in the folder itself."""

    path: Path
    date_time: DateTime = LONG_AGO  # a copy of it has another time

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def read(self) -> bytes:
        try:
            if self.size > MOST_MEMBER_BYTES:
                raise ArchiveError(f"{self.path}: above {MOST_MEMBER_BYTES:,} bytes")
            return self.path.read_bytes()
        except OSError as error:
            raise ArchiveError(f"{self.path}: cannot be read ({error.strerror})") from error

    def as_file(self, new: Callable[[], Path]) -> Path:  # noqa: ARG002
        return self.path


@dataclass(frozen=True)
class ZipMember:
    """A member of a zip, which is read in place."""

    archive: ImageArchive
    info: ZipInfo

    @property
    def size(self) -> int:
        return self.info.file_size

    @property
    def date_time(self) -> DateTime:
        return self.info.date_time

    def read(self) -> bytes:
        return self.archive.read(self.info.filename)

    def as_file(self, new: Callable[[], Path]) -> Path:
        to = new()
        with disk_errors_named(to), to.open("wb") as out:
            self.archive.copy(self.info.filename, out)
        return to
