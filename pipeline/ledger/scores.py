"""Updating the ledger from Kaggle: open submissions, private scores, files sent by other means.

A file that was submitted by `kaggle competitions submit` is fetched from Kaggle once, so that its
hash shows which file it was, and git which commit holds it.
"""

from pipeline.core import paths
from pipeline.core.errors import SubmissionError
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
    for found in reversed(kaggle.list_submissions(competition)):
        old = entry_of.get(str(found.ref))
        new = updated(old, found) if old else _recognise(found, competition, known, kaggle)
        if new != old:
            known.append(record(new))
    return latest(parse_ledger(paths.LEDGER)[0], competition)


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
                    return updated(entry, found)
            except SubmissionError as doubt:
                say(str(doubt))
    new = adopt(found, content, competition, known)
    for entry in known:
        if new.sha256 and entry.sha256 == new.sha256 and entry.status in COUNTED:
            say(f"{new.title}: was sent as submission {entry.ref}, too: both count")
            break
    return new


def _nobody(question: str) -> bool:
    raise SubmissionError(question)
