"""What goes to a terminal: lines and tables, with every text made harmless first.

Ids, file and class names, Kaggle's words and the texts of exceptions come from strangers. A
control character among them could move the cursor or hide a line, and Rich takes `[/x]` for a tag
of its own. So nothing else in pipeline/ prints (tests/test_terminal.py), and nothing here is read
as markup. What a terminal's encoding cannot show is shown escaped, too.
"""

import io
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

MOST_CHARACTERS = 20_000
"""Of one text: a message may quote a line of any length."""


def printable(text: str) -> str:
    """The text with all that is not plainly visible escaped as in Python; lines stay lines.

    Escaped are control characters, what changes the direction of writing, lone surrogates, and
    every space but the plain one. What is longer than MOST_CHARACTERS is cut.
    """
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]}…"
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode()
        for each in text
    )


def print_line(text: str, error: bool = False) -> None:
    """Print on standard output, or on standard error."""
    print(printable(text), file=_stream(error))


def make_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    header: bool = True,
    wrapped: Sequence[str] = (),
    caption: str | None = None,
) -> Table:
    """A table without lines. wrapped: the columns whose cells may be broken; all if empty."""
    table = Table(
        box=None, pad_edge=False, show_header=header, caption=caption, caption_justify="left"
    )
    for name in columns:
        table.add_column(_cell(name), no_wrap=bool(wrapped) and name not in wrapped)
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def print_table(table: Table, width: int) -> None:
    """Print on standard output; width: where that is no terminal."""
    to = console(error=False)
    if not to.is_terminal:
        to.width = width
    to.print(table)


def console(error: bool) -> Console:
    """Rich's console on standard error or output, for what moves there."""
    _stream(error)
    return Console(stderr=error, highlight=False, markup=False, emoji=False)


def ask(question: str) -> bool:
    """Ask on standard error, and read yes or no."""
    _stream(error=True)
    return typer.confirm(printable(question), err=True)


def _cell(text: str) -> Text:
    return Text(printable(text).replace("\n", r"\n"))


def _stream(error: bool) -> TextIO:
    """The present stream, which from now on escapes what its encoding does not have."""
    stream = sys.stderr if error else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream
