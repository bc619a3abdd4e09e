"""Several trainings side by side: the model × fold stages over this machine's cores or GPUs.

`dvc repro` runs one stage after the other. Here each stage that is out of date is a process of
its own, `python -m pipeline repro -s train@MEMBER-FOLD`: DVC's lock, for which it waits, is held
only while DVC reads and writes, not while the stage computes. DVC itself records what is done, so
that the same command, or `dvc repro`, goes on from there.

Each computes with `train.threads`, whatever runs beside it: on a CPU the number of threads decides
the last bits of the weights, so any number of jobs gives the bytes of `dvc repro` alone. More
threads than cores wait for each other, up to fifty times slower than alone (docs/PERFORMANCE.md):
by default there are as many jobs as cores and memory allow, or, on GPUs, one each.
"""

import os
import re
import sys
import time
from collections import deque
from pathlib import Path

from pipeline.commands import repro
from pipeline.commands.board import LOGS, Board, Training
from pipeline.commands.processes import Processes
from pipeline.core import paths
from pipeline.core.competition import read_decoding
from pipeline.core.errors import TrainError
from pipeline.core.machine import cores, free_memory
from pipeline.core.progress import say
from pipeline.train.config import ModelConfig, TrainConfig

_TRAINING_BYTES = 2 * 2**30
"""Memory of a training, measured at 64 px: 1.6 GB at its peak (`python -m benchmarks.train`)."""


def run(config: TrainConfig, asked: int | None) -> None:
    """Train whatever is out of date, `asked` stages at a time; None: as many as pay here.

    Raises TrainError that names each training that failed; the others are done. Ctrl-C, SIGTERM
    and SIGHUP end all of them first.
    """
    for member in config.members:
        network = config.models[member].network
        if network.weights is not None:
            network.weights.check()  # also where DVC finds nothing to train: it knows the hash only
    left = find_stale(config)
    if not left:
        say("nothing to train: every model and fold is up to date")
        return
    _check_augmentation(config, {training.model for training in left})
    gpus, threads = find_gpus(config.device), config.threads
    jobs = min(asked or choose_jobs(gpus, threads, cores(), free_memory()), len(left))
    shares = [share(gpus, threads, slot) for slot in range(jobs)]
    text = f"{jobs} at a time, {threads} thread{'s' * (threads > 1)} each"
    text += f", GPU {', '.join(sorted(gpus[:jobs]))}" if gpus else ""
    of = len(config.members) * len(config.folds)
    say(f"{len(left)} of {of} to train, {text}; logs in {LOGS}")
    if failed := train_side_by_side(left, shares):
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


def choose_jobs(gpus: list[str], threads: int, core_count: int, free_bytes: int) -> int:
    """The number of trainings side by side: one a GPU; on the CPU as cores and memory allow.

    free_bytes: memory that programs can still have. On two cores, two trainings with one thread
    each took 0.68 of the time of one after the other with both threads
    (`python -m benchmarks.jobs --images 1000 --epochs 6`).
    """
    return len(gpus) or max(1, min(core_count // threads, free_bytes // _TRAINING_BYTES))


def share(gpus: list[str], threads: int, slot: int) -> dict[str, str]:
    """The environment of the job in a slot, from 0: its threads, and one GPU by turns."""
    own = {"OMP_NUM_THREADS": str(threads)}
    return own | ({"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {})


def train_side_by_side(left: list[Training], shares: list[dict[str, str]]) -> list[Training]:
    """Run all, one at a time in each slot, with its share as environment; those that failed."""
    LOGS.mkdir(parents=True, exist_ok=True)
    waiting, free = deque(left), deque(range(len(shares)))
    running: dict[str, tuple[Training, int, float]] = {}
    failed: list[Training] = []
    ended = 0
    with Processes() as processes, Board() as board:
        while waiting or running:
            while waiting and free:
                training, slot = waiting.popleft(), free.popleft()
                training.live.unlink(missing_ok=True)  # an earlier run's
                command = [sys.executable, "-m", "pipeline", "repro", "-s", training.stage]
                processes.start(str(training), command, shares[slot], training.log)
                running[str(training)] = training, slot, time.monotonic()
                board.show_begin(training)
            for name, code in processes.wait().items():
                training, slot, started = running.pop(name)
                free.append(slot)
                ended += 1
                failed += [training] * (code != 0)
                how = f"FAILED, exit code {code}, log in {training.log}" if code else "done"
                how += f", {time.monotonic() - started:.0f} s"
                board.show_end(training, how, f"{ended} of {len(left)}")
            board.show([training for training, _, _ in running.values()], ended, len(left))
    return failed


def _reason(log: Path) -> str:
    """The last error of the stage in the log, else DVC's, else its last line."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    of_dvc = [line for line in lines if line.startswith("PipelineError: dvc repro: ")]
    errors = [line for line in lines if re.match(r"\w*(Error|Interrupt): ", line)]
    own = [line for line in errors if line not in of_dvc]
    return next(iter([*own[-1:], *of_dvc[-1:], *lines[-1:]]), "its log is empty")
