"""An earlier submission as it was sent: its card and its rows, from the working tree or git.

`PastSubmission` has no field for a private score, so whatever is decided from it alone cannot
depend on one.
"""

import csv
import hashlib
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.core import paths
from pipeline.core.errors import SubmissionError, TableError
from pipeline.core.progress import say
from pipeline.core.tables import FOLD_COLUMNS, IMAGE_COLUMNS, read_table
from pipeline.ledger.git import file_at
from pipeline.ledger.ledger import COUNTED, Entry
from pipeline.scoring.card import Card, NoForecast, parse_card

Answers = dict[str, tuple[str, ...]]
"""What a file says of each id: a label, or probabilities."""

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d{1,4})?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class PastSubmission:
    """What was known of a submission when it was made, and its public score."""

    name: str
    """Kaggle's number and the file."""
    public: float | None
    card: Card | None
    no_card: str
    """Why there is no card; "" where there is one."""
    answers: Answers | None
    """None where the submitted file is neither in the working tree nor in its commit."""


def recall(entries: list[Entry]) -> list[PastSubmission]:
    """What is left of each counted submission, in order."""
    submissions = []
    for entry in entries:
        if entry.status in COUNTED:
            content = submitted_bytes(entry)
            card, no_card = _find_card(entry)
            submissions.append(
                PastSubmission(
                    name=f"{entry.ref or 'not sent yet'} {entry.file or 'without a name'}",
                    public=parse_score(entry, entry.public),
                    card=card,
                    no_card=no_card,
                    answers=None if content is None else parse_answers(content),
                )
            )
    return submissions


def submitted_bytes(entry: Entry) -> bytes | None:
    """The submitted file; None where it is neither in the working tree nor in its commit."""
    for content in _versions(entry).values():
        if hashlib.sha256(content).hexdigest() == entry.scored_sha256:
            return content
    return None


def parse_answers(content: bytes) -> Answers:
    """What follows each id in a CSV."""
    text = content.decode("utf-8-sig", errors="replace")
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    return {row[0]: tuple(row[1:]) for row in rows[1:]}


def parse_score(entry: Entry, text: str) -> float | None:
    """The number in a score's text; None where there is none, which is said."""
    found = number(text)
    if found is None and not is_absent(text):
        say(f"{entry.title}: expected a number as its score, found {text[:40]!r}: not compared")
    return found


def number(text: str) -> float | None:
    """The finite decimal number in a text of Kaggle or the ledger; None where it is none."""
    found = float(text) if _NUMBER.fullmatch(text.strip()) else math.nan
    return found if math.isfinite(found) else None


def is_absent(text: str) -> bool:
    """Whether a score's text says that there is none."""
    return text.strip().casefold() in ("", "nan", "none", "null")


def find_differences(one: Answers, other: Answers) -> list[str]:
    """The ids whose answers differ, or that only one of two files has."""
    return [name for name in one | other if one.get(name) != other.get(name)]


def common_ids(first: Answers, other: Answers, name: str) -> list[str]:
    """The ids of two files, sorted. name: the other's. Raises SubmissionError where they differ."""
    if first.keys() != other.keys():
        raise SubmissionError(
            f"{name}: expected the {len(first)} ids of the first file, found {len(other)}, "
            f"{len(other.keys() - first.keys())} of them not in the first"
        )
    return sorted(first)


def read_groups(path: Path) -> dict[str, str]:
    """The group of each training row, from folds/folds.csv; empty where there is no such file.

    Which row an image belongs to, data/store/ tells; without it each is a row.
    """
    if not path.is_file():
        return {}
    table: pd.DataFrame = read_table(path, FOLD_COLUMNS).drop_duplicates("image_id")
    row_of: dict[str, str] = {}
    if paths.TRAIN_TABLE.is_file():
        images = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
        row_of = dict(zip(images["image_id"], images["row_id"], strict=True))
    row_ids = [row_of.get(image_id, image_id) for image_id in table["image_id"]]
    return dict(zip(row_ids, table["group"], strict=True))


def _find_card(entry: Entry) -> tuple[Card | None, str]:
    """The card of the submitted file, with a forecast, or why there is none."""
    reason = "neither its card nor its commit's describes this file"
    for place, content in _versions(entry, ".json").items():
        try:
            card = parse_card(place, content)
        except TableError as error:
            fault = str(error).partition(". Run: ")[0]
            reason = f"{fault}: this version of the pipeline cannot read the card"
            continue
        if card.sha256.submission == entry.scored_sha256:
            if isinstance(card.forecast, NoForecast):
                return None, f"its card has no forecast: {card.forecast.why}"
            return card, ""
    return None, reason


def _versions(entry: Entry, suffix: str = "") -> dict[str, bytes]:
    """A file's bytes in the working tree and in the entry's commit, by the name of the place.

    suffix: of the file beside the entry's, if not that itself.
    """
    try:
        path = Path(entry.file).with_suffix(suffix or Path(entry.file).suffix)
        found = {path.as_posix(): path.read_bytes()} if path.is_file() else {}
        committed = file_at(entry.base_commit, path) if entry.base_commit else None
    except (OSError, ValueError):  # Kaggle's name of it can be none for a file here
        return {}
    if committed is not None:
        found[f"{entry.base_commit[:12]}:{path.as_posix()}"] = committed
    return found
