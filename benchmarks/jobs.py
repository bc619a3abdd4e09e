"""Folds side by side with one thread each, against one after the other with all of them.

What `make train JOBS=n` (pipeline/commands/jobs.py) gains over `dvc repro` on a CPU: as many
trainings as there are cores, each pipeline.train.fit.fit as stage `train` calls it, in a process of
its own.
The time is that from the start of the first process to the end of the last, imports included,
without DVC's own second a stage. Any other program on the machine slows down the peer by far
more: its threads wait for each other after every layer.
"""

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from benchmarks.child import run_in_child
from benchmarks.drawn import TASK, Drawn, decoding, draw, read_profile
from benchmarks.timing import median_ratio, print_goal, print_machine, print_table, take_turns
from pipeline.train.config import ModelConfig

SIZE_PX = 64


def main(
    images: Annotated[int, typer.Option(help="Images to train on.", min=20)] = 2000,
    epochs: Annotated[int, typer.Option(help="Epochs of each training.", min=1)] = 3,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Measure trainings side by side."""
    print_machine()
    cores = os.cpu_count() or 1
    config = read_profile().train.models["vgg"]
    config = config.model_copy(update={"epochs": epochs, "warmup_epochs": 0})
    peer = f"one after the other, {cores} threads"
    together = f"{cores} side by side, 1 thread each"
    with tempfile.TemporaryDirectory() as folder:
        drawn, _ = draw(Path(folder), images, 20, SIZE_PX)
        turns = {
            peer: partial(_train_all, drawn, config, cores, 1, cores),
            together: partial(_train_all, drawn, config, cores, cores, 1),
            "one after the other, 1 thread": partial(_train_all, drawn, config, cores, 1, 1),
        }
        found = take_turns(turns, rounds)
    print_table(f"{cores} trainings, seconds ({images} × {epochs}, {SIZE_PX} px)", found, peer)
    print_goal(f"{together}, × the time of {peer}", median_ratio(found, together, peer), below=1.0)


def _train_all(
    drawn: Drawn, config: ModelConfig, trainings: int, at_once: int, threads: int, _: int
) -> float:
    started = perf_counter()
    seeded = [config.model_copy(update={"seed": seed}) for seed in range(trainings)]
    with ThreadPoolExecutor(at_once) as pool:
        work = [partial(_train_once, drawn, one, threads) for one in seeded]
        list(pool.map(run_in_child, work))
    return perf_counter() - started


def _train_once(drawn: Drawn, config: ModelConfig, threads: int) -> None:
    import numpy as np
    import torch

    from pipeline.train.checkpoint import Checkpoint
    from pipeline.train.device import choose_compute, deterministic
    from pipeline.train.fit import TrainingRows, fit
    from pipeline.train.kinds import mean_and_std
    from pipeline.train.models import build_model

    deterministic(threads)
    torch.manual_seed(config.seed)
    images, labels = drawn.images(), drawn.labels()
    rows = TrainingRows(np.arange(len(labels)), inner=np.array([], np.int64))
    mean, std = mean_and_std(images, rows.training)
    model = build_model(config.network, TASK, decoding(SIZE_PX), list(mean), list(std))
    compute = choose_compute("cpu", config.precision)
    with tempfile.TemporaryDirectory() as folder:
        fit(model, images, labels, rows, config, compute, Checkpoint(Path(folder)), lambda _: None)


if __name__ == "__main__":
    typer.run(main)
