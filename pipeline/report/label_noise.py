"""Which labels are probably wrong: confident learning on out-of-fold probabilities.

`scoring/doubt.py` counts images as classes; labels off the diagonal of that joint are doubtful.

An image that the networks find hard looks like one with a wrong label: in the synthetic competition
(profile `synthetic`, 16 of 1,600 labels wrong, each known) it estimates 27 wrong labels, and ranks
6 of them among the first 16, 14 among the first 100 (`python -m pipeline noise`, compared by hand
with the true labels). A systematic mistake is learned from the other groups, and not found.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from pipeline.core import paths
from pipeline.core.errors import TableError
from pipeline.core.shapes import Labels, Probabilities
from pipeline.core.task import OneOf
from pipeline.report.diagnosis import PredictedRows
from pipeline.scoring.doubt import count_as, sum_wrong

NOISE_COLUMNS = [
    "image_id", "label", "suggested", "probability_of_label", "margin", "rank", "group", "doubtful",
]  # fmt: skip
"""Columns of LabelNoise.ranking.

suggested: the other class that is highest above its threshold. margin: how far the label is above
its threshold, minus how far the suggested class is above its own; in [-2, 2], below 0 where the
suggested one is better. rank: from 1 on, by margin. doubtful: off the diagonal of the joint.
"""

_RESAMPLES = 200
_SEED = 0


@dataclass(frozen=True)
class LabelNoise:
    """How many labels are probably wrong, and which.

    wrong: the estimated number, not an integer. low, high: 95 % of the resamples of whole groups;
    this covers how much the images vary, not that hard images are counted as wrong labels.
    ranking: NOISE_COLUMNS of the judged images, the most doubtful label first. left_out: classes
    that cannot be judged.
    """

    wrong: float
    low: float
    high: float
    ranking: pd.DataFrame
    left_out: list[str]


def find_label_noise(rows: PredictedRows) -> LabelNoise:
    """Rank all labels, and estimate how many are wrong (section 3.1 of the paper).

    The rows' networks must not have seen the image, nor another one of its group: those learn a
    wrong label by heart. Rows of classes that cannot be judged are left out. Raises TableError
    where fewer than two can be, and where an image has not exactly one class.
    """
    if not isinstance(rows.task, OneOf):
        raise TableError(
            "label noise: is for one class an image, and these labels are of kind "
            f"{rows.task.kind}. {paths.REPORT} shows the images with the largest loss"
        )
    classes, judged = rows.task.outputs, judged_classes(rows)
    left_out = [name for place, name in enumerate(classes) if place not in judged]
    if len(judged) < 2:
        raise TableError(
            f"label noise: expected out-of-fold images of each of {len(classes)} classes, found "
            f"none of {left_out[0]!r}. Train more folds (train.folds in params.yaml)"
        )
    if left_out:
        rows = _narrow(rows, judged)
    labels = rows.labels
    wrong = _estimate_wrong(labels, rows.values, np.ones(len(labels)))
    resampled = _resample_wrong(labels, rows.values, rows.groups)
    low, high = np.quantile(resampled, [0.025, 0.975]) if resampled else (wrong, wrong)
    return LabelNoise(wrong, float(low), float(high), _rank(rows), left_out)


def judged_classes(rows: PredictedRows) -> list[int]:
    """The places of the classes that can be judged: they have rows, and are not merged."""
    if not isinstance(rows.task, OneOf):
        return []
    names = rows.task.classes
    return [p for p in np.unique(rows.labels).tolist() if names[p] not in rows.task.merged]


def _narrow(rows: PredictedRows, places: list[int]) -> PredictedRows:
    """The rows of these classes, with their columns alone, which need not add up to 1."""
    kept = np.flatnonzero(np.isin(rows.labels, places))
    values = rows.values[kept][:, places]
    return PredictedRows(
        [rows.image_ids[row] for row in kept],
        [rows.groups[row] for row in kept],
        OneOf(classes=[rows.task.outputs[place] for place in places]),
        np.searchsorted(places, rows.labels[kept]),
        values,
        values.argmax(axis=1),
    )


def _rank(of: PredictedRows) -> pd.DataFrame:
    """NOISE_COLUMNS; images with equal margins keep their order."""
    labels, probabilities = of.labels, of.values
    rows = np.arange(len(labels))
    above, counted = count_as(labels, probabilities, np.ones(len(labels)))
    others = above.copy()
    others[rows, labels] = -np.inf
    suggested = others.argmax(axis=1)
    margins = above[rows, labels] - others[rows, suggested]
    names = np.array(of.task.outputs, dtype=object)
    table = pd.DataFrame(
        {
            "image_id": of.image_ids,
            "label": names[labels],
            "suggested": names[suggested],
            "probability_of_label": probabilities[rows, labels],
            "margin": margins,
            "group": of.groups,
            "doubtful": (counted >= 0) & (counted != labels),
        }
    )
    table = table.iloc[np.argsort(margins, kind="stable")].reset_index(drop=True)
    table["rank"] = np.arange(1, len(table) + 1)
    return table[NOISE_COLUMNS]


def _resample_wrong(labels: Labels, probabilities: Probabilities, groups: list[str]) -> list[float]:
    """The estimate in each resample of whole groups."""
    names, group_of_row = np.unique(np.array(groups, dtype=str), return_inverse=True)
    rng = np.random.default_rng(_SEED)
    found = []
    for _ in range(_RESAMPLES):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        weights = times[group_of_row].astype(np.float64)
        # Some resamples of few groups lack a class: nothing can be estimated from those.
        if len(np.unique(labels[weights > 0])) == probabilities.shape[1]:
            share = _estimate_wrong(labels, probabilities, weights) / weights.sum()
            found.append(share * len(labels))
    return found


def _estimate_wrong(
    labels: Labels, probabilities: Probabilities, weights: Float[ndarray, " rows"]
) -> float:
    _, counted = count_as(labels, probabilities, weights)
    return sum_wrong(labels, counted, weights, probabilities.shape[1])
