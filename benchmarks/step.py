"""Is the feed or the step the bottleneck: training against the same step on one batch that stays.

Ours: pipeline.train.fit.fit as stage `train` calls it, in images/s after the first epoch, so that
neither the start nor a compilation counts. Peer: the same, with the first batch again in place of
every later one, already on the device and augmented. On a GPU the ratio is to be 0.9 or more; on a
CPU both share the cores, and it tells what feeding costs. `--compiled` adds the compiled step.
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from benchmarks.child import peak_memory_gb, run_in_child
from benchmarks.drawn import TASK, Drawn, decoding, draw, read_profile
from benchmarks.timing import median_ratio, print_goal, print_machine, print_table, take_turns
from benchmarks.train import NETWORKS
from pipeline.train.config import ModelConfig

GOAL = 0.9


@dataclass(frozen=True)
class Timed:
    """One training: its rate after the first epoch, and its peak memory, the device's on a GPU."""

    images_per_s: float
    peak_gb: float


def main(
    images: Annotated[int, typer.Option(help="Images to train on.", min=20)] = 2000,
    size: Annotated[int, typer.Option(help="Side in pixels.", min=16)] = 64,
    batch: Annotated[int, typer.Option(help="Images a step.", min=2)] = 64,
    epochs: Annotated[int, typer.Option(help="Epochs of each training.", min=2)] = 3,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    network: Annotated[str, typer.Option(help="vgg or resnet18.")] = "vgg",
    engine: Annotated[str, typer.Option(help="batched or albumentations.")] = "batched",
    compiled: Annotated[bool, typer.Option("--compiled", help="The compiled step too.")] = False,
) -> None:
    """Measure training against its own step."""
    print_machine()
    profile = read_profile().train
    changes = NETWORKS[network] | {"epochs": epochs, "batch_size": batch, "engine": engine}
    config = profile.models["vgg"].model_copy(update=changes)
    turns = {}
    with tempfile.TemporaryDirectory() as folder:
        drawn, _ = draw(Path(folder), images, 20, size)
        for name, is_compiled in [("plain", False), *[("compiled", True)] * compiled]:
            one = config.model_copy(update={"compiled": is_compiled})
            for what, stays in (("one batch", True), ("training", False)):
                work = partial(_train, drawn, one, profile.device, stays)
                turns[f"{name}: {what}"] = partial(_in_child, work)
        found = take_turns(turns, rounds)
    rates = {name: [timed.images_per_s for timed in runs] for name, runs in found.items()}
    print_table(f"images/s ({network}, {size} px, batch {batch})", rates, "plain: one batch")
    memory = {name: [timed.peak_gb for timed in runs] for name, runs in found.items()}
    print_table("peak memory, GB", memory, "plain: one batch")
    for name in dict.fromkeys(turn.partition(":")[0] for turn in turns):
        ratio = median_ratio(rates, f"{name}: training", f"{name}: one batch")
        print_goal(f"{name}: training, × its step on one batch", ratio, least=GOAL)


def _in_child(work: partial[Timed], _: int) -> Timed:
    return run_in_child(work)


def _train(drawn: Drawn, config: ModelConfig, device: str, stays: bool) -> Timed:
    import numpy as np
    import torch

    from pipeline.train import fit
    from pipeline.train.batches import Batch, Feed, worker_count
    from pipeline.train.checkpoint import Checkpoint
    from pipeline.train.device import choose_compute, deterministic
    from pipeline.train.kinds import mean_and_std
    from pipeline.train.models import build_model

    class OneBatch(Feed):
        def batches(self, first_step: int) -> Iterator[Batch]:
            batch = next(super().batches(first_step))
            for _ in range(first_step, len(self)):
                yield batch

    if stays:
        fit.Feed = OneBatch  # type: ignore[misc]
    deterministic(os.cpu_count() or 1)
    torch.manual_seed(config.seed)
    compute = choose_compute(device, config.precision)
    images, labels = drawn.images(), drawn.labels()
    rows = fit.TrainingRows(np.arange(len(labels)), inner=np.array([], np.int64))
    mean, std = mean_and_std(images, rows.training)
    model = build_model(config.network, TASK, decoding(images.shape[1]), list(mean), list(std))
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder))

        def note(_: fit.History) -> None:
            ends.append(perf_counter())

        fit.fit(model, images, labels, rows, config, compute, checkpoint, note)
    seen = (len(ends) - 1) * len(labels)
    peak_gb = peak_memory_gb(worker_count(compute.device))
    if compute.device.type == "cuda":
        peak_gb = torch.cuda.max_memory_allocated() / 1e9
    return Timed(seen / (ends[-1] - ends[0]), peak_gb)


if __name__ == "__main__":
    typer.run(main)
