"""A probe: a linear classifier on a network that stays as it is, for each kind of task."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from project import ROOT, environment
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tasks import any_of, number, one_of

from pipeline.core import paths
from pipeline.core.competition import Competition, Decoding
from pipeline.core.errors import ConfigError, TrainError
from pipeline.core.files import sha256_of
from pipeline.core.record import write_record
from pipeline.core.task import OneOf, Task
from pipeline.params import read_config
from pipeline.train import linear, stage
from pipeline.train.config import TrainConfig
from pipeline.train.infer import load_network

ROWS, TESTS, SIZE_PX = 60, 20, 32
TASKS: dict[str, Task] = {
    "two classes": one_of(2),
    "three classes": one_of(3),
    "merged classes": OneOf(classes=["0", "1", "2", "3"], merged=["2", "3"]),
    "several labels": any_of("cat", "dog"),
    "numbers": number("age", "size"),
}
OUTPUTS = ["oof.csv", "test.csv", "history.csv", "weights.safetensors"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("timm") / "test_resnet.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=1000).state_dict(), path)
    return path


def section(weights: Path, **changes: Any) -> TrainConfig:
    start = {"file": str(weights), "sha256": sha256_of(weights)}
    network = {"family": "probe", "name": "test_resnet", "pretrained": False, "weights": start}
    model = {"network": network | {"stages": 5}, "l2": 0.01, "precision": "float32"} | changes
    return TrainConfig.model_validate(
        {"device": "cpu", "threads": 1, "members": ["p"], "folds": [0, 1, 2], "models": {"p": model}}
    )


def labels_of(task: Task) -> np.ndarray:
    """Labels that the brightness of the red and green channel decides."""
    bright = np.random.default_rng(1).uniform(size=(ROWS, 2))
    if task.kind == "number":
        return bright * [10.0, 200.0] + [5.0, 0.0]
    if task.kind == "any_of":
        return bright > 0.5
    return (bright[:, 0] * len(task.classes)).astype(np.int64)


def make_store(folder: Path, task: Task, labels: np.ndarray | None = None) -> None:
    """A store of noise whose brightness says the label, and three folds, in the folder."""
    os.chdir(folder)
    draws = np.random.default_rng(0)
    bright = np.random.default_rng(1).uniform(size=(ROWS, 2))
    images = draws.integers(0, 80, (ROWS, SIZE_PX, SIZE_PX, 3))
    images[..., :2] += (150 * bright[:, None, None, :]).astype(np.int64)
    paths.STORE.mkdir(parents=True, exist_ok=True)
    paths.FOLDS.parent.mkdir(exist_ok=True)
    np.save(paths.TRAIN_IMAGES, images.astype(np.uint8))
    np.save(paths.TEST_IMAGES, images[:TESTS, ::-1].astype(np.uint8))
    texts = task.decode(labels_of(task) if labels is None else labels)
    ids = [f"t{row}" for row in range(ROWS)]
    table = pd.DataFrame({"image_id": ids, "row_id": ids, "label": texts, "group": ids})
    table.to_csv(paths.TRAIN_TABLE, index=False)
    tests = [f"x{row}" for row in range(TESTS)]
    pd.DataFrame({"image_id": tests, "row_id": tests}).to_csv(paths.TEST_TABLE, index=False)
    fold = np.arange(ROWS) % 3
    table.assign(repeat=0, fold=fold).to_csv(paths.FOLDS, index=False)
    write_record(paths.COMPETITION, Competition.model_validate(COMPETITION | {"task": task}))
    decoding = {"size_px": SIZE_PX, "fit": "stretch", "max_side_px": 4096}
    write_record(paths.DECODING, Decoding.model_validate(decoding))
