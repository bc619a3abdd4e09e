"""Networks for signals: convolutions along time, with as many inputs as the signal has channels."""

from collections import OrderedDict
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor, nn
from torch.nn import functional

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

_BAND_STEP, _LATER_KERNEL, _HIDDEN = 4, 7, 64
"""The step of filterbank1d's windows, the kernel of its later stages, its hidden layer."""

_MOST_VALUES = 2**22
"""As many values tell the scales of an input."""


def build_signal(config: SignalNetwork, outputs: int, decoding: SignalDecoding) -> nn.Module:
    """A network for signals decoded so. Raises TrainError for too short a one."""
    least = config.step**config.stages * (_BAND_STEP if config.name == "filterbank1d" else 1)
    if decoding.length < least:
        raise TrainError(
            f"network {config.name}: {config.stages} stages of step {config.step} leave nothing of "
            f"a signal of {decoding.length} samples: lower `stages` or `step`, or raise the "
            f"signals' length to {least}"
        )
    taken = SignalInput(decoding.channels, config.differences, config.amplitude)
    layers = STAGES[config.name](config, taken.channels)
    if config.name == "filterbank1d":
        head: nn.Module = _BandHead(config.width, config.dropout, outputs)
    else:
        head = _TimeHead(config.width * 2 ** (config.stages - 1), config.dropout, outputs)
    network = nn.Sequential(OrderedDict(input=taken, features=nn.Sequential(*layers), head=head))
    initialise(network, config.activation)
    return network


class SignalInput(nn.Module):
    """The channels that a network sees, in scales of the training rows, kept with its weights."""

    scale: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, differences: int, amplitude: str) -> None:
        """channels: of the signals."""
        super().__init__()
        self.channels = channels * (1 + differences)
        self._differences, self._bent = differences, amplitude == "logarithm"
        for name, value in (("scale", 1.0), ("mean", 0.0), ("std", 1.0)):
            self.register_buffer(name, torch.full((self.channels, 1), value))

    @torch.no_grad()
    def learn(self, signals: Float[Tensor, "batch channels length"]) -> None:
        """Take the scales from training signals."""
        values = self._differ(signals)
        median = values.abs().transpose(0, 1).flatten(1).median(1, keepdim=True).values
        self.scale.copy_(torch.where(median > 0, median / 2, 1.0))
        std, mean = torch.std_mean(self._bend(values), (0, 2), correction=0)
        self.mean.copy_(mean[:, None])
        self.std.copy_(torch.where(std > 0, std, 1.0)[:, None])

    def forward(self, signals: Float[Tensor, "batch channels length"]) -> Tensor:
        """Signals and differences, each channel standardised."""
        return (self._bend(self._differ(signals)) - self.mean) / self.std

    def _differ(self, signals: Tensor) -> Tensor:
        """The signals and their differences, whose last one is 0, so that all are as long."""
        orders = [signals]
        for _ in range(self._differences):
            orders.append(functional.pad(orders[-1].diff(), (0, 1)))
        return torch.cat(orders, dim=1)

    def _bend(self, values: Tensor) -> Tensor:
        return values.sign() * (values.abs() / self.scale).log1p() if self._bent else values


def pick_rows(rows: Int[ndarray, " rows"], values: int) -> Int[ndarray, " some"]:
    """All training rows, or fewer, evenly spread, so that an input learns from few enough values.

    values: of each row.
    """
    count = min(len(rows), max(1, _MOST_VALUES // values))
    return rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]


def _widths(config: SignalNetwork) -> list[int]:
    return [config.width * 2**stage for stage in range(config.stages)]


def _stages(config: SignalNetwork, channels: list[int], kernel: int) -> list[nn.Module]:
    """Stages of a convolution, a norm, an activation and a pooling."""
    layers: list[nn.Module] = []
    for before, out in pairwise(channels):
        stride = stride_for(config, config.step)
        layers += [*convolve(config, 1, before, out, kernel, stride), activate(config)]
        layers += pool(config, 1, config.step, config.step)
    return layers


def convnet1d(config: SignalNetwork, inputs: int) -> list[nn.Module]:
    """Stages of a convolution, a norm, an activation and a pooling."""
    return _stages(config, [inputs, *_widths(config)], config.kernel)


def resnet1d(config: SignalNetwork, inputs: int) -> list[nn.Module]:
    """A convolution, a pooling, and a basic block a stage, all but the first of which step.

    Wang, Yan and Oates 2017 (arXiv:1611.06455) have residual blocks along time, none of which
    shortens the signal.
    """
    widths = _widths(config)
    stride = stride_for(config, config.step)
    layers = [*convolve(config, 1, inputs, widths[0], config.kernel, stride), activate(config)]
    layers += pool(config, 1, config.step, config.step)
    for place, (channels, out) in enumerate(pairwise([widths[0], *widths])):
        stride = config.step if place else 1
        layers.append(BasicBlock(config, 1, channels, out, config.kernel, stride))
    return layers


def filterbank1d(config: SignalNetwork, inputs: int) -> list[nn.Module]:
    """The logarithm of the power in bands that are learned, and stages as convnet1d's.

    After the shallow network of Schirrmeister et al. 2017 (arXiv:1703.05051), for EEG.
    """
    width = config.width
    return [
        nn.Conv1d(inputs, width, config.kernel, padding=config.kernel // 2, bias=False),
        nn.BatchNorm1d(width),
        LogPower(),
        nn.BatchNorm1d(width),
        *_stages(config, [width] * (config.stages + 1), _LATER_KERNEL),
    ]


class LogPower(nn.Module):
    """The logarithm of the mean square in overlapping windows."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.AvgPool1d(4 * _BAND_STEP, _BAND_STEP, 2 * _BAND_STEP)

    def forward(self, bands: Float[Tensor, "batch bands length"]) -> Tensor:
        """The power of each band, which is never 0."""
        return (self.mean(bands.square()) + 1e-4).log()  # type: ignore[no-any-return]


class _TimeHead(nn.Sequential):
    """The classifier, on the mean and the maximum of each channel over time."""

    def __init__(self, channels: int, dropout: float, outputs: int) -> None:
        super().__init__(nn.Dropout(dropout), nn.Linear(2 * channels, outputs))

    def forward(self, features: Float[Tensor, "batch channels length"]) -> Tensor:
        pooled = torch.cat([features.mean(2), features.amax(2)], dim=1)
        return super().forward(pooled)  # type: ignore[no-any-return, no-untyped-call]


class _BandHead(nn.Sequential):
    """The classifier with a hidden layer, on mean, maximum and deviation of each channel."""

    def __init__(self, channels: int, dropout: float, outputs: int) -> None:
        super().__init__(
            nn.BatchNorm1d(3 * channels),
            nn.Dropout(dropout),
            nn.Linear(3 * channels, _HIDDEN, bias=False),
            nn.BatchNorm1d(_HIDDEN),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(_HIDDEN, outputs),
        )

    def forward(self, features: Float[Tensor, "batch channels length"]) -> Tensor:
        pooled = [features.mean(2), features.amax(2), features.std(2, correction=0)]
        return super().forward(torch.cat(pooled, dim=1))  # type: ignore[no-any-return, no-untyped-call]


STAGES = {"convnet1d": convnet1d, "resnet1d": resnet1d, "filterbank1d": filterbank1d}
"""What comes before the classifier, by `network.name`."""
