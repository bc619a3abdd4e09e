"""Another population is found by what the networks say of test, and the interval then holds it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cards import make_card
from scipy import stats

from benchmarks.calibration import MALARIA, configure, most_probable
from benchmarks.patients import TASK, draw_competition
from benchmarks.shift import DAMAGES, draw_trial, print_line
from pipeline.core.task import AnyOf, Number, OneOf, Task
from pipeline.ensemble import calibrate
from pipeline.ensemble.blend import Prediction
from pipeline.ensemble.config import ForecastConfig
from pipeline.ensemble.forecast import shift as asking
from pipeline.ensemble.forecast.averaging import Noise
from pipeline.ensemble.forecast.build import OutOfFoldRows, build_forecast
from pipeline.ensemble.forecast.fall import _FACTOR, _STEPS, Fall, _Flattened
from pipeline.ensemble.forecast.shift import measure_shift
from pipeline.ledger.explain import explain_score
from pipeline.scoring.card import Card, Drift, Forecast, Rise, Shift
from pipeline.scoring.metrics import METRICS, metric_named

WORLD = replace(MALARIA, train=40, test=12, sizes=(8, 10, 12, 20, 45))
HARDER = replace(WORLD, ease=1.3)
"""The same networks are less sure, and more often wrong."""
CONFIG = ForecastConfig(confidence=0.9, resamples=200, seed=1, public_share=0.5)


def drawn(seed: int, test: Any = WORLD) -> tuple[OutOfFoldRows, list[Prediction], Any]:
    """The known rows of a competition, each fold's predictions of test, and its labels."""
    known, new = draw_competition(WORLD, seed), draw_competition(test, seed + 1000)
    ids = [f"{row:05}" for row in range(len(known.labels))]
    rows = OutOfFoldRows(TASK, ids, most_probable(known.probabilities), known.labels, known.groups)
    return rows, [most_probable(table) for table in new.test_by_fold], new.test_labels


def averaged(folds: list[Prediction]) -> Prediction:
    return most_probable(np.mean([fold.values for fold in folds], axis=0))


def foresee(seed: int, test: Any = WORLD, metric: str = "accuracy") -> tuple[Forecast, float]:
    """The forecast, and the score of all test rows."""
    rows, folds, labels = drawn(seed, test)
    mean, config = averaged(folds), configure(200, seed, 0.5)
    found = build_forecast(metric_named(metric), rows, mean, folds, None, config)
    return found, metric_named(metric).score(mean.values, mean.decided, labels)


def ask(
    task: Task, values: Any, labels: Any, tests: list[Any], groups: int = 40, seed: int = 1
) -> Shift | None:
    """Equal groups, one after the other."""
    oof, *folds = (Prediction(each, task.decide(each, None)) for each in (values, *tests))
    names = [f"{row * groups // len(labels):03}" for row in range(len(labels))]
    noise = Noise.measure(task, oof.values, labels)
    return measure_shift(task, oof, labels, names, folds, noise, seed)


def flagged(found: Shift | None) -> bool:
    assert found is not None
    return found.is_other


@pytest.mark.unchecked
def test_a_harder_population_is_flagged_and_the_interval_then_holds_its_score() -> None:
    held = []
    for seed in range(20):
        found, score = foresee(seed, HARDER)
        assert flagged(found.shift)
        assert found.shift is not None
        assert found.shift.rises["confidence"].by > found.shift.rises["confidence"].band[1]
        held.append(found.private[0] <= score <= found.private[1])
    assert sum(held) >= 17
    rows, folds, labels = drawn(1, HARDER)
    config = configure(200, 1, 0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking, "_MATERIAL", 0.001)
        unasked = build_forecast(METRICS["accuracy"], rows, averaged(folds), folds, None, config)
    assert unasked.private[0] > (averaged(folds).decided == labels).mean()


