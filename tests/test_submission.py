"""The submission has exactly the form that Kaggle asks for, or an error says where not."""

from pathlib import Path

import numpy as np
import pytest
from cards import make_card
from numpy import ndarray
from oracles import by_scikit_learn
from tasks import one_of

from pipeline.check import stage as check
from pipeline.check.score import score_submission
from pipeline.core import paths
from pipeline.core.competition import Competition
from pipeline.core.errors import SubmissionError, TableError
from pipeline.core.record import write_record
from pipeline.scoring.forms import Form
from pipeline.scoring.leaderboard import ExpectedScore, read_leaderboard
from pipeline.scoring.metrics import METRICS
from pipeline.scoring.submission import check_submission, read_submission, write_submission
from pipeline.scoring.which_form import read_form

TWO = ["0", "1"]
THREE = ["cat", "dog", "owl"]
LABELS = "id,label\ntest_2,0\ntest_0,0\ntest_1,0\n"
EACH = "id,owl,cat,dog\ntest_2,0.3,0.3,0.3\ntest_0,0,0,0\ntest_1,x,,\n"
"""One column per class, in another order than the classes; the values are ignored."""

IDS = ["test_0", "test_1", "test_2"]


def form_of(tmp_path: Path, text: str, metric: str, classes: list[str]) -> Form:
    sample = tmp_path / "sample.csv"
    sample.write_text(text)
    return read_form(sample, METRICS[metric], one_of(classes, ordered=True))


def written(tmp_path: Path, form: Form, probabilities: ndarray, predicted: ndarray) -> str:
    path = tmp_path / "mine.csv"
    write_submission(path, form, IDS[: len(predicted)], probabilities, predicted)
    return path.read_bytes().decode()


def test_labels_are_joined_by_id_in_the_samples_order(tmp_path: Path) -> None:
    form = form_of(tmp_path, LABELS, "accuracy", TWO)
    predicted = np.array([0, 1, 1])
    text = written(tmp_path, form, np.full((3, 2), 0.5), predicted)
    assert text == "id,label\ntest_2,1\ntest_0,0\ntest_1,1\n"
    assert check_submission(tmp_path / "mine.csv", form) == {"0": 1, "1": 2}


@pytest.mark.parametrize("metric", ["log_loss", "roc_auc", "macro_roc_auc"])
def test_of_two_classes_the_probability_of_the_second_is_submitted(
    tmp_path: Path, metric: str
) -> None:
    form = form_of(tmp_path, LABELS.replace("0\n", "0.5\n"), metric, TWO)
    second = np.array([1 / 3, 0.9999999996, 1e-12])
    text = written(tmp_path, form, np.column_stack([1 - second, second]), np.array([0, 0, 0]))
    assert text == "id,label\ntest_2,1e-12\ntest_0,0.333333333\ntest_1,1\n"
    assert check_submission(tmp_path / "mine.csv", form) == {"0": 2, "1": 1}


def test_a_column_a_class_gets_the_probability_of_the_class_that_it_names(tmp_path: Path) -> None:
    form = form_of(tmp_path, EACH, "log_loss", THREE)
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [1 / 3, 1 / 3, 1 / 3]])
    text = written(tmp_path, form, probabilities, np.array([2, 2, 2]))
    assert text == (
        "id,owl,cat,dog\ntest_2,0.333333333,0.333333333,0.333333333\ntest_0,0.1,0.7,0.2\n"
        "test_1,0.7,0.1,0.2\n"
    )
    found = read_submission(tmp_path / "mine.csv", form)
    np.testing.assert_allclose(found.values, probabilities[[2, 0, 1]], atol=1e-9)
    assert check_submission(tmp_path / "mine.csv", form) == {"cat": 2, "dog": 0, "owl": 1}


