"""What a file of a competition is by its name, and which of its files are none."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pipeline.core.errors import CompetitionError, examples
from pipeline.core.files import MOST_FIELD
from pipeline.raw.archive import (
    ARCHIVE_SUFFIXES,
    IMAGE_SUFFIXES,
    SOUND_SUFFIXES,
    file_name,
    is_litter,
)

FileKind = Literal["image", "sound", "table", "archive", "other"]

TABLE_SUFFIXES = (".csv", ".tsv", ".json")
"""Each also with .gz behind it."""

_PART = re.compile(r".*\.(zip|7z|rar|tar|tar\.gz|tgz)\.(part)?\d{2,3}|.*\.z\d\d", re.I | re.S)


def walk(folder: Path, through_links: bool = True) -> Iterator[tuple[str, Path]]:
    """The path and the file of all that a folder holds, litter left out.

    A folder's files come before its folders, each sorted by name. A link to a folder counts as a
    file, and one directly in the folder as a folder if through_links.
    """
    for root, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in links and not is_litter([name]))
        for name in sorted(name for name in [*files, *links] if not is_litter([name])):
            path = Path(root) / name
            if through_links and Path(root) == folder and name in links:
                yield from ((f"{name}/{inner}", file) for inner, file in walk(path, False))
            else:
                yield path.relative_to(folder).as_posix(), path


def kind_of(name: str) -> FileKind:
    """What a file is, by its name; a README is none of the competition's."""
    last = file_name(name).lower()
    if last.startswith("readme"):
        return "other"
    if last.endswith(IMAGE_SUFFIXES):
        return "image"
    if last.endswith(SOUND_SUFFIXES):
        return "sound"
    if last.removesuffix(".gz").endswith(TABLE_SUFFIXES):
        return "table"
    if last.endswith(ARCHIVE_SUFFIXES):
        return "archive"
    return "other"


def refuse_parts(place: Path | str, names: list[str]) -> None:
    """Raise CompetitionError where an archive comes in several parts."""
    if parts := [name for name in names if _PART.fullmatch(name)]:
        raise CompetitionError(
            f"{place}: expected whole archives, found {len(parts)} parts {examples(parts)}. Join "
            "them (cat NAME.zip.0* > NAME.zip; those of a split zip: zip -s 0 NAME.zip --out "
            "WHOLE.zip) and remove the parts"
        )


def is_solution(name: str, path: Path) -> bool:
    """Whether a table holds the answers: called solution…, or with a column `Usage`."""
    last = file_name(name).lower()
    if last.startswith("solution"):
        return True
    if ".json" in last:
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = file.readline(MOST_FIELD)
    return "Usage" in [field.strip(' "\r\n') for field in re.split(r"[,;\t|]", first)]


def _raise(error: OSError) -> None:
    raise error
