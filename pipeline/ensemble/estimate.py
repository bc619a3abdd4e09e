"""How far a score can be trusted when rows come in groups.

Cells of one patient succeed or fail together, so an interval that takes rows as independent is
too narrow. Whole groups are resampled instead (cluster bootstrap: Davison and Hinkley 1997,
section 3.8; Cameron, Gelbach and Miller 2008).
"""

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from pipeline.core.errors import EnsembleError
from pipeline.scoring.metrics import Scorer

_MOST_UNDEFINED = 0.05
"""Share of resamples that may miss a class; beyond it an interval would describe other data."""


def accuracy_interval(
    correct: Bool[ndarray, " rows"],
    groups: list[str],
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """Lower and upper end of the percentile bootstrap interval of the mean of `correct`.

    confidence in (0, 1). Raises EnsembleError for fewer than two groups.
    """
    units = np.unique(groups, return_inverse=True)[1]
    hits, rows = np.bincount(units, weights=correct), np.bincount(units)
    scores = resampled_scores(
        [lambda weights: float((weights @ hits) / (weights @ rows))], len(rows), resamples, seed
    )
    return interval_of(scores[:, 0], confidence)


def resampled_scores(
    scorers: list[Scorer], groups: int, resamples: int, seed: int
) -> Float[ndarray, "resamples scorers"]:
    """The scores over resampled groups; one row's scores are of the same resample: paired.

    scorers: of groups as metrics.Units. Each resample draws as many groups as there are, with
    replacement, each with all its rows. Resamples on which a score is not defined (no row of a
    class) are left out. Raises EnsembleError where these are more than one in twenty, and for
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
    defined = ~np.isnan(scores).any(axis=1)
    if (~defined).mean() > _MOST_UNDEFINED:
        raise EnsembleError(
            f"an interval by groups: {(~defined).sum()} of {resamples} resamples of {groups} "
            "groups have no rows of some class: too few groups hold it for this metric"
        )
    return scores[defined]


def interval_of(scores: Float[ndarray, " resamples"], confidence: float) -> tuple[float, float]:
    """The percentile interval of resampled scores."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(scores, [tail, 1 - tail])
    return float(low), float(high)
