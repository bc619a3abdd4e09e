"""What groups on both sides of the split gain is measured, and no output is touched."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from project import PARAMS, copy_project, digests, environment, stage
from sklearn.metrics import accuracy_score
from tasks import one_of

from pipeline.commands import leak
from pipeline.core import paths
from pipeline.core.competition import Competition
from pipeline.core.errors import FoldError, OutputError
from pipeline.core.files import write_text
from pipeline.core.record import write_record
from pipeline.core.tables import IMAGE_COLUMNS, write_table
from pipeline.params import Config, parse_config
from pipeline.scoring.ceiling import Ceiling
from pipeline.scoring.leak import Leak, read_leak
from pipeline.scoring.metrics import METRICS
from pipeline.split.folds import make_folds

ROWS = 400


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Parameters in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    write_text(paths.PARAMS, PARAMS)
    write_record(
        paths.COMPETITION, Competition(id_column="id", label_column="label", task=one_of(2))
    )
    return parse_config(paths.PARAMS)


def draw_images(grouped: bool) -> pd.DataFrame:
    """400 rows, in 20 patients or in none."""
    table = pd.DataFrame("4", index=range(ROWS), columns=IMAGE_COLUMNS)
    ids = [f"i{row:03}" for row in range(ROWS)]
    table["image_id"] = table["row_id"] = table["duplicate"] = ids
    table["label"] = [str(row % 2) for row in range(ROWS)]
    table["group"] = [f"p{row // 20:02}" for row in range(ROWS)] if grouped else ids
    return table


def compare(config: Config) -> tuple[Leak, np.ndarray, np.ndarray]:
    """The record of networks that have 10 % wrong by group and none by row, and the labels."""
    images, task = draw_images(grouped=True), one_of(2)
    write_table(paths.TRAIN_TABLE, images)
    np.save(paths.TRAIN_IMAGES, np.zeros(1))
    by_group = make_folds(images, task, 2, [1]).astype(str)
    by_row = make_folds(images.assign(group=images["row_id"]), task, 2, [1]).astype(str)
    write_table(paths.FOLDS, by_group)
    labels = images["label"].astype(int).to_numpy()
    wrong = np.arange(ROWS) % 10 == 0
    found = {}
    for kind, given in (("by_group", np.where(wrong, 1 - labels, labels)), ("by_row", labels)):
        order = np.random.default_rng(len(kind)).permutation(ROWS)
        sure = np.random.default_rng(1).uniform(0.8, 0.99, (ROWS, 1))
        values = np.where(np.eye(2)[given] == 1, sure, 1 - sure)
        found[kind] = [images["row_id"][row] for row in order], values[order]
    table = by_group.merge(images[["image_id", "row_id"]])
    made = leak._compare(config, "one", METRICS["accuracy"], task, found, table, by_row)
    return made, labels, np.where(wrong, 1 - labels, labels)


def test_both_figures_are_of_the_same_rows_joined_by_id(config: Config) -> None:
    made, labels, decided = compare(config)
    assert made.by_group.score == pytest.approx(accuracy_score(labels, decided))
    assert made.by_row.score == 1
    assert made.gain.score == pytest.approx(0.1)
    assert made.gain.interval == (0.1, 0.1)  # each patient has two of twenty wrong
    assert (made.rows, made.groups, made.on_both_sides) == (ROWS, 20, 20)


def test_a_score_by_row_above_what_the_labels_allow_is_flagged(config: Config) -> None:
    made, *_ = compare(config)
    assert isinstance(made.ceiling, Ceiling)
    assert made.ceiling.above == {"the split by row": 1.0}
    assert made.sentence == (
        "by row, one would score 1.0000 (1.0000 to 1.0000); by group it scores 0.9000 (0.9000 to "
        "0.9000): +0.1000 (+0.1000 to +0.1000) better, with 20 of 20 groups on both sides. By row "
        "it is above what the labels allow"
    )


@pytest.mark.usefixtures("config")
def test_parameters_that_are_edited_meanwhile_change_no_training() -> None:
    root = Path(".resume/leak/key/by_row")
    for text in (PARAMS, PARAMS.replace("epochs: 2", "epochs: 3")):
        write_text(paths.PARAMS, text)
        leak._make_root(root, make_folds(draw_images(grouped=True), one_of(2), 2, [1]))
        write_text(paths.PARAMS, PARAMS.replace("epochs: 2", "epochs: 9"))
        assert (root / paths.PARAMS).read_text() == text
    assert (root / "data").resolve() == Path("data").resolve()


def test_the_trainings_that_were_used_last_stay_and_the_project_whole(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After five splits three folders are left, and one that is used again is among them."""
    write_text(paths.TRAIN_TABLE, "mine")
    write_text(paths.FOLDS, "mine")
    monkeypatch.setattr(leak, "_trained_before", lambda *_: set())
    monkeypatch.setattr(leak, "_train_side_by_side", lambda *_: None)
    tables = [
        {"by_row": make_folds(draw_images(grouped=True), one_of(2), 2, [seed]).astype(str)}
        for seed in range(5)
    ]
    used = []
    for place in (0, 1, 2, 0, 3, 4):
        folders = leak._train(config, "one", {"by_group": tables[0]["by_row"], **tables[place]})
        used.append(folders["by_row"][0].parents[3].name)
    assert {each.name for each in leak.WORK.iterdir()} == {used[0], used[4], used[5]}
    assert len(set(used)) == 5
    assert paths.TRAIN_TABLE.read_text() == paths.FOLDS.read_text() == "mine"


