"""Which folders hold training images, which test images, and which files belong to nothing.

The files are one tree, in which archives are folders too. A folder whose name has a word that
says so (train, testing, trainset, test_images2; not testis or trainer) is of that side, with all
below it unless a folder below says otherwise; the others may be of either.
"""

import os
import re
from collections.abc import Set as AbstractSet
from functools import cache
from itertools import accumulate
from typing import Literal

from pipeline.core.errors import CompetitionError
from pipeline.raw.archive import parts_of

SplitName = Literal["train", "test"]

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SIDE = re.compile(
    r"(train|test)(s|ing)?"
    r"(sets?|data|datasets?|images?|imgs?|pics?|pictures?|photos?|files?|frames?|samples?|folders?"
    r"|jpe?gs?|pngs?|tiffs?|dicoms?|val|valid|validation|small|large|full|resized|crops?|cropped)?"
)
"""A word that names a side."""


def side(member: str) -> SplitName | None:
    """The side that a file's folders name."""
    for folder in reversed(folders(member)):
        found = _named(folder)
        if found:
            return found
    return None


def folders(member: str) -> list[str]:
    """The folders that a file is in, the outermost first."""
    return parts_of(member)[:-1]


def choose(
    members: list[str], value: str, split: SplitName, place: str, parameter: str
) -> list[list[str]]:
    """The files that may be of a split, the likeliest first, then with those less likely.

    value: of the parameter. Raises CompetitionError where it names nothing.
    """
    if value == "auto":
        of = {member: side(member) for member in members}
        sided = [member for member in members if of[member] == split]
        possible = [member for member in members if of[member] in (split, None)]
        return [pool for pool in (sided, possible) if pool]
    parts = parts_of(value)
    inside = [member for member in members if parts_of(member)[: len(parts)] == parts]
    if not inside:
        known = sorted({"/".join(folders(member)) or "." for member in members})
        more = f" and {len(known) - 10} more" if len(known) > 10 else ""
        word = "image" if parameter.endswith("images") else "signal"
        raise CompetitionError(
            f"{place}: {parameter} names {value}, which holds no {word}; folders with "
            f"{word}s: {', '.join(known[:10]) or 'none'}{more}. Set {parameter} in "
            "params.yaml to one of them, or to auto"
        )
    return [inside]


def roots(claimed: list[str], value: str) -> list[str]:
    """The folders that a split's images fill: others there should have a row as well.

    claimed: the files that have one. value: of prepare.train_images or the like.
    """
    if value != "auto":
        return ["/".join(parts_of(value))]
    named, others = set(), set()
    for member in claimed:
        above = folders(member)
        depth = next((n for n, folder in enumerate(above, start=1) if _named(folder)), 0)
        if depth:
            named.add("/".join(above[:depth]))
        else:
            others.add("/".join(above))
    common = [os.path.commonpath(others)] if others else []
    return [*sorted(named), *common]


def is_below(member: str, roots: AbstractSet[str]) -> bool:
    """Whether a file is in one of the folders, or in one below; "" is the folder of all."""
    return "" in roots or any(above in roots for above in accumulate(folders(member), _join))


def _join(above: str, folder: str) -> str:
    return f"{above}/{folder}"


@cache
def _named(folder: str) -> SplitName | None:
    words = [_SIDE.fullmatch(word.lower()) for word in _WORD.findall(folder)]
    found = {word[1] for word in words if word}
    if len(found) != 1:
        return None
    return "train" if "train" in found else "test"
