"""Which image files belong to which row, by what the row calls them.

A key (an id, or what an image column holds) means, in this order:

1. the file of that name or path, with or without its suffix, in any folder;
2. the same in another spelling: the suffix's case, zeros in front of a number, accents composed or
   not; said, and only where one file fits;
3. all files in the folder of that name;
4. all files whose name begins with the key and `_`, `-`, `.` or a blank.

3 and 4 are ways of the whole table: several images belong to each of its rows.
"""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.core.errors import CompetitionError
from pipeline.raw.archive import IMAGE_SUFFIXES, file_name

_MOST = 0.5
"""Of the keys: where fewer mean a file of their own, they are tried as folders and beginnings."""

_ARRAYS = (".npy", ".dcm", ".dicom")
_SEPARATOR = re.compile(r"[_\-. ]")


@dataclass(frozen=True)
class Matched:
    """members: the files of each key, several in order of their names. loose: those spelled
    otherwise. several: whether a row may have several files."""

    members: list[list[str]]
    loose: list[str]
    several: bool

    @property
    def share(self) -> float:
        """How many of the keys have a file."""
        return sum(map(bool, self.members)) / max(1, len(self.members))


def match(keys: list[str], members: list[str], place: str, parameter: str) -> Matched:
    """Find the files of each key; keys without one have an empty list.

    place, parameter: for messages. Raises CompetitionError where several files fit one key as well,
    or one file two keys.
    """
    found = _match_names(keys, members, place, parameter)
    if found.share < _MOST:
        for chosen in (of_folders(keys, members), of_beginnings(keys, members)):
            other = Matched(chosen, [], several=True)
            if other.share > max(found.share, _MOST):
                found = other
    owner: dict[str, str] = {}
    for key, several in zip(keys, found.members, strict=True):
        for member in several:
            if owner.setdefault(member, key) != key:
                raise CompetitionError(
                    f"{place}: expected one id for the image {member}, found two: {owner[member]} "
                    f"and {key}. Write all ids with the suffix, or all without"
                )
    return found


def of_folders(keys: list[str], members: list[str]) -> list[list[str]]:
    """All files below the folder of each name."""
    places = _by(members, lambda parts: parts[:-1])
    return [places.get(_normal(key), []) for key in keys]


def of_beginnings(keys: list[str], members: list[str]) -> list[list[str]]:
    """All files whose names begin with each key and a separator, in any folder."""
    places = _by(members, lambda parts: _beginnings(parts[-1]))
    return [places.get(file_name(_normal(key)), []) for key in keys]


def stem(member: str) -> str:
    """A file's name without the suffix of an image."""
    return without_suffix(file_name(member))


def without_suffix(path: str) -> str:
    suffix = PurePosixPath(path).suffix
    return path[: -len(suffix)] if suffix.lower() in IMAGE_SUFFIXES else path


def short_names(members: list[str]) -> list[str]:
    """The names of files without suffix; where two are the same, with the folders that differ."""
    names = [stem(member) for member in members]
    if len(set(names)) == len(names):
        return names
    above = shared_folder(members)
    return [without_suffix(member.removeprefix(above).strip("/")) for member in members]


def shared_folder(members: list[str]) -> str:
    """The deepest folder that all files are below."""
    return os.path.commonpath([str(PurePosixPath(one).parent) for one in members] or [""])


def _match_names(keys: list[str], members: list[str], place: str, parameter: str) -> Matched:
    depths = sorted({_normal(key).count("/") for key in keys})
    exact: dict[str, list[str]] = defaultdict(list)
    loose: dict[str, list[str]] = defaultdict(list)
    for member in members:
        parts = PurePosixPath(_slashes(member)).parts
        for depth in depths:
            folder = "/".join(parts[-1 - depth : -1])
            for name in {parts[-1], stem(parts[-1])}:
                path = f"{folder}/{name}" if depth else name
                exact[path].append(member)
                loose[_loosely(path)].append(member)
    chosen, spelled = [], []
    for key in keys:
        several = exact.get(_normal(key)) or exact.get(key, [])
        if not several:
            several = list(dict.fromkeys(loose.get(_loosely(key), [])))
            if len(several) > 1:
                several = []
            spelled += [f"{key} is {several[0]}"] if several else []
        chosen.append(_choose(key, list(dict.fromkeys(several)), place, parameter))
    return Matched(chosen, spelled, several=False)


def _choose(key: str, several: list[str], place: str, parameter: str) -> list[str]:
    """The one of several files of a name: a picture rather than the array that it was made of."""
    pictures = [one for one in several if not one.lower().endswith(_ARRAYS)]
    several = pictures or several
    if len(several) > 1:
        raise CompetitionError(
            f"{place}: expected one image for the id {key}, found {len(several)}: "
            f"{' and '.join(several[:3])}. Set {parameter} in params.yaml to the right folder"
        )
    return several


def _by(
    members: list[str], names: Callable[[tuple[str, ...]], tuple[str, ...]]
) -> dict[str, list[str]]:
    places: dict[str, list[str]] = defaultdict(list)
    for member in sorted(members):
        for name in set(names(PurePosixPath(_slashes(member)).parts)):
            places[name].append(member)
    return places


def _beginnings(name: str) -> tuple[str, ...]:
    bare = stem(name)
    return tuple(bare[: found.start()] for found in _SEPARATOR.finditer(bare) if found.start())


def _slashes(member: str) -> str:
    return member.replace("\\", "/")


def _normal(key: str) -> str:
    return _slashes(key).removeprefix("./").strip("/")


def _loosely(path: str) -> str:
    """A spelling that all spellings of a name share."""
    folder, _, name = _normal(unicodedata.normalize("NFC", path)).rpartition("/")
    bare = stem(name).casefold()
    return f"{folder}/{bare.lstrip('0') or '0' if bare.isdigit() else bare}"
