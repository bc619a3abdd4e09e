"""The accuracy that the labels allow: above it an honest score is not plausible.

Who predicts the truth is wrong wherever the given label is. So the ceiling is 1 minus the share of
wrong labels, which is estimated twice from out-of-fold probabilities. Confident learning
(`doubt.py`) counts hard images as wrong labels: its ceiling, the stated value, is too low for a
poor network, and then close to the network's own score. The labels that the surer half of each
predicted class contradicts are hardly the network's errors: their share, taken for all images,
gives a ceiling that is too low for a very poor network only, and too high where wrong labels are
mostly on hard images. So only a score above both is called implausible.

A network that has seen the images' groups repeats their wrong labels and doubts none: a ceiling
from its own predictions follows its score and shows nothing. It has to come from others.
"""

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from pipeline.core.record import Figure, Interval, Record
from pipeline.core.shapes import Labels, Outputs
from pipeline.core.task import OneOf, Task
from pipeline.scoring.doubt import count_as, sum_wrong
from pipeline.scoring.metric import Metric

_FEWEST = 20
"""Rows of a class, below which its half says nothing."""

_RESAMPLES = 200
_SEED = 0


class Ceiling(Record):
    """About the best honest accuracy."""

    value: Figure
    """1 minus the share of labels that confident learning takes for wrong."""
    interval: Interval
    """95 % of the resamples of whole groups, from the lower of both estimates to the higher."""
    above: dict[str, Figure]
    """The accuracies that are above the interval, by what has them."""

    @property
    def sentence(self) -> str:
        """One line for people."""
        low, high = self.interval
        found = "; ".join(f"{score:.4f} of {name}" for name, score in self.above.items())
        warning = f". Above it, look for a leak or a selection on these rows: {found}"
        return f"about {self.value:.4f} ({low:.4f} to {high:.4f}){warning if found else ''}"


class NoCeiling(Record):
    """Why there is none."""

    why: str

    @property
    def sentence(self) -> str:
        """One line for people."""
        return f"not estimated: {self.why}"


def measure_ceiling(
    metric: Metric,
    task: Task,
    values: Outputs,
    labels: Labels,
    groups: list[str],
    scores: dict[str, float],
) -> Ceiling | NoCeiling:
    """The ceiling by out-of-fold predictions that are not suspected, and what is above it.

    scores: the accuracies to be compared with it, by what has them, on the same rows.
    """
    if not isinstance(task, OneOf) or not (metric.is_mean_of_rows and metric.needs == "labels"):
        return NoCeiling(why=f"it is for the accuracy of one class an image, not {metric.name}")
    if task.merged:
        return NoCeiling(why="networks learn the rare classes as one, and doubt no label of them")
    classes = len(task.classes)
    given = np.bincount(labels, minlength=classes)
    names, group_of_row = np.unique(np.array(groups, dtype=str), return_inverse=True)
    if given.min() < _FEWEST or len(names) < 2:
        return NoCeiling(
            why=f"expected two groups and {_FEWEST} out-of-fold rows of each class, found "
            f"{len(names)} and {given.min()} of {task.classes[int(given.argmin())]!r}"
        )
    _, counted = count_as(labels, values, np.ones(len(labels)))
    predicted, surer = values.argmax(axis=1), _surer_half(values)

    def ceilings(weights: Float[ndarray, " rows"]) -> tuple[float, float]:
        total = weights.sum()
        off = predicted != labels
        seen = np.bincount(predicted[surer], weights[surer], minlength=classes)
        wrong = np.bincount(predicted[surer & off], weights[surer & off], minlength=classes)
        rates = np.divide(wrong, seen, out=np.zeros(classes), where=seen > 0)
        of_half = float((rates * np.bincount(predicted, weights, minlength=classes)).sum())
        return 1 - sum_wrong(labels, counted, weights, classes) / total, 1 - of_half / total

    rng = np.random.default_rng(_SEED)
    drawn = [
        np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        for _ in range(_RESAMPLES)
    ]
    resampled = [ceilings(times[group_of_row].astype(np.float64)) for times in drawn]
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    value = ceilings(np.ones(len(labels)))[0]
    interval = float(low.min()), float(high.max())
    above = {name: score for name, score in scores.items() if score > interval[1]}
    return Ceiling(value=value, interval=interval, above=above)


def _surer_half(values: Outputs) -> Bool[ndarray, " rows"]:
    """The more confident half of the rows of each predicted class."""
    predicted, confidence = values.argmax(axis=1), values.max(axis=1)
    chosen = np.zeros(len(values), np.bool_)
    for name in np.unique(predicted):
        rows = np.flatnonzero(predicted == name)
        order = np.argsort(-confidence[rows], kind="stable")
        chosen[rows[order[: -(-len(rows) // 2)]]] = True
    return chosen
