"""Predictions are joined by id, and intervals allow for the similar cells of one patient."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from blending import rows_of
from numpy import ndarray
from safetensors.numpy import save_file
from tasks import one_of

from pipeline.core import paths
from pipeline.core.errors import EnsembleError, TableError
from pipeline.core.tables import FOLD_COLUMNS, write_predictions
from pipeline.ensemble.blend import Prediction
from pipeline.ensemble.bootstrap import resampled_scores
from pipeline.ensemble.describe import describe_out_of_fold
from pipeline.ensemble.members import (
    ModelPredictions,
    PredictedImages,
    covered_images,
    read_model,
    stack_tests_by_fold,
)
from pipeline.scoring.metrics import METRICS

IDS = ["a", "b", "c", "d"]
FOLD_OF = {0: ["a", "c"], 1: ["b", "d"], 2: ["a", "b"], 3: ["c", "d"]}
CHANCES = [
    {"a": 0.1, "c": 0.3, "t0": 0.0, "t1": 0.2},
    {"b": 0.2, "d": 0.4, "t0": 0.2, "t1": 0.4},
    {"a": 0.5, "b": 0.6, "t0": 0.4, "t1": 0.6},
    {"c": 0.7, "d": 0.8, "t0": 0.6, "t1": 0.8},
]
"""Each fold's probabilities of class 1."""


