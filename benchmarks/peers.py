"""Time to the same accuracy, against three peers, on the same network and the same images.

Our loop, the tutorial's (benchmarks/tutorial.py), fastai's and timm's parts, with the same files,
size, batch, threads and, for lite0, the same published weights; each with two loader processes
where it has any; ours needs one or none. Networks: resnet18 and our vgg from scratch, and lite0,
timm's tf_efficientnet_lite0 fine-tuned from the file that `make weights NAME=efficientnet_lite0`
writes. Ours is trained as the profiles say, a peer by its own recipe. Each is trained with several
numbers of epochs; the time to an accuracy is that of the shortest training whose median over the
rounds reaches it on held-out images of other patients, without test-time augmentation.

The images are drawn, or real cells with `--data competitions/malaria`. All in one command, which
prints each training as it ends, and a table for each network:

    make weights NAME=efficientnet_lite0
    make benchmarks/out/fastai
    python -m benchmarks.peers --data competitions/malaria --images 4000 \
      --network lite0 --network vgg --network resnet18

fastai comes in an environment of its own, which the second line makes.
"""

import json
import math
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from benchmarks.cells import check_folder, pick
from benchmarks.child import peak_memory_gb, run_in_child
from benchmarks.drawn import TASK, Drawn, decoding, draw, read_profile
from benchmarks.timing import print_goal, print_machine, take_turns
from benchmarks.train import NETWORKS, Trained, Trainer, train_ours, train_tutorial
from pipeline.core.files import sha256_of
from pipeline.params import read_config
from pipeline.train.config import ModelConfig
from pipeline.train.networks.config import StartWeights, TimmNetwork


@dataclass(frozen=True)
class Plan:
    """How a network is compared, about a quarter of an hour a round on two cores."""

    epochs: list[int]
    drawn: float
    """The accuracy to reach on drawn cells; `real`: on real ones."""
    real: float
    timm_lr: float
    """AdamW's peak rate for timm's parts: usual ones, not tuned."""


PLANS = {
    "resnet18": Plan([4, 8, 12], drawn=0.75, real=0.93, timm_lr=1e-3),
    "vgg": Plan([2, 4, 6, 8], drawn=0.85, real=0.93, timm_lr=4e-3),
    "lite0": Plan([2, 3, 5], drawn=0.85, real=0.95, timm_lr=1e-3),
}
FINETUNED = Path("profiles/malaria-finetune.yaml")
"""Its member is how ours fine-tunes lite0."""
BATCH_SIZE = 64
"""That of every peer."""
GOAL_RATE = 2.0
GOAL_TIME = 4.0

Found = dict[int, dict[str, list[Trained]]]
"""The rounds of each contestant, by number of epochs."""


