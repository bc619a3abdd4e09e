"""Updating the ledger from Kaggle: open submissions, private scores, files sent by other means.

Each scored file is fetched from Kaggle once: its hash proves that the score is the ledger's file's,
and shows which file it was, and git which commit holds it, where the ledger did not send it.
"""

import hashlib

from pipeline.core import paths
from pipeline.core.errors import KaggleError, SubmissionError, examples, plural
from pipeline.core.progress import say
from pipeline.kaggle.answers import Submission
from pipeline.kaggle.client import Kaggle
from pipeline.ledger.ledger import COUNTED, Entry, latest, parse_ledger, read_ledger
from pipeline.ledger.match import adopt, is_file_of, mark_of, read_file, updated
from pipeline.ledger.submit import record, settle


def update_scores(competition: str, kaggle: Kaggle) -> list[Entry]:
    """Record whatever Kaggle newly knows; returns what is known of each submission, oldest first.

    The caller holds the ledger's lock. Raises KaggleError.
    """
    for entry in latest(read_ledger(paths.LEDGER), competition):
        if entry.status == "uploading":
            _settle(entry, kaggle)
    known = latest(parse_ledger(paths.LEDGER)[0], competition)
    entry_of = {entry.ref: entry for entry in known if entry.ref}
    ours = kaggle.list_submissions(competition)
    for found in reversed(ours):
        old = entry_of.get(str(found.ref))
        new = updated(old, found) if old else _recognise(found, competition, known, kaggle)
        if new != old:
            known.append(record(new))
    _read_back(ours, competition, kaggle)
    return latest(parse_ledger(paths.LEDGER)[0], competition)


def check_bytes(entries: list[Entry]) -> None:
    """Raises SubmissionError where Kaggle scored other bytes than a line of the ledger says."""
    others = [entry for entry in entries if entry.scored_sha256 != entry.sha256]
    if others:
        first = others[0]
        more = f"; so it is with {len(others) - 1} more" if len(others) > 1 else ""
        raise SubmissionError(
            f"{first.title}: Kaggle has other bytes than were recorded as sent: SHA-256 "
            f"{first.kaggle_sha256} there, {first.sha256} in {paths.LEDGER}{more}. So its score "
            "says nothing of this file, its forecast and its commit, and no command uses it for "
            f"them. See https://www.kaggle.com/competitions/{first.competition}/submissions; the "
            f"file itself may be sent: python -m pipeline submit {first.file}"
        )


def _read_back(ours: list[Submission], competition: str, kaggle: Kaggle) -> None:
    """Record which bytes Kaggle has of each scored file that was sent from here, once.

    Those that it does not give, the next `scores` asks for again; without an answer or such a call
    none of the others.
    """
    unread = dict[str, KaggleError]()
    entry_of = {each.ref: each for each in latest(parse_ledger(paths.LEDGER)[0], competition)}
    for found in ours:
        entry = entry_of.get(str(found.ref))
        if not (entry and entry.status == "complete" and entry.sha256) or entry.kaggle_sha256:
            continue
        try:
            read = hashlib.sha256(kaggle.read_submission(competition, found)).hexdigest()
            if found.bytes is None and read != entry.sha256:  # as a proxy's page would be
                raise KaggleError("other bytes came, and Kaggle does not say how many it has", 200)
        except KaggleError as error:
            unread[entry.ref] = error
            if error.status is None or error.status >= 429:
                break
        else:
            record(entry, kaggle_sha256=read)
            if read == entry.sha256:
                say(f"{entry.title}: its score is of the recorded bytes")
    if unread:
        say(
            f"{plural(len(unread), 'submission')} {examples(list(unread))}: whether the recorded "
            f"bytes got the score is not proven: {next(iter(unread.values()))}"
        )


def _settle(entry: Entry, kaggle: Kaggle) -> None:
    try:
        if settle(entry, kaggle, _nobody).status == "lost":
            say(f"{entry.title}: never reached Kaggle. To send it: python -m pipeline submit")
    except SubmissionError as doubt:
        say(f"{doubt} To answer, on a terminal: python -m pipeline submit {entry.file}")


def _recognise(found: Submission, competition: str, known: list[Entry], kaggle: Kaggle) -> Entry:
    """The entry of a submission whose number the ledger does not have."""
    content = read_file(found, competition, kaggle)
    for entry in known:
        if not entry.ref and entry.mark == mark_of(found):
            try:
                if is_file_of(found, content, entry, kaggle, _nobody):
                    return updated(entry, found, content)
            except SubmissionError as doubt:
                say(str(doubt))
    new = adopt(found, content, competition, known)
    for entry in known:
        if new.sha256 and entry.scored_sha256 == new.sha256 and entry.status in COUNTED:
            say(f"{new.title}: was sent as submission {entry.ref}, too: both count")
            break
    return new


def _nobody(question: str) -> bool:
    raise SubmissionError(question)
