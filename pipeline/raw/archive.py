"""Images read straight from a zip: nothing is ever extracted to disk.

A zip may be damaged, or made to use up memory. So it is refused before any member is read where
its directory holds an encrypted member, a method other than stored or deflated (zipfile unpacks
bzip2 and LZMA without a bound: one chunk may grow by gigabytes), a name twice, or a bomb, or does
not account for every byte of the file (structure.py); and whatever is read is compared with its
size and CRC. A member's name is only ever compared with ids: no path is made of it, so that `..`,
absolute names and links do no harm.
"""

import os
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import BinaryIO

from pipeline.core.errors import ArchiveError, require
from pipeline.core.progress import track
from pipeline.core.tables import first_repeated
from pipeline.raw.structure import check_structure

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".npy", ".dcm", ".dicom",
)  # fmt: skip
"""Lower case; a member's suffix may be written in any case."""

SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff")
"""Lower case, too."""

ZIP_SUFFIXES = (".zip", ".npz")
"""An .npz is a zip of .npy files."""

ARCHIVE_SUFFIXES = (
    *ZIP_SUFFIXES, ".7z", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz",
)  # fmt: skip
"""Lower case, too."""

MOST_MEMBER_BYTES = 2**30
"""Unpacked. RGB of 18,900 px a side without any compression; several must fit into memory. An
archive in an archive may be larger: it is never in memory."""

MOST_RATIO = 200
"""Unpacked to packed. PNG and JPEG do not shrink again: 1.0 in all archives tried."""

RATIO_FROM_BYTES = 64 * 2**20
"""Below it the ratio is no evidence: a small black BMP deflates to a thousandth (at most 1032)."""

_ENCRYPTED = 0x1
CHUNK_BYTES = 2**20
_PACK_ANEW = "Pack the images into a plain zip: zip -r NAME.zip FOLDER"
GET_AGAIN = "Get the file from its source again"


def check_archive(path: Path) -> None:
    """Read a whole zip once.

    Raises ArchiveError where it is missing, no zip, cut short, encrypted, a bomb, ambiguous (a
    name twice) or damaged (CRC, size).
    """
    with open_archive(path) as archive, Path(os.devnull).open("wb") as nowhere:
        members = archive.infolist()
        for info in track(members, f"checking {path.name}", len(members)):
            copy_member(path, archive, info, nowhere)


class ImageArchive(AbstractContextManager["ImageArchive"]):
    """The images of a zip, or of one folder in it with everything below.

    members: names of the images, as in the zip's directory and in its order. ignored: the other
    files, to report. Neither holds hidden files and folders, `__MACOSX` and `Thumbs.db`.
    place: the zip, or zip/folder, for messages; called: the zip's own place, if not its path.

    Raises ArchiveError as check_archive does, but without reading any member.
    """

    def __init__(self, path: Path, folder: str = "", called: str | None = None) -> None:
        below = parts_of(folder)
        self._called = called or str(path)
        self.place = "/".join([self._called, *below])
        self.members: list[str] = []
        self.ignored: list[str] = []
        self._lock = Lock()
        self._zip = open_archive(path, self._called)
        for info in self._zip.infolist():
            parts = parts_of(info.filename)
            if info.is_dir() or parts[: len(below)] != below or is_litter(parts):
                continue
            is_image = PurePosixPath(parts[-1]).suffix.lower() in IMAGE_SUFFIXES
            (self.members if is_image else self.ignored).append(info.filename)

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, member: str) -> bytes:
        """A member's bytes, its size and CRC verified.

        Several threads may call it: one reads at a time (the 22,063 cells take 0.3 s altogether,
        decoding them is what costs). Processes need an ImageArchive each.
        Raises ArchiveError on a member that is damaged or not there.
        """
        with self._lock:
            return read_member(self._called, self._zip, self.entry(member))

    def copy(self, member: str, out: BinaryIO) -> None:
        """Write a member's bytes, verified as `read` does, a part at a time."""
        with self._lock:
            copy_member(self._called, self._zip, self.entry(member), out)

    def entry(self, member: str) -> zipfile.ZipInfo:
        """A member's entry in the zip's directory. Raises ArchiveError if it is not there."""
        try:
            return self._zip.getinfo(member)
        except KeyError as error:
            raise ArchiveError(
                f"{self._called}: no member {member}. The table that names it is older than "
                "the archive. Run: dvc repro prepare"
            ) from error


