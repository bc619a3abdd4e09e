"""Simulated competitions with patients, for the forecast's calibration: predictions, no images.

A patient has a difficulty (skewed: a few are much harder), and each row one of its own; each of k
fold models sees both with its own errors, for the whole network, for a patient and for a row. A
share of the labels is wrong. An out-of-fold row is predicted by the one model that did not see its
patient, a test row by the mean of all. Then the test rows are split at random.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core.task import OneOf
from pipeline.scoring.metric import Metric

CLASSES = 2
TASK = OneOf(classes=["0", "1"])


@dataclass(frozen=True)
class World:
    """What differs between competitions."""

    train: int
    """How many patients; `test`: how many new ones."""
    test: int
    sizes: tuple[int, ...]
    """A patient's number of rows is one of these, at random."""
    spread: float
    """Standard deviation of the patients' difficulty, on the logit scale."""
    ease: float = 2.8
    """Mean logit."""
    row: float = 1.2
    """Standard deviation of the rows' difficulty; the next three are of the models' errors."""
    of_model: float = 0.1
    of_patient: float = 0.15
    of_row: float = 0.2
    folds: int = 5
    wrong_labels: float = 0.015
    public_share: float = 0.5


@dataclass(frozen=True)
class Competition:
    """One drawn competition: what a competitor sees, and the scores."""

    probabilities: Any
    """Out-of-fold, (rows, 2)."""
    labels: Any
    groups: list[str]
    test_by_fold: list[Any]
    test_labels: Any
    is_public: Any

    def score(self, metric: Metric, usage: str) -> float:
        """The score of the mean over the folds, on one half."""
        half = self.is_public if usage == "public" else ~self.is_public
        mean = np.mean(self.test_by_fold, axis=0)[half]
        return metric.score(mean, mean.argmax(axis=1), self.test_labels[half])

    def gain(self, metric: Metric) -> float:
        """The score of the mean over the folds minus that of one fold, on this test set."""
        tables = [np.mean(self.test_by_fold, axis=0), *self.test_by_fold]
        mean, *single = [metric.score(t, t.argmax(axis=1), self.test_labels) for t in tables]
        return mean - float(np.mean(single))


def draw_competition(world: World, seed: int) -> Competition:
    """Draw patients, rows, networks and halves."""
    rng = np.random.default_rng(seed)
    patients = world.train + world.test
    of_row = np.repeat(np.arange(patients), rng.choice(world.sizes, size=patients))
    skewed = (rng.gamma(2, size=patients) - 2) / np.sqrt(2)
    margin = (world.ease - world.spread * skewed)[of_row]
    margin = margin + world.row * rng.standard_normal(len(of_row))
    seen = [
        margin
        + world.of_model * rng.standard_normal()
        + world.of_patient * rng.standard_normal(patients)[of_row]
        + world.of_row * rng.standard_normal(len(of_row))
        for _ in range(world.folds)
    ]
    truth = rng.integers(CLASSES, size=len(of_row))
    labels = np.where(rng.random(len(of_row)) < world.wrong_labels, 1 - truth, truth)
    in_train = of_row < world.train
    fold = of_row % world.folds
    own = np.choose(fold, seen)
    by_fold = [_probabilities(logits[~in_train], truth[~in_train]) for logits in seen]
    is_public = np.zeros(int((~in_train).sum()), bool)
    is_public[rng.permutation(len(is_public))[: round(world.public_share * len(is_public))]] = True
    return Competition(
        probabilities=_probabilities(own[in_train], truth[in_train]),
        labels=labels[in_train],
        groups=[f"{name:04}" for name in of_row[in_train]],
        test_by_fold=by_fold,
        test_labels=labels[~in_train],
        is_public=is_public,
    )


def _probabilities(margin: Any, truth: Any) -> Any:
    """Both classes' probabilities, from the logit of the true one."""
    of_truth = 1 / (1 + np.exp(-margin))
    table = np.empty((len(truth), CLASSES))
    table[np.arange(len(truth)), truth] = of_truth
    table[np.arange(len(truth)), 1 - truth] = 1 - of_truth
    return table
