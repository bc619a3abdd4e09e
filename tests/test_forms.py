"""Each way to write a submission: it says what it was given, and mistakes are refused by line."""

from pathlib import Path

import numpy as np
import pytest
from tasks import any_of, number, one_of

from pipeline.check.score import score_submission
from pipeline.core.errors import SubmissionError, TableError
from pipeline.core.task import AnyOf, Number, Task
from pipeline.scoring.metrics import METRICS, metric_named
from pipeline.scoring.submission import check_submission, read_submission, write_submission
from pipeline.scoring.which_form import read_form, require_order

IDS = [f"i{row}" for row in range(40)]
THREE = one_of(["cat", "dog", "owl"])
SEVERAL = any_of("cat", "dog", "owl")
NUMBERS = number("age", "size")

FORMS: dict[str, tuple[Task, str, str]] = {
    "labels of one": (THREE, "accuracy", "id,label"),
    "probability": (one_of(["no", "yes"]), "roc_auc", "id,yes"),
    "probabilities": (THREE, "log_loss", "id,owl,cat,dog"),
    "best": (THREE, "map_at_2", "id,label"),
    "best of few": (THREE, "top_5_error", "id,label"),
    "labels": (SEVERAL, "macro_f1", "id,label"),
    "labels with another separator": (
        any_of("a b", "c", separator=";"),
        "samples_f1",
        "id,labels",
    ),
    "flags": (SEVERAL, "micro_f1", "id,owl,cat,dog"),
    "chances": (SEVERAL, "macro_roc_auc", "id,owl,cat,dog"),
    "a chance": (any_of("ship"), "log_loss", "id,ship"),
    "numbers": (NUMBERS, "rmse", "id,size,age"),
    "a number": (number("y"), "r2", "id,y"),
    "a number of another name": (number("y"), "mae", "id,z"),
    "a chance of another name": (any_of("ship"), "log_loss", "id,has_ship"),
}


def sample_of(folder: Path, columns: str) -> Path:
    sample = folder / "sample.csv"
    rest = "," * columns.count(",")
    sample.write_text(f"{columns}\n" + "".join(f"{name}{rest}\n" for name in IDS[::-1]))
    return sample