@pytest.mark.parametrize(
    ("sample", "metric", "classes", "message"),
    [
        ("id,label\na,0\n", "log_loss", THREE, "sample.csv: expected a column for each of the 3 classes (first: cat, dog, owl), since params.yaml: ensemble.metric: log_loss scores predictions; found the columns ['id', 'label'], which hold one number a row. Set ensemble.metric to one that scores labels, ensemble.form to labels, or prepare.sample_submission to a file with those columns"),
        (EACH, "accuracy", THREE, "params.yaml: ensemble.metric: accuracy scores labels, but "),
        (EACH, "macro_f1", THREE, "has a column for each class: expected a metric that scores predictions (log_loss, macro_roc_auc; with two classes roc_auc)"),
        ("id,cat,dog,ant\na,0,0,0\n", "log_loss", THREE, "sample.csv: expected the id and one column, or one for each class ['cat', 'dog', 'owl'], found ['id', 'cat', 'dog', 'ant']. Set prepare.sample_submission"),
        ("id,cat,dog\na,0,0\n", "log_loss", THREE, "sample.csv: expected the id and one column, or one for each class"),
    ],
)  # fmt: skip
def test_what_the_sample_cannot_hold_is_refused(
    tmp_path: Path, sample: str, metric: str, classes: list[str], message: str
) -> None:
    with pytest.raises(SubmissionError) as caught:
        form_of(tmp_path, sample, metric, classes)
    assert message in str(caught.value)


def test_an_image_without_a_prediction_is_named(tmp_path: Path) -> None:
    form = form_of(tmp_path, LABELS, "accuracy", TWO)
    with pytest.raises(
        SubmissionError, match="1 of 3 test images of .* have no prediction .first: test_2"
    ):
        written(tmp_path, form, np.full((2, 2), 0.5), np.array([0, 1]))


EACH_ROWS = "test_0,1,0,0\ntest_1,1,0,0\n"
BAD_LABEL = "id,label\ntest_2,0\ntest_0,{}\ntest_1,0\n"
NO_PROBABILITIES = ["", "x", "nan", "NaN", "inf", "-0.1", "1.0000001", "1e1", " 0.5", "0_1", "0x1", "٠"]  # fmt: skip
OTHER_IDS = [
    ("id,target\ntest_2,0\n", "expected the columns ['id', 'label'] of the sample submission, found ['id', 'target']"),
    ("id,label\ntest_2,0\ntest_0,0\n", "1 ids of the sample submission are missing (first: test_1)"),
    ("id,label\ntest_2,0\ntest_0,0\ntest_1,0\ntest_1,0\n", "1 ids stand twice (first: test_1)"),
    ("id,label\ntest_2,0\ntest_0,0\ntest_9,0\n", "1 ids are not in the sample submission (first: test_9)"),
    ("id,label\ntest_0,0\ntest_2,0\ntest_1,0\n", "line 2: expected test_2, by the order of the sample submission, found test_0"),
]  # fmt: skip
REFUSED = [
    *((metric, *each) for metric in ("accuracy", "log_loss") for each in OTHER_IDS),
    *(("accuracy", BAD_LABEL.format(label), f"line 3: expected one of the labels ['0', '1'], found {label!r} (id test_0)")
      for label in ("2", "", "0.0", " 0")),
    *(("log_loss", BAD_LABEL.format(value), f"line 3: expected a probability in [0, 1], found {value!r} (id test_0)")
      for value in NO_PROBABILITIES),
    *(("each", f"id,owl,cat,dog\ntest_2,0.2,{value},0.8\n{EACH_ROWS}", f"line 2: column cat: expected a probability in [0, 1], found {value!r} (id test_2)")
      for value in NO_PROBABILITIES),
    ("each", "id,owl,cat,dog\ntest_2,0.2,0.3,0.5\ntest_0,0.2,0.3,0.49\ntest_1,1,1,0\n", "line 3: expected probabilities that add up to 1, found 0.99 (id test_0); 2 of 3 rows do not"),
]  # fmt: skip


