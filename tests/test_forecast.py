"""The forecast contains the scores as often as it says, and is as wide as theory asks."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.calibration import MALARIA, SMALL, print_line, simulate
from benchmarks.patients import TASK, World, draw_competition
from pipeline.core.errors import EnsembleError
from pipeline.ensemble.blend import Prediction
from pipeline.ensemble.config import ForecastConfig
from pipeline.ensemble.forecast.averaging import NO_GAIN, AveragingGain, Noise, estimate_gain
from pipeline.ensemble.forecast.build import OutOfFoldRows, build_forecast, split_rows
from pipeline.ensemble.forecast.groups import redraw_train, spread_by_design
from pipeline.ensemble.forecast.intervals import LEVELS, PredictedScores, forecast
from pipeline.scoring.card import CorrectRows, Drift, Forecast, Halves
from pipeline.scoring.metrics import METRICS, metric_named
from pipeline.scoring.scorers import mean_of

CONFIG = ForecastConfig(confidence=0.9, resamples=400, seed=1, public_share=0.5)
ACCURACY = METRICS["accuracy"]
CALIBRATED = Noise(1.0, np.empty((0, 2)), (0.0, 1.0))
OF_CLASSES = [name for name, each in METRICS.items() if "one_of" in each.tasks and not each.best]


def foresee(
    correct: Any, groups: Any, public: int = 500, private: int = 500, **choices: Any
) -> PredictedScores:
    """A forecast of accuracy without gain or drift."""
    config = {"resamples": 2000} | {k: v for k, v in choices.items() if hasattr(CONFIG, k)}
    usual: dict[str, Any] = {
        "scorer": mean_of(np.asarray(correct, dtype=float)), "gain": NO_GAIN, "weights": None,
        "bounds": (0.0, 1.0), "halves": Halves(public=public, private=private),
        "config": CONFIG.model_copy(update=config),
    }  # fmt: skip
    others = {k: v for k, v in choices.items() if k not in config}
    return forecast(groups=[str(g) for g in groups], **(usual | others))


def patients(count: int, rows: int, a: float, b: float, seed: int) -> tuple[Any, Any]:
    """Correct rows and groups of patients whose accuracies are drawn from a beta distribution."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(count), rows)
    return rng.random(len(groups)) < rng.beta(a, b, count)[groups], groups


