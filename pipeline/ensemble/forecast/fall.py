"""How far the score may fall where the networks take test for another population.

Estimates of the error without labels (shift.py) may be too large, or too small where networks are
confidently wrong. By how much was measured on known shifts (docs/FORECAST.md), and the interval
gets longer by it.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pipeline.core.shapes import Outputs
from pipeline.core.task import Number, OneOf, Task
from pipeline.ensemble.blend import Prediction
from pipeline.ensemble.calibrate import Confidences, sharpen
from pipeline.ensemble.forecast.averaging import Noise, score_drawn
from pipeline.scoring.card import Shift
from pipeline.scoring.metric import Metric

_FACTOR, _LOG_SD = 0.8, 1.0
"""The true rise of the error, over the largest estimate's part beyond its band, on known shifts:
median, and the standard deviation of the logarithm (python -m benchmarks.shift)."""

_STEPS = np.array([0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0])
"""Multiples of the estimated rise at which the metric is scored; between them it is a line."""

_LABELLINGS = 20
"""How many sets of labels are drawn for each."""

_SEED = 199
"""Draws of a fall are others than the forecast's own."""


@dataclass(frozen=True)
class Fall:
    """How the score changes where the error rises, in the metric's units."""

    changes: Float[ndarray, " steps"]
    """At _STEPS."""

    def draw(self, count: int, seed: int) -> Float[ndarray, " count"]:
        """Changes as uncertain as the estimate of the rise is."""
        return self._at(np.random.default_rng([seed, _SEED]).standard_normal(count))

    @property
    def expected(self) -> float:
        """The median change."""
        return float(self._at(np.zeros(1))[0])

    @property
    def most(self) -> float:
        """The change that one such population in twenty exceeds."""
        return float(self._at(np.array([1.645]))[0])

    def beyond(
        self, counted: float, change: Float[ndarray, " count"] | float
    ) -> Float[ndarray, "*count"]:
        """What is left of a change where another estimate of the same one is counted already: the
        worse of both is expected, and not their sum."""
        worse = np.sign(self.changes[-1])
        return np.asarray(worse * np.maximum(worse * (change - counted), 0))

    def _at(self, normal: Float[ndarray, " count"]) -> Float[ndarray, " count"]:
        rise = _FACTOR * np.exp(_LOG_SD * normal)
        return np.asarray(np.interp(rise, _STEPS, self.changes))


def expect_fall(
    task: Task, metric: Metric, shift: Shift, test: Prediction, noise: Noise, seed: int
) -> Fall:
    """How the submission's score changes where the error on test rises as the networks say.

    Only what is beyond the band counts, so that a false alarm costs little. test: the submission.
    Labels are drawn from its predictions, flattened (of numbers with larger errors) until they are
    wrong as often as that, and scored.
    """
    beyond = shift.rises[shift.strongest].beyond
    scores, flattened = [], None if isinstance(task, Number) else _Flattened(task, test)
    for step in _STEPS:
        level = shift.error + step * beyond
        values, scaled = test.values, noise
        if flattened is None:
            factor = np.sqrt(level / max(shift.error, 1e-12))
            scaled = replace(noise, errors=noise.errors * factor)
        else:
            values = flattened.at(level)
        generator = np.random.default_rng(seed)  # the same draws at each level
        drawn = scaled.draw(task, values, generator, _LABELLINGS)
        found = np.array([score_drawn(metric, test, labels) for labels in drawn])
        scores.append(
            float(found[~np.isnan(found)].mean()) if not np.isnan(found).all() else np.nan
        )
    return Fall(np.nan_to_num(np.array(scores) - scores[0]))  # 0 where it is not defined


class _Flattened:
    """Predictions of classes at the temperatures at which the decided labels are wrong so often."""

    def __init__(self, task: Task, test: Prediction) -> None:
        self._task, self._test = task, test
        self._confidences = (
            Confidences(test.values, test.decided) if isinstance(task, OneOf) else None
        )
        self._known: dict[float, float] = {}
        """How often they are wrong, by temperature: the searches for several levels begin alike."""

    def at(self, level: float) -> Outputs:
        """Those that are wrong at this rate, or nearly where none are."""
        low, high = 1 / 20, 1000.0
        for _ in range(14):
            middle = float(np.sqrt(low * high))
            if middle not in self._known:
                self._known[middle] = self._wrong(middle)
            low, high = (middle, high) if self._known[middle] < level else (low, middle)
        return sharpen(self._task, self._test.values, middle)

    def _wrong(self, temperature: float) -> float:
        if self._confidences is not None:
            return 1 - float(self._confidences.at(temperature).mean())
        values = sharpen(self._task, self._test.values, temperature)
        return float(np.where(self._test.decided, 1 - values, values).mean())