@pytest.mark.parametrize(("metric", "text", "message"), REFUSED)
def test_what_kaggle_would_refuse_is_refused(
    tmp_path: Path, metric: str, text: str, message: str
) -> None:
    """By a metric of one column a row, or with a column for each class."""
    submission = tmp_path / "mine.csv"
    sample, name, classes = (EACH, "log_loss", THREE) if metric == "each" else (LABELS, metric, TWO)
    form = form_of(tmp_path, sample, name, classes)
    submission.write_text(text)
    with pytest.raises(SubmissionError) as caught:
        check_submission(submission, form)
    assert str(caught.value) == f"{submission}: {message}"


@pytest.mark.parametrize("number", ["0", "1", "1.0", "0.5", ".5", "5e-1", "1E-300", "1."])
def test_any_way_to_write_a_probability_is_read(tmp_path: Path, number: str) -> None:
    form = form_of(tmp_path, LABELS, "log_loss", TWO)
    (tmp_path / "mine.csv").write_text(f"id,label\ntest_2,{number}\ntest_0,0\ntest_1,0\n")
    found = read_submission(tmp_path / "mine.csv", form)
    assert found.values[0].tolist() == [1 - float(number), float(number)]


def test_a_missing_submission_names_the_next_command(tmp_path: Path) -> None:
    form = form_of(tmp_path, LABELS, "accuracy", TWO)
    with pytest.raises(SubmissionError, match="no such file. Run: dvc repro ensemble"):
        check_submission(tmp_path / "none.csv", form)


# The score


class Drawn:
    """A submission of 200 rows and its solution, in files."""

    def __init__(
        self, folder: Path, seed: int, metric: str, classes: list[str], each: bool
    ) -> None:
        draw = np.random.default_rng(seed)
        self.ids = [f"t{row}" for row in range(200)]
        self.truth = draw.integers(len(classes), size=200)
        self.usage = np.array(["Public", "Private", "Ignored"])[draw.integers(3, size=200)]
        powers = np.exp(draw.normal(size=(200, len(classes))) + np.eye(len(classes))[self.truth])
        self.probabilities = powers / powers.sum(axis=1, keepdims=True)
        self.predicted = draw.integers(len(classes), size=200)  # not the most probable ones
        columns = classes[::-1] if each else ["label"]
        sample = folder / "sample.csv"
        rows = [
            ",".join(
                [
                    name,
                    *(
                        classes[0]
                        if len(columns) == 1 and METRICS[metric].needs == "labels"
                        else "0"
                        for _ in columns
                    ),
                ]
            )
            for name in self.ids
        ]
        sample.write_text("\n".join([",".join(["id", *columns]), *rows]) + "\n")
        self.form = read_form(sample, METRICS[metric], one_of(classes, ordered=True))
        self.submission, self.solution = folder / "mine.csv", folder / "solution.csv"
        write_submission(
            self.submission, self.form, self.ids, self.probabilities, self.predicted
        )  # fmt: skip
        lines = [
            f"t{row},{classes[self.truth[row]]},{self.usage[row]}" for row in draw.permutation(200)
        ]
        self.solution.write_text("\n".join(["id,kind,Usage", *lines]) + "\n")
        self.metric = METRICS[metric]


