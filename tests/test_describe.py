"""A network's layers: their costs, and their receptive fields against the gradient of real ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from project import PARAMS, stage
from tasks import one_of
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.core import paths
from pipeline.train.config import SmallNetwork
from pipeline.train.layers import Layer, LayerTable, list_layers
from pipeline.train.models import build_model


def small(name: str) -> nn.Module:
    config = SmallNetwork(family="small", name=name, width=4, stages=4, dropout=0.1)
    return build_model(config, one_of(2), 64, [0.0] * 3, [1.0] * 3).network


def odd() -> nn.Module:
    """Windows of every kind, on sides that they do not divide."""
    return nn.Sequential(
        nn.Conv2d(3, 4, (5, 2), stride=(3, 2), padding=(2, 0), dilation=(1, 3)),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2),
        nn.AvgPool2d(2, 1),
        nn.Conv2d(6, 2, 3, padding="same"),
    )


class Branches(nn.Module):
    """Channels with fields of their own, cut, shuffled, and joined."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 4, (1, 7), padding=(0, 3))
        self.tall = nn.Conv2d(3, 4, (5, 1), stride=2, padding=(2, 0))
        self.each = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.wide(x)[..., ::2, ::2]
        both = torch.cat([wide, self.tall(x)], 1).flatten(2).transpose(1, 2)
        side = x.shape[-1] // 2
        both = both.transpose(1, 2).reshape(1, 8, side, side)
        return self.last(both + self.each(nn.functional.channel_shuffle(both, 2)))


NETWORKS: dict[str, tuple[Any, int]] = {
    "vgg": (lambda: small("vgg"), 52),
    "airbench": (lambda: small("airbench"), 52),
    "resnet": (lambda: small("resnet"), 44),
    "odd": (odd, 43),
    "branches": (Branches, 24),
    "resnet10t": (lambda: timm.create_model("resnet10t"), 56),
    "resnet18, dilated": (lambda: timm.create_model("resnet18", output_stride=8), 64),
    "mobilenetv2_035": (lambda: timm.create_model("mobilenetv2_035"), 48),
    "tf_efficientnet_lite0": (lambda: timm.create_model("tf_efficientnet_lite0"), 32),
    "test_efficientnet": (lambda: timm.create_model("test_efficientnet"), 64),
}


def positive(network: nn.Module) -> nn.Module:
    """With positive weights, and averages for maxima: so a gradient is 0 only where nothing is seen."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                window = (child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(module, name, nn.AvgPool2d(*window))
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(torch.rand_like(value) + 0.1)
            if value.ndim > 1:
                value.div_(value.flatten(1).sum(1).view(-1, *[1] * (value.ndim - 1)))
    return network.double().eval()


def seen(network: nn.Module, layer: Layer, size_px: int) -> Any:
    """What the gradient of a layer's middle unit says: its place, and rows and columns that it sees."""
    kept = {}
    hook = network.get_submodule(layer.name).register_forward_hook(
        lambda _, __, output: kept.update(output=output)
    )
    picture = torch.rand(1, 3, size_px, size_px, dtype=torch.float64, requires_grad=True)
    network(picture)
    hook.remove()
    output = kept["output"]
    assert list(output.shape[1:]) == layer.shape
    row, column = output.shape[-2] // 2, output.shape[-1] // 2
    (gradient,) = torch.autograd.grad(output[0, :, row, column].sum(), picture)
    rows, columns = gradient[0].abs().sum(0).nonzero().T
    return (row, column), [(int(e.min()), int(e.max())) for e in (rows, columns)]


def placed(table: LayerTable) -> list[Layer]:
    """The layers of which a module of that name has the output, by their last operation."""
    of = {layer.name: layer for layer in table.layers if len(layer.shape) == 3 and layer.name}
    return list(of.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_unit_sees_exactly_what_its_gradient_reaches(name: str) -> None:
    make, size_px = NETWORKS[name]
    torch.manual_seed(1)
    network = make()
    table = list_layers(network, name, size_px)
    assert table.unknown is None
    network = positive(network)
    checked = 0
    for layer in placed(table):
        place, found = seen(network, layer, size_px)
        field = layer.field
        if field.whole and field.jump is None:
            assert found == [(0, size_px - 1)] * 2, layer
        elif field.jump is None:
            assert name == "branches"
        else:
            for axis in (0, 1):
                centre = field.offset[axis] + place[axis] * field.jump[axis]
                reach = (field.size[axis] - 1) / 2
                first, last = max(centre - reach, 0), min(centre + reach, size_px - 1)
                assert found[axis] == (first, last), layer
            checked += 1
    assert checked > 2
