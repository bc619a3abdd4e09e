"""Whatever is killed, and however: the same command goes on, and ends in the same bytes."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from project import TRAINED_PARAMS, digests, environment, make_project, processes_with, run

SEED = int(os.environ.get("KILLS_SEED", "1"))
MAKE = ["make", "-o", ".venv/.installed"]
OUTPUTS = [
    "data/*/*",
    "folds/*.*",
    "models/*/*/*",
    "ensemble/*",
    "explain/*/*",
    "submissions/*",
    "reports/*",
]

SIGNALS = [*[signal.SIGKILL] * 3, signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
STAGES = os.environ.get("KILLS_STAGES", "prepare train train ensemble").split()
"""In each of these the command at work is killed twice: below its leader, then the leader. Other
signals and moments: KILLS_SEED=2 KILLS_STAGES="download split train report" pytest …"""


class Victim:
    """A command in a session of its own, with all processes that it starts."""

    def __init__(self, project: Path, command: list[str]) -> None:
        self.live = project / "live"
        self.mark = f"KILLS_TEST_MARK={project}"
        self.process = subprocess.Popen(
            command, cwd=project, start_new_session=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env=environment() | {"KILLS_TEST_MARK": str(project)},
        )  # fmt: skip

    def below(self) -> dict[int, str]:
        """Numbers and command lines of the processes that the leader has started."""
        found = processes_with(self.mark)
        return {pid: words for pid, words in found.items() if pid != self.process.pid}

    def wait_for(self, stage: str, epoch: bool) -> str:
        """Return in a stage, or after an epoch of a training; or when the command has ended."""
        while self.process.poll() is None:
            here = any(f" pipeline {stage} " in words for words in self.below().values())
            if here and not (epoch and stage == "train" and not list(self.live.glob("*.csv"))):
                return f"in {stage}"
            time.sleep(0.02)
        return f"ended before {stage}"

    def send_below(self, draw: random.Random, sent: signal.Signals) -> str:
        """Kill a process that the leader has started; which."""
        found = self.below()
        if not found:
            return "nobody"
        pid = draw.choice(sorted(found))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sent)
        return found[pid]

    def send(self, sent: signal.Signals) -> str:
        """A terminal sends Ctrl-C and its own end to the whole group, `kill` to one process."""
        if self.process.poll() is not None:
            return "a leader that had ended"
        to_all = sent in (signal.SIGINT, signal.SIGHUP)
        (os.killpg if to_all else os.kill)(self.process.pid, sent)
        return "all" if to_all else "the leader"

    def left(self) -> dict[int, str]:
        """What is left of it 10 s after its leader's end, which after a signal cleans up first."""
        self.process.wait(timeout=60)
        deadline = time.monotonic() + 10
        while (found := processes_with(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found


@pytest.mark.slow
def test_after_kills_at_random_moments_the_bytes_are_those_of_an_unbroken_run(
    trained: Path, tmp_path: Path
) -> None:
    expected = digests(trained, *OUTPUTS, "dvc.lock")
    project = make_project(tmp_path / "project", TRAINED_PARAMS)
    draw = random.Random(SEED)
    told: list[str] = []
    for stage in STAGES:
        command = draw.choice([[*MAKE, "run"], [sys.executable, "-m", "pipeline", "repro"]])
        if stage == "train":
            command = [*MAKE, "train", "JOBS=2"]
        victim = Victim(project, command)
        told.append(f"{command}, {victim.wait_for(stage, draw.random() < 0.5)}")
        time.sleep(draw.uniform(0, 1))
        sent = draw.choice(SIGNALS)
        told.append(f"  {sent.name} to {victim.send_below(draw, sent)}")
        time.sleep(draw.uniform(0, 0.2))  # not long: the death of a stage ends its leader too
        sent = draw.choice(SIGNALS)
        told.append(f"  {sent.name} to {victim.send(sent)}")
        left = victim.left()
        found = digests(project, *OUTPUTS)
        differ = [name for name in found if found[name] != expected.get(name)]
        told.append(f"  then there were {len(found)} whole files")
        assert not left, (told, left)
        assert not [name for name in differ if ".partial" not in name], (told, differ)
    print(*told, sep="\n")
    done = run(project, *MAKE, "run")
    assert done.returncode == 0, (told, done.stdout)
    assert "had been killed" not in done.stdout
    assert digests(project, *OUTPUTS, "dvc.lock") == expected, told
