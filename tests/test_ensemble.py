"""Predictions are joined by id, and the interval knows that cells of a patient hang together."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import EnsembleError, TableError
from pipeline.core.tables import FOLD_COLUMNS, write_predictions
from pipeline.ensemble.estimate import accuracy_interval, resampled_scores
from pipeline.ensemble.members import Column, Member, covered_images, read_model

CLASSES = ["0", "1"]
IDS = ["a", "b", "c", "d"]
FOLD_OF = {0: ["a", "c"], 1: ["b", "d"], 2: ["a", "b"], 3: ["c", "d"]}


def folds() -> pd.DataFrame:
    """Two repeats of two folds over four images."""
    rows = [
        (image_id, "0", image_id, str(fold // 2), str(fold))
        for fold, ids in FOLD_OF.items()
        for image_id in ids
    ]
    return pd.DataFrame(rows, columns=FOLD_COLUMNS)


def write_member(tmp_path: Path, fold: int, chance: dict[str, float]) -> Member:
    """A member whose probability of class 1 is `chance`, written in reverse order."""
    folder = tmp_path / f"fold{fold}"
    for name, ids in (("oof.csv", FOLD_OF[fold]), ("test.csv", ["t0", "t1"])):
        ids = ids[::-1]
        values = np.array([[1 - chance[i], chance[i]] for i in ids])
        write_predictions(folder / name, ids, values, CLASSES)
    return Member("vgg", fold, folder)


def members(tmp_path: Path) -> list[Member]:
    chances = [
        {"a": 0.1, "c": 0.3, "t0": 0.0, "t1": 0.2},
        {"b": 0.2, "d": 0.4, "t0": 0.2, "t1": 0.4},
        {"a": 0.5, "b": 0.6, "t0": 0.4, "t1": 0.6},
        {"c": 0.7, "d": 0.8, "t0": 0.6, "t1": 0.8},
    ]
    return [write_member(tmp_path, fold, chance) for fold, chance in enumerate(chances)]


def column(found: list[Member], image_ids: list[str], test_ids: list[str]) -> Column:
    return read_model(found, image_ids, test_ids, folds(), CLASSES)


def test_out_of_fold_is_the_mean_over_the_repeats_joined_by_id(tmp_path: Path) -> None:
    ids = covered_images(folds(), [0, 1, 2, 3])
    assert sorted(ids) == IDS
    mean = column(members(tmp_path), ids, ["t0", "t1"]).out_of_fold
    assert dict(zip(ids, mean[:, 1].round(6), strict=True)) == {
        "a": 0.3,
        "b": 0.4,
        "c": 0.5,
        "d": 0.6,
    }


def test_test_is_the_mean_over_all_networks_in_the_asked_order(tmp_path: Path) -> None:
    mean = column(members(tmp_path), IDS, ["t1", "t0"]).test
    np.testing.assert_allclose(mean[:, 1], [0.5, 0.3])


def test_one_fold_alone_covers_its_own_images(tmp_path: Path) -> None:
    ids = covered_images(folds(), [1])
    assert ids == ["b", "d"]
    mean = column(members(tmp_path)[1:2], ids, ["t0", "t1"]).out_of_fold
    np.testing.assert_allclose(mean[:, 1], [0.2, 0.4])


def test_a_repeat_that_is_not_whole_is_refused() -> None:
    with pytest.raises(EnsembleError) as caught:
        covered_images(folds(), [0, 1, 2])
    assert "expected as many for each image, found {1: 2, 2: 2}" in str(caught.value)


def test_predictions_of_another_fold_are_refused(tmp_path: Path) -> None:
    first, second = members(tmp_path)[:2]
    with pytest.raises(TableError, match=r"oof.csv: 2 of 2 ids are missing \(first: b, d\)"):
        column([first, Member("vgg", 1, first.folder)], IDS, ["t0", "t1"])
    (second.folder / "test.csv").unlink()
    with pytest.raises(TableError, match=r"test.csv: no such file"):
        column([first, second], IDS, ["t0", "t1"])


def test_the_interval_of_independent_rows_is_the_binomial_one() -> None:
    correct = np.arange(2000) % 10 != 0
    low, high = accuracy_interval(correct, [str(i) for i in range(2000)], 0.95, 4000, 1)
    half = 1.96 * np.sqrt(0.9 * 0.1 / 2000)
    assert low == pytest.approx(0.9 - half, abs=0.002)
    assert high == pytest.approx(0.9 + half, abs=0.002)


def test_the_interval_widens_when_errors_come_in_groups() -> None:
    """40 groups of 50 rows, each wholly right or wholly wrong, count as 40 rows."""
    correct = np.repeat(np.arange(40) % 10 != 0, 50)
    groups = [str(row // 50) for row in range(2000)]
    low, high = accuracy_interval(correct, groups, 0.95, 4000, 1)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.9 * 0.1 / 40), rel=0.1)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """200 draws of 60 groups whose accuracies differ: the 90 % interval holds in 85 to 95 %."""
    held = 0
    for draw in range(200):
        generator = np.random.default_rng(draw)
        skill = generator.beta(18, 2, size=60)
        sizes = generator.integers(10, 40, size=60)
        groups = np.repeat(np.arange(60), sizes)
        correct = generator.random(len(groups)) < skill[groups]
        low, high = accuracy_interval(correct, [str(g) for g in groups], 0.9, 500, draw)
        held += low <= 0.9 <= high
    assert 170 <= held <= 190


def test_one_group_has_no_interval() -> None:
    with pytest.raises(EnsembleError, match="needs two groups or more, found 1"):
        accuracy_interval(np.array([True, False, True]), ["a"] * 3, 0.95, 100, 1)


def test_resamples_that_miss_a_class_are_left_out_while_they_are_few() -> None:
    """A score that is not defined without the first of 3 groups is missing in (2/3)^3 of them."""
    with pytest.raises(EnsembleError) as caught:
        resampled_scores([lambda weights: 1.0 if weights[0] else np.nan], 3, 1000, 1)
    assert "of 1000 resamples of 3 groups have no rows of some class: too few" in str(caught.value)
    few = resampled_scores([lambda w: float(w[0]) if w[:4].any() else np.nan], 40, 1000, 1)
    assert 900 < len(few) < 1000  # none of 4 of 40: 0.9^40 = 1.5 %
    assert not np.isnan(few).any()


def test_scores_of_one_resample_are_of_the_same_groups() -> None:
    scores = resampled_scores([lambda w: float(w[0]), lambda w: float(2 * w[0])], 5, 200, 1)
    np.testing.assert_array_equal(scores[:, 1], 2 * scores[:, 0])
