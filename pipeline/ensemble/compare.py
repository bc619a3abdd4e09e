"""Is one prediction better than another on the same rows, or is it luck?

Two scores of the same rows err together, so their difference is known far better than either.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from pipeline.core.shapes import Labels
from pipeline.ensemble.blend import Prediction
from pipeline.ensemble.estimate import interval_of, resampled_scores
from pipeline.scoring.metrics import Metric, Units


@dataclass(frozen=True)
class Rows:
    """What a score is of: the rows' labels and groups, and how their luck is gauged."""

    labels: Labels
    groups: list[str]
    confidence: float
    resamples: int
    seed: int

    @property
    def units(self) -> Units:
        """Each row's group by number."""
        units: Units = np.unique(self.groups, return_inverse=True)[1]
        return units

    def resample(self, metric: Metric, *predictions: Prediction) -> ndarray:
        """The predictions' scores (columns) over the same resampled groups (rows)."""
        units = self.units
        scorers = [
            metric.scorer(each.probabilities, each.predicted, self.labels, units)
            for each in predictions
        ]
        return resampled_scores(scorers, int(units.max()) + 1, self.resamples, self.seed)

    def score(self, metric: Metric, prediction: Prediction) -> float:
        """The prediction's score over all rows."""
        return metric.score(prediction.probabilities, prediction.predicted, self.labels)

    def subset(self, chosen: Bool[ndarray, " rows"]) -> "Rows":
        """Some of the rows."""
        groups = [name for name, taken in zip(self.groups, chosen, strict=True) if taken]
        return Rows(self.labels[chosen], groups, self.confidence, self.resamples, self.seed)


@dataclass(frozen=True)
class Comparison:
    """One prediction against another."""

    difference: float
    """Of the scores, turned so that more than 0 is better than the other."""
    interval: tuple[float, float]
    """Of the difference, over resampled groups."""
    p_value: float
    """Two-sided: how often luck alone would differ as much."""


def name_of_test(metric: Metric) -> str:
    """Which test gives the p-values for that metric."""
    return "McNemar, exact" if metric.name == "accuracy" else "bootstrap of whole groups"


def compare(metric: Metric, one: Prediction, other: Prediction, rows: Rows) -> Comparison:
    """Compare two predictions of the same rows by a metric.

    p: McNemar's exact test for accuracy, else the share of resampled groups in which the
    difference has the other sign, doubled. McNemar's takes rows as independent: where the rows
    that only one prediction has right cluster in few groups it is too sure, and the interval,
    which resamples groups, then holds 0 although p is small.
    """
    scores = rows.resample(metric, one, other)
    differences = (scores[:, 0] - scores[:, 1]) * metric.gain(1.0)
    if metric.name == "accuracy":
        p_value = mcnemar(one.predicted == rows.labels, other.predicted == rows.labels)
    else:
        p_value = bootstrap_p(differences)
    return Comparison(
        metric.gain(rows.score(metric, one) - rows.score(metric, other)),
        interval_of(differences, rows.confidence),
        p_value,
    )


def is_significantly_worse(metric: Metric, one: Prediction, best: Prediction, rows: Rows) -> bool:
    """Whether the paired test tells one prediction from a better one."""
    if metric.name == "accuracy":  # without the bootstrap that `compare` makes for the interval
        p_value = mcnemar(one.predicted == rows.labels, best.predicted == rows.labels)
    else:
        p_value = compare(metric, one, best, rows).p_value
    return p_value < 1 - rows.confidence


def mcnemar(one: Bool[ndarray, " rows"], other: Bool[ndarray, " rows"]) -> float:
    """Exact two-sided p-value for two predictions' correctness on the same rows.

    Of the rows that one alone has right, each would be either's with even chances (McNemar 1947).
    Same as scipy.stats.binomtest (tests/test_blends.py).
    """
    from scipy.special import bdtr  # 0.1 s: only for those who compare

    alone = int((one & ~other).sum()), int((other & ~one).sum())
    return min(1.0, 2 * float(bdtr(min(alone), sum(alone), 0.5)))


def bootstrap_p(differences: ndarray) -> float:
    """Two-sided p-value of resampled differences (Davison and Hinkley 1997, section 4.2.3).

    Both tails count themselves, so that p is never 0; a difference of 0 is in both.
    """
    count = len(differences)
    tails = (differences <= 0).sum(), (differences >= 0).sum()
    return min(1.0, 2 * (1 + float(min(tails))) / (count + 1))
