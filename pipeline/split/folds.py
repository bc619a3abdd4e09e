"""Stratified folds that keep groups, and near-duplicates, together.

scikit-learn's StratifiedGroupKFold does the work (1.8 or newer: before, it does not stratify
when it shuffles). What it returns is checked each time, since every later figure depends on it:
each image in exactly one fold, no group and no cluster of duplicates in two, every class in
every fold.
"""

import numpy as np
import pandas as pd
from jaxtyping import Int
from numpy import ndarray

from pipeline.core.errors import FoldError, examples
from pipeline.core.fold_summary import FoldBalance, FoldSummary
from pipeline.core.tables import FOLD_COLUMNS


def join_groups(groups: list[str], duplicates: list[str]) -> list[str]:
    """The group of each row after joining the groups that share a cluster of duplicates.

    groups, duplicates: the name of each row's group and cluster. A joined group has the name of
    its first member in sorted order. Rows of different results share neither group nor cluster.
    """
    from scipy.sparse import coo_array  # 0.2 s: only for those who split
    from scipy.sparse.csgraph import connected_components

    rows = len(groups)
    group, cluster = (pd.factorize(np.array(names))[0] for names in (groups, duplicates))
    edges = coo_array((np.ones(rows), (group, rows + cluster)), shape=(2 * rows, 2 * rows))
    component = connected_components(edges, directed=False)[1][group]
    return list(pd.Series(groups).groupby(component).transform("min"))


def assign_folds(
    labels: list[str], groups: list[str], folds: int, seed: int
) -> Int[ndarray, " rows"]:
    """The fold, in [0, folds), in which each row is scored.

    Raises FoldError when a class has rows in fewer groups than there are folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # 1.3 s: only for those who split

    _check_enough_groups(labels, groups, folds)
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    assigned = np.full(len(labels), -1)
    for fold, (_, scored) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups)):
        assigned[scored] = fold
    return assigned


def make_folds(
    images: pd.DataFrame, classes: list[str], folds: int, seeds: list[int]
) -> pd.DataFrame:
    """The table of folds (tables.FOLD_COLUMNS) of the training images, one partition a seed.

    images: the training table (tables.IMAGE_COLUMNS). Raises FoldError where the folds cannot be
    made or break an invariant.
    """
    labels = list(images["label"])
    groups = join_groups(list(images["group"]), list(images["duplicate"]))
    parts = []
    for repeat, seed in enumerate(seeds):
        part = images[["image_id", "label"]].copy()
        part["group"] = groups
        part["repeat"] = repeat
        part["fold"] = repeat * folds + assign_folds(labels, groups, folds, seed)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)[FOLD_COLUMNS]
    check_folds(table, images, classes)
    return table


def check_folds(table: pd.DataFrame, images: pd.DataFrame, classes: list[str]) -> None:
    """Raise FoldError unless the folds are a partition that leaks nothing.

    For each repeat: every image once; no group and no cluster of duplicates in two folds; every
    class in every fold.
    """
    cluster = images.set_index("image_id")["duplicate"]
    patient = images.set_index("image_id")["group"]
    for repeat, part in table.groupby("repeat"):
        place = f"folds/folds.csv: repeat {repeat}"
        missing = sorted(set(images["image_id"]) - set(part["image_id"]))
        if missing or len(part) != len(images) or not part["image_id"].is_unique:
            raise FoldError(
                f"{place}: expected each of {len(images)} images once, found {len(part)} rows, "
                f"{len(missing)} images without a fold {examples(missing)}. Run: dvc repro split"
            )
        for what, names in (("groups", patient), ("clusters of duplicates", cluster)):
            spread = part.groupby(part["image_id"].map(names))["fold"].nunique()
            leaking = sorted(spread.index[spread > 1])
            if leaking:
                raise FoldError(
                    f"{place}: {len(leaking)} of {len(spread)} {what} are in two folds "
                    f"{examples(leaking)}. Run: dvc repro split"
                )
        for fold, rows in part.groupby("fold"):
            absent = [name for name in classes if name not in set(rows["label"])]
            if absent:
                raise FoldError(
                    f"{place}: fold {fold} has {len(rows)} images and none of class {absent[0]!r}: "
                    "lower split.folds or change split.seeds"
                )


def summarise_folds(table: pd.DataFrame, images: pd.DataFrame, classes: list[str]) -> FoldSummary:
    """Rows, groups and balance of each fold. table: FOLD_COLUMNS. images: IMAGE_COLUMNS."""
    folds = []
    for _, rows in table.groupby("fold"):
        counts = {name: int((rows["label"] == name).sum()) for name in classes}
        balance = FoldBalance(
            fold=rows["fold"].iloc[0],
            repeat=rows["repeat"].iloc[0],
            rows=len(rows),
            groups=rows["group"].nunique(),
            classes=counts,
            shares={name: count / len(rows) for name, count in counts.items()},
        )
        folds.append(balance)
    groups = images["group"].nunique()
    return FoldSummary(
        images=len(images),
        groups=groups,
        groups_joined_by_duplicates=groups - table["group"].nunique(),
        folds=folds,
    )


def _check_enough_groups(labels: list[str], groups: list[str], folds: int) -> None:
    groups_of_class = pd.Series(groups).groupby(labels).nunique()
    for label, count in groups_of_class.items():
        if count < folds:
            raise FoldError(
                f"class {label!r} has {labels.count(str(label))} images in {count} groups, "
                f"fewer than the {folds} folds that each need one: lower the number of folds "
                f"(params.yaml: split.folds, or epoch.folds of a model) to {count} or less"
            )
