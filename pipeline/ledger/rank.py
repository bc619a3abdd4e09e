"""Our place on the public leaderboard, and how much of it is luck."""

import math
from dataclasses import dataclass

from pipeline.core.errors import KaggleError
from pipeline.kaggle.client import Kaggle
from pipeline.scoring.metrics import Metric

PUBLIC_SHARE = 0.5
"""Of the test rows; Kaggle does not tell. Fighting Malaria with CNNs: half."""


@dataclass(frozen=True)
class Place:
    """Where a team stands."""

    team: str
    place: int
    """From 1; teams of one score share the best place of them."""
    teams: int
    score: float
    first: float
    """The leader's score."""
    next_better: float | None
    """The nearest score that is better than ours; None for the leader."""
    noise: float | None
    """Half the width of the 95 % interval of an accuracy on the public rows; None of another
    metric."""
    within_noise: tuple[int, int]
    """First and last place whose score lies within it."""


def find_place(competition: str, kaggle: Kaggle, test_rows: int, metric: Metric) -> Place:
    """Read the leaderboard and find our team's row, by the team name of our submissions.

    test_rows: all of the sample submission's. The noise is that of a share of independent rows,
    sqrt(p (1 - p) / n). Raises KaggleError where we are not on it, or its scores are no accuracies
    although that is the metric.
    """
    board = kaggle.leaderboard(competition)
    ours = {submission.team for submission in kaggle.list_submissions(competition)}
    rows = [row for row in board if row.team in ours]
    if not rows:
        raise KaggleError(
            f"{competition}: our team is none of the {len(board)} on the public leaderboard. "
            "Submit first: python -m pipeline submit submissions/NAME.csv"
        )
    scores = [float(row.score) for row in board]
    is_share = metric.name == "accuracy"
    if is_share and not all(0 <= score <= 1 for score in scores):
        raise KaggleError(
            f"{competition}: expected accuracies of 0 to 1 on the leaderboard, found "
            f"{next(row.score for row in board if not 0 <= float(row.score) <= 1)}"
        )
    score = float(rows[0].score)
    noise = 1.96 * math.sqrt(score * (1 - score) / (test_rows * PUBLIC_SHARE)) if is_share else None
    near = [number for number, other in enumerate(scores, 1) if abs(other - score) <= (noise or 0)]
    better = [other for other in scores if metric.gain(other) > metric.gain(score)]
    return Place(
        team=rows[0].team,
        place=scores.index(score) + 1,
        teams=len(board),
        score=score,
        first=scores[0],
        next_better=min(better, key=metric.gain, default=None),
        noise=noise,
        within_noise=(near[0], near[-1]),
    )
