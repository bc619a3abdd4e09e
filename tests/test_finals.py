"""The two finals follow from forecasts and files; no private score has a part in the choice."""

import ast
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from competing import commit, git, init, normal_card
from scipy import stats

from pipeline.core import paths
from pipeline.core.errors import SubmissionError
from pipeline.core.record import write_record
from pipeline.ledger.explain import explain_entries
from pipeline.ledger.finals import choose_finals, compare_correct, describe_finals
from pipeline.ledger.history import PastSubmission, read_groups, recall
from pipeline.ledger.ledger import Entry, append, read_ledger
from pipeline.scoring.card import Card, CorrectRows

ROOT = Path(__file__).parent.parent
IMAGES = [f"train_{row:04}" for row in range(600)]
GROUPS = {image_id: f"P{row // 20:02}" for row, image_id in enumerate(IMAGES)}
TEST = [f"test_{row:04}" for row in range(300)]


def correct_rows(errors: int, seed: int) -> Any:
    right = np.ones(len(IMAGES), bool)
    right[np.random.default_rng(seed).permutation(len(IMAGES))[:errors]] = False
    return right


def card_of(mean: float, right: Any = None, metric: str = "accuracy") -> Card:
    correct = CorrectRows.pack(IMAGES, correct_rows(60, 1) if right is None else right)
    return normal_card(mean, metric={"name": metric}, forecast={"correct": correct})


def made(
    name: str, mean: float, differs: int, right: Any = None, public: float | None = None,
    metric: str = "accuracy",
) -> PastSubmission:  # fmt: skip
    """A submission that labels its first rows otherwise."""
    answers = {image_id: (str(int(row < differs)),) for row, image_id in enumerate(TEST)}
    return PastSubmission(name, public, card_of(mean, right, metric), "", answers)


def choose(*submissions: PastSubmission) -> tuple[str, str | None]:
    """The names of the two finals."""
    found = choose_finals(list(submissions), GROUPS)
    return found.first.name, found.second.file.name if found.second else None


def test_the_first_has_the_best_forecast_and_the_second_differs_most() -> None:
    files = [made("a", 0.90, 0), made("b", 0.91, 10), made("c", 0.905, 40), made("d", 0.9, 90)]
    assert choose(*files) == ("b", "d")
    rivals = choose_finals(files, GROUPS).rivals
    assert [round(rival.differs * 300) for rival in rivals] == [10, 30, 80]


@pytest.mark.parametrize(
    ("metric", "means", "first", "other", "differs"),
    [
        ("map_at_2", (0.6, 0.5), ["cat dog", "cat owl"], ["cat dog", "owl cat"], 0.5),
        ("rmse", (5.0, 6.0), ["-10", "1e1"], ["-5", "15"], 0.5),
        ("mae", (5.0, 6.0), ["3", "3"], ["4", "3"], 0.5),  # all the same: no spread
        ("log_loss", (0.5, 0.6), ["0.5", "0.7"], ["0.6", "0.7"], 0.05),
    ],
)
def test_files_differ_by_what_they_hold(
    metric: str, means: tuple[float, float], first: list[str], other: list[str], differs: float
) -> None:
    files = [
        dataclasses.replace(
            made(name, mean, 0, metric=metric),
            answers={image_id: (values[row % 2],) for row, image_id in enumerate(TEST)},
        )
        for name, mean, values in zip("ab", means, (first, other), strict=True)
    ]
    (rival,) = choose_finals(files, GROUPS).rivals
    assert (rival.file.name, rival.differs) == ("b", pytest.approx(differs))


def test_the_most_different_one_is_not_taken_where_it_is_significantly_worse() -> None:
    worse = correct_rows(60, 1) & correct_rows(60, 2)
    files = [made("a", 0.91, 0), made("b", 0.90, 10), made("c", 0.82, 90, worse)]
    assert choose(*files) == ("a", "b")
    rival = choose_finals(files, GROUPS).rivals[1]
    assert (rival.file.name, rival.worse) == ("c", True)
    assert "on the same 600 out-of-fold rows, p 0.000" in rival.reason


def test_a_loss_is_best_where_it_is_low() -> None:
    losses = [("a", 0.30, 0), ("b", 0.31, 9), ("c", 0.6, 99)]
    assert choose(*(made(*loss, metric="log_loss") for loss in losses)) == ("a", "b")


