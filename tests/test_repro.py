"""DVC as a library: what killed runs and runs at work have left in its files."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from project import ROOT, copy_project, environment, make_project, processes_with
from ruamel.yaml import YAML

from pipeline.commands import repro
from pipeline.core.errors import PipelineError

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)", "train@one-0"]


def holder(
    pid: int, command: str = "x/pipeline/__main__.py repro -s train@one-0"
) -> dict[str, object]:
    return {"pid": pid, "cmd": command}


def test_those_at_work_stay_in_dvcs_lock_file_and_the_dead_go(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as dead:
        pass
    with subprocess.Popen(SLEEP) as living:
        time.sleep(0.1)  # else its command line is still this one's
        lock = {
            "write": {"/a": holder(living.pid), "/b": holder(dead.pid), "/c": holder(os.getpid())},
            "read": {
                "/d": [holder(dead.pid), holder(living.pid)],
                "/e": [holder(dead.pid)],
                "/f": [holder(living.pid, "another/dvc status")],  # the number was given again
            },
        }
        (tmp_path / "rwlock").write_text(json.dumps(lock))
        found = repro._others_at_work(tmp_path)
        living.kill()
    assert found == {tuple(holder(living.pid).values()): 2}
    assert json.loads((tmp_path / "rwlock").read_text()) == {
        "write": {"/a": holder(living.pid)},
        "read": {"/d": [holder(living.pid)]},
    }
    assert not repro._others_at_work(tmp_path)


@pytest.mark.parametrize(
    "text", ["", '{"write": {"/a": {"pid": 1, "cm', "[]", '{"write": {"/a": 1}}']
)
def test_a_lock_file_that_a_kill_has_cut_short_is_begun_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "rwlock").write_text(text)
    assert not repro._others_at_work(tmp_path)
    assert json.loads((tmp_path / "rwlock").read_text()) == {"write": {}, "read": {}}


def test_dvc_waits_by_name_for_those_that_use_the_same_files_and_then_goes_on(
    tmp_path: Path,
) -> None:
    """Without the hint to remove a file by hand; and after a kill without a warning."""
    project = make_project(tmp_path / "project")
    with subprocess.Popen(["true"]) as dead:
        pass
    locks = project / ".dvc/tmp"
    locks.mkdir()
    with subprocess.Popen(SLEEP) as other:
        time.sleep(0.1)
        lock = {
            "write": {str(project / "data/raw"): holder(other.pid)},
            "read": {str(project / "data/hidden"): [holder(dead.pid)]},
        }
        (locks / "rwlock").write_text(json.dumps(lock))
        said = []
        with subprocess.Popen(
            [sys.executable, "-m", "pipeline", "repro", "download"], cwd=project,
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as second:  # fmt: skip
            for line in second.stdout or []:
                said.append(line)
                if line.startswith("waiting for "):
                    other.kill()
    assert second.returncode == 0, said
    assert [line for line in said if "waiting" in line or "killed" in line] == [
        f"waiting for python -m pipeline repro -s train@one-0 (process {other.pid}): "
        "at work on the same files\n"
    ]
    assert (project / "data/hidden/MANIFEST.json").is_file()


def test_dvc_lock_is_replaced_whole_with_its_stages_by_name(tmp_path: Path) -> None:
    from dvc.utils.serialize import _yaml

    file = tmp_path / "dvc.lock"
    file.write_text("old")
    seen = []

    def dump(data: object, stream: object) -> None:
        seen.append(file.read_text())
        _yaml._dump(data, stream)  # type: ignore[arg-type]

    data = {
        "schema": "2.0",
        "stages": {"b": {"cmd": "x", "a": [{"z": 1, "y": 2}]}, "a": {"cmd": "y"}},
    }
    repro._dump_whole(str(file), data, dump, fs=None)
    assert seen == ["old"]
    found = YAML(typ="safe").load(file.read_text())
    assert found == data
    assert list(found["stages"]) == ["a", "b"]
    assert list(found["stages"]["b"]) == ["cmd", "a"]


@pytest.fixture
def unrecorded(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The trained project, whose dvc.lock knows three of its networks no more."""
    project = copy_project(trained, tmp_path / "project")
    monkeypatch.chdir(project)
    lock = Path("dvc.lock")
    parts = re.split(r"^(?=  \S)", lock.read_text(), flags=re.MULTILINE)
    kept = [part for part in parts if not part.startswith(tuple(f"  {name}:" for name in SOME))]
    assert len(parts) - len(kept) == len(SOME)
    lock.write_text("".join(kept))
    return project


SOME = ["train@one-0", "train@one-1", "train@two-1"]


@pytest.mark.usefixtures("unrecorded")
def test_stages_that_are_recorded_together_are_as_dvc_repro_records_them(trained: Path) -> None:
    assert repro.find_stale("train") == {*SOME}
    repro.record(SOME[::-1])
    assert Path("dvc.lock").read_bytes() == (trained / "dvc.lock").read_bytes()
    assert not repro.find_stale("train")


@pytest.mark.usefixtures("unrecorded")
def test_where_one_of_several_cannot_be_recorded_none_is_and_all_are_trained_again() -> None:
    before = Path("dvc.lock").read_bytes()
    shutil.rmtree("models/two/fold1")
    with pytest.raises(PipelineError, match="models/two/fold1"):
        repro.record(SOME)
    assert Path("dvc.lock").read_bytes() == before
    assert repro.find_stale("train") == {*SOME}


def test_the_same_yaml_is_parsed_once_and_each_reader_has_a_copy_of_his_own() -> None:
    repro._parse.cache_clear()
    for _ in range(3):
        found = repro._parse_once("a: [1]", "params.yaml")
        assert found == {"a": [1]}
        found["a"].append(2)
    assert repro._parse.cache_info().misses == 1
    assert repro._parse_once("a: [3]", "params.yaml") == {"a": [3]}


FOLLOWER = """
import sys, time
from pipeline.core.leader import follow_leader
follow_leader()
time.sleep(30)
"""
LEADER = """
import subprocess, sys, time
from pipeline.core.leader import follow_leader
follow_leader()
subprocess.Popen(["sh", "-c", f"{sys.executable} -c '{sys.argv[1]}'; true"])
time.sleep(30)
"""


@pytest.mark.parametrize("reaped", [True, False])
def test_what_a_killed_process_started_ends_through_a_shell_too(
    tmp_path: Path, reaped: bool
) -> None:
    """Also where nobody has yet asked for the killed one's exit code."""
    mark = f"FOLLOW_MARK={tmp_path}"
    own = {**environment(), "FOLLOW_MARK": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", LEADER, FOLLOWER], env=own) as leader:
        while len(processes_with(mark)) < 3:  # it, the shell, and what that has started
            time.sleep(0.02)
        leader.kill()
        if reaped:
            leader.wait()
        deadline = time.monotonic() + 10
        while (left := processes_with(mark)) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert not left


def test_a_leader_that_ended_before_is_noticed_and_no_leader_is_none(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as dead:
        pass
    for own, code in (
        ({"PIPELINE_LEADER": str(dead.pid)}, -9),
        ({"PIPELINE_LEADER": str(os.getpid())}, 0),
        ({"DVC_STAGE": "split"}, 0),
        ({}, 0),
    ):
        free = {name: text for name, text in environment().items() if name != "PIPELINE_LEADER"}
        done = subprocess.run(
            [sys.executable, "-c", FOLLOWER.replace("30", "0.7")],
            env={**free, "PYTHONPATH": str(ROOT), **own}, check=False, cwd=tmp_path, timeout=30,
        )  # fmt: skip
        assert done.returncode == code, own
