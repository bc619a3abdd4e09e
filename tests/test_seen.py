"""What a trained network sees is computed as it is defined, and shown as it is computed."""

import io
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from browser import Browser, find_browser
from cards import make_explanation
from PIL import Image as Pillow
from project import copy_project, decoding_of, digests, stage
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from tasks import any_of, number, one_of
from torch import nn

from pipeline.core import paths
from pipeline.core.competition import SignalDecoding
from pipeline.core.errors import TableError, TrainError
from pipeline.core.task import Task
from pipeline.explain import cam, draw, points
from pipeline.explain.build import explain
from pipeline.explain.look import IN_REPORT, look_at
from pipeline.explain.network import (
    as_tensor,
    field_box,
    find_maps,
    first_layer,
    list_runs,
    named_map,
)
from pipeline.explain.rows import Predicted, Trained, choose_rows, find_row
from pipeline.report.gallery import picture
from pipeline.report.page import render_seen
from pipeline.report.seen import show
from pipeline.scoring.seen import Box, Explanation, read_explanation
from pipeline.train.config import (
    ClassicNetwork,
    SignalNetwork,
    SmallNetwork,
    SpectrogramNetwork,
    TimmNetwork,
)
from pipeline.train.layers import list_layers
from pipeline.train.models import Classifier, Description, build_model

SIDE = 24
TWO = one_of(("no", "yes"))
SMALL = [
    SmallNetwork(family="small", name=name, width=4, stages=2, dropout=0.0)
    for name in ("vgg", "airbench", "resnet")
]


FIRST_KERNEL = 7
OF_SIGNALS = [
    SignalNetwork(
        family="signal", name=name, width=4, stages=2, step=2, kernel=FIRST_KERNEL,
        activation="relu", pool="max", batch_norm=True, dropout=0.0, differences=differences,
        amplitude=amplitude,
    )
    for name, differences, amplitude in (
        ("convnet1d", 0, "linear"), ("resnet1d", 2, "linear"), ("filterbank1d", 1, "logarithm"),
    )
]  # fmt: skip
WAVES = SignalDecoding(length=96, channels=2)
SOUNDS = SignalDecoding(length=400, channels=2)


def on_spectrogram(name: str) -> SpectrogramNetwork:
    return SpectrogramNetwork(
        family="spectrogram", name=name, pretrained=False, weights=None, dropout=0.0,
        drop_path=None, window=72, step=4, bands=32, scale="linear", bands_masked=0,
    )  # fmt: skip


def network_of_timm(name: str) -> TimmNetwork:
    return TimmNetwork(
        family="timm", name=name, pretrained=False, weights=None, dropout=0.0, drop_path=None
    )


def make_trained(
    task: Task = TWO,
    network: SmallNetwork | SignalNetwork | SpectrogramNetwork | TimmNetwork = SMALL[0],
    side: int = SIDE,
    labels: list[str] | None = None,
    signals: SignalDecoding | None = None,
) -> Trained:
    """A fresh network, and made-up rows of four groups: the first 20 of 40 are scored."""
    torch.manual_seed(1)
    generator = np.random.default_rng(1)
    decoding = signals or decoding_of(side)
    if signals:
        images = generator.normal(100, 50, (40, *decoding.shape)).astype(np.float32)
    else:
        images = generator.integers(0, 256, (40, *decoding.shape), np.uint8)
    model = build_model(
        network, task, decoding, [100.0] * decoding.channels, [50.0] * decoding.channels
    ).eval()
    model.set_input(images, np.arange(20, 40))
    ids = [f"img_{row:02}" for row in range(40)]
    encoded = task.encode("labels", labels or [task.outputs[row % 2] for row in range(40)])
    with torch.no_grad():
        values = model.activate(model(as_tensor(images))).double().numpy()
    description = Description(
        network=network,
        task=task,
        decoding=decoding,
        precision="float32",
        tta=False,
        threads=1,
    )
    groups = [f"p{row // 2 % 4}" for row in range(20)]
    scored = Predicted(
        ids[:20], np.arange(20), images, values[:20], task.decide(values[:20], None),
        encoded[:20], groups,
    )  # fmt: skip
    test = Predicted(
        ["t_0", "t_1"], np.arange(2), images[:2], values[:2], scored.decided[:2], None, []
    )
    return Trained(
        "one", 0, model, description, "ab" * 32, task, scored, test, np.arange(20, 40), encoded, ids
    )


