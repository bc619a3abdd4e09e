"""Scores of predictions against labels, each equal to scikit-learn's of the same name.

Written in NumPy, since importing scikit-learn costs more than a second. A metric is split into what
is done once for given predictions and a scorer of weighted groups of rows, so that a bootstrap,
which is nothing but integer weights, counts and sorts once and not 2,000 times.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from pipeline.core.errors import EnsembleError
from pipeline.core.ranks import ordered_pairs
from pipeline.core.shapes import Labels, Probabilities

Units = Int[ndarray, " rows"]
"""For each row the number, in [0, units), of what counts as a whole: its group."""

Weights = Float[ndarray, " units"]
"""How often each unit counts; a bootstrap's are integers."""

Counts = Float[ndarray, "matrices classes classes"]
"""Confusion matrices: how many rows of a label (first axis) were predicted as each class."""

Scorer = Callable[[Weights], float]
"""The score of fixed predictions over weighted units; NaN where it is not defined on them."""

_SMALLEST = 2.0**-52
"""Probabilities are clipped to this and one minus it before the logarithm, as scikit-learn does."""


def decide(probabilities: Probabilities, threshold: float | None) -> Labels:
    """The predicted classes: the most probable ones without a threshold."""
    if threshold is None:
        return np.asarray(probabilities.argmax(axis=1))
    return (probabilities[:, 1] >= threshold).astype(np.int64)


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """Share of rows whose most probable class is the label; of equal classes the first counts.

    Same as sklearn.metrics.accuracy_score on the argmax (tests/test_metrics.py).
    """
    return float((probabilities.argmax(axis=1) == labels).mean())


def log_loss(probabilities: Probabilities, labels: Labels) -> float:
    """Mean of minus the natural logarithm of the label's probability.

    Same as sklearn.metrics.log_loss (tests/test_metrics.py).
    """
    return float(_losses(probabilities, labels).mean())


def recalls(predicted: Labels, labels: Labels, classes: int) -> list[float | None]:
    """For each class, the share of its rows that are predicted as that class.

    With two classes these are specificity and sensitivity. Same as sklearn.metrics.recall_score
    with average=None (tests/test_metrics.py). None for a class without rows.
    """
    return [
        float((predicted[labels == place] == place).mean()) if (labels == place).any() else None
        for place in range(classes)
    ]


def area_under_roc(values: Float[ndarray, " rows"], positive: Bool[ndarray, " rows"]) -> float:
    """The chance that a positive row has a larger value than another row; ties count half.

    Same as sklearn.metrics.roc_auc_score (tests/test_metrics.py). NaN without rows of one kind.
    """
    return _area(values, positive, np.arange(len(values)))(np.ones(len(values)))


def mean_of(values: Float[ndarray, " rows"], units: Units | None = None) -> Scorer:
    """The mean over rows, as a function of the units' weights; None: every row counts by itself."""
    units = np.arange(len(values)) if units is None else units
    sums, rows = np.bincount(units, weights=values), np.bincount(units)
    return lambda weights: _ratio(float(weights @ sums), float(weights @ rows))


@dataclass(frozen=True)
class Metric(ABC):
    """A score by name, and everything that other modules need to know about it."""

    name: str
    _: KW_ONLY
    greater_is_better: bool = True
    two_classes: bool = False
    """Whether it is for two classes only; the second is then the positive one."""
    lowest: float = 0.0
    highest: float = 1.0
    scores_order: bool = False
    """Whether only the order of the second class's probabilities counts, so that ranks do too."""
    needs_order: bool = False
    """Whether another order of the classes changes it: which of two is positive, which are near."""
    is_mean_of_rows: bool = False
    """Whether it is the mean over rows of right (1) or wrong (0), so that tests for counts fit."""

    @property
    @abstractmethod
    def needs(self) -> Literal["labels", "probabilities"]:
        """What is scored: the decided classes, which a threshold changes, or probabilities."""

    @abstractmethod
    def _scorer(
        self, probabilities: Probabilities, predicted: Labels, labels: Labels, units: Units
    ) -> Scorer: ...

    def scorer(
        self,
        probabilities: Probabilities,
        predicted: Labels,
        labels: Labels,
        units: Units | None = None,
    ) -> Scorer:
        """The score as a function of the units' weights; None: every row counts by itself.

        predicted: the class decided for each row, which need not be the most probable one.
        """
        units = np.arange(len(labels)) if units is None else units
        return self._scorer(probabilities, predicted, labels, units)

    def score(self, probabilities: Probabilities, predicted: Labels, labels: Labels) -> float:
        """The score of all rows, each counted once.

        Raises EnsembleError where it is not defined: no rows, a class without rows.
        """
        if not len(labels):
            raise EnsembleError(f"{self.name}: expected rows to score, found none")
        value = self.scorer(probabilities, predicted, labels, np.zeros_like(labels))(np.ones(1))
        if np.isnan(value):
            present = np.bincount(labels, minlength=probabilities.shape[1])
            raise EnsembleError(
                f"{self.name}: not defined on these {len(labels)} rows: expected rows of each "
                f"class, found {present.tolist()} (in the order of the classes)"
            )
        return value

    def gain(self, score: float) -> float:
        """The score turned so that more is better."""
        return score if self.greater_is_better else -score


