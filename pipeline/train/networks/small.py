"""Small networks of our own, for small images on a CPU.

At 64 px those of width 16 cost about 50 million multiplications an image, a thirtieth of a
ResNet-18's at 224 px; benchmarks/train.py measures what that makes a second.
"""

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.core.competition import ImageDecoding
from pipeline.core.errors import TrainError
from pipeline.train.networks.config import SmallNetwork
from pipeline.train.objective import RawOutputs


def vgg(network: SmallNetwork, classes: int, inputs: int) -> nn.Module:
    """Stages of two 3 × 3 convolutions and a 2 × 2 maximum, with batch norm (arXiv:1409.1556)."""
    layers: list[nn.Module] = []
    for channels, out in _channels(network, inputs):
        layers += [*_conv_bn_relu(channels, out), *_conv_bn_relu(out, out), nn.MaxPool2d(2)]
    return _with_head(layers[:-1], network, classes)


def airbench(network: SmallNetwork, classes: int, inputs: int) -> nn.Module:
    """The vgg with each maximum right after its stage's first convolution, at half the cost.

    All else of a stage sees images of half the side, as in cifar10-airbench (arXiv:2404.00498).
    """
    layers: list[nn.Module] = []
    for channels, out in _channels(network, inputs):
        convolution, *normalised = _conv_bn_relu(channels, out)
        layers += [convolution, nn.MaxPool2d(2), *normalised, *_conv_bn_relu(out, out)]
    return _with_head(layers, network, classes)


def resnet(network: SmallNetwork, classes: int, inputs: int) -> nn.Module:
    """A stem and a basic residual block a stage, all but the first halving (arXiv:1512.03385)."""
    widths = [network.width * 2**stage for stage in range(network.stages)]
    stem = nn.Sequential(*_conv_bn_relu(inputs, widths[0]), nn.MaxPool2d(2))
    blocks = [_Block(widths[0], widths[0], stride=1)]
    blocks += [_Block(before, after, stride=2) for before, after in pairwise(widths)]
    head = _Head(widths[-1], network.dropout, classes)
    return nn.Sequential(OrderedDict(stem=stem, blocks=nn.Sequential(*blocks), head=head))


def _channels(network: SmallNetwork, inputs: int) -> list[tuple[int, int]]:
    """Those that each stage gets and gives."""
    widths = [network.width * 2**stage for stage in range(network.stages)]
    return [*pairwise([inputs, *widths])]


def _with_head(layers: list[nn.Module], network: SmallNetwork, classes: int) -> nn.Module:
    width = network.width * 2 ** (network.stages - 1)
    head = _Head(width, network.dropout, classes)
    return nn.Sequential(OrderedDict(features=nn.Sequential(*layers), head=head))


class _Block(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv_bn_relu(channels, out, stride),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, features: Tensor) -> Tensor:
        return functional.relu(self.body(features) + self.shortcut(features))


class _Head(nn.Sequential):
    """The classifier; the maximum beside the average lets one small parasite decide, anywhere."""

    def __init__(self, channels: int, dropout: float, classes: int) -> None:
        super().__init__(nn.Dropout(dropout), nn.Linear(2 * channels, classes))

    def forward(self, features: Tensor) -> RawOutputs:
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)
        return super().forward(pooled)  # type: ignore[no-any-return, no-untyped-call]


def _conv_bn_relu(channels: int, out: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    ]


SMALL = {"vgg": vgg, "airbench": airbench, "resnet": resnet}
"""The networks of our own, by `train.models.NAME.network.name`."""


def build_small(config: SmallNetwork, outputs: int, decoding: ImageDecoding) -> nn.Module:
    """A small network for images decoded so. Raises TrainError for one too small for the stages."""
    size_px = decoding.size_px
    halvings = config.stages - (1 if config.name == "vgg" else 0)
    if size_px >> halvings < 2:
        raise TrainError(
            f"network {config.name}: {config.stages} stages leave nothing of an image of "
            f"{size_px} px: lower `stages`, or raise prepare.size_px to {2 << halvings}"
        )
    return SMALL[config.name](config, outputs, decoding.channels)