def test_without_common_rows_the_forecast_must_lie_in_the_firsts_interval() -> None:
    found = choose_finals([made("a", 0.90, 0), made("b", 0.89, 20), made("c", 0.88, 90)], {})
    assert found.second == found.rivals[0]
    assert [rival.reason for rival in found.rivals] == [
        "its forecast 0.8900 in 0.8835 to 0.9165",
        "its forecast 0.8800 not in 0.8835 to 0.9165",
    ]


def test_equal_files_are_no_second_choice_and_of_equal_forecasts_the_earlier_is_first() -> None:
    found = choose_finals([made("a", 0.9, 5), made("b", 0.9, 5)], GROUPS)
    assert (found.first.name, found.second) == ("a", None)
    none = "second  none: no other file is different and not significantly worse"
    assert describe_finals(found)[1] == none


def test_a_higher_public_score_chooses_nothing() -> None:
    for public in (0.89, 0.92):
        files = [made("a", 0.9, 0, public=public), made("b", 0.91, 5, public=0.91)]
        assert choose(*files) == ("b", "a")


def test_a_file_whose_public_score_refutes_its_forecast_is_set_aside() -> None:
    files = [made("a", 0.95, 0, public=0.5), made("b", 0.9, 5), made("c", 0.89, 9)]
    assert choose(*files) == ("b", "c")
    assert describe_finals(choose_finals(files, GROUPS))[-1] == (
        "aside   a: its public score 0.50000 refutes its forecast. See what fits: python -m "
        "pipeline scores"
    )


def test_what_cannot_be_judged_is_named() -> None:
    lost = dataclasses.replace(made("lost", 0.9, 0), answers=None)
    old = dataclasses.replace(made("old", 0.9, 0), card=None, no_card="it is gone")
    assert choose_finals([lost, old, made("a", 0.9, 0)], GROUPS).aside == [
        "lost: its file is neither here nor in its commit",
        "old: no card with a forecast: it is gone",
    ]
    with pytest.raises(SubmissionError, match="found none of 2: lost: its file is neither here"):
        choose(lost, old)
    with pytest.raises(SubmissionError, match="forecasts of different metrics: accuracy, roc_auc"):
        choose(made("a", 0.9, 0), made("b", 0.9, 0, metric="roc_auc"))


def of_probabilities(name: str, mean: float, *columns: str) -> PastSubmission:
    """A submission scored by log loss; columns: of each row the same."""
    loss = made(name, mean, 0, metric="log_loss")
    return dataclasses.replace(loss, answers=dict.fromkeys(TEST, columns))


@pytest.mark.parametrize(
    ("first", "near", "far"),
    [(["0.5"], ["0.51"], ["0.9"]), (["0.5", "0.5"], ["0.49", "0.51"], ["0.1", "0.9"])],
)
def test_files_of_probabilities_differ_by_how_far_they_lie_apart(
    first: list[str], near: list[str], far: list[str]
) -> None:
    """Two columns say the same as one: the sum over the classes is halved."""
    rivals = [of_probabilities("b", 0.31, *near), of_probabilities("c", 0.31, *far)]
    found = choose_finals([of_probabilities("a", 0.30, *first), *rivals], GROUPS)
    assert found.first.name == "a"
    assert [rival.differs for rival in found.rivals] == pytest.approx([0.01, 0.4])
    _, second, other = describe_finals(found)
    assert "c: differs most, by 40.00%, and is" in second
    assert "differs by 1.00%" in other


@pytest.mark.parametrize("columns", [["ill"], ["0.1", "0.9"]])
def test_other_files_than_of_probabilities_are_named(columns: list[str]) -> None:
    with pytest.raises(SubmissionError, match="b: expected as many probabilities a row as a has:"):
        choose(of_probabilities("a", 0.3, "0.5"), of_probabilities("b", 0.4, *columns))


# The paired test


