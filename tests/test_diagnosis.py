"""Rates, calibration and ROC curve are scikit-learn's; pictures are small, axes have round ticks."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    confusion_matrix,
    precision_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)
from tasks import one_of

from pipeline.report.diagnosis import (
    BINS,
    PredictedRows,
    count_confusion,
    measure_reliability,
    report_classes,
    trace_roc,
)
from pipeline.report.gallery import SIDE_PX, picture
from pipeline.report.svg import scale


def rows_of(labels: np.ndarray, probabilities: np.ndarray) -> PredictedRows:
    names = [f"c{n}" for n in range(probabilities.shape[1])]
    ids = [f"i{row}" for row in range(len(labels))]
    return PredictedRows(
        ids, ids, one_of(names), labels, probabilities, probabilities.argmax(axis=1)
    )


def draw(classes: int) -> PredictedRows:
    generator = np.random.default_rng(classes)
    labels = generator.integers(classes, size=400)
    return rows_of(labels, generator.dirichlet(np.ones(classes), 400))


@pytest.mark.parametrize("classes", [2, 4])
def test_counts_and_rates_are_scikit_learns(classes: int) -> None:
    rows = draw(classes)
    np.testing.assert_array_equal(
        count_confusion(rows), confusion_matrix(rows.labels, rows.decided)
    )
    for place, each in enumerate(report_classes(rows)):
        truth, called = rows.labels == place, rows.decided == place
        assert (each.rows, each.predicted) == (truth.sum(), called.sum())
        assert each.sensitivity == pytest.approx(recall_score(truth, called))
        assert each.specificity == pytest.approx(recall_score(~truth, ~called))
        assert each.precision == pytest.approx(precision_score(truth, called))
        assert each.roc_auc == pytest.approx(roc_auc_score(truth, rows.values[:, place]))


def test_a_class_without_rows_or_predictions_has_no_rates() -> None:
    third = report_classes(rows_of(np.array([0, 0, 1]), np.eye(3)[[0, 1, 0]]))[2]
    assert np.isnan([third.sensitivity, third.precision, third.roc_auc]).all()
    assert third.specificity == 1


@pytest.mark.parametrize("classes", [2, 4])
def test_the_reliability_diagram_is_scikit_learns(classes: int) -> None:
    rows = draw(classes)
    labels, found = rows.labels, measure_reliability(rows)
    probability = rows.values[:, 1] if classes == 2 else rows.values.max(axis=1)
    truth = labels == 1 if classes == 2 else labels == rows.decided
    share, mean = calibration_curve(truth, probability, n_bins=BINS, strategy="uniform")
    filled = [each for each in found.bins if each.rows]
    np.testing.assert_allclose([each.mean for each in filled], mean)
    np.testing.assert_allclose([each.share for each in filled], share)
    assert sum(each.rows for each in found.bins) == len(labels)
    weights = [each.rows / len(labels) for each in filled]
    assert found.error == pytest.approx(weights @ np.abs(share - mean))


def test_the_probabilities_0_and_1_are_in_the_outer_bins() -> None:
    found = measure_reliability(rows_of(np.array([0, 1]), np.eye(2)))
    assert [each.rows for each in found.bins] == [1, *[0] * (BINS - 2), 1]
    assert found.error == 0


def test_the_roc_curve_is_scikit_learns_also_where_rows_tie() -> None:
    rows = draw(2)
    probability = rows.values[:, 1].round(1)
    found = trace_roc(probability, rows.labels == 1)
    false, true, _ = roc_curve(rows.labels, probability, drop_intermediate=False)
    np.testing.assert_allclose(found.false_positive_rate, false)
    np.testing.assert_allclose(found.true_positive_rate, true)


@pytest.mark.parametrize(
    "values", [[0.9681], [0.0], [0.9, 0.91], [-3.0, 12.5], [1e-6, 4e-3], [np.nan, 2.0], []]
)
def test_an_axis_contains_its_values_at_round_ticks(values: list[float]) -> None:
    axis = scale(values, "x")
    known = [value for value in values if np.isfinite(value)]
    assert all(axis.low - 1e-9 <= value <= axis.high + 1e-9 for value in known)
    assert 2 <= len(axis.ticks) <= 12
    texts = [axis.text(tick) for tick in axis.ticks]
    assert len(set(texts)) == len(texts)


def test_grey_images_and_large_ones_and_signals_have_pictures() -> None:
    generator = np.random.default_rng(0)
    grey = picture(generator.integers(0, 256, (20, 30, 1), np.uint8))
    assert grey.startswith("data:image/png;base64,")
    large = picture(generator.integers(0, 256, (300, 400, 3), np.uint8))
    assert 72 * len(large) < 3_000_000
    assert (
        len(large) < len(picture(generator.integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8))) * 1.1
    )
    assert "<polyline" in picture(generator.normal(size=178))
    assert "<polyline" in picture(np.zeros((178, 1), np.float32))
    assert len(picture(generator.normal(size=(100_000, 1)))) < 5_000
