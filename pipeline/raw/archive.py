"""Images straight out of a zip: nothing is ever extracted to disk.

Who made the archive is not known, so a zip is refused before anything is read where its
directory holds a name that would leave its folder, a link, an encrypted member, a name twice,
or a bomb; and while reading, neither the declared size nor the data is trusted: bytes are
counted in chunks and each member's CRC is verified.

Accepted are members stored or deflated. The other methods are not used for images, and
zipfile unpacks bzip2 and LZMA without a bound: one chunk of them may grow by gigabytes.
"""

import copy
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Lock
from types import TracebackType
from typing import Self

from pipeline.core.errors import ArchiveError, examples
from pipeline.core.progress import track
from pipeline.core.tables import first_repeated

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""Lower case; a member's suffix may be written in any case."""

MOST_MEMBER_BYTES = 2**30
"""Unpacked. RGB of 18,900 px a side without any compression; several must fit into memory."""

MOST_RATIO = 200
"""Unpacked to packed. PNG and JPEG do not shrink again: 1.0 in all archives tried."""

RATIO_FROM_BYTES = 64 * 2**20
"""Below it the ratio is no evidence: a small black BMP deflates to a thousandth (at most 1032)."""

_CHUNK_BYTES = 2**20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
# zipfile's, over every byte of a small zip flipped; OSError is a seek to before the start.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError,
    UnicodeDecodeError, OSError,
)  # fmt: skip
_PACK_ANEW = "Pack the images into a plain zip: zip -r NAME.zip FOLDER"
_GET_AGAIN = "Get the file from its source again"


def check_archive(path: Path) -> None:
    """Read a whole zip once.

    Raises ArchiveError where it is missing, no zip, cut short, unsafe (absolute names, `..`,
    links, encryption, a bomb), ambiguous (a name twice) or damaged (CRC, size).
    """
    with _open(path) as archive:
        members = archive.infolist()
        for info in track(members, f"checking {path.name}", len(members)):
            for _ in _chunks(path, archive, info):
                pass


@dataclass(frozen=True)
class Entry:
    """What a zip's directory says of a member.

    size: bytes, unpacked. modified: year, month, day, hour, minute, second as the packing program
    wrote them, which may be the same for all or no date at all.
    """

    size: int
    modified: tuple[int, int, int, int, int, int]


class ImageArchive:
    """The images of a zip, or of one folder in it with everything below.

    members: names of the images, as in the zip's directory and in its order; nested folders
    are fine. ignored: the other files, to report. Neither holds hidden files and folders,
    `__MACOSX` and `Thumbs.db`. place: the zip, or zip/folder, for messages.

    Raises ArchiveError as check_archive does, but without reading any member.
    """

    def __init__(self, path: Path, folder: str = "") -> None:
        below = _parts(folder)
        self.place = "/".join([str(path), *below])
        self.members: list[str] = []
        self.ignored: list[str] = []
        self._path = path
        self._lock = Lock()
        self._zip = _open(path)
        for info in self._zip.infolist():
            parts = _parts(info.filename)
            if info.is_dir() or _is_litter(parts) or parts[: len(below)] != below:
                continue
            is_image = PurePosixPath(parts[-1]).suffix.lower() in IMAGE_SUFFIXES
            (self.members if is_image else self.ignored).append(info.filename)

    def read(self, member: str) -> bytes:
        """A member's bytes, its size and CRC verified.

        Several threads may call it: one reads at a time (the 22,063 cells take 0.3 s altogether,
        decoding them is what costs). Processes need an ImageArchive each.
        Raises ArchiveError on a member that is damaged or not there.
        """
        with self._lock:
            return b"".join(_chunks(self._path, self._zip, self._info(member)))

    def entry(self, member: str) -> Entry:
        """A member's size and time, by the directory. Raises ArchiveError if it is not there."""
        info = self._info(member)
        return Entry(info.file_size, info.date_time)

    def _info(self, member: str) -> zipfile.ZipInfo:
        try:
            return self._zip.getinfo(member)
        except KeyError as error:
            raise ArchiveError(
                f"{self._path}: no member {member}. The table that names it is older than "
                "the archive. Run: dvc repro prepare"
            ) from error

    def match_ids(self, ids: list[str]) -> dict[str, str]:
        """The member of each id; ids without one are absent.

        An id matches the member whose file name equals it, with or without the suffix;
        folders are no part of it. Raises ArchiveError where two members match one id, or
        two ids one member.
        """
        named: dict[str, list[str]] = {}
        for member in self.members:
            name = PurePosixPath(file_name(member))
            named.setdefault(name.name, []).append(member)
            named.setdefault(name.stem, []).append(member)
        matches: dict[str, str] = {}
        owners: dict[str, str] = {}
        for image_id in ids:
            found = named.get(image_id, [])
            if not found:
                continue
            if len(found) > 1:
                raise ArchiveError(
                    f"{self.place}: expected one image for the id {image_id}, found "
                    f"{len(found)}: {' and '.join(found)}. Set prepare.train_images or "
                    "prepare.test_images to the right folder (NAME.zip/FOLDER), or remove one"
                )
            owner = owners.setdefault(found[0], image_id)
            if owner != image_id:
                raise ArchiveError(
                    f"{self.place}: expected one id for the image {found[0]}, found two: {owner} "
                    f"and {image_id}. Write all ids with the suffix, or all without"
                )
            matches[image_id] = found[0]
        return matches

    def close(self) -> None:
        """Close the file; reading is over."""
        self._zip.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def file_name(member: str) -> str:
    """A member's name without its folders; some Windows programs separate them by backslashes."""
    return _parts(member)[-1]


