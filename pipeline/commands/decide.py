"""What `new` decides from a competition's files: the metric, the groups, the classes, the folds,
and what is one for all signals.

Each decision is a line that says what it is and why: what only the competition's page tells gets a
default that is named as one.
"""

import re
import shutil
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.commands.recipe import FOLDS
from pipeline.core import paths
from pipeline.core.errors import FoldError, plural
from pipeline.core.task import AnyOf, Number, OneOf, Task
from pipeline.prepare.layout import Layout
from pipeline.prepare.survey import USUAL, Survey
from pipeline.prepare.tables import LEAST_SAMPLES
from pipeline.scoring.metrics import metric_named
from pipeline.split.folds import make_folds

_NEGATIVE = re.compile(
    r"(?i)(no|not|non|none|normal|healthy|negative|benign|background|absent|false|real|uninfected)"
    r"([^a-z].*)?"
)
"""A word for what is not looked for."""

_PEOPLE = re.compile(
    r"(?i)patient|subject|person|participant|individual|driver|user|speaker|singer|recordist"
)
_FRACTION = re.compile(r"[+-]?[0-9]*\.[0-9]*[1-9][0-9]*|[0-9.]+e-[0-9]+", re.I)
_SEED = 1
_SHARE_OF_DISK = 0.25
"""The part of the free disk that stored signals may take."""

Line = tuple[str, str, str]
"""A line of the table that is printed: what, what it is, and why."""


@dataclass(frozen=True)
class Decided:
    """What was decided for params.yaml, and the lines that say so. classes: of section prepare."""

    metric: str
    groups: dict[str, Any]
    classes: dict[str, Any]
    lines: list[Line]


@dataclass(frozen=True)
class RowShape:
    """What was decided so that all signals become rows of one shape, and the lines that say so.

    prepare: for that section. length, rate_hz: of each row.
    """

    prepare: dict[str, Any]
    length: int
    rate_hz: int | None
    lines: list[Line]


def decide(layout: Layout, metric: str | None) -> Decided:
    """The metric, the positive class and the groups. metric: the user's, if one was named."""
    task, columns = layout.competition.task, len(layout.sample.label_columns)
    chosen = metric or _choose_metric(task, layout)
    why = "as you said" if metric else "only the competition's page tells: look there (--metric)"
    lines = [("metric", chosen, why)]
    classes: dict[str, Any] = {}
    if isinstance(task, OneOf) and _needs_positive(task, chosen, columns):
        ordered = sorted(task.classes, key=lambda word: not _NEGATIVE.fullmatch(word))
        classes = {"classes": ordered}
        why = f"only the page tells which is counted as 1; the other is {ordered[0]}"
        lines.append(("positive class", ordered[1], f"{why} (prepare.classes)"))
    groups, line = _choose_groups(layout)
    return Decided(chosen, groups, classes, [*lines, line])


def choose_folds(layout: Layout) -> tuple[int, str]:
    """As many folds as have each class, up to FOLDS; and split.rare where two have not."""
    train, task = layout.train, layout.competition.task
    ids = train.image_ids
    images = pd.DataFrame(
        {"image_id": ids, "row_id": train.row_ids, "label": train.labels, "group": train.groups,
         "duplicate": ids, "pixels": ids}
    )  # fmt: skip
    for folds in range(FOLDS, 1, -1):
        with suppress(FoldError):
            make_folds(images, task, folds, [_SEED])
            return folds, "stop"
    return FOLDS, "train_only"


def fit_signals(found: Survey) -> RowShape:
    """The rate, the channels and the length, where the signals have several."""
    prepare: dict[str, Any] = {}
    lines: list[Line] = []
    if not found.signals:  # `prepare` says why
        return RowShape(prepare, LEAST_SAMPLES, None, lines)
    rate_hz, channels = found.usual_rate, max(found.channels)
    if len(found.rates) > 1 and None not in found.rates:
        prepare["rate_hz"] = rate_hz
        why = f"the most frequent: {found.describe_rates()}; others are resampled (prepare.rate_hz)"
        lines.append(("rate", f"{rate_hz} Hz", why))
    if len(found.channels) > 1:
        prepare["channels"] = channels = 1
        why = f"{found.describe_channels()}: their mean is stored (prepare.channels)"
        lines.append(("channels", "1", why))
    length, lengths = found.usual_length(rate_hz), found.lengths(rate_hz)
    if lengths[0] < lengths[-1]:
        free = shutil.disk_usage(paths.RAW).free
        most = int(_SHARE_OF_DISK * free / (4 * channels * len(lengths)))
        why = f"{USUAL:.0%} of {found.describe_lengths(rate_hz)} are no longer"
        if most < length:
            why = f"a quarter of the free disk has room for them; {why} than {length}"
            length = max(most, LEAST_SAMPLES)
        why += "; longer ones are cut to their middle, shorter ones padded (prepare.length)"
        prepare["length"] = length
        lines.append(("length", plural(length, "sample"), why))
    return RowShape(prepare, length, rate_hz, lines)


def _needs_positive(task: OneOf, metric_name: str, columns: int) -> bool:
    metric = metric_named(metric_name)
    asked = metric.uses_order or (
        columns == 1 and metric.needs == "predictions" and not metric.best
    )
    return asked and not task.ordered and len(task.classes) == 2


def _choose_metric(task: Task, layout: Layout) -> str:
    sample = layout.sample
    if isinstance(task, Number):
        return "rmse"
    if isinstance(task, AnyOf):
        return "samples_f1" if len(sample.label_columns) == 1 else "macro_roc_auc"
    if len(sample.label_columns) > 1:
        return "log_loss"
    fractions = any(map(_FRACTION.fullmatch, sample.values))
    if fractions:
        return "roc_auc" if len(task.classes) == 2 else "rmse"
    if all(_FRACTION.fullmatch(name) for name in task.classes):
        return "rmse"
    listed = Counter(len(value.split()) for value in sample.values).most_common(1)[0][0]
    if listed > 1 and not any(" " in name for name in task.classes):
        return f"map_at_{listed}"
    return "accuracy"


def _choose_groups(layout: Layout) -> tuple[dict[str, Any], Line]:
    """Patients and the like, where a column has enough of them; other columns are only named."""
    possible = layout.possible_groups
    people = [n for n, count in possible.items() if _PEOPLE.search(n) and count >= 2]
    if people:
        name = people[0]
        why = f"a column with {possible[name]} values; folds keep its images together"
        return {"source": "column", "column": name}, ("groups", name, why)
    named = ", ".join(f"{name} ({count})" for name, count in possible.items())
    why = f"columns that may be groups: {named}" if named else "no column looks like a grouping"
    return {"source": "none"}, ("groups", "each row its own", why)
