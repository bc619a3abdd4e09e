"""The ledger: submissions/ledger.csv, one line for each thing that became known of a submission.

Lines are only ever added, each written before or after one step that cannot be undone. So a
process that is killed between two steps leaves a true ledger, from which the next process goes
on. git merges the ledgers of two clones by keeping the lines of both (.gitattributes), and people
edit them: so a line that is not understood is kept and shown, and hides no other one.
"""

import csv
import errno
import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from filelock import FileLock, Timeout
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from pipeline.core.errors import SubmissionError
from pipeline.core.files import MOST_FIELD, disk_errors_named, is_there, new_file, read_whole
from pipeline.core.progress import say

Status = Literal["uploading", "pending", "complete", "error", "refused", "lost"]
"""uploading: about to be sent; it is not known whether Kaggle has it. pending: Kaggle has it, no
score yet. complete: scored. error: Kaggle could not score it. refused: Kaggle did not accept it.
lost: it never reached Kaggle."""

COUNTED: tuple[Status, ...] = ("complete", "pending", "uploading")
"""In these states it may count towards the day's limit: the same file is not sent again."""

DIRTY = "-dirty"
"""Follows the commit where files of the working tree differed from it."""

CONFLICT = re.compile(rb"(<{7}|\|{7}|={7}|>{7})(?: .*)?")
"""A line that git leaves in a file where it could not merge."""

csv.field_size_limit(MOST_FIELD)  # by default a field of 132 kB is an exception


def _check_moment(text: str) -> str:
    if text:
        datetime.fromisoformat(text)
    return text


Moment = Annotated[str, AfterValidator(_check_moment)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]*$")]


@dataclass(frozen=True)
class Entry:
    """A line; every field is text, "" where nothing is known."""

    time: Annotated[Moment, Field(min_length=1)]
    """When this line was written: UTC, ISO 8601."""
    status: Status
    submitted: Moment
    """When the file was sent: UTC, ISO 8601."""
    competition: str
    file: str
    """Relative to the repository."""
    sha256: Digest = ""
    commit: Annotated[str, Field(pattern=f"^[0-9a-f]*({DIRTY})?$")] = ""
    """The repository's commit, with DIRTY where it applies."""
    dvc_lock: Digest = ""
    """SHA-256 of dvc.lock."""
    params: Digest = ""
    """SHA-256 of params.yaml."""
    metric: str = ""
    """The competition's metric, from the file's card: all scores of the line are by it."""
    cross_validated: str = ""
    """The card's score."""
    forecast_low: str = ""
    forecast_high: str = ""
    """The card's interval for the public score."""
    mark: Annotated[str, Field(min_length=1)] = ""
    """Is part of the description on Kaggle, and identifies this submission here."""
    ref: Annotated[str, Field(pattern="^[0-9]{0,18}$")] = ""
    """Kaggle's number."""
    public: str = ""
    private: str = ""
    """Kaggle's own texts."""
    error: str = ""
    """Kaggle's message."""
    kaggle_sha256: Digest = ""
    """SHA-256 of the bytes that Kaggle has, once they were read back."""

    @property
    def title(self) -> str:
        """For a message."""
        name = self.file or "a file without a name"
        return f"{name} (submission {self.ref})" if self.ref else name

    @property
    def scored_sha256(self) -> str:
        """SHA-256 of the bytes that have the scores, as far as is known."""
        return self.kaggle_sha256 or self.sha256

    @property
    def base_commit(self) -> str:
        """The commit without DIRTY."""
        return self.commit.removesuffix(DIRTY)


COLUMNS = [field.name for field in fields(Entry)]
OLD_COLUMNS = COLUMNS[:18]
"""Without what earlier versions did not record."""

_ENTRY = TypeAdapter(Entry)


@dataclass(frozen=True)
class Unknown:
    """A line that is not understood."""

    place: str
    """The ledger and the line's number."""
    fault: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.fault}; the line stays and is not used: {self.text[:80]!r}"


def read_ledger(path: Path) -> list[Entry]:
    """All lines that are understood; the others are shown. Raises as `parse_ledger`."""
    entries, unknown = parse_ledger(path)
    for line in unknown:
        say(str(line))
    return entries


