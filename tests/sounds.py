"""A tiny competition of sound: tones of three pitches in noise, one clip a file."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from pulses import signals_config

from pipeline.prepare.config import SignalsConfig

RATE_HZ, LENGTH = 4000, 400
PITCHES_HZ = {"low": 200, "middle": 500, "high": 1100}
TRAIN, TESTS = 36, 12
FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "aiff": ("AIFF", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
"""By the suffix of a file, what soundfile calls it."""


def encode(samples: np.ndarray, suffix: str = "wav", rate_hz: int = RATE_HZ) -> bytes:
    """Samples from -1 to 1 as a file."""
    name, coding = FORMATS[suffix]
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=name, subtype=coding)
    return file.getvalue()


def tone(label: str, seed: int, length: int = LENGTH, rate_hz: int = RATE_HZ) -> np.ndarray:
    """A tone in noise, in steps of 1/32768: 16 bits hold it as it is."""
    rng = np.random.default_rng(seed)
    time = np.arange(length) / rate_hz
    wave = 0.4 * np.sin(2 * np.pi * (PITCHES_HZ[label] * time + rng.uniform()))
    return np.round((wave + rng.normal(0, 0.05, length)) * 32768) / 32768


def labels(count: int) -> list[str]:
    """The classes in turn."""
    return [list(PITCHES_HZ)[row % len(PITCHES_HZ)] for row in range(count)]


def write(folder: Path, form: str, suffix: str = "wav") -> tuple[np.ndarray, np.ndarray]:
    """The competition as a table with file names, or in folders of classes; returns the samples of
    train and of test, in the order in which `prepare` stores them."""
    train = [tone(label, row) for row, label in enumerate(labels(TRAIN))]
    test = [tone(label, 1000 + row) for row, label in enumerate(labels(TESTS))]
    names = [f"clip_{row:04}.{suffix}" for row in range(TESTS)]
    table = pd.DataFrame({"fname": names, "label": "low"})
    order = list(range(TRAIN))
    folder.mkdir(parents=True, exist_ok=True)
    for row, label in enumerate(labels(TRAIN)):
        place = folder / "train/audio"
        # Names repeat in the folders of classes, as the speakers of words do.
        path = (
            place / label / f"{row // 3:08x}_nohash_0" if form == "folders" else place / f"a{row}"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(f".{suffix}").write_bytes(encode(train[row], suffix))
    (folder / "test/audio").mkdir(parents=True, exist_ok=True)
    for name, samples in zip(names, test, strict=True):
        (folder / "test/audio" / name).write_bytes(encode(samples, suffix))
    if form == "folders":
        order = sorted(order, key=lambda row: (labels(TRAIN)[row], row))
    else:
        files = [f"a{row}.{suffix}" for row in order]
        listed = pd.DataFrame({"fname": files, "label": labels(TRAIN), "manually_verified": 1})
        listed.to_csv(folder / "train.csv", index=False)
    table.to_csv(folder / "sample_submission.csv", index=False)
    every = [np.array(rows, np.float32)[..., None] for rows in ([train[n] for n in order], test)]
    return every[0], every[1]


def sound_config(**changes: Any) -> SignalsConfig:
    """A section `prepare` that understands every form by itself."""
    return signals_config(**({"groups": {"source": "none"}} | changes))
