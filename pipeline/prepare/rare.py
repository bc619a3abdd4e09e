"""Classes in too few groups for the folds, merged where params.yaml asks for it.

It is decided here, and not in stage `split`, since the record of the competition says what every
later stage learns and predicts. The table of train keeps the labels as they are, so that nothing is
lost, and a score is of the classes that the competition has.
"""

import pandas as pd

from pipeline.core.errors import FoldError
from pipeline.core.progress import say
from pipeline.core.task import OneOf, Task
from pipeline.scoring.metric import Metric
from pipeline.split.config import SplitConfig
from pipeline.split.folds import join_groups
from pipeline.split.rare import find_merged, require_rule


def merge_rare(train: pd.DataFrame, task: Task, metric: Metric, config: SplitConfig) -> Task:
    """The task with its merged classes, if any. train: tables.IMAGE_COLUMNS.

    Raises FoldError where they do not make a class that can be scored, and where the metric depends
    on the order of the classes, in which a merged one has no place.
    """
    require_rule(config.rare, task)
    if config.rare != "merge" or not isinstance(task, OneOf):
        return task
    labels = list(train["label"])
    groups = join_groups(list(train["group"]), list(train["duplicate"]))
    merged = find_merged(task, labels, groups, config.folds)
    if not merged:
        return task
    if metric.uses_order:
        raise FoldError(
            f"params.yaml: split.rare: merge: {metric.name} depends on the order of the classes, "
            f"in which {', '.join(merged)} would have no place as one. Set split.rare to train_only"
        )
    made = OneOf(classes=task.classes, merged=merged)
    rows = ", ".join(f"{name} ({labels.count(name)} images)" for name in merged)
    say(
        f"{len(merged)} of {len(task.classes)} classes are in fewer groups than {config.folds} "
        f"folds: learned as one, {made.learned[-1]}, and never decided: {rows}"
    )
    return made
