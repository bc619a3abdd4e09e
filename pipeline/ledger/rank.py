"""Our rank on the public leaderboard, and how much of it is luck."""

import math
from dataclasses import dataclass

from pipeline.core.errors import KaggleError
from pipeline.kaggle.client import Kaggle
from pipeline.scoring.metrics import Metric


@dataclass(frozen=True)
class Rank:
    """Where our team stands."""

    team: str
    rank: int
    """1 is the best; teams with the same score share the best rank among them."""
    teams: int
    score: float
    first: float
    """The leader's score."""
    next_better: float | None
    """The nearest score that is better than ours; None for the leader."""
    noise: float | None
    """Half the width of the score's 95 % interval; None where the metric is no mean of rows."""
    within_noise: tuple[int, int]
    """First and last rank with a score inside that interval."""


def find_rank(competition: str, kaggle: Kaggle, public_rows: float, metric: Metric) -> Rank:
    """Read the leaderboard and find our row, by the team name of our submissions.

    public_rows: how many test rows are public. The noise is that of the share of right rows among
    independent ones, 1.96 sqrt(p (1 - p) / n). Raises KaggleError where we are not on the
    leaderboard, or its scores cannot be shares although the metric is one.
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
    score = float(rows[0].score)
    noise = None
    if metric.is_mean_of_rows:
        outside = [other for other in scores if not metric.lowest <= other <= metric.highest]
        if outside:
            raise KaggleError(
                f"{competition}: expected scores by {metric.name}, from {metric.lowest:g} to "
                f"{metric.highest:g}, on the leaderboard, found {outside[0]:g}. "
                "Set ensemble.metric in params.yaml to the competition's"
            )
        noise = 1.96 * math.sqrt(score * (1 - score) / public_rows)
    near = [number for number, other in enumerate(scores, 1) if abs(other - score) <= (noise or 0)]
    better = [other for other in scores if metric.gain(other) > metric.gain(score)]
    return Rank(
        team=rows[0].team,
        rank=scores.index(score) + 1,
        teams=len(board),
        score=score,
        first=scores[0],
        next_better=min(better, key=metric.gain, default=None),
        noise=noise,
        within_noise=(near[0], near[-1]),
    )
