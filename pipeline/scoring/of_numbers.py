"""Metrics of numbers: the mean over the columns, as in scikit-learn's uniform_average."""

import math
from collections.abc import Callable

import numpy as np
from numpy import ndarray

from pipeline.core.errors import EnsembleError
from pipeline.scoring.metric import Metric, Rows, Scorer
from pipeline.scoring.scorers import divide, mean_of, of_sums

LOWEST_R2 = -1e9
"""It has no bound, but a record of the pipeline has."""


def rmse(rows: Rows) -> Scorer:
    squares = (rows.values - rows.labels) ** 2
    return of_sums([squares], rows.units, lambda count, s: np.sqrt(divide(s, np.array(count))))


def mae(rows: Rows) -> Scorer:
    return mean_of(np.abs(rows.values - rows.labels).mean(axis=1), rows.units)


def rmsle(rows: Rows) -> Scorer:
    """Predictions below 0 count as 0, since no number of the kind is."""
    if rows.labels.min() < 0:
        raise EnsembleError(
            f"rmsle: expected labels of at least 0, found {rows.labels.min():g}. Set "
            "ensemble.metric in params.yaml to rmse or mae"
        )
    squares = (np.log1p(np.maximum(rows.values, 0)) - np.log1p(rows.labels)) ** 2
    return of_sums([squares], rows.units, lambda count, s: np.sqrt(divide(s, np.array(count))))


def r2(rows: Rows) -> Scorer:
    centred = rows.labels - rows.labels.mean(axis=0)
    parts = [(rows.values - rows.labels) ** 2, centred, centred**2]

    def score(count: float, errors: ndarray, sums: ndarray, squares: ndarray) -> ndarray:
        spread = squares - divide(sums**2, count)
        # Of equal labels rounding leaves a spread of about 1e-16 of the squares.
        found = 1 - divide(errors, np.where(spread > 1e-12 * squares, spread, np.nan))
        return np.asarray(np.maximum(found, LOWEST_R2))

    return of_sums(parts, rows.units, score)


def error(name: str, build: Callable[[Rows], Scorer]) -> Metric:
    return Metric(
        name, ("number",), build, needs="predictions", greater_is_better=False, highest=math.inf
    )
