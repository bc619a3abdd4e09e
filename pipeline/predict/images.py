"""New images or signals, decoded batch by batch as `prepare` does.

They are files in a folder or an archive; signals may also be the rows of one table or array, with
the ids of the table, or numbered from 1. The ids of files are their names, with the suffix where
the competition's ids have one and without it where they have none. Where that would give two files
the same id, all ids are paths relative to the folder or in the archive, with the suffix.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy import ndarray

from pipeline.core import paths
from pipeline.core.competition import Decoding, ImageDecoding
from pipeline.core.errors import ArchiveError, ImageError, examples
from pipeline.core.machine import cores
from pipeline.core.progress import say
from pipeline.core.tables import first_repeated
from pipeline.prepare.array_files import read_npy
from pipeline.prepare.decode import Decoded, Decoder
from pipeline.prepare.matching import is_image
from pipeline.prepare.pictures import Picture, Readable, each_a_picture
from pipeline.prepare.signals import (
    NUMBER_SUFFIXES,
    SIGNAL_SUFFIXES,
    channels_last,
    picture_of,
)
from pipeline.prepare.store import MOST_THREADS
from pipeline.prepare.tables import Table
from pipeline.raw.archive import (
    IMAGE_SUFFIXES,
    MOST_MEMBER_BYTES,
    SOUND_SUFFIXES,
    file_name,
)
from pipeline.raw.files import ARRAY, ImageFiles, RawFiles
from pipeline.raw.kinds import walk


class ImageFolder:
    """The images or signals in a folder and below it, as ImageFiles has those of an archive.

    members: paths relative to the folder, a folder's files before its folders, each sorted by name.
    ignored: the other files and links to folders, to report. Hidden files, hidden folders,
    `__MACOSX` and `Thumbs.db` are in neither.
    """

    def __init__(self, path: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> None:
        self.place = str(path)
        self.members: list[str] = []
        self.ignored: list[str] = []
        self._path = path
        for member, file in walk(path, through_links=False):
            is_image = file.suffix.lower() in suffixes and file.is_file()
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
    pixels: ndarray
    broken: list[BrokenImage]
    notes: list[str]


class _NoFiles:
    """Where rows of numbers lie, which read no file."""

    def read(self, member: str) -> bytes:
        raise ImageError(f"no file {member}")


@dataclass(frozen=True)
class NewRows:
    """What is to be scored: pictures and ids in parallel. ignored: other files, to report."""

    files: Readable
    pictures: list[Picture]
    image_ids: list[str]
    ignored: list[str]


@contextmanager
def open_rows(
    source: Path, decoding: Decoding, id_column: str, with_suffix: bool
) -> Iterator[NewRows]:
    """Open a folder, an archive, or a folder in one: NAME.zip/FOLDER; of signals also a table or
    an array of all of them.

    id_column: of a table. with_suffix: whether ids are file names with their suffix.
    Raises ImageError on no images or signals, or what RawFiles raises.
    """
    row = "image"
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES
    if not isinstance(decoding, ImageDecoding):  # tables beside sounds are none
        row, suffixes = "signal", SOUND_SUFFIXES if decoding.rate_hz else SIGNAL_SUFFIXES
        if source.is_file() and source.suffix.lower() in NUMBER_SUFFIXES:
            yield _read_whole(source, id_column)
            return
    with ExitStack() as stack:
        opened = _open(source, suffixes, stack)
        if not opened.members:
            others = f"{len(opened.ignored)} other files {examples(opened.ignored)}"
            found = others if opened.ignored else "nothing at all"
            raise ImageError(
                f"{opened.place}: expected {row}s ({' '.join(suffixes)}), found {found}. "
                "Name a folder, an archive, or NAME.zip/FOLDER"
            )
        ids = name_images(opened.members, with_suffix)
        if ids == opened.members and any("/" in name for name in ids):
            say(f"{source}: some {row}s have the same file name: their ids are their paths")
        yield NewRows(opened, each_a_picture(opened.members), ids, opened.ignored)


def _read_whole(source: Path, id_column: str) -> NewRows:
    """The rows of a table or an array of signals."""
    if source.suffix.lower() == ARRAY:
        content, _ = read_npy(source.read_bytes())
        if content.ndim not in (2, 3):
            raise ImageError(f"{source}: expected an array of signals, found {content.ndim} axes")
        arrays, ids = [channels_last(source, content)], []
    else:
        table = Table(source.name, source, source, "utf-8", signals=True)
        arrays = table.pixels
        if not arrays:
            raise ImageError(
                f"{source}: expected a column for each sample, found {examples(table.columns)}. "
                "Name a table with a signal in each row, or a folder with a file for each"
            )
        names = [id_column] if id_column in table.columns else table.columns
        ids = list(table.cells[names[0]]) if len(names) == 1 else []
        if names != [id_column] and first_repeated(ids):  # labels, say
            ids = []
    rows = range(len(arrays[0]))
    pictures: list[Picture] = [picture_of(arrays, row, source) for row in rows]
    if not ids:
        say(f"{source}: the ids are the numbers of its rows, from 1")
    return NewRows(_NoFiles(), pictures, ids or [str(row + 1) for row in rows], [])


def have_suffix(image_ids: list[str]) -> bool:
    """Whether all of a competition's ids end like the file name of an image or a signal."""
    return all(map(is_image, image_ids))


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
    decoder: Decoder,
    size: int,
) -> Iterator[DecodedBatch]:
    """Yield batches of up to `size` images, in order, while the next one is being decoded.

    Memory holds two batches, whatever the number of images. An image that cannot be read or
    decoded does not stop the others: it is in its batch's `broken`.
    """

    def read(picture: Picture) -> Decoded | BrokenImage:
        try:
            return picture.decode(images, decoder)[0]
        except (ImageError, ArchiveError) as error:
            return BrokenImage(picture.file, str(error))

    threads = min(MOST_THREADS, cores())
    with ThreadPoolExecutor(threads) as pool:
        try:
            ahead = pool.map(read, pictures[:size])
            for start in range(0, len(pictures), size):
                decoded = list(ahead)
                ahead = pool.map(read, pictures[start + size : start + 2 * size])
                yield _gather(image_ids[start : start + size], decoded, decoder.decoding)
        finally:
            pool.shutdown(cancel_futures=True)


