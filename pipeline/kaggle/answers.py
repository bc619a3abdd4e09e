"""What Kaggle's answers hold, as types; whatever an answer cannot be read as is a failure.

The official client takes any type in any field. Here each field becomes the type that it should
have, as the text "7" the number 7, or pydantic's ValidationError is raised.
"""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from pipeline.core.names import is_storable
from pipeline.core.progress import say
from pipeline.kaggle.scrub import one_line

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
    """Submissions made today, in UTC, and how many more are allowed."""

    today: Count
    allowed: Count | None
    """None where Kaggle does not say."""
    total: Count = 0
    """Those of all days."""
    by_total: bool = False
    """Whether a limit of all days, and not the day's, allows no more than that."""

    @property
    def text(self) -> str:
        """Both numbers."""
        left = "how many are left is not known" if self.allowed is None else f"{self.allowed} left"
        return f"Today {self.today} submitted, {left}{' in all' if self.by_total else ''}"

    @property
    def refusal(self) -> str:
        """Why Kaggle would refuse another one, and until when; "" where it would not."""
        if self.allowed is None or self.allowed > 0:
            return ""
        if self.by_total:
            return (
                f"the limit of all submissions is reached after {self.total}: Kaggle allows no more"
            )
        moment = datetime.now(UTC)
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        minutes = math.ceil((midnight - moment).total_seconds() / 60)
        return (
            f"today's limit is reached after {self.today} submissions. Kaggle allows new ones from "
            f"00:00 UTC, in {minutes // 60} h {minutes % 60} min"
        )

    def after_one(self) -> Self:
        """With one more submission."""
        allowed = None if self.allowed is None else max(0, self.allowed - 1)
        return replace(self, today=self.today + 1, allowed=allowed, total=self.total + 1)


@dataclass(frozen=True, config=_LENIENT)
class Submission:
    """A submission on Kaggle. Scores are the server's own texts, "" if there is none."""

    ref: Count
    date: str
    file_name: str
    """Can be stored; `submission-REF` where Kaggle's own name cannot."""
    description: Text
    status: str
    """pending, complete or error."""
    public: Text
    private: Text
    error: Text
    """The reason of an error; never "" there."""
    team: Text
    bytes: Count | None
    """None if Kaggle does not say."""
    owner: Text
    """The account that sent it; "" if Kaggle does not say."""


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


def read_remote_file(entry: Any) -> RemoteFile:
    return RemoteFile(
        name=entry.name, bytes=entry.total_bytes or None, created=_utc(entry.creation_date)
    )


def read_limits(entry: Any) -> Limits:
    """An account that is in no team yet gets three zeros, which are no limit."""
    counts = entry.num_today, entry.num_total, entry.num_allowed_now
    return Limits(
        today=entry.num_today,
        allowed=entry.num_allowed_now if any(counts) else None,
        total=entry.num_total,
        by_total=entry.limited_by_total,
    )


def count_today(submissions: list[Submission]) -> Limits:
    """What the list of submissions says of the limit; those with an error do not count."""
    valid = [each for each in submissions if each.status != "error"]
    today = sum(each.date[:10] == f"{datetime.now(UTC):%F}" for each in valid)
    return Limits(today=today, allowed=None, total=len(valid))


def read_submission(entry: Any) -> Submission:
    """Raises ValidationError; a score that is no number is left out, and said."""
    status, reason = entry.status.name.lower(), one_line(entry.error_description or "")
    name = str(entry.file_name)
    scores = {"public": entry.public_score, "private": entry.private_score}
    for kind, score in scores.items():
        scores[kind] = _number(score)
        if score and not scores[kind]:
            found = f"expected a number, found {str(score)[:40]!a}"
            say(f"submission {entry.ref}, {kind} score: {found}: left out")
    return Submission(
        ref=entry.ref,
        date=_utc(entry.date),
        file_name=name if is_storable(name) else f"submission-{entry.ref}",
        description=entry.description,
        status=status,
        error=reason or ("Kaggle gives no reason" if status == "error" else ""),
        team=entry.team_name,
        bytes=entry.total_bytes or None,
        owner=entry.submitted_by,
        **scores,
    )


def read_standing(entry: Any) -> Standing:
    """score: "" where it is no number."""
    return Standing(team=entry.team_name, score=_number(entry.score))


def _number(value: object) -> str:
    """A score as Kaggle writes it; "" for what is no finite number."""
    text = str(value).strip()
    try:
        return text if math.isfinite(float(text)) else ""
    except ValueError:
        return ""


def _utc(moment: datetime | None) -> str:
    """Kaggle's times are UTC, mostly without a zone."""
    if moment is None:
        return ""
    in_utc = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return in_utc.isoformat(timespec="seconds")
