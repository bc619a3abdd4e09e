"""The competition's files as one tree: an archive is a folder, whatever it is packed in.

A path in the tree is `train.csv`, `train.zip/train/a.jpg`, `bundle.zip/images.zip/a.jpg`,
`train.tar.gz/a.jpg`, or `train/a.jpg` of a folder that data/raw only refers to (linked.py). Zips
and tars are read in place; what lies in an archive and must be a file of its own (a table, a zip in
a zip) or is compressed as a whole (.tar.gz, .7z) is unpacked once, into a temporary folder.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import count
from pathlib import Path, PurePosixPath

from pipeline.core.errors import ArchiveError, CompetitionError
from pipeline.core.files import disk_errors_named, temporary_folder
from pipeline.core.names import is_storable
from pipeline.raw.archive import (
    ARCHIVE_SUFFIXES,
    ZIP_SUFFIXES,
    ImageArchive,
    file_name,
    is_litter,
    parts_of,
)
from pipeline.raw.kinds import is_solution, kind_of, refuse_parts, walk
from pipeline.raw.linked import linked_images
from pipeline.raw.sources import DateTime, FileSource, PlainFile, Source, ZipMember
from pipeline.raw.unpack import COMPRESSED, decompress, read_seven_zip, read_tar

ARRAY = ".npy"

MOST_DEPTH = 3
"""Archives in archives: a competition's bundle, an archive in it, and what that holds."""


@dataclass(frozen=True)
class ImageEntry:
    """What an archive's directory says of an image; place: its number among the images."""

    bytes: int
    place: int
    date_time: DateTime


class ImageFiles:
    """Images of the tree.

    members: their paths in it; those of an archive in its directory's order. ignored: the paths of
    all other files, to report. Neither holds hidden files and folders, `__MACOSX` and `Thumbs.db`.
    place: the folder or archive, for messages.
    """

    def __init__(self, place: str, sources: dict[str, Source], ignored: list[str]) -> None:
        self.place = place
        self.members = list(sources)
        self.ignored = ignored
        self._sources = sources
        self._places = {member: number for number, member in enumerate(self.members)}

    def below(self, folder: str) -> "ImageFiles":
        """Those in a folder of the tree, which may be an archive, with everything below."""
        start = "".join(f"{part}/" for part in parts_of(folder))
        sources = {path: each for path, each in self._sources.items() if path.startswith(start)}
        ignored = [path for path in self.ignored if path.startswith(start)]
        return ImageFiles(f"{self.place}/{start}".rstrip("/"), sources, ignored)

    def read(self, member: str) -> bytes:
        """An image's bytes, verified by its archive's CRC or its hash. Several threads may call it.

        Raises ArchiveError or CompetitionError on one that is damaged, changed or not there.
        """
        return self._source(member).read()

    def entry(self, member: str) -> ImageEntry:
        """What is known of an image without reading it. Raises ArchiveError if it is not there."""
        source = self._source(member)
        return ImageEntry(source.size, self._places[member], source.date_time)

    def _source(self, member: str) -> Source:
        if member not in self._sources:
            raise ArchiveError(
                f"{self.place}: no image {member}. The table that names it is older than the "
                "files. Run: dvc repro prepare"
            )
        return self._sources[member]


