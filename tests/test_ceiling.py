"""The accuracy that the labels allow is near 1 minus their noise, and what is above it is flagged."""

import numpy as np
import pytest
from tasks import any_of, one_of
from test_noise import simulate

from pipeline.core.task import OneOf, Task
from pipeline.scoring.ceiling import Ceiling, NoCeiling, measure_ceiling
from pipeline.scoring.metrics import METRICS

ROWS = 6000


def measure(
    given: np.ndarray, values: np.ndarray, groups: list[str] | None = None, **scores: float
) -> Ceiling:
    """The ceiling of an accuracy; each row is its own group where there are no groups."""
    groups = groups or [str(row) for row in range(len(given))]
    task = one_of(values.shape[1])
    found = measure_ceiling(METRICS["accuracy"], task, values, given, groups, scores)
    assert isinstance(found, Ceiling)
    return found


@pytest.mark.parametrize("wrong", [0.0, 0.01, 0.03, 0.1])
@pytest.mark.parametrize(("sharpness", "classes"), [(3.5, 2), (4.5, 2), (6.0, 2), (5.0, 5)])
def test_the_ceiling_is_near_what_wrong_labels_leave(
    wrong: float, sharpness: float, classes: int
) -> None:
    """Networks that know the true label of 98 to 100 % of the rows."""
    _, given, values = simulate(1, ROWS, wrong, sharpness, classes)
    found = measure(given, values)
    assert found.value == pytest.approx(1 - wrong, abs=0.006)
    low, high = found.interval
    assert low - 0.002 <= 1 - wrong <= high + 0.002
    assert low <= found.value <= high


@pytest.mark.parametrize("wrong", [0.0, 0.03, 0.1])
def test_a_poor_network_lowers_the_value_but_the_interval_holds_what_labels_leave(
    wrong: float,
) -> None:
    """It is right about the true label in 92 % of the rows, and sure in the others."""
    _, given, values = simulate(2, ROWS, wrong, 2.0)
    found = measure(given, values)
    score = float((values.argmax(axis=1) == given).mean())
    assert score + 0.02 < found.value < 1 - wrong
    assert found.interval[0] < 1 - wrong <= found.interval[1] + 0.005


@pytest.mark.parametrize(("wrong", "sharpness"), [(0.03, 2.5), (0.03, 5.0), (0.1, 2.0)])
def test_a_leaked_score_is_flagged_and_honest_ones_are_not(wrong: float, sharpness: float) -> None:
    true, given, values = simulate(3, ROWS, wrong, sharpness)
    own = float((values.argmax(axis=1) == given).mean())
    best = float((true == given).mean())
    found = measure(given, values, honest=own, best=best, leaked=1.0)
    assert found.above == {"leaked": 1.0}
    assert "Above it, look for a leak or a selection on these rows: 1.0000 of leaked" in (
        found.sentence
    )


def test_the_ceiling_from_leaked_predictions_follows_them() -> None:
    """A network that repeats wrong labels doubts none: its own score shows nothing."""
    _, given, _ = simulate(4, ROWS, 0.1)
    learned = np.where(np.eye(2)[given] == 1, 0.99, 0.01)
    found = measure(given, learned, leaked=1.0)
    assert found.value == 1
    assert found.above == {}


def test_whole_groups_are_resampled() -> None:
    """All wrong labels are of one patient of twenty."""
    true, _, values = simulate(5, 2000, 0.0, 6.0)
    given = np.where(np.arange(2000) < 60, 1 - true, true)
    by_patient = measure(given, values, [str(row // 100) for row in range(2000)])
    by_row = measure(given, values)
    assert by_patient.value == by_row.value == pytest.approx(0.97, abs=0.003)
    assert by_patient.interval[0] < by_row.interval[0] - 0.02
    assert by_patient.interval[1] > 0.999 > by_row.interval[1]


@pytest.mark.parametrize(
    ("metric", "task", "rows", "why"),
    [
        ("log_loss", one_of(2), 200, "accuracy of one class an image, not log_loss"),
        ("accuracy", any_of("a", "b"), 200, "accuracy of one class an image, not accuracy"),
        ("accuracy", OneOf(classes=["a", "b", "c", "d"], merged=["c", "d"]), 200, "classes as one"),
        ("accuracy", one_of(2), 30, "20 out-of-fold rows of each class, found 30 and 13 of '0'"),
    ],
)
def test_where_there_is_none_it_says_why(metric: str, task: Task, rows: int, why: str) -> None:
    _, given, values = simulate(6, rows)
    labels = given if task.kind == "one_of" else np.eye(2, dtype=bool)[given]
    groups = [str(row) for row in range(rows)]
    found = measure_ceiling(METRICS[metric], task, values, labels, groups, {})
    assert isinstance(found, NoCeiling)
    assert why in found.sentence
