"""What Kaggle's answers hold, as types; whatever an answer cannot be read as is a failure.

The official client takes any type in any field. Here each field becomes the type that it should
have, as the text "7" the number 7, or pydantic's ValidationError is raised.
"""

import math
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from pipeline.core.progress import say

Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
Count = Annotated[int, Field(ge=0)]

_LENIENT = ConfigDict(coerce_numbers_to_str=True)


@dataclass(frozen=True, config=_LENIENT)
class RemoteFile:
    """A file of a competition; bytes: None if Kaggle does not say."""

    name: str
    bytes: Count | None
    created: str


@dataclass(frozen=True, config=_LENIENT)
class Limits:
    """Submissions made today, and how many more are allowed."""

    today: Count
    allowed: Count


@dataclass(frozen=True, config=_LENIENT)
class Submission:
    """A submission on Kaggle. Scores are the server's own texts, "" if there is none."""

    ref: Count
    date: str
    file_name: Text
    description: Text
    status: str
    """pending, complete or error."""
    public: Text
    private: Text
    error: Text
    """The reason of an error; never "" there."""
    team: Text


@dataclass(frozen=True, config=_LENIENT)
class Standing:
    """A team's row of the public leaderboard, best first."""

    team: Text
    score: str
    """A number."""


@dataclass(frozen=True, config=_LENIENT)
class Sent:
    """The answer to a submission; ref 0: there is none."""

    ref: Count
    message: Text


def _utc(moment: datetime | None) -> str:
    """Kaggle's times are UTC, mostly without a zone."""
    if moment is None:
        return ""
    in_utc = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return in_utc.isoformat(timespec="seconds")


def read_remote_file(entry: Any) -> RemoteFile:
    return RemoteFile(entry.name, entry.total_bytes or None, _utc(entry.creation_date))


def read_submission(entry: Any) -> Submission:
    status, reason = entry.status.name.lower(), " ".join((entry.error_description or "").split())
    return Submission(
        ref=entry.ref,
        date=_utc(entry.date),
        file_name=entry.file_name,
        description=entry.description,
        status=status,
        public=_score(entry.public_score, f"submission {entry.ref}, public score"),
        private=_score(entry.private_score, f"submission {entry.ref}, private score"),
        error=reason or ("Kaggle gives no reason" if status == "error" else ""),
        team=entry.team_name,
    )


def read_standing(entry: Any) -> Standing:
    return Standing(entry.team_name, _score(entry.score, f"team {entry.team_name}, score"))


def _score(value: object, what: str) -> str:
    """A score as Kaggle writes it; "" where there is none, or said where it is no number."""
    text = "" if value is None else str(value).strip()
    try:
        if not text or math.isfinite(float(text)):
            return text
    except ValueError:
        pass
    say(f"{what}: expected a number, found {text[:40]!a}: left out")
    return ""
