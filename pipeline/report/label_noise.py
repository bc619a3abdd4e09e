"""Which labels are probably wrong: confident learning on out-of-fold probabilities.

Northcutt, Jiang, Chuang, "Confident learning: estimating uncertainty in dataset labels", 2021
(arXiv:1911.00068). A class's threshold is its mean probability over the images that are labelled
so. An image counts as a class that reaches its threshold, the most probable of several; counting
given labels against these is the confident joint, whose diagonal holds the labels that stand.
Thresholds take the place of calibration: a class that the networks never give more than 0.7 to is
not measured by 0.5.

What it cannot know: an image that the networks find hard looks like one with a wrong label. On
the synthetic competition (profile `synthetic`, accuracy 0.919, 16 of 1,600 labels wrong, each
known) it estimates 27 wrong labels, and its ranking has 6 of them among the first 16, 10 among the
first 30, 14 among the first 100: many times more than by chance, and no reason to change a
label unseen. (`python -m pipeline noise`, compared with the drawn truth by hand.)

The probabilities must be of networks that have not seen the image, nor another of its group or
cluster of duplicates: those learn a wrong label by heart, and then agree with it. Mistakes that the
labels make always alike, one annotator's platelets for parasites, are learned from the other
groups too, and are not found. And a whole group high in the ranking may be a stain that the
networks have not met.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from pipeline.core.errors import TableError
from pipeline.core.shapes import Labels, Probabilities

NOISE_COLUMNS = [
    "image_id", "label", "suggested", "probability_of_label", "margin", "rank", "group", "doubtful",
]  # fmt: skip
"""Columns of rank_label_noise.

suggested: the other class that lies highest above its threshold. margin: how much higher the
label lies above its own; in [-2, 2], below 0 where the suggested one does better. rank: from 1
on, by margin. doubtful: off the diagonal of the confident joint.
"""


@dataclass(frozen=True)
class NoiseEstimate:
    """How many labels are probably wrong.

    wrong: the estimated number, not whole; low, high: 95 % of the resamples of whole groups, which
    tells how far the images vary and not how far hard images are taken for wrong ones. joint: the
    estimated number of images by given class (rows) and true class; rows add up to the given
    ones. thresholds: of each class.
    """

    wrong: float
    low: float
    high: float
    joint: Float[ndarray, "classes classes"]
    thresholds: Float[ndarray, " classes"]


def rank_label_noise(
    image_ids: list[str],
    labels: Labels,
    probabilities: Probabilities,
    groups: list[str],
    classes: list[str],
) -> pd.DataFrame:
    """All images, the most doubtful label first: NOISE_COLUMNS. Of equal margins, as given.

    labels, probabilities: out-of-fold, along image_ids. groups: of each image, to see whether a
    few groups make up the top. classes: names in the order of the probabilities.
    Raises TableError on a class without images.
    """
    _check_present(labels, classes)
    rows = np.arange(len(labels))
    above = probabilities - _thresholds(labels, probabilities, np.ones(len(labels)))
    others = above.copy()
    others[rows, labels] = -np.inf
    suggested = others.argmax(axis=1)
    counted = _confident_classes(above, probabilities)
    margins = above[rows, labels] - others[rows, suggested]
    names = np.array(classes, dtype=object)
    table = pd.DataFrame(
        {
            "image_id": image_ids,
            "label": names[labels],
            "suggested": names[suggested],
            "probability_of_label": probabilities[rows, labels],
            "margin": margins,
            "group": groups,
            "doubtful": (counted >= 0) & (counted != labels),
        }
    )
    table = table.iloc[np.argsort(margins, kind="stable")].reset_index(drop=True)
    table["rank"] = np.arange(1, len(table) + 1)
    return table[NOISE_COLUMNS]


def estimate_label_noise(
    labels: Labels,
    probabilities: Probabilities,
    groups: list[str],
    classes: list[str],
    resamples: int,
    seed: int,
) -> NoiseEstimate:
    """The number of wrong labels, by the calibrated confident joint (section 3.1 of the paper).

    A class none of whose images counts as any class is taken to be right as given.
    Raises TableError on a class without images.
    """
    _check_present(labels, classes)
    once = np.ones(len(labels))
    joint = _calibrated_joint(labels, probabilities, once)
    names, group_of = np.unique(np.array(groups, dtype=str), return_inverse=True)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        weights = times[group_of].astype(np.float64)
        # Some resamples of few groups lack a class: they tell nothing.
        if len(np.unique(labels[weights > 0])) == len(classes):
            resampled = _calibrated_joint(labels, probabilities, weights)
            wrong = 1 - np.trace(resampled) / weights.sum()
            found.append(wrong * len(labels))
    wrong = float(joint.sum() - np.trace(joint))
    low, high = np.quantile(found, [0.025, 0.975]) if found else (wrong, wrong)
    thresholds = _thresholds(labels, probabilities, once)
    return NoiseEstimate(wrong, float(low), float(high), joint, thresholds)


def _check_present(labels: Labels, classes: list[str]) -> None:
    absent = [name for place, name in enumerate(classes) if not (labels == place).any()]
    if absent:
        raise TableError(
            f"label noise: expected out-of-fold images of each of {len(classes)} classes, found "
            f"none of {absent[0]!r}. Train more folds (train.folds in params.yaml)"
        )


def _thresholds(
    labels: Labels, probabilities: Probabilities, weights: Float[ndarray, " rows"]
) -> Float[ndarray, " classes"]:
    own = probabilities[np.arange(len(labels)), labels]
    classes = probabilities.shape[1]
    sums = np.bincount(labels, own * weights, minlength=classes)
    return np.asarray(sums / np.bincount(labels, weights, minlength=classes))


def _confident_classes(
    above: Float[ndarray, "rows classes"], probabilities: Probabilities
) -> Int[ndarray, " rows"]:
    """The class that each image counts as; -1 for one that reaches no threshold."""
    reaching = np.where(above >= 0, probabilities, -1.0)
    return np.where((above >= 0).any(axis=1), reaching.argmax(axis=1), -1)


def _calibrated_joint(
    labels: Labels, probabilities: Probabilities, weights: Float[ndarray, " rows"]
) -> Float[ndarray, "classes classes"]:
    """Images by given and true class: the confident joint, each row scaled to the given ones."""
    classes = probabilities.shape[1]
    above = probabilities - _thresholds(labels, probabilities, weights)
    counted = _confident_classes(above, probabilities)
    sure = counted >= 0
    cells = labels[sure] * classes + counted[sure]
    joint = np.bincount(cells, weights[sure], minlength=classes**2).reshape(classes, classes)
    given = np.bincount(labels, weights, minlength=classes)
    empty = joint.sum(axis=1) == 0
    joint[empty, empty] = 1
    return np.asarray(joint / joint.sum(axis=1, keepdims=True) * given[:, None])
