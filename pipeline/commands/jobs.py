"""Several trainings side by side: the model × fold stages over this machine's cores or GPUs.

`dvc repro` runs one stage after the other. Here each stage that is out of date is a process of
its own, `dvc --wait-for-lock repro -s train@MEMBER-FOLD`: DVC's lock is held only while it looks
and writes, not while the stage computes, and without --wait-for-lock the second one fails. What
is done is recorded by DVC itself, so that the same command, or `dvc repro`, goes on from there.

Each computes with `train.threads`, whatever runs beside it: on a CPU the number of threads decides
the last bits of the weights, so any number of jobs gives the bytes of `dvc repro` alone. More
threads than cores wait for each other, up to fifty times slower than alone (docs/PERFORMANCE.md):
by default there are as many jobs as have cores and memory, or, on GPUs, one each.
"""

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, Self

import psutil

from pipeline.core import paths
from pipeline.core.errors import TrainError
from pipeline.core.progress import say
from pipeline.train.config import TrainConfig

LOGS = paths.RESUME / "logs"
"""What each training said, complete; that of its last run."""

_DVC = [sys.executable, "-m", "dvc", "--wait-for-lock"]
_BEFORE = "split"
"""With the stages before it, it makes what trainings read."""

_TRAINING_BYTES = 2 * 2**30
"""What a training takes, measured at 64 px: 1.6 GB at its peak (`python -m benchmarks.train`)."""

_HINTS = (
    "Updating lock file",
    "Generating lock file",
    "To track the changes",
    "git add ",
    "To enable auto staging",
    "dvc config core.autostage",
    "Use `dvc push`",
)
"""DVC's last words to each training: they stand in its log alone."""

_TURN_S = 0.2
_GRACE_S = 20.0
"""From Ctrl-C to the end of a training's own clearing up; then it is killed."""


@dataclass(frozen=True)
class Machine:
    """What trainings share."""

    cores: int
    free_bytes: int
    """Memory that programs can still have."""
    gpus: list[str]
    """As CUDA_VISIBLE_DEVICES calls them, Apple's as the first; empty where the CPU trains."""


def run(config: TrainConfig, asked: int | None) -> None:
    """Train whatever is out of date, `asked` stages at a time; None: as many as pay here.

    Raises TrainError that names each training that failed; the others are done. Ctrl-C, SIGTERM
    and SIGHUP end all of them first.
    """
    names = stage_names(config)
    stale = _out_of_date()
    if stale - set(names):
        _run_before()
        stale = _out_of_date()
    left = [name for name in names if name in stale]
    if not left:
        say("nothing to train: every model and fold is up to date")
        return
    machine = find_machine(config.device)
    jobs = min(asked or choose_jobs(machine, config.threads), len(left))
    shares = [share(machine, config.threads, slot) for slot in range(jobs)]
    say(f"{len(left)} of {len(names)} to train, {_describe(shares)}; logs in {LOGS}")
    if failed := _train(left, shares):
        raise TrainError(_describe_failures(failed, len(left)))


def stage_names(config: TrainConfig) -> list[str]:
    """The stages of dvc.yaml's matrix `train`, as DVC names them."""
    return [f"train@{member}-{fold}" for member in config.members for fold in config.folds]


def find_machine(device: str) -> Machine:
    """This process's cores and memory, and its GPUs if `train.device` leads there.

    Raises TrainError for a device that is not there.
    """
    import torch  # 2 s: only where there is something to train

    from pipeline.train.device import choose_compute

    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    free_bytes = psutil.virtual_memory().available
    match choose_compute(device, "float32").device.type:
        case "cpu":
            gpus = []
        case "cuda":
            gpus = visible_gpus(torch.cuda.device_count(), os.environ)
        case _:
            gpus = ["0"]
    return Machine(cores, free_bytes, gpus)


