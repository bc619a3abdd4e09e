"""Images with the same pixels and different labels: at least one of the labels is wrong.

The rule, `prepare.conflicts`, is about training images whose stored pixels are equal, that is
what a network sees, after `prepare.corrections`:

keep: all stay as they are given.
exclude: all images of such a cluster leave training, since nothing tells which label is right.
stop: an error that lists them, until corrections settle each.

The audit lists them in any case. Of near-duplicates with different labels nothing is concluded:
a small difference may be what the label is about. Test images have no label and never leave.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from jaxtyping import Bool
from numpy import ndarray

from pipeline.core.errors import CompetitionError

Rule = Literal["keep", "exclude", "stop"]

_RULES = {
    "keep": "Training images with the same pixels and different labels stay as they are given.",
    "exclude": "Training images with the same pixels and different labels all left training.",
    "stop": "Training images with the same pixels and different labels would have stopped here.",
}
_MOST_TOLD = 20


@dataclass(frozen=True)
class Conflict:
    """Training images with the same pixels; labels run along."""

    image_ids: list[str]
    labels: list[str]


def find_conflicts(train: pd.DataFrame) -> list[Conflict]:
    """The conflicts, in the order of the first image of each. train: tables.IMAGE_COLUMNS."""
    repeated = train[train.duplicated("pixels", keep=False)]
    return [
        Conflict(list(images["image_id"]), list(images["label"]))
        for _, images in repeated.groupby("pixels", sort=False)
        if images["label"].nunique() > 1
    ]


def check_conflicts(conflicts: list[Conflict], rule: Rule, labels_file: Path) -> None:
    """Raise CompetitionError with `stop`, where there are any."""
    if rule != "stop" or not conflicts:
        return
    lines = [
        " and ".join(
            f"{image_id} is {label!r}"
            for image_id, label in zip(conflict.image_ids, conflict.labels, strict=True)
        )
        for conflict in conflicts
    ]
    if len(lines) > _MOST_TOLD:
        lines[_MOST_TOLD:] = [f"… and {len(lines) - _MOST_TOLD} more"]
    raise CompetitionError(
        f"{labels_file}: expected one label for images with the same pixels, found "
        f"{len(conflicts)} clusters whose labels disagree. Correct the wrong ones "
        "(prepare.corrections), or set prepare.conflicts to exclude or keep:\n" + "\n".join(lines)
    )


def staying(
    train: pd.DataFrame, conflicts: list[Conflict], rule: Rule, labels_file: Path
) -> Bool[ndarray, " rows"]:
    """Which rows stay in training under the rule.

    Raises CompetitionError where a class would lose its last image.
    """
    leaving = set() if rule == "keep" else {one for each in conflicts for one in each.image_ids}
    stays: Bool[ndarray, " rows"] = ~train["image_id"].isin(leaving).to_numpy(bool)
    if lost := sorted(set(train["label"]) - set(train.loc[stays, "label"])):
        raise CompetitionError(
            f"{labels_file}: expected images of each class without those of conflicting labels, "
            f"found none of {lost[0]!r}. Correct labels (prepare.corrections), or set "
            "prepare.conflicts to keep"
        )
    return stays


def describe_conflicts(
    conflicts: list[Conflict], rule: Rule, clusters: list[dict[str, Any]]
) -> dict[str, Any]:
    """The rule and what it met, for the audit. clusters: audit.find_clusters of what stays."""
    near = [one for one in clusters if one["conflicting_labels"] and one["kind"] == "near"]
    return {
        "rule": rule,
        "sentence": f"{_RULES[rule]} Near-duplicates with different labels are only listed.",
        "excluded": sum(len(one.image_ids) for one in conflicts) if rule == "exclude" else 0,
        "same_pixels": [{"image_ids": one.image_ids, "labels": one.labels} for one in conflicts],
        "near": [one["image_ids"] for one in near],
    }
