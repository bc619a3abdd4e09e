"""Scores equal scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from pipeline import metrics


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_scikit_learns(seed: int, classes: int) -> None:
    draw = np.random.default_rng(seed)
    probabilities = draw.dirichlet(np.ones(classes), size=200)
    labels = draw.integers(classes, size=200)
    probabilities[0] = np.eye(classes)[(labels[0] + 1) % classes]  # a zero for the label
    predicted = probabilities.argmax(1)
    assert metrics.accuracy(probabilities, labels) == oracle.accuracy_score(labels, predicted)
    assert metrics.log_loss(probabilities, labels) == pytest.approx(
        oracle.log_loss(labels, probabilities), rel=1e-12
    )
    assert metrics.recalls(probabilities, labels, classes) == pytest.approx(
        oracle.recall_score(labels, predicted, average=None), rel=1e-12
    )


def test_a_class_without_rows_has_no_recall() -> None:
    recalls = metrics.recalls(np.array([[1.0, 0.0]]), np.array([0]), 2)
    assert recalls[0] == 1.0
    assert np.isnan(recalls[1])
