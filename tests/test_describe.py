"""A network's layers: their costs, and their receptive fields against the gradient of real ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from project import PARAMS, decoding_of
from tasks import one_of
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.__main__ import app
from pipeline.commands.describe import describe
from pipeline.core import paths
from pipeline.core.competition import SignalDecoding
from pipeline.core.errors import TrainError
from pipeline.core.files import write_text
from pipeline.params import read_config
from pipeline.train.kinds import blank
from pipeline.train.layers import Layer, LayerTable, list_layers
from pipeline.train.models import build_model
from pipeline.train.networks.config import SmallNetwork, SpectrogramNetwork
from pipeline.train.networks.named import NAMED
from pipeline.train.networks.signal import LogPower, SignalInput
from pipeline.train.networks.spectrogram import Spectrogram


def small(name: str) -> nn.Module:
    config = SmallNetwork(family="small", name=name, width=4, stages=4, dropout=0.1)
    return build_model(config, one_of(2), decoding_of(64), [0.0] * 3, [1.0] * 3).network


def classic(name: str, **switches: Any) -> nn.Module:
    network = NAMED[name].model_copy(
        update={"width": 4} | switches if name != "lenet5" else switches
    )
    return build_model(network, one_of(2), decoding_of(64), [0.0] * 3, [1.0] * 3).network


def signal(name: str, **switches: Any) -> nn.Module:
    network = NAMED[name].model_copy(update={"width": 4, "stages": 3} | switches)
    return build_model(network, one_of(2), SIGNALS, [0.0] * 2, [1.0] * 2).network


SPECTROGRAM = SpectrogramNetwork(
    family="spectrogram", name="resnet10t", pretrained=False, weights=None, dropout=0.0,
    drop_path=None, window=20, step=4, bands=8, scale="linear", bands_masked=0,
)  # fmt: skip


def spectrogram(network: SpectrogramNetwork) -> nn.Module:
    return build_model(network, one_of(2), SIGNALS, [0.0] * 2, [1.0] * 2).network


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


SIGNALS = SignalDecoding(length=300, channels=2)

NETWORKS: dict[str, tuple[Any, int | SignalDecoding]] = {
    "lenet5": (lambda: classic("lenet5"), 64),
    "lenet5, stride": (lambda: classic("lenet5", pool="stride"), 64),
    "alexnet": (lambda: classic("alexnet"), 64),
    "vgg11, average": (lambda: classic("vgg11", pool="average"), 64),
    "resnet18 of ours": (lambda: classic("resnet18"), 64),
    "convnet1d": (lambda: signal("convnet1d", differences=2), SIGNALS),
    "convnet1d, average": (lambda: signal("convnet1d", pool="average", step=3), SIGNALS),
    "resnet1d": (lambda: signal("resnet1d"), SIGNALS),
    "resnet1d, stride": (lambda: signal("resnet1d", pool="stride", step=3), SIGNALS),
    "filterbank1d": (lambda: signal("filterbank1d", kernel=25, step=2), SIGNALS),
    "spectrogram": (lambda: spectrogram(SPECTROGRAM), SIGNALS),
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


class Added(nn.Module):
    """A signal's input or power with sums for differences and for what is no sum."""

    def __init__(self, part: SignalInput | LogPower) -> None:
        super().__init__()
        self.mean = part.mean if isinstance(part, LogPower) else nn.Identity()
        self.orders = part.channels // 2 if isinstance(part, SignalInput) else 1

    def forward(self, signals: Tensor) -> Tensor:
        orders = [signals]
        for _ in range(self.orders - 1):
            orders.append(orders[-1] + nn.functional.pad(orders[-1][..., 1:], (0, 1)))
        return self.mean(torch.cat(orders, 1))


class Summed(nn.Module):
    """A spectrogram with sums for all that is done to the samples of a frame."""

    def __init__(self, part: Spectrogram) -> None:
        super().__init__()
        self.window, self.step, self.bands = len(part.window), part._step, part.filters.shape[1]

    def forward(self, signals: Tensor) -> Tensor:
        frames = signals.unfold(-1, self.window, self.step).sum(-1)
        return frames[:, :, None].expand(-1, -1, self.bands, -1)


