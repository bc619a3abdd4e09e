"""How scorers are made: a mean over rows, a function of sums over rows, a function of counts."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pipeline.scoring.metric import ClassCounts, Rows, Scorer, Units


def mean_of(values: Float[ndarray, " rows"], units: Units | None = None) -> Scorer:
    """The mean over rows, as a function of the units' weights; None: every row counts by itself."""
    units = np.arange(len(values)) if units is None else units
    sums, rows = np.bincount(units, weights=values), np.bincount(units)
    return lambda weights: ratio(float(weights @ sums), float(weights @ rows))


def of_sums(
    parts: list[Float[ndarray, "rows columns"]], units: Units, score: Callable[..., ndarray]
) -> Scorer:
    """The mean over the columns of a function of the rows' weighted number and sums of parts."""
    count = int(units.max()) + 1
    sums = [
        np.stack([np.bincount(units, column, count) for column in part.T], axis=1) for part in parts
    ]
    rows = np.bincount(units)
    return lambda weights: float(
        np.mean(score(float(weights @ rows), *(weights @ part for part in sums)))
    )


def of_class_counts(score: Callable[[ClassCounts], ndarray], rows: Rows) -> Scorer:
    exclusive = rows.labels.ndim == 1
    distance = np.zeros(len(rows.labels))
    if exclusive:
        distance = ((rows.labels - rows.decided) ** 2).astype(np.float64)
    far = np.bincount(rows.units, weights=distance)
    had, decided, right = rows.entries
    return lambda weights: float(
        score(
            ClassCounts(
                had.weigh(weights),
                decided.weigh(weights),
                right.weigh(weights),
                exclusive,
                np.asarray(weights @ far),
                rows.optional,
            )
        )
    )


def divide(numerator: ndarray | float, denominator: ndarray | float) -> ndarray:
    """NaN for 0 / 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.true_divide(numerator, denominator))


def mean_over(of_class: ndarray, optional: tuple[int, ...]) -> ndarray:
    """The mean over the classes, the last axis, but for optional ones that are not defined."""
    if not optional:
        return np.asarray(of_class.mean(-1))
    counts = ~np.isnan(of_class) | ~np.isin(np.arange(of_class.shape[-1]), optional)
    return divide(np.where(counts, of_class, 0).sum(-1), np.asarray(counts.sum(-1)))


def ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else np.nan