def parse_ledger(path: Path) -> tuple[list[Entry], list[Unknown]]:
    """The lines that are understood and the others; none without a file.

    Raises SubmissionError where the file has conflict markers, or is no ledger.
    """
    lines = read_whole(path, f"git checkout HEAD -- {path}").splitlines() if is_there(path) else []
    for number, line in enumerate(lines, start=1):
        if CONFLICT.fullmatch(line):
            raise SubmissionError(
                f"{path}: line {number}: a merge left its conflict markers. "
                "Run: python -m pipeline ledger merge, which keeps all lines of both sides"
            )
    if any(line.strip() for line in lines) and not is_header(lines[0]):
        raise SubmissionError(
            f"{path}: line 1: expected the columns {','.join(COLUMNS)}, found "
            f"{lines[0][:80].decode(errors='replace')!r}. Correct that line in an editor, as UTF-8 "
            f"with commas; to see the last one: git show HEAD:{path}"
        )
    entries, unknown = list[Entry](), list[Unknown]()
    for number, line in enumerate(lines[1:], start=2):
        if line.strip() and not is_header(line):
            try:
                entries.append(parse_line(line))
            except ValueError as error:
                text = line.decode(errors="backslashreplace")
                unknown.append(Unknown(f"{path}: line {number}", str(error), text))
    return entries, unknown


def is_header(line: bytes) -> bool:
    """Whether a line names the columns, as an editor may have written it."""
    names = line.decode("utf-8-sig", errors="replace").replace('"', "").split(",")
    return names in (COLUMNS, OLD_COLUMNS)


def parse_line(line: bytes) -> Entry:
    """A line without its end. Raises ValueError, with the reason, where it is not understood."""
    try:
        (row,) = csv.reader([line.decode()], strict=True)
    except UnicodeDecodeError:
        raise ValueError("expected UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"no line of a CSV file ({error})") from None
    if len(row) not in (len(COLUMNS), len(OLD_COLUMNS)):
        raise ValueError(f"expected {len(COLUMNS)} fields, found {len(row)}")
    try:
        entry = _ENTRY.validate_python(dict(zip(COLUMNS, row, strict=False)))
    except ValidationError as error:
        first = error.errors()[0]
        found = repr(first["input"])[:40]
        raise ValueError(f"{first['loc'][0]}: {first['msg']}, found {found}") from None
    if entry.status in ("pending", "complete") and not entry.ref:
        raise ValueError(f"expected Kaggle's number where the status is {entry.status}")
    return entry


def append(path: Path, entry: Entry) -> None:
    """Add a line; the file is whole at every moment.

    All earlier bytes stay as they are, but names of columns that an old first line lacks are added.
    """
    content = complete_header(path.read_bytes() if path.exists() else b"")
    end = line_end(content)
    if not content.strip():
        content = ",".join(COLUMNS).encode() + end
    elif not content.endswith((b"\n", b"\r")):
        content += end
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(
        " ".join(text.splitlines()) for text in asdict(entry).values()
    )
    replace_ledger(path, content + line.getvalue().encode(errors="backslashreplace") + end)


def complete_header(content: bytes) -> bytes:
    """A ledger whose first line names all columns; every other one stays."""
    first = next(iter(content.splitlines()), b"")
    if is_header(first) and COLUMNS[-1].encode() not in first:
        return first + f",{','.join(COLUMNS[len(OLD_COLUMNS) :])}".encode() + content[len(first) :]
    return content


def line_end(content: bytes) -> bytes:
    """What ends the first line of a file; a newline where nothing does."""
    found = re.search(rb"\r\n|\n|\r", content)
    return found[0] if found else b"\n"


def replace_ledger(path: Path, content: bytes) -> None:
    """Write the file whole, where a link leads to, with its mode."""
    place = path.resolve() if path.is_symlink() else path
    with new_file(place) as partial:
        partial.write_bytes(content)
        if place.exists():
            shutil.copymode(place, partial)


def latest(entries: list[Entry], competition: str | None = None) -> list[Entry]:
    """What is known of each submission, in the order of first lines; competition None: of all.

    A submission is identified by Kaggle's number, and by its mark until that is known. What a
    later line does not say is taken from earlier ones.
    """
    ordered = sorted(entries, key=lambda entry: moment(entry.time))
    refs = dict[tuple[str, str], str]()
    for entry in ordered:
        if entry.ref:
            refs.setdefault((entry.competition, entry.mark), entry.ref)
    known = dict[tuple[str, str], Entry]()
    for entry in ordered:
        ref = entry.ref or refs.get((entry.competition, entry.mark))
        key = entry.competition, ref or entry.mark
        known[key] = _complete(entry, known.get(key, entry))
    return [entry for entry in known.values() if competition in (None, entry.competition)]


def _complete(entry: Entry, before: Entry) -> Entry:
    unsaid = {name: text for name, text in asdict(before).items() if not getattr(entry, name)}
    return replace(entry, **unsaid | {"error": entry.error})


def moment(text: str) -> datetime:
    """A time of a line; the earliest of all for ""."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time submit or update.

    Raises SubmissionError while another does, and DiskError where the ledger may not be written.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    try:
        with disk_errors_named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            if path.exists() and not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, "read-only", str(path))
    except Timeout:
        raise SubmissionError(
            f"{path}: another process is submitting or reading scores. Wait for it"
        ) from None
    try:
        yield
    finally:
        lock.release()
