"""Images of the same pixels, or signals of the same samples, with different labels: one is wrong.

`prepare.conflicts` is about training rows whose stored values are equal, that is, what a
network sees, after `prepare.corrections`. With `keep` all stay as they are given. With `exclude`
all images of such a cluster leave training, since nothing says which label is right. With `stop`
an error lists them, until corrections settle each. The audit lists them in any case.

Near-duplicates with different labels are only listed: a small difference may be what the label
is about. Test images have no label and never leave.
"""

from pathlib import Path

import pandas as pd
from jaxtyping import Bool
from numpy import ndarray

from pipeline.core.audit import Cluster, Conflicts, SamePixels
from pipeline.core.errors import CompetitionError
from pipeline.core.task import OneOf, Task
from pipeline.prepare.config import ImagesConfig, PrepareConfig

_RULES = {
    "keep": "stay as they are given",
    "exclude": "all left training",
    "stop": "would have stopped here",
}
_MOST_LISTED = 20


def find_conflicts(train: pd.DataFrame) -> list[SamePixels]:
    """The conflicts, in the order of the first image of each. train: tables.IMAGE_COLUMNS."""
    repeated = train[train.duplicated("pixels", keep=False)]
    return [
        SamePixels(image_ids=list(images["image_id"]), labels=list(images["label"]))
        for _, images in repeated.groupby("pixels", sort=False)
        if images["label"].nunique() > 1
    ]


def apply_rule(
    train: pd.DataFrame,
    conflicts: list[SamePixels],
    config: PrepareConfig,
    labels_file: Path,
    task: Task,
) -> Bool[ndarray, " rows"]:
    """Which rows stay. Raises CompetitionError on conflicts with `stop`, or a class left empty."""
    rule, row = config.conflicts, config.row
    if rule == "stop" and conflicts:
        lines = [
            " and ".join(
                f"{i} is {label!r}" for i, label in zip(one.image_ids, one.labels, strict=True)
            )
            for one in conflicts
        ]
        if len(lines) > _MOST_LISTED:
            lines[_MOST_LISTED:] = [f"… and {len(lines) - _MOST_LISTED} more"]
        raise CompetitionError(
            f"{labels_file}: expected one label for {row}s with the same {config.content}, found "
            f"{len(conflicts)} clusters whose labels disagree. Correct the wrong ones "
            "(prepare.corrections), or set prepare.conflicts to exclude or keep:\n"
            + "\n".join(lines)
        )
    leaving = {image_id for conflict in conflicts for image_id in conflict.image_ids}
    stays: Bool[ndarray, " rows"] = ~train["image_id"].isin(leaving).to_numpy(bool)
    stays |= rule == "keep"
    lost = sorted(set(train["label"]) - set(train.loc[stays, "label"]))
    if lost and isinstance(task, OneOf):
        raise CompetitionError(
            f"{labels_file}: expected {row}s of each class without those of conflicting labels, "
            f"found none of {lost[0]!r}. Correct labels (prepare.corrections), or set "
            "prepare.conflicts to keep"
        )
    return stays


def describe_conflicts(
    conflicts: list[SamePixels], config: PrepareConfig, clusters: list[Cluster]
) -> Conflicts:
    """The rule and what it applied to, for the audit. clusters: those of what stays."""
    rule, row = config.conflicts, config.row
    excluded = conflicts if rule == "exclude" else []
    sentence = (
        f"Training {row}s with the same {config.content} and different labels {_RULES[rule]}."
    )
    if isinstance(config, ImagesConfig):
        sentence += " Near-duplicates with different labels are only listed."
    return Conflicts(
        rule=rule,
        sentence=sentence,
        excluded=sum(len(conflict.image_ids) for conflict in excluded),
        same_pixels=conflicts,
        near=[one.image_ids for one in clusters if one.conflicting_labels and one.kind == "near"],
    )
