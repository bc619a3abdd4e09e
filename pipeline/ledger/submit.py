"""Submitting to Kaggle: checked first, never twice, recorded before and after.

Kaggle cannot recognise that a submission is sent a second time, and only a few are allowed a day.
So each carries a mark in its description, the ledger says beforehand that it is about to be sent,
and whenever it is not known whether Kaggle has one, its list of submissions is searched for the
mark.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.core import paths
from pipeline.core.errors import KaggleError, LostReplyError, SubmissionError
from pipeline.core.progress import say
from pipeline.kaggle.client import Kaggle, Limits, Submission
from pipeline.ledger.ledger import COUNTED, Entry, Status, append, latest, read_ledger
from pipeline.ledger.provenance import Provenance, explain_obstacles, trace
from pipeline.scoring.card import Card

SETTLE_S = 30.0
"""How long a submission whose reply was lost may take to appear in Kaggle's list."""

POLL_S = (2.0, 30.0)
"""First and longest pause between two questions for a score."""

_MARK = re.compile(r"\[sha256:([0-9a-f]{16}) #(\d+)\]")


@dataclass(frozen=True)
class Order:
    """What to submit: a file that was checked, where, and how it is described there."""

    file: Path
    """Relative to the repository's root."""
    competition: str
    message: str
    """The description on Kaggle; "" for one with the cross-validated score."""
    unreproducible: bool
    """Submit although the file could not be rebuilt from a commit."""
    wait_s: float
    """How long to wait for the score."""


def submit(order: Order, sign_in: Callable[[], Kaggle], confirm: Callable[[str], bool]) -> Entry:
    """Submit a file and wait for its score; returns the ledger's last line about it.

    The caller holds the ledger's lock. sign_in is called after all local checks have passed;
    confirm asks the user a question and returns whether to submit.
    Raises SubmissionError where the file was submitted before, cannot be rebuilt, the day's limit
    is reached or the user declines; KaggleError where Kaggle refuses; LostReplyError where Kaggle's
    reply was lost and the submission is not there.
    """
    provenance = trace(order.file)
    if provenance.obstacles and not order.unreproducible:
        raise SubmissionError(
            f"{order.file}: could not be rebuilt from a commit: "
            f"{explain_obstacles(provenance.obstacles)}; or submit it anyway with --unreproducible"
        )
    before = [
        entry
        for entry in latest(read_ledger(paths.LEDGER), order.competition)
        if entry.sha256 == provenance.sha256
    ]
    last = before[-1] if before else None
    if last and last.status == "complete":
        raise _submitted_before(order.file, last.ref, "the ledger")
    kaggle = sign_in()
    if last and last.status == "uploading":
        say(f"{order.file}: an earlier attempt was interrupted: looking for it on Kaggle")
        last = settle(last, kaggle)
    if last and last.status in COUNTED:
        say(f"{order.file}: was submitted before, as {last.ref}: not sent again")
        return wait_for_score(last, kaggle, order.wait_s)
    for found in kaggle.list_submissions(order.competition):
        if mark_of(found)[:16] == provenance.sha256[:16] and found.status != "error":
            raise _submitted_before(order.file, str(found.ref), "Kaggle")
    if not confirm(_question(order, provenance.card, kaggle.limits(order.competition))):
        raise SubmissionError(f"{order.file}: not submitted")
    entry = record(_entry(order, provenance, attempt=len(before) + 1))
    return wait_for_score(_send(order, entry, kaggle), kaggle, order.wait_s)


