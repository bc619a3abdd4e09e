"""The table at the end of `make run` speaks of the metric that params.yaml names."""

from pathlib import Path

import pytest
from cards import make_card, make_leaderboard
from project import PARAMS

from pipeline.commands import summary
from pipeline.core import paths
from pipeline.core.errors import PipelineError
from pipeline.core.files import write_text
from pipeline.core.record import write_record
from pipeline.params import read_config
from pipeline.scoring.card import Rise, Shift

SHIFT = Shift(
    error=0.1, rises={"confidence": Rise(by=0.05, band=(-0.01, 0.01))}, p=0.005, splits=199,
    is_other=True, falls=(0.03, 0.2),
)  # fmt: skip


def lines(
    capsys: pytest.CaptureFixture[str], shifted: bool = False, **changes: object
) -> list[str]:
    metric = {"name": "log_loss", "value": 0.25, "interval": [0.2, 0.3]}
    card = make_card(metric=metric, forecast={"shift": SHIFT if shifted else None})
    write_record(paths.card("tiny"), card)
    board = make_leaderboard(card, 0.31, 0.29).model_copy(update=changes)
    write_record(paths.LEADERBOARD, board)
    write_text(paths.PARAMS, PARAMS)
    summary.run(read_config(paths.PARAMS))
    return capsys.readouterr().out.splitlines()


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_score_is_by_the_metric(capsys: pytest.CaptureFixture[str]) -> None:
    found = lines(capsys)
    assert found[1].split("  ", 1)[0] == "cross-validated log loss"
    assert "0.2500  (95% interval 0.2000 to 0.3000, 80 images in 10 groups)" in found[1]
    assert found[2].split() == ["local", "public", "log", "loss", "0.3100", "(20", "images)"]
    assert found[3].split() == ["local", "private", "log", "loss", "0.2900", "(20", "images)"]
    assert not [line for line in found if "accuracy" in line]


def test_without_a_solution_the_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "not known here: there is no solution file" in lines(capsys, solution=None)[2]


def test_a_leaderboard_of_another_metric_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PipelineError) as caught:
        lines(capsys, metric="accuracy")
    assert str(caught.value) == (
        "reports/leaderboard.json: expected scores by the metric log_loss of the card, found "
        "accuracy: they are of different runs. Run: dvc repro --force check"
    )


def test_another_population_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    found = " ".join(" ".join(lines(capsys, shifted=True)).split())
    assert "For the networks test is another population (error +0.050 by confidence" in found
    assert "expect the log loss to change by +0.030" in found
    assert "another population" not in " ".join(lines(capsys))
