"""Images and sounds that stay where the user has them: data/raw has a record, not the files.

The record is `.linked.json`. It names the folder by its absolute path, so that it differs on
another machine: `prepare` runs once more there, with the same outputs.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import CompetitionError
from pipeline.core.files import sha256_of
from pipeline.core.progress import track
from pipeline.core.record import Count, Record, read_record, write_record
from pipeline.raw.sources import LONG_AGO, DateTime

LINKED = ".linked.json"

_THREADS = 4


class LinkedFile(Record):
    """path: in the folder, with slashes. sha256: hexadecimal."""

    path: str
    bytes: Count
    sha256: str


class Linked(Record):
    """.linked.json. folder: absolute. images: images and sounds, by path."""

    folder: str
    images: list[LinkedFile]


@dataclass(frozen=True)
class LinkedImage:
    """A file of the linked folder; whoever reads it gets the bytes that were there at first."""

    path: Path
    size: int
    sha256: str
    date_time: DateTime = LONG_AGO  # another copy of the files gives the same figures

    def read(self) -> bytes:
        """The bytes. Raises CompetitionError where they are others now, or gone."""
        try:
            found = self.path.stat().st_size
            content = self.path.read_bytes() if found == self.size else b""
        except OSError as error:
            raise _changed(self.path, f"cannot be read ({error.strerror})") from error
        if found != self.size or hashlib.sha256(content).hexdigest() != self.sha256:
            raise _changed(self.path, f"has other bytes now ({found:,} of them)")
        return content


def link_images(folder: Path, names: list[str], raw: Path) -> None:
    """Record the images and sounds of a folder in `raw`."""
    with ThreadPoolExecutor(_THREADS) as pool:
        described = pool.map(lambda name: _describe(folder, name), names)
        images = list(track(described, f"reading the files of {folder}", len(names)))
    write_record(raw / LINKED, Linked(folder=str(folder.absolute()), images=images))


def linked_images(raw: Path) -> Iterator[tuple[str, LinkedImage]]:
    """The linked files of data/raw, by their paths; none where none are linked.

    Raises CompetitionError where the folder is gone, TableError on an invalid record.
    """
    if not (raw / LINKED).exists():
        return
    linked = read_record(raw / LINKED, Linked, "download")
    folder = Path(linked.folder)
    if not folder.is_dir():
        raise CompetitionError(
            f"{folder}: expected the {len(linked.images)} files that {raw} only refers to, found "
            "no such folder. Put it back, or set download.folder in params.yaml to where it is now"
        )
    for image in linked.images:
        yield image.path, LinkedImage(folder / image.path, image.bytes, image.sha256)


def _describe(folder: Path, name: str) -> LinkedFile:
    path = folder / name
    return LinkedFile(path=name, bytes=path.stat().st_size, sha256=sha256_of(path))


def _changed(path: Path, how: str) -> CompetitionError:
    return CompetitionError(
        f"{path}: expected the file as it was when `download` looked at it, found that it {how}. "
        "Run: make run, which takes the files as they are now"
    )
