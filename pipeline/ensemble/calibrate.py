"""Two numbers fitted on top of a blend: a temperature for its probabilities, and a threshold.

Both are fitted on out-of-fold rows, which one network predicted; on the test images the mean of
several networks is a little less confident.
"""

import numpy as np
from numpy import ndarray

from pipeline.core.errors import EnsembleError
from pipeline.core.shapes import Labels, Probabilities
from pipeline.scoring.metrics import LabelMetric

_SMALLEST = 1e-12
"""Probabilities are clipped to this before the logarithm."""


def log_probabilities(probabilities: Probabilities) -> Probabilities:
    """Natural logarithms, finite: the logits, up to a constant per row."""
    return np.asarray(np.log(np.clip(probabilities, _SMALLEST, 1)))


def sharpen(probabilities: Probabilities, temperature: float) -> Probabilities:
    """The softmax of the logits divided by the temperature: above 1 flatter, below 1 sharper."""
    logits = log_probabilities(probabilities) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fit_temperature(probabilities: Probabilities, labels: Labels) -> float:
    """The temperature in [1/20, 20] of the smallest log loss (Guo et al. 2017, section 4.2).

    The log loss is convex in one over the temperature, so its slope has one zero: bisection.
    """
    logits = log_probabilities(probabilities)
    of_label = logits[np.arange(len(labels)), labels]

    def slope(sharpness: float) -> float:
        return float(((sharpen(probabilities, 1 / sharpness) * logits).sum(1) - of_label).mean())

    low, high = 1 / 20, 20.0
    if slope(low) >= 0:
        return 1 / low
    if slope(high) <= 0:
        return 1 / high
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / float(np.sqrt(low * high))


def fit_threshold(probabilities: Probabilities, labels: Labels, metric: LabelMetric) -> float:
    """The probability from which the second class is predicted, for the best score.

    The candidates are one half, and half-way between each two neighbouring probabilities; of those
    with the best score the nearest to one half is taken. Raises EnsembleError for more than two
    classes.
    """
    if probabilities.shape[1] != 2:
        raise EnsembleError(
            f"params.yaml: ensemble.threshold: fitted is for two classes, found "
            f"{probabilities.shape[1]}; expected none"
        )
    values = np.sort(np.unique(probabilities[:, 1]))
    tried = np.append((values[1:] + values[:-1]) / 2, 0.5)
    scores = metric.of_counts(_counts_at(tried, probabilities[:, 1], labels))
    best = tried[scores == np.nanmax(scores)]
    return float(best[np.abs(best - 0.5).argmin()])


def _counts_at(thresholds: ndarray, values: ndarray, labels: Labels) -> ndarray:
    """The confusion matrix of each threshold."""
    counts = np.empty((len(thresholds), 2, 2))
    for label in (0, 1):
        of_label = np.sort(values[labels == label])
        counts[:, label, 0] = np.searchsorted(of_label, thresholds, side="left")
        counts[:, label, 1] = len(of_label) - counts[:, label, 0]
    return counts
