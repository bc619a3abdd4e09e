"""Fine-tuning from a local weights file: each layer at its own rate, the classifier fresh."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from tasks import one_of
from test_train import ALL_ROWS, CPU, IMAGES, LABELS, config_of, same, start, train
from torch import nn

from pipeline.core.errors import TrainError
from pipeline.core.files import sha256_of
from pipeline.train.checkpoint import Checkpoint
from pipeline.train.config import ModelConfig
from pipeline.train.fit import TrainingRows
from pipeline.train.head import find_head
from pipeline.train.infer import predict
from pipeline.train.models import Classifier
from pipeline.train.networks.config import TimmNetwork
from pipeline.train.optim import build_optimizers
from pipeline.train.published import build_timm
from pipeline.train.sizes import ImageSize

LAYERS = ["conv1 bn1", "layer1", "layer2", "layer3", "layer4", "fc"]
"""test_resnet's, written down by hand from its source."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as timm publishes it: 1,000 classes."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("timm") / "test_resnet.safetensors"
    published = timm.create_model("test_resnet", num_classes=1000, zero_init_last=False)
    save_file(published.state_dict(), path)
    return path


def finetuning(weights: Path, **changes: Any) -> ModelConfig:
    network = {
        "family": "timm",
        "name": "test_resnet",
        "pretrained": False,
        "dropout": 0.0,
        "drop_path": None,
    }
    start = {"file": str(weights), "sha256": sha256_of(weights)}
    values = {"network": network | {"weights": start}, "clip_norm": None, "ema": 0.0}
    return config_of(**(values | changes))


def layer_of(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name.split(".")[1] in names.split())


@pytest.mark.parametrize("layer_decay", [None, 0.5, 0.8])
def test_each_layer_moves_at_its_share_of_the_rate(
    weights: Path, tmp_path: Path, layer_decay: float | None
) -> None:
    """AdamW's first step moves every weight by the rate itself, whatever the gradient."""
    config = finetuning(
        weights, layer_decay=layer_decay, weight_decay=0.0, lr=1e-3, batch_size=80,
        epochs=1, warmup_epochs=0, augment=[],
    )  # fmt: skip
    before = copy.deepcopy(dict(start(config).named_parameters()))
    after = dict(train(tmp_path, config)[0].named_parameters())
    for name, value in after.items():
        moved = float((value - before[name]).detach().abs().max())
        share = (layer_decay or 1.0) ** (len(LAYERS) - 1 - layer_of(name))
        assert moved == pytest.approx(1e-3 * share, rel=0.01), name


@pytest.mark.parametrize(
    ("name", "stem", "classifier"),
    [
        ("test_resnet", "conv1.0.weight", "fc.weight"),
        ("test_vit", "patch_embed.proj.weight", "head.weight"),
        ("test_convnext", "stem.0.weight", "head.fc.weight"),
        ("test_efficientnet", "conv_stem.weight", "classifier.weight"),
    ],
)
def test_the_classifier_learns_at_the_full_rate_and_the_stem_at_the_least(
    name: str, stem: str, classifier: str
) -> None:
    network = timm.create_model(name, num_classes=2)
    model = Classifier(network, one_of(2), [0.0] * 3, [1.0] * 3)
    config = config_of().model_copy(update={"layer_decay": 0.7})
    groups = build_optimizers(model, config)[0].param_groups
    parameters = [value for group in groups for value in group["params"]]
    assert len(parameters) == len({id(value) for value in parameters})
    assert {id(value) for value in parameters} == {id(value) for value in model.parameters()}
    shares = {id(value): group["lr_scale"] for group in groups for value in group["params"]}
    assert shares[id(network.get_parameter(classifier))] == 1
    assert shares[id(network.get_parameter(stem))] == min(shares.values()) < 0.7
    for group in groups:
        decay = {0.0 if value.ndim <= 1 else config.weight_decay for value in group["params"]}
        assert decay == {group["weight_decay"]}


def test_a_decay_of_one_gives_the_bytes_of_none(weights: Path, tmp_path: Path) -> None:
    without, _ = train(tmp_path / "without", finetuning(weights, layer_decay=None))
    with_one, _ = train(tmp_path / "with", finetuning(weights, layer_decay=1.0))
    assert same(without, with_one)


def test_a_run_that_was_killed_gives_the_bytes_of_an_unbroken_one(
    weights: Path, tmp_path: Path
) -> None:
    config = finetuning(weights, layer_decay=0.6, ema=0.9)
    unbroken, _ = train(tmp_path / "unbroken", config)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", config, stop_after=2)
    assert same(train(tmp_path / "killed", config)[0], unbroken)


@pytest.mark.parametrize("layer_decay", [None, 0.5])
def test_the_classifier_moves_at_its_own_rate(
    weights: Path, tmp_path: Path, layer_decay: float | None
) -> None:
    config = finetuning(
        weights, layer_decay=layer_decay, head_lr=3e-3, weight_decay=0.0, lr=1e-3, batch_size=80,
        epochs=1, warmup_epochs=0, augment=[],
    )  # fmt: skip
    before = copy.deepcopy(dict(start(config).named_parameters()))
    after = dict(train(tmp_path, config)[0].named_parameters())
    for name, value in after.items():
        moved = float((value - before[name]).detach().abs().max())
        below = len(LAYERS) - 1 - layer_of(name)
        rate = 1e-3 * (layer_decay or 1.0) ** below if below else 3e-3
        assert moved == pytest.approx(rate, rel=0.01), name


