"""The progress of the trainings at work, for the person who waits.

On a terminal: a table with a row for each, kept up to date. Elsewhere: a line every 30 s. The
trainings' own output is in their logs.
"""

import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rich.live import Live

from pipeline.core import paths
from pipeline.core.errors import TableError
from pipeline.core.progress import say
from pipeline.core.tables import read_csv
from pipeline.core.terminal import console, make_table

LOGS = paths.RESUME / "logs"
_LINE_EVERY_S = 30.0
_MOST_LEFT_S = 1e9
_SCORE = "out_of_fold_"
_COLUMNS = ["model", "fold", "epoch", "loss", "accuracy", "images/s", "left"]


@dataclass(frozen=True)
class Training:
    """One model trained without one fold."""

    model: str
    fold: int
    epochs: int

    def __str__(self) -> str:
        return f"{self.model} fold {self.fold}"

    @property
    def stage(self) -> str:
        """Its stage in dvc.yaml's matrix `train`."""
        return f"train@{self.model}-{self.fold}"

    @property
    def log(self) -> Path:
        """All output of its last run."""
        return LOGS / f"{self.stage}.log"

    @property
    def live(self) -> Path:
        """The table that it writes after each epoch (pipeline/train/stage.py, LiveTable)."""
        return paths.live_table(self.model, self.fold)


class Board:
    """Shows the progress of trainings on standard error while its block runs."""

    def __init__(self) -> None:
        to = console(error=True)
        live = Live(console=to, auto_refresh=False, transient=True)
        self._live = live if to.is_terminal else None
        self._last_line = time.monotonic()

    def __enter__(self) -> "Board":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show_begin(self, training: Training, place: str) -> None:
        """A training has begun, on another machine where `place` names it: a line where there is
        no table."""
        if not self._live:
            on = f" on {place}" if place else ""
            say(f"{training}: begins{on}, log in {training.log}")

    def show_end(self, training: Training, how: str, count: str) -> None:
        """A training has ended: a line that stays, above the table where there is one."""
        rows = _read_rows(training.live)
        found = "".join(
            f", out-of-fold {name.removeprefix(_SCORE).replace('_', ' ')} {value:.4f}"
            for name, value in (rows[-1] if rows else {}).items()
            if name.startswith(_SCORE)  # missing if it failed
        )
        say(f"{training}: {how}{found} ({count})")  # which Live prints above the table

    def show(self, running: dict[Training, str], done: int, of: int) -> None:
        """Bring the table up to date, or say a line if it is time for one.

        running: with the machine of each, or "".
        """
        count = f"{done} of {of} done"
        if self._live:
            columns = [*_COLUMNS, "machine"] if any(running.values()) else _COLUMNS
            found = [_figures(each) | {"machine": place} for each, place in running.items()]
            rows = [[figures.get(column, "") for column in columns] for figures in found]
            self._live.update(make_table(columns, rows, caption=count), refresh=True)
        elif time.monotonic() - self._last_line >= _LINE_EVERY_S:
            self._last_line = time.monotonic()
            say("; ".join([count, *(_sentence(training) for training in running)]))


def _sentence(training: Training) -> str:
    figures = _figures(training)
    named = [f"{name} {figures[name]}" for name in _COLUMNS[2:] if name in figures]
    return f"{training}: {', '.join(named)}"


def _figures(training: Training) -> dict[str, str]:
    """The texts of a row by column; those of columns without a figure yet are missing."""
    rows = _read_rows(training.live)
    figures = {"model": training.model, "fold": str(training.fold)}
    last = rows[-1] if rows else {}
    figures["epoch"] = f"{last.get('epoch', 0):.0f}/{training.epochs}"
    for name in ("loss", "accuracy"):
        if name in last:
            figures[name] = f"{last[name]:.4f}"
    seconds = [row["seconds"] for row in rows if "seconds" in row]
    if seconds and "images_per_s" in last:
        left_s = sum(seconds) / len(seconds) * (training.epochs - len(rows))
        left_s -= time.time() - training.live.stat().st_mtime  # this epoch began with the last row
        figures["images/s"] = f"{last['images_per_s']:,.0f}"
        figures["left"] = str(timedelta(seconds=round(min(max(0.0, left_s), _MOST_LEFT_S))))
    return figures


def _read_rows(path: Path) -> list[dict[str, float]]:
    """The numbers of each epoch; none where there is no table yet, or a damaged one."""
    try:
        table = read_csv(path)
        rows = table.to_dict("records")
        return [{str(key): float(text) for key, text in row.items() if text} for row in rows]
    except (TableError, ValueError):
        return []