def width(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


# Oracles


def test_of_independent_rows_the_interval_is_the_normal_one() -> None:
    """Rows without groups: the variance is p (1 - p) (1 / training rows + 1 / rows of the half)."""
    correct = np.arange(4000) % 10 != 0
    found = foresee(correct, range(4000), 400, 1600)
    for interval, sd, rows in (
        (found.public, found.sd[0], 400),
        (found.private, found.sd[1], 1600),
    ):
        expected = math.sqrt(0.9 * 0.1 * (1 / 4000 + 1 / rows))
        assert sd == pytest.approx(expected, rel=0.06)
        assert interval[0] == pytest.approx(0.9 - 1.645 * expected, abs=0.2 * expected)
        assert interval[1] == pytest.approx(0.9 + 1.645 * expected, abs=0.2 * expected)


def test_of_wholly_known_patients_the_interval_is_the_beta_binomials() -> None:
    """200 patients, 100 new ones of 20 rows each, all but one row public: beta-binomial counts."""
    correct, groups = patients(200, 20, 18, 2, seed=3)
    found = foresee(correct, groups, 1999, 1, resamples=4000)
    of_patient = stats.betabinom(20, 18, 2).std() / 20
    expected = of_patient * math.sqrt(1 / 200 + 1 / 100)
    assert found.sd[0] == pytest.approx(expected, rel=0.12)


def test_both_halves_share_the_patients_and_split_the_rows_at_random() -> None:
    """Private minus public has the hypergeometric variance; the rest is common to both."""
    correct, groups = patients(400, 20, 9, 1, seed=1)
    found = foresee(correct, groups, 1000, 1000, resamples=4000)
    p = correct.mean()
    assert found.shake_up == pytest.approx(math.sqrt(p * (1 - p) * 4 / 2000), rel=0.08)
    in_common = found.sd[0] * found.sd[1] * found.correlation
    assert found.sd[0] ** 2 == pytest.approx(in_common + found.shake_up**2 / 2, rel=0.1)


def test_a_prediction_interval_is_wider_than_the_means_confidence_interval() -> None:
    correct, groups = patients(160, 40, 40, 2, seed=1)
    found = foresee(correct, groups, 800, 800)
    rates = correct.reshape(160, 40).mean(axis=1)
    of_mean = 2 * 1.645 * rates.std(ddof=1) / math.sqrt(160)
    assert width(found.private) > 1.8 * of_mean


def test_of_few_patients_the_interval_is_as_wide_as_students() -> None:
    """8 normally distributed patients, 8 new ones: a plain bootstrap is 0.81 times as wide."""
    ratios = []
    for seed in range(20):
        rates = np.random.default_rng(seed).normal(0.8, 0.05, 8).clip(0, 1)
        correct = np.concatenate([np.arange(200) < round(200 * rate) for rate in rates])
        found = foresee(correct, np.arange(1600) // 200, 1599, 1, resamples=1000)
        sd = correct.reshape(8, 200).mean(axis=1).std(ddof=1)
        ratios.append(
            width(found.public) / (2 * stats.t.ppf(0.95, 7) * sd * math.sqrt(1 / 8 + 1 / 8))
        )
    assert min(ratios) > 0.92
    assert np.mean(ratios) < 1.25


def test_the_spread_to_expect_of_unequal_groups_is_the_design_effects() -> None:
    """Eldridge, Ashby and Kerry 2006: variance / m (1 + ((cv² + 1) m - 1) ICC), of mean size m."""
    rows = np.array([5.0, 5, 20, 20, 65, 65, 700, 700])
    between, within = 0.002, 0.03
    better = np.tile([1.0, -1.0], 4) * np.sqrt(between + within / rows)
    share, mean, total = rows / rows.mean(), rows.mean(), between + within
    found = float(spread_by_design(better, share, rows, total))
    effect = 1 + ((rows.var() / mean**2 + 1) * mean - 1) * between / total
    assert found**2 == pytest.approx(total / mean * effect)
    assert spread_by_design(better * 0.0, share, rows, total) ** 2 == pytest.approx(total / mean)
    of_two = spread_by_design(np.stack([better, better]), share, rows, total)
    assert of_two == pytest.approx([found, found])


def test_groups_of_one_size_are_stretched_as_by_bootstrap_t_alone() -> None:
    """The variance of the rows does not matter then: the sizes say nothing."""
    hits, groups = patients(30, 20, 9, 1, seed=1)
    for row_variance in (0.0, 0.09, 0.25):
        found = redraw_train(
            mean_of(hits.astype(float)), groups, np.ones(600), row_variance, 500,
            np.random.default_rng(1),
        )  # fmt: skip
        rates = hits.reshape(30, 20).mean(axis=1)
        drawn = rates[np.random.default_rng(1).integers(30, size=(500, 30))]
        np.testing.assert_allclose(found.off, drawn.mean(axis=1) - rates.mean(), atol=1e-12)
        expected = rates.std() / drawn.std(axis=1) * math.sqrt(30 / 29)
        np.testing.assert_allclose(found.stretch, expected, rtol=1e-9)


def test_where_patients_do_not_differ_their_unequal_sizes_do_not_count() -> None:
    """All variance is that of the rows: the interval of independent rows, within 20 per cent."""
    groups = np.repeat(np.arange(120), np.tile([10, 20, 40, 200], 30))
    ratios = []
    for seed in range(6):
        correct = np.random.default_rng(seed).random(len(groups)) < 0.9
        p = correct.mean()
        expected = math.sqrt(p * (1 - p) * (1 / len(groups) + 1 / 500))
        ratios.append(foresee(correct, groups, resamples=1000).sd[0] / expected)
    assert 0.95 < np.mean(ratios) < 1.2


def test_the_stretch_compensates_for_large_patients_who_happen_to_be_ordinary() -> None:
    """Three patients have 480 of 1,680 rows. Where all three are at the mean, the other thirty show
    that it is chance; where they differ as the others do, there is no stretch."""
    sizes = np.array([40] * 30 + [160] * 3)
    groups = np.repeat(np.arange(33), sizes)
    rates = np.tile([0.8, 0.9, 1.0], 11)
    stretches = []
    for large in ([0.9, 0.9, 0.9], [0.8, 0.9, 1.0]):
        hits = np.concatenate(
            [np.arange(n) < round(n * r) for r, n in zip([*rates[:30], *large], sizes, strict=True)]
        )
        generator = np.random.default_rng(1)
        found = redraw_train(
            mean_of(hits * 1.0), groups, np.ones(len(groups)), 0.09, 2000, generator
        )
        stretches.append(float(np.median(found.stretch)))
    assert stretches[0] > 1.15
    assert stretches[1] == pytest.approx(1.0, abs=0.1)


def test_each_redraw_is_divided_by_the_estimate_that_was_the_larger_one() -> None:
    """Where the design effect was larger: the stretch times it is the same for every redraw."""
    sizes = np.array([40.0] * 30 + [160] * 3)
    hits = sizes * [*np.tile([0.8, 0.9, 1.0], 10), 0.9, 0.9, 0.9]
    groups = np.repeat(np.arange(33), sizes.astype(int))
    correct = np.concatenate([np.arange(n) < h for n, h in zip(sizes, hits, strict=True)]) * 1.0
    found = redraw_train(
        mean_of(correct), groups, np.ones(len(groups)), 0.09, 500, np.random.default_rng(1)
    )
    drawn = np.random.default_rng(1).integers(33, size=(500, 33))
    without = (hits.sum() - hits) / (sizes.sum() - sizes)
    influence = 32 * (hits.sum() / sizes.sum() - without)
    influence -= influence.mean()
    share = sizes / sizes.mean()
    better = (influence / share)[drawn] - found.off[:, None]
    by_design = spread_by_design(better, share[drawn], sizes[drawn], 0.09)
    products = found.stretch * by_design
    np.testing.assert_allclose(products, products[0], rtol=1e-9)


def test_groups_of_unequal_size_draw_the_test_set_as_the_training_set_was() -> None:
    """Large patients are worse here: the expected score is by row, not by patient."""
    sizes = np.tile([10, 90], 60)
    groups = np.repeat(np.arange(120), sizes)
    correct = np.random.default_rng(1).random(len(groups)) < np.repeat(
        np.tile([1.0, 0.8], 60), sizes
    )
    found = foresee(correct, groups, 1000, 1000)
    assert found.quantiles[0][LEVELS.index(0.5)] == pytest.approx(correct.mean(), abs=0.01)
    assert found.mean == pytest.approx(correct.mean())


# Invariants


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.floats(0.5, 0.85), st.floats(0.01, 0.14), st.integers(5, 40))
def test_a_higher_confidence_holds_the_lower_ones_interval(
    seed: int, confidence: float, more: float, count: int
) -> None:
    correct, groups = patients(count, 10, 9, 1, seed)
    low = foresee(correct, groups, 60, 90, confidence=confidence, resamples=200)
    high = foresee(correct, groups, 60, 90, confidence=confidence + more, resamples=200)
    for inner, outer in ((low.public, high.public), (low.private, high.private)):
        assert outer[0] <= inner[0] <= inner[1] <= outer[1]
        assert outer[0] >= 0
        assert outer[1] <= 1
    assert low.mean == high.mean


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_fewer_training_groups_make_it_wider(seed: int) -> None:
    """The same 12 patients, or each of them eight times."""
    correct, groups = patients(12, 30, 6, 1, seed)
    few = foresee(correct, groups, resamples=800)
    many = foresee(
        np.tile(correct, 8), np.arange(8).repeat(360) * 100 + np.tile(groups, 8), resamples=800
    )
    assert width(few.public) > width(many.public)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(300, 700))
