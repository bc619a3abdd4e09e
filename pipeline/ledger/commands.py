"""The commands outside DVC about submissions: submit, scores, finals, leaderboard.

Results are printed on standard output, progress on standard error.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipeline.core import paths
from pipeline.core.audit import Audit
from pipeline.core.competition import read_competition
from pipeline.core.errors import KaggleError, PipelineError, SubmissionError
from pipeline.core.files import is_there
from pipeline.core.progress import say
from pipeline.core.record import read_record
from pipeline.core.tables import read_csv
from pipeline.core.terminal import ask, make_table, print_line, print_table
from pipeline.download.config import DownloadConfig
from pipeline.kaggle.client import Kaggle
from pipeline.kaggle.slug import competition_slug
from pipeline.ledger.history import is_absent, number, read_groups, recall
from pipeline.ledger.ledger import Entry, latest, locked, read_ledger
from pipeline.ledger.rank import describe_rank
from pipeline.ledger.scores import check_bytes, update_scores
from pipeline.ledger.submit import Order
from pipeline.ledger.submit import submit as submit_order
from pipeline.scoring.metrics import metric_for, metric_named
from pipeline.scoring.names import Asked
from pipeline.scoring.submission import check_submission
from pipeline.scoring.which_form import read_form

_MOST = 20
"""Characters of a score in a table."""


def submit(order: Order, metric: str, yes: bool, asked: Asked = "auto") -> None:
    """Check a file, submit it once, and print its score. Raises SubmissionError, KaggleError.

    metric, asked: ensemble.metric and ensemble.form, which decide what the file must hold.
    """
    order = replace(order, file=Path(os.path.relpath(order.file)))
    task = read_competition(paths.COMPETITION).task
    form = read_form(paths.SAMPLE_SUBMISSION, metric_for(metric, task), task, asked)
    check_submission(order.file, form)
    say(f"{order.file}: columns, ids, order and {form.holds} are as the sample submission asks")
    with locked(paths.LEDGER):
        doubts = asking(False, SubmissionError, "run the same command on one")
        entry = submit_order(order, Kaggle, asking(yes, SubmissionError), doubts)
    _print_entries([entry])
    if entry.status == "error":
        reason = entry.error or "it gives no reason"
        raise SubmissionError(f"submission {entry.ref}: Kaggle could not score it: {reason}")


def scores(competition: str) -> None:
    """Bring the ledger up to date with Kaggle and print what is known of each submission.

    Raises SubmissionError where Kaggle scored other bytes than were recorded as sent.
    """
    from pipeline.ledger.explain import explain_entries  # scipy.stats: 0.6 s

    with locked(paths.LEDGER):
        entries = update_scores(competition, Kaggle())
    _check_any(entries, competition)
    _print_entries(entries)
    audit = read_record(paths.AUDIT, Audit, "prepare") if is_there(paths.AUDIT) else None
    for line in explain_entries(entries, audit):
        print_line(line)
    check_bytes(entries)


def finals(competition: str) -> None:
    """Print the rule's choice of the two final submissions among the ledger's."""
    from pipeline.ledger.finals import choose_finals, describe_finals  # scipy.stats: 0.6 s

    entries = latest(read_ledger(paths.LEDGER), competition)
    _check_any(entries, competition)
    for line in describe_finals(choose_finals(recall(entries), read_groups(paths.FOLDS))):
        print_line(line)


def leaderboard(competition: str, metric: str, public_share: float) -> None:
    """Print our rank on the public leaderboard, and how much of it is luck."""
    test_rows = len(read_csv(paths.SAMPLE_SUBMISSION))
    for line in describe_rank(competition, Kaggle(), metric_named(metric), test_rows, public_share):
        print_line(line)


def slug(config: DownloadConfig, chosen: str | None) -> str:
    """The competition that a command is about. Raises KaggleError where neither names one."""
    if chosen is not None:
        return competition_slug(chosen)
    if config.source == "kaggle":
        return competition_slug(config.competition)
    raise KaggleError(
        f"{paths.PARAMS}: download.source is {config.source}, so no competition is named there. "
        "Say which: --competition SLUG"
    )


def asking(
    yes: bool, error: type[PipelineError], otherwise: str = "add --yes"
) -> Callable[[str], bool]:
    """A question to the user, who may have answered it with --yes.

    Without a terminal it is an error, which says what to do otherwise.
    """

    def answer(question: str) -> bool:
        if yes:
            return True
        if not sys.stdin.isatty():
            raise error(f"{question} There is no terminal to answer on: {otherwise}")
        return ask(question)

    return answer


def _check_any(entries: list[Entry], competition: str) -> None:
    if not entries:
        raise SubmissionError(f"{paths.LEDGER}: {competition}: nothing was submitted yet")


def _print_entries(entries: list[Entry]) -> None:
    columns = ("ref", "submitted (UTC)", "file", "cross-validated", "forecast", "public", "private")
    rows = []
    for entry in entries:
        forecast = f"{_short(entry.forecast_low)} to {_short(entry.forecast_high)}"
        rows.append(
            [
                entry.ref or "–",
                entry.submitted[:16].replace("T", " "),
                entry.file or "–",
                _short(entry.cross_validated),
                forecast if entry.forecast_low else "–",
                "–" if is_absent(entry.public) else entry.public[:_MOST],
                "–" if is_absent(entry.private) else entry.private[:_MOST],
                f"{entry.status}: {entry.error[:300]}" if entry.error else entry.status,
            ]
        )
    print_table(make_table([*columns, "status"], rows, wrapped=["status"]), width=160)


def _short(figure: str) -> str:
    """A figure of our own with four digits after the point."""
    found = number(figure)
    if found is not None:
        return f"{found:.4f}"
    return "–" if is_absent(figure) else figure[:_MOST]