def test_the_bodys_rate_for_the_classifier_gives_the_bytes_of_none(
    weights: Path, tmp_path: Path
) -> None:
    without, _ = train(tmp_path / "without", finetuning(weights, engine="batched"))
    with_one, _ = train(tmp_path / "with", finetuning(weights, head_lr=0.01, engine="batched"))
    assert same(without, with_one)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_frozen_body_keeps_its_weights_and_statistics_and_then_learns(
    weights: Path, tmp_path: Path, ema: float
) -> None:
    config = finetuning(weights, freeze_epochs=2, weight_decay=0.1, ema=ema, engine="batched")
    before = start(config).state_dict()
    saved = Checkpoint(tmp_path / "resume")
    for stop_after, body_moves in ((2, False), (3, True)):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, config, stop_after=stop_after)
        state = saved.load(torch.device("cpu"))
        assert state is not None
        for kept in (state["model"], state["average"]):
            moved = {name for name, value in kept.items() if not torch.equal(value, before[name])}
            body = {name for name in before if name.startswith("network.") and ".fc." not in name}
            assert {"network.fc.weight", "network.fc.bias"} <= moved
            assert moved & body == (body if body_moves else set())


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_killed_in_at_the_end_of_or_after_the_frozen_part_it_gives_the_bytes_of_an_unbroken_run(
    weights: Path, tmp_path: Path, stop_after: int
) -> None:
    config = finetuning(
        weights, freeze_epochs=2, head_lr=0.02, layer_decay=0.7, ema=0.9, epochs=4, engine="batched"
    )
    unbroken, _ = train(tmp_path / "unbroken", config)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", config, stop_after=stop_after)
    assert same(train(tmp_path / "killed", config)[0], unbroken)


@pytest.mark.parametrize(
    ("name", "drop_path", "rate"),
    [
        ("test_resnet", 0.2, 0.2), ("test_resnet", 0.0, 0), ("test_resnet", None, 0),
        ("swin_tiny_patch4_window7_224", None, 0.1), ("swin_tiny_patch4_window7_224", 0.0, 0),
        ("vgg11", 0.0, 0), ("vgg11", None, 0),
    ],
)  # fmt: skip
def test_the_last_block_is_skipped_at_the_rate_that_is_asked_for(
    name: str, drop_path: float | None, rate: float
) -> None:
    network = {"family": "timm", "name": name, "pretrained": False, "weights": None, "dropout": 0.0}
    config = TimmNetwork.model_validate(network | {"drop_path": drop_path})
    with torch.device("meta"):
        built = build_timm(config, 2, ImageSize((64, 64), 3))
    found = [getattr(module, "drop_prob", 0) or 0 for module in built.modules()]
    assert max(found) == pytest.approx(rate)


def test_a_network_without_blocks_to_skip_is_refused() -> None:
    network = {"family": "timm", "name": "vgg11", "pretrained": False, "weights": None}
    config = TimmNetwork.model_validate(network | {"dropout": 0.0, "drop_path": 0.1})
    with torch.device("meta"), pytest.raises(TrainError) as caught:
        build_timm(config, 2, ImageSize((64, 64), 3))
    assert str(caught.value) == (
        "network: vgg11 has no stochastic depth: expected `drop_path: null` or 0, found 0.1"
    )


@pytest.mark.parametrize("parameter", ["head_lr", "freeze_epochs"])
def test_a_network_without_a_classifier_by_name_is_refused(parameter: str) -> None:
    with pytest.raises(TrainError) as caught:
        find_head(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), parameter)
    assert str(caught.value) == (
        f"{parameter}: timm does not say which layers of Sequential are its classifier, so it "
        f"cannot learn apart from the body. Set {parameter} to null or 0"
    )


def test_a_few_images_are_learned_with_a_fresh_classifier(weights: Path, tmp_path: Path) -> None:
    config = finetuning(
        weights, layer_decay=0.75, epochs=40, warmup_epochs=1, lr=0.01, batch_size=8, augment=[]
    )
    rows = np.arange(16)
    model, _ = train(tmp_path, config, TrainingRows(rows, ALL_ROWS.inner))
    assert model.network.get_parameter("fc.weight").shape[0] == 2
    found = predict(model, IMAGES, rows, CPU, tta=False)
    truth = LABELS[rows]
    assert (found.argmax(1) == truth).all()
    assert -np.log(found[rows, truth]).mean() < 0.05


def test_a_network_without_layers_is_refused() -> None:
    model = Classifier(
        nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), one_of(2), [0.0] * 3, [1.0] * 3
    )
    with pytest.raises(TrainError) as caught:
        build_optimizers(model, config_of().model_copy(update={"layer_decay": 0.7}))
    assert str(caught.value) == (
        "layer_decay: timm does not know the layers of Sequential, so all would learn at one "
        "rate. Set layer_decay: null (now 0.7)"
    )
