"""Training on a GPU: the same bytes each time, also after a kill, beside others and streamed.

GPU_TESTS_DEVICE=cpu runs the same on a CPU, but for what a CPU does not have.
"""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from project import PARAMS, ROOT, decoding_of, digests, environment, stage
from tasks import one_of
from test_train import INNER, MIXES, TIMM, config_of, drawn_cells, small

from pipeline.train import batches
from pipeline.train.checkpoint import Checkpoint
from pipeline.train.config import ModelConfig
from pipeline.train.device import choose_compute, deterministic
from pipeline.train.fit import History, TrainingRows, fit
from pipeline.train.infer import predict
from pipeline.train.kinds import mean_and_std
from pipeline.train.models import Classifier, build_model
from pipeline.train.shortage import describe_shortage

DEVICE = os.environ.get("GPU_TESTS_DEVICE", "cuda")
# The compiler does not see through the tests' checks of shapes, and warns of what would be faster.
pytestmark = [
    pytest.mark.unchecked,
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(
        DEVICE == "cuda" and not torch.cuda.is_available(), reason="no CUDA device is here"
    ),
]
ON_GPU = pytest.mark.skipif(DEVICE == "cpu", reason="a CPU has no such thing")

IMAGES, LABELS = drawn_cells(300, 32)
TRAINING, SCORED = np.arange(240), np.arange(240, 300)
NO_ROWS = np.array([], np.int64)
OPERATIONS = [
    {"op": name, "p": 0.7}
    for name in ("SquareSymmetry", "Affine", "ColorJitter", "RandomBrightnessContrast",
                 "GaussianBlur", "GaussNoise", "CoarseDropout")
]  # fmt: skip
BATCHED = {"engine": "batched", "batch_size": 32}
CASES: dict[str, dict[str, Any]] = {
    "vgg": {},
    "resnet": {"network": small("resnet", dropout=0.1)},
    "muon, smaller at first": {
        "network": small("airbench", dropout=0.1),
        "optimizer": {"kind": "muon", "lr": 0.03, "momentum": 0.6},
        "sizes_px": [8, 16],
    },
    "every operation": {"augment": OPERATIONS},
    "albumentations": {"engine": "albumentations"},
    "mixup": {"mix": MIXES["mixup"]},
    "cutmix": {"mix": MIXES["cutmix"], "ema": 0.0, "clip_norm": None},
    "inner epoch": {"epoch": INNER},
    "bfloat16": {"precision": "bfloat16"},
    "compiled": {"compiled": True, "precision": "bfloat16"},
    **{
        name: {"network": TIMM | {"name": name}, "precision": "bfloat16"}
        for name in ("test_resnet", "test_efficientnet", "test_convnext")
    },
}
if DEVICE != "cpu":
    CASES |= {
        "float16": {"precision": "float16"},
        "compiled float16": {"compiled": True, "precision": "float16"},
    }


def case(name: str) -> ModelConfig:
    return config_of(**(BATCHED | CASES[name]))


def train(
    folder: Path, config: ModelConfig, stop_after: int | None = None, device: str = DEVICE
) -> tuple[Classifier, History]:
    """Train on the drawn cells; Ctrl-C after so many epochs, if asked for."""

    def on_epoch(history: History) -> None:
        if len(history) == stop_after:
            raise KeyboardInterrupt

    deterministic(1)
    torch.manual_seed(config.seed)
    mean, std = mean_and_std(IMAGES, TRAINING)
    model = build_model(config.network, one_of(2), decoding_of(32), list(mean), list(std))
    rows = TrainingRows(TRAINING, NO_ROWS)
    if config.epoch.rule == "inner":
        rows = TrainingRows(TRAINING[:180], TRAINING[180:])
    compute, resumed = choose_compute(device, config.precision), Checkpoint(folder / "resume")
    return fit(model, IMAGES, LABELS, rows, config, compute, resumed, on_epoch)


def bytes_of(trained: tuple[Classifier, History], config: ModelConfig) -> dict[str, bytes]:
    """Everything that a training says."""
    model, history = trained
    compute = choose_compute(DEVICE, config.precision)
    found = {name: value.cpu().numpy().tobytes() for name, value in model.state_dict().items()}
    found["predictions"] = predict(model, IMAGES, SCORED, compute, tta=True).tobytes()
    return found | {"history": repr(history).encode()}


@cache
def unbroken(name: str) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        return bytes_of(train(Path(folder), case(name)), case(name))


def right(model: Classifier, config: ModelConfig) -> float:
    compute = choose_compute(DEVICE, config.precision)
    found = predict(model, IMAGES, SCORED, compute, tta=True).argmax(1)
    return float((found == LABELS[SCORED]).mean())


@pytest.mark.parametrize("name", CASES)
def test_two_trainings_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    assert bytes_of(train(tmp_path, case(name)), case(name)) == unbroken(name)


