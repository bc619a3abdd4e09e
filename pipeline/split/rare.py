"""Classes in fewer groups than there are folds: what `split.rare` makes of them.

A class is scored in every fold only where it has a group for each. `train_only` leaves the rows of
a scarcer one in training in every fold, and with them every row of their groups: a network that is
scored on a row must not have seen another one of its group. What then is too scarce goes, too.
`merge` lets such classes be learned as one, where together they have enough groups.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool
from numpy import ndarray

from pipeline.core import paths
from pipeline.core.errors import FoldError
from pipeline.core.task import OneOf, Task
from pipeline.split.config import Rule


def require_rule(rule: Rule, task: Task) -> None:
    """Raise FoldError where the rule says nothing of such labels."""
    if rule != "stop" and not isinstance(task, OneOf):
        raise FoldError(
            f"params.yaml: split.rare: {rule} is for one class an image, found a task of kind "
            f"{task.kind}, where no label has to be in every fold. Set split.rare to stop"
        )


def rare_classes(labels: list[str], groups: list[str], folds: int) -> list[str]:
    """The classes in fewer groups than folds, by name. groups: of each image, after joining."""
    count = pd.Series(groups).groupby(labels).nunique()
    return sorted(count.index[count < folds])


def find_only_trained(labels: list[str], groups: list[str], folds: int) -> Bool[ndarray, " rows"]:
    """Which rows are only trained on: whole groups, until each class that is left has enough."""
    label, group = np.array(labels, dtype=object), np.array(groups, dtype=object)
    only = np.zeros(len(label), bool)
    while rare := rare_classes(list(label[~only]), list(group[~only]), folds):
        only |= np.isin(group, group[~only & np.isin(label, rare)])
    return only


def can_only_train(labels: list[str], groups: list[str], folds: int) -> bool:
    """Whether two classes or more are still scored with `train_only`."""
    only = find_only_trained(labels, groups, folds)
    return len({name for name, unscored in zip(labels, only, strict=True) if not unscored}) > 1


def can_merge(labels: list[str], groups: list[str], folds: int) -> bool:
    """Whether the merged class has a group for each fold, beside two other classes or more."""
    rare = rare_classes(labels, groups, folds)
    merged = {group for label, group in zip(labels, groups, strict=True) if label in rare}
    return not rare or (len(merged) >= folds and len(set(labels) - set(rare)) > 1)


def find_merged(task: OneOf, labels: list[str], groups: list[str], folds: int) -> list[str]:
    """The classes that are merged, in the order of the task.

    Raises FoldError where they do not make a class that can be scored.
    """
    rare = rare_classes(labels, groups, folds)
    if not can_merge(labels, groups, folds):
        fewer = [n for n in range(folds - 1, 1, -1) if can_merge(labels, groups, n)]
        ways = [f"split.folds to {n}" for n in fewer[:1]]
        ways += ["split.rare to train_only"] if can_only_train(labels, groups, folds) else []
        merged = {group for label, group in zip(labels, groups, strict=True) if label in rare}
        raise FoldError(
            f"{paths.TRAIN_TABLE}: split.rare: merge: expected the classes in fewer than {folds} "
            f"groups to be in {folds} or more together, one for each fold, and two other classes; "
            f"found {len(rare)} ({', '.join(rare[:5])}) in {len(merged)}, and "
            f"{len(set(labels)) - len(rare)} others. "
            + (f"Set {', or '.join(ways)}" if ways else "More images of them are needed")
        )
    return [name for name in task.classes if name in rare]
