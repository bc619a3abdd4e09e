"""Resolving a conflict of two clones' ledgers: every line of both stays, in the order of time."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pipeline.ledger.ledger import (
    COLUMNS,
    CONFLICT,
    Entry,
    complete_header,
    is_header,
    latest,
    line_end,
    moment,
    parse_line,
    replace_ledger,
)

OURS, THEIRS = "ours", "theirs"
_SIDES = {b"<<<<<<<": {OURS}, b"|||||||": set[str](), b"=======": {THEIRS}}
"""The sides that have the lines after a marker. Those of their ancestor, which diff3 shows, are of
neither, but are not lost."""


def merge_ledger(path: Path) -> list[str]:
    """Resolve the ledger's conflict markers; returns what was done, as lines for a terminal.

    The caller holds the ledger's lock. A line that is not understood stays behind the one that was
    before it.
    """
    content = path.read_bytes() if path.exists() else b""
    lines = content.splitlines()
    markers = sum(CONFLICT.fullmatch(line) is not None for line in lines)
    if not markers:
        return [f"{path}: no conflict markers: nothing was changed"]
    sides = dict[bytes, set[str]]()
    repeated = 0
    for line, side in _with_sides(lines):
        repeated += line in sides
        sides.setdefault(line, set()).update(side)
    ordered = _in_time(list(sides))
    header = next(filter(is_header, lines), ",".join(COLUMNS).encode())
    end = line_end(content)
    whole = b"".join(line + end for line in [header, *ordered])
    replace_ledger(path, complete_header(whole))
    found = [
        f"{path}: {markers} conflict markers removed, {len(ordered)} lines kept in the order of "
        f"time; {repeated} lines stood twice"
    ]
    return [*found, *_compare(sides), f"Look at it, then run: git add {path}"]


def _with_sides(lines: list[bytes]) -> Iterator[tuple[bytes, set[str]]]:
    """The lines between the markers, and which sides have them."""
    side = {OURS, THEIRS}
    for line in lines:
        if marker := CONFLICT.fullmatch(line):
            side = _SIDES.get(marker[1], {OURS, THEIRS})
        elif line.strip() and not is_header(line):
            yield line, side


def _in_time(lines: list[bytes]) -> list[bytes]:
    times, last = dict[bytes, datetime](), moment("")
    for line in lines:
        if (entry := _parse(line)) is not None:
            last = moment(entry.time)
        times[line] = last
    return sorted(lines, key=times.__getitem__)


def _compare(sides: dict[bytes, set[str]]) -> Iterator[str]:
    """A line for each submission of which the two sides say different things."""
    entries = [(entry, side) for line, side in sides.items() if (entry := _parse(line))]
    ours, theirs = (
        {_key(each): each for each in latest([entry for entry, side in entries if name in side])}
        for name in (OURS, THEIRS)
    )
    for entry in latest([entry for entry, _ in entries]):
        found = [side[_key(entry)] for side in (ours, theirs) if _key(entry) in side]
        if len({_say(each) for each in found}) > 1:
            yield (
                f"{entry.title}: {_say(found[0])} here, {_say(found[1])} there; kept as the later: "
                f"{_say(entry)}"
            )


def _parse(line: bytes) -> Entry | None:
    try:
        return parse_line(line)
    except ValueError:
        return None


def _key(entry: Entry) -> tuple[str, str]:
    return entry.competition, entry.ref or entry.mark


def _say(entry: Entry) -> str:
    scores = " and ".join(filter(None, [entry.public, entry.private]))
    return f"{entry.status} {scores}".strip()
