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
from functools import cached_property

from pipeline.core.errors import CompetitionError
from pipeline.raw.archive import IMAGE_SUFFIXES, SOUND_SUFFIXES, file_name, parts_of

ENOUGH = 0.5
"""The share of keys that mean a file; where fewer do, they are no names of files."""

ROW_SUFFIXES = (*IMAGE_SUFFIXES, *SOUND_SUFFIXES, ".csv", ".tsv")
"""The suffixes of files that are an image or a signal."""

_ARRAYS = (".npy", ".dcm", ".dicom")
_SEPARATOR = re.compile(r"[_\-. ]")
_MOST_TRIED = 1000

Files = dict[str, list[str]]
"""The files of each name."""


@dataclass(frozen=True)
class Matched:
    """What files each key means.

    members: of each key, several in order of their names. loose: those spelled otherwise. how: of a
    table of which each row has several, for messages.
    """

    members: list[list[str]]
    loose: list[str]
    how: str = ""

    @property
    def share(self) -> float:
        """How many of the keys have a file."""
        return sum(map(bool, self.members)) / max(1, len(self.members))


class FileNames:
    """Image files by what they may be called. place, parameter: for messages."""

    def __init__(self, members: list[str], place: str, parameter: str) -> None:
        self.members = members
        self._place, self._parameter = place, parameter
        self._by_depth: dict[int, tuple[Files, Files]] = {}

    def match(self, keys: list[str]) -> Matched:
        """Find the files of each key; keys without one have an empty list.

        Raises CompetitionError where several files fit one key as well, or one file two keys.
        """
        found = self._match_names(keys)
        if found.share < ENOUGH:
            for chosen, how in (
                (self._of_folders(keys), ", all in the folder of its name"),
                (self.of_beginnings(keys), ", all that begin with its name"),
            ):
                other = Matched(chosen, [], how)
                if other.share > max(found.share, ENOUGH):
                    found = other
        owner: dict[str, str] = {}
        for key, several in zip(keys, found.members, strict=True):
            for member in several:
                if owner.setdefault(member, key) != key:
                    raise CompetitionError(
                        f"{self._place}: expected one id for the image {member}, found two: "
                        f"{owner[member]} and {key}. Write all ids with the suffix, or all without"
                    )
        return found

    def share(self, values: list[str]) -> float:
        """How many of the values mean a file, from 0 to 1; of many some are tried."""
        different = list(dict.fromkeys(values))
        try:
            return self.match(different[:: 1 + len(different) // _MOST_TRIED]).share
        except CompetitionError:
            return 0.0

    def of_beginnings(self, keys: list[str]) -> list[list[str]]:
        """All files whose names begin with each key and a separator, in any folder."""
        return [self._by_beginning.get(file_name(_normal(key)), []) for key in keys]

    def _of_folders(self, keys: list[str]) -> list[list[str]]:
        return [self._by_folder.get(_normal(key), []) for key in keys]

    def _match_names(self, keys: list[str]) -> Matched:
        chosen, spelled = [], []
        for key in keys:
            normal = _normal(key)
            exact, loose = self._of_depth(normal.count("/"))
            several = exact.get(normal) or exact.get(key, [])
            if not several:
                alike = loose.get(_loosely(key), [])
                several = alike if len(alike) == 1 else []
                spelled += [f"{key} is {several[0]}"] if several else []
            chosen.append(self._choose(key, several))
        return Matched(chosen, spelled)

    def _choose(self, key: str, several: list[str]) -> list[str]:
        """One of several files of a name: a picture rather than the array it was made of."""
        pictures = [one for one in several if not one.lower().endswith(_ARRAYS)]
        several = pictures or several
        if len(several) > 1:
            raise CompetitionError(
                f"{self._place}: expected one image for the id {key}, found {len(several)}: "
                f"{' and '.join(several[:3])}. Set {self._parameter} in params.yaml to the right "
                "folder"
            )
        return several

    def _of_depth(self, depth: int) -> tuple[Files, Files]:
        """The files by their names with so many folders, and by what spellings share."""
        if depth not in self._by_depth:
            exact: Files = defaultdict(list)
            loose: Files = defaultdict(list)
            for member in self.members:
                parts = parts_of(member)
                folder = "".join(f"{part}/" for part in parts[-1 - depth : -1])
                for name in {parts[-1], without_suffix(parts[-1])}:
                    exact[folder + name].append(member)
                loose[_loosely(folder + parts[-1])].append(member)
            self._by_depth[depth] = exact, loose
        return self._by_depth[depth]

    @cached_property
    def _by_folder(self) -> Files:
        return self._by(lambda parts: parts[:-1])

    @cached_property
    def _by_beginning(self) -> Files:
        return self._by(lambda parts: _beginnings(parts[-1]))

    def _by(self, names: Callable[[list[str]], list[str]]) -> Files:
        files: Files = defaultdict(list)
        for member in sorted(self.members):
            for name in set(names(parts_of(member))):
                files[name].append(member)
        return files


def stem(member: str) -> str:
    """A file's name without the suffix of an image or a signal."""
    return without_suffix(file_name(member))


def is_image(name: str) -> bool:
    """Whether a text is called as an image's or a signal's file is."""
    return name.lower().endswith(ROW_SUFFIXES)


def without_suffix(path: str) -> str:
    bare, _, suffix = path.rpartition(".")
    return bare if bare and f".{suffix.lower()}" in ROW_SUFFIXES else path


def short_names(members: list[str]) -> list[str]:
    """The names of files without suffix; where two are the same, with the folders that differ."""
    names = [stem(member) for member in members]
    if len(set(names)) == len(names):
        return names
    above = shared_folder(members)
    return [without_suffix(member.removeprefix(above).strip("/")) for member in members]


def shared_folder(members: list[str]) -> str:
    """The deepest folder that all files are below."""
    return os.path.commonpath({"/".join(parts_of(one)[:-1]) for one in members} or [""])


def _beginnings(name: str) -> list[str]:
    bare = without_suffix(name)
    return [bare[: found.start()] for found in _SEPARATOR.finditer(bare) if found.start()]


def _normal(key: str) -> str:
    return key.replace("\\", "/").removeprefix("./").strip("/")


def _loosely(path: str) -> str:
    """What all spellings of a name share."""
    folder, _, name = _normal(unicodedata.normalize("NFC", path)).rpartition("/")
    bare = without_suffix(name).casefold()
    return f"{folder}/{bare.lstrip('0') or '0' if bare.isdigit() else bare}"
