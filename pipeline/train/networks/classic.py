"""The classics by name, as they were published, with the switches that students turn.

Kernels, channels, strides and layers are the papers', for any side that leaves at least one place:
an image smaller than the published one leaves a smaller grid to the first fully connected layer.
Left out is what nobody uses today: LeNet-5's table of connections, trained averages and radial
outputs, AlexNet's response normalisation and its halves for two GPUs. All start from He's first
weights (parts.py), since the papers' own take far more epochs.
"""

from collections import OrderedDict
from itertools import pairwise
from typing import cast

import torch
from torch import nn

from pipeline.core.competition import ImageDecoding
from pipeline.core.errors import TrainError
from pipeline.train.networks.config import ClassicNetwork
from pipeline.train.networks.parts import (
    BasicBlock,
    activate,
    convolve,
    initialise,
    pool,
    stride_for,
)

_MOST_PX = 512


def build_classic(config: ClassicNetwork, outputs: int, decoding: ImageDecoding) -> nn.Module:
    """A classic for images decoded so. Raises TrainError where nothing is left of such an image."""
    side, channels = decoding.size_px, decoding.channels
    flat = _count_features(config, channels, side)
    if flat is None:
        sides = range(side + 1, _MOST_PX)
        least = next(each for each in sides if _count_features(config, channels, each))
        raise TrainError(
            f"network {config.name}: nothing is left of an image of {side} px: raise "
            f"prepare.size_px to {least} or more, or choose another network"
        )
    layers: list[nn.Module] = [nn.Flatten()]
    sizes = [flat, *_hidden(config)]
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), activate(config)]
        layers += [nn.Dropout(config.dropout)] if config.dropout is not None else []
    layers.append(nn.Linear(sizes[-1], outputs))
    features = nn.Sequential(*FEATURES[config.name](config, channels))
    network = nn.Sequential(OrderedDict(features=features, head=nn.Sequential(*layers)))
    initialise(network, config.activation)
    return network


def _count_features(config: ClassicNetwork, channels: int, side: int) -> int | None:
    """How many numbers reach the fully connected layers; None where nothing is left."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        features = nn.Sequential(*FEATURES[config.name](config, channels)).eval()
        try:
            found: torch.Tensor = features(torch.zeros(1, channels, side, side))
        except RuntimeError:
            return None
    return found.numel() or None


def _hidden(config: ClassicNetwork) -> list[int]:
    """The sizes of the fully connected layers before the last one."""
    if config.name == "lenet5":
        return [120, 84]
    return [64 * _width(config)] * 2 if config.name in ("alexnet", "vgg11") else []


def _width(config: ClassicNetwork) -> int:
    return cast(int, config.width)  # which ClassicNetwork has checked


def linear(_: ClassicNetwork, __: int) -> list[nn.Module]:
    """Nothing between the pixels and the classes: logistic regression."""
    return []


def lenet5(config: ClassicNetwork, inputs: int) -> list[nn.Module]:
    """LeCun, Bottou, Bengio and Haffner 1998 (doi:10.1109/5.726791), for 32 × 32 pixels."""
    layers: list[nn.Module] = []
    for channels, out in ((inputs, 6), (6, 16)):
        layers += convolve(config, 2, channels, out, 5, stride_for(config, 2), padding=0)
        layers += [activate(config), *pool(config, 2, 2, 2)]
    return layers


def alexnet(config: ClassicNetwork, inputs: int) -> list[nn.Module]:
    """Krizhevsky, Sutskever and Hinton 2012, with the channels of Krizhevsky 2014.

    (arXiv:1404.5997.) The first convolution and the overlapping windows are padded so that each
    divides the side: by 4, and by 2 three times.
    """
    width = _width(config)
    layers: list[nn.Module] = []
    for channels, out, kernel, stride, pooled in (
        (inputs, width, 11, 4, True),
        (width, 3 * width, 5, 1, True),
        (3 * width, 6 * width, 3, 1, False),
        (6 * width, 4 * width, 3, 1, False),
        (4 * width, 4 * width, 3, 1, True),
    ):
        stride *= stride_for(config, 2) if pooled else 1
        layers += [*convolve(config, 2, channels, out, kernel, stride), activate(config)]
        layers += pool(config, 2, 3, 2, padding=1) if pooled else []
    return layers


def vgg11(config: ClassicNetwork, inputs: int) -> list[nn.Module]:
    """Configuration A of Simonyan and Zisserman 2015 (arXiv:1409.1556), for 224 × 224 pixels."""
    layers: list[nn.Module] = []
    before = inputs
    for stage in ((1,), (2,), (4, 4), (8, 8), (8, 8)):
        for place, multiple in enumerate(stage, start=1):
            out = multiple * _width(config)
            stride = stride_for(config, 2) if place == len(stage) else 1
            layers += [*convolve(config, 2, before, out, 3, stride), activate(config)]
            before = out
        layers += pool(config, 2, 2, 2)
    return layers


def resnet18(config: ClassicNetwork, inputs: int) -> list[nn.Module]:
    """He, Zhang, Ren and Sun 2016 (arXiv:1512.03385), for 224 × 224 pixels."""
    width = _width(config)
    layers = convolve(config, 2, inputs, width, 7, 2 * stride_for(config, 2))
    layers += [activate(config), *pool(config, 2, 3, 2, padding=1)]
    before = width
    for stage in range(4):
        out = width * 2**stage
        layers.append(BasicBlock(config, 2, before, out, 3, stride=2 if stage else 1))
        layers.append(BasicBlock(config, 2, out, out, 3, stride=1))
        before = out
    return [*layers, nn.AdaptiveAvgPool2d(1)]


FEATURES = {
    "linear": linear,
    "lenet5": lenet5,
    "alexnet": alexnet,
    "vgg11": vgg11,
    "resnet18": resnet18,
}
"""What comes before the fully connected layers, by `network.name`."""
