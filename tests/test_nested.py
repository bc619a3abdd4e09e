"""No blend has seen the labels of the rows that it is scored on, and the estimate is not too good."""

from dataclasses import replace

import numpy as np
import pytest
from blending import UNEVEN, Drawn, accuracy_of, draw, recipe, rows_of
from numpy import ndarray

from pipeline.core.errors import EnsembleError
from pipeline.ensemble.blend import Prediction, fit
from pipeline.ensemble.bootstrap import ScoredRows
from pipeline.ensemble.config import KINDS, Kind
from pipeline.ensemble.diversity import compare_pairs, leave_each_out
from pipeline.ensemble.nested import Judgement, choose, judge, predict_nested
from pipeline.ensemble.saved import describe_fitted
from pipeline.scoring.card import Pair
from pipeline.scoring.metrics import METRICS

FITTED = [("mean", "f1"), ("single", "accuracy"), ("rank_mean", "roc_auc"), ("weighted", "accuracy"),
          ("greedy", "accuracy"), ("greedy", "f1"), ("stack", "accuracy")]  # fmt: skip
"""Each blend with a metric that a threshold changes, but for ranks."""


def permuted(drawn: Drawn, fold: int) -> Drawn:
    """The same predictions, with other labels in one fold."""
    labels = drawn.labels.copy()
    scored = drawn.folds == fold
    labels[scored] = np.roll(labels[scored], 3)
    assert (labels != drawn.labels).any()
    return Drawn(drawn.members, labels, drawn.groups)


def judged(drawn: Drawn, kinds: list[Kind], metric: str = "accuracy") -> Judgement:
    recipes = [recipe(kind, metric) for kind in kinds]
    return judge(recipes, drawn.members, drawn.rows)


def all_kinds(metric: str) -> list[Kind]:
    return [kind for kind in KINDS if kind != "rank_mean" or metric == "roc_auc"]


@pytest.mark.parametrize(("kind", "metric"), FITTED)
@pytest.mark.parametrize("fold", [0, 3])
def test_the_labels_of_a_fold_change_nothing_that_is_applied_to_it(
    kind: Kind, metric: str, fold: int
) -> None:
    threshold = "none" if metric == "roc_auc" else "fitted"
    chosen = recipe(kind, metric, calibration="temperature", threshold=threshold)
    drawn = draw(1, UNEVEN)
    before, after = (
        predict_nested(chosen, drawn.members, each.rows) for each in (drawn, permuted(drawn, fold))
    )
    scored = drawn.folds == fold
    np.testing.assert_array_equal(before.values[scored], after.values[scored])
    np.testing.assert_array_equal(before.decided[scored], after.decided[scored])
    if kind != "single":  # the same model may be the best either way
        assert (before.values[~scored] != after.values[~scored]).any()


@pytest.mark.unchecked
@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
@pytest.mark.parametrize("fold", range(5))
def test_the_labels_of_a_fold_have_no_say_in_the_blend_chosen_for_it(
    fold: int, metric: str
) -> None:
    drawn = draw(3, UNEVEN, groups=20)
    before = judged(drawn, all_kinds(metric), metric)
    after = judged(permuted(drawn, fold), all_kinds(metric), metric)
    scored = drawn.folds == fold
    assert before.chosen_without[fold] == after.chosen_without[fold]
    np.testing.assert_array_equal(before.nested.values[scored], after.nested.values[scored])


def test_a_model_that_knows_one_folds_answers_wins_nothing_there() -> None:
    """Fitted on all rows, it gets weight for the fold that it has learned."""
    drawn = draw(1, [(0.7, 0.5)])
    scored = drawn.folds == 0
    cheat = np.full_like(drawn.members[0], 0.5)
    cheat[scored] = np.eye(2)[drawn.labels[scored]] * 0.98 + 0.01
    members = np.stack([drawn.members[0], cheat])
    nested = predict_nested(recipe("weighted"), members, drawn.rows)
    seen = fit(recipe("weighted"), members, drawn.labels).apply(members)
    alone, of_nested, of_seen = (
        float((predicted == drawn.labels)[scored].mean())
        for predicted in (drawn.members[0].argmax(1), nested.decided, seen.decided)
    )
    assert of_nested == alone
    assert of_seen > alone + 0.1


