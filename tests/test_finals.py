"""The two finals follow from forecasts and files; nothing of the private half gets into the choice."""

import ast
import dataclasses
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from test_after import card

from pipeline.core import paths
from pipeline.core.errors import SubmissionError
from pipeline.ledger.commentary import explain_entries, finals_lines
from pipeline.ledger.finals import choose_finals, compare_hits, describe
from pipeline.ledger.history import Recalled, read_groups, recall
from pipeline.ledger.ledger import Entry, append, read_ledger
from pipeline.scoring.card import CorrectRows

ROOT = Path(__file__).parent.parent
IMAGES = [f"train_{row:04}" for row in range(600)]
GROUPS = {image_id: f"P{row // 20:02}" for row, image_id in enumerate(IMAGES)}
TEST = [f"test_{row:04}" for row in range(300)]


def hits(errors: int, seed: int) -> Any:
    right = np.ones(len(IMAGES), bool)
    right[np.random.default_rng(seed).permutation(len(IMAGES))[:errors]] = False
    return right


def made(
    name: str,
    mean: float,
    differs: int,
    right: Any = None,
    public: float | None = None,
    **changes: Any,
) -> Recalled:
    """A submission that labels its first rows otherwise."""
    right = hits(60, 1) if right is None else right
    forecast = card(mean, **({"correct": CorrectRows.pack(IMAGES, right).model_dump()} | changes))
    rows = {image_id: (str(int(row < differs)),) for row, image_id in enumerate(TEST)}
    return Recalled(name, name, public, {"forecast": forecast}, rows)


def test_the_first_has_the_best_forecast_and_the_second_differs_most() -> None:
    found = choose_finals(
        [made("a", 0.90, 0), made("b", 0.91, 10), made("c", 0.905, 40), made("d", 0.9, 90)], GROUPS
    )
    assert (found.first, found.second) == ("b", "d")
    assert [round(rival.differs * 300) for rival in found.rivals] == [10, 30, 80]


def test_the_most_different_one_is_not_taken_where_it_is_significantly_worse() -> None:
    worse = hits(60, 1) & hits(60, 2)
    found = choose_finals(
        [made("a", 0.91, 0), made("b", 0.90, 10), made("c", 0.82, 90, worse)], GROUPS
    )
    assert (found.first, found.second) == ("a", "b")
    rival = next(rival for rival in found.rivals if rival.name == "c")
    assert rival.worse
    assert "on the same 600 out-of-fold rows, p 0.000" in rival.reason


def test_a_loss_is_best_where_it_is_low() -> None:
    loss = {"metric": "log_loss", "greater_is_better": False}
    found = choose_finals(
        [made("a", 0.30, 0, **loss), made("b", 0.31, 9, **loss), made("c", 0.6, 99, **loss)], GROUPS
    )
    assert (found.first, found.second) == ("a", "b")


def test_without_common_rows_the_forecast_must_lie_in_the_firsts_interval() -> None:
    found = choose_finals([made("a", 0.90, 0), made("b", 0.89, 20), made("c", 0.88, 90)], {})
    assert found.second == "b"
    assert [rival.reason for rival in found.rivals] == [
        "its forecast 0.8900 in 0.8835 to 0.9165",
        "its forecast 0.8800 not in 0.8835 to 0.9165",
    ]


def test_equal_files_are_no_second_choice() -> None:
    found = choose_finals([made("a", 0.91, 5), made("b", 0.90, 5)], GROUPS)
    assert found.second is None
    assert (
        describe(found)[1] == "second  none: no other file is different and not significantly worse"
    )


def test_of_equal_forecasts_the_earlier_submission_is_first() -> None:
    assert choose_finals([made("a", 0.9, 0), made("b", 0.9, 5)], GROUPS).first == "a"


@pytest.mark.parametrize("public", [0.89, 0.92])
def test_a_higher_public_score_chooses_nothing(public: float) -> None:
    found = choose_finals(
        [made("a", 0.9, 0, public=public), made("b", 0.91, 5, public=0.91)], GROUPS
    )
    assert (found.first, found.second) == ("b", "a")


def test_a_file_whose_public_score_refutes_its_forecast_is_set_aside() -> None:
    found = choose_finals(
        [made("a", 0.95, 0, public=0.5), made("b", 0.9, 5), made("c", 0.89, 9)], GROUPS
    )
    assert (found.first, found.second) == ("b", "c")
    assert found.aside[0].startswith("a: its public score 0.50000 refutes its forecast (chance ")
    assert describe(found)[-1].startswith("aside   a: its public score")


def test_what_cannot_be_judged_is_named() -> None:
    lost = dataclasses.replace(made("lost", 0.9, 0), rows=None)
    old = dataclasses.replace(made("old", 0.9, 0), card={"out_of_fold": {}})
    found = choose_finals([lost, old, made("a", 0.9, 0)], GROUPS)
    assert found.aside == [
        "lost: its file is neither here nor in its commit",
        "old: no card with a forecast",
    ]
    with pytest.raises(SubmissionError, match="found none of 2: lost: its file is neither here"):
        choose_finals([lost, old], GROUPS)
    with pytest.raises(SubmissionError, match="forecasts of different metrics: accuracy, roc_auc"):
        choose_finals([made("a", 0.9, 0), made("b", 0.9, 0, metric="roc_auc")], GROUPS)


