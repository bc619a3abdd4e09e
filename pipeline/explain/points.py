"""A network's out-of-fold rows as points, and rows that are near to each other."""

from collections import Counter

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor
from torch.nn import functional

from pipeline.scoring.seen import SharedGroups

MOST = 600
"""Rows that are drawn, and training rows that are searched."""

Features = Float[Tensor, "rows features"]


def spread(places: Int[ndarray, " all"], most: int = MOST) -> Int[ndarray, " some"]:
    """The places, or so many of them, evenly spread."""
    if len(places) <= most:
        return places
    return places[np.linspace(0, len(places) - 1, most).round().astype(np.int64)]


def project(features: Features) -> tuple[Float[ndarray, "rows 2"], float]:
    """The two axes of the largest variance (PCA), and the share of it that they have."""
    centred = (features - features.mean(0)).double()
    left, singular, axes = torch.linalg.svd(centred, full_matrices=False)
    found = torch.zeros(len(features), 2, dtype=torch.float64)
    for axis in range(min(2, len(singular))):
        largest = axes[axis, axes[axis].abs().argmax()]
        found[:, axis] = left[:, axis] * singular[axis] * (-1 if largest < 0 else 1)
    variance = singular**2
    return found.numpy(), float(variance[:2].sum() / variance.sum().clamp(min=1e-30))


def embed(features: Features) -> Float[ndarray, "rows 2"]:
    """t-SNE (van der Maaten and Hinton 2008): neighbours stay neighbours, distances do not."""
    from sklearn.manifold import TSNE  # a second: only for those who ask for it

    kind = TSNE(init="pca", random_state=0, perplexity=min(30, max(1, (len(features) - 1) // 3)))
    return np.asarray(kind.fit_transform(features.double().numpy()), np.float64)


def cosines(one: Features, other: Float[Tensor, "others features"]) -> Float[Tensor, "rows others"]:
    """The cosine of each row with each other one."""
    return functional.normalize(one.double()) @ functional.normalize(other.double()).T


def shared_groups(features: Features, labels: list[str], groups: list[str]) -> SharedGroups | None:
    """How often a row's nearest neighbour among those with its label is of its group, and how
    often it would be if it were any of them. None where no group has several rows of a label.

    Rows that are the only ones with their label have no such neighbour, and are left out.
    """
    of_label, of_both = Counter(labels), Counter(zip(labels, groups, strict=True))
    if max(of_both.values()) < 2:
        return None
    near = cosines(features, features)
    codes = torch.from_numpy(np.unique(np.array(labels), return_inverse=True)[1])
    near[codes[:, None] != codes[None]] = -2
    near.fill_diagonal_(-2)
    nearest = near.argmax(1).tolist()
    rows = [row for row, label in enumerate(labels) if of_label[label] > 1]
    shared = [groups[row] == groups[nearest[row]] for row in rows]
    chance = [(of_both[labels[row], groups[row]] - 1) / (of_label[labels[row]] - 1) for row in rows]
    return SharedGroups(
        observed=float(np.mean(shared)), expected=float(np.mean(chance)), rows=len(rows)
    )
