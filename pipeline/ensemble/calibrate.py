"""Numbers fitted on top of a blend: a temperature for its probabilities, and cuts for its labels.

Both are fitted on out-of-fold rows, which one network predicted; on the test images the mean of
several networks is a little less confident.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pipeline.core.shapes import Labels, Outputs
from pipeline.core.task import AnyOf, OneOf, Task, expected_place
from pipeline.scoring.metric import ClassCounts, Metric

_SMALLEST = 1e-12
"""Probabilities are clipped to this before the logarithm."""

_MOST_AT_ONCE = 2**23
"""Probabilities that are computed with at once."""

_MOST_TRIED = 50
"""Values tried for each of several cuts, evenly spaced among the rows."""

_ROUNDS = 3
"""How often each of several cuts is moved, the others staying."""


def log_probabilities(probabilities: Outputs) -> Outputs:
    """Natural logarithms, finite: the logits, up to a constant per row."""
    return np.asarray(np.log(np.clip(probabilities, _SMALLEST, 1)))


def sharpen(task: Task, values: Outputs, temperature: float) -> Outputs:
    """The predictions of logits divided by the temperature: above 1 flatter, below 1 sharper."""
    sharpened = np.empty_like(values)
    for part in _parts(values):
        if isinstance(task, AnyOf):
            pairs = _sharpen(_pairs(values[part]), temperature)
            sharpened[part] = pairs[:, 1].reshape(values[part].shape)
        else:
            sharpened[part] = _sharpen(values[part], temperature)
    return sharpened


class Confidences:
    """How sure predictions of one class are of some labels, at any temperature.

    They are those of `sharpen`, to the bit, without its table and its logarithms each time.
    """

    def __init__(self, values: Outputs, labels: Labels) -> None:
        self._logits = log_probabilities(values)
        self._largest = self._logits.max(axis=1)
        self._labels = labels

    def at(self, temperature: float) -> Float[ndarray, " rows"]:
        """Each row's."""
        found = np.empty(len(self._labels), self._logits.dtype)
        for part in _parts(self._logits):
            powers = self._logits[part] / temperature
            powers -= (self._largest[part] / temperature)[:, None]
            np.exp(powers, out=powers)
            labels = self._labels[part]
            found[part] = powers[np.arange(len(labels)), labels] / powers.sum(axis=1)
        return found


def fit_temperature(task: Task, values: Outputs, labels: Labels) -> float:
    """The temperature in [1/20, 20] of the smallest log loss (Guo et al. 2017, section 4.2).

    The log loss is convex in one over the temperature, so its slope has one zero: bisection.
    """
    if isinstance(task, AnyOf):
        values, labels = _pairs(values), labels.ravel().astype(np.int64)
    of_label = log_probabilities(values[np.arange(len(labels)), labels][:, None])[:, 0]

    def slope(sharpness: float) -> float:
        mean_logit = np.empty(len(values))
        for part in _parts(values):
            logits = log_probabilities(values[part])
            mean_logit[part] = (_soften(logits, 1 / sharpness) * logits).sum(1)
        return float((mean_logit - of_label).mean())

    low, high = 1 / 20, 20.0
    if slope(low) >= 0:
        return 1 / low
    if slope(high) <= 0:
        return 1 / high
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / float(np.sqrt(low * high))


