"""Scores of predictions against labels, each equal to scikit-learn's of the same name.

Written in NumPy, since importing scikit-learn costs more than a second (tests/test_metrics.py
compares them).
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from pipeline.core.errors import EnsembleError
from pipeline.core.ranks import ordered_pairs
from pipeline.core.shapes import Labels, Outputs
from pipeline.core.task import Kind, OneOf, Task
from pipeline.scoring.metric import ClassCounts, Metric, Rows, Scorer, Units, Weights

_LOWEST_R2 = -1e9
"""It has no bound, but a record of the pipeline has."""

_CLASSES: tuple[Kind, ...] = ("one_of", "any_of")


def recalls(decided: Labels, labels: Labels, classes: int) -> list[float | None]:
    """For each class, the share of its rows that are decided as that class.

    With two classes these are specificity and sensitivity. Same as sklearn.metrics.recall_score
    with average=None. None for a class without rows.
    """
    units = np.zeros(len(labels), np.int64)
    had, _, right = Rows(np.empty((len(labels), classes)), decided, labels, units).entries
    one = np.ones(1)
    return [
        float(hits / rows) if rows else None
        for hits, rows in zip(right.weigh(one), had.weigh(one), strict=True)
    ]


def area_under_roc(values: Float[ndarray, " rows"], positive: Bool[ndarray, " rows"]) -> float:
    """The chance that a positive row has a larger value than another row; ties count half.

    Same as sklearn.metrics.roc_auc_score. NaN without rows of one kind.
    """
    return _area(values, positive, np.arange(len(values)))(np.ones(len(values)))


def metric_for(name: str, task: Task, never_scored: Iterable[str] = ()) -> Metric:
    """The metric of that name. Raises EnsembleError where it is not for such a task.

    never_scored: classes that are only trained on. They and merged ones are its optional classes.
    """
    metric = metric_named(name)
    if task.kind not in metric.tasks:
        fit = ", ".join(n for n, other in METRICS.items() if task.kind in other.tasks)
        raise EnsembleError(
            f"params.yaml: ensemble.metric: {name} is for {' or '.join(metric.tasks)}, found a "
            f"task of kind {task.kind}; expected one of {fit}"
        )
    if metric.two_classes and len(task.outputs) != 2:
        fit = ", ".join(n for n, m in METRICS.items() if not m.two_classes and task.kind in m.tasks)
        raise EnsembleError(
            f"params.yaml: ensemble.metric: {name} is for two classes, found "
            f"{len(task.outputs)}; expected one of {fit}"
        )
    rare = {*never_scored, *(task.merged if isinstance(task, OneOf) else [])}
    places = tuple(sorted(map(task.outputs.index, rare)))
    return replace(metric, optional=places) if places else metric


def metric_named(name: str) -> Metric:
    """The metric of that name. Raises EnsembleError for an unknown one."""
    if (metric := find_metric(name)) is None:
        raise EnsembleError(
            f"expected a metric of {', '.join(METRICS)}, or such as macro_f2, f0.5, top_3_error "
            f"and map_at_10, found {name[:80]!r}"
        )
    return metric


@lru_cache
def find_metric(name: str) -> Metric | None:
    """The metric of that name, or None."""
    if name in METRICS:
        return METRICS[name]
    if match := re.fullmatch(r"(macro_|micro_|samples_)?f([0-9]+(?:\.[0-9]+)?)", name):
        return _f_beta(name, match[1] or "", float(match[2]))
    if match := re.fullmatch(r"top_([1-9][0-9]*)_error", name):
        return _top_error(name, int(match[1]))
    if match := re.fullmatch(r"map_at_([1-9][0-9]*)", name):
        return _map_at(name, int(match[1]))
    return None


# How scorers are made: a mean over rows, a function of sums over rows, a function of counts.


def mean_of(values: Float[ndarray, " rows"], units: Units | None = None) -> Scorer:
    """The mean over rows, as a function of the units' weights; None: every row counts by itself."""
    units = np.arange(len(values)) if units is None else units
    sums, rows = np.bincount(units, weights=values), np.bincount(units)
    return lambda weights: _ratio(float(weights @ sums), float(weights @ rows))


def _of_sums(
    parts: list[Float[ndarray, "rows columns"]], units: Units, score: Callable[..., ndarray]
) -> Scorer:
    """The mean over the columns of a function of the rows' weighted number and sums of parts."""
    count = int(units.max()) + 1
    sums = [
        np.stack([np.bincount(units, column, count) for column in part.T], axis=1) for part in parts
    ]
    rows = np.bincount(units)
    return lambda weights: float(
        np.mean(score(float(weights @ rows), *(weights @ part for part in sums)))
    )


