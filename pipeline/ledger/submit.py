"""Submitting to Kaggle: checked first, never twice, recorded before and after.

Kaggle cannot recognise that a submission is sent a second time, and only a few are allowed a day.
So each carries a mark in its description, the ledger says beforehand that it is about to be sent,
and whenever it is not known whether Kaggle has one, its list of submissions is searched
(`match.py`).
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.core import paths
from pipeline.core.errors import KaggleError, LostReplyError, SubmissionError
from pipeline.core.progress import say
from pipeline.kaggle.answers import Limits
from pipeline.kaggle.client import Kaggle
from pipeline.ledger.ledger import COUNTED, Entry, append, latest, parse_ledger
from pipeline.ledger.match import (
    Ask,
    adopt,
    claims,
    describe,
    is_file_of,
    mark_of,
    new_mark,
    read_file,
    updated,
)
from pipeline.ledger.provenance import Provenance, explain_obstacles, trace
from pipeline.scoring.card import Card, Forecast

SETTLE_S = 30.0
"""How long a submission whose reply was lost may take to appear in Kaggle's list."""

POLL_S = (2.0, 30.0)
"""First and longest pause between two questions for a score."""


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


def submit(
    order: Order, sign_in: Callable[[], Kaggle], confirm: Callable[[str], bool], ask: Ask
) -> Entry:
    """Submit a file and wait for its score; returns the ledger's last line about it.

    The caller holds the ledger's lock. sign_in is called after all local checks have passed;
    confirm asks the user a question and returns whether to submit; ask, whether a submission on
    Kaggle is this file. Raises SubmissionError where the file was submitted before, cannot be
    rebuilt, the day's limit is reached or the user declines; KaggleError where Kaggle refuses;
    LostReplyError where Kaggle's reply was lost and the submission is not there.
    """
    describe("", order.message or order.file.stem)
    provenance = trace(order.file)
    if provenance.obstacles and not order.unreproducible:
        raise SubmissionError(
            f"{order.file}: could not be rebuilt from a commit: "
            f"{explain_obstacles(provenance.obstacles)}; or submit it anyway with --unreproducible"
        )
    before = _find_before(order, provenance.sha256)
    for entry in before:
        if entry.status == "complete":
            raise _submitted_before(order.file, entry.ref, "the ledger")
    kaggle = sign_in()
    for earlier in before:
        last = earlier
        if last.status == "uploading":
            say(f"{order.file}: an earlier attempt was interrupted: looking for it on Kaggle")
            last = settle(last, kaggle, ask)
        if last.status in COUNTED:
            say(f"{order.file}: was submitted before, as {last.ref}: not sent again")
            return wait_for_score(last, kaggle, order.wait_s)
    entry = _entry(order, provenance, attempt=len(before) + 1)
    for copy in find_copies(replace(entry, submitted=""), kaggle, ask):
        raise _submitted_before(order.file, copy.ref, "Kaggle")
    limits = kaggle.limits(order.competition)
    if limits.refusal:
        raise SubmissionError(f"{order.competition}: {limits.refusal}")
    if not confirm(_question(order, provenance.card, limits)):
        raise SubmissionError(f"{order.file}: not submitted")
    entry = _send(order, record(entry, submitted=now()), kaggle, ask)
    say(f"{order.competition}: {limits.after_one().text}")
    _report_copies(entry, kaggle)
    return wait_for_score(entry, kaggle, order.wait_s)


def settle(entry: Entry, kaggle: Kaggle, ask: Ask) -> Entry:
    """Record whether Kaggle has a submission; looks for SETTLE_S, since its list may be late.

    Raises as `ask`, which is asked in case of doubt.
    """
    deadline = time.monotonic() + SETTLE_S
    others = set[int]()
    while True:
        for found in kaggle.list_submissions(entry.competition):
            if mark_of(found) == entry.mark and found.ref not in others:
                content = read_file(found, entry.competition, kaggle)
                if is_file_of(found, content, entry, kaggle, ask):
                    return record(updated(entry, found, content))
                others.add(found.ref)
        if time.monotonic() >= deadline:
            return record(entry, status="lost", error="never arrived")
        time.sleep(POLL_S[0])


