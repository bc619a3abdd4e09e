"""Confident learning: which given labels a network's out-of-fold probabilities contradict.

Northcutt, Jiang, Chuang, "Confident learning: estimating uncertainty in dataset labels", 2021
(arXiv:1911.00068). A class's threshold is its mean probability over the images that are labelled
so. An image counts as the class whose threshold it reaches, the most probable one of several;
counting given labels against these is the confident joint.
"""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from pipeline.core.shapes import Labels, Probabilities

RowWeights = Float[ndarray, " rows"]
Counted = Int[ndarray, " rows"]


def count_as(
    labels: Labels, probabilities: Probabilities, weights: RowWeights
) -> tuple[Float[ndarray, "rows classes"], Counted]:
    """How far each image is above each class's threshold, and which class it counts as.

    The class is -1 for an image that reaches no threshold.
    """
    own = probabilities[np.arange(len(labels)), labels]
    classes = probabilities.shape[1]
    sums = np.bincount(labels, own * weights, minlength=classes)
    above = probabilities - sums / np.bincount(labels, weights, minlength=classes)
    reaching = np.where(above >= 0, probabilities, -1.0)
    return above, np.where((above >= 0).any(axis=1), reaching.argmax(axis=1), -1)


def sum_wrong(labels: Labels, counted: Counted, weights: RowWeights, classes: int) -> float:
    """What is off the diagonal of the confident joint, each row scaled to its given labels.

    A class none of whose images counts as any class is assumed to be right as given.
    """
    sure = counted >= 0
    counted_rows = np.bincount(labels[sure], weights[sure], minlength=classes)
    kept = labels[sure] == counted[sure]
    diagonal = np.bincount(labels[sure][kept], weights[sure][kept], minlength=classes)
    given = np.bincount(labels, weights, minlength=classes)
    off = np.divide(
        counted_rows - diagonal, counted_rows, out=np.zeros(classes), where=counted_rows > 0
    )
    return float((off * given).sum())
