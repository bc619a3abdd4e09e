"""Each blend is the optimum that it claims to be, and comparisons are those of scipy."""

import numpy as np
import pytest
from blending import UNEVEN, draw, recipe, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import ndarray
from scipy import stats
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from tasks import one_of

from pipeline.core.errors import EnsembleError
from pipeline.ensemble.blend import (
    Prediction,
    WeightedMean,
    fit,
    fit_blend,
    fit_weights,
    logit_features,
    select_greedily,
)
from pipeline.ensemble.calibrate import fit_cuts, fit_temperature, sharpen
from pipeline.ensemble.compare import bootstrap_p, compare, is_significantly_worse, mcnemar
from pipeline.ensemble.config import KINDS
from pipeline.scoring.metrics import METRICS

TWO = one_of(2)
ONE_OF = [name for name, each in METRICS.items() if "one_of" in each.tasks]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 4), models=st.integers(2, 6))
def test_weights_are_a_certified_optimum(seed: int, classes: int, models: int) -> None:
    """Only at the optimum is no model's mean likelihood ratio to the blend above one; the excess
    bounds the distance to the optimum (Cover 1984)."""
    skills = [(abs(s), 1.0) for s in np.random.default_rng(seed).normal(size=models)]
    drawn = draw(seed, skills, groups=20, rows_a_group=5, classes=classes)
    weights = fit_weights(one_of(classes), drawn.members, drawn.labels)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    likelihood = drawn.members[:, np.arange(len(drawn.labels)), drawn.labels]
    assert (likelihood / (weights @ likelihood)).mean(axis=1).max() <= 1 + 1e-4


def test_a_member_that_is_sure_and_wrong_gets_no_weight() -> None:
    drawn = draw(1, [(1.0, 1.0)])
    wrong = np.eye(2)[1 - drawn.labels]
    weights = fit_weights(TWO, np.stack([wrong, drawn.members[0]]), drawn.labels)
    np.testing.assert_allclose(weights, [0, 1], atol=1e-6)


def naive_greedy(members: ndarray, labels: ndarray, metric: str, rounds: int) -> ndarray:
    """The procedure as the paper describes it, over lists of chosen models."""

    def merit(taken: list[int]) -> tuple[float, float]:
        mean = members[taken].mean(axis=0)
        measured = METRICS[metric]
        score = measured.gain(measured.score(mean, mean.argmax(1), labels))
        return (round(score, 12), round(-float(TWO.losses(mean, labels).mean()), 12))

    order = sorted(range(len(members)), key=lambda model: merit([model]), reverse=True)
    starts = [order[:size] for size in range(1, len(order) + 1)]
    taken = max(starts, key=merit)
    met = [taken]
    for _ in range(rounds):
        taken = max(([*taken, model] for model in range(len(members))), key=merit)
        met.append(taken)
    best = max(met, key=merit)
    return np.bincount(best, minlength=len(members)) / len(best)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "roc_auc", "macro_f1"])
@pytest.mark.parametrize("seed", range(3))
def test_greedy_is_the_procedure_of_the_paper(seed: int, metric: str) -> None:
    drawn = draw(seed, UNEVEN, groups=20)
    weights = select_greedily(
        recipe("greedy", metric, greedy_rounds=8), drawn.members, drawn.labels
    )
    expected = naive_greedy(drawn.members, drawn.labels, metric, 8)
    np.testing.assert_allclose(weights, expected, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), metric=st.sampled_from(ONE_OF))
def test_greedy_is_no_worse_where_it_looked_than_each_model_and_their_mean(
    seed: int, metric: str
) -> None:
    drawn = draw(seed, UNEVEN, groups=10)
    measured = METRICS[metric]

    def gain(probabilities: ndarray) -> float:
        predicted = probabilities.argmax(1)
        return measured.gain(measured.score(probabilities, predicted, drawn.labels))

    weights = select_greedily(
        recipe("greedy", metric, greedy_rounds=5), drawn.members, drawn.labels
    )
    found = gain(WeightedMean(weights).apply(drawn.members))
    others = [*drawn.members, WeightedMean(np.full(4, 0.25)).apply(drawn.members)]
    assert found >= max(gain(other) for other in others) - 1e-12


@pytest.mark.parametrize("classes", [2, 3])
def test_stack_is_scikit_learns_regression_on_the_logits(classes: int) -> None:
    drawn = draw(1, UNEVEN, classes=classes)
    logs = np.log(np.clip(drawn.members, 1e-6, 1))
    if classes == 2:
        features = np.stack([m[:, 1] - m[:, 0] for m in logs], axis=1)
    else:
        features = np.hstack([m - m.mean(axis=1, keepdims=True) for m in logs])
    np.testing.assert_allclose(logit_features(drawn.members), features, atol=1e-9)
    oracle = LogisticRegression(C=1 / 3.0, tol=1e-8, max_iter=1000).fit(features, drawn.labels)
    stacked = fit_blend(recipe("stack", stack_l2=3.0), drawn.members, drawn.labels)
    np.testing.assert_allclose(
        stacked.apply(drawn.members), oracle.predict_proba(features), atol=1e-9
    )


