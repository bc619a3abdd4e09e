"""Several trainings side by side: the model × fold stages over this machine's cores or GPUs.

`dvc repro` runs one stage after the other. Here each stage that is out of date is a process of
its own, `python -m pipeline repro -s train@MEMBER-FOLD`: DVC's lock, for which it waits, is held
only while DVC reads and writes, not while the stage computes. DVC itself records what is done, so
that the same command, or `dvc repro`, goes on from there.

Each computes with `train.threads`, whatever runs beside it: on a CPU the number of threads decides
the last bits of the weights, so any number of jobs gives the bytes of `dvc repro` alone. More
threads than cores wait for each other, up to fifty times slower than alone (docs/PERFORMANCE.md):
by default there are as many jobs as cores and memory allow, or a few more of one thread each where
the last ones would leave cores idle; on GPUs, one each.
"""

import os
import re
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from pipeline.commands import repro
from pipeline.commands.board import LOGS, Board, Training
from pipeline.commands.processes import Processes
from pipeline.core import paths
from pipeline.core.competition import read_decoding
from pipeline.core.errors import TrainError, plural
from pipeline.core.machine import cores, free_memory
from pipeline.core.progress import say
from pipeline.train.config import ModelConfig, TrainConfig

_TRAINING_BYTES = 2 * 2**30
"""Memory of a training, measured at 64 px: 1.6 GB at its peak (`python -m benchmarks.train`)."""


@dataclass(frozen=True)
class Ended:
    """A training that has ended, and its exit code; place: the machine that ran it, or ""."""

    training: Training
    exit_code: int
    place: str


class Engine(ABC):
    """Where trainings run. What one has trained is placed and recorded with DVC when it ends."""

    def __enter__(self) -> "Engine":
        return self

    @abstractmethod
    def __exit__(self, *_: object) -> None:
        """End all trainings that still run."""

    @abstractmethod
    def has_room(self) -> bool:
        """Whether another training can be started."""

    @abstractmethod
    def start(self, training: Training) -> None:
        """Begin a training, or let it wait for its turn."""

    @abstractmethod
    def running(self) -> dict[Training, str]:
        """Those at work, with the machine of each, or ""."""

    @abstractmethod
    def wait(self) -> list[Ended]:
        """Wait a little; those that have ended since. Raises KeyboardInterrupt after Ctrl-C."""


def run(config: TrainConfig, asked: int | None) -> None:
    """Train whatever is out of date, `asked` stages at a time; None: as many as pay here.

    Raises TrainError as train_all does.
    """
    left = find_work(config)
    if not left:
        return
    gpus, threads, world = find_gpus(config.device), config.threads, config.world
    most = choose_jobs(gpus, threads, world, cores(), free_memory(), len(left))
    jobs = min(asked or most, len(left))
    shares = [share(gpus, threads, world, slot) for slot in range(jobs)]
    text = f"{jobs} at a time, {plural(threads, 'thread')} each"
    text += f" of {world} processes" if world > 1 else ""
    text += f", GPU {', '.join(sorted(gpus[: jobs * world]))}" if gpus else ""
    say(f"{len(left)} of {count(config)} to train, {text}; logs in {LOGS}")
    with LocalEngine(shares) as engine:
        train_all(left, engine)


def find_work(config: TrainConfig) -> list[Training]:
    """The trainings that are out of date; what would stop each of them is raised here."""
    for member in config.members:
        network = config.models[member].network
        if network.weights is not None:
            network.weights.check()  # also where DVC finds nothing to train: it knows the hash only
    left = find_stale(config)
    if not left:
        say("nothing to train: every model and fold is up to date")
    _check_augmentation(config, {training.model for training in left})
    return left


def count(config: TrainConfig) -> int:
    """All trainings of the parameters."""
    return len(config.members) * len(config.folds)


