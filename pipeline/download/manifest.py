"""data/hidden/MANIFEST.json: the files of data/raw and data/hidden, and where they came from.

It has no time stamps: the same files from the same source give the same bytes.
"""

from pathlib import Path

from pipeline.core.files import sha256_of
from pipeline.core.record import Count, Record
from pipeline.download.config import DownloadConfig

MANIFEST = "MANIFEST.json"


class FileFacts(Record):
    """One file of a folder. name: its path in it, with slashes. sha256: hexadecimal."""

    name: str
    bytes: Count
    sha256: str


class Manifest(Record):
    """MANIFEST.json. source: the section `download`. raw, hidden: the folders' files, by name."""

    source: DownloadConfig
    raw: list[FileFacts]
    hidden: list[FileFacts]


def describe(folder: Path) -> list[FileFacts]:
    """The files of a folder, at any depth."""
    return [
        FileFacts(
            name=path.relative_to(folder).as_posix(),
            bytes=path.stat().st_size,
            sha256=sha256_of(path),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
