"""Metrics of decided labels."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy import ndarray

from pipeline.core.shapes import Labels
from pipeline.core.task import Kind
from pipeline.scoring.metric import CLASSES, ClassCounts, Metric, Rows, Scorer
from pipeline.scoring.scorers import divide, mean_of, mean_over, of_class_counts


def recalls(decided: Labels, labels: Labels, classes: int) -> list[float | None]:
    """For each class, the share of its rows that are decided as that class.

    With two classes these are specificity and sensitivity. Same as sklearn.metrics.recall_score
    with average=None. None for a class without rows.
    """
    units = np.zeros(len(labels), np.int64)
    had, _, right = Rows(np.empty((len(labels), classes)), decided, labels, units).entries
    one = np.ones(1)
    return [
        float(hits / rows) if rows else None
        for hits, rows in zip(right.weigh(one), had.weigh(one), strict=True)
    ]


def accuracy(rows: Rows) -> Scorer:
    """Share of rows that are right; of any_of those whose every label is."""
    right = rows.decided == rows.labels
    return mean_of((right if right.ndim == 1 else right.all(axis=1)).astype(np.float64), rows.units)


def accuracy_of_counts(counts: ClassCounts) -> ndarray:
    return divide(counts.right.sum(-1), counts.had.sum(-1))


def balanced_accuracy(counts: ClassCounts) -> ndarray:
    return mean_over(divide(counts.right, counts.had), counts.optional)


def _f_of_classes(beta: float, counts: ClassCounts) -> ndarray:
    """(1 + beta²) TP / (beta² (TP + FN) + TP + FP) of each class.

    Of a class without rows NaN if a row has one class, else 0 as in scikit-learn.
    """
    below = beta**2 * counts.had + counts.decided
    f = divide((1 + beta**2) * counts.right, below)
    f = np.where(counts.had > 0, f, np.nan) if counts.exclusive else np.nan_to_num(f)
    return np.asarray(f)


def _f_of_second(beta: float, counts: ClassCounts) -> ndarray:
    return np.asarray(_f_of_classes(beta, counts)[..., 1])


def _macro_f(beta: float, counts: ClassCounts) -> ndarray:
    return mean_over(_f_of_classes(beta, counts), counts.optional)


def _micro_f(beta: float, counts: ClassCounts) -> ndarray:
    below = beta**2 * counts.had.sum(-1) + counts.decided.sum(-1)
    return divide((1 + beta**2) * counts.right.sum(-1), below)


def _samples_f(beta: float, rows: Rows) -> Scorer:
    """The mean over rows of each row's own F; 0 for a row without labels, as in scikit-learn."""
    below = beta**2 * rows.labels.sum(axis=1) + rows.decided.sum(axis=1)
    f = divide((1 + beta**2) * (rows.labels & rows.decided).sum(axis=1), below)
    return mean_of(np.nan_to_num(f), rows.units)


def f_beta(name: str, average: str, beta: float) -> Metric:
    if average == "samples_":
        return Metric(name, ("any_of",), partial(_samples_f, beta), needs="labels")
    of_counts = partial({"": _f_of_second, "macro_": _macro_f, "micro_": _micro_f}[average], beta)
    tasks: tuple[Kind, ...] = CLASSES if average else ("one_of",)
    return label_metric(name, tasks, of_counts, two_classes=not average, uses_order=not average)


def quadratic_kappa(counts: ClassCounts) -> ndarray:
    """Cohen's kappa with the squared distance of the classes' places as the cost."""
    places = np.arange(counts.had.shape[-1])
    rows = counts.had.sum(-1)
    squares = (counts.had * places**2).sum(-1) + (counts.decided * places**2).sum(-1)
    both = (counts.had * places).sum(-1) * (counts.decided * places).sum(-1)
    return np.asarray(1 - divide(counts.distance, squares - 2 * divide(both, rows)))


def matthews(counts: ClassCounts) -> ndarray:
    """Matthews' correlation, for any number of classes (Gorodkin 2004); 0 where it is 0 / 0."""
    rows, right = counts.had.sum(-1), counts.right.sum(-1)
    covariance = right * rows - (counts.had * counts.decided).sum(-1)
    spreads = [rows**2 - (side**2).sum(-1) for side in (counts.had, counts.decided)]
    return np.asarray(np.nan_to_num(divide(covariance, np.sqrt(spreads[0] * spreads[1]))))


def label_metric(
    name: str,
    tasks: tuple[Kind, ...],
    of_counts: Callable[[ClassCounts], ndarray],
    two_classes: bool = False,
    uses_order: bool = False,
    lowest: float = 0.0,
) -> Metric:
    return Metric(
        name,
        tasks,
        partial(of_class_counts, of_counts),
        needs="labels",
        of_counts=of_counts,
        two_classes=two_classes,
        uses_order=uses_order,
        lowest=lowest,
    )
