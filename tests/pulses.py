"""A tiny competition of signals: pulses in noise, upright or inverted, several chunks a recording.

It is drawn once, and written in each of the forms that competitions of signals have.
"""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.prepare.config import SignalsConfig

LENGTH, RECORDINGS, CHUNKS, TESTS = 40, 12, 4, 24
CLASSES = ["flat", "up", "wave"]


def draw(channels: int = 1, seed: int = 3) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """The table of train (id, label, recording), and the signals of train and of test."""
    rng = np.random.default_rng(seed)
    rows = RECORDINGS * CHUNKS
    kinds = np.arange(rows + TESTS) // CHUNKS % len(CLASSES)
    time = np.arange(LENGTH)
    centres = rng.uniform(10, 30, (rows + TESTS, 1))
    pulses = np.exp(-(((time - centres) / 3) ** 2)) * (kinds == 1)[:, None]
    waves = np.sin(time / 2 + centres) * (kinds == 2)[:, None]
    clean = (pulses * 3 + waves)[..., None] * np.linspace(1, -1, channels)[:channels]
    signals = (clean + rng.normal(0, 0.1, (rows + TESTS, LENGTH, channels))).astype(np.float32)
    table = pd.DataFrame(
        {
            "id": [f"a{row:03}" for row in range(rows)],
            "state": [CLASSES[kind] for kind in kinds[:rows]],
            "recording": [f"r{row // CHUNKS}" for row in range(rows)],
        }
    )
    return table, signals[:rows], signals[rows:]


TEST_IDS = [f"b{row:03}" for row in range(TESTS)]


def write(folder: Path, form: str, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A competition in this form, without a solution; returns the signals of train and of test."""
    table, train, test = draw(channels)
    folder.mkdir(parents=True, exist_ok=True)
    _csv(folder / "sample_submission.csv", pd.DataFrame({"id": TEST_IDS, "state": "flat"}))
    _csv(folder / "train_groups.csv", table[["id", "recording"]])
    labels = table[["id", "state"]]
    ids = list(table["id"])
    match form:
        case "tables":
            shuffled = as_table(ids, train).sample(frac=1, random_state=1)
            _csv(folder / "train_signals.csv", shuffled)
            _csv(folder / "test_signals.csv", as_table(TEST_IDS, test))
        case "one table":
            labels = as_table(ids, train).merge(labels)
            _csv(folder / "test.csv", as_table(TEST_IDS, test))
        case "one table of all":
            every = as_table([*ids, *TEST_IDS], np.concatenate([train, test]))
            _csv(folder / "signals.csv", every)
        case "arrays":
            np.save(folder / "X_train.npy", train)
            np.save(folder / "X_test.npy", np.moveaxis(test, -1, 1))
        case "npz":
            np.savez(folder / "data.npz", X_train=train[..., 0].astype(np.float64), X_test=test)
        case "npy files":
            for names, signals in ((ids, train), (TEST_IDS, test)):
                place = folder / ("train" if names is ids else "test")
                place.mkdir()
                for name, signal in zip(names, signals, strict=True):
                    np.save(place / f"{name}.npy", np.squeeze(signal))
        case "csv files in zips":
            for side, names, signals in (("train", ids, train), ("test", TEST_IDS, test)):
                with zipfile.ZipFile(folder / f"{side}.zip", "w") as archive:
                    for name, signal in zip(names, signals, strict=True):
                        columns = [f"lead {number}" for number in range(channels)]
                        text = pd.DataFrame(signal, columns=columns).to_csv(index=False)
                        archive.writestr(f"{side}/{name}.csv", text)
    _csv(folder / "train_labels.csv", labels)
    return train, test


FORMS = (
    "tables",
    "one table",
    "one table of all",
    "arrays",
    "npz",
    "npy files",
    "csv files in zips",
)


def as_table(ids: list[str], signals: np.ndarray) -> pd.DataFrame:
    """A column a sample, the channels one after the other."""
    channels = signals.shape[2]
    columns = {"id": ids}
    for channel in range(channels):
        for sample in range(signals.shape[1]):
            name = f"x{sample}" if channels == 1 else f"ch{channel + 1}_{sample}"
            columns[name] = signals[:, sample, channel]
    return pd.DataFrame(columns)


def signals_config(**changes: Any) -> SignalsConfig:
    """A section `prepare` that understands every form by itself."""
    choices: dict[str, Any] = {
        "kind": "signals",
        "groups": {"source": "file", "file": "auto"},
        "unreadable": "stop",
        "unlabelled": "stop",
        "conflicts": "keep",
        "corrections": None,
    }
    return SignalsConfig(**(choices | changes))


def npy(array: np.ndarray) -> bytes:
    """A .npy file."""
    np.save(file := io.BytesIO(), array)
    return file.getvalue()


def _csv(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, index=False, float_format="%.9g")
