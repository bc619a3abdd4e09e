"""Metrics of probabilities."""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from pipeline.core.ranks import ordered_pairs
from pipeline.core.shapes import Labels, Outputs
from pipeline.scoring.metric import Metric, Rows, Scorer, Units, Weights
from pipeline.scoring.scorers import divide, mean_of, mean_over, of_sums, ratio


def area_under_roc(values: Float[ndarray, " rows"], positive: Bool[ndarray, " rows"]) -> float:
    """The chance that a positive row has a larger value than another row; ties count half.

    Same as sklearn.metrics.roc_auc_score. NaN without rows of one kind.
    """
    return area(values, positive, np.arange(len(values)))(np.ones(len(values)))


def log_loss(rows: Rows) -> Scorer:
    """Minus the logarithm of the label's probability; of any_of the mean over the labels."""
    if rows.labels.ndim == 1:
        return mean_of(_losses(rows.values[np.arange(len(rows.labels)), rows.labels]), rows.units)
    of_label = np.where(rows.labels, rows.values, 1 - rows.values)
    return mean_of(_losses(of_label).mean(axis=1), rows.units)


def _losses(likelihood: ndarray) -> ndarray:
    smallest = 2.0**-52  # as scikit-learn clips
    return np.asarray(-np.log(np.clip(likelihood, smallest, 1 - smallest)))


def area(values: Float[ndarray, " rows"], positive: Bool[ndarray, " rows"], units: Units) -> Scorer:
    """Share of the pairs of a positive and a negative row that are in order; ties count half."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    return partial(_weighted_area, units[order], positive[order], starts)


def _weighted_area(
    units: Units, positive: Bool[ndarray, " rows"], starts: ndarray, weights: Weights
) -> float:
    """The area for rows in ascending order; starts: where each distinct value begins."""
    of_row = weights[units]
    positives = np.add.reduceat(of_row * positive, starts)
    negatives = np.add.reduceat(of_row * ~positive, starts)
    pairs = float(positives.sum() * negatives.sum())
    return ratio(float(ordered_pairs(positives, negatives)), pairs)


def average_precision(
    values: Float[ndarray, " rows"], positive: Bool[ndarray, " rows"], units: Units
) -> Scorer:
    """The mean over positive rows of the share of positives among rows of at least its value."""
    order = np.argsort(-values, kind="stable")
    starts = np.flatnonzero(np.diff(-values[order], prepend=-np.inf))
    units, positive = units[order], positive[order]

    def score(weights: Weights) -> float:
        of_row = weights[units]
        found = np.add.reduceat(of_row * positive, starts)
        so_far = np.cumsum(np.add.reduceat(of_row, starts))
        precision = np.nan_to_num(divide(np.cumsum(found), so_far))
        return ratio(float(found @ precision), float(found.sum()))

    return score


_OneColumn = Callable[[ndarray, ndarray, Units], Scorer]


def of_second(column: _OneColumn, rows: Rows) -> Scorer:
    return column(rows.values[:, 1], rows.labels == 1, rows.units)


def macro(column: _OneColumn, rows: Rows) -> Scorer:
    """The mean over the classes, each against the rest."""
    places = range(rows.values.shape[1])
    has = [rows.labels == p if rows.labels.ndim == 1 else rows.labels[:, p] for p in places]
    scorers = [column(rows.values[:, p], has[p], rows.units) for p in places]
    return lambda weights: float(
        mean_over(np.array([score(weights) for score in scorers]), rows.optional)
    )


def probabilistic_f1(rows: Rows) -> Scorer:
    """F1 with each row counted as positive by its probability."""
    chance, positive = rows.values[:, 1:], (rows.labels == 1)[:, None].astype(np.float64)
    return of_sums(
        [chance * positive, chance + positive],
        rows.units,
        lambda _, hits, both: divide(2 * hits, both),
    )


def _place_of_label(values: Outputs, labels: Labels) -> ndarray:
    """How many classes come before the label's, by probability and between equal ones by order."""
    of_label = values[np.arange(len(labels)), labels][:, None]
    before = np.arange(values.shape[1]) < labels[:, None]
    return np.asarray(((values > of_label) | ((values == of_label) & before)).sum(axis=1))


def top_error(name: str, best: int) -> Metric:
    """The share of rows whose label is not among the most probable classes."""

    def build(rows: Rows) -> Scorer:
        missed = _place_of_label(rows.values, rows.labels) >= best
        return mean_of(missed.astype(np.float64), rows.units)

    return Metric(name, ("one_of",), build, needs="predictions", greater_is_better=False, best=best)


def map_at(name: str, best: int) -> Metric:
    """One over the label's place among the most probable classes, else 0: the mean over rows."""

    def build(rows: Rows) -> Scorer:
        place = _place_of_label(rows.values, rows.labels)
        return mean_of(np.where(place < best, 1 / (place + 1), 0.0), rows.units)

    return Metric(name, ("one_of",), build, needs="predictions", best=best)
