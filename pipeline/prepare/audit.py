"""What is broken, doubled or leaking in the images, as one JSON.

A duplicate across train and test, or across two groups, leaks: `split` joins the groups of the
training images of one cluster. Conflicting labels within a cluster cannot both be right
(pipeline/prepare/conflicts.py). Test images that are also training images are named and that is
all: no stage after this one reads a label, or the test images' column `duplicate`, for them.
"""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from pipeline.prepare.layout import Layout
from pipeline.prepare.store import Fault
from pipeline.raw.archive import ImageArchive

_NEVER_EXPLOITED = (
    "These test images are also in train. Their labels are copied nowhere: each is predicted like "
    "any other test image, by networks that have seen its copy with the label it was given there."
)


def audit_images(
    train: pd.DataFrame, test: pd.DataFrame, layout: Layout, excluded: list[Fault]
) -> dict[str, Any]:
    """Counts of both splits, what was left out, and the clusters of duplicates.

    train, test: tables.IMAGE_COLUMNS of what is stored. excluded: images that have no row since
    they cannot be read.
    """
    clusters = find_clusters(train, test)
    return {
        "train": _describe(train, layout.train.archive),
        "test": _describe(test, layout.test.archive),
        "excluded": [{"image_id": fault.image_id, "reason": fault.reason} for fault in excluded],
        "duplicates": {
            "clusters": len(clusters),
            "images": sum(len(cluster["image_ids"]) for cluster in clusters),
            "largest": max((len(cluster["image_ids"]) for cluster in clusters), default=0),
            "kind": _tally(clusters, "kind", ["file", "pixels", "near"]),
            "where": _tally(clusters, "where", ["train", "test", "both"]),
            "conflicting_labels": sum(cluster["conflicting_labels"] for cluster in clusters),
            "spans_groups": sum(cluster["spans_groups"] for cluster in clusters),
        },
        "clusters": clusters,
        "train_test_duplicates": {
            "sentence": _NEVER_EXPLOITED,
            "pairs": find_pairs(train, test),
        },
    }


def find_pairs(train: pd.DataFrame, test: pd.DataFrame) -> list[dict[str, Any]]:
    """The test images that lie in a cluster with training images, each with all of these.

    kind: as of find_clusters, of the test image and the training images that resemble it most.
    """
    copies = test[test["duplicate"].isin(train["duplicate"])]
    # Of these clusters only: a table a cluster is 8 kB, and nearly all images are alone in theirs.
    twinned = train[train["duplicate"].isin(copies["duplicate"])]
    of_cluster = dict(tuple(twinned.groupby("duplicate", sort=False)))
    pairs = []
    for image in copies.to_dict("records"):
        twins = of_cluster[image["duplicate"]]
        if (twins["sha256"] == image["sha256"]).any():
            kind = "file"
        else:
            kind = "pixels" if (twins["pixels"] == image["pixels"]).any() else "near"
        pairs.append({"test": image["image_id"], "train": list(twins["image_id"]), "kind": kind})
    return pairs


def find_clusters(train: pd.DataFrame, test: pd.DataFrame) -> list[dict[str, Any]]:
    """The images that share a `duplicate`, in the order of the first of each.

    kind: `file` where the files are equal, `pixels` where only the stored pixels are, else
    `near`. where: `train`, `test` or `both`. conflicting_labels, spans_groups: whether its
    training images have more than one label, or more than one group.
    """
    images = pd.concat([train.assign(split="train"), test.assign(split="test")])
    repeated = images[images.duplicated("duplicate", keep=False)]
    return [_describe_cluster(cluster) for _, cluster in repeated.groupby("duplicate", sort=False)]


def _describe_cluster(images: pd.DataFrame) -> dict[str, Any]:
    train = images[images["split"] == "train"]
    splits = images["split"].unique()
    if images["sha256"].nunique() == 1:
        kind = "file"
    else:
        kind = "pixels" if images["pixels"].nunique() == 1 else "near"
    labels, groups = train["label"].unique().tolist(), train["group"].unique().tolist()
    return {
        "image_ids": images["image_id"].tolist(),
        "kind": kind,
        "where": "both" if len(splits) == 2 else str(splits[0]),
        "labels": labels,
        "groups": groups,
        "conflicting_labels": len(labels) > 1,
        "spans_groups": len(groups) > 1,
    }


def _describe(images: pd.DataFrame, archive: ImageArchive) -> dict[str, Any]:
    labelled = images[images["label"] != ""]
    return {
        "rows": len(images),
        "classes": _counts(labelled["label"]),
        "groups": int(labelled["group"].nunique()),
        "width": _spread(images["width"]),
        "height": _spread(images["height"]),
        "modes": _counts(images["mode"]),
        "other_files": archive.ignored,
    }


def _tally(clusters: list[dict[str, Any]], key: str, values: list[str]) -> dict[str, int]:
    return {value: sum(cluster[key] == value for cluster in clusters) for value in values}


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in sorted(Counter(values).items())}


def _spread(values: pd.Series) -> dict[str, float]:
    return {
        "min": float(values.min()),
        "median": float(np.median(values)),
        "max": float(values.max()),
    }