def visible_gpus(count: int, environment: Mapping[str, str]) -> list[str]:
    """The names of the `count` GPUs: numbers, or what CUDA_VISIBLE_DEVICES already chose."""
    chosen = [name.strip() for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return chosen[:count] if chosen != [""] else [str(number) for number in range(count)]


def choose_jobs(machine: Machine, threads: int) -> int:
    """How many at a time pay: one a GPU; on the CPU as many as find cores and memory, at least one.

    On two cores, two trainings with one thread each took 0.68 of the time of one after the other
    with both threads (`python -m benchmarks.jobs --images 1000 --epochs 6`).
    """
    if machine.gpus:
        return len(machine.gpus)
    return max(1, min(machine.cores // threads, machine.free_bytes // _TRAINING_BYTES))


def share(machine: Machine, threads: int, slot: int) -> dict[str, str]:
    """The environment of the job in a slot, from 0: its threads, and one GPU by turns."""
    own = {"OMP_NUM_THREADS": str(threads)}
    if machine.gpus:
        own["CUDA_VISIBLE_DEVICES"] = machine.gpus[slot % len(machine.gpus)]
    return own


@dataclass
class _Job:
    """A command at work; it leads a process group, so that a signal reaches all of it."""

    name: str
    slot: int
    process: subprocess.Popen[bytes]
    log: BinaryIO | None
    """None where it speaks for itself, on this process's own standard error."""
    started: float
    rest: bytes = b""
    heard_all: bool = False


class _Jobs:
    """The commands at work, none of which may outlive this process.

    A signal is only noted when it comes, and acted upon in `take_turn`, so that it cannot fall
    between the start of a process and the note of it.
    """

    def __init__(self) -> None:
        self.running: list[_Job] = []
        self._selector = selectors.DefaultSelector()
        self._asked_to_stop: int | None = None
        self._stopping = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a script's background
                self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._stop()
        finally:
            self._selector.close()
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def start(
        self, name: str, slot: int, stages: list[str], own: Mapping[str, str], log: Path | None
    ) -> None:
        """`dvc repro` of these stages; where there is a log, passed on line by line too."""
        file = log.open("wb") if log else None
        process = subprocess.Popen(
            [*_DVC, "repro", *stages],
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if log else None,
            stderr=subprocess.STDOUT if log else None,
            start_new_session=True,
        )
        job = _Job(name, slot, process, file, time.monotonic(), heard_all=log is None)
        self.running.append(job)
        if process.stdout:
            self._selector.register(process.stdout, selectors.EVENT_READ, job)

    def take_turn(self) -> list[_Job]:
        """Wait a little, pass on what was said, and return the jobs that ended.

        A job has ended when nobody of its group holds its output any more, not DVC alone.
        Raises KeyboardInterrupt, or SystemExit, after a signal.
        """
        if (number := self._asked_to_stop) is not None:
            self._asked_to_stop = None
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        for key, _ in self._selector.select(_TURN_S):
            self._pass_on(key.data, os.read(key.fd, 65536))
        ended = [job for job in self.running if job.heard_all and job.process.poll() is not None]
        self.running = [job for job in self.running if job not in ended]
        return ended

    def _pass_on(self, job: _Job, heard: bytes) -> None:
        *lines, job.rest = (job.rest + heard).split(b"\n")
        if job.log:
            job.log.write(heard)
            job.log.flush()
        for line in lines if heard else [job.rest]:
            text = line.decode(errors="replace").rpartition("\r")[2].strip()
            if text and not text.startswith(_HINTS) and not self._stopping:
                say(f"{job.name} | {text}")
        if not heard and job.process.stdout and job.log:
            self._selector.unregister(job.process.stdout)
            job.process.stdout.close()
            job.log.close()
            job.heard_all = True

    def _stop(self) -> None:
        """Ctrl-C to each group; after the grace, or a second Ctrl-C, the end."""
        if not self.running:
            return
        say(f"stopping {', '.join(job.name for job in self.running)}")
        self._stopping = True  # last words, at times a worker's traceback: to the log alone
        groups = [job.process.pid for job in self.running]
        try:
            self._signal_and_wait(groups, signal.SIGINT, _GRACE_S)
        finally:
            with contextlib.suppress(KeyboardInterrupt, SystemExit):
                self._signal_and_wait(groups, signal.SIGKILL, _GRACE_S)

    def _signal_and_wait(self, groups: list[int], number: int, most_s: float) -> None:
        _signal(groups, number)
        deadline = time.monotonic() + most_s
        while (self.running or _signal(groups, 0)) and time.monotonic() < deadline:
            self.take_turn()

    def _note(self, number: int, _: FrameType | None) -> None:
        self._asked_to_stop = number


def _signal(groups: list[int], number: int) -> bool:
    """Whether any of the process groups is still there to hear it."""
    reached = False
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
            reached = True
    return reached


def _out_of_date() -> set[str]:
    """The stages, up to the trainings, that DVC would run or restore."""
    status = [*_DVC, "status", "--json", "--with-deps", "train"]
    done = subprocess.run(status, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise TrainError("dvc status failed, see above. Nothing was trained")
    return set(json.loads(done.stdout))


def _run_before() -> None:
    with _Jobs() as jobs:
        jobs.start(_BEFORE, 0, [_BEFORE], {}, None)
        ended: list[_Job] = []
        while jobs.running:
            ended += jobs.take_turn()
    if ended[0].process.returncode:
        raise TrainError("a stage before the trainings failed, see above. Nothing was trained")


def _train(names: list[str], shares: list[dict[str, str]]) -> list[str]:
    """Run all, each slot one at a time; the names of those that failed."""
    LOGS.mkdir(parents=True, exist_ok=True)
    waiting, free = deque(names), deque(range(len(shares)))
    done: list[str] = []
    failed: list[str] = []
    with _Jobs() as jobs:
        while waiting or jobs.running:
            while waiting and free:
                name, slot = waiting.popleft(), free.popleft()
                jobs.start(name, slot, ["--single-item", name], shares[slot], _log(name))
            for job in jobs.take_turn():
                free.append(job.slot)
                code = job.process.returncode
                (failed if code else done).append(job.name)
                how = f"FAILED, exit code {code}" if code else "done"
                passed_s = time.monotonic() - job.started
                count = f"{len(done) + len(failed)} of {len(names)}"
                say(f"{job.name}: {how}, {passed_s:.0f} s ({count})")
    return failed


def _log(name: str) -> Path:
    return LOGS / f"{name}.log"


def _describe(shares: list[dict[str, str]]) -> str:
    threads = int(shares[0]["OMP_NUM_THREADS"])
    text = f"{len(shares)} at a time, {threads} thread{'s' * (threads > 1)} each"
    gpus = sorted({own["CUDA_VISIBLE_DEVICES"] for own in shares if "CUDA_VISIBLE_DEVICES" in own})
    return f"{text}, GPU {', '.join(gpus)}" if gpus else text


def _describe_failures(failed: list[str], of: int) -> str:
    reasons = "; ".join(f"{name} ({_log(name)}): {_reason(name)}" for name in failed)
    return (
        f"{len(failed)} of {of} trainings failed, the others are done: {reasons}. "
        "What is left is trained by the same command"
    )


def _reason(name: str) -> str:
    """The last error of ours in its log, else DVC's, else its last line."""
    text = _log(name).read_text(encoding="utf-8", errors="replace")
    said = [line.strip() for line in text.split("\n") if line.strip()]
    own = [line for line in said if re.match(r"\w*(Error|Interrupt): ", line)]
    of_dvc = [line for line in said if line.startswith("ERROR: ")]
    return next(iter([*own[-1:], *of_dvc[-1:], *said[-1:]]), "it said nothing")
