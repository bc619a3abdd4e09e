"""Archives that cannot be read in place: tars, 7z archives, and compressed files.

What is compressed is unpacked once, into numbered files: no path is made of a member's name. The
members of a tar, and of a 7z archive after that, lie one behind the other in one file, whole and
uncompressed. What archive.py refuses is refused here too, and so are links and devices; and no more
is written than an archive of that size may hold.
"""

import bz2
import gzip
import lzma
import tarfile
import time
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.core.errors import ArchiveError, CompetitionError
from pipeline.raw.archive import CHUNK_BYTES, GET_AGAIN, most_unpacked, parts_of, require_sound
from pipeline.raw.sources import LONG_AGO, DateTime, Piece

COMPRESSED: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open, ".tgz": gzip.open, ".bz2": bz2.open, ".tbz2": bz2.open, ".xz": lzma.open,
}  # fmt: skip
"""What reads a compressed file, by its suffix."""

_LATEST = 2**32
_ONLY_FILES = "files and folders alone, no links or devices"


def decompress(path: Path, place: str, suffix: str, to: Path) -> None:
    """Unpack a compressed file. Raises ArchiveError where it is damaged or a bomb."""
    most, size = most_unpacked(path.stat().st_size), 0
    with COMPRESSED[suffix](path) as packed, to.open("wb") as out:
        while True:
            try:
                chunk = packed.read(CHUNK_BYTES)
            except Exception as error:
                raise _damage(place, error) from error
            if not chunk:
                return
            size += len(chunk)
            if size > most:
                raise ArchiveError(
                    f"{place}: expected at most {most:,} bytes out of {path.stat().st_size:,}, "
                    f"found more: a bomb. {GET_AGAIN}"
                )
            out.write(chunk)


def read_tar(path: Path, place: str) -> list[Piece]:
    """The members of an uncompressed tar, in its order; they stay in it.

    Raises ArchiveError where it is damaged, cut short, ambiguous, or holds links or devices.
    """
    total = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as tar:
            members = tar.getmembers()
            end = tar.offset
        with path.open("rb") as file:
            file.seek(end)
            # tarfile takes what it cannot read for the end, which is blocks of zeros.
            if end == total or any(
                any(chunk) for chunk in iter(lambda: file.read(CHUNK_BYTES), b"")
            ):
                raise tarfile.ReadError(f"no member and no end at byte {end:,}")
    except Exception as error:
        raise _damage(place, error) from error
    files = [each for each in members if not each.isdir()]
    irregular = [each.name for each in files if not each.isreg() or each.issparse()]
    sizes = [(each.name, each.size, total) for each in files]
    require_sound(place, sizes, total, {_ONLY_FILES: irregular})
    return [
        Piece("/".join(parts_of(each.name)), path, each.offset_data, each.size, _utc(each.mtime))
        for each in files
    ]


def require_seven_zip(place: str) -> None:
    """Raise CompetitionError where the package that reads .7z archives is missing."""
    if find_spec("py7zr") is None:
        raise CompetitionError(
            f"{place}: expected the package py7zr, which reads .7z archives, found none. "
            "Run: .venv/bin/python -m pip install '.[7z]'"
        )


def read_seven_zip(path: Path, place: str, to: Path, folder: Path) -> list[Piece]:
    """The members of a 7z archive, in its order, unpacked one behind the other into the file `to`.

    folder: an empty one, where no member's name leads out.
    Raises ArchiveError as read_tar does, CompetitionError as require_seven_zip does.
    """
    require_seven_zip(place)
    import py7zr  # not everyone needs it

    total = path.stat().st_size
    # An open file, since py7zr unpacks a file that it opens itself in several threads at once.
    with path.open("rb") as packed, to.open("wb") as out:
        try:
            with py7zr.SevenZipFile(packed) as archive:
                members = list(archive.files)
                files = [each for each in members if not each.is_directory]
                encrypted = [each.filename for each in files] if archive.needs_password() else []
                irregular = [each.filename for each in files if not each.is_file]
                sizes = [(each.filename, each.uncompressed, total) for each in files]
                faults = {"no encryption": encrypted, _ONLY_FILES: irregular}
                require_sound(place, sizes, total, faults)
                written = _OneFile(out, folder)
                archive.extractall(folder, factory=written)
        except ArchiveError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno:  # of our disk
                raise
            raise _damage(place, error) from error
    pieces = []
    for each in files:
        name = "/".join(parts_of(each.filename))
        start, size, crc = written.found.get(name, (0, -1, 0))
        # py7zr compares the CRC too, but may give a member the name of another one.
        if size != each.uncompressed or (each.crc32 is not None and crc != each.crc32):
            raise _damage(place, ValueError(f"another size or CRC in {name}"))
        stamp = each.lastwritetime
        moment = LONG_AGO if stamp is None else _utc(stamp.totimestamp())
        pieces.append(Piece(name, to, start, size, moment))
    return pieces


class _OneFile:
    """What py7zr writes members to, one after the other: start, size and CRC of each."""

    def __init__(self, out: BinaryIO, folder: Path) -> None:
        self.found: dict[str, tuple[int, int, int]] = {}
        self._out, self._folder, self._name = out, folder, ""

    def create(self, filename: str) -> "_OneFile":
        self._name = Path(filename).relative_to(self._folder).as_posix()
        self.found[self._name] = (self._out.tell(), 0, 0)
        return self

    def write(self, data: bytes) -> int:
        start, size, crc = self.found[self._name]
        self.found[self._name] = (start, size + len(data), zlib.crc32(data, crc))
        return self._out.write(data)

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        """All is written at the end."""

    def close(self) -> None:
        """The next member follows in the same file."""


def _utc(seconds: float) -> DateTime:
    moment = time.gmtime(min(max(int(seconds), 0), _LATEST))
    return (*moment[:5], moment[5])


def _damage(place: str, error: Exception) -> ArchiveError:
    return ArchiveError(
        f"{place}: expected a whole archive, found one that is damaged, cut short or of another "
        f"kind ({error or type(error).__name__}). {GET_AGAIN}"
    )
