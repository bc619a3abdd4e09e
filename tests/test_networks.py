"""The classics and the networks for signals: as published, switch by switch, and trained."""

from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import torchvision
from project import decoding_of
from pydantic import TypeAdapter, ValidationError
from tasks import one_of
from test_train import (
    ALL_ROWS,
    CPU,
    INNER_ROWS,
    TRAINING,
    config_of,
    drawn_cells,
    same,
    small,
    start,
    train,
)
from torch import nn

from pipeline.core.competition import Decoding, SignalDecoding
from pipeline.core.errors import TrainError
from pipeline.train.checkpoint import Checkpoint
from pipeline.train.config import ModelConfig
from pipeline.train.fit import History, TrainingRows, fit, mean_size
from pipeline.train.infer import predict
from pipeline.train.kinds import mean_and_std
from pipeline.train.models import Classifier, build_model, describe, load_model, save_model
from pipeline.train.networks.config import SWITCHES, ClassicNetwork, Network, SignalNetwork
from pipeline.train.networks.named import NAMED
from pipeline.train.networks.parts import ACTIVATIONS
from pipeline.train.networks.signal import SignalInput, pick_rows
from pipeline.train.optim import build_optimizers

CLASSICS = ("linear", "lenet5", "alexnet", "vgg11", "resnet18")
OF_SIGNALS = ("convnet1d", "resnet1d", "filterbank1d")
SIGNALS = SignalDecoding(length=96, channels=2)
MUON = {"kind": "muon", "lr": 0.03, "momentum": 0.6}


def narrow(name: str, **switches: Any) -> dict[str, Any]:
    """A named network's parameters, of few channels where that is a switch."""
    values = NAMED[name].model_dump(exclude_none=True)
    fewer = {"width": 4} if "width" in values else {}
    if values["family"] == "signal":
        fewer |= {"stages": 2, "step": 2}
    return values | fewer | switches


def built(name: str, decoding: Decoding, outputs: int = 2, **switches: Any) -> Classifier:
    config: Any = TypeAdapter(Network).validate_python(narrow(name, **switches))
    channels = decoding.channels
    torch.manual_seed(1)
    return build_model(config, one_of(outputs), decoding, [90.0] * channels, [20.0] * channels)


def count(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())


