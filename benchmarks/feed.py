"""Feeding alone, images/s: what the loop could train with if the network cost nothing.

Ours: the packed array, augmented with albumentations as profiles/malaria-local.yaml says, with
as many workers as this device gets and with as many as the peer has. Peer: the tutorial's PNG
folder (benchmarks/tutorial.py). Both from the first call to the last batch, the start of the
workers included; ours start once for all epochs, as in training, the peer's once an epoch.
"""

import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import typer

from benchmarks import tutorial
from benchmarks.drawn import Drawn, draw, read_profile
from benchmarks.timing import median_ratio, print_goal, print_machine, print_table, take_turns
from pipeline.config.train import ModelConfig
from pipeline.train.augment import Policy
from pipeline.train.device import choose_compute
from pipeline.train.feed import Batches, load, worker_count

GOAL = 4.0
SIZE_PX = 64
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
    own = worker_count(choose_compute(train.device, config.precision).device)
    ours = {f"ours, {n} worker{'s' * (n > 1)}": n for n in (own, tutorial.WORKERS)}
    with tempfile.TemporaryDirectory() as folder:
        drawn, _ = draw(Path(folder), images, 20, SIZE_PX)
        contestants = {_PEER: partial(_feed_tutorial, drawn, epochs)}
        contestants |= {name: partial(_feed_ours, drawn, config, n) for name, n in ours.items()}
        rates = take_turns(contestants, rounds)
    print_table(f"feeding, images/s ({images} × {epochs}, {SIZE_PX} px)", rates, _PEER)
    for name in ours:
        print_goal(f"{name}, × tutorial", median_ratio(rates, name, _PEER), least=GOAL)


def _feed_tutorial(drawn: Drawn, epochs: int, _: int) -> float:
    started = perf_counter()
    loader = tutorial.load(drawn.png, SIZE_PX, training=True)
    seen = sum(len(labels) for _ in range(epochs) for _, labels in loader)
    return seen / (perf_counter() - started)


def _feed_ours(drawn: Drawn, config: ModelConfig, workers: int, _: int) -> float:
    started = perf_counter()
    images, labels = drawn.images(), drawn.labels()
    policy = Policy(config.augment, SIZE_PX)
    batches = Batches(images, labels, np.arange(len(labels)), config, policy)
    seen = sum(len(part) for _, part in load(batches, 0, workers, pin=False))
    return seen / (perf_counter() - started)


if __name__ == "__main__":
    typer.run(main)