def _open(path: Path) -> zipfile.ZipFile:
    if not path.is_file():
        raise ArchiveError(f"{path}: expected a zip, found no such file. Run: dvc repro download")
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise ArchiveError(f"{path}: {_why_no_zip(path)} ({error}). {_GET_AGAIN}") from error
    try:
        _check_directory(path, archive.infolist())
    except ArchiveError:
        archive.close()
        raise
    return archive


def _why_no_zip(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(16)
    size = path.stat().st_size
    if start.startswith(b"PK\x03\x04"):
        return f"expected a whole zip, found one cut short or damaged at {size:,} bytes"
    return f"expected a zip, found {size:,} bytes that begin with {start!r}"


def _check_directory(path: Path, members: list[zipfile.ZipInfo]) -> None:
    rules: list[tuple[str, Callable[[zipfile.ZipInfo], bool]]] = [
        ("names inside the archive", lambda info: not _is_safe_name(info.orig_filename)),
        ("no links", lambda info: stat.S_ISLNK(info.external_attr >> 16)),
        ("no encryption", lambda info: bool(info.flag_bits & _ENCRYPTED)),
        ("stored or deflated members", lambda info: info.compress_type not in _METHODS),
    ]
    for expected, breaks in rules:
        if broken := [info.filename for info in members if breaks(info)]:
            raise ArchiveError(
                f"{path}: expected {expected}, found {len(broken)} of {len(members)} members "
                f"otherwise {examples(broken)}. {_PACK_ANEW}"
            )
    names = ["/".join(_parts(info.filename)) for info in members if not info.is_dir()]
    if repeated := first_repeated(names):
        raise ArchiveError(
            f"{path}: expected each name once, found {len(repeated)} twice "
            f"{examples(repeated)}. {_PACK_ANEW}"
        )
    _check_no_bomb(path, members)


def _check_no_bomb(path: Path, members: list[zipfile.ZipInfo]) -> None:
    bombs = [
        f"{info.filename}: {info.file_size:,} bytes out of {info.compress_size:,}"
        for info in members
        if info.file_size > MOST_MEMBER_BYTES
        or _explodes(info.file_size, info.compress_size, RATIO_FROM_BYTES)
    ]
    unpacked, packed = sum(info.file_size for info in members), path.stat().st_size
    # Many small bombs, or members that share their packed bytes.
    if not bombs and _explodes(unpacked, packed, MOST_MEMBER_BYTES):
        bombs = [f"all members: {unpacked:,} bytes out of {packed:,}"]
    if bombs:
        raise ArchiveError(
            f"{path}: expected at most {MOST_MEMBER_BYTES:,} bytes a member and at most "
            f"{MOST_RATIO} times the packed size, found a bomb {examples(bombs)}. {_PACK_ANEW}"
        )


def _explodes(unpacked: int, packed: int, from_bytes: int) -> bool:
    return unpacked > from_bytes and unpacked > MOST_RATIO * packed


def _chunks(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    # zipfile stops at the declared size without a word; told a larger one, it goes on to the
    # real end, where it compares the CRC, and the size is counted here.
    unbounded = copy.copy(info)
    unbounded.file_size = MOST_MEMBER_BYTES + _CHUNK_BYTES
    size = 0
    try:
        with archive.open(unbounded) as member:
            while size <= info.file_size and (chunk := member.read(_CHUNK_BYTES)):
                size += len(chunk)
                yield chunk
    except _DAMAGE as error:
        raise ArchiveError(
            f"{path}: expected {info.filename} whole, found it damaged ({error}). {_GET_AGAIN}"
        ) from error
    if size != info.file_size:
        raise ArchiveError(
            f"{path}: expected {info.filename} to have the {info.file_size:,} bytes that it "
            f"declares, found {'more' if size > info.file_size else f'{size:,}'}. {_GET_AGAIN}"
        )


def _parts(name: str) -> list[str]:
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]


def _is_safe_name(name: str) -> bool:
    absolute = name.startswith(("/", "\\")) or name[1:2] == ":"
    return bool(_parts(name)) and not absolute and ".." not in _parts(name) and "\0" not in name


def _is_litter(parts: list[str]) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return hidden or parts[-1].lower() == "thumbs.db"
