"""reports/leaderboard.json: the submission is valid, and this is what it would score.

Stage `check` writes it; every other module reads it through `read_leaderboard`.
"""

from pathlib import Path

from pipeline.core.record import Figure, Interval, Record, read_record
from pipeline.scoring.card import Holds


class ExpectedScore(Record):
    """The nested out-of-fold score, as on the card."""

    value: Figure
    interval: Interval
    confidence: float


class HalfScores(Record):
    """One half of the test rows."""

    rows: int
    scores: dict[str, Figure]
    """The scores by the metrics' names; for submitted labels the accuracy as well."""


class SolutionScores(Record):
    """The score on both halves, by a solution file."""

    public: HalfScores
    private: HalfScores


class Leaderboard(Record):
    """reports/leaderboard.json."""

    submission: str
    holds: Holds
    labels: dict[str, int]
    """How often the submission gives each class, or finds it most probable."""
    metric: str
    expected: ExpectedScore
    solution: SolutionScores | None


def read_leaderboard(path: Path) -> Leaderboard:
    """What stage `check` wrote. Raises TableError where it is missing or in another shape."""
    return read_record(path, Leaderboard, "check")
