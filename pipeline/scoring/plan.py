"""What will be scored and submitted, and whether it can work: asked before anything is trained.

`prepare` asks as soon as the task is known, `train` before each network, `ensemble` at last.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from pipeline.core.errors import EnsembleError
from pipeline.core.shapes import Labels
from pipeline.core.task import Number, OneOf, Task
from pipeline.scoring.forms import Form
from pipeline.scoring.metric import Metric
from pipeline.scoring.metrics import metric_for
from pipeline.scoring.names import Asked
from pipeline.scoring.which_form import read_form, require_order

_MOST_TRIED = 5_000_000
"""Predictions that a metric is tried on."""


@dataclass(frozen=True)
class Choices:
    """Those of section `ensemble` that not every task allows."""

    form: Asked = "auto"
    blend: str = "mean"
    calibration: Literal["none", "temperature"] = "none"
    threshold: Literal["none", "fitted"] = "none"


def plan(
    metric_name: str,
    choices: Choices,
    sample: Path,
    task: Task,
    template: pd.DataFrame | None = None,
    never_scored: Iterable[str] = (),
) -> tuple[Metric, Form]:
    """The metric and the submission's form.

    template: the sample submission, where it is read already. never_scored: as metric_for takes it.
    Raises EnsembleError or SubmissionError, with the parameter's name, for what the task or the
    sample submission does not allow.
    """
    metric = metric_for(metric_name, task, never_scored)
    form = read_form(sample, metric, task, choices.form, template)
    require_order(form, metric)
    _check_choices(choices, metric, form)
    return metric, form


def _check_choices(choices: Choices, metric: Metric, form: Form) -> None:
    task = form.task
    found = f"found {len(task.outputs)} outputs of kind {task.kind}"
    if choices.calibration == "temperature" and isinstance(task, Number):
        raise EnsembleError(
            "params.yaml: ensemble.calibration: temperature is for probabilities, found a task of "
            f"kind {task.kind}; expected none"
        )
    if choices.threshold == "fitted" and not task.cut_count:
        raise EnsembleError(
            "params.yaml: ensemble.threshold: fitted is for two classes, ordered classes or "
            f"several labels, {found}; expected none"
        )
    if choices.threshold == "fitted" and form.holds not in ("labels", "flags"):
        raise EnsembleError(
            f"params.yaml: ensemble.threshold: fitted changes decided labels, and a row of the "
            f"submission holds {form.holds}; expected none"
        )
    if choices.blend in ("rank_mean", "stack") and not isinstance(task, OneOf):
        raise EnsembleError(
            f"params.yaml: ensemble.blend: {choices.blend} is for one class of several, found a "
            f"task of kind {task.kind}; expected mean, single, weighted or greedy"
        )
    if choices.blend == "rank_mean" and not metric.scores_order:
        raise EnsembleError(
            f"params.yaml: ensemble.blend: rank_mean keeps only the order of two classes, {found} "
            f"and the metric {metric.name}; expected mean, single, weighted, greedy or stack"
        )


def try_metric(metric: Metric, task: Task, labels: Labels) -> None:
    """Score predictions that say nothing against the training labels.

    Raises EnsembleError or MetricError where the metric fails on such labels.
    """
    most = max(1, _MOST_TRIED // len(task.outputs))
    labels = labels[:most]
    if isinstance(task, Number):
        values = labels.copy()
    else:
        share = 1 / len(task.outputs) if isinstance(task, OneOf) else 0.5
        values = np.full((len(labels), len(task.outputs)), share)
    metric.scorer(values, labels, labels)(np.ones(len(labels)))