class Tiny(nn.Module):
    """Two channels, their means, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 2, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.last = nn.Linear(2, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.act(self.convolution(images)).mean((2, 3)))  # type: ignore[no-any-return]


def tiny() -> Classifier:
    torch.manual_seed(3)
    return Classifier(Tiny(), TWO, [100.0] * 3, [50.0] * 3).eval()


def a_row(side: int = 12) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (side, side, 3), np.uint8)


@pytest.mark.parametrize("layer", ["act", "convolution"])
@pytest.mark.parametrize("place", [0, 1])
def test_grad_cam_is_the_sum_of_the_maps_weighted_by_their_mean_gradient(
    place: int, layer: str
) -> None:
    """Behind a global mean and a linear layer the gradient is known: the weight over the area."""
    model, row = tiny(), a_row()
    network: Any = model.network
    with torch.no_grad():
        raw = network.convolution(model.normalise(as_tensor(row[None])))[0]
        maps, passes = raw.relu(), torch.ones_like(raw)
        if layer == "convolution":
            maps, passes = raw, (raw > 0).float()
        gradient = passes * network.last.weight[place][:, None, None] / raw[0].numel()
        expected = (gradient.mean((1, 2))[:, None, None] * maps).sum(0).relu().numpy()
    found = cam.grad_cam(model, network.get_submodule(layer), row, place)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.max() > 0


def test_occlusion_is_the_fall_of_the_probability_under_a_grey_patch() -> None:
    model, row = tiny(), a_row()
    found = cam.occlude(model, row, 1, (3, 4))
    covered = row.astype(np.float32)
    covered[2:10, 2:8] = 100.0  # around rows 4 to 7, columns 3 to 5
    with torch.no_grad():
        before = model(as_tensor(row[None])).softmax(1)[0, 1]
        after = model(as_tensor(covered[None])).softmax(1)[0, 1]
    assert found.shape == (3, 4)
    assert found[1, 1] == pytest.approx(float(before - after), abs=1e-6)


def test_a_shuffled_network_has_the_same_numbers_in_another_order() -> None:
    trained = make_trained()
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    first, second = (cam.shuffled(trained.model, trained.scored.images) for _ in range(2))
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(first.state_dict()[name], second.state_dict()[name])
    for (name, one), (_, other) in zip(
        trained.model.named_parameters(), first.named_parameters(), strict=True
    ):
        assert torch.equal(one.flatten().sort()[0], other.flatten().sort()[0]), name
        assert name.endswith(("bias", "weight"))
        assert one.unique().numel() == 1 or not torch.equal(one, other), name


def test_the_rank_correlation_is_spearmans() -> None:
    generator = np.random.default_rng(2)
    one, other = generator.integers(0, 5, (2, 8, 8)).astype(np.float64)
    assert cam.rank_correlation(one, other) == pytest.approx(
        spearmanr(one.ravel(), other.ravel())[0]
    )
    assert cam.rank_correlation(one, np.ones((8, 8))) is None


RESNET = ClassicNetwork.model_validate(
    {"family": "classic", "name": "resnet18", "width": 4, "activation": "relu", "pool": "max",
     "batch_norm": True}
)  # fmt: skip


@pytest.mark.parametrize("network", [*SMALL, RESNET], ids=lambda network: network.name)
def test_a_box_holds_exactly_the_pixels_that_change_its_unit(
    network: SmallNetwork | ClassicNetwork,
) -> None:
    model = build_model(network, TWO, decoding_of(32), [100.0] * 3, [50.0] * 3).eval()
    runs = list_runs(model.network, torch.zeros(1, 3, 32, 32))
    maps = find_maps(runs, list_layers(model.network, "", decoding_of(32)), 2)
    assert [each.sides for each in maps] == sorted({each.sides for each in maps}, reverse=True)
    for each in maps:
        images = torch.rand(64, 3, 32, 32, requires_grad=True)
        found = cam.feature_maps(model, each.module, images * 255)[1]
        unit = each.sides[0] // 2, each.sides[1] // 3
        (gradient,) = torch.autograd.grad(found[:, :, unit[0], unit[1]].sum(), images)
        assert each.field
        box = field_box(each.field, unit, (32, 32))
        rows, columns = (gradient.abs().sum((0, 1)).sum(axis) > 0 for axis in (1, 0))
        held = [int(places.nonzero()[end]) for places in (rows, columns) for end in (0, -1)]
        assert held == [box.top, box.bottom - 1, box.left, box.right - 1], each.name


def span_of(unit: int) -> list[int]:
    """The first and last sample that the second stage of the convnet1d sees: two convolutions of 7,
    the second on samples that are 2 apart, and two poolings by 2."""
    start = 4 * unit - 3 - 2 * 3
    return [start, start + 6 + 1 + 2 * 6 + 2]


@pytest.mark.parametrize(
    "network", [*OF_SIGNALS, on_spectrogram("resnet10t")], ids=lambda network: network.name
)
def test_a_span_holds_exactly_the_samples_that_change_its_unit(
    network: SignalNetwork | SpectrogramNetwork,
) -> None:
    """But for the first sample of a frame of a spectrogram, which Hann's window gives no weight."""
    framed = isinstance(network, SpectrogramNetwork)
    signals = SOUNDS if framed else WAVES
    trained = make_trained(network=network, signals=signals)
    with torch.no_grad():
        for value in trained.model.parameters():
            value[value == 0] = 1  # timm's residual branches begin so
    look = look_at(trained, IN_REPORT)
    maps = find_maps(look.map_runs, look.table, 1)
    lengths = [each.sides for each in maps]
    assert len(maps) >= 3 - (network.name == "convnet1d")
    assert lengths == sorted({(1, length) for _, length in lengths}, reverse=True)
    for each in maps:
        unit = 0, each.sides[1] // 3
        rows = torch.randn(64, 2, signals.length, requires_grad=True)
        found = cam.feature_maps(trained.model, each.module, rows * 50 + 100)[1]
        (gradient,) = torch.autograd.grad(found[..., unit[1]].sum(), rows)
        samples = gradient.abs().sum((0, 1)).nonzero().flatten()
        assert each.field
        box = field_box(each.field, unit, (1, signals.length))
        held = [box.left + framed, box.right - 1]
        assert [int(samples[0]), int(samples[-1])] == held, each.name
        assert (box.top, box.bottom) == (0, 1)
        if network.name == "convnet1d" and each.sides == (1, 24):
            assert [box.left, box.right - 1] == span_of(unit[1])


