"""Members' predictions, joined by image id, never by position.

A member is one model on one fold: it predicts its own fold (out-of-fold) and the test images.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.errors import EnsembleError
from pipeline.shapes import Probabilities
from pipeline.tables import read_predictions


@dataclass(frozen=True)
class Member:
    """Where one model's predictions for one fold lie."""

    model: str
    fold: int
    folder: Path


def mean_out_of_fold(
    members: list[Member], folds: pd.DataFrame, classes: list[str]
) -> tuple[list[str], Probabilities]:
    """The image ids that some member was scored on, in the order of folds.csv, and their mean.

    folds: tables.FOLD_COLUMNS. Each image's probabilities are the unweighted mean over the models
    and repeats whose fold it lies in. Raises TableError where a member's ids are not exactly its
    fold's, and EnsembleError where images have different numbers of predictions.
    """
    place = {image_id: row for row, image_id in enumerate(dict.fromkeys(folds["image_id"]))}
    total = np.zeros((len(place), len(classes)))
    count = np.zeros(len(place), np.int64)
    for member in members:
        ids = list(folds.loc[folds["fold"] == str(member.fold), "image_id"])
        rows = [place[image_id] for image_id in ids]
        total[rows] += read_predictions(member.folder / "oof.csv", ids, classes)
        count[rows] += 1
    covered = count > 0
    if len(set(count[covered].tolist())) > 1:
        counts = {int(n): int((count == n).sum()) for n in np.unique(count[covered])}
        raise EnsembleError(
            f"out-of-fold predictions: expected as many for each image, found {counts} "
            "(predictions: images). Train the same folds of each repeat: params.yaml: train.folds"
        )
    image_ids = [image_id for image_id, row in place.items() if covered[row]]
    return image_ids, total[covered] / count[covered][:, None]


def mean_test(members: list[Member], image_ids: list[str], classes: list[str]) -> Probabilities:
    """The unweighted mean over all members, in the order of `image_ids`."""
    predictions = [
        read_predictions(member.folder / "test.csv", image_ids, classes) for member in members
    ]
    mean: Probabilities = np.stack(predictions).mean(axis=0)
    return mean
