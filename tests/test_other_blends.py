"""Blends, temperatures and cuts of several labels, of numbers, and of ordered classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blending import recipe
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from tasks import OTHERS, any_of, draw_members, number, one_of
from test_forecast import CONFIG

from pipeline.core.task import AnyOf, Number
from pipeline.ensemble.blend import FittedBlend, Prediction, Recipe, WeightedMean, fit, fit_weights
from pipeline.ensemble.bootstrap import ScoredRows
from pipeline.ensemble.calibrate import fit_cuts, fit_temperature, sharpen
from pipeline.ensemble.diversity import compare_pairs
from pipeline.ensemble.forecast.averaging import NO_GAIN, Noise, estimate_gain
from pipeline.ensemble.forecast.build import OutOfFoldRows, build_forecast
from pipeline.ensemble.nested import judge, predict_nested
from pipeline.ensemble.saved import describe_fitted, read_fitted
from pipeline.scoring.card import Fitted
from pipeline.scoring.metrics import METRICS, find_metric, metric_named

TASKS = pytest.mark.parametrize("task", OTHERS.values(), ids=OTHERS)
SEVERAL, NUMBERS = any_of("cat", "dog", "owl"), number("age", "size")


def recipe_of(task: AnyOf | Number, kind: str, metric: str, **changes: Any) -> Recipe:
    made = recipe(kind, **changes)  # type: ignore[arg-type]
    return Recipe(
        made.kind, task, metric_named(metric), made.calibration, made.threshold,
        made.greedy_rounds, made.stack_l2,
    )  # fmt: skip


def metric_of(task: AnyOf | Number) -> str:
    return "rmse" if isinstance(task, Number) else "log_loss"


def rows_of(task: AnyOf | Number, labels: np.ndarray) -> ScoredRows:
    """Groups of five rows, in four folds."""
    groups = np.arange(len(labels)) // 5
    return ScoredRows(task, labels, [f"g{group}" for group in groups], groups % 4, 0.95, 200, 1)


# Blends


@TASKS
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_no_other_weights_lose_less(task: AnyOf | Number, seed: int) -> None:
    """The loss is convex: at the optimum no step towards a single model makes it smaller."""
    members, labels = draw_members(task, seed)
    weights = fit_weights(task, members, labels)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)

    def loss(tried: np.ndarray) -> float:
        return float(task.losses(WeightedMean(tried).apply(members), labels).mean())

    found = loss(weights)
    for corner in np.eye(len(members)):
        assert found <= loss(corner) + 1e-9
        assert found <= loss(0.999 * weights + 0.001 * corner) + 1e-6 * abs(found)
    assert found < min(loss(corner) for corner in np.eye(len(members))) - 1e-3


def test_the_weights_of_numbers_are_those_of_least_squares() -> None:
    members, labels = draw_members(number("y"), 1, spreads=(1.0, 1.2))
    difference = (members[0] - members[1]).ravel()
    share = -float(difference @ (members[1] - labels).ravel() / (difference @ difference))
    np.testing.assert_allclose(fit_weights(number("y"), members, labels)[0], share, atol=1e-5)


@TASKS
@pytest.mark.parametrize("kind", ["mean", "single", "weighted", "greedy"])
def test_a_blend_comes_back_from_json_and_gives_the_same_bits(
    task: AnyOf | Number, kind: str
) -> None:
    members, labels = draw_members(task, 1)
    calibrated = isinstance(task, AnyOf)
    chosen = recipe_of(
        task, kind, "macro_f1" if calibrated else "rmse",
        calibration="temperature" if calibrated else "none",
        threshold="fitted" if calibrated else "none",
    )  # fmt: skip
    fitted = fit(chosen, members, labels)
    kept = Fitted.model_validate_json(describe_fitted(fitted).model_dump_json(), strict=True)
    back: FittedBlend = read_fitted(Path("card.json"), kept, 3, task)
    new = draw_members(task, 2)[0]
    assert np.array_equal(back.apply(new).values, fitted.apply(new).values)
    assert np.array_equal(back.apply(new).decided, fitted.apply(new).decided)
    assert task.valid(fitted.apply(new).values).all()
    alone = fitted.apply(new[:, 5:6])
    assert np.array_equal(alone.values[0], fitted.apply(new).values[5])


@TASKS
def test_a_nested_row_does_not_see_its_own_label(task: AnyOf | Number) -> None:
    members, labels = draw_members(task, 1)
    rows = rows_of(task, labels)
    other = labels.copy()
    other[rows.folds == 0] = labels[rows.folds == 0][::-1]
    chosen = recipe_of(task, "weighted", metric_of(task))
    found = predict_nested(chosen, members, rows)
    again = predict_nested(chosen, members, rows_of(task, other))
    own = rows.folds == 0
    np.testing.assert_array_equal(found.values[own], again.values[own])
    assert not np.array_equal(found.values[~own], again.values[~own])


@TASKS
def test_a_blend_is_chosen_among_several(task: AnyOf | Number) -> None:
    """A model of noise beside a good one: the plain mean is worse than what is chosen."""
    members, labels = draw_members(task, 1, spreads=(0.5, 8.0))
    recipes = [recipe_of(task, kind, metric_of(task)) for kind in ("mean", "single", "weighted")]
    judged = judge(recipes, members, rows_of(task, labels))
    assert judged.recipe.kind != "mean"
    assert set(judged.candidates) == {"mean", "single", "weighted"}
    assert not np.isnan(judged.nested.values).any()


@TASKS
def test_models_are_compared_by_their_errors(task: AnyOf | Number) -> None:
    members, labels = draw_members(task, 1)
    members[2] = members[0]
    pairs = compare_pairs(["a", "b", "copy"], members, rows_of(task, labels))
    of = {pair.models: pair for pair in pairs}
    assert of["a", "copy"].error_correlation == pytest.approx(1)
    assert of["a", "copy"].disagreement == 0
    assert (of["a", "b"].error_correlation or 0) < 0.9
    assert of["a", "b"].disagreement > 0.1


# Temperature


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_temperature_of_several_labels_is_scipys_minimum(seed: int) -> None:
    (values,), labels = draw_members(SEVERAL, seed, spreads=(1.5,))
    oracle = minimize_scalar(
        lambda t: SEVERAL.losses(sharpen(SEVERAL, values, np.exp(t)), labels).mean(),
        bounds=(-2.9, 2.9), method="bounded", options={"xatol": 1e-9},
    )  # fmt: skip
    assert fit_temperature(SEVERAL, values, labels) == pytest.approx(np.exp(oracle.x), rel=1e-4)


def test_a_temperature_moves_no_decision() -> None:
    (values,), _ = draw_members(SEVERAL, 1, spreads=(1.5,))
    flatter = sharpen(SEVERAL, values, 3.0)
    assert np.array_equal(SEVERAL.decide(flatter, None), SEVERAL.decide(values, None))
    assert np.abs(flatter - 0.5).mean() < np.abs(values - 0.5).mean()


# Cuts


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "micro_f1", "samples_f1", "macro_f2"])
def test_cuts_are_no_worse_than_one_half_and_better_for_rare_labels(metric: str) -> None:
    measured, gained = metric_named(metric), []
    for seed in range(5):
        (values,), labels = draw_members(SEVERAL, seed, spreads=(1.5,))
        cuts = fit_cuts(SEVERAL, values, labels, measured)
        assert len(cuts) == 3
        scores = [
            measured.score(values, SEVERAL.decide(values, tried), labels) for tried in (None, cuts)
        ]
        assert scores[1] >= scores[0]
        gained.append(scores[1] - scores[0])
    assert np.mean(gained) > 0.01


def test_cuts_that_change_nothing_stay_in_the_middle() -> None:
    labels = np.random.default_rng(1).random((60, 2)) < 0.4
    values = np.where(labels, 0.9, 0.1)
    assert fit_cuts(any_of("a", "b"), values, labels, METRICS["macro_f1"]) == [0.5, 0.5]


def test_cuts_keep_at_least_one_label() -> None:
    task = any_of("cat", "dog", "owl", at_least_one=True)
    (values,), labels = draw_members(task, 1, spreads=(1.5,))
    cuts = fit_cuts(task, values, labels, METRICS["macro_f1"])
    assert task.decide(values, cuts).any(axis=1).all()


def test_cuts_of_ordered_classes_raise_quadratic_kappa() -> None:
    """Of grades that are seldom extreme the most probable one is hardly ever extreme, either."""
    task, kappa, gained = one_of(5, ordered=True), METRICS["quadratic_kappa"], []
    for seed in range(5):
        generator = np.random.default_rng(seed)
        severity = generator.normal(size=400)
        labels = np.digitize(severity, [-1.5, -0.5, 0.5, 1.5])
        seen = severity + 0.7 * generator.normal(size=400)
        middles = np.array([-2, -1, 0, 1, 2])
        powers = np.exp(-((seen[:, None] - middles) ** 2) / 2)
        values = powers / powers.sum(axis=1, keepdims=True)
        cuts = fit_cuts(task, values, labels, kappa)
        assert cuts == sorted(cuts)
        assert len(cuts) == 4
        scores = [kappa.score(values, task.decide(values, tried), labels) for tried in (None, cuts)]
        gained.append(scores[1] - scores[0])
    assert min(gained) > 0
    assert np.mean(gained) > 0.02


# The forecast

OF_OTHERS = [
    (task, name)
    for task in OTHERS.values()
    for name in [*METRICS, "samples_f2"]
    if (metric := find_metric(name)) and task.kind in metric.tasks
]


@pytest.mark.parametrize(("task", "name"), OF_OTHERS)
def test_every_metric_has_a_forecast(task: AnyOf | Number, name: str) -> None:
    members, labels = draw_members(task, 1)
    (like,), _ = draw_members(task, 2, spreads=(1.0,), rows=60)
    tests = like * (1 + 0.1 * np.random.default_rng(3).normal(size=(4, *like.shape)))
    if isinstance(task, AnyOf):
        tests = tests.clip(0, 1)

    def predict(values: np.ndarray) -> Prediction:
        return Prediction(values, task.decide(values, None))

    ids = [f"i{row:03}" for row in range(len(labels))]
    oof = OutOfFoldRows(task, ids, predict(members[0]), labels, rows_of(task, labels).groups)
    test = predict(tests.mean(axis=0))
    found = build_forecast(
        metric_named(name), oof, test, [predict(each) for each in tests], None, CONFIG
    )
    for low, high in (found.public, found.private):
        assert low < found.mean < high
    assert (found.correct is None) == isinstance(task, Number)
    assert np.isfinite(found.gain.mean)
    if name in ("rmse", "mae"):
        assert found.gain.mean < 0  # the mean of several is nearer


@TASKS
def test_folds_that_agree_gain_nothing(task: AnyOf | Number) -> None:
    members, labels = draw_members(task, 1)
    one = fit(recipe_of(task, "mean", metric_of(task)), members[:1], labels).apply(members[:1])
    noise = Noise.measure(task, members[0], labels)
    metric = metric_named(metric_of(task))
    found = estimate_gain(task, metric, one, [one] * 3, noise, 1)
    assert found.mean == pytest.approx(0, abs=1e-12)
    assert found.disagreement == 0
    assert estimate_gain(task, metric, one, [one], noise, 1) == NO_GAIN