def test_maps_are_those_before_the_size_changes_with_their_normalisation() -> None:
    def names(network: SmallNetwork | TimmNetwork, side: int) -> list[str]:
        model = build_model(network, TWO, decoding_of(side), [100.0] * 3, [50.0] * 3).eval()
        runs = list_runs(model.network, torch.zeros(1, 3, side, side))
        return [
            each.name
            for each in find_maps(runs, list_layers(model.network, "", decoding_of(side)), 2)
        ]

    assert names(SMALL[0], 24) == ["features.5", "features.12"]
    assert names(SMALL[1], 24) == ["features.6", "features.13"]
    assert names(SMALL[2], 24) == ["stem.2", "blocks.0", "blocks.1"]
    assert names(network_of_timm("resnet10t"), 64)[-2:] == ["layer3.0.act2", "layer4.0.act2"]
    assert names(network_of_timm("convnext_atto"), 64)[-1] == "stages.3.blocks.1"
    assert names(network_of_timm("vit_tiny_patch16_224"), 32) == []


def test_the_first_weights_are_those_that_meet_the_pixels() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2))
    runs = list_runs(linear, torch.zeros(1, 3, 4, 4))
    found = first_layer(runs, (3, 4, 4))
    assert found
    assert found.weight is linear[1].weight
    assert not find_maps(runs, list_layers(linear, "", decoding_of(4)), 2)
    weights = np.zeros((2, 3, 2, 2))
    weights[1, 2, 0, 1], weights[0, 0, 1, 0] = -2, 1
    sheet = np.asarray(draw.canvas_for(decoding_of(4), 96, 40).weights(weights))
    tile = sheet.shape[0] // 2
    assert sheet[tile + 1, 0].tolist() == [191, 128, 128]
    assert sheet[0, -1].tolist() == [128, 128, 0]


