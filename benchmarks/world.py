"""Several processes that train one network, against one process, and against PyTorch's own way.

`train.world` (pipeline/train/world.py) with its one sum a step, and DistributedDataParallel in a
plain loop with the same feed, optimizers and moving average; on the CPU one thread for each process
and as many as there are processes for the one, so that it shows what the sums cost. Images a second
are those of the epochs after the first, by the clock of the first process:

    python -m benchmarks.world --world 2
    python -m benchmarks.world --world 4 --device cuda --network resnet18 --images 50000
"""

import json
import os
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks.child import run_in_child
from benchmarks.drawn import TASK, Drawn, decoding, draw, read_profile
from benchmarks.timing import median_ratio, print_goal, print_machine, print_table, take_turns
from benchmarks.train import NETWORKS
from pipeline.train.config import ModelConfig

if TYPE_CHECKING:
    from pipeline.train.world import World

SIZE_PX = 64


def main(
    world: Annotated[int, typer.Option(help="Processes.", min=2)] = 2,
    device: Annotated[str, typer.Option(help="As train.device.")] = "cpu",
    network: Annotated[str, typer.Option(help="vgg or resnet18.")] = "vgg",
    images: Annotated[int, typer.Option(help="Images to train on.", min=128)] = 2000,
    epochs: Annotated[int, typer.Option(min=2)] = 3,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Measure training in one process and in several."""
    print_machine()
    config = read_profile().train.models["vgg"]
    if network != "vgg":
        config = config.model_copy(update={"network": NETWORKS[network]})
    config = config.model_copy(update={"epochs": epochs, "warmup_epochs": 0})
    one, ours, peer = "one process", f"world {world}", f"DistributedDataParallel, {world}"
    with tempfile.TemporaryDirectory() as folder:
        drawn, _ = draw(Path(folder), images, 20, SIZE_PX)
        threads = 1 if device == "cpu" else os.cpu_count() or 1
        turns = {
            one: partial(_measure, drawn, config, device, 1, threads * world, "ours"),
            ours: partial(_measure, drawn, config, device, world, threads, "ours"),
            peer: partial(_measure, drawn, config, device, world, threads, "peer"),
        }
        found = take_turns(turns, rounds)
    print_table(f"{network}, images/s ({SIZE_PX} px)", found, peer)
    print_goal(f"{ours}, images/s × {peer}", median_ratio(found, ours, peer), least=0.95)


def _measure(
    drawn: Drawn, config: ModelConfig, device: str, world: int, threads: int, how: str, _: int
) -> float:
    return run_in_child(partial(_train, drawn, config, device, world, threads, how))


def _train(
    drawn: Drawn, config: ModelConfig, device: str, world: int, threads: int, how: str
) -> float:
    from pipeline.train.world import ALONE, launch

    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "seconds.json"
        order = (drawn, config, device, threads, how, answer)
        if world == 1:
            _train_in(*order, ALONE)
        else:
            launch(_train_in, device, world, *order)
        times: list[float] = json.loads(answer.read_text())
    return len(drawn.labels()) * (len(times) - 1) / (times[-1] - times[0])


def _train_in(
    drawn: Drawn,
    config: ModelConfig,
    device: str,
    threads: int,
    how: str,
    answer: Path,
    world: "World",
) -> None:
    """Train in one process; the first one writes when its epochs ended."""
    import numpy as np
    import torch

    from pipeline.train.checkpoint import Checkpoint
    from pipeline.train.device import choose_compute, deterministic
    from pipeline.train.fit import TrainingRows, fit
    from pipeline.train.models import build_model

    deterministic(threads)
    compute = choose_compute(device, config.precision)
    world.join(compute.device)
    torch.manual_seed(config.seed)
    images, labels = drawn.images(), drawn.labels()
    rows = TrainingRows(np.arange(len(labels)), inner=np.array([], np.int64))
    model = build_model(config.network, TASK, decoding(SIZE_PX), [128.0] * 3, [60.0] * 3)
    times: list[float] = []

    def on_epoch(_: Any) -> None:
        times.append(perf_counter())

    if how == "ours":
        checkpoint = Checkpoint(answer.parent)
        fit(model, images, labels, rows, config, compute, checkpoint, on_epoch, world)
    else:
        _train_with_ddp(model, images, labels, rows.training, config, compute, on_epoch, world)
    if world.leads:
        answer.write_text(json.dumps(times))


def _train_with_ddp(
    model: Any,
    images: Any,
    labels: Any,
    training: Any,
    config: ModelConfig,
    compute: Any,
    on_epoch: Any,
    world: "World",
) -> None:
    import copy

    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.parallel import DistributedDataParallel

    from pipeline.train.batches import Feed
    from pipeline.train.optim import MovingAverage, build_optimizers, learning_rate

    feed = Feed(images, labels, training, config, compute.device, world)
    model = model.to(compute.device).to(memory_format=torch.channels_last)
    average = copy.deepcopy(model).requires_grad_(False)
    moving = MovingAverage(model, average, config.ema)
    optimizers = build_optimizers(model, config)
    on_gpu = compute.device.type == "cuda"
    together = DistributedDataParallel(model, device_ids=[world.rank] if on_gpu else None)
    for step, (batch, targets) in enumerate(feed.batches(0)):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                rate = learning_rate(config, step, feed.steps_per_epoch)
                group["lr"] = rate * group.get("lr_scale", 1.0)
        with compute.autocast():
            outputs = together(batch)
        loss = cross_entropy(outputs.float(), targets, label_smoothing=config.label_smoothing)
        loss.backward()
        if config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        moving.update(step + 1)
        if (step + 1) % feed.steps_per_epoch == 0:
            if on_gpu:
                torch.cuda.synchronize()
            on_epoch(None)


if __name__ == "__main__":
    typer.run(main)
