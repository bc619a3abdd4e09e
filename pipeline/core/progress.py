"""Progress: a bar on a terminal, a plain line now and then anywhere else.

Everything goes to standard error, so that standard output stays the result's.
"""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import Progress, TextColumn

from pipeline.core.terminal import console, print_line, printable

Item = TypeVar("Item")

_LINE_EVERY_S = 10.0
_COLUMNS = Progress.get_default_columns()[1:]
"""Without the description, which is not markup here."""


def say(text: str) -> None:
    """One plain line on standard error."""
    print_line(text, error=True)


def track(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield `items` while showing how many of `total` are done."""
    to = console(error=True)
    if to.is_terminal:
        columns = (TextColumn("{task.description}", markup=False), *_COLUMNS)
        with Progress(*columns, console=to, transient=True) as progress:
            yield from progress.track(items, total=total, description=printable(what))
        return
    started = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if (now := time.monotonic()) - last >= _LINE_EVERY_S:
            last = now
            say(f"{what}: {done} of {total}, {now - started:.0f} s")
