"""The metrics by their names in params.yaml, each equal to scikit-learn's of the same name.

Written in NumPy, since importing scikit-learn costs more than a second (tests/test_metrics.py
compares them). own.py adds those of a user's own.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache, partial

from pipeline.core.errors import EnsembleError
from pipeline.core.task import OneOf, Task
from pipeline.scoring.metric import CLASSES, Metric
from pipeline.scoring.names import OWN_METRICS, file_of
from pipeline.scoring.of_labels import (
    accuracy,
    accuracy_of_counts,
    balanced_accuracy,
    f_beta,
    label_metric,
    matthews,
    quadratic_kappa,
)
from pipeline.scoring.of_numbers import LOWEST_R2, error, mae, r2, rmse, rmsle
from pipeline.scoring.of_probabilities import (
    area,
    average_precision,
    log_loss,
    macro,
    map_at,
    of_second,
    probabilistic_f1,
    top_error,
)
from pipeline.scoring.own import own_metric


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
            f"and map_at_10, or NAME:FUNCTION of {OWN_METRICS}/NAME.py, found {name[:80]!r}"
        )
    return metric


def find_metric(name: str) -> Metric | None:
    """The metric of that name, or None. Raises EnsembleError for a broken one of the user's own."""
    return own_metric(name) if file_of(name) else _find(name)


@lru_cache
def _find(name: str) -> Metric | None:
    if name in METRICS:
        return METRICS[name]
    if match := re.fullmatch(r"(macro_|micro_|samples_)?f([0-9]+(?:\.[0-9]+)?)", name):
        return f_beta(name, match[1] or "", float(match[2]))
    if match := re.fullmatch(r"top_([1-9][0-9]*)_error", name):
        return top_error(name, int(match[1]))
    if match := re.fullmatch(r"map_at_([1-9][0-9]*)", name):
        return map_at(name, int(match[1]))
    return None


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in [
        Metric(
            "accuracy",
            CLASSES,
            accuracy,
            needs="labels",
            is_mean_of_rows=True,
            of_counts=accuracy_of_counts,
        ),
        label_metric("balanced_accuracy", ("one_of",), balanced_accuracy),
        f_beta("f1", "", 1.0),
        f_beta("macro_f1", "macro_", 1.0),
        f_beta("micro_f1", "micro_", 1.0),
        f_beta("samples_f1", "samples_", 1.0),
        label_metric("matthews", ("one_of",), matthews, lowest=-1.0),
        label_metric("quadratic_kappa", ("one_of",), quadratic_kappa, uses_order=True, lowest=-1.0),
        Metric(
            "log_loss",
            CLASSES,
            log_loss,
            needs="predictions",
            greater_is_better=False,
            highest=math.inf,
        ),
        Metric(
            "roc_auc",
            ("one_of",),
            partial(of_second, area),
            needs="predictions",
            two_classes=True,
            scores_order=True,
        ),
        Metric("macro_roc_auc", CLASSES, partial(macro, area), needs="predictions"),
        Metric(
            "average_precision",
            ("one_of",),
            partial(of_second, average_precision),
            needs="predictions",
            two_classes=True,
            uses_order=True,
            scores_order=True,
        ),
        Metric(
            "macro_average_precision",
            CLASSES,
            partial(macro, average_precision),
            needs="predictions",
        ),
        Metric(
            "probabilistic_f1",
            ("one_of",),
            probabilistic_f1,
            needs="predictions",
            two_classes=True,
            uses_order=True,
        ),
        top_error("top_5_error", 5),
        map_at("map_at_5", 5),
        error("rmse", rmse),
        error("mae", mae),
        error("rmsle", rmsle),
        Metric("r2", ("number",), r2, needs="predictions", lowest=LOWEST_R2),
    ]
}
"""The metrics by their names in params.yaml: ensemble.metric. In scikit-learn, quadratic_kappa is
cohen_kappa_score(weights="quadratic"), macro_roc_auc is roc_auc_score(multi_class="ovr"), matthews
is matthews_corrcoef. metric_named knows more: macro_f2, f0.5, top_3_error, map_at_10."""
