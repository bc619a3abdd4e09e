"""Drawn predictions of models, for the tests of blends."""

from dataclasses import dataclass, replace

import numpy as np
from numpy import ndarray
from tasks import one_of

from pipeline.ensemble.blend import Prediction, Recipe
from pipeline.ensemble.bootstrap import ScoredRows
from pipeline.ensemble.config import Kind
from pipeline.scoring.metrics import METRICS

UNEVEN = [(1.0, 1.0), (0.9, 1.0), (0.7, 2.0), (0.3, 1.0)]
"""Skills and sharpnesses, as `draw` takes them."""


@dataclass(frozen=True)
class Drawn:
    """Models' predictions of the same rows, whose groups are in one of five folds each."""

    members: ndarray
    labels: ndarray
    groups: ndarray

    @property
    def folds(self) -> ndarray:
        return self.groups % 5

    @property
    def rows(self) -> ScoredRows:
        return replace(rows_of(self.labels, self.groups), folds=self.folds)


def rows_of(
    labels: ndarray,
    groups: ndarray | None = None,
    resamples: int = 300,
    confidence: float = 0.95,
    seed: int = 1,
) -> ScoredRows:
    """Rows of one fold; every row its own group where there are no groups."""
    names = [str(name) for name in (np.arange(len(labels)) if groups is None else groups)]
    folds = np.zeros(len(labels), int)
    task = one_of(max(2, int(labels.max()) + 1))
    return ScoredRows(task, labels, names, folds, confidence, resamples, seed)


def draw(
    seed: int,
    skills: list[tuple[float, float]],
    groups: int = 40,
    rows_a_group: int = 10,
    classes: int = 2,
) -> Drawn:
    """One model for each skill and sharpness: skill 0 is chance, sharpness 1 about calibrated.

    Rows and groups are hard for all models alike, as real ones are.
    """
    generator = np.random.default_rng(seed)
    rows = groups * rows_a_group
    labels = generator.integers(classes, size=rows)
    group = np.repeat(np.arange(groups), rows_a_group)
    hardness = 0.7 * generator.normal(size=(rows, classes))
    hardness += 0.5 * generator.normal(size=(groups, classes))[group]
    logits = [
        sharpness * (2 * skill * np.eye(classes)[labels] + hardness + generator.normal(size=(rows, classes)))
        for skill, sharpness in skills
    ]  # fmt: skip
    powers = np.exp(np.stack(logits))
    as_of_networks = (powers / powers.sum(axis=2, keepdims=True)).astype(np.float32)
    return Drawn(as_of_networks.astype(np.float64), labels, group)


def recipe(kind: Kind, metric: str = "accuracy", classes: int = 2, **changes: object) -> Recipe:
    choices = {"calibration": "none", "threshold": "none", "greedy_rounds": 20, "stack_l2": 1.0}
    task = one_of(classes)
    return Recipe(kind=kind, task=task, metric=METRICS[metric], **(choices | changes))  # type: ignore[arg-type]


def accuracy_of(prediction: Prediction, labels: ndarray) -> float:
    return float((prediction.decided == labels).mean())