def positive(network: nn.Module) -> nn.Module:
    """With positive weights, and averages for maxima: so a gradient is 0 only where nothing is seen."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool1d | nn.MaxPool2d):
                average = nn.AvgPool1d if isinstance(child, nn.MaxPool1d) else nn.AvgPool2d
                window = (child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(module, name, average(*window))
            if isinstance(child, SignalInput | LogPower):
                setattr(module, name, Added(child))
            if isinstance(child, Spectrogram):
                setattr(module, name, Summed(child))
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(torch.rand_like(value) + 0.1)
            if value.ndim > 1:
                value.div_(value.flatten(1).sum(1).view(-1, *[1] * (value.ndim - 1)))
    return network.double().eval()


def seen(network: nn.Module, layer: Layer, row: Tensor) -> Any:
    """What the gradient of a layer's middle unit says: its place, and what it sees along each axis."""
    kept = {}
    hook = network.get_submodule(layer.name).register_forward_hook(
        lambda _, __, output: kept.update(output=output)
    )
    picture = torch.rand_like(row, dtype=torch.float64, requires_grad=True)
    network(picture)
    hook.remove()
    output = kept["output"]
    assert list(output.shape[1:]) == layer.shape
    place = tuple(side // 2 for side in output.shape[2:])
    (gradient,) = torch.autograd.grad(output[0, :, *place].sum(), picture)
    reached = gradient[0].abs().sum(0).nonzero().T
    return place, [(int(along.min()), int(along.max())) for along in reached]


def placed(table: LayerTable, axes: int) -> list[Layer]:
    """The layers of which a module of that name has the output, by their last operation."""
    of = {
        layer.name: layer for layer in table.layers if len(layer.shape) == axes + 1 and layer.name
    }
    return list(of.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_unit_sees_exactly_what_its_gradient_reaches(name: str) -> None:
    make, size = NETWORKS[name]
    decoding = decoding_of(size) if isinstance(size, int) else size
    sides = decoding.shape[:-1]
    torch.manual_seed(1)
    network = make()
    table = list_layers(network, name, decoding)
    assert table.unknown is None
    axes = 2 if name == "spectrogram" else len(sides)
    assert all(len(layer.shape) == axes + 1 for layer in table.layers if layer.window)
    network = positive(network)
    checked = 0
    for layer in placed(table, axes):
        if layer.name == "picture":  # its layers have time before frequency
            assert (layer.field.size, layer.field.jump, layer.field.offset) == ((20,), (4,), (9.5,))
            continue
        place, found = seen(network, layer, blank(decoding))
        field = layer.field
        if field.whole and field.jump is None:
            assert found == [(0, side - 1) for side in sides], layer
        elif field.jump is None:
            assert name == "branches"
        else:
            for axis, side in enumerate(sides):
                centre = field.offset[axis] + place[axis - len(sides)] * field.jump[axis]
                reach = (field.size[axis] - 1) / 2
                first, last = max(centre - reach, 0), min(centre + reach, side - 1)
                assert found[axis] == (first, last), layer
            checked += 1
    assert checked > 1


def test_parameters_and_multiplications_are_those_that_pytorch_counts() -> None:
    network = timm.create_model("test_convnext", num_classes=3).eval()
    table = list_layers(network, "test_convnext", decoding_of(64))
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        network(torch.zeros(1, 3, 64, 64))
    assert 2 * table.multiplications == counted.get_total_flops()
    assert table.multiplications == sum(layer.multiplications for layer in table.layers)
    assert table.parameters == sum(value.numel() for value in network.parameters())
    for layer in table.layers:
        module = dict(network.named_modules())[layer.name]
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert layer.parameters == sum(value.numel() for value in module.parameters())


def test_a_spectrogram_has_windows_of_two_sides_and_filters_that_are_no_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(paths.PARAMS, PARAMS)
    config = read_config(paths.PARAMS)
    network = SPECTROGRAM.model_copy(update={"scale": "mel", "window": 64, "bands": 15})
    one = config.train.models["one"].model_copy(update={"network": network})
    config.train.models["one"] = one
    table = describe(config, "one", length=640)
    assert (table.length, table.size_px, table.unknown) == (640, None, None)
    transform, filters, first = table.layers[:3]
    assert (transform.kind, transform.shape) == ("Fourier transform", [1, 145, 33])
    assert (filters.kind, filters.shape, filters.parameters) == ("product", [145, 15], 0)
    assert (first.window.kernel, first.window.stride, first.shape) == ((3, 3), (2, 2), [24, 8, 73])
    assert (first.field.size, first.field.jump) == ((72,), (8,))


def test_a_dense_layer_in_a_convolutions_place_costs_what_it_says() -> None:
    layer = list_layers(nn.Conv2d(3, 2, 3, 2), "one", decoding_of(8)).layers[0]
    assert layer.shape == [2, 3, 3]
    dense = nn.Linear(3 * 8 * 8, 2 * 3 * 3)
    assert layer.dense == sum(value.numel() for value in dense.parameters())


def test_attention_and_a_gate_see_the_whole_picture_but_a_patch_does_not() -> None:
    vit = timm.create_model("test_vit", img_size=64, num_classes=2)
    layers = {
        layer.kind: layer for layer in reversed(list_layers(vit, "vit", decoding_of(64)).layers)
    }
    assert layers["convolution"].field.size == vit.patch_embed.patch_size
    assert not layers["convolution"].field.whole
    assert layers["attention"].field.whole
    gated = list_layers(timm.create_model("test_efficientnet"), "gated", decoding_of(64)).layers
    first = next(place for place, layer in enumerate(gated) if layer.name.endswith(".se"))
    assert not any(layer.field.whole for layer in gated[:first])
    assert all(layer.field.whole and layer.field.jump is None for layer in gated[first:])


def test_a_window_of_tokens_sees_its_window() -> None:
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=56, embed_dim=8, depths=(2,), num_heads=(1,)
    )
    table = list_layers(swin, "swin", decoding_of(56))
    of = {layer.name: layer.field for layer in table.layers}
    assert table.unknown is None
    within = of["layers.0.blocks.0.attn.proj"]
    assert (within.size, within.share, within.jump) == ((28, 28), 1 / 4, None)
    assert of["layers.0.blocks.1.attn.proj"].size == (56, 56)


def test_a_picture_of_one_place_has_the_field_of_the_grid() -> None:
    """At 32 px the last stage has one place, and its field is the one at 64 px."""
    network = timm.create_model("resnet18")
    at = [
        {
            layer.name: layer.field
            for layer in list_layers(network, "resnet18", decoding_of(side)).layers
        }
        for side in (32, 64)
    ]
    for name in ("layer4.1.conv2", "layer4.1"):
        assert at[0][name].size == at[1][name].size == (435, 435)
        assert at[0][name].jump == (32, 32)
        assert at[0][name].beyond


class Sorted(nn.Module):
    """What depends on the values themselves."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sort(-1).values


def test_after_an_operation_without_a_rule_nothing_is_guessed() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 3), Sorted(), nn.Conv2d(2, 2, 3), nn.MaxPool2d(2))
    table = list_layers(network, "sorted", decoding_of(16))
    assert table.unknown == "sort in 1"
    assert [layer.field is None for layer in table.layers] == [False, True, True]
    assert [layer.parameters for layer in table.layers] == [56, 38, 0]


def test_what_is_written_into_a_part_of_a_tensor_is_not_guessed() -> None:
    class Written(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            whole = x.clone()
            whole[..., :2, :2] += x.mean((2, 3), keepdim=True)
            return whole * 2

    table = list_layers(nn.Sequential(Written(), nn.Conv2d(3, 1, 1)), "written", decoding_of(8))
    assert table.layers[-1].field is None


def test_the_command_prints_a_table_or_the_same_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(paths.PARAMS, PARAMS)
    app(["describe", "one", "--json"], standalone_mode=False)
    table = LayerTable.model_validate(json.loads(capsys.readouterr().out))
    assert (table.network, table.size_px, table.outputs) == ("vgg", 24, 2)
    app(["describe", "airbench", "--size", "48"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("airbench, one picture of 48 px, 2 outputs: 294,514 parameters")
    last = next(line for line in lines if line.startswith("features.25 "))
    assert last.split()[-5:] == ["106+", "16", "7.5", "100.0%", "1,328,256"]


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        ("resnet18", "resnet18, one picture of 24 px, 2 outputs: 11,177,538 parameters"),
        ("lenet5 --size 32", "lenet5, one picture of 32 px, 2 outputs: 61,326 parameters"),
        ("resnet1d --length 512", "resnet1d, one signal of 512 samples, 2 outputs: 242,194 param"),
    ],
)
def test_a_network_of_ours_is_described_by_its_plain_name(
    arguments: str,
    last: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(paths.PARAMS, PARAMS)
    app(["describe", *arguments.split()], standalone_mode=False)
    assert any(line.startswith(last) for line in capsys.readouterr().out.splitlines())


def test_a_name_that_nobody_has_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(paths.PARAMS, PARAMS)
    with pytest.raises(TrainError, match="timm has no model 'resnet81'; close names: "):
        describe(read_config(paths.PARAMS), "resnet81", 32)