def _gather(
    image_ids: list[str], decoded: list[Decoded | BrokenImage], decoding: Decoding
) -> DecodedBatch:
    named = zip(image_ids, decoded, strict=True)
    good = [(image_id, each.pixels) for image_id, each in named if isinstance(each, Decoded)]
    rows = [row for _, row in good]
    return DecodedBatch(
        [image_id for image_id, _ in good],
        np.array(rows, decoding.dtype).reshape(len(good), *decoding.shape),
        [each for each in decoded if isinstance(each, BrokenImage)],
        [note for each in decoded if isinstance(each, Decoded) for note in each.notes],
    )


def _open(source: Path, suffixes: tuple[str, ...], stack: ExitStack) -> ImageFolder | ImageFiles:
    if source.is_dir():
        return ImageFolder(source, suffixes)
    if source.is_file() and source.suffix.lower() in suffixes:
        raise ImageError(
            f"{source}: expected a folder or an archive, found one file. Name the folder that it "
            f"lies in: {source.parent}"
        )
    for archive in (source, *source.parents):
        if archive.is_file():  # which RawFiles says if it is no archive
            tree = stack.enter_context(RawFiles(archive, beside=paths.RAW))
            inside = source.relative_to(archive).as_posix()
            files = tree.images
            if suffixes != IMAGE_SUFFIXES:
                files = tree.signals(tree.tables if suffixes == SIGNAL_SUFFIXES else ())
            return files.below(inside) if inside != "." else files
    raise ImageError(
        f"{source}: expected a folder of {'images' if suffixes == IMAGE_SUFFIXES else 'signals'} "
        "or an archive, found no such file or folder"
    )
