"""Is one prediction better than another on the same rows, or is it chance?

Two scores of the same rows err together, so their difference is known far better than either.
"""

from contextlib import suppress
from dataclasses import dataclass

from jaxtyping import Bool
from numpy import ndarray

from pipeline.core.errors import EnsembleError
from pipeline.ensemble.blend import Prediction
from pipeline.ensemble.bootstrap import ScoredRows, interval_of
from pipeline.scoring.metric import Metric


@dataclass(frozen=True)
class Comparison:
    """One prediction against another."""

    difference: float
    """Above 0 the first is better, whatever the metric."""
    interval: tuple[float, float] | None
    """The difference's, over resampled groups; None where too few of them have a class."""
    p_value: float | None
    """Two-sided; None where nothing can be resampled."""


def name_of_test(metric: Metric) -> str:
    """The test that gives the p-values for that metric."""
    return "McNemar, exact" if metric.is_mean_of_rows else "bootstrap of whole groups"


def compare(metric: Metric, one: Prediction, other: Prediction, rows: ScoredRows) -> Comparison:
    """Compare two predictions of the same rows by a metric.

    p: McNemar's exact test for accuracy, else the share of resampled groups in which the
    difference has the other sign, doubled. McNemar's test takes rows as independent: where the rows
    that only one prediction has right are in few groups, its p is too small; the interval, which
    resamples groups, then includes 0.
    """
    interval = None
    p_value = _mcnemar(one, other, rows) if metric.is_mean_of_rows else None
    with suppress(EnsembleError):
        scores = rows.resample(metric, one, other)
        differences = (scores[:, 0] - scores[:, 1]) * metric.gain(1.0)
        interval = interval_of(differences, rows.confidence)
        p_value = bootstrap_p(differences) if p_value is None else p_value
    better = metric.gain(rows.score(metric, one) - rows.score(metric, other))
    return Comparison(better, interval, p_value)


def is_significantly_worse(
    metric: Metric, one: Prediction, best: Prediction, rows: ScoredRows
) -> bool:
    """Whether the paired test distinguishes one prediction from a better one, if it can be made."""
    if metric.is_mean_of_rows:  # without the bootstrap that `compare` needs for the interval
        return _mcnemar(one, best, rows) < 1 - rows.confidence
    p_value = compare(metric, one, best, rows).p_value
    return p_value is not None and p_value < 1 - rows.confidence


def _mcnemar(one: Prediction, other: Prediction, rows: ScoredRows) -> float:
    return mcnemar(rows.right(one), rows.right(other))


def mcnemar(one: Bool[ndarray, " rows"], other: Bool[ndarray, " rows"]) -> float:
    """Exact two-sided p-value for two predictions' correctness on the same rows.

    By chance alone, a row that only one has right is as likely to be either's (McNemar 1947).
    Same as scipy.stats.binomtest (tests/test_blends.py).
    """
    from scipy.special import bdtr  # 0.1 s

    alone = int((one & ~other).sum()), int((other & ~one).sum())
    return min(1.0, 2 * float(bdtr(min(alone), sum(alone), 0.5)))


def bootstrap_p(differences: ndarray) -> float:
    """Two-sided p-value of resampled differences (Davison and Hinkley 1997, section 4.2.3).

    Each tail's count is raised by one, so that p is never 0; a difference of 0 is in both tails.
    """
    count = len(differences)
    tails = (differences <= 0).sum(), (differences >= 0).sum()
    return min(1.0, 2 * (1 + float(min(tails))) / (count + 1))
