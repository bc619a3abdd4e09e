"""How far a score can be trusted when rows come in groups.

Cells of one patient succeed or fail together, so an interval that takes rows as independent is
too narrow. Whole groups are resampled instead (cluster bootstrap: Davison and Hinkley 1997,
section 3.8; Cameron, Gelbach and Miller 2008).
"""

from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from pipeline.core.errors import EnsembleError
from pipeline.core.shapes import Labels
from pipeline.core.task import Task
from pipeline.ensemble.blend import Prediction
from pipeline.scoring.metric import Metric, Scorer

_MOST_UNDEFINED = 0.05
"""Share of resamples that may miss a class; beyond it an interval would describe other data."""


@dataclass(frozen=True)
class ScoredRows:
    """The rows that predictions are scored on, and how intervals of the scores are made."""

    task: Task
    labels: Labels
    groups: list[str]
    folds: Int[ndarray, " rows"]
    """Blends are fitted on some folds and judged on the others: a group is in one fold only."""
    confidence: float
    """The intervals' level, between 0 and 1."""
    resamples: int
    seed: int

    def score(self, metric: Metric, prediction: Prediction) -> float:
        """The prediction's score over all rows."""
        return metric.score(prediction.values, prediction.decided, self.labels)

    def right(self, prediction: Prediction) -> Bool[ndarray, " rows"]:
        """Which rows are decided as labelled."""
        return self.task.right(prediction.decided, self.labels)

    def interval(self, metric: Metric, prediction: Prediction) -> tuple[float, float] | None:
        """The score's percentile bootstrap interval; None where too few groups have a class."""
        with suppress(EnsembleError):
            return interval_of(self.resample(metric, prediction)[:, 0], self.confidence)
        return None

    def resample(
        self, metric: Metric, *predictions: Prediction
    ) -> Float[ndarray, "resamples predictions"]:
        """The predictions' scores by resampled_scores, which may raise EnsembleError."""
        units = np.unique(self.groups, return_inverse=True)[1]
        scorers = [
            metric.scorer(each.values, each.decided, self.labels, units) for each in predictions
        ]
        return resampled_scores(scorers, int(units.max()) + 1, self.resamples, self.seed)

    def subset(self, chosen: Bool[ndarray, " rows"]) -> "ScoredRows":
        """Some of the rows."""
        groups = [name for name, taken in zip(self.groups, chosen, strict=True) if taken]
        return replace(self, labels=self.labels[chosen], groups=groups, folds=self.folds[chosen])


def resampled_scores(
    scorers: list[Scorer], groups: int, resamples: int, seed: int
) -> Float[ndarray, "resamples scorers"]:
    """Scores of as many groups as there are, drawn with replacement; each draw gives one row.

    scorers: functions of the groups' weights. Resamples on which a score is not defined (no row of
    a class) are left out. Raises EnsembleError where these are more than one in twenty, and for
    fewer than two groups.
    """
    if groups < 2:
        raise EnsembleError(f"an interval by groups needs two groups or more, found {groups}")
    generator = np.random.default_rng(seed)
    scores = np.empty((resamples, len(scorers)))
    for resample in range(resamples):
        drawn = np.bincount(generator.integers(groups, size=groups), minlength=groups)
        weights = drawn.astype(np.float64)
        scores[resample] = [score(weights) for score in scorers]
    return keep_defined(scores, "an interval by groups", f"resamples of {groups} groups have no")


def keep_defined(
    scores: Float[ndarray, "resamples scores"], what: str, lack: str
) -> Float[ndarray, "defined scores"]:
    """The resamples on which every score is defined.

    Raises EnsembleError where more than one in twenty is not; what, lack: for its message.
    """
    defined = ~np.isnan(scores).any(axis=1)
    if (~defined).mean() > _MOST_UNDEFINED:
        raise EnsembleError(
            f"{what}: {(~defined).sum()} of {len(scores)} {lack} rows of some class: too few "
            "groups have it for this metric"
        )
    return np.asarray(scores[defined])


def interval_of(scores: Float[ndarray, " resamples"], confidence: float) -> tuple[float, float]:
    """The percentile interval of resampled scores."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(scores, [tail, 1 - tail])
    return float(low), float(high)