def of_probabilities(name: str, mean: float, *columns: str) -> Recalled:
    """A submission scored by log loss; columns: of each row the same."""
    loss = {"metric": "log_loss", "greater_is_better": False}
    return dataclasses.replace(made(name, mean, 0, **loss), rows=dict.fromkeys(TEST, columns))


def test_files_of_probabilities_differ_by_how_far_they_lie_apart() -> None:
    """Two columns say the same as one: the sum over the classes is halved."""
    for first, near, far in (
        (["0.5"], ["0.51"], ["0.9"]),
        (["0.5", "0.5"], ["0.49", "0.51"], ["0.1", "0.9"]),
    ):
        found = choose_finals(
            [
                of_probabilities("a", 0.30, *first),
                of_probabilities("b", 0.31, *near),
                of_probabilities("c", 0.31, *far),
            ],
            GROUPS,
        )
        assert (found.first, found.second) == ("a", "c")
        assert [rival.differs for rival in found.rivals] == pytest.approx([0.01, 0.4])
        assert "c: differs most, by 0.4000 of probability on average, and is" in describe(found)[1]
        assert "differs by 0.0100 of probability on average" in describe(found)[2]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["ill"], "b: expected probabilities, as its card's metric asks for: could not convert"),
        (["0.1", "0.9"], "b: expected 1 probabilities a row as a has, found 2"),
    ],
)
def test_other_files_than_of_probabilities_are_named(columns: list[str], message: str) -> None:
    with pytest.raises(SubmissionError) as caught:
        choose_finals(
            [of_probabilities("a", 0.3, "0.5"), of_probabilities("b", 0.4, *columns)], GROUPS
        )
    assert message in str(caught.value)


# The paired test


