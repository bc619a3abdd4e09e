"""The files of a competition or a public dataset from Kaggle, each verified.

The official client checks at most the length, and may leave a corrupt file of the right length.
So a file is fetched into an empty folder, its size compared with Kaggle's listing, an archive read
whole, and only then renamed to its place. Complete files survive an interrupted run: the next
continues with the rest, as long as Kaggle's listing is the same.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from pipeline.core.errors import ArchiveError, KaggleError, examples
from pipeline.core.files import new_file, write_text
from pipeline.core.names import require_storable
from pipeline.core.progress import say
from pipeline.kaggle.answers import RemoteFile
from pipeline.kaggle.client import Kaggle
from pipeline.kaggle.slug import competition_slug
from pipeline.raw.archive import check_archive, open_archive
from pipeline.raw.files import RawFiles
from pipeline.raw.kinds import kind_of
from pipeline.raw.unpack import require_seven_zip

MOST_FILES = 40
"""With more, or with files in folders, everything comes as one zip: Kaggle limits calls."""

_TRIES = 3
_BY_HAND = (
    "Download the files by hand, choose and rename them, and set "
    "download: {source: local, folder: …} in params.yaml"
)


def download_competition(competition: str, kaggle: Kaggle, raw: Path, staging: Path) -> None:
    """Put all files of a competition into `raw`, an empty folder.

    competition: slug or address. staging: keeps complete files between runs; removed at the end.
    Raises KaggleError where Kaggle refuses, sends a file damaged every time, or names one as no
    file can be named.
    """
    slug = competition_slug(competition)
    files = kaggle.list_files(slug)
    if not files:
        raise KaggleError(f"{slug}: expected files to download, found none. See its Data page")
    for file in files:
        if file.name.lower().endswith(".7z"):
            require_seven_zip(file.name)  # before it comes, since it cannot be verified without
    complete = _resume(staging, files)
    if len(files) > MOST_FILES or any(PurePosixPath(file.name).name != file.name for file in files):
        say(f"{slug}: {len(files)} files, as one zip")
        bundle = RemoteFile(f"{slug}.zip", None, "")
        _fetch(bundle, complete, partial(kaggle.download_bundle, slug, files))
        _check_bundle(complete / bundle.name, files)
    else:
        require_storable(KaggleError, slug, [file.name for file in files], _BY_HAND)
        for file in files:
            size = f", {file.bytes / 1e6:.1f} MB" if file.bytes else ""
            say(f"{slug}: {file.name}{size}")
            _fetch(file, complete, partial(kaggle.download_file, slug, file))
    for path in sorted(complete.iterdir()):
        path.rename(raw / path.name)
    shutil.rmtree(staging)


def download_dataset(dataset: str, kaggle: Kaggle, staging: Path) -> Path:
    """The zip of a public dataset, OWNER/SLUG, in `staging`. Raises KaggleError."""
    archive = RemoteFile(f"{dataset.partition('/')[2]}.zip", None, "")
    complete = _resume(staging, [RemoteFile(dataset, None, "")])
    say(f"{dataset}: {archive.name}")
    _fetch(archive, complete, partial(kaggle.download_dataset, dataset))
    return complete / archive.name


def _resume(staging: Path, files: list[RemoteFile]) -> Path:
    """The folder of complete files, with those of an earlier run if Kaggle lists the same."""
    listing = json.dumps([asdict(file) for file in files], indent=2)
    known = staging / "listing.json"
    if not known.is_file() or known.read_bytes() != listing.encode():
        shutil.rmtree(staging, ignore_errors=True)
        write_text(known, listing)
    complete = staging / "complete"
    complete.mkdir(exist_ok=True)
    return complete


def _fetch(file: RemoteFile, complete: Path, download: Callable[[Path], None]) -> None:
    """Download a file until it is whole, and put it into `complete`."""
    place = complete / file.name
    if place.exists():
        say(f"{file.name}: complete since an earlier run")
        return
    for tries_left in reversed(range(_TRIES)):
        with tempfile.TemporaryDirectory(dir=complete.parent) as arriving:
            download(Path(arriving))
            try:
                arrived = _arrived(Path(arriving), file)
                _verify(arrived, file)
                arrived.rename(place)
                return
            except ArchiveError as error:
                problem = f"{file.name}: arrived damaged: {error}"
        if tries_left:
            say(f"{problem}. Trying again")
    raise KaggleError(
        f"{problem}. {_TRIES} times in a row: does a proxy change it? Try again later"
    )


def _arrived(folder: Path, file: RemoteFile) -> Path:
    """The file that the client wrote, under whatever name; unwrapped where Kaggle zipped it."""
    name = PurePosixPath(file.name).name
    everything = [path for path in folder.iterdir() if path.suffix != ".kaggle-partial"]
    if len(everything) != 1 or not everything[0].is_file():
        raise ArchiveError(f"expected one file, found {[path.name for path in everything]}")
    found = everything[0]
    if unquote(found.name) == f"{name}.zip":
        check_archive(found)
        with open_archive(found) as wrapped, new_file(folder / name) as whole:
            if wrapped.namelist() != [name]:
                raise ArchiveError(f"expected {name} alone in its zip, found {wrapped.namelist()}")
            with wrapped.open(name) as member, whole.open("wb") as out:
                shutil.copyfileobj(member, out)
        return folder / name
    return found


def _verify(path: Path, file: RemoteFile) -> None:
    """Raise ArchiveError unless the file is what Kaggle lists."""
    size = path.stat().st_size
    if file.bytes is not None and size != file.bytes:
        raise ArchiveError(f"expected {file.bytes:,} bytes, found {size:,}")
    with path.open("rb") as content:
        start = content.read(64).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")) and "htm" not in path.suffix:
        raise ArchiveError("found a web page instead")
    if kind_of(path.name) == "archive":
        with RawFiles(path):  # which unpacks what is compressed as a whole
            pass
    if path.suffix.lower() == ".zip":
        check_archive(path)


def _check_bundle(bundle: Path, files: list[RemoteFile]) -> None:
    """Raise KaggleError unless a bundle holds the files that Kaggle lists."""
    with open_archive(bundle) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    missing = [
        file.name
        for file in files
        if file.name not in sizes or (file.bytes and sizes[file.name] != file.bytes)
    ]
    if missing:
        raise KaggleError(
            f"{bundle.name}: expected the {len(files)} files that Kaggle lists, found "
            f"{len(missing)} missing or of another size {examples(missing)}. Try again later"
        )
