"""Our rank on the public leaderboard, and how much of it is luck."""

import math

from pipeline.core.errors import KaggleError
from pipeline.kaggle.client import Kaggle
from pipeline.scoring.metric import Metric


def describe_rank(
    competition: str, kaggle: Kaggle, metric: Metric, test_rows: int, public_share: float
) -> list[str]:
    """Our place, the gap to better teams, and the noise of our score, as lines for a terminal.

    public_share: the share of the test rows that are taken as public; Kaggle does not say. Our
    team is found by the name on our submissions; teams with the same score share the best place
    among them, and those without a score have none. The noise is the 95 % interval of a share of
    right rows, 1.96 sqrt(p (1 - p) / n). Raises KaggleError where we have no score on the
    leaderboard, or its scores cannot be by the metric.
    """
    board = [(row, float(row.score)) for row in kaggle.leaderboard(competition)]
    names = {submission.team for submission in kaggle.list_submissions(competition)} - {""}
    ours = next(((row.team, score) for row, score in board if row.team in names), None)
    if ours is None:
        raise KaggleError(
            f"{competition}: our team is none of the {len(board)} on the public leaderboard that "
            "have a score. Submit first: python -m pipeline submit submissions/NAME.csv"
        )
    team, score = ours
    scores = [other for _, other in board]
    better = [other for other in scores if metric.gain(other) > metric.gain(score)]
    side = "above" if metric.greater_is_better else "below"
    gap = f"{abs(min(better, key=metric.gain) - score):.5f} {side}" if better else "none"
    noise = f"known for accuracy only, and params.yaml: ensemble.metric is {metric.name}"
    if metric.is_mean_of_rows:
        outside = [other for other in scores if not metric.lowest <= other <= metric.highest]
        if outside:
            raise KaggleError(
                f"{competition}: expected scores by {metric.name}, from {metric.lowest:g} to "
                f"{metric.highest:g}, on the leaderboard, found {outside[0]:g}. "
                "Set ensemble.metric in params.yaml to the competition's"
            )
        half = 1.96 * math.sqrt(score * (1 - score) / (test_rows * public_share))
        near = [place for place, other in enumerate(scores, 1) if abs(other - score) <= half]
        noise = (
            f"±{half:.5f} (95 %, with {public_share:.0%} of the {test_rows} test rows as public): "
            f"places {near[0]} to {near[-1]} cannot be distinguished from ours"
        )
    return [
        f"{team}: place {scores.index(score) + 1} of {len(board)}, public score {score:.5f}",
        f"leader: {scores[0]:.5f}, {abs(scores[0] - score):.5f} {side}; next better: {gap}",
        f"noise: {noise}",
    ]