def settle(entry: Entry, kaggle: Kaggle) -> Entry:
    """Record whether Kaggle has a submission; looks for SETTLE_S, since its list may be late."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        for found in kaggle.list_submissions(entry.competition):
            if mark_of(found) == entry.mark:
                return record(updated(entry, found))
        if time.monotonic() >= deadline:
            return record(entry, status="lost", error="never arrived")
        time.sleep(POLL_S[0])


def wait_for_score(entry: Entry, kaggle: Kaggle, wait_s: float) -> Entry:
    """Ask for a pending submission's score until Kaggle has it, or wait_s are over."""
    deadline = time.monotonic() + wait_s
    pause_s, longest_s = POLL_S
    while entry.status == "pending":
        try:
            found = kaggle.get_submission(entry.competition, int(entry.ref))
        except KaggleError as error:
            if error.status != 404:  # right after submitting, Kaggle may not know it yet
                raise
        else:
            if found.status != "pending":
                return record(updated(entry, found))
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            say(f"submission {entry.ref}: no score yet. Later: python -m pipeline scores")
            return entry
        say(f"submission {entry.ref}: waiting for its score, at most {left_s:.0f} s more")
        time.sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, longest_s)
    return entry


def mark_of(found: Submission) -> str:
    """The mark in a description, as `HASH #N`; "" where there is none."""
    mark = _MARK.search(found.description)
    return f"{mark[1]} #{mark[2]}" if mark else ""


def updated(entry: Entry, found: Submission) -> Entry:
    """The entry with what Kaggle says now."""
    status: Status = found.status  # type: ignore[assignment]
    return replace(
        entry,
        status=status,
        ref=str(found.ref),
        public=found.public or entry.public,
        private=found.private or entry.private,
        error=found.error,
    )


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def record(entry: Entry, **changes: Any) -> Entry:
    """Add a line to the ledger, of an entry in which some fields changed now."""
    entry = replace(entry, time=now(), **changes)
    append(paths.LEDGER, entry)
    return entry


def _submitted_before(file: Path, ref: str, where: str) -> SubmissionError:
    return SubmissionError(
        f"{file}: was submitted before: {where} has it as submission {ref}. The same file gets the "
        "same score; to see it: python -m pipeline scores"
    )


def _question(order: Order, card: Card | None, limits: Limits) -> str:
    """Whether to submit. Raises SubmissionError where today's limit is reached."""
    if limits.allowed < 1:
        raise SubmissionError(
            f"{order.competition}: today's limit is reached after {limits.today} submissions. "
            "Kaggle allows new ones from 00:00 UTC"
        )
    known = ""
    if card:
        low, high = card.forecast.public
        known = (
            f"cross-validated {card.metric.name.replace('_', ' ')} {card.metric.value:.4f}, "
            f"public score expected from {low:.4f} to {high:.4f}. "
        )
    return (
        f"{order.file}: {known}Today {limits.today} submitted, {limits.allowed} left. "
        f"Submit to {order.competition}?"
    )


def _entry(order: Order, provenance: Provenance, attempt: int) -> Entry:
    card = provenance.card
    low, high = card.forecast.public if card else ("", "")
    return Entry(
        time=now(),
        status="uploading",
        submitted=now(),
        competition=order.competition,
        file=order.file.as_posix(),
        sha256=provenance.sha256,
        commit=provenance.commit,
        dvc_lock=provenance.dvc_lock,
        params=provenance.params,
        metric=card.metric.name if card else "",
        cross_validated=str(card.metric.value) if card else "",
        forecast_low=str(low),
        forecast_high=str(high),
        mark=f"{provenance.sha256[:16]} #{attempt}",
    )


def _send(order: Order, entry: Entry, kaggle: Kaggle) -> Entry:
    score = f"{entry.metric} {entry.cross_validated}" if entry.cross_validated else "unknown"
    message = order.message or f"{order.file.stem}, cross-validated {score}"
    try:
        token = kaggle.upload(order.competition, order.file)
        ref = kaggle.create_submission(order.competition, token, f"{message} [sha256:{entry.mark}]")
    except LostReplyError as error:
        say(f"{error}. Looking for it on Kaggle, so that it is not sent twice")
        settled = settle(entry, kaggle)
        if settled.status == "lost":
            raise LostReplyError(
                f"{error}. It is not on Kaggle: the same command sends it again"
            ) from error
        return settled
    except KaggleError as error:
        record(entry, status="refused", error=str(error))
        raise
    say(f"{order.file}: submitted as {ref}")
    return record(entry, status="pending", ref=str(ref))
