"""Each metric by its name in params.yaml, computed by scikit-learn."""

from numpy import ndarray
from sklearn import metrics

_OF_LABELS = {
    "accuracy": (metrics.accuracy_score, {}),
    "balanced_accuracy": (metrics.balanced_accuracy_score, {}),
    "f1": (metrics.f1_score, {}),
    "macro_f1": (metrics.f1_score, {"average": "macro"}),
    "quadratic_kappa": (metrics.cohen_kappa_score, {"weights": "quadratic"}),
}


def by_scikit_learn(
    name: str,
    probabilities: ndarray,
    predicted: ndarray,
    labels: ndarray,
    weights: ndarray | None = None,
) -> float:
    """The score; weights: how often each row counts."""
    if name in _OF_LABELS:
        score, options = _OF_LABELS[name]
        return float(score(labels, predicted, sample_weight=weights, **options))
    if name == "log_loss":
        places = range(probabilities.shape[1])
        return float(metrics.log_loss(labels, probabilities, sample_weight=weights, labels=places))
    values = probabilities if probabilities.shape[1] > 2 else probabilities[:, 1]
    return float(metrics.roc_auc_score(labels, values, multi_class="ovr", sample_weight=weights))
