"""The submission is exactly what Kaggle asks for, or an error says where it is not."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from pipeline.errors import SubmissionError, TableError
from pipeline.leaderboard.score import score_submission
from pipeline.leaderboard.submission import check_submission, write_submission

SAMPLE = "id,label\ntest_2,0\ntest_0,0\ntest_1,0\n"


def files(tmp_path: Path, text: str) -> tuple[Path, Path]:
    submission, sample = tmp_path / "mine.csv", tmp_path / "sample.csv"
    submission.write_text(text)
    sample.write_text(SAMPLE)
    return submission, sample


def test_labels_are_joined_by_id_in_the_samples_order(tmp_path: Path) -> None:
    submission, sample = files(tmp_path, "")
    write_submission(
        submission, sample, ["test_0", "test_1", "test_2"], ["0", "1", "1"], ["0", "1"]
    )
    assert submission.read_bytes() == b"id,label\ntest_2,1\ntest_0,0\ntest_1,1\n"
    assert check_submission(submission, sample, ["0", "1"]) == {"0": 1, "1": 2}


def test_a_test_image_without_prediction_is_named(tmp_path: Path) -> None:
    submission, sample = files(tmp_path, "")
    with pytest.raises(SubmissionError) as caught:
        write_submission(submission, sample, ["test_0", "test_1"], ["0", "1"], ["0", "1"])
    assert "1 of 3 test images have no prediction (first: test_2)" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Id,label\ntest_2,0\n", "expected the columns ['id', 'label'] of the sample submission, found ['Id', 'label']"),
        ("id,label,x\ntest_2,0,0\n", "found ['id', 'label', 'x']"),
        ("id,label\ntest_2,0\ntest_0,0\n", "1 ids of the sample submission are missing (first: test_1)"),
        ("id,label\ntest_2,0\ntest_0,0\ntest_1,0\ntest_1,0\n", "1 ids stand twice (first: test_1)"),
        ("id,label\ntest_2,0\ntest_0,0\ntest_9,0\n", "1 ids are not in the sample submission (first: test_9)"),
        ("id,label\ntest_0,0\ntest_2,0\ntest_1,0\n", "line 2: expected the sample submission's order, where test_2 stands here; found test_0"),
        ("id,label\ntest_2,0\ntest_0,2\ntest_1,0\n", "line 3: expected one of the labels ['0', '1'], found '2' (id test_0)"),
        ("id,label\ntest_2,0\ntest_0,\ntest_1,0\n", "line 3: expected one of the labels ['0', '1'], found '' (id test_0)"),
        ("id,label\ntest_2,0.0\ntest_0,0\ntest_1,0\n", "line 2: expected one of the labels ['0', '1'], found '0.0'"),
    ],
)  # fmt: skip
def test_a_submission_that_kaggle_would_refuse_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    submission, sample = files(tmp_path, text)
    with pytest.raises(SubmissionError) as caught:
        check_submission(submission, sample, ["0", "1"])
    assert message in str(caught.value)
    assert str(submission) in str(caught.value)


def test_a_missing_submission_names_the_next_command(tmp_path: Path) -> None:
    _, sample = files(tmp_path, "")
    with pytest.raises(SubmissionError, match="no such file. Run: dvc repro ensemble"):
        check_submission(tmp_path / "none.csv", sample, ["0", "1"])


@pytest.mark.parametrize("seed", range(5))
def test_both_halves_score_as_scikit_learn_scores_them(tmp_path: Path, seed: int) -> None:
    draw = np.random.default_rng(seed)
    truth, mine = draw.integers(3, size=(2, 200))
    usage = np.array(["Public", "Private", "Ignored"])[draw.integers(3, size=200)]
    submission, solution = tmp_path / "mine.csv", tmp_path / "solution.csv"
    submission.write_text("id,label\n" + "".join(f"t{i},{mine[i]}\n" for i in range(200)))
    order = draw.permutation(200)
    solution.write_text(
        "id,label,Usage\n" + "".join(f"t{i},{truth[i]},{usage[i]}\n" for i in order)
    )
    scores = score_submission(submission, solution)
    for half in ("Public", "Private"):
        rows = usage == half
        assert scores[half.lower()]["rows"] == rows.sum()
        assert scores[half.lower()]["accuracy"] == pytest.approx(
            accuracy_score(truth[rows], mine[rows]), abs=1e-6
        )


@pytest.mark.parametrize(
    ("solution", "message"),
    [
        ("id,label\na,0\nb,1\n", "expected the columns ['id', 'label', 'Usage']"),
        ("id,label,Usage\na,0,Public\n", "1 of 2 ids are missing (first: b)"),
        ("id,label,Usage\na,0,Public\nb,1,Secret\n", "expected Public, Private or Ignored, found 'Secret'"),
        ("id,label,Usage\na,0,Public\nb,1,Public\n", "Usage: no row is Private"),
    ],
)  # fmt: skip
def test_a_solution_that_does_not_fit_is_refused(
    tmp_path: Path, solution: str, message: str
) -> None:
    (tmp_path / "mine.csv").write_text("id,label\na,0\nb,1\n")
    (tmp_path / "solution.csv").write_text(solution)
    with pytest.raises(TableError) as caught:
        score_submission(tmp_path / "mine.csv", tmp_path / "solution.csv")
    assert message in str(caught.value)
