"""Where the predictions are wrong, and whether their probabilities are calibrated.

Everything is computed on out-of-fold rows: from networks that have not seen them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from pipeline.core.shapes import Labels, Outputs
from pipeline.core.task import Number, OneOf, Task
from pipeline.scoring.of_probabilities import area_under_roc

MOST_CLASSES = 50
"""Of more, the page names those that are recognised least, and the pairs most confused."""

BINS = 10
"""All of equal width. Of 1,600 rows, tens are still in each of the middle bins."""


@dataclass(frozen=True)
class PredictedRows:
    """The ensemble's out-of-fold rows; all lists and arrays are parallel."""

    image_ids: list[str]
    """The first image of each row."""
    groups: list[str]
    task: Task
    labels: Labels
    values: Outputs
    decided: Labels

    @property
    def right(self) -> Bool[ndarray, " rows"]:
        """Which rows are decided as labelled; of numbers hardly any."""
        return self.task.right(self.decided, self.labels)

    @property
    def losses(self) -> Float[ndarray, " rows"]:
        """What each row loses: log loss or squared error."""
        return self.task.losses(self.values, self.labels)


@dataclass(frozen=True)
class ClassReport:
    """How well one class is predicted against the rest; NaN where there is no such row."""

    name: str
    rows: int
    predicted: int
    sensitivity: float
    """Share of the class's rows that are predicted as the class; also called recall."""
    specificity: float
    """Share of the other rows that are predicted as another class."""
    precision: float
    """Share of the rows predicted as the class that belong to it."""
    roc_auc: float


@dataclass(frozen=True)
class ConfusedPair:
    """How many rows of a class are predicted as another one."""

    given: str
    predicted: str
    rows: int
    share: float
    """Of the rows of the given class."""


@dataclass(frozen=True)
class Bin:
    """The rows whose probability is in [low, high); the last bin includes its end."""

    low: float
    high: float
    rows: int
    mean: float
    """Mean probability; NaN without rows."""
    share: float
    """Share of rows for which the predicted event is true; NaN without rows."""


@dataclass(frozen=True)
class Reliability:
    """Probabilities against observed frequencies."""

    what: str
    """Which probability it is."""
    bins: list[Bin]
    error: float
    """Expected calibration error: the mean over the rows of |mean - share| of their bin."""


@dataclass(frozen=True)
class Roc:
    """Sensitivity against 1 - specificity, over all thresholds."""

    false_positive_rate: Float[ndarray, " thresholds"]
    true_positive_rate: Float[ndarray, " thresholds"]


def count_confusion(rows: PredictedRows) -> Int[ndarray, "classes classes"]:
    """Rows by label (first axis) and prediction. Same as sklearn.metrics.confusion_matrix."""
    classes = len(rows.task.outputs)
    counts = np.bincount(rows.labels * classes + rows.decided, minlength=classes**2)
    return counts.reshape(classes, classes)


def list_confused(rows: PredictedRows) -> list[ConfusedPair]:
    """The pairs with most rows, at most MOST_CLASSES; equal ones in the order of the classes."""
    classes, names = len(rows.task.outputs), rows.task.outputs
    wrong = rows.labels != rows.decided
    pairs, counts = np.unique(
        rows.labels[wrong] * classes + rows.decided[wrong], return_counts=True
    )
    had = np.bincount(rows.labels, minlength=classes)
    return [
        ConfusedPair(
            names[pairs[at] // classes],
            names[pairs[at] % classes],
            int(counts[at]),
            float(counts[at] / had[pairs[at] // classes]),
        )
        for at in np.argsort(-counts, kind="stable")[:MOST_CLASSES]
    ]


def report_classes(of: PredictedRows) -> list[ClassReport]:
    """Each class against the rest; nothing of numbers.

    Same as scikit-learn's recall, precision and roc_auc_score.
    """
    if isinstance(of.task, Number):
        return []
    reports = []
    for place, name in enumerate(of.task.classes):
        has, decided = has_class(of.labels, place), has_class(of.decided, place)
        found = (has, decided, ~has, has & decided)
        rows, predicted, others, correct = (int(each.sum()) for each in found)
        reports.append(
            ClassReport(
                name,
                rows,
                predicted,
                sensitivity=_ratio(correct, rows),
                specificity=_ratio(others - (predicted - correct), others),
                precision=_ratio(correct, predicted),
                roc_auc=area_under_roc(of.values[:, place], has),
            )
        )
    return reports


def has_class(labels: Labels, place: int) -> Bool[ndarray, " rows"]:
    """Which rows have the class, alone or among others."""
    return np.asarray(labels == place if labels.ndim == 1 else labels[:, place])


def measure_reliability(of: PredictedRows) -> Reliability:
    """Compare probabilities with observed frequencies in BINS bins.

    Two classes: the probability of the second. More: the probability of the predicted class.
    Several labels: the probabilities of all of them.
    Naeini, Cooper and Hauskrecht 2015, section 2. Same as sklearn.calibration.calibration_curve
    with strategy="uniform".
    """
    names = of.task.outputs
    if not isinstance(of.task, OneOf):
        what, probability, is_true = "probability of a label", of.values.ravel(), of.labels.ravel()
    elif len(names) == 2:
        what = f"probability of {names[1]}"
        probability = of.values[:, 1]
        is_true = of.labels == 1
    else:
        what = "probability of the predicted class"
        probability = of.values[np.arange(len(of.labels)), of.decided]
        is_true = of.right
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(place, minlength=BINS).astype(np.float64)
    sums = np.bincount(place, probability, minlength=BINS)
    trues = np.bincount(place, is_true, minlength=BINS)
    bins = [
        Bin(
            number / BINS,
            (number + 1) / BINS,
            int(rows[number]),
            _ratio(sums[number], rows[number]),
            _ratio(trues[number], rows[number]),
        )
        for number in range(BINS)
    ]
    return Reliability(what, bins, float(np.abs(sums - trues).sum() / len(probability)))


def trace_roc(probability: Float[ndarray, " rows"], positive: Bool[ndarray, " rows"]) -> Roc:
    """The curve from (0, 0) to (1, 1), with one point for each distinct probability.

    Same as sklearn.metrics.roc_curve with drop_intermediate=False, where both classes have rows.
    """
    order = np.argsort(-probability, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)
    true_positives = np.append(0, np.cumsum(positive[order])[ends])
    false_positives = np.append(0, np.cumsum(~positive[order])[ends])
    return Roc(false_positives / false_positives[-1], true_positives / true_positives[-1])


def _ratio(part: int | float, whole: int | float) -> float:
    return float(part / whole) if whole else float("nan")
