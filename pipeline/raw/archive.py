"""Images read straight from a zip: nothing is ever extracted to disk.

A zip may be damaged, or made to use up memory. So it is refused before any member is read where
its directory holds an encrypted member, a method other than stored or deflated (zipfile unpacks
bzip2 and LZMA without a bound: one chunk may grow by gigabytes), a name twice, or a bomb, or does
not account for every byte of the file (structure.py); and whatever is read is compared with its
size and CRC. A member's name is only ever compared with ids: no path is made of it, so that `..`,
absolute names and links do no harm.
"""

import zipfile
from collections import defaultdict
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from threading import Lock

from pipeline.core.errors import ArchiveError, require
from pipeline.core.progress import track
from pipeline.core.tables import first_repeated
from pipeline.raw.structure import check_structure

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".npy", ".dcm", ".dicom",
)  # fmt: skip
"""Lower case; a member's suffix may be written in any case."""

MOST_MEMBER_BYTES = 2**30
"""Unpacked. RGB of 18,900 px a side without any compression; several must fit into memory."""

MOST_RATIO = 200
"""Unpacked to packed. PNG and JPEG do not shrink again: 1.0 in all archives tried."""

RATIO_FROM_BYTES = 64 * 2**20
"""Below it the ratio is no evidence: a small black BMP deflates to a thousandth (at most 1032)."""

_ENCRYPTED = 0x1
_PACK_ANEW = "Pack the images into a plain zip: zip -r NAME.zip FOLDER"
_GET_AGAIN = "Get the file from its source again"


def check_archive(path: Path) -> None:
    """Read a whole zip once.

    Raises ArchiveError where it is missing, no zip, cut short, encrypted, a bomb, ambiguous (a
    name twice) or damaged (CRC, size).
    """
    with open_archive(path) as archive:
        members = archive.infolist()
        for info in track(members, f"checking {path.name}", len(members)):
            read_member(path, archive, info)


class ImageArchive(AbstractContextManager["ImageArchive"]):
    """The images of a zip, or of one folder in it with everything below.

    members: names of the images, as in the zip's directory and in its order. ignored: the other
    files, to report. Neither holds hidden files and folders, `__MACOSX` and `Thumbs.db`.
    place: the zip, or zip/folder, for messages.

    Raises ArchiveError as check_archive does, but without reading any member.
    """

    def __init__(self, path: Path, folder: str = "") -> None:
        below = _parts(folder)
        self.place = "/".join([str(path), *below])
        self.members: list[str] = []
        self.ignored: list[str] = []
        self._path = path
        self._lock = Lock()
        self._zip = open_archive(path)
        for info in self._zip.infolist():
            parts = _parts(info.filename)
            if info.is_dir() or not parts or parts[: len(below)] != below:
                continue
            litter = any(part.startswith(".") or part == "__MACOSX" for part in parts)
            if litter or parts[-1].lower() == "thumbs.db":
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
            return read_member(self._path, self._zip, self.entry(member))

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

        An id matches the member whose file name equals it, with or without the suffix, in
        any folder. Raises ArchiveError where two members match one id, or two ids one member.
        """
        named: dict[str, list[str]] = defaultdict(list)
        for member in self.members:
            name = PurePosixPath(file_name(member))
            named[name.name].append(member)
            named[name.stem].append(member)
        found = {image_id: named[image_id] for image_id in ids if image_id in named}
        for image_id, members in found.items():
            if len(members) > 1:
                raise ArchiveError(
                    f"{self.place}: expected one image for the id {image_id}, found "
                    f"{len(members)}: {' and '.join(members)}. Set prepare.train_images or "
                    "prepare.test_images to the right folder (NAME.zip/FOLDER), or remove one"
                )
        matches = {image_id: member for image_id, (member,) in found.items()}
        for member in first_repeated(list(matches.values())):
            owners = [image_id for image_id, matched in matches.items() if matched == member]
            raise ArchiveError(
                f"{self.place}: expected one id for the image {member}, found two: "
                f"{' and '.join(owners)}. Write all ids with the suffix, or all without"
            )
        return matches


def file_name(member: str) -> str:
    """A member's name without its folders; some Windows programs separate them by backslashes."""
    return _parts(member)[-1]


def _parts(name: str) -> list[str]:
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip, for read_member; nothing else opens one. Raises ArchiveError as ImageArchive."""
    if not path.is_file():
        raise ArchiveError(f"{path}: expected a zip, found no such file. Run: dvc repro download")
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:
        raise _damage(path, error) from error
    try:
        _check_directory(path, archive.infolist())
        with path.open("rb") as file:
            check_structure(archive, file)
    except ArchiveError:
        archive.close()
        raise
    except Exception as error:
        archive.close()
        raise _damage(path, error) from error
    return archive


def _damage(path: Path, error: Exception) -> ArchiveError:
    with path.open("rb") as file:
        start = file.read(16)
    size = f"{path.stat().st_size:,} bytes"
    problem = f"expected a zip, found {size} that begin with {start!r}"
    if start.startswith(b"PK\x03\x04"):
        problem = f"expected a whole zip, found one cut short or damaged at {size}"
    return ArchiveError(f"{path}: {problem} ({error}). {_GET_AGAIN}")


def _check_directory(path: Path, members: list[zipfile.ZipInfo]) -> None:
    readable = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
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
    names = ["/".join(_parts(info.filename)) for info in members if not info.is_dir()]
    faults = {
        "no encryption": [i.filename for i in members if i.flag_bits & _ENCRYPTED],
        "stored or deflated members": [
            i.filename for i in members if i.compress_type not in readable
        ],
        "each name once": first_repeated(names),
        f"at most {MOST_MEMBER_BYTES:,} bytes a member and at most {MOST_RATIO} times the packed "
        "size": bombs,
    }
    requirements = [(expected, broken, _PACK_ANEW) for expected, broken in faults.items()]
    require(ArchiveError, path, f"{len(members)} members", *requirements)


def read_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member's bytes; zipfile compares the CRC and returns no more than the declared size."""
    try:
        content = archive.read(info)
    except Exception as error:
        raise ArchiveError(
            f"{path}: expected {info.filename} whole, found it damaged ({error}). {_GET_AGAIN}"
        ) from error
    if len(content) != info.file_size:
        raise ArchiveError(
            f"{path}: expected {info.filename} to have the {info.file_size:,} bytes that it "
            f"declares, found {len(content):,}. {_GET_AGAIN}"
        )
    return content