def main(
    images: Annotated[int, typer.Option(help="Images to train on.", min=128)] = 2000,
    held: Annotated[int, typer.Option(help="Held-out images.", min=10)] = 2000,
    network: Annotated[list[str] | None, typer.Option(help="resnet18, vgg or lite0.")] = None,
    weights: Annotated[Path, typer.Option(help="What lite0 starts from.")] = Path(
        "weights/efficientnet_lite0.safetensors"
    ),
    data: Annotated[Path | None, typer.Option(help="Folder of real cells, else drawn.")] = None,
    size: Annotated[int, typer.Option(help="Side in pixels.", min=32)] = 64,
    epochs: Annotated[list[int] | None, typer.Option(help="Lengths to try.", min=2)] = None,
    target: Annotated[float | None, typer.Option(help="The accuracy to reach.")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    fastai: Annotated[Path, typer.Option(help="Python of fastai's environment.")] = Path(
        "benchmarks/out/fastai/bin/python"
    ),
) -> None:
    """Measure images/s and the time to an accuracy against the peers."""
    names = network or ["resnet18"]
    if unknown := [name for name in names if name not in PLANS]:
        raise typer.BadParameter(f"--network: expected one of {list(PLANS)}, found {unknown[0]!r}")
    if data is not None:
        check_folder(data)
    models = {name: _ours(name, weights) for name in names}
    print_machine()
    if not fastai.exists():
        print(f"{fastai}: not there, so fastai is left out (make benchmarks/out/fastai)")
    with tempfile.TemporaryDirectory() as temporary:
        source = draw if data is None else partial(pick, data)
        train, test = run_in_child(partial(source, Path(temporary), images, held, size))
        for name, model in models.items():
            plan = PLANS[name]
            contestants = _contestants(train, test, model, plan.timm_lr, fastai)
            found = _race(name, contestants, epochs or plan.epochs, rounds)
            _report(name, found, images, target or (plan.drawn if data is None else plan.real))


def _ours(name: str, weights: Path) -> ModelConfig:
    profile = read_profile().train.models["vgg"]
    if name != "lite0":
        return profile.model_copy(update=NETWORKS[name] | {"batch_size": BATCH_SIZE})
    if not weights.is_file():
        raise typer.BadParameter(
            f"--weights: {weights}: no such file. make weights NAME=efficientnet_lite0 writes it"
        )
    network = TimmNetwork(
        family="timm",
        name="tf_efficientnet_lite0",
        pretrained=False,
        weights=StartWeights(file=str(weights.resolve()), sha256=sha256_of(weights)),
        dropout=0.0,
        drop_path=None,
    )
    changes = {"network": network, "batch_size": BATCH_SIZE, "sizes_px": None}
    return read_config(FINETUNED).train.models["lite0"].model_copy(update=changes)


def _contestants(
    train: Drawn, held: Drawn, model: ModelConfig, timm_lr: float, fastai: Path
) -> dict[str, Callable[[int, int], Trained]]:
    device = read_profile().train.device
    timm = model.model_copy(update={"lr": timm_lr})
    found = {
        "tutorial": partial(_in_child, train_tutorial, train, held, model, device),
        "timm": partial(_in_child, _train_timm, train, held, timm, device),
        "ours": partial(_in_child, train_ours, train, held, model, device),
    }
    if fastai.exists():
        found["fastai"] = partial(_train_fastai, fastai, train, held, model)
    return found


def _race(
    network: str,
    contestants: dict[str, Callable[[int, int], Trained]],
    lengths: list[int],
    rounds: int,
) -> Found:
    """Each contestant and length once a round, so that a slow hour of the machine meets all."""

    def train(name: str, length: int, number: int) -> Trained:
        trained = contestants[name](length, number)
        print(
            f"{network}, round {number + 1}, {length} epochs: {name}: {trained.seconds:.1f} s, "
            f"accuracy {trained.accuracy:.4f}, {trained.peak_gb:.2f} GB",
            flush=True,
        )
        return trained

    turns = {
        f"{length} {name}": partial(train, name, length)
        for length in lengths
        for name in contestants
    }
    runs = take_turns(turns, rounds)
    return {length: {name: runs[f"{length} {name}"] for name in contestants} for length in lengths}


def _report(network: str, found: Found, images: int, target: float) -> None:
    longest = max(found)
    names = list(found[longest])
    rounds = len(found[longest]["ours"])
    header = "".join(f"{f'{length} epochs':>18}" for length in found)
    print(f"\n{network}, {images} images, median of {rounds}: seconds, held-out accuracy")
    print(f"{'':<22}{header}{'images/s':>10}{'GB':>7}{f's to {target:g}':>12}")
    rates, times, memory = {}, {}, {}
    for name in names:
        seconds = {length: median(t.seconds for t in runs[name]) for length, runs in found.items()}
        right = {length: median(t.accuracy for t in runs[name]) for length, runs in found.items()}
        rates[name] = images * longest / seconds[longest]
        memory[name] = median(trained.peak_gb for trained in found[longest][name])
        times[name] = min((seconds[n] for n in found if right[n] >= target), default=math.inf)
        cells = "".join(f"{f'{seconds[n]:.1f}, {right[n]:.4f}':>18}" for n in found)
        reached = "–" if math.isinf(times[name]) else f"{times[name]:.1f}"
        print(f"{name:<22}{cells}{rates[name]:>10.0f}{memory[name]:>7.2f}{reached:>12}")
    peers = [name for name in names if name != "ours"]
    rate = rates["ours"] / max(rates[name] for name in peers)
    share = memory["ours"] / min(memory[name] for name in peers)
    best_time = min(times[name] for name in peers)
    both = not math.isinf(times["ours"] + best_time)
    faster = f"{best_time / times['ours']:.2f} ×" if both else "–"
    ratios = f"{f'{rate:.2f} ×':>10}{f'{share:.2f}':>7}{faster:>12}"
    print(f"{'ours to the best peer':<22}{'':<{len(header)}}{ratios}")
    print_goal(f"{network}: ours, images/s × the best peer", rate, least=GOAL_RATE)
    if both:
        print_goal(
            f"{network}: ours, × faster to {target:g}", best_time / times["ours"], least=GOAL_TIME
        )
    else:
        slow = "no peer" if math.isinf(best_time) else "not ours"
        print(f"no ratio of times: {slow} reached {target:g} in {longest} epochs")


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
    size_px = train.size_px
    network = build_model(config.network, TASK, decoding(size_px), [0.0] * 3, [1.0] * 3).network
    started = perf_counter()
    average = timm_peer.train(network, train.png, size_px, config.epochs, config.lr)
    seconds = perf_counter() - started
    peak_gb = peak_memory_gb(timm_peer.WORKERS)
    loader = tutorial.load(held.png, size_px, training=False)
    return Trained(seconds, tutorial.accuracy(average, loader, torch.device("cpu")), peak_gb)


def _train_fastai(
    python: Path, train: Drawn, held: Drawn, base: ModelConfig, epochs: int, seed: int
) -> Trained:
    script = Path(__file__).with_name("fastai_peer.py")
    network = base.network.model_dump_json()
    arguments = [str(text) for text in (train.png, held.png, network, train.size_px, epochs, seed)]
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
