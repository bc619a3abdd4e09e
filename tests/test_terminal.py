"""Text from strangers reaches a terminal as text: it neither acts on it nor stops a command."""

import ast
import io
import subprocess
import sys
from pathlib import Path

import pytest
from cards import make_card, make_leaderboard
from project import PARAMS, ROOT

from pipeline.core import paths
from pipeline.core.files import write_text
from pipeline.core.progress import say, track
from pipeline.core.record import write_record
from pipeline.core.terminal import make_table, print_line, print_table, printable

FILES = sorted((ROOT / "pipeline").rglob("*.py"))
PRINTS = "core/terminal.py"

STRANGE = {
    "\x1b[2J\x1b]0;title\x07": r"\x1b[2J\x1b]0;title\x07",
    "a\rb": r"a\rb",
    "\x9b31m": r"\x9b31m",
    "\x00\x08\x7f": r"\x00\x08\x7f",
    "user\u202egnp.exe": r"user\u202egnp.exe",
    "\u2066\u2069\u200e": r"\u2066\u2069\u200e",
    "\udcff": r"\udcff",
    "zero\u200bwidth\ufeff": r"zero\u200bwidth\ufeff",
    "\u2028": r"\u2028",
    "bad [/x] tag": "bad [/x] tag",
    "Column [id]": "Column [id]",
    "[link=https://example.org]x[/link] [red]": "[link=https://example.org]x[/link] [red]",
    ":warning: :bell:": ":warning: :bell:",
    "Zürich → 東京 é 🙂 × – …": "Zürich → 東京 é 🙂 × – …",
    r"C:\new\x1b": r"C:\new\x1b",
}


@pytest.mark.parametrize("text", STRANGE)
def test_a_text_is_shown_and_does_nothing(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By each way to a terminal: a line, an error's line, a cell, a column's name, progress."""
    shown = STRANGE[text]
    assert printable(text) == shown
    print_line(f"<{text}>")
    say(f"<{text}>")
    assert capsys.readouterr() == (f"<{shown}>\n", f"<{shown}>\n")
    print_table(make_table(["a", text], [["x", text]]), width=200)
    columns, cells = capsys.readouterr().out.splitlines()
    assert columns.split(maxsplit=1)[1].strip() == shown
    assert cells.split(maxsplit=1)[1].strip() == shown
    assert list(track([1, 2], text, 2)) == [1, 2]


@pytest.mark.parametrize("text", STRANGE)
def test_the_bar_of_a_terminal_shows_its_name(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    assert list(track([1, 2], text, 2)) == [1, 2]
    assert STRANGE[text] in terminal.getvalue()


def test_lines_stay_lines_but_not_in_a_cell(capsys: pytest.CaptureFixture[str]) -> None:
    print_line("one\ntwo")
    print_table(make_table(["a"], [["one\ntwo"]], header=False), width=80)
    assert capsys.readouterr().out.splitlines() == ["one", "two", r"one\ntwo"]


def test_no_text_is_endless(capsys: pytest.CaptureFixture[str]) -> None:
    say("\x00" * 50_000_000)
    assert len(capsys.readouterr().err) < 100_000


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_no_encoding_of_a_terminal_stops_a_command(tmp_path: Path, encoding: str) -> None:
    """A card, a leaderboard and parameters with every strange text, shown by a real process."""
    strange = "bad [/x] tag \x1b[2J \u202e :bell: 東京 é\r"
    card = make_card(classes=("0", "東京 [/x]"))
    write_record(tmp_path / paths.card("tiny"), card)
    board = make_leaderboard(card, 0.9, 0.9).model_copy(update={"submission": strange})
    write_record(tmp_path / paths.LEADERBOARD, board)
    write_text(tmp_path / paths.PARAMS, PARAMS)
    environment = {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding, "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "summary"],
        cwd=tmp_path, env=environment, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"bad [/x] tag" in done.stdout
    assert b"Traceback" not in done.stderr
    write_text(tmp_path / paths.PARAMS, PARAMS.replace("accuracy", '"東京 [/x] é"'))
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "summary"],
        cwd=tmp_path, env=environment, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "東京 [/x] é".encode(encoding, "backslashreplace") in done.stderr
    assert b"Traceback" not in done.stderr


_PRINTERS = ("print", "echo", "secho", "confirm", "prompt", "add_row", "warn")


def printing(file: Path) -> list[str]:
    """What a module does that shows a text by another way than core/terminal.py."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rich"):
            found += [each.name for each in node.names]
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names if each.name.startswith("rich")]
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            last = name.rpartition(".")[2]
            if name in ("print", "input") or ("." in name and last in _PRINTERS):
                found.append(name)
            if name.startswith(("sys.stdout.write", "sys.stderr.write", "warnings.warn")):
                found.append(name)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_only_one_module_prints(file: Path) -> None:
    moving = {"progress.py": ["Progress", "TextColumn"], "board.py": ["Live"]}
    if file == ROOT / "pipeline" / PRINTS:
        assert "print" in printing(file)
        return
    assert printing(file) == moving.get(file.name, [])
