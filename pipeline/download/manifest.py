"""What a downloaded folder holds and where it came from, so that a change shows.

No time stamps: the same files from the same source give the same bytes.
"""

from pathlib import Path

from pipeline.core.files import sha256_of
from pipeline.core.record import Record, write_record
from pipeline.download.config import DownloadConfig

NAME = "MANIFEST.json"


class FileFacts(Record):
    """One file of the folder."""

    name: str
    bytes: int
    sha256: str


class Manifest(Record):
    """MANIFEST.json. source: the section `download`. files: all others, by name."""

    source: DownloadConfig
    files: list[FileFacts]


def write_manifest(folder: Path, source: DownloadConfig) -> None:
    """Write MANIFEST.json into a folder that is otherwise complete."""
    files = [
        FileFacts(name=path.name, bytes=path.stat().st_size, sha256=sha256_of(path))
        for path in sorted(folder.iterdir())
        if path.name != NAME
    ]
    write_record(folder / NAME, Manifest(source=source, files=files))