def _of_counts(score: Callable[[ClassCounts], ndarray], rows: Rows) -> Scorer:
    exclusive = rows.labels.ndim == 1
    distance = np.zeros(len(rows.labels))
    if exclusive:
        distance = ((rows.labels - rows.decided) ** 2).astype(np.float64)
    far = np.bincount(rows.units, weights=distance)
    had, decided, right = rows.entries
    return lambda weights: float(
        score(
            ClassCounts(
                had.weigh(weights),
                decided.weigh(weights),
                right.weigh(weights),
                exclusive,
                np.asarray(weights @ far),
                rows.optional,
            )
        )
    )


def _divide(numerator: ndarray | float, denominator: ndarray | float) -> ndarray:
    """NaN for 0 / 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.true_divide(numerator, denominator))


def _mean_over(of_class: ndarray, optional: tuple[int, ...]) -> ndarray:
    """The mean over the classes, the last axis, but for optional ones that are not defined."""
    if not optional:
        return np.asarray(of_class.mean(-1))
    counts = ~np.isnan(of_class) | ~np.isin(np.arange(of_class.shape[-1]), optional)
    return _divide(np.where(counts, of_class, 0).sum(-1), np.asarray(counts.sum(-1)))


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else np.nan


# Decided labels.


def _accuracy(rows: Rows) -> Scorer:
    """Share of rows that are right; of any_of those whose every label is."""
    right = rows.decided == rows.labels
    return mean_of((right if right.ndim == 1 else right.all(axis=1)).astype(np.float64), rows.units)


def _accuracy_of_counts(counts: ClassCounts) -> ndarray:
    return _divide(counts.right.sum(-1), counts.had.sum(-1))


def _balanced_accuracy(counts: ClassCounts) -> ndarray:
    return _mean_over(_divide(counts.right, counts.had), counts.optional)


def _f_of_classes(beta: float, counts: ClassCounts) -> ndarray:
    """(1 + beta²) TP / (beta² (TP + FN) + TP + FP) of each class.

    Of a class without rows NaN if a row has one class, else 0 as in scikit-learn.
    """
    below = beta**2 * counts.had + counts.decided
    f = _divide((1 + beta**2) * counts.right, below)
    f = np.where(counts.had > 0, f, np.nan) if counts.exclusive else np.nan_to_num(f)
    return np.asarray(f)


def _f_of_second(beta: float, counts: ClassCounts) -> ndarray:
    return np.asarray(_f_of_classes(beta, counts)[..., 1])


def _macro_f(beta: float, counts: ClassCounts) -> ndarray:
    return _mean_over(_f_of_classes(beta, counts), counts.optional)


def _micro_f(beta: float, counts: ClassCounts) -> ndarray:
    below = beta**2 * counts.had.sum(-1) + counts.decided.sum(-1)
    return _divide((1 + beta**2) * counts.right.sum(-1), below)


def _samples_f(beta: float, rows: Rows) -> Scorer:
    """The mean over rows of each row's own F; 0 for a row without labels, as in scikit-learn."""
    below = beta**2 * rows.labels.sum(axis=1) + rows.decided.sum(axis=1)
    f = _divide((1 + beta**2) * (rows.labels & rows.decided).sum(axis=1), below)
    return mean_of(np.nan_to_num(f), rows.units)


def _f_beta(name: str, average: str, beta: float) -> Metric:
    if average == "samples_":
        return Metric(name, ("any_of",), partial(_samples_f, beta), needs="labels")
    of_counts = partial({"": _f_of_second, "macro_": _macro_f, "micro_": _micro_f}[average], beta)
    tasks: tuple[Kind, ...] = _CLASSES if average == "macro_" else ("any_of",)
    tasks = tasks if average else ("one_of",)
    return _label_metric(name, tasks, of_counts, two_classes=not average, uses_order=not average)


def _quadratic_kappa(counts: ClassCounts) -> ndarray:
    """Cohen's kappa with the squared distance of the classes' places as the cost."""
    places = np.arange(counts.had.shape[-1])
    rows = counts.had.sum(-1)
    squares = (counts.had * places**2).sum(-1) + (counts.decided * places**2).sum(-1)
    both = (counts.had * places).sum(-1) * (counts.decided * places).sum(-1)
    return np.asarray(1 - _divide(counts.distance, squares - 2 * _divide(both, rows)))


