"""A probe: a linear classifier on a network that stays as it is, for each kind of task."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from filelock import FileLock
from project import ROOT, decoding_of, environment
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tasks import any_of, number, one_of

from pipeline.core import paths
from pipeline.core.competition import Competition, write_decoding
from pipeline.core.errors import ConfigError, TrainError
from pipeline.core.files import sha256_of
from pipeline.core.record import write_record
from pipeline.core.tables import FOLD_COLUMNS, IMAGE_COLUMNS
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
        {
            "device": "cpu",
            "threads": 1,
            "world": 1,
            "sync_batch_norm": False,
            "members": ["p"],
            "folds": [0, 1, 2],
            "models": {"p": model},
        }
    )


def labels_of(task: Task) -> np.ndarray:
    """Labels that the brightness of the red and green channel decides."""
    bright = np.random.default_rng(1).uniform(size=(ROWS, 2))
    if task.kind == "number":
        return bright * [10.0, 200.0] + [5.0, 0.0]
    if task.kind == "any_of":
        return bright > 0.5
    return (bright[:, 0] * len(task.classes)).astype(np.int64)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test stands in an empty folder."""
    monkeypatch.chdir(tmp_path)


def make_store(task: Task, labels: np.ndarray | None = None, channels: Literal[1, 3] = 3) -> None:
    """Noise whose brightness says the label, as a store here, and three folds."""
    draws = np.random.default_rng(0)
    bright = np.random.default_rng(1).uniform(size=(ROWS, 2))
    images = draws.integers(0, 80, (ROWS, SIZE_PX, SIZE_PX, 3))
    images[..., :2] += (150 * bright[:, None, None, :]).astype(np.int64)
    images = images[..., :channels]
    paths.STORE.mkdir(parents=True, exist_ok=True)
    paths.FOLDS.parent.mkdir(exist_ok=True)
    np.save(paths.TRAIN_IMAGES, images.astype(np.uint8))
    np.save(paths.TEST_IMAGES, images[:TESTS, ::-1].astype(np.uint8))
    texts = task.decode(labels_of(task) if labels is None else labels)
    table_of("t", ROWS).assign(label=texts).to_csv(paths.TRAIN_TABLE, index=False)
    table_of("x", TESTS).to_csv(paths.TEST_TABLE, index=False)
    folds = table_of("t", ROWS).assign(label=texts, repeat=0, fold=np.arange(ROWS) % 3)
    folds[FOLD_COLUMNS].to_csv(paths.FOLDS, index=False)
    write_record(paths.COMPETITION, Competition(id_column="id", label_column="label", task=task))
    write_decoding(paths.DECODING, decoding_of(SIZE_PX, channels))


def table_of(prefix: str, rows: int) -> pd.DataFrame:
    ids = [f"{prefix}{row}" for row in range(rows)]
    known = {"image_id": ids, "row_id": ids, "group": ids, "width": 32, "height": 32}
    return pd.DataFrame({column: known.get(column, "") for column in IMAGE_COLUMNS})


def outputs_of(fold: int) -> dict[str, bytes]:
    folder = paths.model_folder("p", fold)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def oof_of(task: Task, fold: int) -> np.ndarray:
    table = pd.read_csv(paths.model_folder("p", fold) / "oof.csv", keep_default_na=False)
    return table[task.columns].to_numpy()


@pytest.mark.parametrize(
    ("task", "channels"),
    [*((task, 3) for task in TASKS.values()), (TASKS["two classes"], 1)],
    ids=[*TASKS.keys(), "grey"],
)
def test_each_kind_of_task_is_learned_and_the_saved_network_predicts_the_same_bits(
    weights: Path, task: Task, channels: Literal[1, 3]
) -> None:
    make_store(task, channels=channels)
    stage.run(section(weights, l2=1.0), "p", 0)
    folder = paths.model_folder("p", 0)
    network = load_network(folder / "weights.safetensors", "cpu")
    predicted = network.predict(np.load(paths.TEST_IMAGES)).astype(np.float32)
    written = pd.read_csv(folder / "test.csv", dtype=dict.fromkeys(task.columns, np.float32))
    assert np.array_equal(written[task.columns].to_numpy(), predicted)
    scored = np.arange(0, ROWS, 3)
    found, truth = oof_of(task, 0), labels_of(task)[scored]
    again = network.predict(np.load(paths.TRAIN_IMAGES)[scored])
    assert found == pytest.approx(again, abs=1e-5 * np.abs(again).max())
    by_chance = np.tile(found.mean(axis=0), (len(scored), 1))
    assert task.losses(found, truth).mean() < 0.6 * task.losses(by_chance, truth).mean()
    (row,) = pd.read_csv(folder / "history.csv").to_dict("records")
    assert row["epoch"] == 1
    assert ("accuracy" in row) == (task.kind != "number")