def draw(task: Task, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Predictions, and labels that are not just those decided from them."""
    generator = np.random.default_rng(seed)
    if isinstance(task, Number):
        values = generator.normal(0, 1000, (len(IDS), len(task.outputs)))
        values[:3, 0] = [0, 1e-7, -1e8]
        return values, values
    if isinstance(task, AnyOf):
        values = generator.random((len(IDS), len(task.outputs)))
        values[:2, 0] = [0, 1]
        return values, generator.random(values.shape) < 0.4
    values = generator.dirichlet(np.ones(len(task.outputs)), len(IDS))
    return values, generator.integers(len(task.outputs), size=len(IDS))


@pytest.mark.parametrize("name", FORMS)
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    task, metric, columns = FORMS[name]
    form = read_form(sample_of(tmp_path, columns), metric_named(metric), task)
    values, decided = draw(task)
    path = tmp_path / "mine.csv"
    write_submission(path, form, IDS, values, decided)
    assert path.read_text().startswith(f"{columns}\ni39,")
    back = read_submission(path, form)
    values, decided = values[::-1], decided[::-1]  # as the sample has the ids
    if form.holds in ("labels", "flags"):
        np.testing.assert_array_equal(back.decided, decided)
    elif form.holds == "best":
        order = np.argsort(-values, axis=1)[:, : form.best]  # type: ignore[attr-defined]
        np.testing.assert_array_equal(np.argsort(-back.values, axis=1)[:, : order.shape[1]], order)
    else:
        np.testing.assert_allclose(back.values, values, rtol=1e-8, atol=1e-9)
        if isinstance(task, AnyOf):
            np.testing.assert_array_equal(back.decided, values >= 0.5)
    counts = check_submission(path, form)
    assert sum(counts.values()) == (0 if isinstance(task, Number) else back.decided.sum() if isinstance(task, AnyOf) else 40)  # fmt: skip
    scored = metric_named(metric)
    first, again = (
        scored.score(values, decided, decided),
        scored.score(back.values, back.decided, decided),
    )
    if form.holds != "probability":
        assert first == pytest.approx(again, abs=1e-5)


MISTAKES: list[tuple[str, str, str]] = [
    ("labels of one", "bird", "expected one of the labels ['cat', 'dog', 'owl'], found 'bird'"),
    ("probability", "1.5", "expected a probability in [0, 1], found '1.5'"),
    ("probabilities", "0.2,0.2,nan", "column dog: expected a probability in [0, 1], found 'nan'"),
    ("probabilities", "0.2,0.2,0.2", "expected probabilities that add up to 1, found 0.6"),
    ("best", "cat", "expected 2 classes with blanks between, each once, found 'cat'"),
    ("best", "cat cat", "expected 2 classes with blanks between, each once, found 'cat cat'"),
    ("best", "cat bird", "expected 2 classes with blanks between, each once, found 'cat bird'"),
    ("best", "cat dog owl", "expected 2 classes with blanks between, each once, found 'cat dog o"),
    ("best of few", "cat dog", "expected 3 classes with blanks between, each once, found"),
    ("labels", "cat bird", "expected each label once, of ['cat', 'dog', 'owl'], found 'cat bird'"),
    ("labels", "cat cat", "expected each label once, of ['cat', 'dog', 'owl'], found 'cat cat'"),
    ("labels", "cat,dog", "line 2"),
    ("labels", "cat  dog", "expected each label once, of ['cat', 'dog', 'owl'], found 'cat  dog'"),
    ("labels with another separator", "c a b", "expected each label once, of ['a b', 'c'], fou"),
    ("flags", "1,0,2", "column dog: expected 0 or 1, found '2'"),
    ("flags", "1,0,", "column dog: expected 0 or 1, found ''"),
    ("flags", "1,0.5,0", "column cat: expected 0 or 1, found '0.5'"),
    ("chances", "1,0,-0.1", "column dog: expected a probability in [0, 1], found '-0.1'"),
    ("a chance", "", "expected a probability in [0, 1], found ''"),
    ("numbers", "1,high", "column age: expected a number, found 'high'"),
    ("numbers", "inf,1", "column size: expected a number, found 'inf'"),
    ("numbers", ",1", "column size: expected a number, found ''"),
    ("a number", "1 000", "expected a number, found '1 000'"),
]


@pytest.mark.parametrize(("name", "cells", "reason"), MISTAKES)
def test_a_mistake_is_refused_with_its_line(
    tmp_path: Path, name: str, cells: str, reason: str
) -> None:
    task, metric, columns = FORMS[name]
    form = read_form(sample_of(tmp_path, columns), metric_named(metric), task)
    path = tmp_path / "mine.csv"
    write_submission(path, form, IDS, *draw(task))
    lines = path.read_text().split("\n")
    path.write_text("\n".join([lines[0], f"i39,{cells}", *lines[2:]]))
    with pytest.raises((SubmissionError, TableError)) as caught:
        read_submission(path, form)
    assert "line 2: " in str(caught.value)
    assert reason.removeprefix("line 2") in str(caught.value)


@pytest.mark.parametrize(
    ("task", "metric", "columns", "reason"),
    [
        (NUMBERS, "rmse", "id,label", "expected a column for each of ['age', 'size']"),
        (NUMBERS, "rmse", "id,age,weight", "one for each number ['age', 'size'], found ['id', 'age', 'weight']"),
        (SEVERAL, "log_loss", "id,label", "expected a column for each of the 3 classes"),
        (SEVERAL, "macro_f1", "id,cat,dog", "one for each class ['cat', 'dog', 'owl'], found ['id', 'cat', 'dog']"),
        (THREE, "map_at_2", "id,cat,dog,owl,bird", "one for each class ['cat', 'dog', 'owl']"),
    ],
)  # fmt: skip
def test_a_sample_that_cannot_hold_it_is_refused(
    tmp_path: Path, task: Task, metric: str, columns: str, reason: str
) -> None:
    with pytest.raises(SubmissionError) as caught:
        read_form(sample_of(tmp_path, columns), metric_named(metric), task)
    assert reason in str(caught.value)


def test_labels_that_the_separator_would_cut_are_not_written(tmp_path: Path) -> None:
    task = any_of("no finding", "finding")
    form = read_form(sample_of(tmp_path, "id,label"), METRICS["macro_f1"], task)
    with pytest.raises(SubmissionError, match=r"line [0-9]+: expected each label once"):
        write_submission(tmp_path / "mine.csv", form, IDS, *draw(task))


@pytest.mark.parametrize("metric", [n for n, each in METRICS.items() if "one_of" in each.tasks])
def test_only_a_metric_that_depends_on_it_needs_the_order_of_words(
    tmp_path: Path, metric: str
) -> None:
    found = METRICS[metric]
    names = ["ill", "well"] if found.two_classes else ["ill", "odd", "well"]
    columns = "id,label" if found.needs == "labels" or found.best else f"id,{','.join(names)}"
    sample = sample_of(tmp_path, columns)
    require_order(read_form(sample, found, one_of(names, ordered=True)), found)
    form = read_form(sample, found, one_of(names))
    if not found.uses_order:
        require_order(form, found)
        return
    with pytest.raises(SubmissionError, match=f"since the metric {metric} depends on it; found"):
        require_order(form, found)


# Solutions

SOLUTIONS = [
    ("labels of one", "id,label", ["cat", "dog", "owl"], "bird"),
    ("probabilities", "id,owl,cat,dog", ["0,1,0", "0,0,1", "1,0,0"], "0,1,1"),
    ("labels", "id,label", ["cat", "", "owl dog"], "bird"),
    ("flags", "id,owl,cat,dog", ["0,1,0", "0,0,0", "1,0,1"], "0,1,2"),
    ("chances", "id,owl,cat,dog", ["0,1,0", "1,0,1", "1,0,0"], "0,1,"),
    ("numbers", "id,size,age", ["5,7", "-1,0.5", "2e3,9"], "1,high"),
    ("a number", "id,y", ["5", "-1.5", "9"], "high"),
]


@pytest.mark.parametrize(("name", "columns", "cells", "bad"), SOLUTIONS)
def test_a_solution_of_each_form_is_scored_without_its_ignored_rows(
    tmp_path: Path, name: str, columns: str, cells: list[str], bad: str
) -> None:
    task, metric, of_sample = FORMS[name]
    measured = metric_named(metric)
    form = read_form(sample_of(tmp_path, of_sample), measured, task)
    values, decided = draw(task)
    write_submission(tmp_path / "mine.csv", form, IDS, values, decided)
    usages = ["Public", "Private", "Ignored"]
    lines = [f"{name},{cells[row % 3]},{usages[row // 3 % 3]}" for row, name in enumerate(IDS)]
    solution = tmp_path / "solution.csv"
    header = f"{columns},Usage\n"
    solution.write_text(header + "\n".join(lines))
    scores = score_submission(tmp_path / "mine.csv", form, solution, "label", measured)
    own = np.array([row // 3 % 3 == 0 for row in range(40)])
    assert scores.public.rows == own.sum()
    if isinstance(task, Number):
        order = [columns.split(",")[1:].index(each) for each in task.outputs]
        truth = np.array([[*map(float, cells[row % 3].split(","))] for row in range(40)])[:, order]
        expected = measured.score(values[own], decided[own], truth[own])
        assert scores.public.scores[metric] == pytest.approx(expected, rel=1e-6)
    ignored = [f"{name},{bad},Ignored" if "Ignored" in line else line for name, line in zip(IDS, lines, strict=True)]  # fmt: skip
    solution.write_text(header + "\n".join(ignored))
    assert score_submission(tmp_path / "mine.csv", form, solution, "label", measured) == scores
    solution.write_text(header + "\n".join([*lines[:-4], f"i36,{bad},Public", *lines[-3:]]))
    with pytest.raises((SubmissionError, TableError)) as caught:
        score_submission(tmp_path / "mine.csv", form, solution, "label", measured)
    assert str(caught.value).startswith(f"{solution}: ")
    assert "line 38: " in str(caught.value) or name == "labels of one"
