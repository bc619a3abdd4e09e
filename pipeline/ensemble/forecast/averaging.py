"""What averaging the fold models gains on the test images, from their disagreement, without labels.

An out-of-fold row is predicted by one fold's models, a test image by the mean over all folds. The
mean of the folds, each sharpened by the temperature that fits the out-of-fold rows, gives the
expected accuracy of both; for other metrics labels are drawn from it, and both are scored on them.

A mean of calibrated probabilities is less confident than it should be (Rahaman and Thiery 2021), so
this finds only a part of the gain: in simulated competitions the true one is 1.3 to 2.2 times as
large (docs/FORECAST.md). The spread is therefore set as large as the gain.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.core.errors import EnsembleError
from pipeline.core.shapes import Labels, Probabilities
from pipeline.ensemble.blend import Prediction
from pipeline.ensemble.calibrate import sharpen
from pipeline.scoring.metrics import Metric

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


def estimate_gain(
    metric: Metric,
    test: Prediction,
    test_by_fold: list[Prediction],
    temperature: float,
    seed: int,
) -> AveragingGain:
    """The expected score of the submission minus that of one fold's models, on the test images.

    test: the submission's predictions. test_by_fold: each fold's predictions of the test images,
    blended as the out-of-fold rows are. temperature: calibrates one of them. Raises EnsembleError
    where the tables have different shapes.
    """
    shapes = sorted({fold.probabilities.shape for fold in [test, *test_by_fold]})
    if len(shapes) > 1:
        raise EnsembleError(f"forecast: expected test predictions of one shape, found {shapes}")
    if len(test_by_fold) < 2:
        return NO_GAIN
    tables = [sharpen(fold.probabilities, temperature) for fold in test_by_fold]
    chances: Probabilities = np.mean(tables, axis=0)
    if metric.is_mean_of_rows:
        rows = np.arange(len(chances))
        of_folds = [chances[rows, fold.predicted] for fold in test_by_fold]
        gained = float((chances[rows, test.predicted] - of_folds).mean())
    else:
        gained = _gain_on_drawn_labels(metric, test, test_by_fold, chances, seed)
    differ = [fold.predicted != test.predicted for fold in test_by_fold]
    return AveragingGain(gained, abs(gained), float(np.mean(differ)))


def _gain_on_drawn_labels(
    metric: Metric,
    test: Prediction,
    test_by_fold: list[Prediction],
    chances: Probabilities,
    seed: int,
) -> float:
    """The mean over sets of labels; 0 where the metric is not defined on any of them."""
    ladder = np.cumsum(chances, axis=1)
    generator = np.random.default_rng(seed)
    gains = []
    for _ in range(_LABELLINGS):
        heights = generator.random(len(ladder))[:, None] * ladder[:, -1:]
        labels = (heights > ladder).sum(axis=1)
        single = np.mean([_score(metric, fold, labels) for fold in test_by_fold])
        gains.append(_score(metric, test, labels) - single)
    return float(np.nanmean(gains)) if not np.isnan(gains).all() else 0.0


def _score(metric: Metric, fold: Prediction, labels: Labels) -> float:
    """NaN where the metric needs a class that was not drawn."""
    one = np.zeros_like(labels)
    return metric.scorer(fold.probabilities, fold.predicted, labels, one)(np.ones(1))
