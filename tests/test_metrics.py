"""Scores equal scikit-learn's."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import ndarray
from oracles import by_scikit_learn
from project import PARAMS
from sklearn import metrics as oracle
from tasks import one_of

from pipeline.core.errors import ConfigError, EnsembleError
from pipeline.core.task import Number
from pipeline.params import read_config
from pipeline.scoring.metrics import METRICS, metric_for, metric_named
from pipeline.scoring.of_labels import recalls
from pipeline.scoring.of_probabilities import area_under_roc

PARAMETRISED = ["f0.5", "macro_f2", "samples_f2", "top_2_error", "map_at_3"]
ALL = {
    name: metric_named(name)
    for name in [*METRICS, *PARAMETRISED]
    if not name.endswith("_5") and name != "top_5_error"
}
ONE_OF = [name for name, metric in ALL.items() if "one_of" in metric.tasks]
ANY_OF = [name for name, metric in ALL.items() if "any_of" in metric.tasks]
NUMBER = [name for name, metric in ALL.items() if "number" in metric.tasks]
BINARY = {name for name, metric in ALL.items() if metric.two_classes}


def draw(seed: int, classes: int, rows: int = 200) -> tuple[ndarray, ndarray, ndarray]:
    """Probabilities with ties, predicted classes that are not the argmax, labels of each class."""
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(classes), size=rows).round(2) + 0.01
    probabilities /= probabilities.sum(1, keepdims=True)
    labels = np.concatenate([np.arange(classes), generator.integers(classes, size=rows - classes)])
    return probabilities, generator.integers(classes, size=rows), labels


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_scikit_learns(seed: int, classes: int) -> None:
    draw = np.random.default_rng(seed)
    probabilities = draw.dirichlet(np.ones(classes), size=200)
    labels = draw.integers(classes, size=200)
    probabilities[0] = np.eye(classes)[(labels[0] + 1) % classes]  # a zero for the label
    predicted = probabilities.argmax(1)
    task = one_of(classes)
    right = task.right(task.decide(probabilities, None), labels)
    assert right.mean() == oracle.accuracy_score(labels, predicted)
    assert task.losses(probabilities, labels).mean() == pytest.approx(
        oracle.log_loss(labels, probabilities), rel=1e-12
    )
    assert recalls(predicted, labels, classes) == pytest.approx(
        oracle.recall_score(labels, predicted, average=None), rel=1e-12
    )


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("name", ONE_OF)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_each_metric_by_name_equals_scikit_learns(name: str, classes: int, seed: int) -> None:
    if name in BINARY and classes > 2:
        return
    probabilities, predicted, labels = draw(seed, classes)
    ours = metric_for(name, one_of(classes, ordered=True)).score(probabilities, predicted, labels)
    assert ours == pytest.approx(
        by_scikit_learn(name, probabilities, predicted, labels), abs=1e-12, rel=1e-12
    )


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", ONE_OF)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_weight_counts_a_group_that_often_as_in_scikit_learn(
    name: str, classes: int, seed: int
) -> None:
    if name in BINARY and classes > 2:
        return
    probabilities, predicted, labels = draw(seed, classes)
    generator = np.random.default_rng(seed)
    units = np.concatenate([np.arange(10), generator.integers(10, size=190)])
    weights = generator.integers(0, 4, size=10).astype(float)
    weights[units[:classes]] += 1  # each class is there
    expected = by_scikit_learn(name, probabilities, predicted, labels, weights[units])
    close = pytest.approx(expected, abs=1e-12, rel=1e-12)
    metric = metric_for(name, one_of(classes, ordered=True))
    assert metric.scorer(probabilities, predicted, labels, units)(weights) == close
    assert metric.scorer(probabilities, predicted, labels)(weights[units]) == close


@pytest.mark.parametrize("name", ANY_OF)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_each_metric_of_several_labels_equals_scikit_learns(name: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.random((120, 4)) < [0.5, 0.3, 0.1, 0.4]
    labels[:2] = [[True] * 4, [False] * 4]
    values = generator.random((120, 4)).round(2)
    decided = generator.random((120, 4)) < 0.4
    metric = metric_named(name)
    expected = by_scikit_learn(name, values, decided, labels)
    assert metric.score(values, decided, labels) == pytest.approx(expected, rel=1e-12)
    units = np.concatenate([np.arange(8), generator.integers(8, size=112)])
    weights = generator.integers(0, 4, size=8).astype(float)
    weights[units[:2]] += 1
    expected = by_scikit_learn(name, values, decided, labels, weights[units])
    found = metric.scorer(values, decided, labels, units)(weights)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("name", NUMBER)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_each_metric_of_numbers_equals_scikit_learns(name: str, columns: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.random((90, columns)) * 10
    values = np.abs(labels + generator.normal(size=(90, columns)))
    metric = metric_named(name)
    expected = by_scikit_learn(name, values, values, labels)
    assert metric.score(values, values, labels) == pytest.approx(expected, rel=1e-9)
    units = np.concatenate([np.arange(9), generator.integers(9, size=81)])
    weights = generator.integers(0, 4, size=9).astype(float)
    weights[:2] += 1
    expected = by_scikit_learn(name, values, values, labels, weights[units])
    found = metric.scorer(values, values, labels, units)(weights)
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_coefficient_of_determination_is_not_defined_on_equal_labels_and_has_a_bound() -> None:
    equal = np.full((9, 1), 0.1)
    with pytest.raises(EnsembleError, match="^r2: not defined on these 9 rows$"):
        metric_named("r2").score(equal + 1, equal + 1, equal)
    labels = np.arange(9.0)[:, None] * 1e-6
    assert metric_named("r2").score(labels + 1e6, labels, labels) == metric_named("r2").lowest


def test_a_metric_of_another_task_is_refused_with_those_that_fit() -> None:
    with pytest.raises(EnsembleError) as caught:
        metric_for("f1", Number(names=["age"]))
    assert str(caught.value) == (
        "params.yaml: ensemble.metric: f1 is for one_of, found a task of kind number; expected one "
        "of rmse, mae, rmsle, r2"
    )


@pytest.mark.parametrize(
    "name", ["balanced_accuracy", "roc_auc", "f1", "macro_f1", "macro_roc_auc"]
)
def test_a_class_without_rows_is_an_error_not_a_guess(name: str) -> None:
    probabilities = np.array([[0.3, 0.7], [0.6, 0.4], [0.8, 0.2]])
    with pytest.raises(EnsembleError) as caught:
        ALL[name].score(probabilities, probabilities.argmax(1), np.array([0, 0, 0]))
    assert str(caught.value) == (
        f"{name}: not defined on these 3 rows: expected rows of each class, found [3, 0] "
        "(in the order of the classes)"
    )


@pytest.mark.parametrize("name", ONE_OF)
def test_no_rows_are_an_error(name: str) -> None:
    with pytest.raises(EnsembleError, match=f"{name}: expected rows to score, found none"):
        ALL[name].score(np.empty((0, 2)), np.empty(0, int), np.empty(0, int))


def test_params_yaml_with_an_unknown_metric_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(PARAMS.replace("metric: accuracy", "metric: auc"))
    with pytest.raises(ConfigError) as caught:
        read_config(params)
    assert str(caught.value) == (
        f"{params}: ensemble.metric: expected a metric of {', '.join(METRICS)}, or such as macro_f2, "
        "f0.5, top_3_error and map_at_10, or NAME:FUNCTION of metrics/NAME.py, found 'auc'"
    )


def test_a_metric_for_two_classes_is_refused_for_three_with_those_that_fit() -> None:
    with pytest.raises(EnsembleError) as caught:
        metric_for("f1", one_of(3))
    assert str(caught.value) == (
        "params.yaml: ensemble.metric: f1 is for two classes, found 3; expected one of "
        "accuracy, balanced_accuracy, macro_f1, micro_f1, matthews, quadratic_kappa, log_loss, macro_roc_auc, "
        "macro_average_precision, top_5_error, map_at_5"
    )
    assert metric_for("f1", one_of(2)) is METRICS["f1"]


def test_only_losses_and_errors_are_better_when_smaller() -> None:
    smaller = {name for name, metric in METRICS.items() if metric.gain(1.0) < 0}
    assert smaller == {"log_loss", "top_5_error", "rmse", "mae", "rmsle"}


@pytest.mark.parametrize("name", ONE_OF)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_no_score_is_outside_the_metrics_bounds(name: str, seed: int) -> None:
    probabilities, predicted, labels = draw(seed, 2, rows=20)
    score = ALL[name].score(probabilities, predicted, labels)
    assert ALL[name].lowest <= score <= ALL[name].highest


def test_the_area_under_the_curve_of_any_values_is_scikit_learns() -> None:
    generator = np.random.default_rng(1)
    values, positive = generator.integers(-9, 9, 200).astype(float), generator.random(200) < 0.3
    expected = oracle.roc_auc_score(positive, values)
    assert area_under_roc(values, positive) == pytest.approx(expected)


@pytest.mark.parametrize("name", [n for n, each in METRICS.items() if "one_of" in each.tasks])
def test_a_metric_says_whether_the_order_of_the_classes_counts(name: str) -> None:
    """By scores with all classes in reverse, and rotated."""
    metric, generator = METRICS[name], np.random.default_rng(1)
    classes = 2 if metric.two_classes else 4
    labels, predicted = generator.integers(0, classes, (2, 60))
    probabilities = generator.dirichlet(np.ones(classes), 60)
    score = metric.score(probabilities, predicted, labels)
    orders = [np.arange(classes)[::-1], np.roll(np.arange(classes), 1)]
    others = [
        metric.score(
            probabilities[:, order], np.argsort(order)[predicted], np.argsort(order)[labels]
        )
        for order in orders
    ]
    assert metric.uses_order == (others != pytest.approx([score] * 2))