class RawFiles(AbstractContextManager["RawFiles"]):
    """The files of a folder, mostly data/raw, or of one archive, as a tree.

    images: all of them. sounds: the paths of files of sound. others: those of files that are no
    image, sound, table or archive, to report.
    Raises CompetitionError where the folder, or one that it refers to, is missing, or an archive
    comes in parts; ArchiveError on an archive that is damaged, ambiguous, a bomb, or nested too
    deep, and on a .7z without the package for it.
    """

    images: ImageFiles
    sounds: list[str]
    others: list[str]

    def __init__(self, place: Path, beside: Path | None = None) -> None:
        """beside: where the temporary folder may be; by default beside `place`."""
        self.others = []
        self._place = place
        self._scratch = (beside or place).with_name("unpacked")
        self._numbers = count()
        self._images: dict[str, Source] = {}
        self._sounds: dict[str, Source] = {}
        self._tables: dict[str, FileSource] = {}
        self._ignored: list[str] = []
        self._open = ExitStack()
        try:
            if place.is_dir():
                self._add_folder()
            elif place.exists():
                self._add_archive("", PlainFile(place), 1)
            else:
                raise CompetitionError(f"{place}: no such folder. Run: dvc repro download")
            refuse_parts(place, self.others)
        except BaseException:
            self._open.close()
            raise
        self.images = ImageFiles(str(place), self._images, self._ignored)
        self.sounds = list(self._sounds)

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def signals(self, tables: Iterable[str]) -> ImageFiles:
        """The files that signals may lie in: sounds, NumPy's arrays, and those of the tables that
        are one signal each."""
        arrays = {path: one for path, one in self._images.items() if path.lower().endswith(ARRAY)}
        found = arrays | self._sounds | {path: self._tables[path] for path in tables}
        ignored = [path for path in (*self._images, *self._ignored) if path not in found]
        return ImageFiles(str(self._place), found, ignored)

    @cached_property
    def tables(self) -> dict[str, Path]:
        """A file to read for the path of each table that is no solution, uncompressed."""
        every = self._every_table
        return {path: file for path, file in every.items() if path not in self.solutions}

    @cached_property
    def solutions(self) -> list[str]:
        """The paths of the tables that hold the answers: no stage but `check` may read them."""
        return [path for path, file in self._every_table.items() if is_solution(path, file)]

    @cached_property
    def _every_table(self) -> dict[str, Path]:
        found = {}
        for path, source in self._tables.items():
            name, suffix = file_name(path), PurePosixPath(path).suffix.lower()
            packed = suffix in COMPRESSED
            file = source.as_file(self._new_file if packed else partial(self._new_file, name))
            if packed:
                file = self._decompress(file, path, suffix, name[: -len(suffix)])
            found[path] = file
        return found

    def _add_folder(self) -> None:
        for entry in sorted(self._place.iterdir()):
            nothing = entry.is_symlink() if not entry.exists() else _is_empty(entry)
            if nothing and kind_of(entry.name) != "other":
                what = "an empty folder" if entry.exists() else "a broken link"
                raise CompetitionError(f"{entry}: expected a file, found {what}. Remove it")
        for path, file in walk(self._place):
            if file.is_file():
                self._add(path, PlainFile(file), 0)
            else:
                self._ignored.append(path)
                self.others.append(path)
        for path, linked in linked_images(self._place):
            self._take(path)
            if kind_of(path) == "sound":
                self._add_sound(path, linked)
            else:
                self._images[path] = linked

    def _add(self, path: str, source: FileSource, depth: int) -> None:
        """Take a file, and what is in it if it is an archive; depth: of the archive it lies in."""
        self._take(path)
        match kind_of(path):
            case "image":
                self._images[path] = source
            case "sound":
                self._add_sound(path, source)
            case "table":
                self._tables[path] = source
                self._ignored.append(path)
            case "archive":
                self._add_archive(path, source, depth + 1)
            case "other":
                self.others.append(path)
                self._ignored.append(path)

    def _add_sound(self, path: str, source: Source) -> None:
        self._sounds[path] = source
        self._ignored.append(path)

    def _take(self, path: str) -> None:
        if path in self._images or path in self._sounds or path in self._tables:
            raise ArchiveError(
                f"{self._called(path)}: expected one file, found two: an archive beside a folder "
                "of its name? Rename one"
            )

    def _add_archive(self, path: str, source: FileSource, depth: int) -> None:
        """Take what is in an archive; path: "" for the whole tree."""
        place, start = self._called(path), f"{path}/" if path else ""
        if depth > MOST_DEPTH:
            raise ArchiveError(
                f"{place}: expected at most {MOST_DEPTH} archives in one another, found a deeper "
                "one. Unpack the outer ones by hand"
            )
        file, name = source.as_file(self._new_file), file_name(place).lower()
        if name.endswith(".7z"):
            folder = self._new_file()
            folder.mkdir()
            with disk_errors_named(folder):
                pieces = read_seven_zip(file, place, self._new_file(), folder)
        elif name.endswith(ARCHIVE_SUFFIXES) and not name.endswith(ZIP_SUFFIXES):
            suffix = PurePosixPath(name).suffix
            pieces = read_tar(
                self._decompress(file, path, suffix) if suffix in COMPRESSED else file, place
            )
        else:  # which says what it is if it is no zip
            archive = self._open.enter_context(ImageArchive(file, called=place))
            for member in (*archive.members, *archive.ignored):
                inner = start + "/".join(parts_of(member))
                self._add(inner, ZipMember(archive, archive.entry(member)), depth)
            return
        for piece in pieces:
            if not is_litter(parts_of(piece.name)):
                self._add(start + piece.name, piece, depth)

    def _called(self, path: str) -> str:
        """A path of the tree, for messages."""
        return f"{self._place}/{path}" if path else str(self._place)

    def _decompress(self, file: Path, path: str, suffix: str, name: str = "") -> Path:
        to = self._new_file(name)
        with disk_errors_named(to):
            decompress(file, self._called(path), suffix, to)
        return to

    def _new_file(self, name: str = "") -> Path:
        """The path of the next unpacked file, with its name where messages will show it."""
        numbered = self._unpacked / str(next(self._numbers))
        if not is_storable(name):
            return numbered
        numbered.mkdir()
        return numbered / name

    @cached_property
    def _unpacked(self) -> Path:
        return self._open.enter_context(temporary_folder(self._scratch)).absolute()


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
