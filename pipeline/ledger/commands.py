"""The commands outside DVC that talk to Kaggle: submit, scores, leaderboard.

What they find out is printed on standard output; what they do goes to standard error.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from pipeline.core import paths
from pipeline.core.competition import read_competition
from pipeline.core.errors import KaggleError, SubmissionError
from pipeline.core.progress import say
from pipeline.core.tables import read_csv
from pipeline.download.config import DownloadConfig
from pipeline.kaggle.client import Kaggle, competition_slug
from pipeline.ledger.commentary import explain_entries, finals_lines, read_audit
from pipeline.ledger.ledger import Entry, latest, locked, read_ledger
from pipeline.ledger.rank import find_place
from pipeline.ledger.scores import update_scores
from pipeline.ledger.submit import Order
from pipeline.ledger.submit import submit as submit_order
from pipeline.scoring.metrics import METRICS, metric_named
from pipeline.scoring.submission import check_submission, read_form


def submit(order: Order, metric: str, yes: bool) -> None:
    """Check a file, submit it once, and print its score. Raises SubmissionError, KaggleError.

    metric: params.yaml's, which tells what the file holds.
    """
    order = replace(order, file=Path(os.path.relpath(order.file)))
    classes = read_competition(paths.COMPETITION).classes
    form = read_form(paths.SAMPLE_SUBMISSION, metric_named(metric, len(classes)), classes)
    check_submission(order.file, form)
    say(f"{order.file}: columns, ids, order and {form.holds} are as the sample submission asks")
    with locked(paths.LEDGER):
        entry = submit_order(order, Kaggle, (lambda _: True) if yes else _ask)
    _print_entries([entry])
    if entry.status == "error":
        raise SubmissionError(f"submission {entry.ref}: Kaggle could not score it: {entry.error}")


def scores(competition: str) -> None:
    """Bring the ledger up to date with Kaggle and print what is known of each submission."""
    with locked(paths.LEDGER):
        entries = update_scores(competition, Kaggle())
    if not entries:
        raise SubmissionError(f"{competition}: nothing was submitted yet")
    _print_entries(entries)
    for line in explain_entries(entries, read_audit()):
        print(line)


def finals(competition: str) -> None:
    """Print the rule's choice of the two final submissions among the ledger's."""
    entries = [
        entry for entry in latest(read_ledger(paths.LEDGER)) if entry.competition == competition
    ]
    if not entries:
        raise SubmissionError(f"{competition}: nothing was submitted yet")
    for line in finals_lines(entries):
        print(line)


def leaderboard(competition: str, metric: str) -> None:
    """Print our place on the public leaderboard, and how much of it is luck."""
    if not paths.SAMPLE_SUBMISSION.is_file():
        raise SubmissionError(f"{paths.SAMPLE_SUBMISSION}: no such file. Run: dvc repro prepare")
    test_rows = len(read_csv(paths.SAMPLE_SUBMISSION))
    by = METRICS[metric]
    place = find_place(competition, Kaggle(), test_rows, by)
    first, last = place.within_noise
    side = "above" if by.greater_is_better else "below"
    gap = "none"
    if place.next_better is not None:
        gap = f"{abs(place.next_better - place.score):.5f} {side}"
    print(f"{place.team}: place {place.place} of {place.teams}, public score {place.score:.5f}")
    ahead = abs(place.first - place.score)
    print(f"leader: {place.first:.5f}, {ahead:.5f} {side}; next better: {gap}")
    if place.noise is None:
        print(f"noise: told of accuracy only, and params.yaml: ensemble.metric is {metric}")
        return
    print(
        f"noise: ±{place.noise:.5f} (95 %, taking half of the {test_rows} test rows as public): "
        f"places {first} to {last} cannot be told apart from ours"
    )


def slug(config: DownloadConfig, chosen: str | None) -> str:
    """The competition that a command is about. Raises KaggleError where nothing names one."""
    if chosen is not None:
        return competition_slug(chosen)
    if config.source == "kaggle":
        return competition_slug(config.competition)
    raise KaggleError(
        f"{paths.PARAMS}: download.source is {config.source}, so no competition is named there. "
        "Say which: --competition SLUG"
    )


def _ask(question: str) -> bool:
    if not sys.stdin.isatty():
        raise SubmissionError(f"{question} There is no terminal to answer on: add --yes")
    return typer.confirm(question, err=True)


def _print_entries(entries: list[Entry]) -> None:
    table = Table(box=None, pad_edge=False)
    columns = ("ref", "submitted (UTC)", "file", "cross-validated", "forecast", "public", "private")
    for name in (*columns, "status"):
        table.add_column(name, no_wrap=name != "status")
    for entry in entries:
        forecast = f"{_short(entry.forecast_low)} to {_short(entry.forecast_high)}"
        table.add_row(
            entry.ref or "–",
            entry.submitted[:16].replace("T", " "),
            entry.file,
            _short(entry.cross_validated),
            forecast if entry.forecast_low else "–",
            entry.public or "–",
            entry.private or "–",
            f"{entry.status}: {entry.error}" if entry.error else entry.status,
        )
    Console(highlight=False, width=None if Console().is_terminal else 160).print(table)


def _short(figure: str) -> str:
    return f"{float(figure):.4f}" if figure else "–"
