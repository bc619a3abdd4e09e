"""How much the out-of-fold score of other training groups would differ, and how sure that is.

A group moves the score by its size times how much better or worse its rows are. Where sizes differ,
a few large groups make most of the spread, and it is chance which of them are the hard ones. So the
spread is the larger of two: the one that was seen, and the one to expect from these sizes (the
design effect 1 + ((cv² + 1) m - 1) ICC: Eldridge, Ashby and Kerry 2006). It is estimated again from
each redrawn set of groups (bootstrap-t: Efron 1981; Hall 1988), so its own error widens the
interval. docs/FORECAST.md has the figures, docs/LOG.md what else was tried.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from pipeline.scoring.metric import Scorer

_MOST_STRETCH = 3.0
"""The limit of either ratio: a few groups that are alike have hardly any spread."""

_MOST_BLOCKS = 400
"""The spread is measured by leaving out each group, or each of this many sets of groups."""


@dataclass(frozen=True)
class Redrawn:
    """The training groups drawn again and again, with replacement."""

    off: Float[ndarray, " resamples"]
    """The score of the redrawn groups minus that of the real ones."""
    stretch: Float[ndarray, " resamples"]
    """The factor on a difference, above 1 where the redrawn groups differ too little."""


def redraw_train(
    scorer: Scorer,
    group_of_row: Int[ndarray, " rows"],
    weight_of_row: Float[ndarray, " rows"],
    row_variance: float,
    resamples: int,
    generator: np.random.Generator,
) -> Redrawn:
    """The score of redrawn groups, to first order, and the stretch of each.

    It is the sum of the groups' influences, from the score without each (jackknife), so that a
    metric is scored once per group and not once per draw. row_variance: the metric's variance over
    single rows, in its units squared. scorer: defined on all rows.
    """
    block_of_group = np.arange(group_of_row.max() + 1)
    if len(block_of_group) > _MOST_BLOCKS:
        block_of_group = generator.permutation(block_of_group) % _MOST_BLOCKS
    block_of_row = block_of_group[group_of_row]
    blocks = int(block_of_group.max()) + 1
    score = scorer(weight_of_row)
    without = [scorer(weight_of_row * (block_of_row != block)) for block in range(blocks)]
    influence = (blocks - 1) * (score - np.array(without))
    influence = np.nan_to_num(influence - np.nanmean(influence))  # a block with all of a class: 0
    rows = np.bincount(block_of_row).astype(np.float64)
    weight = np.bincount(block_of_row, weights=weight_of_row)
    drawn = generator.integers(blocks, size=(resamples, blocks))
    off = influence[drawn].mean(axis=1)
    seen, spread = float(influence.std()), influence[drawn].std(axis=1)
    likely = seen
    if np.ptp(weight) > 0:
        share = weight / weight.mean()
        better = influence / share
        likely = max(seen, float(spread_by_design(better, share, rows, row_variance)))
    if likely > seen:
        better = better[drawn] - off[:, None]
        spread = spread_by_design(better, share[drawn], rows[drawn], row_variance)
    drift = weight / rows  # sizes are in the stretch already
    effective = max(2.0, drift.sum() ** 2 / (drift**2).sum())
    few = np.sqrt(effective / (effective - 1))
    return Redrawn(off, few * _ratio(likely, seen) * _ratio(likely, spread))


def spread_by_design(
    better: Float[ndarray, "*draws groups"],
    share: Float[ndarray, "*#draws groups"],
    rows: Float[ndarray, "*#draws groups"],
    row_variance: float,
) -> Float[ndarray, "*draws"]:
    """Standard deviation of a group's influence, if its size says nothing about its rows.

    better: how much a group's rows are above the score. share: its weight, 1 on average. rows: its
    number of rows. The variance between groups is that of one-way ANOVA, with weighted groups and
    row_variance as the total; it is between 0 and the total.
    """
    share = share / share.mean(axis=-1, keepdims=True)
    of_means = (share * better**2).mean(axis=-1)
    diluted = (share / rows).mean(axis=-1)  # 1 where each group is one row
    between = np.zeros_like(of_means)
    np.divide(of_means - row_variance * diluted, 1 - diluted, out=between, where=diluted < 1)
    between = np.clip(between, 0, row_variance)
    within = (row_variance - between)[..., None] / rows
    return np.asarray(np.sqrt((share**2 * (between[..., None] + within)).mean(axis=-1)))


def _ratio(above: float, below: ndarray | float) -> Float[ndarray, "*draws"]:
    below = np.asarray(below, dtype=np.float64)
    ratio = np.full(below.shape, _MOST_STRETCH)
    np.divide(above, below, out=ratio, where=below > above / _MOST_STRETCH)
    return ratio
