"""All submissions together: does cross-validation predict the public score, and what is luck.

Two files differ in score only by the rows on which they differ, so all noise here comes from those
rows. On each of them one file is right and the other is not, or neither is: at most as much
variance as a fair coin has.
"""

from itertools import combinations

import numpy as np
from scipy import stats

from pipeline.ledger.history import Answers, PastSubmission, find_differences
from pipeline.scoring.card import Forecast
from pipeline.scoring.metrics import metric_named


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
    lines = [compare_scores([card.expected for card in cards], public)]
    if all(metric_named(card.metric.name).needs == "labels" for card in cards):
        rows = cards[0].expected.rows
        noise = (share_of_differences(files) * (1 / rows.public + 1 / rows.private)) ** 0.5
        lines.append(
            f"two of these files within {stats.norm.ppf(0.95) * noise:.4f} on public may change "
            "places on private"
        )
    return lines


def compare_scores(forecasts: list[Forecast], public: list[float]) -> str:
    """How many scores are inside their forecasts, and the rank correlation of the two."""
    means = [forecast.mean for forecast in forecasts]
    inside = sum(
        forecast.public[0] <= score <= forecast.public[1]
        for forecast, score in zip(forecasts, public, strict=True)
    )
    found = (
        f"cross-validation against public: {inside} of {len(public)} inside their forecast "
        f"({sum(forecast.confidence for forecast in forecasts):.1f} expected)"
    )
    if len(set(means)) == 1 or len(set(public)) == 1:
        return f"{found}; no rank correlation, as all scores are equal"
    return f"{found}; rank correlation {stats.spearmanr(means, public).statistic:.2f}"


def share_of_differences(files: list[Answers]) -> float:
    """Share of the rows on which two files differ, on average over the pairs of files."""
    pairs = combinations(files, 2)
    return float(
        np.mean([len(find_differences(one, other)) / len(one | other) for one, other in pairs])
    )