def test_the_labels_of_scored_rows_change_no_weight_and_no_prediction(weights: Path) -> None:
    task = one_of(3)
    make_store(task)
    stage.run(section(weights), "p", 1)
    before = outputs_of(1)
    labels = labels_of(task)
    scored = np.arange(ROWS) % 3 == 1
    labels[scored] = np.random.default_rng(2).permutation(2 - labels[scored])
    make_store(task, labels)
    stage.run(section(weights), "p", 1)
    assert outputs_of(1) == before
    labels[~scored] = 2 - labels[~scored]
    make_store(task, labels)
    stage.run(section(weights), "p", 1)
    assert outputs_of(1)["oof.csv"] != before["oof.csv"]


@pytest.mark.parametrize("kind", ["two classes", "three classes", "several labels", "numbers"])
def test_the_layer_says_what_scikit_learn_says_of_standardised_features(kind: str) -> None:
    task, l2 = TASKS[kind], 0.01
    features = np.random.default_rng(3).normal(3.0, [0.1, 1, 10, 0], (ROWS, 4)).astype(np.float32)
    labels = labels_of(task)
    targets = labels.astype(np.float32) if labels.ndim == 2 else labels
    weight, bias = linear.fit_layer(features, targets, task, l2)
    found = features @ weight.T + bias
    alone: Any = LogisticRegression(C=1 / (l2 * ROWS))
    if task.kind == "number":
        alone = Ridge(alpha=l2 * ROWS)
    whole = make_pipeline(StandardScaler(), alone)
    if task.kind == "any_of":
        expected = [whole.fit(features, c).decision_function(features) for c in labels.T]
        assert found == pytest.approx(np.stack(expected, 1), abs=1e-3)
    elif task.kind == "number":
        assert found == pytest.approx(whole.fit(features, targets).predict(features), rel=1e-3)
    else:
        said = whole.fit(features, targets).predict_proba(features)
        odds = np.exp(found - found.max(1, keepdims=True))
        assert odds / odds.sum(1, keepdims=True) == pytest.approx(said, abs=1e-3)


def test_a_class_that_no_training_row_has_is_hardly_ever_predicted() -> None:
    features = np.random.default_rng(3).normal(size=(ROWS, 4)).astype(np.float32)
    for there in (np.arange(ROWS) % 2, np.zeros(ROWS, np.int64)):
        weight, bias = linear.fit_layer(features, there, one_of(3), 0.01)
        assert not weight[2].any()
        assert bias[2] == pytest.approx(-np.log(2 * ROWS))


