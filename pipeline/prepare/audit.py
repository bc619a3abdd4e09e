"""Counts of both splits, and their duplicates, for the audit.

A duplicate across train and test, or across two groups, leaks: `split` joins the groups of the
training images of one cluster. Conflicting labels within a cluster cannot all be right
(pipeline/prepare/conflicts.py). Test images that are also training images are only named: no
later stage reads a label, or the test images' column `duplicate`, for them.
"""

from collections import Counter
from typing import get_args

import numpy as np
import pandas as pd

from pipeline.core import paths
from pipeline.core.audit import (
    Cluster,
    DuplicateCounts,
    Sameness,
    SizeRange,
    SplitAudit,
    TwinPair,
    Twins,
    Where,
)
from pipeline.core.task import Task

_NEVER_EXPLOITED = (
    "These test {row}s are also in train. Their labels are copied nowhere: each is predicted like "
    "any other test {row}, by networks that have seen its copy with the label it was given there."
)


def describe_split(
    images: pd.DataFrame, notes: dict[str, list[str]], other_files: list[str], task: Task | None
) -> SplitAudit:
    """Counts and sizes. images: tables.IMAGE_COLUMNS of what is stored. notes: the image_ids of
    each (Stored.notes). task: None for test.
    """
    return SplitAudit(
        rows=len(images),
        classes=task.count(task.encode(paths.TRAIN_TABLE, images["label"])) if task else {},
        groups=images["group"].nunique() if task else 0,
        width=_range(images["width"]),
        height=_range(images["height"]),
        modes=_count(images["mode"]),
        notes={note: int(images["image_id"].isin(ids).sum()) for note, ids in notes.items()},
        other_files=other_files,
    )


def find_clusters(train: pd.DataFrame, test: pd.DataFrame) -> list[Cluster]:
    """The images that share a `duplicate`, in the order of the first of each."""
    images = pd.concat([train.assign(split="train"), test.assign(split="test")])
    repeated = images[images.duplicated("duplicate", keep=False)]
    return [_describe_cluster(cluster) for _, cluster in repeated.groupby("duplicate", sort=False)]


def count_clusters(clusters: list[Cluster]) -> DuplicateCounts:
    sizes = [len(cluster.image_ids) for cluster in clusters]
    kinds = Counter(cluster.kind for cluster in clusters)
    places = Counter(cluster.where for cluster in clusters)
    return DuplicateCounts(
        clusters=len(clusters),
        images=sum(sizes),
        largest=max(sizes, default=0),
        kind={kind: kinds[kind] for kind in get_args(Sameness)},
        where={where: places[where] for where in get_args(Where)},
        conflicting_labels=sum(cluster.conflicting_labels for cluster in clusters),
        spans_groups=sum(cluster.spans_groups for cluster in clusters),
    )


def find_twins(train: pd.DataFrame, test: pd.DataFrame, row: str) -> Twins:
    """The test images that are in a cluster with training images, each with all of these.

    row: what they are called.
    """
    copies = test[test["duplicate"].isin(train["duplicate"])]
    # Only of these clusters: a table takes 8 kB, and nearly all images are alone in their cluster.
    twinned = train[train["duplicate"].isin(copies["duplicate"])]
    of_cluster = dict(tuple(twinned.groupby("duplicate", sort=False)))
    pairs = []
    for image in copies.to_dict("records"):
        twins = of_cluster[image["duplicate"]]
        same_file, same_pixels = (image[name] in set(twins[name]) for name in ("sha256", "pixels"))
        kind = _sameness(same_file, same_pixels)
        pairs.append(TwinPair(test=image["image_id"], train=list(twins["image_id"]), kind=kind))
    return Twins(sentence=_NEVER_EXPLOITED.format(row=row), pairs=pairs)


def _sameness(same_file: bool, same_pixels: bool) -> Sameness:
    if same_file:
        return "file"
    return "pixels" if same_pixels else "near"


def _describe_cluster(images: pd.DataFrame) -> Cluster:
    train = images[images["split"] == "train"]
    where: Where = "both"
    if len(train) in (0, len(images)):
        where = "train" if len(train) else "test"
    return Cluster(
        image_ids=list(images["image_id"]),
        kind=_sameness(images["sha256"].nunique() == 1, images["pixels"].nunique() == 1),
        where=where,
        labels=list(train["label"].unique()),
        groups=list(train["group"].unique()),
    )


def _count(values: pd.Series) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _range(values: pd.Series) -> SizeRange:
    return SizeRange(min=values.min(), median=np.median(values), max=values.max())
