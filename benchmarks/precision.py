"""Is bfloat16 faster than float32 on this CPU, and does `precision: auto` choose rightly?

A training step, forward and backward, in channels_last on one thread, as stage `train` runs it. The
precisions take turns in one process, on the same network, after one step of each that does not
count. Figures are medians, in images a CPU-second; `depthwise` is the number of outputs of
depthwise convolutions for 1,000 multiplications.
"""

from functools import partial
from statistics import median
from time import process_time
from typing import Annotated

import torch
import typer

from benchmarks.drawn import decoding
from benchmarks.timing import print_machine, take_turns
from pipeline.core.task import OneOf
from pipeline.train.device import Compute, depthwise_rate, deterministic, suit_network
from pipeline.train.fit import score_batch
from pipeline.train.models import Classifier, build_model
from pipeline.train.networks.config import TimmNetwork

CPU = torch.device("cpu")
BOTH = {str(dtype): Compute(CPU, dtype) for dtype in (torch.float32, torch.bfloat16)}
NAMES = [
    "resnet10t", "resnet18", "resnext26ts", "regnety_016", "vit_tiny_patch16_224",
    "inception_next_atto", "convnextv2_femto", "convnext_atto", "edgenext_xx_small", "starnet_s1",
    "mobilenetv4_conv_medium", "mobilenetv4_conv_small", "repvit_m0_9", "mobilevit_xxs",
    "fastvit_t8", "efficientnet_b0", "lcnet_100", "tf_efficientnet_lite0",
    "mobilenetv3_small_100", "mobileone_s0", "mobilenetv2_100", "ghostnet_050",
]  # fmt: skip
"""In the order of their depthwise outputs for each multiplication."""


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Of timm; else all of NAMES.")] = None,
    images: Annotated[int, typer.Option(help="Images a step.", min=2)] = 16,
    size: Annotated[int, typer.Option(help="Side in pixels.", min=16)] = 64,
    rounds: Annotated[int, typer.Option(min=1)] = 7,
) -> None:
    """Print one line for each network."""
    deterministic(1)
    print_machine()
    print(
        "| network | depthwise | float32 | bfloat16 | ratio | `auto` |\n|---|---|---|---|---|---|"
    )
    for name in names or NAMES:
        network = TimmNetwork(
            family="timm", name=name, pretrained=False, weights=None, dropout=0.0, drop_path=None
        )
        model = build_model(
            network, OneOf(classes=["0", "1"]), decoding(size), [128.0] * 3, [64.0] * 3
        )
        rate = depthwise_rate(model, decoding(size))
        chosen = suit_network(BOTH["torch.bfloat16"], "auto", model, decoding(size)).dtype
        model = model.to(memory_format=torch.channels_last)
        turns = {dtype: partial(_rate, model, one, images, size) for dtype, one in BOTH.items()}
        take_turns(turns, 1)
        rates = {dtype: median(each) for dtype, each in take_turns(turns, rounds).items()}
        slow, fast = rates.values()
        columns = f"{1000 * rate:.2f} | {slow:.0f} | {fast:.0f} | {fast / slow:.2f}"
        print(f"| {name} | {columns} | {str(chosen).removeprefix('torch.')} |", flush=True)


def _rate(model: Classifier, compute: Compute, images: int, size: int, _: int) -> float:
    batch = torch.zeros(images, 3, size, size).to(memory_format=torch.channels_last)
    labels = torch.arange(images) % 2
    start = process_time()
    loss, _outputs = score_batch(model, batch, labels, 0.0, compute)
    loss.backward()  # type: ignore[no-untyped-call]
    model.zero_grad()
    return images / (process_time() - start)


if __name__ == "__main__":
    typer.run(main)
