"""Progress: a bar on a terminal, a plain line now and then anywhere else.

Everything goes to standard error, so that standard output stays the result's.
"""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

Item = TypeVar("Item")

_LINE_EVERY_S = 10.0


def say(text: str) -> None:
    """One plain line on standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)


def track(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield `items` while showing how many of `total` are done."""
    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        with Progress(console=console, transient=True) as progress:
            yield from progress.track(items, total=total, description=what)
        return
    started = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if (now := time.monotonic()) - last >= _LINE_EVERY_S:
            last = now
            say(f"{what}: {done} of {total}, {now - started:.0f} s")
