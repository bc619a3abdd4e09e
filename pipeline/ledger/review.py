"""All submissions together: does cross-validation predict the public score, and what is luck.

Two files differ in score only by the rows on which they differ, so all noise here comes from those
rows. On each of them one file is right and the other is not, or neither is: at most as much
variance as a fair coin has.
"""

from itertools import combinations

import numpy as np
from scipy import stats

from pipeline.core.errors import SubmissionError
from pipeline.ledger.history import Answers, PastSubmission, common_ids, find_differences
from pipeline.scoring.card import Forecast
from pipeline.scoring.metrics import METRICS

_DRAWS = 2000
_SEED = 1


def review(submissions: list[PastSubmission]) -> list[str]:
    """Lines for a terminal; none for fewer than three scored files with a card."""
    scored = [
        (each.card, each.public, each.answers)
        for each in submissions
        if each.card is not None and each.public is not None and each.answers is not None
    ]
    if len(scored) < 3:
        return []
    cards, public, files = (list(column) for column in zip(*scored, strict=True))
    if any(METRICS[card.metric.name].needs == "probabilities" for card in cards):
        return [
            "no review of all submissions: its noise is that of differing labels, and these files "
            "hold probabilities"
        ]
    try:
        differing = share_of_differences(files)
    except SubmissionError as error:
        return [f"no review of all submissions: {error}"]
    forecasts = [card.forecast for card in cards]
    rows = forecasts[0].rows
    noise = (differing * (1 / rows.public + 1 / rows.private)) ** 0.5
    return [
        compare_scores(forecasts, public, (differing / rows.public) ** 0.5),
        f"two of these files within {stats.norm.ppf(0.95) * noise:.4f} on public may change places "
        "on private",
    ]


def compare_scores(forecasts: list[Forecast], public: list[float], noise: float) -> str:
    """How many scores are inside their forecasts, and the rank correlation of the two.

    noise: standard deviation of the difference of two public scores around that of the forecasts.
    Beside the correlation: the range of 90 % of those that arise if the forecasts are right and
    the public half only adds noise.
    """
    means = np.array([forecast.mean for forecast in forecasts])
    inside = sum(
        forecast.public[0] <= score <= forecast.public[1]
        for forecast, score in zip(forecasts, public, strict=True)
    )
    found = (
        f"cross-validation against public: {inside} of {len(public)} inside their forecast "
        f"({sum(forecast.confidence for forecast in forecasts):.1f} expected)"
    )
    if np.ptp(means) == 0 or np.ptp(public) == 0:
        return f"{found}; no rank correlation, as all scores are equal"
    normal = np.random.default_rng(_SEED).standard_normal((_DRAWS, len(means)))
    drawn = means + noise / np.sqrt(2) * normal
    low, high = np.quantile([stats.spearmanr(means, row).statistic for row in drawn], [0.05, 0.95])
    return (
        f"{found}; rank correlation {stats.spearmanr(means, public).statistic:.2f}, by the "
        f"forecasts and noise {low:.2f} to {high:.2f}"
    )


def share_of_differences(files: list[Answers]) -> float:
    """Share of the rows on which two files differ, on average over the pairs of files.

    Raises SubmissionError where the files have different ids.
    """
    for number, file in enumerate(files, start=1):
        common_ids(files[0], file, f"file {number} of {len(files)}")
    pairs = combinations(files, 2)
    return float(np.mean([len(find_differences(one, other)) / len(one) for one, other in pairs]))
