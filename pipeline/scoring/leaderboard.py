"""reports/leaderboard.json: the submission is valid, and this is what it would score.

Stage `check` writes it; every other module reads it through `read_leaderboard`.
"""

from pathlib import Path

from pipeline.core.errors import TableError
from pipeline.core.record import Count, Figure, Interval, Level, Record, read_record
from pipeline.scoring.names import Holds


class ExpectedScore(Record):
    """The nested out-of-fold score, as on the card."""

    value: Figure
    interval: Interval | None
    confidence: Level


class HalfScores(Record):
    """One half of the test rows."""

    rows: Count
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
    labels: dict[str, Count]
    """How often the submission gives each class, or finds it most probable."""
    metric: str
    expected: ExpectedScore
    solution: SolutionScores | None


def read_leaderboard(path: Path, metric: str) -> Leaderboard:
    """What stage `check` wrote. Raises TableError unless it is there, whole, and by this metric."""
    leaderboard = read_record(path, Leaderboard, "check")
    if leaderboard.metric != metric:
        raise TableError(
            f"{path}: expected scores by the metric {metric} of the card, found "
            f"{leaderboard.metric}: they are of different runs. Run: dvc repro --force check"
        )
    solution = leaderboard.solution
    if solution and metric not in solution.public.scores.keys() & solution.private.scores.keys():
        raise TableError(
            f"{path}: solution: expected the score by {metric} of both halves, found none. "
            "Run: dvc repro --force check"
        )
    return leaderboard
