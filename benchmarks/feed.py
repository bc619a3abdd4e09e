"""Feeding alone, images/s: what the loop could train with if the network cost nothing.

Ours: the packed array, augmented as profiles/malaria-local.yaml says, by both engines:
albumentations with as many workers as this device gets and with as many as the peer has, and whole
batches without workers. Peer: the tutorial's PNG folder (benchmarks/tutorial.py). All from the
first call to the last batch, the start of the workers included; ours start once for all epochs,
as in training, the peer's once an epoch. A GPU's batches are waited for.
"""

import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks import tutorial
from benchmarks.drawn import Drawn, draw, read_profile
from benchmarks.timing import median_ratio, print_goal, print_machine, print_table, take_turns
from pipeline.train.augment.per_image import Policy
from pipeline.train.batches import Batches, Feed, Steps, load, worker_count
from pipeline.train.config import ModelConfig
from pipeline.train.device import choose_compute

GOAL = 4.0
GOAL_BATCHED = 8.0
SIZE_PX = 64
_BATCHED = "ours, batched"
_PEER = f"tutorial, {tutorial.WORKERS} workers"


def main(
    images: Annotated[int, typer.Option(help="Images an epoch.", min=20)] = 4000,
    epochs: Annotated[int, typer.Option(help="Epochs a round.", min=2)] = 3,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Measure feeding alone."""
    print_machine()
    train = read_profile().train
    config = train.models["vgg"].model_copy(update={"epochs": epochs})
    device = choose_compute(train.device, config.precision).device
    own = worker_count(device)
    ours = {f"ours, {n} worker{'s' * (n > 1)}": n for n in (own, tutorial.WORKERS)}
    with tempfile.TemporaryDirectory() as folder:
        drawn, _ = draw(Path(folder), images, 20, SIZE_PX)
        contestants = {_PEER: partial(_feed_tutorial, drawn, epochs)}
        contestants |= {name: partial(_feed_ours, drawn, config, n) for name, n in ours.items()}
        contestants[_BATCHED] = partial(_feed_batched, drawn, config, device)
        rates = take_turns(contestants, rounds)
    print_table(f"feeding, images/s ({images} × {epochs}, {SIZE_PX} px)", rates, _PEER)
    for name in ours:
        print_goal(f"{name}, × tutorial", median_ratio(rates, name, _PEER), least=GOAL)
    ratio = median_ratio(rates, _BATCHED, _PEER)
    print_goal(f"{_BATCHED}, × tutorial", ratio, least=GOAL_BATCHED)


def _feed_tutorial(drawn: Drawn, epochs: int, _: int) -> float:
    started = perf_counter()
    loader = tutorial.load(drawn.png, SIZE_PX, training=True)
    seen = sum(len(labels) for _ in range(epochs) for _, labels in loader)
    return seen / (perf_counter() - started)


def _feed_ours(drawn: Drawn, config: ModelConfig, workers: int, _: int) -> float:
    started = perf_counter()
    images, labels = drawn.images(), drawn.labels()
    policy = Policy(config.augment, SIZE_PX)
    batches = Batches(images, labels, Steps(np.arange(len(labels)), config), policy.apply)
    seen = sum(len(part) for _, part in load(batches, 0, workers, pin=False))
    return seen / (perf_counter() - started)


def _feed_batched(drawn: Drawn, config: ModelConfig, device: torch.device, _: int) -> float:
    started = perf_counter()
    images, labels = drawn.images(), drawn.labels()
    batched = config.model_copy(update={"engine": "batched"})
    feed = Feed(images, labels, np.arange(len(labels)), batched, device)
    seen = sum(len(part) for _, part in feed.batches(0))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return seen / (perf_counter() - started)


if __name__ == "__main__":
    typer.run(main)
