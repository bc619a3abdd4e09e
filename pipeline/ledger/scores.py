"""Bringing the ledger up to date with Kaggle: open submissions, private scores, other routes.

A file that was submitted by `kaggle competitions submit` is fetched from Kaggle once, so that its
hash tells which file it was, and git which commit holds it.
"""

import hashlib
import subprocess
from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import KaggleError
from pipeline.core.files import sha256_of
from pipeline.core.progress import say
from pipeline.kaggle.client import Kaggle, Submission
from pipeline.ledger.ledger import Entry, append, latest, read_ledger
from pipeline.ledger.submit import mark_of, now, settle, updated


def update_scores(competition: str, kaggle: Kaggle) -> list[Entry]:
    """Record everything that Kaggle knows anew; what is known of each submission, oldest first.

    To be called with the ledger locked. Raises KaggleError.
    """
    for open_entry in _of(competition):
        if open_entry.status == "uploading" and settle(open_entry, kaggle).status == "lost":
            say(
                f"{open_entry.file}: never reached Kaggle. python -m pipeline submit sends it again"
            )
    known = {key: entry for entry in _of(competition) for key in (entry.ref, entry.mark) if key}
    for found in reversed(kaggle.list_submissions(competition)):
        entry = known.get(str(found.ref)) or known.get(mark_of(found))
        new = updated(entry, found) if entry else _adopt(found, competition, kaggle)
        if new is not entry:
            append(paths.LEDGER, new)
    return _of(competition)


def _of(competition: str) -> list[Entry]:
    return [
        entry for entry in latest(read_ledger(paths.LEDGER)) if entry.competition == competition
    ]


def _adopt(found: Submission, competition: str, kaggle: Kaggle) -> Entry:
    """An entry for a submission that Kaggle has and the ledger has not."""
    sha256, file, commit = "", found.file_name, ""
    try:
        sha256 = hashlib.sha256(kaggle.read_submission(competition, found.ref)).hexdigest()
    except KaggleError as error:
        say(f"submission {found.ref}: its file is not to be had, so its commit is unknown: {error}")
    else:
        if path := _file_of(sha256):
            file, commit = path.as_posix(), _commit_of(path)
    return updated(
        Entry(
            time=now(),
            status="pending",
            submitted=found.date,
            competition=competition,
            file=file,
            sha256=sha256,
            commit=commit,
            dvc_lock="",
            params="",
            metric="",
            cross_validated="",
            forecast_low="",
            forecast_high="",
            mark=mark_of(found) or f"ref {found.ref}",
            ref=str(found.ref),
            public="",
            private="",
            error="",
        ),
        found,
    )


def _file_of(sha256: str) -> Path | None:
    """The CSV in submissions/ with these bytes."""
    folder = paths.LEDGER.parent
    files = sorted(path for path in folder.glob("*.csv") if path != paths.LEDGER)
    return next((path for path in files if sha256_of(path) == sha256), None)


def _commit_of(path: Path) -> str:
    """The last commit that changed a file, where the file still is as committed."""
    if subprocess.run(["git", "diff", "--quiet", "HEAD", "--", path], check=False).returncode:
        return ""
    done = subprocess.run(
        ["git", "log", "-1", "--format=%H", "--", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip()
