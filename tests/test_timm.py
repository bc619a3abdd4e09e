"""Any timm model: by name, with fresh weights or those of a local file, offline."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from tasks import one_of

from pipeline.core.errors import TrainError
from pipeline.core.files import sha256_of
from pipeline.train.config import TimmNetwork
from pipeline.train.models import build_model

MEAN, STD = [100.0, 101.0, 102.0], [10.0, 11.0, 12.0]


def network_of(**changes: Any) -> TimmNetwork:
    values = {
        "family": "timm",
        "name": "resnet10t",
        "pretrained": False,
        "weights": None,
        "dropout": 0.0,
    }
    return TimmNetwork.model_validate(values | changes)


def start_of(path: Path) -> dict[str, str]:
    return {"file": str(path), "sha256": sha256_of(path)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as timm publishes it: 1,000 classes."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("timm") / "resnet10t.safetensors"
    save_file(timm.create_model("resnet10t", num_classes=1000).state_dict(), path)
    return path


def test_fresh_weights_use_the_training_rows_colours() -> None:
    model = build_model(network_of(), one_of(3), 32, MEAN, STD)
    assert model.mean.flatten().tolist() == MEAN
    assert model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 3)


def test_a_weights_file_fills_the_backbone_and_brings_its_own_colours(weights: Path) -> None:
    torch.manual_seed(1)
    model = build_model(network_of(weights=start_of(weights)), one_of(3), 32, MEAN, STD)
    torch.manual_seed(5)
    published = timm.create_model("resnet10t", num_classes=1000).state_dict()
    loaded = model.network.state_dict()
    backbone = [name for name in published if not name.startswith("fc.")]
    assert all(torch.equal(loaded[name], published[name]) for name in backbone)
    assert loaded["fc.weight"].shape[0] == 3
    assert model.mean.flatten().tolist() == pytest.approx([255 * v for v in (0.485, 0.456, 0.406)])
    assert model.std.flatten().tolist() == pytest.approx([255 * v for v in (0.229, 0.224, 0.225)])


def test_an_unknown_name_brings_close_ones() -> None:
    with pytest.raises(TrainError, match=r"timm has no model 'resnet10'; close names: resnet1"):
        build_model(network_of(name="resnet10"), one_of(2), 32, MEAN, STD)


def test_a_weights_file_that_is_not_there_is_named() -> None:
    start = {"file": "nowhere.safetensors", "sha256": "0" * 64}
    with pytest.raises(TrainError) as caught:
        build_model(network_of(weights=start), one_of(2), 32, MEAN, STD)
    assert str(caught.value) == (
        "network.weights: nowhere.safetensors: no such file. Put there the one with sha256 "
        + "0" * 64
    )


def test_another_file_at_the_same_path_is_refused_with_both_hashes(
    weights: Path, tmp_path: Path
) -> None:
    path = tmp_path / "start.safetensors"
    shutil.copy(weights, path)
    network = network_of(weights=start_of(path))
    build_model(network, one_of(2), 32, MEAN, STD)
    expected = sha256_of(path)
    save_file({name: 2 * value for name, value in load_file(path).items()}, path)
    with pytest.raises(TrainError) as caught:
        build_model(network, one_of(2), 32, MEAN, STD)
    assert str(caught.value) == (
        f"network.weights: {path}: expected the file with sha256 {expected}, found one with "
        f"{sha256_of(path)}. Put the first one back; or, to train from this one, write its sha256 "
        "into params.yaml, and run: dvc repro"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "it has no tensor for 1 of 86 (first: conv1.0.weight)"),
        ("unknown", "it has unknown tensors for 1 of 86 (first: something)"),
        ("shape", "it has other shapes for 1 of 86 (first: conv1.0.weight)"),
    ],
)
def test_weights_of_another_network_are_refused(
    weights: Path, tmp_path: Path, change: str, message: str
) -> None:
    """timm itself only logs them, and trains on from random ones."""
    tensors = load_file(weights)
    match change:
        case "missing":
            del tensors["conv1.0.weight"]
        case "unknown":
            tensors["something"] = torch.zeros(2)
        case "shape":
            tensors["conv1.0.weight"] = torch.zeros(2)
    path = tmp_path / "other.safetensors"
    save_file(tensors, path)
    with pytest.raises(TrainError) as caught:
        build_model(network_of(weights=start_of(path)), one_of(2), 32, MEAN, STD)
    assert f"{path} is not of this network: {message}" in str(caught.value)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(TrainError, match="is no safetensors file"):
        build_model(network_of(weights=start_of(path)), one_of(2), 32, MEAN, STD)


def test_pretrained_without_a_network_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(TrainError) as caught:
        build_model(network_of(name="resnet18", pretrained=True), one_of(2), 32, MEAN, STD)
    assert "resnet18: its pretrained weights cannot be downloaded" in str(caught.value)
    assert "set `pretrained: false`, or `weights` to a local .safetensors file" in str(caught.value)