def train_all(left: list[Training], engine: Engine) -> None:
    """Run all trainings, and show how they get on.

    Raises TrainError that names each one that failed; the others are done. Ctrl-C, SIGTERM and
    SIGHUP end all of them first.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    waiting, failed, ended = deque(left), list[Training](), 0
    begun: dict[Training, float] = {}
    with Board() as board:
        while ended < len(left):
            while waiting and engine.has_room():
                training = waiting.popleft()
                training.live.unlink(missing_ok=True)  # an earlier run's
                engine.start(training)
            for training, place in engine.running().items():
                if training not in begun:
                    begun[training] = time.monotonic()
                    board.show_begin(training, place)
            for one in engine.wait():
                training = one.training
                ended += 1
                failed += [training] * (one.exit_code != 0)
                seconds = time.monotonic() - begun.get(training, time.monotonic())
                how = "done"
                if one.exit_code:
                    how = f"FAILED, exit code {one.exit_code}, log in {training.log}"
                how += f", {seconds:.0f} s" + (f" on {one.place}" if one.place else "")
                board.show_end(training, how, f"{ended} of {len(left)}")
            board.show(engine.running(), ended, len(left))
    if failed:
        reasons = "; ".join(f"{each} ({each.log}): {_reason(each.log)}" for each in failed)
        raise TrainError(
            f"{len(failed)} of {len(left)} trainings failed, the others are done: {reasons}. "
            "The same command trains what is left"
        )


def _check_augmentation(config: TrainConfig, members: set[str]) -> None:
    """Raise TrainError for what each fold would stop at, once, before any of them trains."""
    from pipeline.train.batches import make_policy

    shape = read_decoding(paths.DECODING).shape
    for member in sorted(members):
        model = config.models[member]
        if not isinstance(model, ModelConfig):
            continue
        try:
            make_policy(model, shape)
        except TrainError as error:
            raise TrainError(f"{paths.PARAMS}: train.models.{member}: {error}") from error


def find_stale(config: TrainConfig) -> list[Training]:
    """The trainings that DVC would run or restore; stages before them are brought up to date."""
    wanted = [
        Training(member, fold, config.models[member].epochs)
        for member in config.members
        for fold in config.folds
    ]
    stale = repro.find_stale("train")
    if stale - {training.stage for training in wanted}:
        repro.reproduce(["split"])  # with those before it, it makes all that the trainings read
        stale = repro.find_stale("train")
    return [training for training in wanted if training.stage in stale]


def find_gpus(device: str) -> list[str]:
    """The names, in CUDA_VISIBLE_DEVICES, of the GPUs that `train.device` chooses.

    They are numbers, or what that variable already chose; "0" for Apple's; none where the CPU
    trains. Raises TrainError for a device that is not there.
    """
    import torch  # 2 s: only where there is something to train

    from pipeline.train.device import choose_compute

    match choose_compute(device, "float32").device.type:
        case "cpu":
            return []
        case "mps":
            return ["0"]
    count = torch.cuda.device_count()
    chosen = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return chosen[:count] if chosen != [""] else [str(number) for number in range(count)]


def choose_jobs(
    gpus: list[str], threads: int, world: int, core_count: int, free_bytes: int, left: int
) -> int:
    """How many of `left` trainings run side by side: as GPUs, or CPU cores and memory, allow.

    world: processes of each, with `threads` and a GPU each. free_bytes: memory that programs can
    still have. On two cores, two trainings with one thread each took 0.68 of the time of one after
    the other with both threads (`python -m benchmarks.jobs --images 1000 --epochs 6`). Trainings of
    one thread share cores without waiting for each other: there are more of them than cores where
    that leaves fewer cores idle at the end.
    """
    if gpus:
        return max(1, min(left, len(gpus) // world))
    fitting = free_bytes // _TRAINING_BYTES // world
    fewest = max(1, min(left, core_count // (threads * world), fitting))
    most = min(left, fitting) if threads * world == 1 else fewest
    return min(
        range(fewest, max(fewest, most) + 1), key=lambda jobs: _turns(left, jobs, core_count)
    )


def _turns(left: int, jobs: int, core_count: int) -> float:
    """How long `left` trainings take, `jobs` at a time, in times of one that has a core alone."""
    rounds, rest = divmod(left, jobs)
    last = max(1.0, rest / core_count) if rest else 0.0
    return rounds * max(1.0, jobs / core_count) + last


def share(gpus: list[str], threads: int, world: int, slot: int) -> dict[str, str]:
    """The environment of the job in a slot, from 0: its threads, and `world` GPUs by turns."""
    own = {"OMP_NUM_THREADS": str(threads)}
    if not gpus:
        return own
    chosen = dict.fromkeys(gpus[(slot * world + rank) % len(gpus)] for rank in range(world))
    return own | {"CUDA_VISIBLE_DEVICES": ",".join(chosen)}


class LocalEngine(Engine):
    """The cores or GPUs of this machine, in so many slots."""

    def __init__(self, shares: list[dict[str, str]]) -> None:
        """shares: the environment of a job in each slot."""
        self._shares = shares
        self._free = deque(range(len(shares)))
        self._processes = Processes()
        self._slots: dict[str, tuple[Training, int]] = {}

    def __enter__(self) -> "LocalEngine":
        self._processes.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.__exit__()

    def has_room(self) -> bool:
        return bool(self._free)

    def start(self, training: Training) -> None:
        slot = self._free.popleft()
        self._slots[str(training)] = training, slot
        command = [sys.executable, "-m", "pipeline", "repro", "-s", training.stage]
        self._processes.start(str(training), command, self._shares[slot], training.log)

    def running(self) -> dict[Training, str]:
        return {training: "" for training, _ in self._slots.values()}

    def wait(self) -> list[Ended]:
        ended = []
        for name, code in self._processes.wait().items():
            training, slot = self._slots.pop(name)
            self._free.append(slot)
            ended.append(Ended(training, code, ""))
        return ended


def _reason(log: Path) -> str:
    """The last error of the stage in the log, else DVC's, else its last line."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    of_dvc = [line for line in lines if line.startswith("PipelineError: dvc repro: ")]
    errors = [line for line in lines if re.match(r"\w*(Error|Interrupt): ", line)]
    own = [line for line in errors if line not in of_dvc]
    return next(iter([*own[-1:], *of_dvc[-1:], *lines[-1:]]), "its log is empty")
