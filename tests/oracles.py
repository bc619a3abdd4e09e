"""Each metric by its name in params.yaml, computed by scikit-learn."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray
from sklearn import metrics

_OF_LABELS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "accuracy": (metrics.accuracy_score, {}),
    "balanced_accuracy": (metrics.balanced_accuracy_score, {}),
    "f1": (metrics.f1_score, {}),
    "f0.5": (metrics.fbeta_score, {"beta": 0.5}),
    "macro_f1": (metrics.f1_score, {"average": "macro"}),
    "macro_f2": (metrics.fbeta_score, {"beta": 2, "average": "macro"}),
    "micro_f1": (metrics.f1_score, {"average": "micro"}),
    "samples_f1": (metrics.f1_score, {"average": "samples", "zero_division": 0}),
    "samples_f2": (metrics.fbeta_score, {"beta": 2, "average": "samples", "zero_division": 0}),
    "matthews": (metrics.matthews_corrcoef, {}),
    "quadratic_kappa": (metrics.cohen_kappa_score, {"weights": "quadratic"}),
    "rmse": (metrics.root_mean_squared_error, {}),
    "mae": (metrics.mean_absolute_error, {}),
    "rmsle": (metrics.root_mean_squared_log_error, {}),
    "r2": (metrics.r2_score, {}),
}
_OF_COLUMNS = {
    "roc_auc": metrics.roc_auc_score,
    "macro_roc_auc": metrics.roc_auc_score,
    "average_precision": metrics.average_precision_score,
    "macro_average_precision": metrics.average_precision_score,
}


def by_scikit_learn(
    name: str,
    values: ndarray,
    decided: ndarray,
    labels: ndarray,
    weights: ndarray | None = None,
) -> float:
    """The score; weights: how often each row counts."""
    if name in _OF_LABELS:
        score, options = _OF_LABELS[name]
        return float(score(labels, decided, sample_weight=weights, **options))
    several = labels.ndim == 2
    if name == "log_loss":
        if several:
            columns = zip(labels.T, values.T, strict=True)
            return float(
                np.mean([metrics.log_loss(of, p, sample_weight=weights, labels=[0, 1]) for of, p in columns])
            )  # fmt: skip
        places = range(values.shape[1])
        return float(metrics.log_loss(labels, values, sample_weight=weights, labels=places))
    if name in _OF_COLUMNS:
        each = labels if several else np.eye(values.shape[1])[labels]
        if name in ("roc_auc", "average_precision"):
            each, values = labels, values[:, 1]
        return float(_OF_COLUMNS[name](each, values, sample_weight=weights))
    ones = np.ones(len(labels)) if weights is None else weights
    if name == "probabilistic_f1":
        hits = (ones * values[:, 1] * (labels == 1)).sum()
        return float(2 * hits / ((ones * values[:, 1]).sum() + (ones * (labels == 1)).sum()))
    best = np.argsort(-values, axis=1, kind="stable")
    place = (best == labels[:, None]).argmax(axis=1)
    if name == "top_2_error":
        return float(np.average(place >= 2, weights=ones))
    assert name == "map_at_3", name
    return float(np.average(np.where(place < 3, 1 / (place + 1), 0), weights=ones))
