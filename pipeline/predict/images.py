"""New images in a folder or an archive, decoded batch by batch as `prepare` does.

Their ids are file names, with the suffix where the competition's ids have one and without it
where they have none. Where that would give two images the same id, all ids are paths relative to
the folder or in the archive, with the suffix.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from pipeline.core import paths
from pipeline.core.competition import ImageDecoding
from pipeline.core.errors import ArchiveError, ImageError, examples
from pipeline.core.machine import cores
from pipeline.core.shapes import Images
from pipeline.core.tables import first_repeated
from pipeline.prepare.decode import Decoded
from pipeline.prepare.pictures import Picture, Readable
from pipeline.prepare.store import MOST_THREADS
from pipeline.raw.archive import IMAGE_SUFFIXES, MOST_MEMBER_BYTES, file_name
from pipeline.raw.files import ImageFiles, RawFiles
from pipeline.raw.kinds import walk


class ImageFolder:
    """The images in a folder and below it, with the attributes and methods of ImageFiles.

    members: paths relative to the folder, a folder's files before its folders, each sorted by name.
    ignored: the other files and links to folders, to report. Hidden files, hidden folders,
    `__MACOSX` and `Thumbs.db` are in neither.
    """

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self.members: list[str] = []
        self.ignored: list[str] = []
        self._path = path
        for member, file in walk(path, through_links=False):
            is_image = file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
            (self.members if is_image else self.ignored).append(member)

    def read(self, member: str) -> bytes:
        """Read a file. Raises ImageError where it cannot be read, or is too large for one image."""
        file = self._path / member
        try:
            if file.stat().st_size > MOST_MEMBER_BYTES:
                raise ImageError(f"above {MOST_MEMBER_BYTES:,} bytes")
            return file.read_bytes()
        except OSError as error:
            raise ImageError(f"cannot be read ({error.strerror})") from error


@dataclass(frozen=True)
class BrokenImage:
    """An image that cannot be scored, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class DecodedBatch:
    """Images in the order of their files; ids and rows of pixels are parallel. notes: Decoded.notes
    of all of them.
    """

    image_ids: list[str]
    pixels: Images
    broken: list[BrokenImage]
    notes: list[str]


@contextmanager
def open_images(source: Path) -> Iterator[ImageFolder | ImageFiles]:
    """Open a folder, an archive, or a folder in one: NAME.zip/FOLDER.

    Raises ImageError on no images, or what RawFiles raises.
    """
    with ExitStack() as stack:
        opened = _open(source, stack)
        if not opened.members:
            others = f"{len(opened.ignored)} other files {examples(opened.ignored)}"
            found = others if opened.ignored else "nothing at all"
            raise ImageError(
                f"{opened.place}: expected images ({' '.join(IMAGE_SUFFIXES)}), found {found}. "
                "Name a folder, an archive, or NAME.zip/FOLDER"
            )
        yield opened


def have_suffix(image_ids: list[str]) -> bool:
    """Whether all of a competition's ids end like an image's file name."""
    return all(PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES for name in image_ids)


def name_images(members: list[str], with_suffix: bool) -> list[str]:
    """Each image's id: its file name, or else its path. Raises ImageError on names not in UTF-8."""
    foreign = [ascii(name) for name in members if name.encode(errors="ignore").decode() != name]
    if foreign:
        raise ImageError(
            f"expected file names in UTF-8, found {len(foreign)} of {len(members)} that are not "
            f"{examples(foreign)}. Rename them"
        )
    names = [PurePosixPath(file_name(member)) for member in members]
    ids = [name.name if with_suffix else name.stem for name in names]
    return ids if not first_repeated(ids) else list(members)


def decode_batches(
    images: Readable,
    pictures: list[Picture],
    image_ids: list[str],
    decoding: ImageDecoding,
    max_side_px: int,
    size: int,
) -> Iterator[DecodedBatch]:
    """Yield batches of up to `size` images, in order, while the next one is being decoded.

    Memory holds two batches, whatever the number of images. An image that cannot be read or
    decoded does not stop the others: it is in its batch's `broken`.
    """

    def read(picture: Picture) -> Decoded | BrokenImage:
        try:
            return picture.decode(images, decoding, max_side_px)[0]
        except (ImageError, ArchiveError) as error:
            return BrokenImage(picture.file, str(error))

    threads = min(MOST_THREADS, cores())
    with ThreadPoolExecutor(threads) as pool:
        try:
            ahead = pool.map(read, pictures[:size])
            for start in range(0, len(pictures), size):
                decoded = list(ahead)
                ahead = pool.map(read, pictures[start + size : start + 2 * size])
                yield _gather(image_ids[start : start + size], decoded, decoding)
        finally:
            pool.shutdown(cancel_futures=True)


def _gather(
    image_ids: list[str], decoded: list[Decoded | BrokenImage], decoding: ImageDecoding
) -> DecodedBatch:
    named = zip(image_ids, decoded, strict=True)
    good = [(image_id, each.pixels) for image_id, each in named if isinstance(each, Decoded)]
    pixels = [image for _, image in good]
    return DecodedBatch(
        [image_id for image_id, _ in good],
        np.array(pixels, np.uint8).reshape(len(good), *decoding.shape),
        [each for each in decoded if isinstance(each, BrokenImage)],
        [note for each in decoded if isinstance(each, Decoded) for note in each.notes],
    )


def _open(source: Path, stack: ExitStack) -> ImageFolder | ImageFiles:
    if source.is_dir():
        return ImageFolder(source)
    for archive in (source, *source.parents):
        if archive.is_file():  # which RawFiles says if it is no archive
            tree = stack.enter_context(RawFiles(archive, beside=paths.RAW))
            inside = source.relative_to(archive).as_posix()
            return tree.images.below(inside) if inside != "." else tree.images
    raise ImageError(
        f"{source}: expected a folder of images or an archive, found no such file or folder"
    )
