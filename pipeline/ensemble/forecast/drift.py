"""Do the test rows differ in kind from the training rows: adversarial validation.

A classifier that predicts which split a row is from is better than chance even without drift, since
the test patients are other patients. So its AUC is compared with the AUCs for random whole training
groups that are treated as test, with as large a share of the rows as test has. Only an AUC beyond
their range, the band, is drift. 2,000 rows per split take 2.5 s, most of it for the band.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from pipeline.core.arrays import read_array
from pipeline.core.errors import EnsembleError
from pipeline.scoring.card import Drift
from pipeline.scoring.of_probabilities import area_under_roc

_MOST_ROWS = 2000
"""Rows of each split that are used, drawn at random: patients are scarce, not rows."""

_MOST_VALUES = 1024
"""Evenly spaced values of each row and channel, for its quantiles."""

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_FOLDS = 3
LEAST_GROUPS = 2 * _FOLDS

_LEAST_ROWS = 2 * _FOLDS
"""Fewer rows of test tell no drift."""

_CHUNK = 256
_CLIP = 10.0
"""Density ratios are clipped to [0.1, 10], so that a few rows cannot have all the weight."""

_MATERIAL = 0.05
"""The training groups are weighted if chance alone gives such an AUC at most this often."""


def measure_drift(
    train: Path,
    test: Path,
    train_table: pd.DataFrame,
    test_table: pd.DataFrame,
    groups: list[str],
    splits: int,
    seed: int,
) -> tuple[Drift, dict[str, float]] | None:
    """The drift, and for each group how much likelier its rows are in test than in train.

    These weights are 1 on average. None for fewer than six groups, since chance is not measurable
    then, or six test rows.
    train, test: packed arrays, parallel to their tables (tables.IMAGE_COLUMNS, of which width and
    height are used if present). groups: the training rows'. splits: how many make the band.
    Raises EnsembleError where rows and tables do not fit.
    """
    group_names, group_of_row = np.unique(groups, return_inverse=True)
    if len(group_names) < LEAST_GROUPS or len(test_table) < _LEAST_ROWS:
        return None
    generator = np.random.default_rng(seed)
    chosen = [
        np.sort(generator.permutation(len(table))[:_MOST_ROWS])
        for table in (train_table, test_table)
    ]
    names, ours = pool_rows(train, train_table, chosen[0])
    others, theirs = pool_rows(test, test_table, chosen[1])
    if names != others:
        raise EnsembleError(f"drift: expected the features {names} in {test}, found {others}")
    group_of_row = group_of_row[chosen[0]]
    if len(np.unique(group_of_row)) < LEAST_GROUPS:  # of those that were drawn
        return None
    varies = np.concatenate([ours, theirs]).std(axis=0) > 0
    ours, theirs = ours[:, varies], theirs[:, varies]
    names = [name for name, keep in zip(names, varies, strict=True) if keep]

    auc, odds = _distinguish(ours, theirs, group_of_row, generator)
    share = len(theirs) / (len(ours) + len(theirs))
    null = []
    for _ in range(splits):
        as_test = choose_groups(group_of_row, share, generator)
        kept = group_of_row[~as_test]
        null.append(_distinguish(ours[~as_test], ours[as_test], kept, generator)[0])
    low, high = np.quantile(null, [0.05, 0.95])
    scale = np.concatenate([ours, theirs]).std(axis=0)
    steps = np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) / scale
    p = (1 + sum(other >= auc for other in null)) / (1 + splits)
    drift = Drift(
        auc=auc,
        band=(float(low), float(high)),
        p=p,
        splits=splits,
        strongest=[names[place] for place in np.argsort(-steps, kind="stable")[:3]],
        weighted=p <= _MATERIAL,
    )
    return drift, _weigh_groups(odds, group_of_row, [str(name) for name in group_names])


def pool_rows(
    path: Path, table: pd.DataFrame, chosen: Int[ndarray, " rows"]
) -> tuple[list[str], Float[ndarray, "rows features"]]:
    """The features' names and values of some rows of a packed array (rows, …, channels).

    A two-dimensional array has one channel. Raises TableError as read_array does.
    """
    packed = read_array(path, len(table))
    parts = [
        _pool(np.asarray(packed[chosen[start : start + _CHUNK]]))
        for start in range(0, len(chosen), _CHUNK)
    ]
    pooled = np.concatenate(parts)
    kinds = ["mean", "spread", *(f"quantile {level:g}" for level in _QUANTILES), "sharpness"]
    channels = pooled.shape[1] // len(kinds)
    names = [f"{kind} of channel {channel}" for kind in kinds for channel in range(channels)]
    sizes = [name for name in ("width", "height") if name in table.columns]
    originals = table[sizes].to_numpy(np.float64)[chosen]
    return [*names, *sizes], np.concatenate([pooled, originals], axis=1)


def _pool(rows: ndarray) -> Float[ndarray, "rows features"]:
    """Mean, spread, quantiles and sharpness of each channel, kind by kind."""
    values = rows[..., None] if rows.ndim == 2 else rows
    inner = tuple(range(1, values.ndim - 1))
    steps = [
        np.abs(np.diff(values.astype(np.float32), axis=axis)).mean(axis=inner) for axis in inner
    ]
    flat = values.reshape(len(values), -1, values.shape[-1])
    thinned = np.sort(flat[:, :: max(1, flat.shape[1] // _MOST_VALUES)], axis=1, kind="stable")
    places = [round(level * (thinned.shape[1] - 1)) for level in _QUANTILES]
    kinds = [flat.mean(axis=1), flat.std(axis=1), *(thinned[:, place] for place in places)]
    return np.concatenate([*kinds, np.mean(steps, axis=0)], axis=1).astype(np.float64)


def _distinguish(
    train: Float[ndarray, "train features"],
    test: Float[ndarray, "test features"],
    group_of_row: Int[ndarray, " train"],
    generator: np.random.Generator,
) -> tuple[float, Float[ndarray, " train"]]:
    """The AUC on rows that the classifier has not seen, and the training rows' odds of test.

    Training groups stay whole; the test rows' groups are not known, and not used in the band.
    """
    from sklearn.linear_model import LogisticRegression  # 1.3 s
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = np.concatenate([train, test])
    is_test = np.arange(len(features)) >= len(train)
    folds = _deal(group_of_row, len(test), generator)
    logits = np.empty(len(features))
    for fold in range(_FOLDS):
        held = folds == fold
        model = make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cholesky"))
        model.fit(features[~held], is_test[~held])
        logits[held] = model.decision_function(features[held])
    odds = np.exp(np.clip(logits[~is_test], -20, 20)) * len(train) / len(test)
    return area_under_roc(logits, is_test), odds


def _deal(
    group_of_row: Int[ndarray, " train"], test_rows: int, generator: np.random.Generator
) -> Int[ndarray, " rows"]:
    """A fold for each training row, by its group, and each test row.

    Drawn again until no fold has all rows of a split, which few rows may have by chance.
    """
    while True:
        fold_of_group = generator.permutation(int(group_of_row.max()) + 1) % _FOLDS
        parts = fold_of_group[group_of_row], generator.integers(_FOLDS, size=test_rows)
        if all(len(np.unique(part)) > 1 for part in parts):
            return np.concatenate(parts)


def choose_groups(
    group_of_row: Int[ndarray, " rows"], share: float, generator: np.random.Generator
) -> Bool[ndarray, " rows"]:
    """The rows of random groups, about that share of all; at least _FOLDS groups are left."""
    sizes = np.bincount(group_of_row)
    order = generator.permutation(np.flatnonzero(sizes))
    filled = np.cumsum(sizes[order])
    count = int(np.searchsorted(filled, share * filled[-1])) + 1
    return np.isin(group_of_row, order[: min(count, len(order) - _FOLDS)])


def _weigh_groups(
    odds: Float[ndarray, " rows"], group_of_row: Int[ndarray, " rows"], names: list[str]
) -> dict[str, float]:
    """The mean density ratio of each group; 1 for a group without a row that was used."""
    ratios = np.clip(odds, 1 / _CLIP, _CLIP)
    rows = np.bincount(group_of_row, minlength=len(names))
    sums = np.bincount(group_of_row, weights=ratios / ratios.mean(), minlength=len(names))
    means = np.where(rows > 0, sums / np.maximum(rows, 1), 1.0)
    return {name: float(weight) for name, weight in zip(names, means, strict=True)}
