"""What averaging the fold models gains on the test images, from their disagreement, without labels.

An out-of-fold row is predicted by one fold's models, a test image by the mean over all folds. The
mean of the folds, each sharpened by the temperature that fits the out-of-fold rows, gives the
expected accuracy of both; for other metrics labels are drawn from it, and both are scored on them.
Numbers are drawn from the mean with the errors of the out-of-fold rows.

A mean of calibrated probabilities is less confident than it should be (Rahaman and Thiery 2021), so
this finds only a part of the gain: in simulated competitions the true one is 1.3 to 2.2 times as
large (docs/FORECAST.md). The spread is therefore set as large as the gain.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from pipeline.core.errors import EnsembleError
from pipeline.core.shapes import Labels, Outputs
from pipeline.core.task import AnyOf, Number, OneOf, Task
from pipeline.ensemble.blend import Prediction
from pipeline.ensemble.calibrate import fit_temperature, sharpen
from pipeline.scoring.metric import Metric

_LABELLINGS = 100
"""How many sets of labels are drawn for a metric other than accuracy."""


@dataclass(frozen=True)
class AveragingGain:
    """How much better the mean over the folds scores than one fold's, in the metric's units."""

    mean: float
    spread: float
    """Standard deviation of the error of `mean`."""
    disagreement: float
    """Mean share of test images on which one fold's models disagree with the mean of all."""


NO_GAIN = AveragingGain(0.0, 0.0, 0.0)
"""For a single fold."""


@dataclass(frozen=True)
class Noise:
    """How sure one fold's networks are, as the out-of-fold rows show it."""

    temperature: float
    """Calibrates their probabilities; 1 for numbers."""
    errors: Outputs
    """The out-of-fold errors of numbers; empty for classes."""
    bounds: tuple[float, float]
    """The least and the largest label; numbers beyond it may be none of the metric's."""

    @classmethod
    def measure(cls, task: Task, values: Outputs, labels: Labels) -> "Noise":
        if isinstance(task, Number):
            return cls(1.0, values - labels, (float(labels.min()), float(labels.max())))
        none = np.empty((0, len(task.classes)))
        return cls(fit_temperature(task, values, labels), none, (0.0, 1.0))

    def draw(
        self, task: Task, values: Outputs, generator: np.random.Generator, times: int
    ) -> Iterator[Labels]:
        """Labels that such predictions could have, several times."""
        if isinstance(task, OneOf):
            ladder = np.cumsum(values, axis=1)
        for _ in range(times):
            if isinstance(task, Number):
                drawn = self.errors[generator.integers(len(self.errors), size=len(values))]
                yield np.asarray(np.clip(values - drawn, *self.bounds))
            elif isinstance(task, AnyOf):
                yield np.asarray(generator.random(values.shape) < values)
            else:
                yield _steps_below(ladder, generator.random(len(ladder)) * ladder[:, -1])


def estimate_gain(
    task: Task,
    metric: Metric,
    test: Prediction,
    test_by_fold: list[Prediction],
    noise: Noise,
    seed: int,
) -> AveragingGain:
    """The expected score of the submission minus that of one fold's models, on the test images.

    test: the submission's predictions. test_by_fold: each fold's predictions of the test images,
    blended as the out-of-fold rows are. Raises EnsembleError where the tables have different
    shapes.
    """
    shapes = sorted({fold.values.shape for fold in [test, *test_by_fold]})
    if len(shapes) > 1:
        raise EnsembleError(f"forecast: expected test predictions of one shape, found {shapes}")
    if len(test_by_fold) < 2:
        return NO_GAIN
    expected: Outputs = np.zeros_like(test.values)
    for fold in test_by_fold:  # one after the other: a table may have gigabytes
        is_number = isinstance(task, Number)
        expected += fold.values if is_number else sharpen(task, fold.values, noise.temperature)
    expected /= len(test_by_fold)
    if metric.is_mean_of_rows and isinstance(task, OneOf):
        rows = np.arange(len(expected))
        of_folds = [expected[rows, fold.decided] for fold in test_by_fold]
        gained = float((expected[rows, test.decided] - of_folds).mean())
    else:
        generator = np.random.default_rng(seed)
        gains = []
        for labels in noise.draw(task, expected, generator, _LABELLINGS):
            single = np.mean([score_drawn(metric, fold, labels) for fold in test_by_fold])
            gains.append(score_drawn(metric, test, labels) - single)
        # 0 where the metric is not defined on any of them
        gained = float(np.nanmean(gains)) if not np.isnan(gains).all() else 0.0
    differ = [~task.right(fold.decided, test.decided) for fold in test_by_fold]
    return AveragingGain(gained, abs(gained), float(np.mean(differ)))


def _steps_below(
    ladder: Float[ndarray, "rows classes"], heights: Float[ndarray, " rows"]
) -> Int[ndarray, " rows"]:
    """How many steps of each row, which rise, are below its height; the last one never is."""
    rows = np.arange(len(ladder))
    low, high = np.zeros(len(ladder), np.int64), np.full(len(ladder), ladder.shape[1] - 1)
    while (low < high).any():
        middle = (low + high) // 2
        below = ladder[rows, middle] < heights
        low, high = np.where(below, middle + 1, low), np.where(below, high, middle)
    return low


def score_drawn(metric: Metric, fold: Prediction, labels: Labels) -> float:
    """The score on drawn labels. NaN where the metric needs a class that was not drawn."""
    one = np.zeros(len(labels), np.int64)
    return metric.scorer(fold.values, fold.decided, labels, one)(np.ones(1))
