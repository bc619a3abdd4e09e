"""Networks for signals: convolutions along time, with as many inputs as the signal has channels."""

from collections import OrderedDict
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.core.competition import SignalDecoding
from pipeline.core.errors import TrainError
from pipeline.train.networks.config import SignalNetwork
from pipeline.train.networks.parts import (
    BasicBlock,
    activate,
    convolve,
    initialise,
    pool,
    stride_for,
)


def build_signal(config: SignalNetwork, outputs: int, decoding: SignalDecoding) -> nn.Module:
    """A network for signals decoded so. Raises TrainError for too short a one."""
    if decoding.length < config.step**config.stages:
        raise TrainError(
            f"network {config.name}: {config.stages} stages that each shorten a signal to a "
            f"{config.step}th leave nothing of {decoding.length} samples: lower `stages` or `step`"
        )
    widths = [config.width * 2**stage for stage in range(config.stages)]
    layers = STAGES[config.name](config, decoding.channels, widths)
    if config.amplitude == "logarithm":
        layers = [Logarithm(), *layers]
    head = _Head(widths[-1], config.dropout, outputs)
    network = nn.Sequential(OrderedDict(features=nn.Sequential(*layers), head=head))
    initialise(network, config.activation)
    return network


class Logarithm(nn.Module):
    """sign(x) · log(1 + |x|) of each sample."""

    def forward(self, signals: Float[Tensor, "batch channels length"]) -> Tensor:
        """The signals with their large values near the others."""
        return signals.sign() * signals.abs().log1p()


def convnet1d(config: SignalNetwork, inputs: int, widths: list[int]) -> list[nn.Module]:
    """Stages of a convolution, a norm, an activation and a pooling."""
    layers: list[nn.Module] = []
    for channels, out in pairwise([inputs, *widths]):
        stride = stride_for(config, config.step)
        layers += [*convolve(config, 1, channels, out, config.kernel, stride), activate(config)]
        layers += pool(config, 1, config.step, config.step)
    return layers


def resnet1d(config: SignalNetwork, inputs: int, widths: list[int]) -> list[nn.Module]:
    """A convolution, and stages of a pooling and a basic block, which itself steps for `stride`.

    Wang, Yan and Oates 2017 (arXiv:1611.06455) have residual blocks along time, none of which
    shortens the signal.
    """
    layers = [*convolve(config, 1, inputs, widths[0], config.kernel), activate(config)]
    for channels, out in pairwise([widths[0], *widths]):
        layers += pool(config, 1, config.step, config.step)
        stride = stride_for(config, config.step)
        layers.append(BasicBlock(config, 1, channels, out, config.kernel, stride))
    return layers


class _Head(nn.Sequential):
    """The classifier, on the mean and the maximum of each channel over time."""

    def __init__(self, channels: int, dropout: float, outputs: int) -> None:
        super().__init__(nn.Dropout(dropout), nn.Linear(2 * channels, outputs))

    def forward(self, features: Float[Tensor, "batch channels length"]) -> Tensor:
        pooled = torch.cat([features.mean(2), features.amax(2)], dim=1)
        return super().forward(pooled)  # type: ignore[no-any-return, no-untyped-call]


STAGES = {"convnet1d": convnet1d, "resnet1d": resnet1d}
"""What comes before the classifier, by `network.name`."""