def _matthews(counts: ClassCounts) -> ndarray:
    """Matthews' correlation, for any number of classes (Gorodkin 2004); 0 where it is 0 / 0."""
    rows, right = counts.had.sum(-1), counts.right.sum(-1)
    covariance = right * rows - (counts.had * counts.decided).sum(-1)
    spreads = [rows**2 - (side**2).sum(-1) for side in (counts.had, counts.decided)]
    return np.asarray(np.nan_to_num(_divide(covariance, np.sqrt(spreads[0] * spreads[1]))))


def _label_metric(
    name: str,
    tasks: tuple[Kind, ...],
    of_counts: Callable[[ClassCounts], ndarray],
    two_classes: bool = False,
    uses_order: bool = False,
    lowest: float = 0.0,
) -> Metric:
    return Metric(
        name,
        tasks,
        partial(_of_counts, of_counts),
        needs="labels",
        of_counts=of_counts,
        two_classes=two_classes,
        uses_order=uses_order,
        lowest=lowest,
    )


# Probabilities.


def _log_loss(rows: Rows) -> Scorer:
    """Minus the logarithm of the label's probability; of any_of the mean over the labels."""
    if rows.labels.ndim == 1:
        return mean_of(_losses(rows.values[np.arange(len(rows.labels)), rows.labels]), rows.units)
    of_label = np.where(rows.labels, rows.values, 1 - rows.values)
    return mean_of(_losses(of_label).mean(axis=1), rows.units)


def _losses(likelihood: ndarray) -> ndarray:
    smallest = 2.0**-52  # as scikit-learn clips
    return np.asarray(-np.log(np.clip(likelihood, smallest, 1 - smallest)))


def _area(
    values: Float[ndarray, " rows"], positive: Bool[ndarray, " rows"], units: Units
) -> Scorer:
    """Share of the pairs of a positive and a negative row that are in order; ties count half."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    return partial(_weighted_area, units[order], positive[order], starts)


def _weighted_area(
    units: Units, positive: Bool[ndarray, " rows"], starts: ndarray, weights: Weights
) -> float:
    """The area for rows in ascending order; starts: where each distinct value begins."""
    of_row = weights[units]
    positives = np.add.reduceat(of_row * positive, starts)
    negatives = np.add.reduceat(of_row * ~positive, starts)
    pairs = float(positives.sum() * negatives.sum())
    return _ratio(float(ordered_pairs(positives, negatives)), pairs)


def _average_precision(
    values: Float[ndarray, " rows"], positive: Bool[ndarray, " rows"], units: Units
) -> Scorer:
    """The mean over positive rows of the share of positives among rows of at least its value."""
    order = np.argsort(-values, kind="stable")
    starts = np.flatnonzero(np.diff(-values[order], prepend=-np.inf))
    units, positive = units[order], positive[order]

    def score(weights: Weights) -> float:
        of_row = weights[units]
        found = np.add.reduceat(of_row * positive, starts)
        so_far = np.cumsum(np.add.reduceat(of_row, starts))
        precision = np.nan_to_num(_divide(np.cumsum(found), so_far))
        return _ratio(float(found @ precision), float(found.sum()))

    return score


_OneColumn = Callable[[ndarray, ndarray, Units], Scorer]


def _of_second(column: _OneColumn, rows: Rows) -> Scorer:
    return column(rows.values[:, 1], rows.labels == 1, rows.units)


def _macro(column: _OneColumn, rows: Rows) -> Scorer:
    """The mean over the classes, each against the rest."""
    places = range(rows.values.shape[1])
    has = [rows.labels == p if rows.labels.ndim == 1 else rows.labels[:, p] for p in places]
    scorers = [column(rows.values[:, p], has[p], rows.units) for p in places]
    return lambda weights: float(
        _mean_over(np.array([score(weights) for score in scorers]), rows.optional)
    )


def _probabilistic_f1(rows: Rows) -> Scorer:
    """F1 with each row counted as positive by its probability."""
    chance, positive = rows.values[:, 1:], (rows.labels == 1)[:, None].astype(np.float64)
    return _of_sums(
        [chance * positive, chance + positive],
        rows.units,
        lambda _, hits, both: _divide(2 * hits, both),
    )


def _place_of_label(values: Outputs, labels: Labels) -> ndarray:
    """How many classes come before the label's, by probability and between equal ones by order."""
    of_label = values[np.arange(len(labels)), labels][:, None]
    before = np.arange(values.shape[1]) < labels[:, None]
    return np.asarray(((values > of_label) | ((values == of_label) & before)).sum(axis=1))


def _top_error(name: str, best: int) -> Metric:
    """The share of rows whose label is not among the most probable classes."""

    def build(rows: Rows) -> Scorer:
        missed = _place_of_label(rows.values, rows.labels) >= best
        return mean_of(missed.astype(np.float64), rows.units)

    return Metric(name, ("one_of",), build, needs="predictions", greater_is_better=False, best=best)


