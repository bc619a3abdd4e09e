"""How far an accuracy can be trusted when rows come in groups.

Cells of one patient succeed or fail together, so an interval that takes rows as independent is
too narrow. Whole groups are resampled instead (cluster bootstrap: Davison and Hinkley 1997,
section 3.8; Cameron, Gelbach and Miller 2008).
"""

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from pipeline.errors import EnsembleError


def accuracy_interval(
    correct: Bool[ndarray, " rows"],
    groups: list[str],
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """Lower and upper end of the percentile bootstrap interval of the mean of `correct`.

    Each resample draws as many groups as there are, with replacement, each with all its rows.
    confidence in (0, 1). Raises EnsembleError for fewer than two groups.
    """
    names, group_of_row = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise EnsembleError(
            f"the accuracy's interval needs two groups or more, found {len(names)} "
            f"over {len(correct)} rows"
        )
    rows = np.bincount(group_of_row)
    hits = np.bincount(group_of_row, weights=correct)
    generator = np.random.default_rng(seed)
    accuracies = np.empty(resamples)
    for resample in range(resamples):
        drawn = np.bincount(generator.integers(len(names), size=len(names)), minlength=len(names))
        accuracies[resample] = (drawn @ hits) / (drawn @ rows)
    tail = (1 - confidence) / 2
    low, high = np.quantile(accuracies, [tail, 1 - tail])
    return float(low), float(high)
