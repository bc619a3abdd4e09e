"""The command line: one sentence and exit code 1 for a mistake, never a traceback."""

import io
import re
import shutil
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from project import PARAMS, ROOT, local_params, run, stage
from test_competition import make_zip

from pipeline.__main__ import main

STAGES = ["download", "prepare", "split", "train", "ensemble", "check", "report"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with nothing but parameters and the code."""
    (tmp_path / "params.yaml").write_text(PARAMS)
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline")
    return tmp_path


def files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if "pipeline" not in path.parts and path.is_file()
    }


def here(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as `stage` does, but in this process, which has imported its libraries."""
    said = io.StringIO()
    with (
        chdir(folder),
        redirect_stdout(said),
        redirect_stderr(said),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", ["pipeline", *arguments])
        code = main()
    return subprocess.CompletedProcess(arguments, code, said.getvalue())


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("prepare", "CompetitionError: data/raw: no such folder. Run: dvc repro download"),
        ("split", "TableError: data/store/train.csv: no such file. Run: dvc repro"),
        ("train", "TableError: data/store/competition.json: no such file. Run: dvc repro prepare"),
        ("ensemble", "TableError: data/store/competition.json: no such file. Run: dvc repro prepare"),
        ("check", "TableError: data/store/competition.json: no such file. Run: dvc repro prepare"),
        ("summary", "PipelineError: reports/leaderboard.json: nothing was made yet. Run: make run"),
    ],
)  # fmt: skip
def test_a_stage_without_its_inputs_names_the_command_that_makes_them(
    project: Path, name: str, message: str
) -> None:
    assert message in one_sentence(here(project, name))
    assert files(project) == {"params.yaml"}


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_refuses_a_typo_anywhere_in_params(project: Path, name: str) -> None:
    (project / "params.yaml").write_text(PARAMS.replace("confidence:", "confidense:"))
    found = one_sentence(here(project, name))
    assert (
        "params.yaml: ensemble.confidense: unknown parameter; did you mean 'confidence'?" in found
    )
    assert files(project) == {"params.yaml"}


def test_an_unknown_command_or_model_is_named(project: Path) -> None:
    unknown = stage(project, "spilt")
    assert unknown.returncode == 2
    assert "Did you mean 'split'?" in unknown.stdout
    assert "train.models: no model 'three'; known: one, two" in one_sentence(
        here(project, "train", "three")
    )
    assert stage(project, "train", "one", "-1").returncode == 2


def test_a_local_folder_that_is_not_there_is_named(project: Path) -> None:
    (project / "params.yaml").write_text(local_params("nowhere"))
    assert "nowhere" in one_sentence(stage(project, "download"))
    assert files(project) == {"params.yaml"}


def test_a_truncated_zip_stops_the_stage_and_leaves_nothing(project: Path) -> None:
    local = project / "local"
    local.mkdir()
    (local / "sample_submission.csv").write_text("id,label\nt,0\n")
    (local / "labels.csv").write_text("id,label\na,0\nb,1\n")
    make_zip(local / "train.zip", "a.png", "b.png")
    make_zip(local / "test.zip", "t.png")
    whole = (local / "train.zip").read_bytes()
    (local / "train.zip").write_bytes(whole[:-30])
    (project / "params.yaml").write_text(local_params("local"))
    assert "ArchiveError: local/train.zip: " in one_sentence(stage(project, "download"))
    assert not (project / "data").exists() or not files(project / "data")


def test_every_command_explains_itself(project: Path) -> None:
    listed = stage(project, "--help").stdout
    for name in [*STAGES, "summary", "profiles", "use"]:
        assert re.search(rf"│ {name} +[A-Z]", listed), name


def test_a_disk_without_room_stops_the_stage_with_one_sentence(project: Path) -> None:
    """A limit on the size of a file stands for the full disk: both fail in write(2)."""
    limited = "ulimit -f 4; trap '' XFSZ; exec python -m pipeline download"
    found = one_sentence(run(project, "bash", "-c", limited))
    assert "DiskError: data/" in found
    assert "cannot be written" in found
    assert not files(project / "data")
