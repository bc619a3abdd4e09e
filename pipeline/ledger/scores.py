"""Updating the ledger from Kaggle: open submissions, private scores, files sent by other means.

A file that was submitted by `kaggle competitions submit` is fetched from Kaggle once, so that its
hash shows which file it was, and git which commit holds it.
"""

import hashlib

from pipeline.core import paths
from pipeline.core.errors import KaggleError
from pipeline.core.files import sha256_of
from pipeline.core.progress import say
from pipeline.kaggle.answers import Submission
from pipeline.kaggle.client import Kaggle
from pipeline.ledger.git import file_at, git
from pipeline.ledger.ledger import Entry, latest, read_ledger
from pipeline.ledger.submit import mark_of, now, record, settle, updated


def update_scores(competition: str, kaggle: Kaggle) -> list[Entry]:
    """Record whatever Kaggle newly knows; returns what is known of each submission, oldest first.

    The caller holds the ledger's lock. Raises KaggleError.
    """
    for open_entry in latest(read_ledger(paths.LEDGER), competition):
        if open_entry.status == "uploading" and settle(open_entry, kaggle).status == "lost":
            say(f"{open_entry.file}: never reached Kaggle. To send it: python -m pipeline submit")
    entries = latest(read_ledger(paths.LEDGER), competition)
    known = {key: entry for entry in entries for key in (entry.ref, entry.mark) if key}
    for found in reversed(kaggle.list_submissions(competition)):
        entry = known.get(str(found.ref)) or known.get(mark_of(found))
        new = updated(entry, found) if entry else _adopt(found, competition, kaggle)
        if new != entry:
            record(new)
    return latest(read_ledger(paths.LEDGER), competition)


def _adopt(found: Submission, competition: str, kaggle: Kaggle) -> Entry:
    """An entry for a submission that Kaggle has and the ledger does not.

    Its commit is the last that changed the file, "" where the file is not as committed.
    """
    sha256, file, commit = "", found.file_name, ""
    try:
        content = kaggle.read_submission(competition, found.ref)
    except KaggleError as error:
        say(f"submission {found.ref}: without its file its commit is unknown: {error}")
    else:
        sha256 = hashlib.sha256(content).hexdigest()
        for path in sorted(paths.LEDGER.parent.glob("*.csv")):
            if path != paths.LEDGER and sha256_of(path) == sha256:
                file = path.as_posix()
                if file_at("HEAD", path) == path.read_bytes():
                    commit = git("log", "-1", "--format=%H", "--", file)
                break
    entry = Entry(
        time=now(),
        status="pending",
        submitted=found.date,
        competition=competition,
        file=file,
        sha256=sha256,
        commit=commit,
        mark=mark_of(found) or f"ref {found.ref}",
    )
    return updated(entry, found)