def file_name(member: str) -> str:
    """A member's name without its folders; some Windows programs separate them by backslashes."""
    return (parts_of(member) or [""])[-1]


def parts_of(name: str) -> list[str]:
    """The folders and the file that a member's name says, without those that lead elsewhere."""
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]


def is_litter(parts: list[str]) -> bool:
    """Whether a file is hidden, or what macOS and Windows leave in folders, or has no name."""
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return True
    return not parts or parts[-1].lower() == "thumbs.db"


def open_archive(path: Path, called: str | None = None) -> zipfile.ZipFile:
    """Open a zip, for read_member; nothing else opens one. Raises ArchiveError as ImageArchive."""
    place = called or str(path)
    if not path.is_file():
        raise ArchiveError(f"{place}: expected a zip, found no such file. Run: dvc repro download")
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:
        raise _damage(place, path, error) from error
    try:
        _check_directory(place, archive.infolist(), path.stat().st_size)
        with path.open("rb") as file:
            check_structure(archive, file)
    except ArchiveError:
        archive.close()
        raise
    except Exception as error:
        archive.close()
        raise _damage(place, path, error) from error
    return archive


def _damage(place: str, path: Path, error: Exception) -> ArchiveError:
    with path.open("rb") as file:
        start = file.read(16)
    size = f"{path.stat().st_size:,} bytes"
    problem = f"expected a zip, found {size} that begin with {start!r}"
    if start.startswith(b"PK\x03\x04"):
        problem = f"expected a whole zip, found one cut short or damaged at {size}"
    return ArchiveError(f"{place}: {problem} ({error}). {GET_AGAIN}")


def _check_directory(place: str, members: list[zipfile.ZipInfo], packed: int) -> None:
    readable = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    faults = {
        "no encryption": [i.filename for i in members if i.flag_bits & _ENCRYPTED],
        "stored or deflated members": [
            i.filename for i in members if i.compress_type not in readable
        ],
    }
    sizes = [(i.filename, i.file_size, i.compress_size) for i in members]
    require_sound(place, sizes, packed, faults)


def require_sound(
    place: str, members: list[tuple[str, int, int]], packed: int, faults: dict[str, list[str]]
) -> None:
    """Raise ArchiveError for a bomb, a name twice, or another fault of an archive's directory.

    members: the name of each, a folder's with a slash at its end; its size unpacked and packed.
    packed: the archive's size.
    """
    bombs = [
        f"{name}: {unpacked:,} bytes out of {own:,}"
        for name, unpacked, own in members
        if (unpacked > MOST_MEMBER_BYTES and not name.lower().endswith(ARCHIVE_SUFFIXES))
        or unpacked > max(RATIO_FROM_BYTES, MOST_RATIO * own)
    ]
    total = sum(unpacked for _, unpacked, _ in members)
    # Many small bombs, or members that share their packed bytes.
    if not bombs and total > most_unpacked(packed):
        bombs = [f"all members: {total:,} bytes out of {packed:,}"]
    names = ["/".join(parts_of(name)) for name, _, _ in members if not name.endswith("/")]
    faults = faults | {
        "each name once": first_repeated(names),
        f"at most {MOST_MEMBER_BYTES:,} bytes a member and at most {MOST_RATIO} times the packed "
        "size": bombs,
    }
    requirements = [(expected, broken, _PACK_ANEW) for expected, broken in faults.items()]
    require(ArchiveError, place, f"{len(members)} members", *requirements)


def most_unpacked(packed: int) -> int:
    """How many bytes may come out of so many."""
    return max(MOST_MEMBER_BYTES, MOST_RATIO * packed)


def read_member(place: Path | str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member's bytes; zipfile compares the CRC and returns no more than the declared size."""
    return b"".join(_chunks(place, archive, info))


def copy_member(
    place: Path | str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, out: BinaryIO
) -> None:
    """Write a member's bytes, verified as read_member does, a part at a time."""
    out.writelines(_chunks(place, archive, info))


def _chunks(place: Path | str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    size = 0
    try:
        with archive.open(info) as member:
            while chunk := member.read(CHUNK_BYTES):
                size += len(chunk)
                yield chunk
    except Exception as error:
        raise ArchiveError(
            f"{place}: expected {info.filename} whole, found it damaged ({error}). {GET_AGAIN}"
        ) from error
    if size != info.file_size:
        raise ArchiveError(
            f"{place}: expected {info.filename} to have the {info.file_size:,} bytes that it "
            f"declares, found {size:,}. {GET_AGAIN}"
        )