@pytest.mark.parametrize("seed", range(5))
def test_of_independent_rows_it_is_the_paired_t_test(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, other = rng.random((2, 300)) < 0.9
    difference, p = compare_correct(first, other, np.arange(300))
    oracle = stats.ttest_rel(first.astype(float), other.astype(float), alternative="greater")
    assert difference == pytest.approx(first.mean() - other.mean())
    assert p == pytest.approx(oracle.pvalue)


def test_rows_that_fail_together_prove_less() -> None:
    first, other = np.ones(200, bool), np.repeat(np.arange(10) > 0, 20)
    alone = compare_correct(first, other, np.arange(200))[1]
    together = compare_correct(first, other, np.arange(200) // 20)[1]
    assert alone < 0.001
    assert together > 0.1
    assert compare_correct(first, first, np.arange(200)) == (0.0, 1.0)


def test_under_no_difference_it_finds_one_as_often_as_it_says() -> None:
    found = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        skill = rng.beta(9, 1, (2, 30))[:, np.repeat(np.arange(30), 10)]
        first, other = rng.random((2, 300)) < skill
        found += compare_correct(first, other, np.repeat(np.arange(30), 10))[1] < 0.05
    assert stats.binom.ppf(0.001, 400, 0.05) <= found <= stats.binom.ppf(0.999, 400, 0.05)


# The private half


def entry(
    name: str, text: str, public: str, private: str, commit: str = "", status: Any = "complete"
) -> Entry:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    known = {"time": "2026-01-01T00:00:00+00:00", "submitted": "2026-01-01T00:00:00+00:00"}
    known |= {"competition": "c", "file": f"submissions/{name}.csv", "ref": name}
    known |= {"sha256": sha256, "mark": f"{sha256[:16]} #1", "commit": commit}
    return Entry(**known, status=status, public=public, private=private)


def text_of(submission: PastSubmission) -> str:
    assert submission.answers is not None
    return "id,label\n" + "".join(f"{i},{label}\n" for i, (label,) in submission.answers.items())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, private: list[str], metric: str = "accuracy") -> list[Entry]:
    """Three scored submissions with their cards, a solution and a local leaderboard."""
    (folder / "submissions").mkdir(exist_ok=True)
    entries = []
    known = [("a", 0.91, 0, "0.90"), ("b", 0.905, 12, "0.92"), ("c", 0.9, 30, "0.70")]
    for (name, mean, differs, public), score in zip(known, private, strict=True):
        submission = made(name, mean, differs)
        entries.append(entry(submission.name, text_of(submission), public, score))
        path = folder / entries[-1].file
        path.write_text(text_of(submission))
        card = normal_card(mean, metric={"name": metric}, sha256={"submission": entries[-1].sha256})
        write_record(path.with_suffix(".json"), card)
    (folder / "folds").mkdir(exist_ok=True)
    rows = "".join(f"{image_id},0,{GROUPS[image_id]},0,0\n" for image_id in IMAGES)
    (folder / "folds" / "folds.csv").write_text("image_id,label,group,repeat,fold\n" + rows)
    for place in (paths.SOLUTION, paths.LEADERBOARD):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(json.dumps(private))
    return entries


def test_changing_every_private_figure_changes_nothing_but_the_report(folder: Path) -> None:
    """Ledger, solution and local leaderboard: other private scores, the same finals."""
    chosen, known, reports = [], [], []
    for private in (["", "", ""], ["0.91", "0.90", "0.89"], ["0.10", "0.50", "0.99"]):
        entries = write(folder, private)
        known.append(recall(entries))
        chosen.append(describe_finals(choose_finals(known[-1], read_groups(paths.FOLDS))))
        reports.append(explain_entries(entries, None))
    assert chosen[0] == chosen[1] == chosen[2]
    assert known[0] == known[1] == known[2]
    assert chosen[0][0].startswith("first   a submissions/a.csv: the best forecast, 0.9100")
    assert len({"\n".join(lines) for lines in reports}) == 3
    other = [[line for line in lines if "  private 0." not in line] for lines in reports]
    assert other[0] == other[1] == other[2]
    assert "\n  private 0.99000: above the forecast 0.8835 to 0.9165" in "\n".join(reports[2])


@pytest.mark.parametrize("module", ["history", "finals"])
def test_no_module_that_chooses_can_name_what_is_private(module: str) -> None:
    """No attribute `private` but a forecast's own, no path of a solution or a local leaderboard."""
    tree = ast.parse((ROOT / "pipeline" / "ledger" / f"{module}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"SOLUTION", "HIDDEN", "LEADERBOARD"}
            if node.attr == "private":
                assert ast.unparse(node.value).endswith((".forecast", ".expected"))
    assert "private" not in {field.name for field in dataclasses.fields(PastSubmission)}


# What is recalled


ODD = ["0,9", "1,234", "high", "NaN", "None", "inf", "1_0", "9" * 5000, "1e999", "\u0660.\u0669"]


@pytest.mark.parametrize("score", ODD)
def test_a_score_that_is_no_number_is_compared_with_nothing(
    folder: Path, score: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the finals nor what is said of the other submissions changes."""
    entries = write(folder, ["0.9"] * 3)
    without = [dataclasses.replace(entries[0], public="", private=""), *entries[1:]]
    entries[0] = dataclasses.replace(entries[0], public=score, private=score)
    assert explain_entries(entries, None) == explain_entries(without, None)
    chosen = describe_finals(choose_finals(recall(entries), GROUPS))
    assert chosen == describe_finals(choose_finals(recall(without), GROUPS))
    said = capsys.readouterr().err
    assert ("submissions/a.csv (submission a): expected a number" in said) == (score[0] != "N")
    assert "nan" not in said.lower()


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a\0b", "a" * 300, "a" * 200_000, "x/[/b]"])
def test_a_submission_whose_name_is_none_for_a_file_is_recalled_without_one(
    folder: Path, name: str
) -> None:
    entries = write(folder, [""] * 3)
    entries[0] = dataclasses.replace(entries[0], file=name, commit="abc")
    assert recall(entries)[0].answers is None
    found = choose_finals(recall(entries), GROUPS)
    assert found.first.name == "b submissions/b.csv"
    assert found.aside[0].startswith(f"a {name or 'without a name'}: no card with a forecast")


def test_a_file_that_was_overwritten_comes_from_its_commit(folder: Path) -> None:
    entries = write(folder, [""] * 3)
    init(folder)
    head = commit(folder)
    (folder / "submissions" / "a.csv").write_text("id,label\nother,0\n")
    write_record(folder / "submissions" / "a.json", normal_card())
    gone = recall(entries)[0]
    assert (gone.card, gone.answers) == (None, None)
    assert explain_entries(entries[:1], None) == [
        "a submissions/a.csv: no forecast to compare its score with: neither its card nor its "
        "commit's describes this file"
    ]
    back = recall([dataclasses.replace(entries[0], commit=f"{head}-dirty")])[0]
    assert back.answers == made("a", 0.91, 0).answers
    assert back.card is not None
    assert back.card.forecast.mean == 0.91


def test_a_card_in_another_form_is_said_to_be_unreadable(folder: Path) -> None:
    """As a commit of another version of the pipeline has it; or no JSON at all."""
    entries = write(folder, [""] * 3)
    path = folder / "submissions" / "a.json"
    path.write_text("{}")
    init(folder)
    head = commit(folder)
    git(folder, "rm", "--quiet", "submissions/a.json")
    known = recall([dataclasses.replace(entries[0], commit=head), *entries[1:]])
    assert known[0].answers is not None
    assert choose_finals(known, {}).aside[0] == (
        f"a submissions/a.csv: no card with a forecast: {head[:12]}:submissions/a.json: name: Field "
        "required, found {}: this version of the pipeline cannot read the card"
    )
    path.write_text("<<<<<<< HEAD")
    assert recall(entries)[0].no_card.endswith("this version of the pipeline cannot read the card")


def test_a_card_of_a_metric_that_is_not_known_is_named(folder: Path) -> None:
    entries = write(folder, ["0.9"] * 3)
    for path in (folder / "submissions").glob("*.json"):
        path.write_text(path.read_text().replace('"name": "accuracy"', '"name": "dice"'))
    assert "NAME:FUNCTION of metrics/NAME.py, found 'dice'" in explain_entries(entries[:1], None)[0]
    with pytest.raises(SubmissionError, match="found none of 3: a .* found 'dice'"):
        choose_finals(recall(entries), GROUPS)


@pytest.mark.usefixtures("folder")
def test_what_never_counted_is_not_recalled() -> None:
    never = [entry("a", "x", "", "", status=status) for status in ("refused", "lost", "error")]
    assert recall(never) == []
    assert recall([entry("a", "x", "", "", status="pending")])[0].public is None
    assert read_groups(Path("folds/folds.csv")) == {}


def test_the_report_of_a_ledger_that_was_written_and_read(folder: Path) -> None:
    for ref, line in enumerate(write(folder, [""] * 3), start=1):
        append(paths.LEDGER, dataclasses.replace(line, ref=str(ref)))
    lines = explain_entries(read_ledger(paths.LEDGER), None)
    assert lines[4].startswith("3 submissions/c.csv: public 0.70000: below the forecast")
    assert lines[-2].startswith("cross-validation against public: 2 of 3 inside their forecast")
    for ref, line in enumerate(write(folder, [""] * 3, metric="roc_auc"), start=4):
        append(paths.LEDGER, dataclasses.replace(line, ref=str(ref)))
    # The noise of this metric is not that of labels.
    assert explain_entries(read_ledger(paths.LEDGER), None)[-1].startswith("cross-validation")
