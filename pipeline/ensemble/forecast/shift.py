"""Do the networks take test for another population.

A classifier on pooled pixels (drift.py) sees little of what makes a network wrong. So the networks
are asked, without labels, for the error on test in four ways. How much less confident they are
(difference of confidences: Guillory et al. 2021, arXiv:2107.03315). How many rows are less
confident than as many out-of-fold rows as are wrong (ATC: Garg et al. 2022, arXiv:2201.04234). By
how much the labels that they decide are distributed differently, which are errors if test has the
classes of train (Lipton et al. 2018, arXiv:1802.03916). And the error that the folds' disagreement
proves: of two that differ one at least is wrong. Numbers have the last two. Each rise of the error
is held against the same figure for random whole training groups; only beyond their range is test
another population. What that costs is in fall.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from pipeline.core.shapes import Labels
from pipeline.core.task import AnyOf, Number, OneOf, Task
from pipeline.ensemble.blend import Prediction
from pipeline.ensemble.calibrate import sharpen
from pipeline.ensemble.forecast.averaging import Noise
from pipeline.ensemble.forecast.drift import LEAST_GROUPS, choose_groups
from pipeline.scoring.card import Rise, Shift

_SPLITS = 199
"""Random sets of training groups that make the bands."""

_MATERIAL = 0.01
"""Test is another population if chance alone gives such figures at most this often."""


@dataclass(frozen=True)
class Asked:
    """What the networks say of some rows, without their labels."""

    task: Task
    decided: Labels
    unsure: Float[ndarray, "rows asked"]
    """One minus the calibrated confidence: in one class, in each of several labels; numbers have
    none."""

    @classmethod
    def ask(cls, task: Task, prediction: Prediction, temperature: float) -> "Asked":
        if isinstance(task, Number):
            return cls(task, prediction.decided, np.empty((len(prediction.values), 0)))
        sure = sharpen(task, prediction.values, temperature)
        if isinstance(task, AnyOf):
            surest = np.maximum(sure, 1 - sure)
        else:
            surest = sure.max(axis=1, keepdims=True)
        return cls(task, prediction.decided, np.asarray(1 - surest))

    def subset(self, chosen: Bool[ndarray, " rows"]) -> "Asked":
        """Some of the rows."""
        return Asked(self.task, self.decided[chosen], self.unsure[chosen])

    @property
    def shares(self) -> Float[ndarray, " outputs"]:
        """The share of rows that each class is decided for; the mean of numbers."""
        if isinstance(self.task, OneOf):
            counts = np.bincount(self.decided, minlength=len(self.task.classes))
            return np.asarray(counts / len(self.decided))
        return np.asarray(self.decided.mean(axis=0))

    def distance(self, shares: Float[ndarray, " outputs"]) -> float:
        """The least error that gives these rows the shares of others."""
        off = shares - self.shares
        if isinstance(self.task, Number):
            return float((off**2).mean())
        return float(np.abs(off).sum() / 2 if isinstance(self.task, OneOf) else np.abs(off).mean())


def measure_shift(
    task: Task,
    oof: Prediction,
    labels: Labels,
    groups: list[str],
    test_by_fold: list[Prediction],
    noise: Noise,
    seed: int,
) -> Shift | None:
    """What the networks say of test; None for fewer than six groups, which cannot be compared.

    oof: the out-of-fold rows, in groups. noise: theirs.
    """
    group_of_row = np.unique(groups, return_inverse=True)[1]
    if group_of_row.max() + 1 < LEAST_GROUPS:
        return None
    if isinstance(task, Number):  # all in standard deviations of the labels
        spread = _spread(labels)
        labels = labels / spread
        oof, *test_by_fold = (
            Prediction(each.values / spread, each.decided / spread) for each in (oof, *test_by_fold)
        )
    known, wrong = Asked.ask(task, oof, noise.temperature), _errors(task, oof, labels)
    tests = [Asked.ask(task, fold, noise.temperature) for fold in test_by_fold]
    found = _rises(known, wrong, tests, _prove(task, test_by_fold))
    generator = np.random.default_rng(seed)
    ratio = len(test_by_fold[0].decided) / len(labels)
    null = np.empty((_SPLITS, len(found)))
    for split in range(_SPLITS):
        as_test = choose_groups(group_of_row, min(ratio, 0.5), generator)
        others, error = known.subset(~as_test), float(wrong[as_test].mean())
        # what is proven cannot exceed the error itself
        of_split = _rises(others, wrong[~as_test], [known.subset(as_test)], error)
        share = as_test.mean()
        as_large = np.sqrt((1 + 1 / ratio) / (1 / share + 1 / (1 - share)))
        null[split] = [as_large * of_split[name] for name in found]
    center = null.mean(axis=0)
    null = (null - center) * _few_groups(group_of_row)
    scale = np.maximum(null.std(axis=0), 1e-9)
    steps = np.array(list(found.values())) - center
    farthest, beyond = (null / scale).max(axis=1), (steps / scale).max()
    p = (1 + int((farthest >= beyond).sum())) / (1 + _SPLITS)
    bands = np.quantile(null, [0.05, 0.95], axis=0).T.tolist()
    rises = {
        name: Rise(by=by, band=band)
        for name, by, band in zip(found, steps.tolist(), bands, strict=True)
    }
    return Shift(
        error=float(wrong.mean()),
        rises=rises,
        p=p,
        splits=_SPLITS,
        is_other=p <= _MATERIAL and max(rise.beyond for rise in rises.values()) > 0,
        falls=None,
    )


def _few_groups(group_of_row: Int[ndarray, " rows"]) -> float:
    """How much too small the spread among few groups looks: Student's quantile over the normal one.

    Groups of unequal size count as fewer.
    """
    from scipy import special  # not before the stage has checked its inputs

    sizes = np.bincount(group_of_row)
    groups = sizes.sum() ** 2 / (sizes**2).sum()
    level = 1 - _MATERIAL
    return float(special.stdtrit(max(groups - 1, 1.0), level) / special.ndtri(level))


def _spread(numbers: Labels) -> Float[ndarray, " outputs"]:
    """The standard deviation of each number; 1 where it has one value only."""
    spread = numbers.std(axis=0)
    return np.where(spread > 1e-9 * np.abs(numbers).max(axis=0), spread, 1.0)


def _errors(task: Task, prediction: Prediction, labels: Labels) -> Float[ndarray, " rows"]:
    """Wrong (1) or right; the share of wrong labels; the squared error."""
    if isinstance(task, Number):
        return np.asarray(((prediction.values - labels) ** 2).mean(axis=1))
    wrong = (prediction.decided != labels).astype(np.float64)
    return wrong if isinstance(task, OneOf) else np.asarray(wrong.mean(axis=1))


def _prove(task: Task, folds: list[Prediction]) -> float | None:
    """The least mean error of the folds' predictions, whatever the labels are; None for one fold.

    Numbers: the squared error of several is their squared distance from any number, least from
    their mean. Classes: of two folds that differ in a label, one at least is wrong.
    """
    if len(folds) < 2:
        return None
    if isinstance(task, Number):
        mean = np.mean([fold.values for fold in folds], axis=0)
        return float(np.mean([(fold.values - mean) ** 2 for fold in folds]))
    differ = [
        float((one.decided != other.decided).mean())
        for place, one in enumerate(folds)
        for other in folds[:place]
    ]
    return float(np.mean(differ)) / 2


def _rises(
    known: Asked, wrong: Float[ndarray, " rows"], new: list[Asked], proven: float | None
) -> dict[str, float]:
    """How much higher the error of new rows is than that of known ones, by each method.

    new: each fold's, of which the mean counts.
    """
    error, found = float(wrong.mean()), {}
    if known.unsure.size:
        of_new = np.mean([fold.unsure.mean() for fold in new])
        found["confidence"] = float(of_new - known.unsure.mean())
        limit = np.quantile(known.unsure, 1 - error)
        beyond = np.mean([(fold.unsure > limit).mean() for fold in new])
        found["threshold"] = float(beyond - (known.unsure > limit).mean())
    found["decided labels"] = known.distance(np.mean([fold.shares for fold in new], axis=0))
    if proven is not None:
        found["disagreement"] = proven - error
    return found