def test_a_frame_is_drawn_where_the_box_is() -> None:
    row, box = a_row(24), Box(top=3.0, left=6.0, bottom=15.0, right=20.0)
    canvas = draw.canvas_for(decoding_of(24), 96, 40)
    framed = np.asarray(canvas.plain(row, [None, box]))
    drawn = (framed == draw.COLOURS[1]).all(2)
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    assert [rows[0], rows[-1], columns[0], columns[-1]] == [12, 59, 24, 79]
    inside = np.asarray(canvas.plain(row))[13:59, 25:79]
    assert (framed[13:59, 25:79] == inside).all()


def test_an_image_of_one_channel_and_a_signal_are_drawn_too() -> None:
    grey = draw.canvas_for(decoding_of(24, 1), 96, 40)
    heat = np.zeros((8, 8))
    heat[2, 3] = 1
    red = np.asarray(grey.heated(np.full((24, 24, 1), 90, np.uint8), heat).convert("RGB"))
    assert np.unravel_index(red[:, :, 0].argmax(), red.shape[:2]) in [(30, 42), (29, 41), (30, 41)]
    signal = draw.canvas_for(SignalDecoding(length=100, channels=2), 96, 40)
    row = np.random.default_rng(1).normal(size=(100, 2)).astype(np.float32)
    framed = np.asarray(signal.plain(row, [Box(top=0.0, left=25.0, bottom=1.0, right=50.0)]))
    columns = np.flatnonzero((framed == draw.COLOURS[0]).all(2).any(0))
    assert (columns[0], columns[-1]) == (48, 95)
    shown = np.asarray(signal.heated(0 * row, heat[2:3]).convert("RGB"))[20, :, 1]
    assert shown.shape == (192,)
    assert abs(int(shown.argmin()) - 192 * 3.5 / 8) <= 1
    assert signal.strip(np.zeros((4, 1, 25))).height == 40


def test_weights_of_a_signal_are_curves_above_and_below_zero() -> None:
    kernel = np.zeros((1, 2, 9))
    kernel[0, 0, 2], kernel[0, 1, 6] = 1, -0.5
    sheet = np.asarray(draw.canvas_for(WAVES, 96, 40).weights(kernel).convert("RGB"), np.int64)
    assert sheet.shape == (40, 80, 3)
    for channel, column, rows in ((0, 22, range(5)), (1, 58, range(25, 33))):
        near = np.abs(sheet - draw.COLOURS[channel]).sum(2) < 120
        ends = np.argwhere(near)
        end = ends[ends[:, 0].argmin() if channel == 0 else ends[:, 0].argmax()]
        assert end[0] in rows
        assert abs(end[1] - column) <= 2


def test_a_gallery_shows_three_channels_of_a_signal_above_each_other() -> None:
    drawn = str(picture(np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32)))
    curves = re.findall(r'class="line (s\d)" points="([^"]+)"', drawn)
    assert [style for style, _ in curves] == ["s0", "s1", "s2"]
    heights = [[float(point.split(",")[1]) for point in points.split()] for _, points in curves]
    assert all(max(one) < min(other) for one, other in pairwise(heights))
    assert 0 < min(heights[0]) < max(heights[2]) < 96