def _map_at(name: str, best: int) -> Metric:
    """One over the label's place among the most probable classes, else 0: the mean over rows."""

    def build(rows: Rows) -> Scorer:
        place = _place_of_label(rows.values, rows.labels)
        return mean_of(np.where(place < best, 1 / (place + 1), 0.0), rows.units)

    return Metric(name, ("one_of",), build, needs="predictions", best=best)


# Numbers: the mean over the columns, as in scikit-learn's uniform_average.


def _rmse(rows: Rows) -> Scorer:
    squares = (rows.values - rows.labels) ** 2
    return _of_sums([squares], rows.units, lambda count, s: np.sqrt(_divide(s, np.array(count))))


def _mae(rows: Rows) -> Scorer:
    return mean_of(np.abs(rows.values - rows.labels).mean(axis=1), rows.units)


def _rmsle(rows: Rows) -> Scorer:
    """Predictions below 0 count as 0, since no number of the kind is."""
    if rows.labels.min() < 0:
        raise EnsembleError(
            f"rmsle: expected labels of at least 0, found {rows.labels.min():g}. Set "
            "ensemble.metric in params.yaml to rmse or mae"
        )
    squares = (np.log1p(np.maximum(rows.values, 0)) - np.log1p(rows.labels)) ** 2
    return _of_sums([squares], rows.units, lambda count, s: np.sqrt(_divide(s, np.array(count))))


def _r2(rows: Rows) -> Scorer:
    centred = rows.labels - rows.labels.mean(axis=0)
    parts = [(rows.values - rows.labels) ** 2, centred, centred**2]

    def score(count: float, errors: ndarray, sums: ndarray, squares: ndarray) -> ndarray:
        spread = squares - _divide(sums**2, count)
        # Of equal labels rounding leaves a spread of about 1e-16 of the squares.
        found = 1 - _divide(errors, np.where(spread > 1e-12 * squares, spread, np.nan))
        return np.asarray(np.maximum(found, _LOWEST_R2))

    return _of_sums(parts, rows.units, score)


def _error(name: str, build: Callable[[Rows], Scorer]) -> Metric:
    return Metric(
        name, ("number",), build, needs="predictions", greater_is_better=False, highest=math.inf
    )


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in [
        Metric(
            "accuracy",
            _CLASSES,
            _accuracy,
            needs="labels",
            is_mean_of_rows=True,
            of_counts=_accuracy_of_counts,
        ),
        _label_metric("balanced_accuracy", ("one_of",), _balanced_accuracy),
        _f_beta("f1", "", 1.0),
        _f_beta("macro_f1", "macro_", 1.0),
        _f_beta("micro_f1", "micro_", 1.0),
        _f_beta("samples_f1", "samples_", 1.0),
        _label_metric("matthews", ("one_of",), _matthews, lowest=-1.0),
        _label_metric(
            "quadratic_kappa", ("one_of",), _quadratic_kappa, uses_order=True, lowest=-1.0
        ),
        Metric(
            "log_loss",
            _CLASSES,
            _log_loss,
            needs="predictions",
            greater_is_better=False,
            highest=math.inf,
        ),
        Metric(
            "roc_auc",
            ("one_of",),
            partial(_of_second, _area),
            needs="predictions",
            two_classes=True,
            scores_order=True,
        ),
        Metric("macro_roc_auc", _CLASSES, partial(_macro, _area), needs="predictions"),
        Metric(
            "average_precision",
            ("one_of",),
            partial(_of_second, _average_precision),
            needs="predictions",
            two_classes=True,
            uses_order=True,
            scores_order=True,
        ),
        Metric(
            "macro_average_precision",
            _CLASSES,
            partial(_macro, _average_precision),
            needs="predictions",
        ),
        Metric(
            "probabilistic_f1",
            ("one_of",),
            _probabilistic_f1,
            needs="predictions",
            two_classes=True,
            uses_order=True,
        ),
        _top_error("top_5_error", 5),
        _map_at("map_at_5", 5),
        _error("rmse", _rmse),
        _error("mae", _mae),
        _error("rmsle", _rmsle),
        Metric("r2", ("number",), _r2, needs="predictions", lowest=_LOWEST_R2),
    ]
}
"""The metrics by their names in params.yaml: ensemble.metric. In scikit-learn, quadratic_kappa is
cohen_kappa_score(weights="quadratic"), macro_roc_auc is roc_auc_score(multi_class="ovr"), matthews
is matthews_corrcoef. metric_named knows more: macro_f2, f0.5, top_3_error, map_at_10."""