def test_without_groups_there_is_nothing_to_show(config: Config) -> None:
    write_table(paths.TRAIN_TABLE, draw_images(grouped=False))
    with pytest.raises(FoldError, match=r"there is no leak to show\. If .* prepare\.groups in"):
        leak.run(config, "one")


def test_another_file_in_the_records_place_stays(config: Config) -> None:
    write_text(paths.leak("tiny"), "mine")
    with pytest.raises(OutputError, match=r"leaks/tiny.json"):
        leak.run(config, "one")
    assert paths.leak("tiny").read_text() == "mine"


@pytest.mark.slow
def test_the_command_touches_no_output_goes_on_after_ctrl_c_and_the_report_shows_it(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = copy_project(trained, tmp_path / "project")
    kept = ["folds/*", "models/*/*/*", "submissions/*", "ensemble/*", "dvc.*", "params.yaml"]
    before = digests(project, *kept)
    command = [sys.executable, "-m", "pipeline", "leak", "one"]
    with subprocess.Popen(
        command, cwd=project, env=environment(), start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        heard = []
        for line in process.stdout or []:
            heard.append(line)
            if "logs in .resume/leak" in line:
                os.killpg(process.pid, signal.SIGINT)
    assert process.returncode == 130, heard
    assert "2 trainings, " in "".join(heard)  # those by group are in models/
    assert not (project / "leaks/tiny.json").exists()

    first = stage(project, "leak", "one")
    assert first.returncode == 0, first.stdout
    monkeypatch.chdir(project)
    made = read_leak("tiny")
    assert made is not None
    assert made.sentence in first.stdout
    (fold,) = project.glob(".resume/leak/*/by_row/models/one/fold1")
    table = (fold / "oof.csv").read_bytes()
    shutil.rmtree(fold)
    again = stage(project, "leak", "one")
    assert "1 training, " in again.stdout
    assert (fold / "oof.csv").read_bytes() == table
    assert read_leak("tiny") == made
    assert digests(project, *kept) == before

    assert stage(project, "repro", "report").returncode == 0
    assert "by row, one would score" in (project / "reports/index.html").read_text()
    unknown = stage(project, "leak", "six")
    assert unknown.returncode == 1
    assert "train.models: no model 'six'; known: one, two" in unknown.stdout
