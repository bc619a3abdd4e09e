"""Which submission on Kaggle is which file.

Its bytes decide, where Kaggle gives them. Otherwise it is the mark in its description, unless what
else Kaggle says contradicts it: anybody in the team may copy a description, so then the user is
asked. A mark is new for each attempt, and stands first, where Kaggle shortens no description.
"""

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import KaggleError, SubmissionError
from pipeline.core.files import sha256_of
from pipeline.core.progress import say
from pipeline.kaggle.answers import Submission
from pipeline.kaggle.client import Kaggle
from pipeline.ledger.git import file_at, git
from pipeline.ledger.ledger import Entry, Status, moment

Ask = Callable[[str], bool]
"""Asks whether two files are the same. Raises SubmissionError where nobody can answer."""

CLOCKS = timedelta(minutes=15)
"""How far this machine's clock may be ahead of Kaggle's."""

_MARK = re.compile(r"\[sha256:([0-9a-f]{16}) #(\d{1,6}(?:-[0-9a-f]{6})?)\]", re.ASCII)
_LIKE_A_MARK = re.compile(r"\[sha\W*256|sha\W*256(:|\W*[0-9a-f]{16})")


def new_mark(sha256: str, attempt: int) -> str:
    """The mark of one more attempt to submit a file, unlike that of another clone."""
    return f"{sha256[:16]} #{attempt}-{secrets.token_hex(3)}"


def describe(mark: str, message: str) -> str:
    """The description on Kaggle. Raises SubmissionError where the message looks like a mark."""
    letters = unicodedata.normalize("NFKD", message).casefold()
    plain = "".join(each for each in letters if unicodedata.category(each)[0] not in "CMZ")
    if _LIKE_A_MARK.search(plain):
        raise SubmissionError(
            f"--message: expected a text without a mark as [sha256:…], by which a submission is "
            f"found again, found {message[:80]!r}. Leave it out"
        )
    return f"[sha256:{mark}] {message}"


def mark_of(found: Submission) -> str:
    """The mark in a description, as in the ledger; "" where there is none.

    The last one: some descriptions begin with a message, which may hold others.
    """
    marks = _MARK.findall(found.description)
    return " #".join(marks[-1]) if marks else ""


def claims(found: Submission, sha256: str) -> bool:
    """Whether the description has a mark of this file."""
    return bool(sha256) and mark_of(found)[:16] == sha256[:16]


def read_file(found: Submission, competition: str, kaggle: Kaggle) -> bytes | None:
    """The submitted bytes; None, with the reason said, where Kaggle does not give them."""
    try:
        return kaggle.read_submission(competition, found)
    except KaggleError as error:
        say(f"submission {found.ref}: its file cannot be read: {error}")
        return None


def is_file_of(
    found: Submission, content: bytes | None, entry: Entry, kaggle: Kaggle, ask: Ask
) -> bool:
    """Whether a submission that carries a mark of the entry's file is that file.

    content: the submission's, if known. Raises as `ask`, which is asked in case of doubt.
    """
    if content is not None:
        return hashlib.sha256(content).hexdigest() == entry.sha256
    doubts = _find_doubts(found, entry, kaggle)
    return not doubts or ask(
        f"Kaggle's submission {found.ref} carries the mark of {entry.file}, but "
        f"{' and '.join(doubts)}. See https://www.kaggle.com/competitions/{entry.competition}"
        "/submissions: is it this file?"
    )


def _find_doubts(found: Submission, entry: Entry, kaggle: Kaggle) -> list[str]:
    """What contradicts a mark."""
    doubts, path = [], Path(entry.file)
    if found.file_name and found.file_name != path.name:
        doubts.append(f"its name is {found.file_name!r}")
    bytes_here = path.stat().st_size if path.is_file() else None
    if bytes_here is not None and found.bytes not in (None, bytes_here):
        doubts.append(f"it has {found.bytes} bytes, not {bytes_here}")
    if found.date and entry.submitted and moment(found.date) + CLOCKS < moment(entry.submitted):
        doubts.append(f"it is of {found.date[:16]}, before this one was sent")
    if found.owner:
        try:
            user = kaggle.user()
        except KaggleError:
            user = ""
        if user and user.casefold() != found.owner.casefold():
            doubts.append(f"{found.owner!r} sent it, not {user!r}")
    return doubts


def updated(entry: Entry, found: Submission, content: bytes | None = None) -> Entry:
    """The entry with what Kaggle says now. content: the submission's, where it was read."""
    status: Status = found.status  # type: ignore[assignment]
    read = "" if content is None else hashlib.sha256(content).hexdigest()
    return replace(
        entry,
        status=status,
        ref=str(found.ref),
        public=found.public or entry.public,
        private=found.private or entry.private,
        error=found.error,
        kaggle_sha256=read or entry.kaggle_sha256,
    )


def adopt(found: Submission, content: bytes | None, competition: str, known: list[Entry]) -> Entry:
    """An entry for a submission that Kaggle has and the ledger, of which all is known, does not.

    Its commit is the last that changed the file, "" where the file is not as committed. The mark
    of its description is its own where its bytes say so, and no other one has it.
    """
    sha256, file, commit = "", found.file_name, ""
    if content is None:
        say(f"submission {found.ref}: without its file its commit is unknown")
    else:
        sha256 = hashlib.sha256(content).hexdigest()
        for path in sorted(paths.LEDGER.parent.glob("*.csv")):
            if path != paths.LEDGER and path.is_file() and sha256_of(path) == sha256:
                file = path.as_posix()
                if file_at("HEAD", path) == path.read_bytes():
                    commit = git("log", "-1", "--format=%H", "--", file)
                break
    mark = mark_of(found)
    if not claims(found, sha256) or any(entry.mark == mark for entry in known):
        mark = f"ref {found.ref}"
    entry = Entry("", "pending", found.date, competition, file, sha256, commit, mark=mark)
    return updated(entry, found, content)