def train_apart(weights: Path, fold: int) -> subprocess.Popen[str]:
    code = (
        "import sys\nfrom pipeline.train import stage\nfrom pipeline.train.config import TrainConfig\n"
        "stage.run(TrainConfig.model_validate_json(sys.argv[1]), 'p', int(sys.argv[2]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, section(weights).model_dump_json(), str(fold)],
        env=environment() | {"PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.slow
def test_folds_side_by_side_compute_the_features_once_and_give_the_bytes_of_one_alone(
    weights: Path,
) -> None:
    make_store(one_of(2))
    linear.FEATURES.mkdir(parents=True)
    with FileLock(linear.FEATURES / ".lock"):  # until both want to compute
        running = [train_apart(weights, fold) for fold in (0, 1)]
        for process in running:
            assert process.stdout
            assert any("waiting for the features" in line for line in process.stdout)
    said = [process.communicate()[0] for process in running]  # closes the pipes
    assert [process.returncode for process in running] == [0, 0], said
    assert len(list(linear.FEATURES.glob("*/*"))) == 1
    assert sum("computing the features" in text for text in said) == 1
    before = outputs_of(0), outputs_of(1)
    shutil.rmtree(linear.FEATURES)
    for fold in (1, 0):
        stage.run(section(weights), "p", fold)
    assert (outputs_of(0), outputs_of(1)) == before


def test_features_are_computed_again_when_what_decides_them_changes_and_two_stay(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store(one_of(2))

    def computed(config: TrainConfig) -> bool:
        stage.run(config, "p", 0)
        return "computing the features" in capsys.readouterr().err

    assert computed(section(weights))
    assert not computed(section(weights, l2=0.5))
    assert computed(section(weights, precision="bfloat16"))
    assert not computed(section(weights))
    images = np.load(paths.TEST_IMAGES)
    np.save(paths.TEST_IMAGES, images[::-1])
    assert computed(section(weights))
    assert len(list(linear.FEATURES.glob("*/*"))) == 2
    np.save(paths.TEST_IMAGES, images)
    assert not computed(section(weights))  # used last, so that bfloat16's went
    assert computed(section(weights, precision="bfloat16"))


def test_what_a_killed_training_leaves_is_replaced_and_damaged_features_are_not_used(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store(one_of(2))
    stage.run(section(weights), "p", 0)
    before = outputs_of(0)
    (cache,) = linear.FEATURES.glob("*/*")
    partial = cache.with_name(f".{cache.name}.999999999.partial")
    partial.write_bytes(cache.read_bytes()[:1000])  # killed in the middle of writing
    cache.unlink()
    stage.run(section(weights), "p", 0)
    assert sorted(linear.FEATURES.glob("*/*")) == [cache]
    assert not partial.exists()
    cache.write_bytes(cache.read_bytes()[:-1] + b"x")
    capsys.readouterr()
    stage.run(section(weights), "p", 0)
    assert "damaged" in capsys.readouterr().err
    assert outputs_of(0) == before


def test_more_stages_than_the_network_has_are_refused(weights: Path) -> None:
    make_store(one_of(2))
    network = section(weights).models["p"].network.model_dump() | {"stages": 6}
    with pytest.raises(TrainError) as caught:
        stage.run(section(weights, network=network), "p", 0)
    assert "network: test_resnet: timm does not give the features of its last 6" in str(
        caught.value
    )


PROBE = (ROOT / "profiles" / "malaria-quick.yaml").read_text()
MODEL = "train.models.probe"


@pytest.mark.parametrize(
    ("old", "new", "mistakes"),
    [
        ("precision: ", "precison: ", [f"{MODEL}.precision: missing: every parameter stands in params.yaml", f"{MODEL}.precison: unknown parameter; did you mean 'precision'?"]),
        ("l2: ", "epochs: 3\n      l2: ", [f"{MODEL}.epochs: unknown parameter; known: l2, network, precision"]),
        ("l2: 0.005", "l2: 0", [f"{MODEL}.l2: expected greater than 0, found 0"]),
        ("stages: 5", "stage: 5", [f"{MODEL}.network.stages: missing: every parameter stands in params.yaml", f"{MODEL}.network.stage: unknown parameter; did you mean 'stages'?"]),
        ("pretrained: false", "pretrained: true", [f"{MODEL}.network: expected `pretrained: true` or a `weights` file, found both"]),
        ("family: probe", "family: prob", [f"{MODEL}.network: 'family': expected one of 'small', 'classic', 'signal', 'timm', 'spectrogram', 'probe', found 'prob'"]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_probe_is_one_sentence(
    tmp_path: Path, old: str, new: str, mistakes: list[str]
) -> None:
    path = tmp_path / "params.yaml"
    assert old in PROBE
    path.write_text(PROBE.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    said = [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]
    assert set(mistakes) <= set(said)


def test_a_probe_of_fresh_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    start, end = PROBE.index("weights: {file"), PROBE.index("}}") + 1
    path.write_text(PROBE[:start] + "weights: null" + PROBE[end:])
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert str(caught.value) == (
        f"{path}: {MODEL}.network: expected `pretrained: true` or a `weights` file, found neither: "
        "fresh weights have learned no features"
    )
