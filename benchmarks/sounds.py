"""Networks for signals on drawn sounds whose answer is known: python -m benchmarks.sounds

Chirps in louder noise, a second each: they rise or fall, low or high, so that the place and
course of the pitch are what tells the four classes apart. All networks train alike, as profile
seizure does but for the augmentation, on one thread; each row is printed as soon as it is there. A
table of docs/NETWORKS.md.
"""

import tempfile
from pathlib import Path
from time import process_time
from typing import Annotated, Any

import numpy as np
import typer
from numpy import ndarray
from pydantic import TypeAdapter

from benchmarks.timing import print_machine
from pipeline.core.competition import SignalDecoding
from pipeline.core.task import OneOf
from pipeline.params import read_config
from pipeline.train.config import ModelConfig
from pipeline.train.networks.config import Network
from pipeline.train.networks.named import NAMED

RATE_HZ = 8000
TASK = OneOf(classes=["low, falls", "low, rises", "high, falls", "high, rises"])
HELD = 1000
_PROFILE = Path(__file__).parent.parent / "profiles/seizure.yaml"
_LOUDNESS = 0.5
"""The amplitude of a chirp in noise of deviation 1."""


def main(
    clips: Annotated[int, typer.Option(help="To train on.", min=100)] = 1000,
    epochs: Annotated[int, typer.Option(help="Of each training.", min=2)] = 10,
    only: Annotated[list[str] | None, typer.Option(help="Some of the rows.")] = None,
) -> None:
    """Print one row for each network."""
    config = read_config(_PROFILE).train.models["filterbank"]
    assert isinstance(config, ModelConfig)
    config = config.model_copy(update={"augment": [], "epochs": epochs})
    networks: dict[str, Any] = {
        "convnet1d": NAMED["convnet1d"],
        "filterbank1d": config.network,
        "resnet10t on spectrograms": on_spectrograms("resnet10t"),
        "lcnet_050 on spectrograms": on_spectrograms("lcnet_050"),
    }
    signals, labels = draw(clips + HELD)
    print_machine()
    print("| network | parameters | accuracy | CPU seconds |", flush=True)
    for name, network in networks.items():
        if not only or name.split()[0] in only:
            print_row(name, config.model_copy(update={"network": network}), signals, labels)


def on_spectrograms(name: str) -> Network:
    """A fresh network of timm on 64 bands, a frame each 10 ms."""
    given = {
        "family": "spectrogram", "name": name, "pretrained": False, "weights": None, "dropout": 0.1,
        "drop_path": None, "window": 256, "step": 80, "bands": 64, "scale": "mel",
        "bands_masked": 0,
    }  # fmt: skip
    network: Network = TypeAdapter(Network).validate_python(given)
    return network


def draw(clips: int) -> tuple[ndarray, ndarray]:
    """Signals (clips, RATE_HZ, 1) and the place of each one's class."""
    rng = np.random.default_rng(1)
    labels = rng.integers(len(TASK.classes), size=clips)
    signals = rng.normal(size=(clips, RATE_HZ)).astype(np.float32)
    for signal, label in zip(signals, labels, strict=True):
        start_hz = rng.uniform(250, 400) if label < 2 else rng.uniform(1000, 1600)
        samples = int(RATE_HZ * rng.uniform(0.2, 0.4))
        pitch_hz = np.geomspace(start_hz, start_hz * rng.uniform(1.5, 2), samples)
        phase = 2 * np.pi * np.cumsum(pitch_hz if label % 2 else pitch_hz[::-1]) / RATE_HZ
        first = rng.integers(RATE_HZ - samples)
        chirp = np.sin(phase + rng.uniform(0, 2 * np.pi)) * np.sin(np.linspace(0, np.pi, samples))
        signal[first : first + samples] += _LOUDNESS * chirp
    return signals[..., None], labels


def print_row(name: str, config: ModelConfig, signals: ndarray, labels: ndarray) -> None:
    """Train a network on all but the last clips, and print how good it is on those."""
    import torch

    from pipeline.train.checkpoint import Checkpoint
    from pipeline.train.device import choose_compute, deterministic
    from pipeline.train.fit import TrainingRows, fit
    from pipeline.train.infer import predict
    from pipeline.train.kinds import mean_and_std
    from pipeline.train.models import build_model

    known, held = np.arange(len(labels) - HELD), np.arange(len(labels) - HELD, len(labels))
    decoding = SignalDecoding(length=RATE_HZ, channels=1, rate_hz=RATE_HZ)
    deterministic(1)
    torch.manual_seed(config.seed)
    mean, std = mean_and_std(signals, known)
    model = build_model(config.network, TASK, decoding, list(mean), list(std))
    parameters = sum(value.numel() for value in model.parameters())
    compute, rows = choose_compute("cpu", "float32"), TrainingRows(known, np.array([], np.int64))
    with tempfile.TemporaryDirectory() as folder:
        started = process_time()
        checkpoint = Checkpoint(Path(folder))
        model, _ = fit(model, signals, labels, rows, config, compute, checkpoint, lambda _: None)
        seconds = process_time() - started
    right = predict(model, signals, held, compute, tta=False).argmax(1) == labels[held]
    print(f"| {name} | {parameters:,} | {right.mean():.3f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