class OfSignals(Classifier):
    """A network of signals of two channels."""

    def __init__(self) -> None:
        super().__init__(nn.Identity(), TWO, [0.0] * 3, [1.0] * 3)
        self.convolution, self.mean = nn.Conv1d(2, 4, 5, padding=2), torch.zeros(1, 2, 1)
        self.last = nn.Linear(4, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.last(self.convolution(rows).mean(2))  # type: ignore[no-any-return]


@pytest.mark.unchecked
def test_a_signal_has_maps_of_one_line() -> None:
    model, row = OfSignals(), np.random.default_rng(1).normal(size=(40, 2)).astype(np.float32)
    row[20:] = 0  # as the patch
    assert cam.grad_cam(model, model.convolution, row, 0).shape == (1, 40)
    falls = cam.occlude(model, row, 0, (1, 8))
    assert falls.shape == (1, 8)
    assert (np.abs(falls[0, 5:]) < 1e-6).all()
    assert (np.abs(falls[0, :4]) > 1e-6).all()


def test_two_axes_are_those_of_pca() -> None:
    features = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    found, kept = points.project(features)
    expected = PCA(2).fit(features.double().numpy())
    np.testing.assert_allclose(
        abs(found), abs(expected.transform(features.double().numpy())), atol=1e-6
    )
    assert kept == pytest.approx(expected.explained_variance_ratio_.sum())


def test_a_group_that_stands_together_is_seen_in_the_neighbours() -> None:
    """Each of ten groups has five rows of each label: by chance 4 of the other 49."""
    generator = torch.Generator().manual_seed(1)
    labels, groups = [f"l{row % 2}" for row in range(100)], [f"p{row // 10}" for row in range(100)]
    noise = torch.randn(100, 16, generator=generator)
    centre = torch.randn(10, 16, generator=generator).repeat_interleave(10, 0)
    leaking = points.shared_groups(noise + 6 * centre, labels, groups)
    assert leaking
    assert leaking.rows == 100
    assert leaking.expected == pytest.approx(4 / 49, abs=1e-6)
    assert leaking.observed > 0.95
    sound = points.shared_groups(noise, labels, groups)
    assert sound
    assert abs(sound.observed - sound.expected) < 0.1
    assert points.shared_groups(noise, labels, [str(row) for row in range(100)]) is None


def test_only_rows_with_the_label_are_neighbours() -> None:
    features = torch.tensor([[1, 0], [0, 1], [1, 0.2], [1, 0.05]])
    found = points.shared_groups(features, ["a", "a", "a", "b"], ["p", "p", "q", "p"])
    assert found
    assert (found.observed, found.rows) == (0, 3)
    assert found.expected == pytest.approx(1 / 3, abs=1e-6)


def test_the_surest_row_of_each_class_comes_first_then_the_surest_mistakes() -> None:
    values = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7], [0.95, 0.05]])
    rows = Predicted(
        list("abcdef"), np.arange(6), np.zeros((6, 2)), values, TWO.decide(values, None),
        np.array([0, 0, 1, 0, 0, 1]), ["p"] * 6,
    )  # fmt: skip
    assert [rows.image_ids[row] for row in choose_rows(rows, TWO)] == ["a", "c", "f", "d", "e"]


SEVERAL = any_of("a", "b")
NUMBERS = number("size")


@pytest.mark.parametrize(
    ("trained", "explained"),
    [
        (lambda: make_trained(), {"no", "yes"}),
        (lambda: make_trained(SEVERAL, SMALL[2]), {"a", "b"}),
        (lambda: make_trained(NUMBERS, SMALL[1], labels=[str(v) for v in range(40)]), {"size"}),
    ],
    ids=["one_of", "any_of", "number"],
)
def test_every_task_is_explained_and_shown(trained: Any, explained: set[str]) -> None:
    record, pictures = explain(look_at(trained(), IN_REPORT))
    assert record == Explanation.model_validate_json(record.model_dump_json(), strict=True)
    assert {row.explained for row in record.rows} <= explained
    assert all(row.cam and row.maps and row.maps[0].box for row in record.rows)
    assert record.shared
    page = render_seen(show(record, pictures))
    assert page.count("<img ") == len(pictures)


@pytest.mark.parametrize(
    ("network", "curves"),
    [
        (OF_SIGNALS[0], ["channel 0", "channel 1"]),
        (OF_SIGNALS[1], [
            f"channel {channel}{order}" for order in ("", " (differences)", " (second differences)")
            for channel in (0, 1)
        ]),
        (OF_SIGNALS[2], ["channel 0", "channel 1", "channel 0 (differences)",
                         "channel 1 (differences)"]),
    ],
    ids=lambda each: getattr(each, "name", ""),
)  # fmt: skip
def test_a_network_for_signals_is_shown_with_the_words_for_signals(
    network: SignalNetwork, curves: list[str]
) -> None:
    record, pictures = explain(look_at(make_trained(network=network, signals=WAVES), IN_REPORT))
    assert record == Explanation.model_validate_json(record.model_dump_json(), strict=True)
    assert (record.kind, record.cells) == ("signals", (1, 32))
    assert record.first
    assert (record.first.kind, record.first.curves) == ("kernels", curves)
    assert all(row.cam and row.maps[0].box for row in record.rows)
    page = render_seen(show(record, pictures))
    assert page.count("<img ") == len(pictures)
    text = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert not re.search(r"\b(images?|pixels?|px|frame|grey patch)\b", text)
    assert "samples" in text
    assert all(name in text for name in curves)


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto"])
def test_a_spectrogram_is_explained_along_time_and_says_so(name: str) -> None:
    trained = make_trained(network=on_spectrogram(name), signals=SOUNDS)
    record, pictures = explain(look_at(trained, IN_REPORT))
    assert record == Explanation.model_validate_json(record.model_dump_json(), strict=True)
    assert record.first is None
    assert len(record.maps) >= 3
    assert all(each.sides[0] == 1 < each.sides[1] for each in record.maps)
    assert {each.layer.partition(".")[0] for each in record.maps} == {"backbone"}
    assert all(row.cam and row.maps for row in record.rows)
    assert record.left_out == [
        f"{name} looks at spectrograms, which are drawn in place of signals, low bands below: what "
        "it shows at each time is the mean over all bands, and "
        "its first windows, which lie over bands and time, are left out."
    ]
    assert render_seen(show(record, pictures)).count("<img ") == len(pictures)


