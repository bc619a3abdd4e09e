"""Training: images/s, seconds an epoch, peak memory, and the accuracy on held-out images.

Ours: pipeline.train.fit.fit as stage `train` calls it, with its feeding, moving average, clipping
and checkpoint, in the precision that this device has in hardware. Peer: the tutorial loop
(benchmarks/tutorial.py) on the same network, images, size, batch and epochs. Each trains in a
process of its own, from fresh weights, with another seed each round; the time is that of the
whole training without imports, and the accuracy without test-time augmentation for both.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import typer

from benchmarks.child import peak_memory_gb, run_in_child
from benchmarks.drawn import TASK, Drawn, decoding, draw, read_profile
from benchmarks.timing import median_ratio, print_goal, print_machine, print_table, take_turns
from pipeline.train.config import AdamWConfig, ModelConfig
from pipeline.train.networks.config import TimmNetwork

GOAL = 2.0
GOAL_GB = 2.5
SIZE_PX = 64
TUTORIAL_LR = 1e-3
"""AdamW's own default, which tutorials keep."""

RESNET18: dict[str, Any] = {
    "network": TimmNetwork(
        family="timm", name="resnet18", pretrained=False, weights=None, dropout=0.0, drop_path=None
    ),
    "optimizer": AdamWConfig(kind="adamw"),
    "lr": 1e-3,
    "engine": "batched",
}
NETWORKS: dict[str, dict[str, Any]] = {"resnet18": RESNET18, "vgg": {}}
"""What is changed in the profile's model `vgg`."""


@dataclass(frozen=True)
class Trained:
    """One training: its time, the held-out images that it gets right, its processes' memory."""

    seconds: float
    accuracy: float
    peak_gb: float


Trainer = Callable[[Drawn, Drawn, ModelConfig, str], Trained]


def main(
    images: Annotated[int, typer.Option(help="Images to train on.", min=20)] = 2000,
    held: Annotated[int, typer.Option(help="Held-out images.", min=10)] = 1000,
    epochs: Annotated[int, typer.Option(help="Epochs of each training.", min=2)] = 5,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    network: Annotated[list[str] | None, typer.Option(help="resnet18, vgg, or both.")] = None,
) -> None:
    """Measure training."""
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        train, test = draw(Path(folder), images, held, SIZE_PX)
        for name in network or list(NETWORKS):
            _compare(name, train, test, epochs, rounds)


def _compare(name: str, train: Drawn, held: Drawn, epochs: int, rounds: int) -> None:
    profile = read_profile().train
    config = profile.models["vgg"].model_copy(update={"epochs": epochs, **NETWORKS[name]})
    peer, ours = f"{name}: tutorial", f"{name}: ours"

    def train_once(trainer: Trainer, number: int) -> Trained:
        seeded = config.model_copy(update={"seed": number})
        return run_in_child(partial(trainer, train, held, seeded, profile.device))

    turns = {
        peer: partial(train_once, train_tutorial),
        ours: partial(train_once, train_ours),
    }
    found = take_turns(turns, rounds)
    seen = len(train.labels()) * epochs
    rates = _each(found, lambda trained: seen / trained.seconds)
    print_table(f"training, images/s ({SIZE_PX} px, {epochs} epochs)", rates, peer)
    print_table("seconds an epoch", _each(found, lambda trained: trained.seconds / epochs), peer)
    print_table("held-out accuracy", _each(found, lambda trained: trained.accuracy), peer)
    memory = _each(found, lambda trained: trained.peak_gb)
    print_table("peak memory, GB", memory, peer)
    print_goal(f"{ours}, images/s × tutorial", median_ratio(rates, ours, peer), least=GOAL)
    print_goal(f"{ours}, peak memory in GB", median(memory[ours]), below=GOAL_GB)


def _each(
    found: dict[str, list[Trained]], figure: Callable[[Trained], float]
) -> dict[str, list[float]]:
    return {name: [figure(trained) for trained in rounds] for name, rounds in found.items()}


def train_ours(train: Drawn, held: Drawn, config: ModelConfig, device: str) -> Trained:
    import numpy as np
    import torch

    from pipeline.train.batches import worker_count
    from pipeline.train.checkpoint import Checkpoint
    from pipeline.train.device import choose_compute, deterministic, suit_network
    from pipeline.train.fit import TrainingRows, fit
    from pipeline.train.infer import predict
    from pipeline.train.kinds import mean_and_std
    from pipeline.train.models import build_model

    deterministic(torch.get_num_threads())  # as many as the peers have: OMP_NUM_THREADS
    torch.manual_seed(config.seed)
    compute = choose_compute(device, config.precision)
    images, labels = train.images(), train.labels()
    rows = TrainingRows(np.arange(len(labels)), inner=np.array([], np.int64))
    mean, std = mean_and_std(images, rows.training)
    model = build_model(config.network, TASK, decoding(train.size_px), list(mean), list(std))
    compute = suit_network(compute, config.precision, model, decoding(train.size_px))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder))
        started = perf_counter()
        model, _ = fit(model, images, labels, rows, config, compute, checkpoint, lambda _: None)
        seconds = perf_counter() - started
        peak_gb = peak_memory_gb(worker_count(compute.device))
    truth = held.labels()
    probabilities = predict(model, held.images(), np.arange(len(truth)), compute, tta=False)
    return Trained(seconds, float((probabilities.argmax(1) == truth).mean()), peak_gb)


def train_tutorial(train: Drawn, held: Drawn, config: ModelConfig, device: str) -> Trained:
    import torch

    from benchmarks import tutorial
    from pipeline.train.device import choose_compute
    from pipeline.train.models import build_model

    torch.manual_seed(config.seed)
    place = choose_compute(device, "float32").device
    network = build_model(
        config.network, TASK, decoding(train.size_px), [0.0] * 3, [1.0] * 3
    ).network
    loader = tutorial.load(train.png, train.size_px, training=True)
    started = perf_counter()
    tutorial.train(network, loader, config.epochs, TUTORIAL_LR, place)
    seconds = perf_counter() - started
    peak_gb = peak_memory_gb(tutorial.WORKERS)
    held_loader = tutorial.load(held.png, held.size_px, training=False)
    return Trained(seconds, tutorial.accuracy(network, held_loader, place), peak_gb)


if __name__ == "__main__":
    typer.run(main)
