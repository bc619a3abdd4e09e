"""Which files are ours: no command writes over a file that this pipeline did not make.

`.resume/made.txt` lists what was written to a place that a person names, as sha256sum does. A file
that was changed since then is the person's. A submission is also ours by the hash in its card.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ValidationError

from pipeline.core import paths
from pipeline.core.errors import OutputError
from pipeline.core.files import sha256_of

MADE = paths.RESUME / "made.txt"


def refuse_others(*places: Path, reserved: Iterable[Path] = (), submission: bool = False) -> None:
    """Raise OutputError where writing to a place would replace a file that we did not make.

    A folder is ours if all files in it are. reserved: where nothing of this command may lie,
    whatever is there now. submission: whether the places are a submission and its card; else
    they are none of ours either.
    """
    made = set(os.fsdecode(MADE.read_bytes()).split("\n")) if MADE.is_file() else set()
    for place in places:
        for kept in reserved:
            if overlap(place, kept):
                raise OutputError(
                    f"{place}: is the place of {kept}, which belongs to the pipeline. Name another"
                )
        for file in _files(place):
            in_made = _line(file) in made
            is_submission = file == place and file.is_file() and _has_card(file)
            if not (in_made or is_submission if submission else in_made and not is_submission):
                raise OutputError(
                    f"{file}: expected nothing there, or what this command made, found another "
                    "file, or one that was changed since: it would be lost. Move it to another "
                    "place or remove it, or name another place for the result"
                )


def remember(*places: Path) -> None:
    """List files, or all files of folders, as made by us with the bytes that they have now."""
    # Where the list cannot be written, the next run takes them for somebody else's.
    with contextlib.suppress(OSError):
        MADE.parent.mkdir(exist_ok=True)
        files = [file for place in places for file in _files(place)]
        with MADE.open("ab") as made:
            made.writelines(os.fsencode(f"{line}\n") for file in files if (line := _line(file)))


def overlap(place: Path, other: Path) -> bool:
    """Whether two paths are one place, or one lies in the other.

    Links are followed, and names compared as the file system does. A link to a file is a place of
    its own: removing it leaves the file.
    """
    mine, theirs = [place.absolute(), _real(place)], [other.absolute()]
    if not other.is_file():
        theirs.append(_real(other))
    return any(_lies_in(one, two) or _lies_in(two, one) for one in mine for two in theirs)


def _real(place: Path) -> Path:
    return Path(os.path.realpath(place))  # Path.resolve raises on a loop of links


def _lies_in(inner: Path, outer: Path) -> bool:
    """The last part of either path is not followed where it is a link."""
    if inner.is_relative_to(outer):
        return True
    if not outer.exists() or outer.is_symlink():
        return False
    places = inner.parents if inner.is_symlink() else (inner, *inner.parents)
    return any(each.exists() and each.samefile(outer) for each in places)


def _files(place: Path) -> list[Path]:
    """The place itself, or what a folder holds; nothing where there is nothing."""
    if place.is_dir() and not place.is_symlink():
        return sorted(each for each in place.rglob("*") if each.is_symlink() or not each.is_dir())
    return [place] if os.path.lexists(place) else []


def _line(file: Path) -> str | None:
    """A file's line in the list; None for a link or anything else that is no plain file."""
    if file.is_symlink() or not file.is_file():
        return None
    where, here = file.parent.resolve() / file.name, Path.cwd().resolve()
    shown = where.relative_to(here) if where.is_relative_to(here) else where
    return f"{sha256_of(file)}  {shown.as_posix()}"


class _Hashes(BaseModel):
    submission: str


class _Card(BaseModel):
    """What a card of any version of this pipeline has (scoring/card.py)."""

    name: str
    sha256: _Hashes


def _has_card(file: Path) -> bool:
    """Whether a file is a submission with its card beside it, or a card."""
    try:
        card = _Card.model_validate_json(file.with_suffix(".json").read_bytes())
    except (OSError, ValidationError):
        return False
    if file.suffix == ".json":
        return card.name == file.stem
    return card.sha256.submission == sha256_of(file)