@pytest.mark.unchecked
def test_without_a_shift_the_alarm_is_silent_and_the_intervals_keep_their_width(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds = range(40)
    found = [foresee(seed)[0] for seed in seeds]
    alarms = sum(flagged(each.shift) for each in found)
    assert alarms <= stats.binom.ppf(0.999, len(seeds), 0.01)
    monkeypatch.setattr(asking, "_MATERIAL", 0.001)
    unasked = [
        foresee(seed)[0] if flagged(each.shift) else each
        for seed, each in zip(seeds, found, strict=True)
    ]
    widths = [
        np.mean([each.private[1] - each.private[0] for each in some]) for some in (found, unasked)
    ]
    assert widths[0] <= 1.1 * widths[1]


def test_networks_that_surely_decide_one_class_are_flagged_by_it() -> None:
    """Confidence alone would take such a test set for an easy one."""
    rows, folds, _ = drawn(1)
    sure = most_probable(np.tile([0.999, 0.001], (len(folds[0].values), 1)))
    found = build_forecast(METRICS["accuracy"], rows, sure, [sure] * 2, None, CONFIG)
    assert found.shift is not None
    assert found.shift.rises["confidence"].by < 0
    assert found.shift.rises["decided labels"].by == pytest.approx(0.5, abs=0.05)
    assert found.shift.is_other
    assert found.private[0] < 0.6


def test_folds_that_disagree_more_than_they_can_be_right_are_flagged() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(2, size=400)
    oof = np.where(labels[:, None] == np.arange(2), 0.97, 0.03)
    tests = [oof[rng.permutation(400)] for _ in range(2)]  # alike, but of each row they differ
    found = ask(TASK, oof, labels, tests)
    assert found is not None
    assert found.rises["disagreement"].by == pytest.approx(0.25, abs=0.05)
    assert abs(found.rises["confidence"].by) < 1e-9
    assert found.is_other


@pytest.mark.unchecked
def test_what_weighted_groups_show_of_a_fall_is_not_counted_twice() -> None:
    """A fifth of the known patients are as hard as all of test, and drift weighs them."""
    found_by_drift = Drift(
        auc=0.9, band=(0.4, 0.6), p=0.01, splits=99, strongest=["mean of channel 0"], weighted=True
    )
    metric, off, held, falls = METRICS["accuracy"], [], [], []
    for seed in range(10):
        rows = drawn(seed)[0]
        hard = draw_competition(replace(HARDER, train=10, test=40), seed + 1000)
        both = OutOfFoldRows(
            TASK,
            [f"{row:05}" for row in range(len(rows.groups) + len(hard.groups))],
            most_probable(np.concatenate([rows.prediction.values, hard.probabilities])),
            np.concatenate([rows.labels, hard.labels]),
            [*rows.groups, *(f"hard {group}" for group in hard.groups)],
        )
        weight_of = {group: 4.6 if group.startswith("hard") else 0.1 for group in both.groups}
        tests = [most_probable(table) for table in hard.test_by_fold]
        mean, config = averaged(tests), configure(200, seed, 0.5)
        found = build_forecast(metric, both, mean, tests, (found_by_drift, weight_of), config)
        assert flagged(found.shift)
        assert found.shift is not None
        assert found.shift.falls is not None
        score = metric.score(mean.values, mean.decided, hard.test_labels)
        off.append(found.mean - score)
        falls.append(found.shift.falls[0])
        held.append(found.private[0] <= score <= found.private[1])
    assert np.mean(falls) < -0.04
    assert abs(np.mean(off)) < 0.5 * abs(np.mean(falls))
    assert sum(held) >= 8


@pytest.mark.parametrize("worse", [-1, 1])
def test_of_two_estimates_of_one_change_the_worse_counts(worse: int) -> None:
    fall = Fall(worse * np.linspace(0, 0.4, len(_STEPS)))
    for counted, change, left in (
        (0.01, 0.03, 0.02),  # the networks say more than the weights
        (0.03, 0.01, 0.0),
        (-0.02, 0.03, 0.05),  # by the weights test is easier
    ):
        found = fall.beyond(worse * counted, worse * change)
        assert found == pytest.approx(worse * left)


@pytest.mark.parametrize("folds", [1, 2, 5])
def test_any_number_of_folds_is_asked(folds: int) -> None:
    rows, tests, _ = drawn(3, HARDER)
    found = build_forecast(
        METRICS["accuracy"], rows, averaged(tests[:folds]), tests[:folds], None, CONFIG
    )
    assert found.shift is not None
    assert ("disagreement" in found.shift.rises) == (folds > 1)
    assert found.shift.is_other


def test_fewer_than_six_groups_are_not_compared() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(2, size=60)
    values = np.where(labels[:, None] == np.arange(2), 0.9, 0.1)
    assert ask(TASK, values, labels, [values], groups=5) is None
    assert ask(TASK, values, labels, [values], groups=6) is not None
    rows, folds, _ = drawn(1)
    five = replace(rows, groups=[str(row % 5) for row in range(len(rows.groups))])
    found = build_forecast(METRICS["accuracy"], five, averaged(folds), folds, None, CONFIG)
    assert found.shift is None
    assert found.assumptions[-1].startswith("The networks were not asked")


def test_the_bands_of_few_groups_are_students() -> None:
    equal = asking._few_groups(np.repeat(np.arange(10), 7))
    assert equal == pytest.approx(stats.t.ppf(0.99, 9) / stats.norm.ppf(0.99))
    assert asking._few_groups(np.repeat(np.arange(10), [1] * 9 + [20])) > equal
    assert asking._few_groups(np.arange(5000)) == pytest.approx(1, abs=0.001)


NUMBER = Number(names=["age", "weight"])


def numbers(rows: int, seed: int) -> tuple[Any, Any]:
    """Predictions and labels; groups of ten rows differ a little."""
    rng = np.random.default_rng(seed)
    labels = rng.normal(50, 10, (rows, 2)) + np.repeat(rng.normal(0, 1, (rows // 10, 2)), 10, 0)
    return labels + rng.normal(0, 3, labels.shape), labels


def test_numbers_are_asked_by_their_mean_and_by_the_folds() -> None:
    values, labels = numbers(400, 1)
    other = numbers(200, 2)[0]
    same = ask(NUMBER, values, labels, [other, other + 0.5])
    higher = ask(NUMBER, values, labels, [other + 15, other + 15.5])
    apart = ask(NUMBER, values, labels, [other - 12, other + 12])
    assert not flagged(same)
    assert flagged(higher)
    assert flagged(apart)
    assert same is not None
    assert set(same.rises) == {"decided labels", "disagreement"}


def test_the_forecast_of_numbers_gets_longer() -> None:
    values, labels = numbers(400, 1)
    oof, other = Prediction(values, values), numbers(200, 2)[0]
    rows = OutOfFoldRows(
        NUMBER,
        [str(row) for row in range(400)],
        oof,
        labels,
        [str(row // 10) for row in range(400)],
    )
    found = []
    for by in (0.0, 15.0):
        test = Prediction(other + by, other + by)
        found.append(build_forecast(METRICS["rmse"], rows, test, [test, test], None, CONFIG))
    same, higher = found
    assert same.shift is not None
    assert same.shift.falls is None
    assert higher.private[1] > 1.5 * same.private[1]
    assert higher.mean > same.mean


def test_several_labels_are_asked_each() -> None:
    task, rng = AnyOf(classes=["a", "b", "c"]), np.random.default_rng(1)
    labels = rng.random((400, 3)) < 0.4
    noise = rng.normal(0, 1, labels.shape)
    values = 1 / (1 + np.exp(-(np.where(labels, 3.0, -3.0) + noise)))
    unsure = 0.5 + (values - 0.5) * 0.4
    again = values[rng.permutation(400)]
    assert not flagged(ask(task, values, labels, [again]))
    assert flagged(ask(task, values, labels, [unsure[:200], unsure[:200]]))


def test_of_many_labels_the_threshold_finds_the_rise_of_their_error() -> None:
    """Rows in which some label is unsure are many more than wrong labels."""
    rng, task = np.random.default_rng(1), AnyOf(classes=[f"label {place}" for place in range(20)])
    logits = rng.normal(np.linspace(-3.5, -1.5, 20), 3.0, (3000, 20))
    values = 1 / (1 + np.exp(-logits))
    harder = 1 / (1 + np.exp(-0.7 * logits[:1000]))
    error = float(np.minimum(values, 1 - values).mean())
    rise = float(np.minimum(harder, 1 - harder).mean()) - error
    found = ask(task, values, rng.random(values.shape) < values, [harder])
    assert found is not None
    assert found.rises["threshold"].by == pytest.approx(rise, abs=0.015)


def test_a_number_that_is_always_the_same_and_one_that_is_hard_are_no_large_error() -> None:
    values, labels = numbers(400, 1)
    labels[:, 0], values[:, 0] = 5.0, values[:, 0] / 10  # one value; its network is far off
    values[:, 1] = 50 + (values[:, 1] - 50) / 10  # hardly more than the mean is known
    shifted = values[:200] + labels.std(axis=0)
    found = ask(NUMBER, values, labels, [shifted, shifted])
    assert found is not None
    assert found.error < 2
    assert found.rises["decided labels"].by == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("name", ["accuracy", "log_loss", "roc_auc", "f1", "balanced_accuracy"])
def test_a_larger_error_makes_every_metric_worse(name: str) -> None:
    metric = metric_named(name)
    found, _ = foresee(2, HARDER, name)
    plain, _ = foresee(2, WORLD, name)
    assert found.shift is not None
    assert found.shift.falls is not None
    expected, most = found.shift.falls
    assert metric.gain(most) < metric.gain(expected) < 0
    assert metric.gain(found.mean) < metric.gain(plain.mean)
    assert (expected, most) == (round(expected, 6), round(most, 6))  # as all figures of a card


def test_the_accuracy_falls_by_the_rise_of_the_error() -> None:
    found, _ = foresee(2, HARDER)
    assert found.shift is not None
    assert found.shift.falls is not None
    rise = found.shift.rises[found.shift.strongest]
    beyond = rise.by - rise.band[1]
    assert found.shift.falls[0] == pytest.approx(-_FACTOR * beyond, abs=0.02)


def test_no_set_of_groups_is_compared_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threshold is of the other groups, and what is held against it has none of their rows."""
    rows, folds, _ = drawn(1)
    pairs, compare = [], asking._rises

    def spy(known: Any, wrong: Any, new: Any, proven: Any) -> dict[str, float]:
        pairs.append((known, wrong, new))
        return compare(known, wrong, new, proven)

    monkeypatch.setattr(asking, "_rises", spy)
    noise = Noise.measure(TASK, rows.prediction.values, rows.labels)
    measure_shift(TASK, rows.prediction, rows.labels, rows.groups, folds, noise, 1)
    assert len(pairs) == 1 + asking._SPLITS
    unsure, wrong = pairs[0][0].unsure[:, 0], pairs[0][1]
    group_of = dict(zip(unsure.tolist(), rows.groups, strict=True))
    assert len(group_of) == len(unsure)
    for known, errors, (new,) in pairs[1:]:
        ours, theirs = ({group_of[each] for each in some.unsure[:, 0]} for some in (known, new))
        assert not ours & theirs
        assert len(errors) == len(known.unsure) < len(wrong)


def other(falls: tuple[float, float] | None) -> Card:
    found = Shift(
        error=0.1, rises={"confidence": Rise(by=0.05, band=(-0.01, 0.01))}, p=0.005, splits=199,
        is_other=falls is not None, falls=falls,
    )  # fmt: skip
    return make_card(forecast={"shift": found})


def test_the_card_says_it_in_one_line_and_so_does_a_bad_score() -> None:
    card = other((-0.03, -0.2))
    assert card.other_population == (
        "For the networks test is another population (error +0.050 by confidence, among training "
        "groups -0.010 to +0.010): expect the accuracy to change by -0.030, or by -0.200 and more "
        "in one of 20 such cases"
    )
    assert f"fits: drift: {card.other_population}" in explain_score(card, 0.7, None)
    assert other(None).other_population is None
    assert make_card().other_population is None  # of a card without a shift


def test_of_three_classes_the_share_of_each_counts() -> None:
    task, rng = OneOf(classes=["a", "b", "c"]), np.random.default_rng(1)
    labels = rng.integers(3, size=600)
    values = np.where(labels[:, None] == np.arange(3), 0.8, 0.1)
    assert not flagged(ask(task, values, labels, [values[rng.permutation(600)][:300]]))
    found = ask(task, values, labels, [values[labels > 0]])
    assert found is not None
    assert found.rises["decided labels"].by == pytest.approx(1 / 3, abs=0.06)
    assert found.is_other


@pytest.mark.parametrize("classes", [2, 3, 700])
def test_labels_are_drawn_by_the_ladder_of_the_probabilities(classes: int) -> None:
    """Found by halves, they are those of the definition; a class without probability is never."""
    rng, task = (
        np.random.default_rng(1),
        OneOf(classes=[f"c{place:03}" for place in range(classes)]),
    )
    values = rng.dirichlet(np.full(classes, 0.1), 300)
    values[:, 1] = 0
    noise = Noise(1.0, np.empty((0, classes)), (0.0, 1.0))
    drawn = list(noise.draw(task, values, np.random.default_rng(2), 3))
    again, ladder = np.random.default_rng(2), np.cumsum(values, axis=1)
    for labels in drawn:
        heights = again.random(300)[:, None] * ladder[:, -1:]
        assert np.array_equal(labels, (heights > ladder).sum(axis=1))
        assert (labels != 1).all()


@pytest.mark.parametrize("of_one", [True, False])
def test_flattened_predictions_are_wrong_as_often_as_asked(
    of_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit those of a search that sharpens all of them at each step."""
    monkeypatch.setattr(calibrate, "_MOST_AT_ONCE", 500)
    rng, classes = np.random.default_rng(1), ["a", "b", "c", "d"]
    task: Task = OneOf(classes=classes) if of_one else AnyOf(classes=classes)
    values = rng.dirichlet(np.full(4, 0.3), 400)
    test = Prediction(values, task.decide(values, None))
    flattened = _Flattened(task, test)
    for level in (0.02, 0.1, 0.2, 0.9):
        low, high = 1 / 20, 1000.0
        for _ in range(14):
            middle = float(np.sqrt(low * high))
            found = calibrate.sharpen(task, values, middle)
            right = (
                found[np.arange(400), test.decided] if of_one else np.abs(1 - test.decided - found)
            )
            low, high = (middle, high) if 1 - right.mean() < level else (low, middle)
        assert np.array_equal(flattened.at(level), found)
        if level < 0.5:
            assert 1 - right.mean() == pytest.approx(level, abs=0.002)


@pytest.mark.unchecked
def test_the_benchmark_prints_a_line_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_line("a damage", [draw_trial(WORLD, "accuracy", seed) for seed in range(2)])
    line = capsys.readouterr().out
    assert line.startswith("| a damage | 0.9")
    assert line.count("|") == 10


@pytest.mark.parametrize("name", DAMAGES)
def test_every_damage_grows_with_its_level(name: str) -> None:
    rng = np.random.default_rng(1)
    images = rng.uniform(0, 255, (2, 16, 16, 3)).astype(np.float32)
    off = [np.abs(DAMAGES[name](images, level, rng) - images).mean() for level in (1, 2, 3)]
    assert 0 < off[0] < off[1] < off[2]
