"""The forecast as a part of a submission's card: figures, and the assumptions behind them.

Nothing that a solution file or Kaggle knows is read here.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.core.errors import EnsembleError
from pipeline.core.shapes import Labels
from pipeline.core.task import Number, Task
from pipeline.ensemble.blend import Prediction
from pipeline.ensemble.config import ForecastConfig
from pipeline.ensemble.forecast.averaging import Noise, estimate_gain
from pipeline.ensemble.forecast.fall import expect_fall
from pipeline.ensemble.forecast.intervals import LEVELS, forecast
from pipeline.ensemble.forecast.shift import measure_shift
from pipeline.scoring.card import CorrectRows, Drift, Forecast, Gain, Halves, Quantiles, Shift
from pipeline.scoring.metric import Metric


@dataclass(frozen=True)
class OutOfFoldRows:
    """The out-of-fold rows of the blend that is submitted."""

    task: Task
    row_ids: list[str]
    prediction: Prediction
    labels: Labels
    groups: list[str]


def build_forecast(
    metric: Metric,
    oof: OutOfFoldRows,
    test: Prediction,
    test_by_fold: list[Prediction],
    drift: tuple[Drift, dict[str, float]] | None,
    config: ForecastConfig,
) -> Forecast:
    """What to expect on both leaderboards, before anything is submitted.

    test: the submission's predictions. test_by_fold: each fold's predictions of the test images,
    blended as the out-of-fold rows are: one fold of each repeat, all models. drift: as
    measure_drift returns it, or None where it was not measured. Raises EnsembleError.
    """
    measured, weight_of_group = drift if drift is not None else (None, {})
    task, decided, values = oof.task, oof.prediction.decided, oof.prediction.values
    noise = Noise.measure(task, values, oof.labels)
    gain = estimate_gain(task, metric, test, test_by_fold, noise, config.seed)
    shift = measure_shift(
        task, oof.prediction, oof.labels, oof.groups, test_by_fold, noise, config.seed
    )
    fall = None
    if shift is not None and shift.is_other:
        fall = expect_fall(task, metric, shift, test, noise, config.seed)
        shift = Shift(**dict(shift) | {"falls": (fall.expected, fall.most)})
    halves = split_rows(len(test.decided), config.public_share)
    found = forecast(
        scorer=metric.scorer(values, decided, oof.labels),
        groups=oof.groups,
        halves=halves,
        gain=gain,
        weights=np.array([weight_of_group.get(group, 1.0) for group in oof.groups])
        if measured is not None and measured.weighted
        else None,
        bounds=(metric.lowest, metric.highest),
        config=config,
        fall=fall,
    )
    public, private = found.quantiles.tolist()
    groups, rows, folds = len(set(oof.groups)), len(oof.labels), len(test_by_fold)
    return Forecast(
        confidence=config.confidence,
        public=found.public,
        private=found.private,
        mean=found.mean,
        sd=found.sd,
        correlation=found.correlation,
        shake_up=found.shake_up,
        rows=halves,
        levels=list(LEVELS),
        quantiles=Quantiles(public=public, private=private),
        gain=Gain(
            mean=gain.mean,
            spread=gain.spread,
            disagreement=gain.disagreement,
            folds=folds,
        ),
        drift=measured,
        shift=shift,
        correct=None
        if isinstance(task, Number)
        else CorrectRows.pack(oof.row_ids, task.right(decided, oof.labels)),
        assumptions=[
            f"test groups are new, and drawn like the {groups} training groups: about "
            f"{halves.both * groups / rows:.0f} of them, from {rows / groups:.1f} rows a group",
            f"public are {halves.public} of the {halves.both} test rows, by chance, row by row",
            f"averaging {folds} folds shifts the score by {gain.mean:+.4f} ± {gain.spread:.4f}"
            + (
                ""
                if isinstance(task, Number)
                else f": each disagrees with their mean on {gain.disagreement:.2%} of the test "
                "images"
            )
            if folds > 1
            else "one fold's models predict test, as they do the out-of-fold rows: no gain",
            _assume_kind(measured, found.score),
            "The networks were not asked whether test is another population"
            if shift is None
            else shift.sentence(metric.name),
        ],
    )


def split_rows(rows: int, public_share: float) -> Halves:
    """The sizes of both halves, each with at least one row. Raises EnsembleError for one row."""
    if rows < 2:
        raise EnsembleError(f"forecast: expected two test rows or more, found {rows}")
    public = min(max(1, round(rows * public_share)), rows - 1)
    return Halves(public=public, private=rows - public)


def _assume_kind(drift: Drift | None, weighted_score: float) -> str:
    if drift is None:
        return "train and test are of one kind: not measured"
    low, high = drift.band
    if drift.weighted:
        return (
            f"train and test differ (AUC {drift.auc:.3f}, among training groups {low:.3f}"
            f" to {high:.3f}, p {drift.p:.3f}; most in {drift.strongest[0]}): training groups "
            f"count as much as they look like test, {weighted_score:.4f} instead of as they are"
        )
    return (
        f"train and test are of one kind: AUC {drift.auc:.3f}, among training groups "
        f"{low:.3f} to {high:.3f} (p {drift.p:.2f})"
    )
