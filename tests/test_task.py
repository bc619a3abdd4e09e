"""What each kind of task says of labels and predictions."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from sklearn import metrics as oracle
from tasks import any_of, number, one_of

from pipeline.core.errors import TableError
from pipeline.core.task import Task, expected_place

ODD = ["", " ", "007", "NA", "nan", "a,b", 'say "x"', "<b>", "東京", "1e3", "-0", "p_"]
"""Classes that a reader of tables could take for something else."""

PLACE = Path("some/table.csv")


@pytest.mark.parametrize(
    ("task", "texts", "labels"),
    [
        (one_of(ODD), ODD[::-1], np.arange(len(ODD))[::-1]),
        (any_of("a", "b b"), ["", "a", "b b|a", "a|b b"], [[0, 0], [1, 0], [1, 1], [1, 1]]),
        (any_of("only"), ["only", ""], [[1], [0]]),
        (any_of(*ODD[1:]), ODD[1:], np.eye(len(ODD) - 1)),
        (number("y"), ["1", "-2.5", "1e3", "1e-300"], [[1], [-2.5], [1000], [1e-300]]),
        (number("x", "y"), ["1|2", "0.1|-3"], [[1, 2], [0.1, -3]]),
    ],
)  # fmt: skip
def test_labels_become_arrays_and_come_back(
    task: Task, texts: list[str], labels: np.ndarray
) -> None:
    found = task.encode(PLACE, texts)
    assert found.dtype.kind == {"one_of": "i", "any_of": "b", "number": "f"}[task.kind]
    np.testing.assert_array_equal(found, labels)
    again = task.encode(PLACE, task.decode(found))
    np.testing.assert_array_equal(again, found)
    assert task.decode(again) == task.decode(found)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-1e8, 1e8)] * 2), min_size=1, max_size=9))
def test_numbers_come_back_to_the_last_bit(rows: list[tuple[float, float]]) -> None:
    task, labels = number("x", "y"), np.array(rows)
    assert task.encode(PLACE, task.decode(labels)).tobytes() == labels.tobytes()


@pytest.mark.parametrize(
    ("task", "text", "reason"),
    [
        (one_of(2), "2", "expected labels of the training images, ['0', '1'], found '2'"),
        (any_of("a", "b"), "a|c", "expected labels of the training images, ['a', 'b'], found 'c'"),
        (any_of("a", "b"), "a b", "expected labels of the training images, ['a', 'b'], found 'a b'"),
        (number("y"), "", "expected numbers from -1e+08 to 1e+08 as labels: "),
        (number("y"), "high", "expected numbers from -1e+08 to 1e+08 as labels: "),
        (number("y"), "1|2", "expected numbers from -1e+08 to 1e+08 as labels: "),
        (number("x", "y"), "1|nan", "expected numbers from -1e+08 to 1e+08 as labels, found '1|nan'"),
        (number("y"), "inf", "expected numbers from -1e+08 to 1e+08 as labels, found 'inf'"),
        (number("y"), "2e8", "expected numbers from -1e+08 to 1e+08 as labels, found '2e8'"),
    ],
)  # fmt: skip
def test_other_labels_are_refused_with_the_place(task: Task, text: str, reason: str) -> None:
    with pytest.raises(TableError) as caught:
        task.encode(PLACE, [text])
    assert str(caught.value).startswith(f"{PLACE}: {reason}")


@pytest.mark.parametrize(
    ("task", "right", "wrong"),
    [
        (one_of(2), [[0.3, 0.7], [0, 1]], [[0.3, 0.6], [-0.1, 1.1], [np.nan, 1]]),
        (any_of("a", "b"), [[0.9, 0.7], [0, 0]], [[1.1, 0], [0, -0.1], [np.nan, 0]]),
        (number("x", "y"), [[-5, 1e8], [0, 0]], [[np.inf, 0], [0, np.nan], [0, 2e8]]),
    ],
)
def test_only_predictions_of_the_task_are_valid(
    task: Task, right: list[list[float]], wrong: list[list[float]]
) -> None:
    assert task.valid(np.array(right)).all()
    assert not task.valid(np.array(wrong)).any()


def test_one_class_is_decided_by_the_most_probable_or_by_cuts() -> None:
    values = np.array([[0.5, 0.5], [0.7, 0.3], [0.6, 0.4]])
    assert one_of(2).decide(values, None).tolist() == [0, 0, 0]  # the first of equal ones
    assert one_of(2).decide(values, [0.4]).tolist() == [1, 0, 1]  # from the cut on


def test_ordered_classes_are_decided_by_the_expected_place() -> None:
    task = one_of(3, ordered=True)
    values = np.array([[0.5, 0.1, 0.4], [0.1, 0.8, 0.1], [0, 0.2, 0.8]])
    np.testing.assert_allclose(expected_place(values), [0.9, 1.0, 1.8])
    assert task.decide(values, None).tolist() == [0, 1, 2]
    assert task.decide(values, [0.5, 1.5]).tolist() == [1, 1, 2]
    assert task.decide(values, [0.95, 1.9]).tolist() == [0, 1, 1]
    assert task.decide(values, [1.0, 1.0]).tolist() == [0, 2, 2]  # nothing is between equal cuts


def test_several_labels_are_decided_one_by_one() -> None:
    values = np.array([[0.5, 0.2], [0.4, 0.45], [0.9, 0.6]])
    decide = any_of("a", "b").decide
    assert decide(values, None).tolist() == [[True, False], [False, False], [True, True]]
    assert decide(values, [0.95, 0.3]).tolist() == [[False, False], [False, True], [False, True]]


def test_where_each_image_has_a_label_the_nearest_to_its_cut_is_decided() -> None:
    values = np.array([[0.3, 0.2], [0.4, 0.45], [0.9, 0.6]])
    decide = any_of("a", "b", at_least_one=True).decide
    assert decide(values, None).tolist() == [[True, False], [False, True], [True, True]]
    assert decide(values, [0.8, 0.5]).tolist() == [[False, True], [False, True], [True, True]]


def test_numbers_are_decided_as_they_are() -> None:
    values = np.array([[1.5, -2.0]])
    assert number("x", "y").decide(values, None) is values


def test_losses_are_what_networks_learn_by() -> None:
    generator = np.random.default_rng(1)
    values = generator.dirichlet(np.ones(3), 50)
    values[0] = [0, 0.4, 0.6]
    labels = generator.integers(3, size=50)
    labels[0] = 0  # of probability 0: clipped as scikit-learn does
    assert one_of(3).losses(values, labels).mean() == pytest.approx(oracle.log_loss(labels, values))
    several = generator.random((50, 2)) < 0.4
    chances = generator.random((50, 2))
    expected = [
        oracle.log_loss(of, chance) for of, chance in zip(several.T, chances.T, strict=True)
    ]
    losses = any_of("a", "b").losses(chances, several)
    assert losses.shape == (50,)
    assert losses.mean() == pytest.approx(np.mean(expected))
    truth = generator.normal(size=(50, 2))
    assert number("x", "y").losses(chances, truth).mean() == pytest.approx(
        oracle.mean_squared_error(truth, chances)
    )


def test_a_row_is_right_where_all_of_it_is() -> None:
    assert one_of(2).right(np.array([0, 1]), np.array([0, 0])).tolist() == [True, False]
    rows = np.array([[True, False], [True, True]])
    assert any_of("a", "b").right(rows, rows[[0, 0]]).tolist() == [True, False]


def test_rows_are_counted_by_class() -> None:
    assert one_of(3).count(np.array([0, 2, 2])) == {"0": 1, "1": 0, "2": 2}
    labels = np.array([[True, False], [True, True], [False, False]])
    assert any_of("a", "b").count(labels) == {"a": 2, "b": 1}
    assert number("y").count(np.array([[1.0]])) == {}


@pytest.mark.parametrize(
    "task",
    [one_of(3, ordered=True), any_of("a", at_least_one=True, separator=";"), number("x", "y")],
)
def test_a_task_comes_back_from_json(task: Task) -> None:
    adapter: TypeAdapter[Task] = TypeAdapter(Task)
    assert adapter.validate_json(adapter.dump_json(task), strict=True) == task


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "one_of", "classes": ["0"]}',
        '{"kind": "any_of", "classes": []}',
        '{"kind": "any_of", "classes": ["a", "b|c"]}',
        '{"kind": "any_of", "classes": ["a", ""]}',
        '{"kind": "number", "names": []}',
        '{"kind": "number", "names": ["y", "y"]}',
        '{"kind": "number", "classes": ["a"]}',
        '{"classes": ["0", "1"]}',
    ],
)
def test_a_task_without_outputs_or_with_names_that_cannot_be_told_apart_is_refused(
    text: str,
) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Task).validate_json(text, strict=True)