ONE_OF = [name for name, m in METRICS.items() if "one_of" in m.tasks and not m.best]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("metric", "classes", "each"),
    [
        *((name, TWO, False) for name in ONE_OF),
        ("log_loss", TWO, True),
        ("roc_auc", TWO, True),
        *((name, THREE, METRICS[name].needs == "predictions") for name in ONE_OF if not METRICS[name].two_classes),
    ],
)  # fmt: skip
def test_both_halves_score_as_scikit_learn_scores_them(
    tmp_path: Path, metric: str, classes: list[str], each: bool, seed: int
) -> None:
    drawn = Drawn(tmp_path, seed, metric, classes, each)
    scores = score_submission(drawn.submission, drawn.form, drawn.solution, "kind", drawn.metric)
    of_labels = METRICS[metric].needs == "labels"
    for half in ("Public", "Private"):
        rows = drawn.usage == half
        chosen = drawn.probabilities[rows], drawn.predicted[rows], drawn.truth[rows]
        names = {metric, "accuracy"} if of_labels else {metric}
        found = scores.public if half == "Public" else scores.private
        assert found.rows == rows.sum()
        expected = {name: by_scikit_learn(name, *chosen) for name in names}
        assert found.scores == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("solution", "message"),
    [
        ("id,label\na,0\nb,1\n", "expected the columns ['id', 'label', 'Usage']"),
        ("id,label,Usage\na,0,Public\n", "1 of 2 ids are missing (first: b)"),
        ("id,label,Usage\na,0,Public\nb,1,Secret\n", "expected Public, Private or Ignored, found 'Secret'"),
        ("id,label,Usage\na,0,Public\nb,1,Public\n", "Usage: no row is Private"),
        ("id,label,Usage\na,x,Public\nb,1,Private\n", "expected labels of the training images, ['0', '1'], found 'x'"),
        ("id,label,Usage\na,0,Public\nb,1,Private\n", "Public: f1: not defined on these 1 rows: expected rows of each class, found [1, 0]"),
    ],
)  # fmt: skip
def test_a_solution_that_does_not_fit_is_refused(
    tmp_path: Path, solution: str, message: str
) -> None:
    (tmp_path / "mine.csv").write_text("id,label\na,0\nb,1\n")
    (tmp_path / "solution.csv").write_text(solution)
    form = form_of(tmp_path, "id,label\na,0\nb,0\n", "f1", TWO)
    with pytest.raises(TableError) as caught:
        score_submission(
            tmp_path / "mine.csv", form, tmp_path / "solution.csv", "label", METRICS["f1"]
        )
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "solution.csv"))


def test_check_reports_the_score_by_the_metric_of_the_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("submissions", "data/store", "data/hidden"):
        Path(folder).mkdir(parents=True)
    drawn = Drawn(tmp_path, 1, "log_loss", THREE, each=True)
    drawn.submission.rename(paths.submission("tiny"))
    (tmp_path / "sample.csv").rename(paths.SAMPLE_SUBMISSION)
    write_record(
        paths.COMPETITION,
        Competition(id_column="id", label_column="kind", task=one_of(THREE, True)),
    )
    card = make_card(metric={"name": "log_loss", "value": 0.9, "interval": [0.8, 1.0]})
    write_record(paths.card("tiny"), card)
    check.run("tiny", "log_loss")
    assert read_leaderboard(paths.LEADERBOARD, "log_loss").solution is None
    assert "no solution in data/hidden" in capsys.readouterr().err
    drawn.solution.rename(paths.SOLUTION)
    check.run("tiny", "log_loss")
    found = read_leaderboard(paths.LEADERBOARD, "log_loss")
    rows = drawn.usage == "Public"
    chosen = drawn.probabilities[rows], drawn.predicted[rows], drawn.truth[rows]
    expected = by_scikit_learn("log_loss", *chosen)
    assert found.solution is not None
    assert found.solution.public.rows == rows.sum()
    assert found.solution.public.scores == {"log_loss": pytest.approx(expected, abs=1e-6)}
    assert found.metric == "log_loss"
    assert found.expected == ExpectedScore(value=0.9, interval=(0.8, 1.0), confidence=0.95)
    assert found.holds == "probabilities"
    most = drawn.probabilities.argmax(axis=1)
    assert found.labels == {name: (most == place).sum() for place, name in enumerate(THREE)}
    with pytest.raises(SubmissionError, match="accuracy scores labels, but data/store/sample_sub"):
        check.run("tiny", "accuracy")
