"""The ledger: submissions/ledger.csv, one line for each thing that became known of a submission.

Lines are only ever added, each written before or after one step that cannot be undone, so that a
process killed between any two leaves a truth from which the next goes on. The last line of a mark
in a competition is what is known of that submission. Two clones' ledgers merge as a union of
lines (.gitattributes).
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
"""uploading: about to be sent; whether Kaggle has it is open. pending: Kaggle has it, no score yet.
complete: scored. error: Kaggle could not score it. refused: Kaggle did not take it.
lost: it never reached Kaggle."""

OPEN: tuple[Status, ...] = ("uploading", "pending")
"""More will become known."""

COUNTED: tuple[Status, ...] = ("uploading", "pending", "complete")
"""A submission that may have cost one of the day's: the same file is not sent again."""


@dataclass(frozen=True)
class Entry:
    """A line; every field is text, "" where nothing is known."""

    time: str
    """Of this line: UTC, ISO 8601."""
    status: Status
    submitted: str
    """When it was sent: UTC, ISO 8601."""
    competition: str
    file: str
    """Relative to the repository."""
    sha256: str
    """Of the file."""
    commit: str
    """Of the repository; `-dirty` after it where the working tree differed."""
    dvc_lock: str
    """SHA-256 of dvc.lock."""
    params: str
    """SHA-256 of params.yaml."""
    metric: str
    """The competition's, from the file's card: what all scores of the line are by."""
    cross_validated: str
    """The card's figure."""
    forecast_low: str
    forecast_high: str
    """The card's interval for the public score."""
    mark: str
    """Stands in the description on Kaggle, and names this submission here."""
    ref: str
    """Kaggle's number."""
    public: str
    private: str
    error: str
    """Kaggle's words."""


COLUMNS = [field.name for field in fields(Entry)]


def read_ledger(path: Path) -> list[Entry]:
    """All lines, oldest first; none where there is no ledger.

    Raises SubmissionError where the file is no ledger: mended by hand, or a merge's conflict.
    """
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
                "Mend it, or: git checkout HEAD -- " + str(path)
            )
    return [Entry(*row) for row in rows[1:]]  # type: ignore[arg-type]


def append(path: Path, entry: Entry) -> None:
    """Add a line. All earlier bytes stay as they are; the file is whole at every moment."""
    text = path.read_text(encoding="utf-8") if path.exists() else ",".join(COLUMNS) + "\n"
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(asdict(entry).values())
    write_text(path, text + line.getvalue())


def latest(entries: list[Entry]) -> list[Entry]:
    """What is known of each submission, in the order of their first lines."""
    return list({(entry.competition, entry.mark): entry for entry in entries}.values())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time submit or bring the ledger up to date.

    Raises SubmissionError where another one is at it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise SubmissionError(
            f"{path}: another process is submitting or reading scores. Wait for it"
        ) from None
    try:
        yield
    finally:
        lock.release()
