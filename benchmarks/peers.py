"""Time to the same accuracy, against three peers, on one network and the same images.

ResNet-18 or our vgg at 64 px from scratch on drawn cells: our loop, the tutorial's
(benchmarks/tutorial.py), fastai's `vision_learner(pretrained=False)` and timm's parts, with the
same files, batch and threads, and each with two loader processes where it has any; ours needs
one or none. Each is trained with several numbers of epochs; the time to an accuracy is that of the
shortest training whose median over the rounds reaches it on held-out images of other patients,
without test-time augmentation.

fastai comes in an environment of its own, made once: make benchmarks/out/fastai
"""

import json
import math
import os
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from benchmarks.child import peak_memory_gb, run_in_child
from benchmarks.drawn import TASK, Drawn, draw, read_profile
from benchmarks.timing import print_goal, print_machine, take_turns
from benchmarks.train import NETWORKS, Trained, Trainer, train_ours, train_tutorial
from pipeline.train.config import ModelConfig, TimmNetwork

SIZE_PX = 64
PLANS = {"resnet18": ([4, 8, 12], 0.75), "vgg": ([2, 4, 6, 8], 0.85)}
"""The numbers of epochs to try and the accuracy to reach, by network: a quarter of an hour each."""
GOAL_RATE = 2.0
GOAL_TIME = 4.0


def main(
    images: Annotated[int, typer.Option(help="Images to train on.", min=128)] = 2000,
    held: Annotated[int, typer.Option(help="Held-out images.", min=10)] = 2000,
    network: Annotated[str, typer.Option(help="resnet18 or vgg.")] = "resnet18",
    epochs: Annotated[list[int] | None, typer.Option(help="Lengths to try.")] = None,
    target: Annotated[float | None, typer.Option(help="The accuracy to reach.")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 1,
    fastai: Annotated[Path, typer.Option(help="Python of fastai's environment.")] = Path(
        "benchmarks/out/fastai/bin/python"
    ),
) -> None:
    """Measure images/s and the time to an accuracy against the peers."""
    print_machine()
    lengths, aim = PLANS[network]
    lengths, aim = epochs or lengths, target or aim
    profile = read_profile().train
    base = profile.models["vgg"].model_copy(update=NETWORKS[network])
    with tempfile.TemporaryDirectory() as folder:
        train, test = draw(Path(folder), images, held, SIZE_PX)
        contestants = {
            "tutorial": partial(_in_child, train_tutorial, train, test, base, profile.device),
            "timm": partial(_in_child, _train_timm, train, test, base, profile.device),
            "ours": partial(_in_child, train_ours, train, test, base, profile.device),
        }
        if fastai.exists():
            contestants["fastai"] = partial(_train_fastai, fastai, train, test, base)
        else:
            print(f"{fastai}: not there, so fastai is left out")
        found = {
            length: take_turns(
                {name: partial(run, length) for name, run in contestants.items()}, rounds
            )
            for length in lengths
        }
    _report(found, images, aim)


def _report(found: dict[int, dict[str, list[Trained]]], images: int, target: float) -> None:
    names = list(next(iter(found.values())))
    header = "".join(f"{f'{length} epochs':>22}" for length in found)
    print(f"\n{'seconds, accuracy':<20}{header}{'images/s':>10}{'GB':>7}{f's to {target}':>12}")
    rates, times = {}, {}
    for name in names:
        seconds = {length: median(t.seconds for t in runs[name]) for length, runs in found.items()}
        right = {length: median(t.accuracy for t in runs[name]) for length, runs in found.items()}
        longest = max(found)
        rates[name] = images * longest / seconds[longest]
        peak_gb = median(trained.peak_gb for trained in found[longest][name])
        times[name] = min((seconds[n] for n in found if right[n] >= target), default=float("inf"))
        cells = "".join(f"{f'{seconds[n]:.1f}, {right[n]:.4f}':>22}" for n in found)
        print(f"{name:<20}{cells}{rates[name]:>10.0f}{peak_gb:>7.2f}{times[name]:>12.1f}")
    best_rate = max(rate for name, rate in rates.items() if name != "ours")
    print_goal("ours, images/s × the best peer", rates["ours"] / best_rate, least=GOAL_RATE)
    best_time = min(time for name, time in times.items() if name != "ours")
    if math.isinf(times["ours"] + best_time):
        slow = "no peer" if math.isinf(best_time) else "not ours"
        print(f"no ratio of times: {slow} reached {target} in {max(found)} epochs")
        return
    print_goal(f"ours, × faster to {target}", best_time / times["ours"], least=GOAL_TIME)


def _in_child(
    trainer: Trainer,
    train: Drawn,
    held: Drawn,
    base: ModelConfig,
    device: str,
    epochs: int,
    seed: int,
) -> Trained:
    config = base.model_copy(update={"epochs": epochs, "seed": seed})
    return run_in_child(partial(trainer, train, held, config, device))


def _train_timm(train: Drawn, held: Drawn, config: ModelConfig, _: str) -> Trained:
    from time import perf_counter

    import torch

    from benchmarks import timm_peer, tutorial
    from pipeline.train.models import build_model

    torch.manual_seed(config.seed)
    network = build_model(config.network, TASK, SIZE_PX, [0.0] * 3, [1.0] * 3).network
    started = perf_counter()
    average = timm_peer.train(network, train.png, SIZE_PX, config.epochs, config.lr)
    seconds = perf_counter() - started
    peak_gb = peak_memory_gb(timm_peer.WORKERS)
    loader = tutorial.load(held.png, SIZE_PX, training=False)
    return Trained(seconds, tutorial.accuracy(average, loader, torch.device("cpu")), peak_gb)


def _train_fastai(
    python: Path, train: Drawn, held: Drawn, base: ModelConfig, epochs: int, seed: int
) -> Trained:
    network = base.network
    named = "resnet18" if isinstance(network, TimmNetwork) else network.model_dump_json()
    script = Path(__file__).with_name("fastai_peer.py")
    arguments = [str(text) for text in (train.png, held.png, named, SIZE_PX, epochs, seed)]
    done = subprocess.run(
        [python, script, *arguments],
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Trained(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    typer.run(main)