@pytest.mark.parametrize("seed", range(5))
def test_of_independent_rows_it_is_the_paired_t_test(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, other = rng.random((2, 300)) < 0.9
    difference, p = compare_hits(first, other, np.arange(300))
    oracle = stats.ttest_rel(first.astype(float), other.astype(float), alternative="greater")
    assert difference == pytest.approx(first.mean() - other.mean())
    assert p == pytest.approx(oracle.pvalue)


def test_rows_that_fail_together_prove_less() -> None:
    first, other = np.ones(200, bool), np.repeat(np.arange(10) > 0, 20)
    alone = compare_hits(first, other, np.arange(200))[1]
    together = compare_hits(first, other, np.arange(200) // 20)[1]
    assert alone < 0.001
    assert together > 0.1


def test_under_no_difference_it_finds_one_as_often_as_it_says() -> None:
    found = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        skill = rng.beta(9, 1, (2, 30))[:, np.repeat(np.arange(30), 10)]
        first, other = rng.random((2, 300)) < skill
        found += compare_hits(first, other, np.repeat(np.arange(30), 10))[1] < 0.05
    assert stats.binom.ppf(0.001, 400, 0.05) <= found <= stats.binom.ppf(0.999, 400, 0.05)


def test_files_without_a_difference_are_not_worse() -> None:
    same = hits(60, 1)
    assert compare_hits(same, same, np.arange(600)) == (0.0, 1.0)


# The private half


def entry(
    name: str, text: str, public: str, private: str, commit: str = "", status: Any = "complete"
) -> Entry:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return Entry(
        time="2026-01-01T00:00:00+00:00", status=status, submitted="2026-01-01T00:00:00+00:00",
        competition="c", file=f"submissions/{name}.csv", sha256=sha256, commit=commit, dvc_lock="",
        params="", metric="accuracy", cross_validated="0.9", forecast_low="", forecast_high="", mark=f"{sha256[:16]} #1",
        ref=name, public=public, private=private, error="",
    )  # fmt: skip


def text_of(submission: Recalled) -> str:
    assert submission.rows is not None
    return "id,label\n" + "".join(f"{i},{label}\n" for i, (label,) in submission.rows.items())


def write(folder: Path, private: list[str]) -> list[Entry]:
    """A repository with three scored submissions, a solution and a local leaderboard."""
    (folder / "submissions").mkdir(exist_ok=True)
    entries = []
    submissions = [made("a", 0.91, 0), made("b", 0.905, 12), made("c", 0.9, 30)]
    for submission, public, score in zip(
        submissions, ["0.90", "0.92", "0.70"], private, strict=True
    ):
        text = text_of(submission)
        path = folder / "submissions" / f"{submission.name}.csv"
        path.write_text(text)
        assert submission.card is not None
        whole = submission.card | {
            "out_of_fold": {"rows": 600, "groups": 30}, "test": {"labels": {"0": 200, "1": 100}},
            "sha256": {"submission": hashlib.sha256(text.encode()).hexdigest()},
        }  # fmt: skip
        path.with_suffix(".json").write_text(json.dumps(whole))
        entries.append(entry(submission.name, text, public, score))
    (folder / "folds").mkdir(exist_ok=True)
    rows = [f"{image_id},0,{GROUPS[image_id]},0,0" for image_id in IMAGES]
    (folder / "folds" / "folds.csv").write_text(
        "image_id,label,group,repeat,fold\n" + "\n".join(rows) + "\n"
    )
    for place in (paths.SOLUTION, paths.LEADERBOARD):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(json.dumps(private))
    return entries


def test_changing_every_private_figure_changes_nothing_but_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ledger, solution and local leaderboard: other private scores, the same finals."""
    monkeypatch.chdir(tmp_path)
    chosen, known, reports = [], [], []
    for private in (["", "", ""], ["0.91", "0.90", "0.89"], ["0.10", "0.50", "0.99"]):
        entries = write(tmp_path, private)
        chosen.append(finals_lines(entries))
        known.append(recall(entries))
        reports.append(explain_entries(entries, None))
    assert chosen[0] == chosen[1] == chosen[2]
    assert known[0] == known[1] == known[2]
    assert chosen[0][0].startswith("first   a submissions/a.csv: the best forecast, 0.9100")
    assert len({"\n".join(lines) for lines in reports}) == 3
    told = [[line for line in lines if ": private " not in line] for lines in reports]
    assert told[0] == told[1] == told[2]
    assert "c submissions/c.csv: private 0.99000: above the forecast" in "\n".join(reports[2])


def test_files_of_probabilities_are_not_reviewed_as_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entries = write(tmp_path, [""] * 3)
    for name in "abc":
        path = tmp_path / "submissions" / f"{name}.json"
        whole = json.loads(path.read_text())
        whole["forecast"]["metric"] = "roc_auc"
        path.write_text(json.dumps(whole))
    assert explain_entries(entries, None)[-1] == (
        "no review of all submissions: it tells the luck of differing labels, and these files hold "
        "probabilities"
    )


@pytest.mark.parametrize(
    "module", ["forecast", "forecast_card", "gain", "drift", "after", "review", "recall", "finals"]
)
def test_no_module_that_chooses_can_name_what_is_private(module: str) -> None:
    """No attribute `private` but a forecast's own, no path of a solution or a local leaderboard."""
    tree = ast.parse((ROOT / "pipeline" / "leaderboard" / f"{module}.py").read_text())
    own = {"halves", "found", "self"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            assert node.attr != "private" or owner in own, ast.unparse(node)
            assert node.attr not in {"SOLUTION", "HIDDEN", "LEADERBOARD"}
    assert "private" not in {field.name for field in dataclasses.fields(Recalled)}


# What is recalled


def test_a_file_that_was_overwritten_comes_from_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entries = write(tmp_path, [""] * 3)
    for command in (
        ["init", "-q"],
        ["config", "user.email", "t@e"],
        ["config", "user.name", "t"],
        ["add", "."],
        ["commit", "-qm", "x"],
    ):
        subprocess.run(["git", *command], check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    (tmp_path / "submissions" / "a.csv").write_text("id,label\nother,0\n")
    (tmp_path / "submissions" / "a.json").write_text(
        json.dumps({"sha256": {"submission": "other"}})
    )
    gone = recall(entries)[0]
    assert (gone.card, gone.rows) == (None, None)
    back = recall([dataclasses.replace(entries[0], commit=f"{head}-dirty")])[0]
    assert back.rows == made("a", 0.91, 0).rows
    assert back.forecast is not None
    assert back.forecast["mean"] == 0.91
    assert explain_entries(entries[:1], None) == [
        "a submissions/a.csv: no forecast to hold its score against"
    ]


def test_what_never_counted_is_not_recalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        recall([entry("a", "x", "", "", status="refused"), entry("b", "y", "", "", status="lost")])
        == []
    )
    assert recall([entry("a", "x", "", "", status="pending")])[0].public is None
    with pytest.raises(
        SubmissionError, match="expected a number as the public score, found 'high'"
    ):
        recall([entry("a", "x", "high", "")])
    assert read_groups(Path("folds/folds.csv")) == {}


def test_the_report_of_a_ledger_that_was_written_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for line in write(tmp_path, [""] * 3):
        append(paths.LEDGER, line)
    lines = explain_entries(read_ledger(paths.LEDGER), None)
    assert lines[0].startswith(
        "a submissions/a.csv: public 0.90000: inside the forecast 0.8935 to 0.9265"
    )
    assert lines[1].startswith("  private to expect now: 0.9050 (")
    assert lines[4].startswith("c submissions/c.csv: public 0.70000: below the forecast")
    assert lines[5].startswith("  fits: nothing known explains it")
    assert lines[-2].startswith(
        "cross-validation against public: 2 of 3 inside their forecast (2.7 were to be)"
    )
