"""Intervals for the public and the private score, before any submission.

Training and test patients are two draws from one population. So both are drawn again from the
training patients (whole groups, Davison and Hinkley 1997, sections 3.8 and 6.3.3), the test rows
are split at random, and what varies is the difference between the two draws. groups.py stretches
it, since few groups show too little spread; docs/FORECAST.md says how often the intervals hold.

This is a prediction interval for one future score, which is wider than a confidence interval for
the mean score: with 160 training and 40 test patients two to three times as wide.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from pipeline.core.errors import EnsembleError
from pipeline.ensemble.bootstrap import interval_of, keep_defined
from pipeline.ensemble.config import ForecastConfig
from pipeline.ensemble.forecast.averaging import AveragingGain
from pipeline.ensemble.forecast.fall import Fall
from pipeline.ensemble.forecast.groups import redraw_train
from pipeline.scoring.card import Halves
from pipeline.scoring.metric import Scorer

LEVELS = (0.005, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.995)
"""Levels of the quantiles on the card, by which a later score's chance is found."""


@dataclass(frozen=True)
class PredictedScores:
    """The distribution of the public and the private score: scoring.card.Forecast, every digit."""

    score: float
    """The out-of-fold score; with drift that of weighted rows."""
    mean: float
    """The score to expect: `score`, the gain from averaging, and what a shift costs beyond it."""
    public: tuple[float, float]
    private: tuple[float, float]
    test: tuple[float, float]
    """Both halves together, which is never published."""
    sd: tuple[float, float]
    correlation: float
    """The halves share the patients and the networks."""
    shake_up: float
    quantiles: Float[ndarray, "halves levels"]
    """The public and the private score at LEVELS."""


def forecast(
    scorer: Scorer,
    groups: list[str],
    halves: Halves,
    gain: AveragingGain,
    weights: Float[ndarray, " rows"] | None,
    bounds: tuple[float, float],
    config: ForecastConfig,
    fall: Fall | None = None,
) -> PredictedScores:
    """Intervals for the scores on both halves of a test set of new groups.

    scorer: the score of the out-of-fold rows by their weights. groups: each row's; all different
    where rows are independent. weights: how much likelier each row is in test than in train
    (drift), averaged over its group; None: all alike. bounds: the metric's. fall: what another
    population costs, if test is one; with weights only what it costs beyond them. The sizes of the
    test groups are not known: groups of the training groups' sizes are drawn until the rows are
    full. Raises EnsembleError for fewer than two groups, or where the score is not defined on more
    than one draw in twenty.
    """
    population = _Population(groups, weights)
    resamples, generator = config.resamples, np.random.default_rng(config.seed)
    score = scorer(population.weight_of_row)
    test = np.array([_draw_test(scorer, population, halves, generator) for _ in range(resamples)])
    train = redraw_train(
        scorer,
        population.group_of_row,
        population.weight_of_row,
        _row_variance(test, halves),
        resamples,
        generator,
    )
    widened = train.stretch[:, None] * (test - score - train.off[:, None])
    shift = gain.mean + gain.spread * generator.standard_normal(resamples)
    expected = score + gain.mean
    if fall is not None and weights is None:
        shift += fall.draw(resamples, config.seed)
        expected += fall.expected
    elif fall is not None:  # it is of all rows as they are, and the weights show a part of it
        counted = score - scorer(np.ones(len(groups)))
        shift += fall.beyond(counted, fall.draw(resamples, config.seed))
        expected += float(fall.beyond(counted, fall.expected))
    scores = np.clip(score + widened + shift[:, None], *bounds)
    drawn = f"drawn competitions of {len(population.names)} groups have a half without"
    scores = keep_defined(scores, "forecast", drawn)
    public, private = scores[:, 0], scores[:, 1]
    varies = min(public.std(), private.std()) > 0
    return PredictedScores(
        score=score,
        mean=float(np.clip(expected, *bounds)),
        public=interval_of(public, config.confidence),
        private=interval_of(private, config.confidence),
        test=interval_of(scores[:, 2], config.confidence),
        sd=(float(public.std()), float(private.std())),
        correlation=float(np.corrcoef(public, private)[0, 1]) if varies else 0.0,
        shake_up=float((private - public).std()),
        quantiles=np.quantile(scores[:, :2], LEVELS, axis=0).T,
    )


class _Population:
    """The training rows by group, from which patients are drawn."""

    def __init__(self, groups: list[str], weights: Float[ndarray, " rows"] | None) -> None:
        self.names, self.group_of_row = np.unique(groups, return_inverse=True)
        if len(self.names) < 2:
            raise EnsembleError(
                f"forecast: expected two groups or more, found {len(self.names)} over "
                f"{len(groups)} rows: how patients differ is not known"
            )
        self.rows = np.argsort(self.group_of_row, kind="stable")
        self.sizes = np.bincount(self.group_of_row)
        self.starts = np.cumsum(self.sizes) - self.sizes
        by_row = np.ones(len(groups)) if weights is None else weights
        of_group = np.bincount(self.group_of_row, weights=by_row) / self.sizes
        self.weight_of_row: Float[ndarray, " rows"] = of_group[self.group_of_row]
        self._ladder = np.cumsum(of_group) / of_group.sum()
        self._mean_size = float((of_group * self.sizes).sum() / of_group.sum())

    def draw_rows(self, count: int, generator: np.random.Generator) -> Int[ndarray, " rows"]:
        """Rows of groups drawn with replacement, with chances proportional to their weights.

        All rows of each group, but of the last one only as many random ones as are missing.
        """
        drawn = np.empty(0, np.int64)
        while self.sizes[drawn].sum() < count:
            more = generator.random(int(1.2 * count / self._mean_size) + 4)
            places = np.searchsorted(self._ladder, more, side="right")
            # the ladder may end below 1 by rounding
            drawn = np.concatenate([drawn, np.minimum(places, len(self.names) - 1)])
        ends = np.cumsum(self.sizes[drawn])
        last = int(np.searchsorted(ends, count))
        surplus = int(ends[last]) - count
        whole = drawn[:last] if surplus else drawn[: last + 1]
        starts, sizes = self.starts[whole], self.sizes[whole]
        offsets = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        rows: Int[ndarray, " rows"] = self.rows[np.repeat(starts, sizes) + offsets]
        if surplus:
            own = self.rows[self.starts[drawn[last]] :][: self.sizes[drawn[last]]]
            rows = np.concatenate([rows, generator.permutation(own)[: len(own) - surplus]])
        return rows


def _draw_test(
    scorer: Scorer, population: _Population, halves: Halves, generator: np.random.Generator
) -> tuple[float, float, float]:
    """The scores of one drawn competition: public, private, both."""
    rows = generator.permutation(population.draw_rows(halves.both, generator))
    images = len(population.rows)
    public = np.bincount(rows[: halves.public], minlength=images).astype(np.float64)
    private = np.bincount(rows[halves.public :], minlength=images).astype(np.float64)
    return scorer(public), scorer(private), scorer(public + private)


def _row_variance(test: Float[ndarray, "resamples 3"], halves: Halves) -> float:
    """The score's variance over single rows, by which alone halves of the same groups differ.

    Sampling without replacement: the difference has this variance times 1/public + 1/private.
    """
    differences = test[:, 0] - test[:, 1]
    differences = differences[~np.isnan(differences)]
    if len(differences) == 0:
        return 0.0
    return float(differences.var() / (1 / halves.public + 1 / halves.private))
