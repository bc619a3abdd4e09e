"""Stratified folds that keep groups, and near-duplicates, together.

Stratified by class; of several labels by each of them; of numbers by tenths of the rows.

scikit-learn's StratifiedGroupKFold does the work (1.8 or newer: before, it does not stratify
when it shuffles). What it returns is checked each time, since every later figure depends on it:
each image in exactly one fold, no group and no cluster of duplicates in two, every class in
every fold. Of several labels it has no kind: there the groups are dealt one by one. Rows that are
only trained on (rare.py) have no fold.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int
from numpy import ndarray

from pipeline.core import paths
from pipeline.core.errors import FoldError, examples, require
from pipeline.core.fold_summary import FoldBalance, FoldSummary, OnlyTrained
from pipeline.core.shapes import Labels
from pipeline.core.tables import FOLD_COLUMNS
from pipeline.core.task import AnyOf, Number, OneOf, Task
from pipeline.split.config import Rule
from pipeline.split.rare import (
    can_merge,
    can_only_train,
    find_only_trained,
    rare_classes,
    require_rule,
)


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
    task: Task, labels: list[str], groups: list[str], folds: int, seed: int
) -> Int[ndarray, " rows"]:
    """The fold, in [0, folds), in which each row is scored.

    labels: as our tables have them. Raises FoldError when there are fewer groups than folds, or of
    one class, as it may be in the inner split of a training; make_folds looks first, and says more.
    """
    if isinstance(task, OneOf):
        labels = _learned(task, labels)
    elif (count := len(set(groups))) < folds:
        raise FoldError(
            f"{count} groups are fewer than the {folds} parts that each need one: "
            f"{_inner_remedy(count)}"
        )
    if isinstance(task, AnyOf):
        return _deal_groups(task.encode(paths.TRAIN_TABLE, labels), groups, folds, seed)
    if isinstance(task, Number):
        labels = _tenths(task.encode(paths.TRAIN_TABLE, labels), groups, folds)
    from sklearn.model_selection import StratifiedGroupKFold  # 1.3 s: only for those who split

    label, count = _scarcest(labels, groups)
    if count < folds:
        raise FoldError(
            f"class {label!r} has {labels.count(label)} images in {count} groups, fewer than the "
            f"{folds} parts that each need one: {_inner_remedy(count)}"
        )
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    assigned = np.full(len(labels), -1)
    for fold, (_, scored) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups)):
        assigned[scored] = fold
    return assigned


def _inner_remedy(most: int) -> str:
    """What helps in a training: split.folds was compared with the groups before."""
    inner = f"{{rule: inner, folds: {most}, patience: null}}, or to " if most > 1 else ""
    return f"set epoch of a model to {inner}{{rule: last}}, in params.yaml"


def _learned(task: Task, labels: list[str]) -> list[str]:
    """The labels with merged classes as one."""
    if not isinstance(task, OneOf):
        return labels
    names = task.learned
    return [names[place] for place in task.learn(task.encode(paths.TRAIN_TABLE, labels))]


def _tenths(numbers: Labels, groups: list[str], folds: int) -> list[str]:
    """Which tenth of the rows each is in, by the mean of its ranks; larger parts of few groups."""
    rank = pd.DataFrame(numbers).rank().mean(axis=1).rank(method="first").to_numpy() - 1
    parts: list[str] = []
    for count in range(10, 0, -1):
        parts = [str(int(place)) for place in rank * count // len(rank)]
        if _scarcest(parts, groups)[1] >= folds:
            break
    return parts


def _deal_groups(
    labels: Bool[ndarray, "rows classes"], groups: list[str], folds: int, seed: int
) -> Int[ndarray, " rows"]:
    """Each group in turn into the fold where it makes the folds most alike.

    Alike in their shares of the rows and of the rows of each label; those with the rarest labels
    first, as in iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011).
    """
    names, group_of_row = np.unique(groups, return_inverse=True)
    ones = np.column_stack([np.ones(len(labels)), labels])
    counts = np.zeros((len(names), ones.shape[1]))
    np.add.at(counts, group_of_row, ones)
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    rarest = np.where(counts > 0, counts.sum(axis=0), np.inf).min(axis=1)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    dealt = np.zeros((folds, ones.shape[1]))
    fold_of_group = np.empty(len(names), np.int64)
    for group in shuffled[np.lexsort([-counts[shuffled, 0], rarest[shuffled]])]:
        # The sum of squares grows least where the fold has least of what the group has.
        fold = int((dealt @ shares[group]).argmin())
        fold_of_group[group] = fold
        dealt[fold] += shares[group]
    return fold_of_group[group_of_row]


def make_folds(
    images: pd.DataFrame, task: Task, folds: int, seeds: list[int], rare: Rule = "stop"
) -> pd.DataFrame:
    """The table of folds (tables.FOLD_COLUMNS) of the training images, one partition a seed.

    images: the training table (tables.IMAGE_COLUMNS). rare: as params.yaml's split.rare. Raises
    FoldError where the folds cannot be made or break an invariant.
    """
    _check_rows(images)
    require_rule(rare, task)
    groups = join_groups(list(images["group"]), list(images["duplicate"]))
    labels = _learned(task, list(images["label"]))
    _check_merged(task, rare, labels, groups, folds)
    scored = np.arange(len(images))
    if rare == "train_only" and can_only_train(labels, groups, folds):
        scored = np.flatnonzero(~find_only_trained(labels, groups, folds))
    else:
        _check_enough_groups(images, task, groups, folds)
    known = list(images["label"].iloc[scored]), [groups[row] for row in scored]
    parts = []
    for repeat, seed in enumerate(seeds):
        part = images[["image_id", "label"]].copy()
        part["group"] = groups
        part["repeat"] = repeat
        fold = pd.Series(pd.NA, index=images.index, dtype="Int64")
        fold.iloc[scored] = repeat * folds + assign_folds(task, *known, folds, seed)
        part["fold"] = fold
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)[FOLD_COLUMNS]
    check_folds(table, images, task)
    return table


def check_folds(table: pd.DataFrame, images: pd.DataFrame, task: Task) -> None:
    """Raise FoldError unless the folds are a partition that leaks nothing.

    For each repeat: every image once; no group and no cluster of duplicates in two folds, or in one
    and only trained on; where an image has one class, every class that is scored in every fold.
    """
    never = OnlyTrained.of(table)
    classes = [] if not isinstance(task, OneOf) else task.learned
    classes = [name for name in classes if never is None or name not in never.classes]
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
            spread = part.groupby(part["image_id"].map(names))["fold"].nunique(dropna=False)
            leaking = sorted(spread.index[spread > 1])
            if leaking:
                raise FoldError(
                    f"{place}: {len(leaking)} of {len(spread)} {what} are in two folds "
                    f"{examples(leaking)}. Run: dvc repro split"
                )
        for fold, rows in part.groupby("fold"):
            found = set(_learned(task, list(rows["label"])))
            absent = [name for name in classes if name not in found]
            if absent:
                raise FoldError(
                    f"{place}: fold {fold} has {len(rows)} images and none of class {absent[0]!r}: "
                    "change split.seeds, or lower split.folds if it is above 2"
                )


def summarise_folds(table: pd.DataFrame, images: pd.DataFrame, task: Task) -> FoldSummary:
    """Rows, groups and balance of each fold. table: FOLD_COLUMNS. images: IMAGE_COLUMNS."""
    folds = []
    for _, rows in table.groupby("fold"):
        counts = task.count(task.encode(paths.FOLDS, rows["label"]))
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
        only_trained=OnlyTrained.of(table),
        folds=folds,
    )


def _check_rows(images: pd.DataFrame) -> None:
    """Raise FoldError unless all images of a row have one group, so one fold, and one label."""
    counts = images.groupby("row_id", sort=False)[["group", "label"]].nunique()
    require(
        FoldError,
        paths.TRAIN_TABLE,
        f"{len(counts)} rows",
        (
            "one group for all images of a row",
            list(counts.index[counts["group"] > 1]),
            "Correct the groups, or set prepare.groups to {source: none} in params.yaml",
        ),
        (
            "one label for all images of a row",
            list(counts.index[counts["label"] > 1]),
            "Give them the same one in the labels file, or in prepare.corrections",
        ),
    )


def _scarcest(labels: list[str], groups: list[str]) -> tuple[str, int]:
    """The class whose images are in the fewest groups, and their number."""
    counts = pd.Series(groups).groupby(labels).nunique()
    return str(counts.idxmin()), int(counts.min())


def _check_merged(task: Task, rule: Rule, labels: list[str], groups: list[str], folds: int) -> None:
    """Raise FoldError where stage `prepare` ran with another rule or other folds."""
    if not isinstance(task, OneOf):
        return
    merged, left = bool(task.merged), rare_classes(labels, groups, folds)
    if (merged and rule != "merge") or (rule == "merge" and left):
        raise FoldError(
            f"{paths.COMPETITION}: expected the merged classes of split.rare: {rule} and {folds} "
            f"folds, found {', '.join(task.merged) or 'none'}. Run: dvc repro prepare"
        )


def _check_enough_groups(images: pd.DataFrame, task: Task, groups: list[str], folds: int) -> None:
    """Raise FoldError, with what joins the groups and what would help, where there are too few.

    Of one class an image, each class needs a group for each fold. groups: of each image, after
    joining.
    """
    one_class = isinstance(task, OneOf)
    labels = _learned(task, list(images["label"])) if one_class else [""] * len(images)
    label, count = _scarcest(labels, groups)
    if count >= folds:
        return
    sizes = pd.Series(groups).value_counts()
    largest = images[np.array(groups) == sizes.index[0]]
    why = f"the largest group, {sizes.index[0]}, holds {sizes.iloc[0]} of {len(images)} images"
    if (joined := largest["group"].nunique()) > 1:
        linking = largest.groupby("duplicate")["group"].nunique()
        cluster = largest[largest["duplicate"] == linking.idxmax()]
        equal = cluster["pixels"].nunique() == 1
        why += (
            f", since {'equal' if equal else 'nearly equal (prepare.near_duplicate)'} images join "
            f"{joined} groups, most of them the {len(cluster)} images like {linking.idxmax()}: are "
            "they blank?"
        )
    ways = {
        "split.folds": groups,
        "prepare.near_duplicate to 0, and split.folds": join_groups(
            list(images["group"]), list(images["pixels"])
        ),
        "prepare.groups to {source: none}, and split.folds": join_groups(
            list(images["row_id"]), list(images["duplicate"])
        ),
    }
    most = {way: min(_scarcest(labels, names)[1], folds) for way, names in ways.items()}
    possible = [f"{way} to {number} or less" for way, number in most.items() if number > 1][:1]
    if one_class:
        helps = {"train_only": can_only_train, "merge": can_merge}
        rules = [rule for rule, can in helps.items() if can(labels, groups, folds)]
        possible += [f"split.rare to {' or '.join(rules)}"] if rules else []
    needed = f"images{' of that class' if one_class else ''} are needed"
    remedy = (
        f"Set {', or '.join(possible)}"
        if possible
        else f"No parameter helps: more different {needed}"
    )
    expected = f"images{' of each class' if one_class else ''} in at least {folds} groups"
    found = f"{labels.count(label)}{f' of {label!r}' if one_class else ''} in {count}"
    raise FoldError(
        f"{paths.TRAIN_TABLE}: expected {expected}, one for each fold; found {found}; "
        f"{why}{'' if why.endswith('?') else '.'} {remedy}"
    )