def test_a_half_is_less_certain_than_both_together(seed: int, public: int) -> None:
    correct, groups = patients(40, 25, 9, 1, seed)
    found = foresee(correct, groups, public, 1000 - public, resamples=600)
    assert width(found.public) >= 0.95 * width(found.test)
    assert width(found.private) >= 0.95 * width(found.test)


def test_rows_that_depend_on_each_other_make_it_wider() -> None:
    correct = np.repeat(np.arange(40) % 10 != 0, 50)
    apart = foresee(correct, range(2000))
    together = foresee(correct, np.arange(2000) // 50)
    assert width(together.private) > 4 * width(apart.private)


def test_the_gain_shifts_the_mean_and_its_spread_widens() -> None:
    correct, groups = patients(100, 20, 9, 1, seed=1)
    plain = foresee(correct, groups)
    better = foresee(correct, groups, gain=AveragingGain(0.02, 0.0, 0.1))
    unsure = foresee(correct, groups, gain=AveragingGain(0.02, 0.02, 0.1))
    assert better.mean == pytest.approx(plain.mean + 0.02)
    assert better.public[0] == pytest.approx(plain.public[0] + 0.02, abs=1e-9)
    assert width(unsure.public) > 1.1 * width(better.public)


def test_weighted_groups_are_drawn_as_often_as_they_weigh() -> None:
    """Half the patients are twice as bad: where test is like them, so is the expected score."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(200), 20)
    bad = groups % 2 == 0
    correct = rng.random(4000) < np.where(bad, 0.8, 0.9)
    alike = foresee(correct, groups)
    theirs = foresee(correct, groups, weights=np.where(bad, 1.9, 0.1))
    assert alike.mean == pytest.approx(0.85, abs=0.02)
    assert theirs.mean == pytest.approx(0.95 * 0.8 + 0.05 * 0.9, abs=0.02)
    assert theirs.quantiles[1][LEVELS.index(0.5)] == pytest.approx(theirs.mean, abs=0.01)


def test_the_seed_alone_decides_the_bytes_and_the_order_of_the_rows_nothing_else() -> None:
    correct, groups = patients(30, 20, 9, 1, seed=1)
    first, again, other = (foresee(correct, groups, seed=seed) for seed in (1, 1, 2))
    assert first.quantiles.tobytes() == again.quantiles.tobytes()
    assert (first.public, first.private) == (again.public, again.private)
    assert first.public != other.public
    order = np.random.default_rng(1).permutation(len(groups))
    moved = foresee(correct[order], groups[order])
    assert moved.sd[0] == pytest.approx(first.sd[0], rel=0.08)
    assert moved.score == pytest.approx(first.score)


# Errors


def test_what_cannot_be_forecast_is_refused() -> None:
    correct, groups = patients(4, 5, 9, 1, seed=1)
    rare = METRICS["roc_auc"].scorer(np.full((20, 2), 0.5), groups, (groups == 0).astype(int))
    first, second = (predictions([np.full((n, 2), 0.5)])[0] for n in (4, 5))
    refused: list[tuple[str, Callable[[], object]]] = [
        ("expected two groups or more, found 1 over 20 rows", lambda: foresee(correct, [0] * 20)),
        ("expected two test rows or more, found 1", lambda: split_rows(1, 0.5)),
        (r"of 200 drawn competitions of 4 groups have a half without", lambda: foresee(correct, groups, 5, 5, scorer=rare, resamples=200)),
        (r"test predictions of one shape, found \[\(4, 2\), \(5, 2\)\]", lambda: estimate_gain(TASK, ACCURACY, first, [first, second], CALIBRATED, 1)),
    ]  # fmt: skip
    for message, call in refused:
        with pytest.raises(EnsembleError, match=message):
            call()


def test_where_everything_is_right_nothing_fails() -> None:
    found = foresee(np.ones(60), np.arange(60) // 10, 5, 5)
    assert found.public == (1.0, 1.0)
    assert found.correlation == 0.0


# The gain


def predictions(tables: Any) -> tuple[Prediction, list[Prediction]]:
    """The mean of the tables, and each."""
    mean = np.mean(tables, axis=0)
    return Prediction(mean, mean.argmax(1)), [Prediction(t, t.argmax(1)) for t in tables]


def test_folds_that_agree_gain_nothing() -> None:
    chances = np.random.default_rng(1).random(300)
    table = np.stack([1 - chances, chances], axis=1)
    mean, folds = predictions([table] * 5)
    assert estimate_gain(TASK, ACCURACY, mean, folds, CALIBRATED, 1) == NO_GAIN
    assert estimate_gain(TASK, METRICS["f1"], mean, folds, CALIBRATED, 1).mean == pytest.approx(
        0, abs=1e-12
    )
    assert estimate_gain(TASK, ACCURACY, mean, folds[:1], CALIBRATED, 1) == NO_GAIN


def test_the_gain_is_the_disagreement_times_how_sure_the_mean_is() -> None:
    """The closed form: the mean of 2 p - 1 where a fold's class is not the mean's, else 0."""
    rng = np.random.default_rng(1)
    logits = rng.normal(1, 1, 20_000) + rng.normal(0, 0.7, (3, 20_000))
    tables = [np.stack([1 / (1 + np.exp(z)), 1 / (1 + np.exp(-z))], axis=1) for z in logits]
    mean, folds = predictions(tables)
    sure = 2 * mean.values.max(axis=1) - 1
    differ = np.array([fold.decided != mean.decided for fold in folds])
    found = estimate_gain(TASK, ACCURACY, mean, folds, CALIBRATED, 1)
    assert found.mean == pytest.approx((differ * sure).mean(), rel=1e-9)
    assert found.disagreement == pytest.approx(differ.mean())
    assert found.spread == found.mean


def test_drawn_labels_give_the_same_gain() -> None:
    """Balanced accuracy on balanced classes is accuracy: drawn labels against the exact gain."""
    mean, folds = predictions(
        draw_competition(replace(MALARIA, sizes=(60,), of_row=0.8), 1).test_by_fold
    )
    exact = estimate_gain(TASK, ACCURACY, mean, folds, CALIBRATED, 1)
    drawn = estimate_gain(TASK, METRICS["balanced_accuracy"], mean, folds, CALIBRATED, 1)
    assert drawn.mean == pytest.approx(exact.mean, rel=0.1)


def test_the_gain_found_is_a_part_of_the_true_one() -> None:
    """Over 40 competitions: never the wrong sign, and between a third and all of the true gain."""
    world = replace(MALARIA, sizes=SMALL, of_row=0.6)
    pairs = []
    for seed in range(40):
        drawn = draw_competition(world, seed)
        mean, folds = predictions(drawn.test_by_fold)
        pairs.append(
            (estimate_gain(TASK, ACCURACY, mean, folds, CALIBRATED, 1).mean, drawn.gain(ACCURACY))
        )
    found, true = np.mean(pairs, axis=0)
    assert 1 / 3 < found / true < 1
    assert min(pair[0] for pair in pairs) > 0


# The card


def scored(seed: int = 1) -> tuple[OutOfFoldRows, Prediction, list[Prediction]]:
    drawn = draw_competition(replace(MALARIA, train=24, test=8, sizes=(20, 30)), seed)
    ids = [f"train_{row:04}" for row in range(len(drawn.labels))]
    oof = Prediction(drawn.probabilities, drawn.probabilities.argmax(1))
    rows = OutOfFoldRows(TASK, ids, oof, drawn.labels, drawn.groups)
    return rows, *predictions(drawn.test_by_fold)


def drift(p: float, weights: dict[str, float]) -> tuple[Drift, dict[str, float]]:
    found = Drift(
        auc=0.8, band=(0.4, 0.6), p=p, splits=39, strongest=["width", "height"], weighted=p <= 0.05
    )
    return found, weights


@pytest.mark.parametrize("name", [*OF_CLASSES, "top_1_error", "map_at_2"])
def test_every_metric_has_a_forecast(name: str) -> None:
    found = build_forecast(metric_named(name), *scored(), None, CONFIG)
    for low, high in (found.public, found.private):
        assert low < found.mean < high
    for quantiles in (found.quantiles.public, found.quantiles.private):
        assert quantiles == sorted(quantiles)
    assert Forecast.model_validate_json(found.model_dump_json()) == found


def test_the_forecast_states_its_assumptions() -> None:
    oof, test, folds = scored()
    found = build_forecast(ACCURACY, oof, test, folds, drift(0.4, {}), CONFIG)
    text = "\n".join(found.assumptions)
    assert "drawn like the 24 training groups: about" in text
    assert f"public are {found.rows.public} of the {len(test.decided)} test rows" in text
    assert "averaging 5 folds shifts the score by +0.0" in text
    assert "of one kind: AUC 0.800, among training groups 0.400 to 0.600 (p 0.40)" in text
    assert found.drift is not None
    assert not found.drift.weighted
    one = build_forecast(ACCURACY, oof, folds[0], folds[:1], None, CONFIG)
    assert "one fold's models predict test" in one.assumptions[2]
    assert one.assumptions[3] == "train and test are of one kind: not measured"


def test_only_material_drift_weighs_the_training_groups() -> None:
    oof, test, folds = scored()
    correct, groups = oof.prediction.decided == oof.labels, np.array(oof.groups)
    rates = {group: correct[groups == group].mean() for group in oof.groups}
    median = np.median(list(rates.values()))
    worst = {group: 5.0 if rate < median else 0.2 for group, rate in rates.items()}
    plain = build_forecast(ACCURACY, oof, test, folds, drift(0.2, worst), CONFIG)
    weighted = build_forecast(ACCURACY, oof, test, folds, drift(0.01, worst), CONFIG)
    assert weighted.mean < plain.mean - 0.005
    assert plain.mean == build_forecast(ACCURACY, oof, test, folds, None, CONFIG).mean
    assert "train and test differ (AUC 0.800" in weighted.assumptions[3]


def test_packed_rows_come_back_by_id_and_only_for_their_images() -> None:
    rng = np.random.default_rng(1)
    ids = [f"i{n}" for n in rng.permutation(1001)]
    correct = rng.random(1001) < 0.9
    packed = CorrectRows.pack(ids, correct)
    back = packed.unpack(ids[::-1])
    assert back is not None
    assert dict(zip(sorted(ids), back.tolist(), strict=True)) == dict(
        zip(ids, correct.tolist(), strict=True)
    )
    assert packed.unpack(ids[1:]) is None


@pytest.mark.parametrize(
    ("rows", "share", "expected"),
    [(10, 0.5, (5, 5)), (5495, 0.5, (2748, 2747)), (3, 0.01, (1, 2)), (3, 0.99, (2, 1)), (800, 0.3, (240, 560))],
)  # fmt: skip
def test_the_halves_are_never_empty(rows: int, share: float, expected: tuple[int, int]) -> None:
    halves = split_rows(rows, share)
    assert (halves.public, halves.private) == expected


# Calibration

COMPETITIONS = 200
LEAST, MOST = (
    int(stats.binom.ppf(0.001, COMPETITIONS, 0.85)),
    int(stats.binom.ppf(0.999, COMPETITIONS, 0.95)),
)
"""How often intervals that contain 85 to 95 % of the scores do so, in 998 of 1,000: 153 to 198."""


@pytest.mark.unchecked
@pytest.mark.parametrize(
    "world",
    [
        World(train=40, test=12, sizes=(8, 10, 12, 20, 45), spread=0.45),
        World(train=40, test=12, sizes=(8, 10, 12, 20, 45), spread=1.2, ease=3.2),
        pytest.param(World(train=12, test=6, sizes=(20, 30), spread=0.45), marks=pytest.mark.slow),
        pytest.param(
            World(train=200, test=100, sizes=(1, 2), spread=0.45, of_row=0.6),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["patients", "patients differ much", "12 patients", "hardly any groups"],
)
def test_the_interval_holds_the_private_score_as_often_as_it_says(world: World) -> None:
    """A small version of docs/FORECAST.md: python -m benchmarks.calibration."""
    trials = [simulate(world, "accuracy", 200, seed) for seed in range(COMPETITIONS)]
    assert LEAST <= sum(trial.private for trial in trials) <= MOST
    assert LEAST <= sum(trial.public for trial in trials) <= MOST
    assert LEAST <= sum(trial.updated for trial in trials) <= COMPETITIONS


def test_the_calibration_prints_a_line_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    trials = [simulate(World(12, 6, (5,), 0.4), "accuracy", 200, seed) for seed in range(2)]
    share = print_line("a setting", trials)
    line = capsys.readouterr().out
    assert line.startswith(f"| a setting | {share:.1%} |")
    assert line.count("|") == 10