def mean_over_draws(kinds: list[Kind], draws: int, **changes: object) -> dict[str, float]:
    """Mean accuracies of blends of pure noise: nested, and on the rows that they were fitted on."""
    nested, seen = [], []
    for seed in range(draws):
        drawn = draw(seed, [(0.0, 1.0)] * 6, groups=30)
        recipes = [recipe(kind, "accuracy", **changes) for kind in kinds]
        found = judge(recipes, drawn.members, drawn.rows)
        nested.append(accuracy_of(found.nested, drawn.labels))
        in_sample = [
            fit(each, drawn.members, drawn.labels).apply(drawn.members) for each in recipes
        ]
        seen.append(max(accuracy_of(each, drawn.labels) for each in in_sample))
    return {"nested": float(np.mean(nested)), "seen": float(np.mean(seen))}


@pytest.mark.unchecked
@pytest.mark.parametrize("kind", ["single", "greedy", "stack"])
def test_noise_is_worth_chance_however_well_it_is_fitted(kind: Kind) -> None:
    """20 draws of 300 rows: the nested mean's standard error is below 0.01."""
    found = mean_over_draws([kind], 20, threshold="fitted")
    assert found["nested"] == pytest.approx(0.5, abs=0.025)
    assert found["seen"] > 0.55


def truth_gaps(skills: list[tuple[float, float]], draws: int) -> dict[str, float]:
    """How far each figure is above the truth, the score on 20,000 new rows, on average."""
    gaps: dict[str, list[float]] = {"unnested": [], "nested": [], "nested choice": []}
    for seed in range(draws):
        drawn, fresh = draw(seed, skills), draw(10_000 + seed, skills, groups=200, rows_a_group=100)
        found = judged(drawn, ["mean", "single", "weighted", "stack"])
        truth = accuracy_of(found.fitted.apply(fresh.members), fresh.labels)
        seen = [
            fit(recipe(k), drawn.members, drawn.labels).apply(drawn.members)
            for k in found.candidates
        ]
        figures = {
            "unnested": max(accuracy_of(each, drawn.labels) for each in seen),
            "nested": accuracy_of(found.candidates[found.recipe.kind], drawn.labels),
            "nested choice": accuracy_of(found.nested, drawn.labels),
        }  # fmt: skip
        for name, figure in figures.items():
            gaps[name].append(figure - truth)
    return {name: float(np.mean(values)) for name, values in gaps.items()}


@pytest.mark.unchecked
@pytest.mark.slow
@pytest.mark.parametrize(
    "skills", [[*UNEVEN, (0.1, 3.0)], [(0.0, 1.0)] * 8], ids=["uneven", "noise"]
)
def test_only_the_nested_choice_is_not_too_good(skills: list[tuple[float, float]]) -> None:
    """The figures of pipeline/ensemble/nested.py: 60 simulated competitions of 400 rows."""
    gaps = truth_gaps(skills, 60)
    print(gaps)
    assert gaps["unnested"] > 0.02
    assert gaps["nested choice"] < gaps["nested"] < gaps["unnested"]
    assert -0.01 < gaps["nested choice"] < 0.006  # standard error 0.003


def candidates(
    correct: dict[str, int], rows: int = 1000
) -> tuple[dict[Kind, Prediction], ScoredRows]:
    """Predictions of rows with the label 0, of which so many, from the first on, are right."""
    found = {}
    for kind, count in correct.items():
        predicted = (np.arange(rows) >= count).astype(int)
        found[kind] = Prediction(np.eye(2)[predicted], predicted)
    return found, rows_of(np.zeros(rows, int), resamples=100)


@pytest.mark.parametrize(
    ("correct", "chosen"),
    [
        ({"mean": 900, "weighted": 903, "stack": 904}, "mean"),  # 4 of 4: p = 0.125
        ({"mean": 900, "weighted": 903, "stack": 906}, "weighted"),  # 6 of 6: p = 0.031
        ({"mean": 800, "weighted": 850, "stack": 900}, "stack"),
        ({"mean": 900, "weighted": 900, "stack": 900}, "mean"),
        ({"mean": 900, "weighted": 800, "stack": 700}, "mean"),
    ],
)
def test_the_simplest_blend_that_is_not_significantly_worse_is_taken(
    correct: dict[str, int], chosen: str
) -> None:
    predictions, rows = candidates(correct)
    best = max(correct, key=lambda kind: correct[kind])
    assert choose(predictions, METRICS["accuracy"], rows) == (chosen, best)


