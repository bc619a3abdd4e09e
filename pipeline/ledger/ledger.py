"""The ledger: submissions/ledger.csv, one line for each thing that became known of a submission.

Lines are only ever added, each written before or after one step that cannot be undone. So a
process that is killed between two steps leaves a true ledger, from which the next process goes
on. The last line with a mark in a competition is what is known of that submission. git merges the
ledgers of two clones by keeping the lines of both (.gitattributes).
"""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock, Timeout

from pipeline.core.errors import SubmissionError
from pipeline.core.files import write_text

Status = Literal["uploading", "pending", "complete", "error", "refused", "lost"]
"""uploading: about to be sent; it is not known whether Kaggle has it. pending: Kaggle has it, no
score yet. complete: scored. error: Kaggle could not score it. refused: Kaggle did not accept it.
lost: it never reached Kaggle."""

COUNTED: tuple[Status, ...] = ("uploading", "pending", "complete")
"""In these states it may count towards the day's limit: the same file is not sent again."""

DIRTY = "-dirty"
"""Follows the commit where files of the working tree differed from it."""


@dataclass(frozen=True)
class Entry:
    """A line; every field is text, "" where nothing is known."""

    time: str
    """When this line was written: UTC, ISO 8601."""
    status: Status
    submitted: str
    """When the file was sent: UTC, ISO 8601."""
    competition: str
    file: str
    """Relative to the repository."""
    sha256: str = ""
    commit: str = ""
    """The repository's commit, with DIRTY where it applies."""
    dvc_lock: str = ""
    """SHA-256 of dvc.lock."""
    params: str = ""
    """SHA-256 of params.yaml."""
    metric: str = ""
    """The competition's metric, from the file's card: all scores of the line are by it."""
    cross_validated: str = ""
    """The card's score."""
    forecast_low: str = ""
    forecast_high: str = ""
    """The card's interval for the public score."""
    mark: str = ""
    """Is part of the description on Kaggle, and identifies this submission here."""
    ref: str = ""
    """Kaggle's number."""
    public: str = ""
    private: str = ""
    error: str = ""
    """Kaggle's message."""

    @property
    def title(self) -> str:
        """For a message."""
        return f"{self.file} (submission {self.ref})" if self.ref else self.file

    @property
    def base_commit(self) -> str:
        """The commit without DIRTY."""
        return self.commit.removesuffix(DIRTY)


COLUMNS = [field.name for field in fields(Entry)]


def read_ledger(path: Path) -> list[Entry]:
    """All lines, oldest first; none without a file. Raises SubmissionError on an invalid ledger."""
    if not path.exists():
        return []
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    if not rows or rows[0] != COLUMNS:
        raise SubmissionError(f"{path}: line 1: expected the columns {','.join(COLUMNS)}")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(COLUMNS) or row[1] not in get_args(Status):
            raise SubmissionError(
                f"{path}: line {number}: expected {len(COLUMNS)} fields, the second one of "
                f"{', '.join(get_args(Status))}; found {','.join(row)[:80]!r}. "
                f"Fix it, or: git checkout HEAD -- {path}"
            )
    return [Entry(*row) for row in rows[1:]]  # type: ignore[arg-type]


def append(path: Path, entry: Entry) -> None:
    """Add a line. All earlier bytes stay as they are; the file is whole at every moment."""
    text = path.read_text(encoding="utf-8") if path.exists() else ",".join(COLUMNS) + "\n"
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(asdict(entry).values())
    write_text(path, text + line.getvalue())


def latest(entries: list[Entry], competition: str | None = None) -> list[Entry]:
    """What is known of each submission, in the order of first lines; competition None: of all."""
    last = {(entry.competition, entry.mark): entry for entry in entries}
    return [entry for entry in last.values() if competition in (None, entry.competition)]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time submit or update. Raises SubmissionError while another does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=0):
            yield
    except Timeout:
        raise SubmissionError(
            f"{path}: another process is submitting or reading scores. Wait for it"
        ) from None
