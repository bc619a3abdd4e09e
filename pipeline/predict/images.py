"""Images that no table knows: of a folder or a zip, decoded batch by batch as `prepare` does.

Their ids are file names, with the suffix where the competition's ids have one and without it
where they have none. Where that gives two images one id, all ids are paths relative to the folder
or in the zip, with the suffix: no image takes another's place.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from pipeline.core.errors import ArchiveError, ImageError, examples
from pipeline.core.shapes import Images
from pipeline.core.tables import first_repeated
from pipeline.prepare.config import PrepareConfig
from pipeline.prepare.decode import Decoded, decode_image
from pipeline.prepare.store import MOST_THREADS
from pipeline.raw.archive import IMAGE_SUFFIXES, MOST_MEMBER_BYTES, ImageArchive, file_name
from pipeline.raw.roles import is_zip


class ImageFolder:
    """The images of a folder and everything below, with the surface of an ImageArchive.

    members: paths relative to the folder, a folder's files before its folders, each by name.
    ignored: the other files and links to folders, to report. Neither holds hidden files and
    folders and `__MACOSX`.
    """

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self.members: list[str] = []
        self.ignored: list[str] = []
        self._path = path
        for root, folders, files in os.walk(path, onerror=_raise):
            links = [name for name in folders if (Path(root) / name).is_symlink()]
            folders[:] = sorted(set(filter(_is_wanted, folders)) - set(links))
            for name in sorted(filter(_is_wanted, [*files, *links])):
                file = Path(root) / name
                is_image = file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
                member = file.relative_to(path).as_posix()
                (self.members if is_image else self.ignored).append(member)

    def read(self, member: str) -> bytes:
        """A file's bytes. Raises ImageError where it cannot be read, or is no single image."""
        file = self._path / member
        try:
            if file.stat().st_size > MOST_MEMBER_BYTES:
                raise ImageError(f"above {MOST_MEMBER_BYTES:,} bytes")
            return file.read_bytes()
        except OSError as error:
            raise ImageError(f"cannot be read ({error.strerror})") from error

    def __enter__(self) -> "ImageFolder":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class Broken:
    """An image that cannot be scored, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """Images in the order of their files. Ids and rows of pixels run along."""

    image_ids: list[str]
    pixels: Images
    broken: list[Broken]


def open_images(source: Path) -> ImageFolder | ImageArchive:
    """The images of a folder, a zip, or a folder inside a zip (NAME.zip/FOLDER).

    Raises ImageError where there are none, ArchiveError on a zip as ImageArchive does.
    """
    opened = _open(source)
    if opened.members:
        return opened
    found = "nothing at all"
    if opened.ignored:
        found = f"{len(opened.ignored)} other files {examples(opened.ignored)}"
    raise ImageError(
        f"{opened.place}: expected images ({' '.join(IMAGE_SUFFIXES)}), found {found}. "
        "Name a folder, a zip, or NAME.zip/FOLDER"
    )


def have_suffix(image_ids: list[str]) -> bool:
    """Whether all ids of a competition end as an image's file name does."""
    return all(PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES for name in image_ids)


def name_images(members: list[str], with_suffix: bool) -> list[str]:
    """An id for each image, all different: file names, or else paths (see above).

    Raises ImageError for names that no CSV can hold, since they are not UTF-8.
    """
    foreign = [member for member in members if not _is_utf8(member)]
    if foreign:
        raise ImageError(
            f"expected file names in UTF-8, found {len(foreign)} of {len(members)} otherwise "
            f"{examples([ascii(member) for member in foreign])}. Rename them"
        )
    names = [PurePosixPath(file_name(member)) for member in members]
    ids = [name.name if with_suffix else name.stem for name in names]
    return ids if not first_repeated(ids) else list(members)


def decode_batches(
    images: ImageFolder | ImageArchive,
    members: list[str],
    image_ids: list[str],
    config: PrepareConfig,
    size: int,
) -> Iterator[Batch]:
    """Batches of up to `size` images, in order, the next one being decoded meanwhile.

    Memory holds two batches, whatever the number of images. An image that cannot be read or
    decoded stops nothing: it is in its batch's `broken`.
    """

    def decode(member: str) -> Decoded | Broken:
        try:
            encoded = images.read(member)
            return decode_image(encoded, config.size_px, config.fit, config.max_side_px)
        except (ImageError, ArchiveError) as error:
            return Broken(member, str(error))

    named = list(zip(members, image_ids, strict=True))
    chunks = [named[start : start + size] for start in range(0, len(named), size)]
    threads = min(MOST_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        try:
            ahead = pool.map(decode, [member for member, _ in chunks[0]] if chunks else [])
            for place, chunk in enumerate(chunks):
                decoded = list(ahead)
                following = chunks[place + 1] if place + 1 < len(chunks) else []
                ahead = pool.map(decode, [member for member, _ in following])
                yield _gather(chunk, decoded, config.size_px)
        finally:
            pool.shutdown(cancel_futures=True)


def _gather(chunk: list[tuple[str, str]], decoded: list[Decoded | Broken], size_px: int) -> Batch:
    whole = [
        (image_id, found.pixels)
        for (_, image_id), found in zip(chunk, decoded, strict=True)
        if isinstance(found, Decoded)
    ]
    pixels = np.empty((len(whole), size_px, size_px, 3), np.uint8)
    for row, (_, image) in enumerate(whole):
        pixels[row] = image
    return Batch(
        [image_id for image_id, _ in whole],
        pixels,
        [found for found in decoded if isinstance(found, Broken)],
    )


def _open(source: Path) -> ImageFolder | ImageArchive:
    if source.is_dir():
        return ImageFolder(source)
    for zipped in (source, *source.parents):
        if is_zip(zipped) and zipped.is_file():
            return ImageArchive(zipped, source.relative_to(zipped).as_posix())
    if source.is_file():
        return ImageArchive(source)  # which says what it is
    raise ImageError(
        f"{source}: expected a folder of images or a zip, found no such file or folder"
    )


def _is_wanted(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _raise(error: OSError) -> None:
    raise error