def test_stack_needs_rows_of_each_class() -> None:
    drawn = draw(1, UNEVEN, classes=3)
    with pytest.raises(EnsembleError, match=r"over 400 rows: expected rows of each class, found"):
        fit_blend(recipe("stack"), drawn.members, drawn.labels % 2)


def test_the_mean_rank_orders_as_scipys_ranks_do() -> None:
    drawn = draw(1, UNEVEN)
    members = drawn.members.round(1)  # ties
    blend = fit_blend(recipe("rank_mean", "roc_auc"), members, drawn.labels)
    expected = sum(stats.rankdata(member[:, 1]) for member in members)
    found = blend.apply(members)[:, 1]
    np.testing.assert_array_equal(stats.rankdata(found.round(12)), stats.rankdata(expected))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), power=st.floats(0.2, 5))
def test_the_mean_rank_does_not_see_a_models_scale(seed: int, power: float) -> None:
    drawn = draw(seed, UNEVEN, groups=10)
    powered = drawn.members.copy()
    powered[0] = sharpen(TWO, drawn.members[0], 1 / power)
    ranks = [
        fit_blend(recipe("rank_mean", "roc_auc"), members, drawn.labels).apply(members)
        for members in (drawn.members, powered)
    ]
    np.testing.assert_allclose(*ranks, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rows_prediction_does_not_depend_on_the_other_rows(kind: str) -> None:
    drawn = draw(1, UNEVEN)
    fitted = fit(
        recipe(kind, "roc_auc" if kind == "rank_mean" else "accuracy", calibration="temperature"),
        drawn.members, drawn.labels,
    )  # fmt: skip
    whole, some = fitted.apply(drawn.members), fitted.apply(drawn.members[:, 5:9])
    np.testing.assert_allclose(some.values, whole.values[5:9], rtol=1e-12)


def test_single_is_the_model_that_scores_best() -> None:
    drawn = draw(1, UNEVEN[::-1])
    blend = fit_blend(recipe("single"), drawn.members, drawn.labels)
    scores = [(m.argmax(1) == drawn.labels).mean() for m in drawn.members]
    assert isinstance(blend, WeightedMean)
    assert blend.weights.tolist() == np.eye(4)[np.argmax(scores)].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_every_blend_of_one_model_is_that_model(kind: str) -> None:
    drawn = draw(1, UNEVEN[:1])
    applied = fit(recipe(kind), drawn.members, drawn.labels).apply(drawn.members)
    np.testing.assert_array_equal(applied.values, drawn.members[0])
    np.testing.assert_array_equal(applied.decided, drawn.members[0].argmax(1))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_every_blend_gives_probabilities(kind: str, seed: int) -> None:
    drawn = draw(seed, UNEVEN, groups=10)
    metric = "roc_auc" if kind == "rank_mean" else "accuracy"
    fitted = fit(recipe(kind, metric, calibration="temperature"), drawn.members, drawn.labels)
    probabilities = fitted.apply(draw(seed + 1, UNEVEN).members).values
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), sharpness=st.floats(0.3, 4), classes=st.integers(2, 4))
def test_the_temperature_is_scipys_minimum(seed: int, sharpness: float, classes: int) -> None:
    drawn = draw(seed, [(0.7, sharpness)], classes=classes)
    probabilities, task = drawn.members[0], one_of(classes)
    oracle = minimize_scalar(
        lambda t: task.losses(sharpen(task, probabilities, np.exp(t)), drawn.labels).mean(),
        bounds=(-2.9, 2.9), method="bounded", options={"xatol": 1e-9},
    )  # fmt: skip
    assert fit_temperature(task, probabilities, drawn.labels) == pytest.approx(
        np.exp(oracle.x), rel=1e-4
    )


def test_the_temperature_undoes_a_sharpening_and_moves_no_decision() -> None:
    drawn = draw(1, [(0.7, 1.0)])
    before = fit_temperature(TWO, drawn.members[0], drawn.labels)
    sharpened = sharpen(TWO, drawn.members[0], 1 / 3)
    assert fit_temperature(TWO, sharpened, drawn.labels) == pytest.approx(3 * before, rel=1e-6)
    np.testing.assert_array_equal(sharpened.argmax(1), drawn.members[0].argmax(1))


def test_the_temperature_stays_within_its_bounds() -> None:
    sure = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert fit_temperature(TWO, sure, np.array([0, 1])) == pytest.approx(1 / 20)
    assert fit_temperature(TWO, sure, np.array([1, 0])) == pytest.approx(20)