@pytest.mark.parametrize("name", CASES)
def test_a_killed_training_goes_on_and_gives_the_bytes_of_an_unbroken_one(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, case(name), stop_after=1)
    assert bytes_of(train(tmp_path, case(name)), case(name)) == unbroken(name)


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "float32"},
        {"precision": "bfloat16"},
        {"precision": "auto", "engine": "albumentations"},
        pytest.param({"precision": "float16"}, marks=ON_GPU),
        pytest.param({"precision": "float16", "clip_norm": None}, marks=ON_GPU),
        pytest.param({"precision": "float16", "compiled": True}, marks=ON_GPU),
        pytest.param({"precision": "auto", "compiled": True}, marks=ON_GPU),
    ],
    ids=str,
)
def test_a_network_learns_the_dot(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = config_of(**(BATCHED | {"epochs": 15, "network": small()} | changes))
    model, history = train(tmp_path, config)
    assert right(model, config) >= 0.95
    assert history[-1]["loss"] < 0.25 < history[0]["loss"]


@pytest.mark.parametrize("name", ["vgg", "every operation"])
def test_where_the_images_are_changes_no_byte(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("resident", "streamed"):
        monkeypatch.setattr(batches, "choose_residence", lambda *_, place=place: place)
        assert bytes_of(train(tmp_path / place, case(name)), case(name)) == unbroken(name)


@pytest.mark.parametrize("network", [small(), TIMM])
def test_a_cpu_predicts_what_the_device_does(tmp_path: Path, network: dict[str, Any]) -> None:
    """To 0.005 of a probability: a GPU's convolutions round float32 to TF32."""
    config = config_of(**(BATCHED | {"network": network}))
    model, _ = train(tmp_path, config)
    of_device = predict(model, IMAGES, SCORED, choose_compute(DEVICE, "float32"), tta=True)
    of_cpu = predict(model.cpu(), IMAGES, SCORED, choose_compute("cpu", "float32"), tta=True)
    difference = np.abs(of_device - of_cpu).max()
    print(f"largest difference between {DEVICE} and CPU: {difference:.2g}")
    assert difference < 0.005


def test_a_cpu_trains_as_the_device_does(tmp_path: Path) -> None:
    """The same draws and the same first weights: the loss of an epoch is near."""
    config = config_of(**(BATCHED | {"network": small(), "augment": OPERATIONS[:5], "lr": 0.001}))
    _, history = train(tmp_path / "device", config)
    _, of_cpu = train(tmp_path / "cpu", config, device="cpu")
    for row, other in zip(history, of_cpu, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=0.02)


@ON_GPU
def test_too_little_memory_on_the_device_is_one_sentence(tmp_path: Path) -> None:
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(
        (torch.cuda.memory_reserved() + 2**24) / total
    )  # 16 MiB more
    config = config_of(**(BATCHED | {"network": small(width=64), "batch_size": 240}))
    try:
        with pytest.raises(RuntimeError) as caught:
            train(tmp_path, config)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    sentence = describe_shortage(caught.value, config)
    assert sentence is not None
    assert "CUDA out of memory" in sentence
    assert "lower batch_size (now 240)" in sentence
    assert "\n" not in sentence


OUTPUTS = "models/one/fold0/*"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project up to its folds."""
    folder = tmp_path_factory.mktemp("gpu") / "project"
    shutil.copytree(ROOT / "pipeline", folder / "pipeline")
    params = PARAMS.replace("device: cpu", f"device: {DEVICE}").replace(
        "epochs: 2\n", "epochs: 6\n"
    )
    (folder / "params.yaml").write_text(params)
    for name in ("download", "prepare", "split"):
        done = stage(folder, name)
        assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture(scope="module")
def alone(project: Path) -> dict[str, bytes]:
    """What a training writes that no other one runs beside."""
    done = stage(project, "train", "one", "0")
    assert done.returncode == 0, done.stdout
    assert f"images on {DEVICE}" in done.stdout
    return digests(project, OUTPUTS)


def test_trainings_side_by_side_on_one_device_give_the_bytes_of_one_alone(
    project: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns("models", "live", ".resume"))
    trainings = [("one", "0"), ("one", "1"), ("two", "0"), ("two", "1")]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda training: stage(folder, "train", *training), trainings))
    assert [each.returncode for each in done] == [0] * 4, "".join(each.stdout for each in done)
    assert digests(folder, OUTPUTS) == alone
    done = [stage(folder, "ensemble")]
    assert done[0].returncode == 0, done[0].stdout
    assert (folder / "submissions/tiny.csv").is_file()


def test_a_process_that_is_killed_goes_on_and_gives_the_bytes_of_an_unbroken_one(
    project: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns("models", "live", ".resume"))
    # Its second epoch never begins, so that the kill comes after one.
    waiting = (
        "import sys, time\nfrom pipeline.train import stage\n"
        "stage.LiveTable.write = lambda *_: (print('epoch', flush=True), time.sleep(600))\n"
        "from pipeline.__main__ import app\nsys.argv[1:] = ['train', 'one', '0']\napp()\n"
    )
    command = [sys.executable, "-c", waiting]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "epoch\n"
        process.kill()
    time.sleep(0.1)
    done = stage(folder, "train", "one", "0")
    assert done.returncode == 0, done.stdout
    assert "going on after epoch 1 of 6" in done.stdout
    assert digests(folder, OUTPUTS) == alone
