"""What cannot work is refused before anything is trained; metrics of the user's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from project import PARAMS
from tasks import any_of, number, one_of
from test_ensemble_stage import MODELS, Competing

from pipeline.check import stage as check
from pipeline.check.score import score_submission
from pipeline.core import paths
from pipeline.core.errors import (
    ConfigError,
    EnsembleError,
    MetricError,
    SubmissionError,
    TableError,
)
from pipeline.core.task import Task
from pipeline.params import named_inputs, parse_config
from pipeline.scoring.metrics import metric_for, metric_named
from pipeline.scoring.plan import Choices, plan, try_metric
from pipeline.scoring.submission import check_submission, read_submission, write_submission

THREE, SEVERAL, NUMBERS = one_of(["a", "b", "c"]), any_of("a", "b", "c"), number("x", "y")
EACH, ONE = "id,a,b,c\ni,0,0,0\n", "id,label\ni,a\n"

OWN = """\
import numpy as np

def score(labels, predictions):
    return np.mean(labels == predictions)

score.needs = "labels"
score.greater_is_better = True
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("metrics").mkdir()


def sample(text: str) -> Path:
    Path("sample.csv").write_text(text)
    return Path("sample.csv")


@pytest.mark.parametrize(
    ("task", "metric", "text", "choices", "reason"),
    [
        (NUMBERS, "rmse", "id,x,y\ni,0,0\n", {"calibration": "temperature"}, "ensemble.calibration: temperature is for probabilities, found a task of kind number; expected none"),
        (NUMBERS, "rmse", "id,x,y\ni,0,0\n", {"threshold": "fitted"}, "ensemble.threshold: fitted is for two classes, ordered classes or several labels, found 2 outputs of kind number"),
        (THREE, "macro_f1", ONE, {"threshold": "fitted"}, "ensemble.threshold: fitted is for two classes, ordered classes or several labels, found 3 outputs of kind one_of; expected none"),
        (SEVERAL, "macro_f1", EACH, {"threshold": "fitted", "form": "chances"}, "ensemble.threshold: fitted changes decided labels, and a row of the submission holds chances"),
        (NUMBERS, "rmse", "id,x,y\ni,0,0\n", {"blend": "stack"}, "ensemble.blend: stack is for one class of several, found a task of kind number"),
        (SEVERAL, "macro_f1", EACH, {"blend": "rank_mean"}, "ensemble.blend: rank_mean is for one class of several, found a task of kind any_of"),
        (THREE, "macro_roc_auc", EACH, {"blend": "rank_mean"}, "ensemble.blend: rank_mean keeps only the order of two classes, found 3 outputs"),
        (THREE, "rmse", ONE, {}, "ensemble.metric: rmse is for number, found a task of kind one_of"),
        (THREE, "accuracy", ONE, {"form": "chances"}, "ensemble.form: chances does not fit a task of kind one_of with 3 outputs and the columns ['id', 'label'] of sample.csv; expected auto or labels or best"),
        (NUMBERS, "rmse", "id,x,y\ni,0,0\n", {"form": "labels"}, "ensemble.form: labels does not fit a task of kind number"),
        (THREE, "map_at_2", "id,label\ni,a b c\n", {}, "sample.csv: its cells are lists of 3 classes, such as 'a b c', but params.yaml: ensemble.metric: map_at_2 asks for 2 of them in each"),
        (THREE, "accuracy", "id,label\ni,a b c\n", {}, "asks for one class in each. Set ensemble.metric to the competition's (map_at_3, top_3_error; roc_auc, log_loss), or ensemble.form to labels"),
        (one_of(2), "accuracy", "id,label\ni,0.5\n", {}, "its cells are fractions, such as '0.5', but params.yaml: ensemble.metric: accuracy asks for a label"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_by_its_parameter(
    task: Task, metric: str, text: str, choices: dict[str, Any], reason: str
) -> None:
    with pytest.raises((EnsembleError, SubmissionError)) as caught:
        plan(metric, Choices(**choices), sample(text), task)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("task", "metric", "text", "form", "holds"),
    [
        (THREE, "map_at_3", "id,label\ni,a b c\n", "auto", "best"),
        (THREE, "accuracy", "id,label\ni,a b c\n", "best", "best"),
        (THREE, "accuracy", "id,label\ni,a b c\n", "labels", "labels"),
        (THREE, "accuracy", EACH, "probabilities", "probabilities"),
        (THREE, "accuracy", EACH, "flags", "flags"),
        (THREE, "log_loss", ONE, "labels", "labels"),
        (one_of(2), "f1", "id,label\ni,0.5\n", "probability", "probability"),
        (one_of(2), "f1", "id,label\ni,0.5\n", "labels", "labels"),
        (one_of(2), "f1", "id,label\ni,0.0\n", "auto", "labels"),
        (one_of(["0.0", "1.0"]), "log_loss", "id,label\ni,0.5\n", "auto", "probability"),
        (SEVERAL, "macro_f1", EACH, "chances", "chances"),
        (SEVERAL, "log_loss", EACH, "flags", "flags"),
        (number("Target"), "rmse", "id,Predicted\ni,0\n", "auto", "numbers"),
        (one_of(7), "accuracy", "emotion\n0\n3\n", "auto", "labels"),
    ],
)
def test_the_form_is_the_samples_unless_another_one_is_asked(
    task: Task, metric: str, text: str, form: Any, holds: str
) -> None:
    ordered = task.model_copy(update={"ordered": True}) if task.kind == "one_of" else task
    assert plan(metric, Choices(form=form), sample(text), ordered)[1].holds == holds


def test_a_metric_that_the_labels_break_is_refused() -> None:
    with pytest.raises(EnsembleError, match="rmsle: expected labels of at least 0, found -1"):
        try_metric(metric_for("rmsle", NUMBERS), NUMBERS, np.array([[1.0, -1.0]]))
    try_metric(metric_for("macro_roc_auc", THREE), THREE, np.array([0, 1, 2, 0]))


# Metrics of the user's own


def write(text: str) -> str:
    Path("metrics/mine.py").write_text(text)
    return "mine:score"


BROKEN = [
    ("score = 1\n", "metrics/mine.py: expected a function score, found []"),
    ("def score(:\n", "metrics/mine.py: cannot be imported: SyntaxError: "),
    ("import no_such_library\n", "metrics/mine.py: cannot be imported: line 1: ModuleNotFoundError: No module named"),
    (OWN.replace("score.needs", "score.need"), "metrics/mine.py: score.needs: expected 'labels' or 'predictions', found None. Write it below the function: score.needs ="),
    (OWN.replace("= True", "= 1"), "score.greater_is_better: expected True or False, found 1"),
    (OWN + "score.tasks = ['one']\n", "score.tasks: expected some of ('one_of', 'any_of', 'number'), found ['one']"),
    (OWN + "score.range = 1\n", "score.range: expected its least and largest score, found 1"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), BROKEN)
def test_a_file_that_cannot_be_used_is_a_sentence_before_any_stage(text: str, reason: str) -> None:
    name = write(text)
    Path("params.yaml").write_text(PARAMS.replace("metric: accuracy", f"metric: {name}"))
    with pytest.raises(ConfigError) as caught:
        parse_config(Path("params.yaml"))
    assert str(caught.value).startswith("params.yaml: ensemble.metric: ")
    assert reason in str(caught.value)
    Path("metrics/mine.py").unlink()
    with pytest.raises(
        ConfigError, match=r"expected the function score in metrics/mine.py: No suc"
    ):
        parse_config(Path("params.yaml"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("return float('inf')", "expected a number up to 1e+09, or nan where it is not defined, found inf on 3 rows. Correct metrics/mine.py"),
        ("return 'good'", "expected a number up to 1e+09, or nan where it is not defined, found 'good' on 3 rows"),
        ("return labels", "or nan where it is not defined, found array([0, 1, 1]) on 3 rows"),
        ("return 1 / 0", "line 4: ZeroDivisionError: division by zero, on 3 rows"),
        ("return -0.5", "expected a score from 0 to 1, its range, found -0.5 on 3 rows"),
    ],
)  # fmt: skip
def test_what_goes_wrong_inside_is_a_sentence(line: str, reason: str) -> None:
    name = write(OWN.replace("return np.mean(labels == predictions)", line) + "score.range = (0, 1)\n")  # fmt: skip
    with pytest.raises(MetricError) as caught:
        try_metric(metric_named(name), one_of(2), np.array([0, 1, 1]))
    assert str(caught.value).startswith("mine:score: ")
    assert reason in str(caught.value)


def test_nan_is_not_defined_as_of_any_metric() -> None:
    name = write(OWN.replace("return np.mean(labels == predictions)", "return np.nan"))
    with pytest.raises(EnsembleError, match="mine:score: not defined on these 2 rows"):
        metric_named(name).score(np.eye(2), np.arange(2), np.arange(2))


@pytest.mark.parametrize("task", [one_of(3), SEVERAL])
def test_weights_count_rows_as_often_as_those_of_accuracy_do(task: Task) -> None:
    body = "return np.mean(labels == predictions)"
    several = "return np.mean((labels == predictions).all(axis=1))"
    name = write(OWN.replace(body, several) if task.kind == "any_of" else OWN)
    generator = np.random.default_rng(1)
    values = generator.random((40, 3))
    labels = generator.integers(3, size=40) if task.kind == "one_of" else values < 0.4
    decided, units = task.decide(values, None), generator.integers(10, size=40)
    units[:10] = np.arange(10)
    whole = generator.integers(0, 4, size=10).astype(float)
    for weights in (whole, whole + 0.5, whole + 0.3):
        own, ours = (
            metric_named(each).scorer(values, decided, labels, units)(weights)
            for each in (name, "accuracy")
        )
        assert own == pytest.approx(ours, rel=1e-12)


@pytest.mark.slow
def test_an_ensemble_and_its_check_use_it_and_a_change_of_the_file_counts() -> None:
    name = write(OWN)
    competing = Competing()
    few: dict[str, Any] = {"metric": name, "resamples": 100}
    card = competing.run(MODELS[:2], blend="greedy", greedy_rounds=2, threshold="fitted", **few)
    assert card.metric.name == name
    assert card.metric.value == card.out_of_fold.accuracy
    check.run("tiny", name)
    assert f'"metric": "{name}"' in paths.LEADERBOARD.read_text()
    write(OWN.replace("np.mean(labels == predictions)", "0.25"))
    assert competing.run(MODELS[:1], **few).metric.value == 0.25


def test_the_commit_must_hold_the_file() -> None:
    name = write(OWN)
    Path("params.yaml").write_text(PARAMS.replace("metric: accuracy", f"metric: {name}"))
    assert named_inputs(parse_config(Path("params.yaml")))[Path("metrics/mine.py")] == ""


# A sample submission of one column


def test_a_sample_without_ids_is_the_test_rows_in_their_order(tmp_path: Path) -> None:
    metric, form = plan("accuracy", Choices(), sample("emotion\n0\n0\n0\n"), one_of(7, True))
    decided = np.array([3, 0, 6])
    path = tmp_path / "mine.csv"
    form.check_rows(["c", "a", "b"])
    write_submission(path, form, ["c", "a", "b"], np.eye(7)[decided], decided)
    assert path.read_text() == "emotion\n3\n0\n6\n"
    assert check_submission(path, form) == {"0": 1, "1": 0, "2": 0, "3": 1, "4": 0, "5": 0, "6": 1}
    for rows in (["a", "b"], ["a", "b", "c", "d"]):
        with pytest.raises(
            TableError, match="expected a line for each of . test rows, since it ha"
        ):
            form.check_rows(rows)
    path.write_text("emotion\n3\n0\n")
    with pytest.raises(
        SubmissionError, match="expected 3 rows, as the sample submission has, foun"
    ):
        read_submission(path, form)
    path.write_text("emotion\n3\n0\n7\n")
    with pytest.raises(SubmissionError, match="line 4: expected one of the labels .* found '7'$"):
        read_submission(path, form)
    path.write_text("emotion\n3\n0\n6\n")
    Path("solution.csv").write_text("emotion,Usage\n3,Public\n1,Public\n6,Private\n")
    scores = score_submission(path, form, Path("solution.csv"), "emotion", metric)
    assert scores.public.scores == {"accuracy": 0.5}
    assert scores.private.scores == {"accuracy": 1.0}


def test_none_of_several_labels_is_a_line_of_a_sample_without_ids(tmp_path: Path) -> None:
    _, form = plan("macro_f1", Choices(), sample("labels\na\na b\n"), SEVERAL)
    decided = np.array([[False, False, False], [True, False, True]])
    write_submission(tmp_path / "mine.csv", form, ["i", "j"], decided.astype(float), decided)
    assert (read_submission(tmp_path / "mine.csv", form).decided == decided).all()
