"""Where the predictions are wrong, and whether they are as sure as they should be.

Everything is of out-of-fold rows: of networks that have not seen them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from pipeline.core.shapes import Labels, Probabilities
from pipeline.scoring.metrics import METRICS

BINS = 10
"""Of equal width. With ten, 1,600 rows still leave tens of rows in the middle bins."""


@dataclass(frozen=True)
class ClassReport:
    """How one class fares against the rest; NaN where nothing is there to divide by."""

    name: str
    rows: int
    predicted: int
    sensitivity: float
    """Share of its rows that are predicted so; also called recall."""
    specificity: float
    """Share of the other rows that are not."""
    precision: float
    """Share of the rows predicted so that are of it."""
    roc_auc: float


@dataclass(frozen=True)
class Bin:
    """The rows whose probability lies in [low, high), the last bin with its end."""

    low: float
    high: float
    rows: int
    mean: float
    """Of their probabilities; NaN without rows."""
    share: float
    """Of them that are so; NaN without rows."""


@dataclass(frozen=True)
class Reliability:
    """Probabilities against frequencies."""

    what: str
    bins: list[Bin]
    error: float
    """Expected calibration error: the mean over rows of their bin's |mean - share|."""


@dataclass(frozen=True)
class Roc:
    """Sensitivity against one minus specificity, over all thresholds."""

    false_positive_rate: Float[ndarray, " thresholds"]
    true_positive_rate: Float[ndarray, " thresholds"]
    area: float


def count_confusion(
    labels: Labels, predicted: Labels, classes: int
) -> Int[ndarray, "classes classes"]:
    """Rows by label (first axis) and prediction. Same as sklearn.metrics.confusion_matrix."""
    counts = np.bincount(labels * classes + predicted, minlength=classes**2)
    return counts.reshape(classes, classes)


def report_classes(
    confusion: Int[ndarray, "classes classes"],
    probabilities: Probabilities,
    labels: Labels,
    classes: list[str],
) -> list[ClassReport]:
    """Each class against the rest. Same as scikit-learn's recall, precision and roc_auc_score."""
    reports = []
    for place, name in enumerate(classes):
        rows, predicted = float(confusion[place].sum()), float(confusion[:, place].sum())
        hits, others = float(confusion[place, place]), float(confusion.sum()) - rows
        reports.append(
            ClassReport(
                name,
                int(rows),
                int(predicted),
                sensitivity=_ratio(hits, rows),
                specificity=_ratio(others - (predicted - hits), others),
                precision=_ratio(hits, predicted),
                roc_auc=_area(probabilities[:, place], labels == place),
            )
        )
    return reports


def measure_reliability(
    probabilities: Probabilities, predicted: Labels, labels: Labels, classes: list[str]
) -> Reliability:
    """Of the second of two classes its probability; of more, that of the predicted class.

    Naeini, Cooper and Hauskrecht 2015, section 2. Same as sklearn.calibration.calibration_curve
    with strategy="uniform".
    """
    if len(classes) == 2:
        what, chance, came_true = f"probability of {classes[1]}", probabilities[:, 1], labels == 1
    else:
        what = "probability of the predicted class"
        chance = probabilities[np.arange(len(labels)), predicted]
        came_true = labels == predicted
    place = np.minimum((chance * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(place, minlength=BINS).astype(np.float64)
    chances = np.bincount(place, chance, minlength=BINS)
    truths = np.bincount(place, came_true, minlength=BINS)
    bins = [
        Bin(
            number / BINS,
            (number + 1) / BINS,
            int(rows[number]),
            _ratio(chances[number], rows[number]),
            _ratio(truths[number], rows[number]),
        )
        for number in range(BINS)
    ]
    return Reliability(what, bins, float(np.abs(chances - truths).sum() / len(labels)))


def trace_roc(chance: Float[ndarray, " rows"], positive: ndarray) -> Roc:
    """The curve from (0, 0) to (1, 1), a point a distinct probability.

    Same as sklearn.metrics.roc_curve with drop_intermediate=False.
    """
    order = np.argsort(-chance, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(chance[order])), len(order) - 1)
    hits = np.append(0, np.cumsum(positive[order])[ends])
    alarms = np.append(0, np.cumsum(~positive[order])[ends])
    return Roc(alarms / max(1, alarms[-1]), hits / max(1, hits[-1]), _area(chance, positive))


def _area(chance: Float[ndarray, " rows"], positive: ndarray) -> float:
    if positive.all() or not positive.any():
        return float("nan")
    labels = positive.astype(np.int64)
    return METRICS["roc_auc"].score(np.stack([1 - chance, chance], axis=1), labels, labels)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