def drawn_signals(rows: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Noise of a channel that hardly varies, and of one; those of class 1 have a faster wave."""
    draw = np.random.default_rng(0)
    labels = draw.integers(2, size=rows)
    time = np.arange(SIGNALS.length) + draw.uniform(0, 60, (rows, 1))
    wave = np.sin(time * np.where(labels, 0.8, 0.2)[:, None])
    signals = np.stack([wave, draw.normal(size=wave.shape)], 2) + draw.normal(
        0, 0.3, (*wave.shape, 2)
    )
    return (signals * [0.01, 500.0]).astype(np.float32), labels


@pytest.mark.parametrize(
    ("name", "side", "channels", "outputs", "published"),
    [
        ("linear", 28, 1, 10, 28 * 28 * 10 + 10),
        ("lenet5", 32, 1, 10, 61_706),
        ("lenet5", 28, 1, 10, 44_426),
        ("alexnet", 192, 3, 1000, torchvision.models.alexnet),
        ("vgg11", 224, 3, 1000, torchvision.models.vgg11),
        ("resnet18", 224, 3, 1000, torchvision.models.resnet18),
    ],
)
def test_a_classic_has_as_many_parameters_as_published(
    name: str, side: int, channels: Any, outputs: int, published: Any
) -> None:
    with torch.device("meta"):
        expected = published if isinstance(published, int) else count(published())
        network = build_model(
            NAMED[name], one_of(outputs), decoding_of(side, channels), [0.0], [1.0]
        ).network
    assert count(network) == expected


@pytest.mark.parametrize("side", [28, 48, 64])
@pytest.mark.parametrize("name", CLASSICS)
def test_a_classic_learns_and_comes_back_with_the_same_bits(
    name: str, side: int, tmp_path: Path
) -> None:
    decoding = decoding_of(side, 1)
    if (name, side) == ("vgg11", 28):
        with pytest.raises(TrainError, match="nothing is left of an image of 28 px: raise prepare"):
            built(name, decoding)
        return
    images, labels = drawn_cells(20, side)
    comes_back(name, decoding, images[..., :1], labels, tmp_path)


@pytest.mark.parametrize("amplitude", ["linear", "logarithm"])
@pytest.mark.parametrize("name", OF_SIGNALS)
def test_a_network_for_signals_learns_and_comes_back_with_the_same_bits(
    name: str, amplitude: str, tmp_path: Path
) -> None:
    signals, labels = drawn_signals(20)
    comes_back(name, SIGNALS, signals, labels, tmp_path, amplitude=amplitude, differences=1)


def comes_back(
    name: str, decoding: Decoding, packed: Any, labels: Any, folder: Path, **switches: Any
) -> None:
    config = config_of(
        network=narrow(name, **switches), epochs=1, augment=[], engine="batched", tta=False
    )
    before = built(name, decoding, **switches)
    rows = TrainingRows(np.arange(len(labels)), np.array([], np.int64))
    checkpoint = Checkpoint(folder / "state")
    model, history = fit(before, packed, labels, rows, config, CPU, checkpoint, lambda _: None)
    assert np.isfinite(history[-1]["loss"])
    assert not same(model, built(name, decoding, **switches))
    save_model(folder / "weights.safetensors", model, describe(config, one_of(2), decoding, 1))
    loaded, description = load_model(folder / "weights.safetensors")
    assert description.network == config.network
    loaded = loaded.to(memory_format=torch.channels_last)
    found = [predict(each, packed, rows.training, CPU, tta=False) for each in (model, loaded)]
    assert np.array_equal(*found)


def test_signals_are_told_apart(tmp_path: Path) -> None:
    signals, labels = drawn_signals()
    mean, std = mean_and_std(signals, TRAINING)
    config = config_of(
        network=narrow("convnet1d", amplitude="logarithm", differences=1),
        optimizer=MUON, epochs=10, augment=[], engine="batched", tta=False,
    )  # fmt: skip
    torch.manual_seed(1)
    model = build_model(config.network, one_of(2), SIGNALS, list(mean), list(std))
    checkpoint = Checkpoint(tmp_path)
    model, _ = fit(model, signals, labels, ALL_ROWS, config, CPU, checkpoint, lambda _: None)
    scored = np.arange(80, 100)
    found = predict(model, signals, scored, CPU, tta=False).argmax(1)
    assert (found == labels[scored]).mean() >= 0.9


def test_the_input_of_signals_is_standardised_on_the_training_rows() -> None:
    signals, _ = drawn_signals()
    mean, std = mean_and_std(signals, TRAINING)
    config = SignalNetwork.model_validate(narrow("convnet1d", amplitude="logarithm", differences=2))
    model = build_model(config, one_of(2), SIGNALS, list(mean), list(std))
    model.set_input(signals, TRAINING)
    taken = model.network.input
    assert isinstance(taken, SignalInput)
    rows = model.normalise(torch.from_numpy(signals[TRAINING]).movedim(-1, 1))
    seen = taken(rows)
    assert seen.shape == (80, 6, 96)
    assert torch.allclose(seen.mean((0, 2)), torch.zeros(6), atol=1e-4)
    assert torch.allclose(seen.std((0, 2)), torch.ones(6), atol=1e-3)
    difference = rows[:, :, 1:] - rows[:, :, :-1]
    half = float(difference[:, 0].abs().median()) / 2
    assert float(taken.scale[2, 0]) == pytest.approx(half, rel=0.02)
    bent = difference.sign() * (1 + difference.abs() / taken.scale[2:4]).log()
    expected = (bent - taken.mean[2:4]) / taken.std[2:4]
    torch.testing.assert_close(seen[:, 2:4, :-1], expected)


def test_the_input_learns_from_rows_over_the_whole_training() -> None:
    rows = np.arange(100, 1100)
    assert np.array_equal(pick_rows(rows, 178), rows)
    assert pick_rows(rows, 2**20).tolist() == [100, 433, 766, 1099]
    assert pick_rows(rows, 2**30).tolist() == [100]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_activation_is_the_one_that_is_named(name: str) -> None:
    model = built("alexnet", decoding_of(32), activation=name)
    found = {type(each) for each in model.modules()} & {
        type(make()) for make in ACTIVATIONS.values()
    }
    assert found == {type(ACTIVATIONS[name]())}


def test_a_pooling_is_the_maximum_the_average_or_a_longer_step() -> None:
    image = torch.rand(1, 3, 64, 64)
    for name in ("lenet5", "alexnet", "vgg11", "resnet18"):
        models = {
            kind: built(name, decoding_of(64), pool=kind) for kind in ("max", "average", "stride")
        }
        pools = {
            kind: [type(each) for each in model.modules() if "Pool2d" in type(each).__name__]
            for kind, model in models.items()
        }
        ends = [nn.AdaptiveAvgPool2d] if name == "resnet18" else []
        assert set(pools["max"]) == {nn.MaxPool2d, *ends}
        assert set(pools["average"]) == {nn.AvgPool2d, *ends}
        assert pools["stride"] == ends
        features = [model.network.features.eval()(image).shape[1:3] for model in models.values()]
        assert len(set(features)) == 1  # as many places, but for windows that reach over the edge


@pytest.mark.parametrize("name", [name for name in CLASSICS if "batch_norm" in SWITCHES[name]])
def test_batch_normalisation_takes_the_place_of_the_bias(name: str) -> None:
    for on in (True, False):
        model = built(name, decoding_of(32), batch_norm=on)
        convolutions = [each for each in model.modules() if isinstance(each, nn.Conv2d)]
        norms = [each for each in model.modules() if isinstance(each, nn.BatchNorm2d)]
        assert len(norms) == (len(convolutions) if on else 0)
        assert all((each.bias is None) == on for each in convolutions)


@pytest.mark.parametrize("name", [name for name in CLASSICS if "width" in SWITCHES[name]])
def test_all_layers_are_in_proportion_to_the_width(name: str) -> None:
    models = [built(name, decoding_of(32), width=width) for width in (4, 8)]
    weights = [
        [each.weight for each in model.modules() if isinstance(each, nn.Conv2d | nn.Linear)][1:-1]
        for model in models
    ]
    for narrower, wider in zip(*weights, strict=True):
        assert [2 * side for side in narrower.shape[:2]] == list(wider.shape[:2])


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (narrow("linear") | {"activation": "relu"}, "no `activation`: linear has no switches"),
        (
            narrow("lenet5") | {"dropout": 0.5},
            "no `dropout`: lenet5 has activation, pool, batch_norm",
        ),
        (
            {"family": "classic", "name": "vgg11", "width": 8},
            "missing `activation`: vgg11 has width",
        ),
        (narrow("convnet1d") | {"kernel": 8}, "expected an odd number, found 8"),
    ],
)
def test_a_switch_that_a_network_lacks_or_needs_is_said(
    network: dict[str, Any], sentence: str
) -> None:
    kind = ClassicNetwork if network["family"] == "classic" else SignalNetwork
    with pytest.raises(ValidationError, match=sentence):
        kind.model_validate(network)


def test_a_network_for_the_other_kind_of_rows_is_refused() -> None:
    for name in ("vgg", "lenet5"):
        with pytest.raises(TrainError, match=f"{name} is for images, and the competition has sig"):
            built(name, SIGNALS)
    with pytest.raises(TrainError, match="convnet1d is for signals, and the competition has imag"):
        built("convnet1d", decoding_of(32))


@pytest.mark.parametrize("name", OF_SIGNALS)
def test_too_short_a_signal_is_refused_with_the_least_length(name: str) -> None:
    least = 27 * (4 if name == "filterbank1d" else 1)
    fits = SIGNALS.model_copy(update={"length": least})
    built(name, fits, stages=3, step=3)
    with pytest.raises(TrainError, match=f"3 stages of step 3 leave nothing .* length to {least}"):
        built(name, fits.model_copy(update={"length": least - 1}), stages=3, step=3)


def test_sides_that_grow_are_refused_where_a_layer_takes_one_side_alone() -> None:
    with pytest.raises(ValidationError, match="`sizes_px: null` for lenet5, whose first fully"):
        config_of(network=narrow("lenet5"), sizes_px=[12, 16])
    config_of(network=narrow("resnet18"), sizes_px=[12, 16])


@pytest.mark.parametrize("name", ["lenet5", "alexnet", "vgg11", "convnet1d"])
def test_muon_needs_batch_normalisation(name: str) -> None:
    decoding = SIGNALS if name == "convnet1d" else decoding_of(32)
    config = config_of(
        network=narrow(name, batch_norm=False), optimizer=MUON, augment=[], engine="batched"
    )
    with pytest.raises(TrainError, match=f"meaningless, and {name} has none. Set batch_norm: true"):
        build_optimizers(built(name, decoding, batch_norm=False), config)
    muon, _ = build_optimizers(built(name, decoding, batch_norm=True), config)
    convolutions = {id(each.weight) for each in built_convolutions(name, decoding)}
    assert len(muon.param_groups[0]["params"]) == len(convolutions)


def built_convolutions(name: str, decoding: Decoding) -> list[Any]:
    model = built(name, decoding, batch_norm=True)
    return [each for each in model.modules() if isinstance(each, nn.Conv1d | nn.Conv2d)]


def test_l1_shrinks_the_weights_and_is_not_in_the_loss_that_is_reported(tmp_path: Path) -> None:
    config = config_of(network=small(), engine="batched", weight_decay=0.0, ema=0.0, epochs=4)
    plain, history = train(tmp_path / "plain", config)
    strong, penalised = train(tmp_path / "l1", config.model_copy(update={"l1": 1000.0}))
    sizes = [
        sum(each.abs().sum() for each in model.parameters() if each.ndim > 1)
        for model in (plain, strong)
    ]
    assert sizes[1] < 0.8 * sizes[0]
    assert penalised[-1]["loss"] < 2 * history[0]["loss"]


def test_the_mean_size_is_that_of_all_weights_that_learn() -> None:
    weights = [nn.Parameter(torch.tensor(values)) for values in ([[1.0, -3.0]], [[2.0]], [[50.0]])]
    weights[2].requires_grad_(False)
    assert mean_size(weights) == 2


def patient(patience: int | None) -> ModelConfig:
    return config_of(
        network=small(width=4), engine="batched", augment=[], lr=0.05, epochs=30,
        epoch={"rule": "inner", "folds": 4, "patience": patience},
    )  # fmt: skip


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, History]:
    return train(tmp_path_factory.mktemp("ended"), patient(2), INNER_ROWS)


def test_patience_ends_a_training_whose_inner_loss_no_longer_falls(
    ended: tuple[Classifier, History], tmp_path: Path
) -> None:
    history = ended[1]
    losses = [row["inner_loss"] for row in history]
    assert len(history) < 30
    assert losses.index(min(losses)) == len(losses) - 3
    _, whole = train(tmp_path, patient(None), INNER_ROWS)
    assert len(whole) == 30
    assert whole[: len(history)] == history


@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_patient_training_that_is_killed_ends_in_the_same_bits(
    ended: tuple[Classifier, History],
    tmp_path: Path,
    at_the_end: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    unbroken, history = ended
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, patient(2), INNER_ROWS, stop_after=len(history) if at_the_end else 2)
    capsys.readouterr()
    resumed, resumed_history = train(tmp_path, patient(2), INNER_ROWS)
    assert same(unbroken, resumed)
    assert history == resumed_history
    said = capsys.readouterr().err
    assert f"ends after epoch {len(history)} of 30: patience is over" in said


@pytest.mark.slow
def test_the_loader_processes_of_a_patient_training_end_with_it(tmp_path: Path) -> None:
    config = patient(1).model_copy(update={"engine": "albumentations"})
    before = psutil.Process().children(recursive=True)  # other tests' helpers
    train(tmp_path, config, INNER_ROWS)
    assert not set(psutil.Process().children(recursive=True)) - set(before)


@pytest.mark.parametrize("name", ["lenet5", "resnet18"])
def test_a_classic_that_is_killed_ends_in_the_same_bits(tmp_path: Path, name: str) -> None:
    config = config_of(network=narrow(name), engine="batched", l1=1.0)
    unbroken, _ = train(tmp_path / "unbroken", config)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", config, stop_after=1)
    resumed, _ = train(tmp_path / "killed", config)
    assert same(unbroken, resumed)


@pytest.mark.parametrize("name", CLASSICS)
def test_first_weights_come_from_the_seed_alone(name: str) -> None:
    torch.manual_seed(99)
    decoding = decoding_of(64)
    assert same(built(name, decoding), built(name, decoding))
    config = config_of(network=narrow("lenet5"))
    other = config.model_copy(update={"seed": config.seed + 1})
    assert not same(start(config), start(other))