def folds() -> pd.DataFrame:
    """Two repeats of two folds over four images of class 0."""
    rows = [
        (image_id, "0", image_id, str(fold // 2), str(fold), image_id)
        for fold, ids in FOLD_OF.items()
        for image_id in ids
    ]
    return pd.DataFrame(rows, columns=[*FOLD_COLUMNS, "row_id"])


@pytest.fixture(autouse=True)
def _networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of a model's four networks, whose rows are in reverse order."""
    monkeypatch.chdir(tmp_path)
    for fold, chance in enumerate(CHANCES):
        folder = paths.model_folder("vgg", fold)
        for name, ids in (("oof.csv", FOLD_OF[fold]), ("test.csv", ["t0", "t1"])):
            values = np.array([[1 - chance[i], chance[i]] for i in ids[::-1]])
            write_predictions(folder / name, ids[::-1], values, one_of(2))
        save_file({"bias": np.array([fold])}, folder / "weights.safetensors")


def read(trained: list[int], test_ids: list[str] = ["t0", "t1"]) -> ModelPredictions:  # noqa: B006
    ids = covered_images(folds(), trained)
    images = PredictedImages(ids, test_ids, folds(), one_of(2), test_ids)
    return read_model("vgg", trained, images)


def test_out_of_fold_is_the_mean_over_the_repeats_joined_by_id() -> None:
    ids = covered_images(folds(), [0, 1, 2, 3])
    assert sorted(ids) == IDS
    mean = read([0, 1, 2, 3]).out_of_fold
    assert dict(zip(ids, mean[:, 1].round(6), strict=True)) == {
        "a": 0.3,
        "b": 0.4,
        "c": 0.5,
        "d": 0.6,
    }


def test_test_is_the_mean_over_all_networks_in_the_asked_order() -> None:
    mean = read([0, 1, 2, 3], ["t1", "t0"]).test
    np.testing.assert_allclose(mean[:, 1], [0.5, 0.3])


def test_one_fold_alone_covers_its_own_images() -> None:
    assert covered_images(folds(), [1]) == ["b", "d"]
    np.testing.assert_allclose(read([1]).out_of_fold[:, 1], [0.2, 0.4])


def test_each_network_is_scored_on_its_own_fold() -> None:
    """All images are of class 0: those with a chance of class 1 up to one half are right."""
    found = [(each.fold, each.accuracy, each.rows) for each in read([0, 1, 2, 3]).networks]
    assert found == [(0, 1.0, 2), (1, 1.0, 2), (2, 0.5, 2), (3, 0.0, 2)]


def test_test_by_fold_has_as_many_networks_as_an_out_of_fold_row() -> None:
    """Folds 0 and 2, then 1 and 3; a model from elsewhere is in both with its mean."""
    model = read([0, 1, 2, 3])
    elsewhere = ModelPredictions("mate", model.out_of_fold, np.full((2, 2), 0.5))
    found = list(stack_tests_by_fold([model, elsewhere], folds()))
    np.testing.assert_allclose([each[0, :, 1] for each in found], [[0.2, 0.4], [0.4, 0.6]])
    np.testing.assert_allclose([each[1] for each in found], np.full((2, 2, 2), 0.5))


def test_a_repeat_that_is_not_whole_is_refused() -> None:
    with pytest.raises(EnsembleError) as caught:
        covered_images(folds(), [0, 1, 2])
    assert "expected as many for each image, found {1: 2, 2: 2}" in str(caught.value)


def test_predictions_of_another_fold_are_refused() -> None:
    table = paths.model_folder("vgg", 1) / "oof.csv"
    kept = table.read_bytes()
    table.write_bytes((paths.model_folder("vgg", 0) / "oof.csv").read_bytes())
    with pytest.raises(TableError, match=r"oof.csv: 2 of 2 ids are missing \(first: b, d\)"):
        read([0, 1])
    table.write_bytes(kept)
    table.with_name("test.csv").unlink()
    with pytest.raises(TableError, match=r"test.csv: no such file"):
        read([0, 1])


def accuracy_interval(
    correct: ndarray, groups: ndarray, confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    predicted = (~correct).astype(int)
    rows = rows_of(np.zeros(len(correct), int), groups, resamples, confidence, seed)
    return rows.interval(METRICS["accuracy"], Prediction(np.eye(2)[predicted], predicted))


def test_the_interval_of_independent_rows_is_the_binomial_one() -> None:
    correct = np.arange(2000) % 10 != 0
    low, high = accuracy_interval(correct, np.arange(2000), 0.95, 4000, 1)
    half = 1.96 * np.sqrt(0.9 * 0.1 / 2000)
    assert low == pytest.approx(0.9 - half, abs=0.002)
    assert high == pytest.approx(0.9 + half, abs=0.002)


def test_the_interval_widens_when_errors_come_in_groups() -> None:
    """40 groups of 50 rows, each all right or all wrong, count as 40 rows."""
    correct = np.repeat(np.arange(40) % 10 != 0, 50)
    low, high = accuracy_interval(correct, np.arange(2000) // 50, 0.95, 4000, 1)
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
        low, high = accuracy_interval(correct, groups, 0.9, 500, draw)
        held += low <= 0.9 <= high
    assert 170 <= held <= 190


def test_one_group_has_no_interval() -> None:
    assert accuracy_interval(np.array([True, False, True]), np.zeros(3), 0.95, 100, 1) is None


def test_resamples_that_miss_a_class_are_left_out_while_they_are_few() -> None:
    """The score needs the first of 3 groups, which is missing in (2/3)^3 of the resamples."""
    with pytest.raises(EnsembleError) as caught:
        resampled_scores([lambda weights: 1.0 if weights[0] else np.nan], 3, 1000, 1)
    assert "of 1000 resamples of 3 groups have no rows of some class: too few" in str(caught.value)
    few = resampled_scores([lambda w: float(w[0]) if w[:4].any() else np.nan], 40, 1000, 1)
    assert 900 < len(few) < 1000  # none of 4 of 40: 0.9^40 = 1.5 %
    assert not np.isnan(few).any()


def test_scores_of_one_resample_are_of_the_same_groups() -> None:
    scores = resampled_scores([lambda w: float(w[0]), lambda w: float(2 * w[0])], 5, 200, 1)
    np.testing.assert_array_equal(scores[:, 1], 2 * scores[:, 0])


def test_a_class_without_rows_has_no_recall_on_the_card() -> None:
    """A rare class may have no row in the folds that are trained."""
    predicted, labels = np.array([0, 1, 0, 1]), np.array([0, 1, 1, 1])
    nested = Prediction(np.eye(3)[predicted], predicted)
    rows = replace(rows_of(labels), task=one_of(["a", "b", "c"]))
    found = describe_out_of_fold(nested, rows, of_images=9)
    assert found.recall == {"a": 1.0, "b": 0.666667, "c": None}
    assert (found.accuracy, found.rows, found.of_images, found.groups) == (0.75, 4, 9, 4)