def find_copies(entry: Entry, kaggle: Kaggle, ask: Ask) -> Iterator[Entry]:
    """Other submissions of the entry's file that Kaggle has; those not in the ledger come into it.

    Read are the files of those that carry a mark of it, or none at all and are as large, and were
    not read before. Raises as `ask`, which is asked in case of doubt.
    """
    size = Path(entry.file).stat().st_size
    known = latest(parse_ledger(paths.LEDGER)[0], entry.competition)
    entry_of = {each.ref: each for each in known}
    for found in kaggle.list_submissions(entry.competition):
        old, marked = entry_of.get(str(found.ref)), claims(found, entry.sha256)
        if found.status == "error" or entry.ref == str(found.ref):
            continue
        was_read = old is not None and old.kaggle_sha256
        alike = old is None and not mark_of(found) and found.bytes in (None, size)
        if alike or (marked and not was_read):
            content = read_file(found, entry.competition, kaggle)
            old = old or record(adopt(found, content, entry.competition, known))
            if marked and is_file_of(found, content, entry, kaggle, ask):
                yield old if old.sha256 else record(old, sha256=entry.sha256)
                continue
        if old and old.scored_sha256 == entry.sha256:
            yield old


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
        if not left_s > 0:  # nor where wait_s is no number
            say(f"submission {entry.ref}: no score yet. Later: python -m pipeline scores")
            return entry
        say(f"submission {entry.ref}: waiting for its score, at most {left_s:.0f} s more")
        time.sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, longest_s)
    return entry


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def record(entry: Entry, **changes: Any) -> Entry:
    """Add a line to the ledger, of an entry in which some fields changed now."""
    entry = replace(entry, time=now(), **changes)
    append(paths.LEDGER, entry)
    return entry


def _find_before(order: Order, sha256: str) -> list[Entry]:
    """What the ledger has of a file. Raises SubmissionError where it may have more."""
    entries, unknown = parse_ledger(paths.LEDGER)
    for line in unknown:
        say(str(line))
        if sha256[:16] in line.text:
            raise SubmissionError(
                f"{line.place}: {line.fault}, and this line names {order.file} by its hash: it may "
                "say that the file was submitted. Correct the line in an editor: nothing was sent"
            )
    known = latest(entries, order.competition)
    return [entry for entry in known if entry.scored_sha256 == sha256]


def _report_copies(entry: Entry, kaggle: Kaggle) -> None:
    """Say whether another clone has sent the same file at the same moment."""

    def ask(question: str) -> bool:
        say(question)
        return False

    try:
        for copy in find_copies(entry, kaggle, ask):
            say(f"{entry.title}: was sent from elsewhere, too, as submission {copy.ref}")
    except KaggleError as error:
        say(f"whether the same file was sent from elsewhere, too, is not known: {error}")


def _submitted_before(file: Path, ref: str, where: str) -> SubmissionError:
    return SubmissionError(
        f"{file}: was submitted before: {where} has it as submission {ref}. The same file gets the "
        "same score; to see it: python -m pipeline scores"
    )


def _question(order: Order, card: Card | None, limits: Limits) -> str:
    """Whether to submit."""
    known = ""
    if card:
        known = f"cross-validated {card.metric.name.replace('_', ' ')} {card.metric.value:.4f}"
        if isinstance(card.forecast, Forecast):
            low, high = card.forecast.public
            known += f", public score expected from {low:.4f} to {high:.4f}"
        known += ". "
    return f"{order.file}: {known}{limits.text}. Submit to {order.competition}?"


def _entry(order: Order, provenance: Provenance, attempt: int) -> Entry:
    card = provenance.card
    forecast = card.forecast if card else None
    low, high = forecast.public if isinstance(forecast, Forecast) else ("", "")
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
        mark=new_mark(provenance.sha256, attempt),
    )


def _send(order: Order, entry: Entry, kaggle: Kaggle, ask: Ask) -> Entry:
    score = f"{entry.metric} {entry.cross_validated}" if entry.cross_validated else "unknown"
    message = order.message or f"{order.file.stem}, cross-validated {score}"
    try:
        token = kaggle.upload(order.competition, order.file)
        ref = kaggle.create_submission(order.competition, token, describe(entry.mark, message))
    except LostReplyError as error:
        say(f"{error}. Looking for it on Kaggle, so that it is not sent twice")
        settled = settle(entry, kaggle, ask)
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
