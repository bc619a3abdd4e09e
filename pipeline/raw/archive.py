"""Images read straight from a zip: nothing is ever extracted to disk.

A zip may be damaged, or made to use up memory. So it is refused before any member is read where
its directory holds an encrypted member, a method other than stored or deflated (zipfile unpacks
bzip2 and LZMA without a bound: one chunk may grow by gigabytes), a name twice, or a bomb; and
whatever is read is compared with its size and CRC. A member's name is only ever compared with
ids: no path is made of it, so that `..`, absolute names and links do no harm.
"""

import struct
import zipfile
import zlib
from collections import defaultdict
from pathlib import Path, PurePosixPath
from threading import Lock
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

_ENCRYPTED = 0x1
# What zipfile raised on a small zip, each of its bytes changed in turn; OSError is a seek to
# before the start.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError,
    UnicodeDecodeError, OSError,
)  # fmt: skip
_PACK_ANEW = "Pack the images into a plain zip: zip -r NAME.zip FOLDER"
_GET_AGAIN = "Get the file from its source again"


def check_archive(path: Path) -> None:
    """Read a whole zip once.

    Raises ArchiveError where it is missing, no zip, cut short, encrypted, a bomb, ambiguous (a
    name twice) or damaged (CRC, size).
    """
    with _open(path) as archive:
        members = archive.infolist()
        for info in track(members, f"checking {path.name}", len(members)):
            _read(path, archive, info)


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
            return _read(self._path, self._zip, self.entry(member))

    def entry(self, member: str) -> zipfile.ZipInfo:
        """A member's entry in the zip's directory. Raises ArchiveError if it is not there."""
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
        named: dict[str, list[str]] = defaultdict(list)
        for member in self.members:
            name = PurePosixPath(file_name(member))
            named[name.name].append(member)
            named[name.stem].append(member)
        matches: dict[str, str] = {}
        owners: dict[str, str] = {}
        for image_id in ids:
            if image_id not in named:
                continue
            member, *others = named[image_id]
            if others:
                raise ArchiveError(
                    f"{self.place}: expected one image for the id {image_id}, found "
                    f"{1 + len(others)}: {' and '.join([member, *others])}. Set "
                    "prepare.train_images or prepare.test_images to the right folder "
                    "(NAME.zip/FOLDER), or remove one"
                )
            owner = owners.setdefault(member, image_id)
            if owner != image_id:
                raise ArchiveError(
                    f"{self.place}: expected one id for the image {member}, found two: {owner} "
                    f"and {image_id}. Write all ids with the suffix, or all without"
                )
            matches[image_id] = member
        return matches

    def close(self) -> None:
        """Close the file; nothing can be read any more."""
        self._zip.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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
    readable = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    faults = {
        "no encryption": [i.filename for i in members if i.flag_bits & _ENCRYPTED],
        "stored or deflated members": [
            i.filename for i in members if i.compress_type not in readable
        ],
        "each name once": first_repeated(
            ["/".join(_parts(i.filename)) for i in members if not i.is_dir()]
        ),
        f"at most {MOST_MEMBER_BYTES:,} bytes a member and at most {MOST_RATIO} times the packed "
        "size": _bombs(path, members),
    }
    for expected, broken in faults.items():
        if broken:
            raise ArchiveError(
                f"{path}: expected {expected}, found {len(broken)} of {len(members)} members "
                f"otherwise {examples(broken)}. {_PACK_ANEW}"
            )


def _bombs(path: Path, members: list[zipfile.ZipInfo]) -> list[str]:
    """The members that unpack to too many bytes, or all of them where their sum does."""
    bombs = [
        f"{info.filename}: {info.file_size:,} bytes out of {info.compress_size:,}"
        for info in members
        if info.file_size > MOST_MEMBER_BYTES
        or info.file_size > max(RATIO_FROM_BYTES, MOST_RATIO * info.compress_size)
    ]
    unpacked, packed = sum(info.file_size for info in members), path.stat().st_size
    # Many small bombs, or members that share their packed bytes.
    if not bombs and unpacked > max(MOST_MEMBER_BYTES, MOST_RATIO * packed):
        bombs = [f"all members: {unpacked:,} bytes out of {packed:,}"]
    return bombs


def _read(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member's bytes; zipfile compares the CRC and returns no more than the declared size."""
    try:
        content = archive.read(info)
    except _DAMAGE as error:
        raise ArchiveError(
            f"{path}: expected {info.filename} whole, found it damaged ({error}). {_GET_AGAIN}"
        ) from error
    if len(content) != info.file_size:
        raise ArchiveError(
            f"{path}: expected {info.filename} to have the {info.file_size:,} bytes that it "
            f"declares, found {len(content):,}. {_GET_AGAIN}"
        )
    return content


def _parts(name: str) -> list[str]:
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]


def _is_litter(parts: list[str]) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return hidden or not parts or parts[-1].lower() == "thumbs.db"
