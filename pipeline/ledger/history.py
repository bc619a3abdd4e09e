"""A submission of the ledger as it was: its card and its rows, from the working tree or from git.

Never what Kaggle or a solution tells of the private half: `Recalled` has no room for it.
"""

import csv
import hashlib
import io
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.core.errors import SubmissionError
from pipeline.core.tables import read_csv
from pipeline.ledger.agreement import Rows
from pipeline.ledger.ledger import COUNTED, Entry


@dataclass(frozen=True)
class Recalled:
    """What was known of a submission when it was made, and its public score."""

    name: str
    """Kaggle's number and the file."""
    mark: str
    public: float | None
    card: dict[str, Any] | None
    """The whole card; None where it is of another file by now and no commit has it."""
    rows: Rows | None
    """A label or probabilities, by id; None where the file is nowhere to be had."""

    @property
    def forecast(self) -> dict[str, Any] | None:
        """The card's part of that name."""
        return None if self.card is None else self.card.get("forecast")


def recall(entries: list[Entry]) -> list[Recalled]:
    """What is left of each submission that counts, in the ledger's order.

    Raises SubmissionError where a public score is no number.
    """
    return [_recall(entry) for entry in entries if entry.status in COUNTED]


def _recall(entry: Entry) -> Recalled:
    file = Path(entry.file)
    card = _card_of(entry, _versions(entry, file.with_suffix(".json")))
    text = next((t for t in _versions(entry, file) if _sha256(t) == entry.sha256), None)
    return Recalled(
        name=f"{entry.ref or 'not sent yet'} {entry.file}",
        mark=entry.mark,
        public=_number(entry),
        card=card,
        rows=None if text is None else _rows(text),
    )


def _versions(entry: Entry, path: Path) -> list[bytes]:
    """The file's bytes as they are, and as the entry's commit has them."""
    found = [path.read_bytes()] if path.is_file() else []
    if entry.commit and not path.is_absolute():
        name = f"{entry.commit.removesuffix('-dirty')}:{path.as_posix()}"
        try:
            done = subprocess.run(["git", "show", name], capture_output=True, check=False)
        except FileNotFoundError:  # no git
            return found
        if done.returncode == 0:
            found.append(done.stdout)
    return found


def _card_of(entry: Entry, versions: list[bytes]) -> dict[str, Any] | None:
    for version in versions:
        card: dict[str, Any] = json.loads(version)
        if card["sha256"]["submission"] == entry.sha256:
            return card
    return None


def _rows(text: bytes) -> Rows:
    rows = csv.reader(io.StringIO(text.decode("utf-8-sig"), newline=""))
    return {row[0]: tuple(row[1:]) for row in list(rows)[1:]}


def _sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _number(entry: Entry) -> float | None:
    try:
        return float(entry.public) if entry.public else None
    except ValueError as error:
        raise SubmissionError(
            f"submissions/ledger.csv: {entry.ref}: expected a number as the public score, found "
            f"{entry.public!r}"
        ) from error


def read_groups(path: Path) -> dict[str, str]:
    """The group of each training image, from folds/folds.csv; none where there is no such file."""
    if not path.is_file():
        return {}
    table: pd.DataFrame = read_csv(path).drop_duplicates("image_id")
    return dict(zip(table["image_id"], table["group"], strict=True))