@dataclass(frozen=True)
class LabelMetric(Metric):
    """A score of decided classes, which is a function of the confusion matrix."""

    of_counts: Callable[[Counts], Float[ndarray, " matrices"]]
    """For any number of confusion matrices at once; NaN where it is not defined."""

    needs = "labels"

    def _scorer(
        self, probabilities: Probabilities, predicted: Labels, labels: Labels, units: Units
    ) -> Scorer:
        """Add up one confusion matrix per unit; a mean needs none, however many the classes."""
        if self.is_mean_of_rows:
            return mean_of((predicted == labels).astype(np.float64), units)
        classes = probabilities.shape[1]
        cell = (units * classes + labels) * classes + predicted
        size = (int(units.max()) + 1) * classes**2
        counts = np.bincount(cell, minlength=size).astype(np.float64)
        counts = counts.reshape(-1, classes, classes)
        return lambda weights: float(self.of_counts(np.tensordot(weights, counts, 1)[None])[0])


@dataclass(frozen=True)
class ProbabilityMetric(Metric):
    """A score of probabilities, whatever is decided from them."""

    of_probabilities: Callable[[Probabilities, Labels, Units], Scorer]

    needs = "probabilities"

    def _scorer(
        self,
        probabilities: Probabilities,
        predicted: Labels,  # noqa: ARG002
        labels: Labels,
        units: Units,
    ) -> Scorer:
        """Ignore `predicted`."""
        return self.of_probabilities(probabilities, labels, units)


def metric_named(name: str, classes: int) -> Metric:
    """The metric of that name. Raises EnsembleError where it is not for so many classes."""
    metric = METRICS[name]
    if metric.two_classes and classes != 2:
        raise EnsembleError(
            f"params.yaml: ensemble.metric: {name} is for two classes, found {classes}; "
            f"expected one of {', '.join(n for n, m in METRICS.items() if not m.two_classes)}"
        )
    return metric


def _losses(probabilities: Probabilities, labels: Labels) -> Float[ndarray, " rows"]:
    likelihood = probabilities[np.arange(len(labels)), labels]
    return np.asarray(-np.log(np.clip(likelihood, _SMALLEST, 1 - _SMALLEST)))


def _divide(numerator: ndarray, denominator: ndarray) -> ndarray:
    """NaN for 0 / 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.true_divide(numerator, denominator))


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else np.nan


def _diagonal(counts: Counts) -> ndarray:
    return np.diagonal(counts, axis1=-2, axis2=-1)


def _accuracy(counts: Counts) -> ndarray:
    return _divide(_diagonal(counts).sum(-1), counts.sum((-2, -1)))


def _balanced_accuracy(counts: Counts) -> ndarray:
    return np.asarray(_divide(_diagonal(counts), counts.sum(-1)).mean(-1))


def _f1_of_classes(counts: Counts) -> ndarray:
    """2 TP / (2 TP + FP + FN) of each class; NaN for a class without rows."""
    rows, predicted = counts.sum(-1), counts.sum(-2)
    return np.where(rows > 0, _divide(2 * _diagonal(counts), rows + predicted), np.nan)


def _f1(counts: Counts) -> ndarray:
    return _f1_of_classes(counts)[:, 1]


def _macro_f1(counts: Counts) -> ndarray:
    return np.asarray(_f1_of_classes(counts).mean(-1))


def _quadratic_kappa(counts: Counts) -> ndarray:
    """Cohen's kappa with the squared distance of the classes' places as the cost."""
    places = np.arange(counts.shape[-1])
    cost = (places[:, None] - places) ** 2
    by_chance = counts.sum(-1)[:, :, None] * counts.sum(-2)[:, None, :]
    expected = _divide((cost * by_chance).sum((-2, -1)), counts.sum((-2, -1)))
    return 1 - _divide((cost * counts).sum((-2, -1)), expected)


def _log_loss(probabilities: Probabilities, labels: Labels, units: Units) -> Scorer:
    return mean_of(_losses(probabilities, labels), units)


def _area(
    values: Float[ndarray, " rows"], positive: Bool[ndarray, " rows"], units: Units
) -> Scorer:
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
    return _ratio(float(ordered_pairs(positives, negatives)), pairs)


def _roc_auc(probabilities: Probabilities, labels: Labels, units: Units) -> Scorer:
    return _area(probabilities[:, 1], labels == 1, units)


def _macro_roc_auc(probabilities: Probabilities, labels: Labels, units: Units) -> Scorer:
    """The mean over the classes of each against the rest."""
    scorers = [
        _area(probabilities[:, place], labels == place, units)
        for place in range(probabilities.shape[1])
    ]
    return lambda weights: float(np.mean([score(weights) for score in scorers]))


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in [
        LabelMetric("accuracy", _accuracy, is_mean_of_rows=True),
        LabelMetric("balanced_accuracy", _balanced_accuracy),
        ProbabilityMetric("log_loss", _log_loss, greater_is_better=False, highest=math.inf),
        ProbabilityMetric("roc_auc", _roc_auc, two_classes=True, scores_order=True),
        LabelMetric("f1", _f1, two_classes=True, needs_order=True),
        LabelMetric("macro_f1", _macro_f1),
        ProbabilityMetric("macro_roc_auc", _macro_roc_auc),
        LabelMetric("quadratic_kappa", _quadratic_kappa, lowest=-1.0, needs_order=True),
    ]
}
"""The metrics by their names in params.yaml: ensemble.metric. In scikit-learn, quadratic_kappa is
cohen_kappa_score(weights="quadratic"), macro_roc_auc is roc_auc_score(multi_class="ovr")."""
