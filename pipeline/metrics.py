"""Scores of predictions against labels, each equal to scikit-learn's of the same name.

Written in NumPy, since importing scikit-learn costs more than a second and every stage scores.
"""

import numpy as np

from pipeline.shapes import Labels, Probabilities

_SMALLEST = 2.0**-52
"""Probabilities are clipped to this and one minus it before the logarithm, as scikit-learn does."""


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """Share of rows whose most probable class is the label; of equal classes the first counts.

    Same as sklearn.metrics.accuracy_score on the argmax (tests/test_metrics.py).
    """
    return float((probabilities.argmax(axis=1) == labels).mean())


def log_loss(probabilities: Probabilities, labels: Labels) -> float:
    """Mean of minus the natural logarithm of the label's probability.

    Same as sklearn.metrics.log_loss (tests/test_metrics.py).
    """
    likelihood = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(likelihood, _SMALLEST, 1 - _SMALLEST)).mean())


def recalls(probabilities: Probabilities, labels: Labels, classes: int) -> list[float]:
    """For each class, the share of its rows that are predicted so.

    With two classes these are specificity and sensitivity. Same as sklearn.metrics.recall_score
    with average=None (tests/test_metrics.py). NaN for a class without rows.
    """
    predicted = probabilities.argmax(axis=1)
    return [
        float((predicted[labels == place] == place).mean()) if (labels == place).any() else np.nan
        for place in range(classes)
    ]
