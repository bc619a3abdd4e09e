"""reports/leaderboard.json."""

from typing import Any

from pipeline.core.record import Record


class Leaderboard(Record):
    """reports/leaderboard.json; solution: the rows and the scores of each half, by name."""

    submission: str
    valid: bool
    holds: str
    labels: dict[str, int]
    expected: dict[str, Any]
    solution: dict[str, dict[str, float]] | None
