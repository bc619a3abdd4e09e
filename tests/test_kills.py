"""Whatever is killed, and however: the same command goes on, and ends in the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from project import TRAINED_PARAMS, digests, environment, make_project, processes_with, run
from ruamel.yaml import YAML

SEED = int(os.environ.get("KILLS_SEED", "1"))
KILLS = 20
MARK = "KILLS_TEST_MARK"
MAKE_RUN = ["make", "-o", ".venv/.installed", "run"]
COMMANDS = [
    MAKE_RUN,
    [sys.executable, "-m", "pipeline", "jobs", "2"],
    [sys.executable, "-m", "pipeline", "repro"],
    ["dvc", "repro"],
]
OUTPUTS = ["data/*/*", "folds/*", "models/*/*/*", "ensemble/*", "submissions/*", "reports/*"]


def wait_for_end(mark: str, seconds: float) -> dict[int, str]:
    """The marked processes that are left after so many seconds, or none as soon as none is."""
    deadline = time.monotonic() + seconds
    while (left := processes_with(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_byte(trained: Path, tmp_path: Path) -> None:
    """A terminal sends Ctrl-C and its end to all of the foreground; kill, to one process."""
    expected = digests(trained, *OUTPUTS, "dvc.lock")
    project = make_project(tmp_path / "project", TRAINED_PARAMS)
    mark = f"{MARK}={project}"
    draw = random.Random(SEED)
    told, process = [], None
    log = (tmp_path / "log").open("w+")
    while len(told) < KILLS:
        if process is None:
            command = draw.choice(COMMANDS)
            process = subprocess.Popen(
                command, cwd=project, env=environment() | {MARK: str(project)},
                start_new_session=True, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        time.sleep(draw.uniform(0.1, 3.5))
        sent = draw.choice(
            [signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
        )
        below = sorted(set(processes_with(mark)) - {process.pid})
        leads = draw.random() < 0.4 or not below
        victim = process.pid if leads else draw.choice(below)
        whole = " ".join(command)
        told.append(
            f"{sent.name} to {'the leader' if leads else processes_with(mark).get(victim)} of {whole}"
        )
        print(told[-1], flush=True)
        try:
            if leads and sent in (signal.SIGINT, signal.SIGHUP):
                os.killpg(victim, sent)
            else:
                os.kill(victim, sent)
        except ProcessLookupError:
            pass
        if leads:
            left = wait_for_end(mark, 10)
            assert not left, (told, left)
        if process.poll() is not None or leads:
            assert not wait_for_end(mark, 10), told
            process.wait()
            process = None
            found = digests(project, *OUTPUTS)
            broken = [
                name
                for name in found
                if ".partial" not in name and found[name] != expected.get(name)
            ]
            assert not broken, (told, broken)
            if (project / "dvc.lock").exists():
                YAML(typ="safe").load((project / "dvc.lock").read_text())
    if process:
        process.kill()
    done = run(project, *MAKE_RUN)
    assert done.returncode == 0, done.stdout
    assert "had been killed" not in done.stdout
    assert digests(project, *OUTPUTS, "dvc.lock") == expected