def test_a_spectrogram_is_drawn_dark_where_it_is_strong_with_low_bands_below() -> None:
    """A band of four, and a bar for the first half of the signal, above it."""
    values = np.zeros((1, 4, 6), np.float32)
    values[0, 1, 3:] = 5
    canvas = draw.canvas_for(SOUNDS, 96, 40, lambda _: values)
    row = np.zeros(SOUNDS.shape, np.float32)
    box = Box(left=0, top=0, right=SOUNDS.length // 2, bottom=1)
    image = np.asarray(canvas.plain(row, [box]).convert("RGB"), np.int64)
    assert image.shape == (96, 192, 3)
    assert (image[2, 20] == draw.COLOURS[0]).all()
    assert (image[2, 150] == 255).all()
    strong = image[:, 170].sum(1) < 300
    assert not image[6:, 20].sum(1).min() < 700
    assert np.median(np.flatnonzero(strong)) == pytest.approx(5 + 2.5 / 4 * 91, abs=2)
    heated = np.asarray(canvas.heated(row, np.array([[0.0, 1.0]])).convert("RGB"), np.int64)
    assert heated.shape == (96, 192, 3)
    assert heated[10, 180, 0] > heated[10, 180, 2] + 50


def test_the_spectrogram_that_is_drawn_is_what_the_network_gets() -> None:
    trained = make_trained(network=on_spectrogram("resnet10t"), signals=SOUNDS)
    look = look_at(trained, IN_REPORT)
    assert isinstance(look.canvas, draw.SpectrogramCanvas)
    row, got = trained.scored.images[0], []
    hook = trained.model.network.backbone.register_forward_pre_hook(
        lambda _, given: got.append(given[0])
    )
    trained.model.eval()(as_tensor(row[None]))
    hook.remove()
    np.testing.assert_array_equal(look.canvas.spectrograms(row), got[0][0].detach())


def test_grad_cam_of_a_spectrogram_is_the_mean_over_its_bands() -> None:
    trained = make_trained(network=on_spectrogram("resnet10t"), signals=SOUNDS)
    layer = trained.model.get_submodule("network.backbone.layer2")
    row = trained.scored.images[0]
    outputs, maps = cam.feature_maps(trained.model, layer, as_tensor(row[None]))
    (gradient,) = torch.autograd.grad(outputs[0, 1], maps)
    expected = (gradient.mean((2, 3), keepdim=True) * maps).sum(1).relu()[0].mean(0).detach()
    found = cam.grad_cam(trained.model, layer, row, 1)
    assert found.shape == (1, maps.shape[3])
    np.testing.assert_allclose(found[0], expected, atol=1e-7)


def test_a_transformer_says_what_is_left_out_and_is_occluded_all_the_same() -> None:
    trained = make_trained(network=network_of_timm("vit_tiny_patch16_224"), side=32)
    record, _ = explain(look_at(trained, replace(IN_REPORT, cells=2)))
    assert "a transformer mixes all places" in record.left_out[0]
    assert record.first
    assert not record.maps
    assert all(row.cam is None and not row.maps for row in record.rows)


def test_another_layer_can_be_asked_and_an_unknown_one_is_named_with_near_ones() -> None:
    look = look_at(make_trained(), IN_REPORT)
    found = named_map(look.runs, look.table, 2, "features.7")
    assert (found.name, found.sides) == ("features.7", (12, 12))
    with pytest.raises(TrainError, match=r"found 'features.70'; near ones: features.7, features"):
        named_map(look.runs, look.table, 2, "features.70")


def test_only_rows_that_the_network_has_not_seen_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folds").mkdir()
    paths.FOLDS.write_text("image_id,label,group,repeat,fold\nimg_30,no,p,0,1\n")
    trained = make_trained()
    assert find_row(trained, "t_1") == (trained.test, 1)
    assert find_row(trained, "img_03") == (trained.scored, 3)
    with pytest.raises(TableError, match="python -m pipeline explain one 1 img_30"):
        find_row(trained, "img_30")
    with pytest.raises(TableError, match="img_3: expected an id .* did you mean img_1?"):
        find_row(trained, "img_3")
    signals = make_trained(network=OF_SIGNALS[0], signals=WAVES)
    with pytest.raises(TableError, match=r"img_3: expected an id of the signals of train or test"):
        find_row(signals, "img_3")


def test_a_picture_that_hardly_changes_is_flagged_and_ids_are_text() -> None:
    record, pictures = make_explanation("vgg", "ab" * 32)
    row = record.rows[0].model_copy(update={"image_id": "<script>", "given": "<b>"})
    page = render_seen(show(record.model_copy(update={"rows": [row]}), pictures))
    assert '<span class="bad">0.75: hardly changes</span>' in page
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "<b>" not in page


def test_the_record_of_a_project_is_of_its_own_network_and_its_surest_mistakes(
    trained: Path,
) -> None:
    record, pictures = read_explanation(trained / paths.explained("one"), "one")
    oof = pd.read_csv(trained / "models/one/fold0/oof.csv", dtype={"image_id": str})
    label = pd.read_csv(trained / paths.TRAIN_TABLE, dtype=str).set_index("image_id")["label"]
    oof["sure"] = oof[["p_0", "p_1"]].max(axis=1)
    oof["right"] = (oof["p_1"] > 0.5).astype(int).astype(str) == label[oof["image_id"]].to_numpy()
    mistakes = oof[~oof["right"]].sort_values("sure", ascending=False)["image_id"].tolist()
    wrong = [row.image_id for row in record.rows if not row.right]
    assert wrong == mistakes[: len(wrong)]
    assert len(record.rows) == 6 or len(wrong) == len(mistakes)
    assert {row.given for row in record.rows if row.right} == {"0", "1"}
    assert len(record.points.x) == len(oof)
    assert all(Pillow.open(io.BytesIO(each)).format == "PNG" for each in pictures.values())
    page = (trained / paths.REPORT).read_text()
    assert all(row.image_id in page for row in record.rows)


@pytest.mark.slow
def test_the_same_network_gives_the_same_bytes_and_a_page_that_fits_its_window(
    trained: Path, tmp_path: Path
) -> None:
    project = copy_project(trained, tmp_path / "copy")
    before = digests(project, "explain/one/*")
    assert stage(project, "explain", "one").returncode == 0
    assert digests(project, "explain/one/*") == before
    record = json.loads((project / "explain/one/seen.json").read_text())
    asked = record["rows"][0]["image_id"], record["nearest"][0]["image_id"]
    done = stage(project, "explain", "one", "0", *asked, "--tsne", "--layer", "features.5")
    assert done.returncode == 0, done.stdout
    page = project / paths.explained_page("one", 0)
    assert all(image_id in page.read_text() for image_id in asked)
    for wrong, said in (
        (["explain", "one", "7"], "no fold 7; known: [0, 1]"),
        (["explain", "one", "0", "nobody"], "nobody: expected an id of the images"),
    ):
        done = stage(project, *wrong)
        assert (done.returncode, said in done.stdout) == (1, True), done.stdout
    if program := find_browser():
        browser = Browser(program, tmp_path / "profile")
        for width, dark in ((390, True), (1280, False)):
            browser.open(page, width, dark)
            wide = "document.documentElement.scrollWidth"
            assert browser.evaluate(wide) <= width
            assert browser.complaints() == []
            assert browser.pale_texts() == []
        browser.close()