def _parts(values: Outputs) -> list[slice]:
    """Rows that are computed together: all of them, but of thousands of classes some, since each
    step makes a table of its own."""
    rows = max(1, _MOST_AT_ONCE // values.shape[1])
    return [slice(start, start + rows) for start in range(0, len(values), rows)]


def _sharpen(probabilities: Outputs, temperature: float) -> Outputs:
    return _soften(log_probabilities(probabilities), temperature)


def _soften(logits: Outputs, temperature: float) -> Outputs:
    powers = logits / temperature
    powers -= powers.max(axis=1, keepdims=True)  # in place: new tables of thousands of classes
    np.exp(powers, out=powers)  # take longer than what is computed
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def _pairs(values: Outputs) -> Float[ndarray, "events 2"]:
    """Each label of each row as a row of two classes: it does not hold, it holds."""
    return np.stack([1 - values.ravel(), values.ravel()], axis=1)


def fit_cuts(task: Task, values: Outputs, labels: Labels, metric: Metric) -> list[float]:
    """The cuts of `task.decide` that score best.

    Two classes: one half, and half-way between each two neighbouring probabilities (of many, if the
    metric is the user's own, some), are all tried;
    of those with the best score the nearest to one half is taken. Ordered classes and several
    labels: each cut in turn, the others staying, from the middle; a cut moves for a better score
    alone.
    """
    if isinstance(task, OneOf) and task.cut_count == 1:
        return [_fit_threshold(values[:, 1], labels, metric)]
    if isinstance(task, OneOf) and task.cut_count:
        place = expected_place(values)
        cuts = [at + 0.5 for at in range(len(task.classes) - 1)]
        tried = [_spread_out(place)] * len(cuts)
    else:  # several labels: scoring/plan.py refuses every other task
        cuts = [0.5] * len(task.outputs)
        tried = [_spread_out(column) for column in values.T]

    def gain(moved: list[float]) -> float:
        return metric.gain(metric.score(values, task.decide(values, moved), labels))

    best = gain(cuts)
    for _ in range(_ROUNDS):
        before = cuts
        for at in range(len(cuts)):
            for value in tried[at]:
                moved = [*cuts[:at], float(value), *cuts[at + 1 :]]
                rises = isinstance(task, AnyOf) or moved == sorted(moved)
                if rises and (score := gain(moved)) > best:
                    best, cuts = score, moved
        if cuts == before:
            break
    return cuts


def _spread_out(values: Float[ndarray, " rows"]) -> Float[ndarray, " tried"]:
    """At most _MOST_TRIED values half-way between neighbouring ones, evenly among the rows."""
    known = np.unique(values)
    between = (known[1:] + known[:-1]) / 2
    places = np.linspace(0, len(between) - 1, min(len(between), _MOST_TRIED)).round()
    return np.asarray(between[places.astype(np.int64)])


def _fit_threshold(probability: Float[ndarray, " rows"], labels: Labels, metric: Metric) -> float:
    if metric.of_counts is None:  # one of the user's own: each try costs a call
        tried = np.append(_spread_out(probability), 0.5)
        values = np.stack([1 - probability, probability], axis=1)
        decided = [(probability >= cut).astype(np.int64) for cut in tried]
        every = np.ones(len(labels))
        scores = np.array([metric.scorer(values, each, labels)(every) for each in decided])
    else:
        known = np.unique(probability)
        tried = np.append((known[1:] + known[:-1]) / 2, 0.5)
        scores = metric.of_counts(_counts_at(tried, probability, labels))
    scores = scores * metric.gain(1.0)
    best = tried[scores == np.nanmax(scores)]
    return float(best[np.abs(best - 0.5).argmin()])


def _counts_at(
    thresholds: Float[ndarray, " tried"], values: Float[ndarray, " rows"], labels: Labels
) -> ClassCounts:
    """The counts at each threshold."""
    had = np.bincount(labels, minlength=2).astype(np.float64)
    below = np.stack(
        [
            np.searchsorted(np.sort(values[labels == label]), thresholds, side="left")
            for label in (0, 1)
        ],
        axis=1,
    ).astype(np.float64)
    right = np.stack([below[:, 0], had[1] - below[:, 1]], axis=1)
    decided = np.stack([below.sum(1), had.sum() - below.sum(1)], axis=1)
    distance = had.sum() - right.sum(1)  # two classes are one place apart
    return ClassCounts(np.broadcast_to(had, decided.shape), decided, right, True, distance)