@pytest.mark.parametrize("name", [n for n in ONE_OF if METRICS[n].needs == "labels"])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_threshold_is_the_best_of_all(name: str, seed: int) -> None:
    drawn = draw(seed, [(0.4, 2.0)], groups=6)
    probabilities = drawn.members[0].round(2)
    metric = METRICS[name]

    def score(threshold: float) -> float:
        return metric.score(probabilities, TWO.decide(probabilities, [threshold]), drawn.labels)

    values = np.unique(probabilities[:, 1])
    tried = [0.5, *((values[1:] + values[:-1]) / 2)]
    best = max(score(threshold) for threshold in tried)
    found = fit_cuts(TWO, probabilities, drawn.labels, metric)[0]
    assert score(found) == best
    assert abs(found - 0.5) == min(abs(t - 0.5) for t in tried if score(t) == best)


def test_a_row_on_the_threshold_is_counted_as_it_is_decided() -> None:
    chance = np.array([0.2, 0.5, 0.8])
    probabilities = np.stack([1 - chance, chance], axis=1)
    accuracy = METRICS["accuracy"]
    assert fit_cuts(TWO, probabilities, np.array([0, 1, 1]), accuracy)[0] == 0.5
    assert TWO.decide(probabilities, [0.5]).tolist() == [0, 1, 1]
    assert TWO.decide(probabilities, None).tolist() == [0, 0, 1]  # the first of equal ones
    assert fit_cuts(TWO, probabilities, np.array([0, 0, 1]), accuracy)[0] == pytest.approx(0.65)


def test_the_threshold_moves_where_one_class_is_rare() -> None:
    generator = np.random.default_rng(1)
    labels = (generator.random(2000) < 0.1).astype(int)
    chance = 1 / (1 + np.exp(-(1.5 * labels - 3 + generator.normal(size=2000))))
    probabilities = np.stack([1 - chance, chance], axis=1)
    f1 = METRICS["f1"]
    threshold = fit_cuts(TWO, probabilities, labels, f1)[0]
    assert threshold < 0.3
    assert f1.score(probabilities, TWO.decide(probabilities, [threshold]), labels) > 1.5 * f1.score(
        probabilities, TWO.decide(probabilities, None), labels
    )


@settings(max_examples=60, deadline=None)
@given(alone=st.integers(0, 300), other=st.integers(0, 300), both=st.integers(1, 50))
def test_mcnemar_is_scipys_binomial_test(alone: int, other: int, both: int) -> None:
    one = np.array([True] * alone + [False] * other + [True] * both)
    two = np.array([False] * alone + [True] * other + [True] * both)
    expected = stats.binomtest(alone, alone + other).pvalue if alone + other else 1.0
    assert mcnemar(one, two) == pytest.approx(expected, rel=1e-9)


def predictions(seed: int, better_by: float) -> tuple[list[Prediction], ndarray, ndarray]:
    """Two models, the first better by that much skill; their labels and groups."""
    drawn = draw(seed, [(0.7 + better_by, 1.0), (0.7, 1.0)], groups=30)
    return [Prediction(m, m.argmax(1)) for m in drawn.members], drawn.labels, drawn.groups


@pytest.mark.parametrize("metric", [n for n in ONE_OF if n != "top_5_error"])
def test_only_a_much_worse_prediction_is_significantly_worse_whatever_the_direction(
    metric: str,
) -> None:
    (good, bad), labels, groups = predictions(1, 0.6)
    rows = rows_of(labels, groups)
    found = compare(METRICS[metric], good, good, rows)
    assert (found.difference, found.interval, found.p_value) == (0.0, (0.0, 0.0), 1.0)
    found = compare(METRICS[metric], bad, good, rows)
    assert found.difference < 0
    assert found.interval[1] < 0
    assert found.p_value < 0.02
    assert is_significantly_worse(METRICS[metric], bad, good, rows)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_equal_models_are_found_different_as_rarely_as_the_level_says(metric: str) -> None:
    """300 pairs of equally good models, at the level 0.05: 300 * 0.05 = 15 expected."""
    wrongly = 0
    for seed in range(300):
        (one, two), labels, groups = predictions(seed, 0.0)
        wrongly += is_significantly_worse(METRICS[metric], one, two, rows_of(labels, groups))
    assert 3 <= wrongly <= 27


def test_bootstrap_p_counts_the_smaller_tail_twice_and_is_never_zero() -> None:
    assert bootstrap_p(np.full(99, 0.1)) == pytest.approx(2 / 100)
    assert bootstrap_p(np.array([-1.0] * 10 + [1.0] * 89)) == pytest.approx(2 * 11 / 100)
    assert bootstrap_p(np.zeros(99)) == 1.0