@pytest.mark.unchecked
def test_the_choice_inside_a_fold_is_what_a_judge_without_that_fold_chooses() -> None:
    drawn = draw(7, UNEVEN, groups=30)
    kinds = all_kinds("accuracy")
    found = judged(drawn, kinds)
    for fold in range(5):
        others = drawn.folds != fold
        apart = Drawn(drawn.members[:, others], drawn.labels[others], drawn.groups[others])
        assert found.chosen_without[fold] == judged(apart, kinds).recipe.kind
        expected = fit(recipe(found.chosen_without[fold]), apart.members, apart.labels)
        np.testing.assert_allclose(
            found.nested.values[~others],
            expected.apply(drawn.members[:, ~others]).values,
            rtol=1e-9,
        )


def test_the_mean_needs_no_second_fold_and_nesting_leaves_it_alone() -> None:
    drawn = draw(1, UNEVEN)
    for rows in (drawn.rows, rows_of(drawn.labels)):
        found = judge([recipe("mean")], drawn.members, rows)
        np.testing.assert_array_equal(found.nested.values, found.fitted.apply(drawn.members).values)  # fmt: skip
        assert found.nested.values == pytest.approx(drawn.members.mean(axis=0), abs=1e-12)


@pytest.mark.parametrize(
    ("kinds", "folds", "message"),
    [
        (["greedy"], 1, "ensemble: blend greedy, calibration none and threshold none are fitted on some folds and judged on another: expected two trained folds or more, found 1. Train more (train.folds), or set mean, none and none"),
        (["mean", "stack"], 2, "ensemble.blend: auto chooses for each fold from the others, each judged by its others: expected three trained folds or more, found 2. Train more (train.folds), or name a blend"),
    ],
)  # fmt: skip
def test_fitting_needs_two_folds_and_choosing_three(
    kinds: list[Kind], folds: int, message: str
) -> None:
    drawn = draw(1, UNEVEN)
    rows = replace(drawn.rows, folds=drawn.folds % folds)
    with pytest.raises(EnsembleError) as caught:
        judge([recipe(kind) for kind in kinds], drawn.members, rows)
    assert str(caught.value) == f"params.yaml: {message}"


def test_judging_twice_gives_the_same_bits() -> None:
    drawn = draw(1, UNEVEN)
    one, two = (judged(drawn, all_kinds("accuracy")) for _ in range(2))
    np.testing.assert_array_equal(one.nested.values, two.nested.values)
    assert describe_fitted(one.fitted) == describe_fitted(two.fitted)


def certain(predicted: list[int]) -> ndarray:
    return np.eye(2)[predicted]


def test_pairs_are_compared_as_by_hand() -> None:
    labels = np.array([0, 0, 1, 1])
    members = np.stack([certain([0, 0, 1, 1]), certain([0, 1, 1, 0]), certain([1, 1, 1, 1])])
    assert compare_pairs(["one", "two", "three"], members, rows_of(labels)) == [
        Pair(models=("one", "two"), disagreement=0.5, error_correlation=None, both_wrong=0.0),
        Pair(models=("one", "three"), disagreement=0.5, error_correlation=None, both_wrong=0.0),
        Pair(models=("two", "three"), disagreement=0.5, error_correlation=0.0, both_wrong=0.25),
    ]


def test_a_copy_adds_nothing_and_another_view_adds_something() -> None:
    drawn = draw(1, [(0.9, 1.0), (0.9, 1.0)], groups=80, rows_a_group=25)
    members = np.stack([drawn.members[0], drawn.members[0], drawn.members[1]])
    found = leave_each_out(
        ["one", "copy", "other"], recipe("weighted", "log_loss"), members, drawn.rows
    )
    adds = {each.model: each.adds for each in found}
    assert abs(adds["copy"]) < 1e-5
    assert adds["other"] > 0.01
    assert found[2].score_without > found[0].score_without
