"""`python -m pipeline new` looks, says what it found, and writes the params.yaml that fits."""

import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from drawing import Drawn
from layouts import CLASSES, OTHERS
from PIL import Image
from project import make_project, run, stage
from solving import reproduce

from pipeline.commands import new
from pipeline.commands.recipe import FOLDS, Facts, choose_epochs, choose_size, write_params
from pipeline.core import paths
from pipeline.core.competition import SignalDecoding
from pipeline.core.errors import ConfigError, KaggleError
from pipeline.core.tables import FOLD_COLUMNS, read_table
from pipeline.core.yaml import parse_yaml
from pipeline.params import Config, read_config
from pipeline.train.networks.config import SignalNetwork, SpectrogramNetwork
from pipeline.train.networks.spectrogram import Spectrogram

LAYOUTS = CLASSES | OTHERS


def begin(name: str, project: Path, metric: str | None = None) -> str:
    """Begin a drawn competition in this process; returns the text of params.yaml."""
    Drawn(LAYOUTS[name]).write(project / "competitions/drawn")
    with chdir(project), patch.object(new, "reproduce", reproduce):
        new.new("competitions/drawn", None, metric)
        return paths.PARAMS.read_text()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("aerial-cactus-identification", {"metric": "roc_auc", "groups": "none", "classes": None}),
        ("siim-isic-melanoma-classification", {"groups": "patient_id"}),
        ("state-farm-distracted-driver-detection", {"metric": "log_loss", "groups": "subject"}),
        ("dogs-vs-cats-redux-kernels-edition", {"metric": "roc_auc", "classes": ["cat", "dog"]}),
        ("intel-image-classification", {"metric": "accuracy", "sample": "none"}),
        ("plant-pathology-2021-fgvc8", {"metric": "samples_f1"}),
        ("ranzcr-clip-catheter-line-classification", {"metric": "macro_roc_auc", "groups": "PatientID"}),
        ("petfinder-pawpularity-score", {"metric": "rmse"}),
        ("dog-breed-identification", {"metric": "log_loss", "folds": 2}),
        ("inaturalist-2019-fgvc6", {"metric": "map_at_3"}),
        ("digit-recognizer", {"metric": "accuracy", "mirrored": False}),
    ],
)  # fmt: skip
def test_what_the_files_tell_is_decided(
    tmp_path: Path, name: str, expected: dict[str, object]
) -> None:
    text = begin(name, tmp_path)
    with chdir(tmp_path):
        config = read_config(paths.PARAMS)
    groups = config.prepare.groups
    found = {
        "metric": config.ensemble.metric,
        "groups": getattr(groups, "column", groups.source),
        "classes": config.prepare.classes,
        "sample": config.prepare.sample_submission,
        "folds": config.split.folds,
        "mirrored": "HorizontalFlip" in text,
    }
    assert {key: found[key] for key in expected} == expected
    assert (tmp_path / new.SHEET).read_bytes().startswith(b"\x89PNG")


def test_what_only_the_page_tells_is_named_as_a_guess(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin("dogs-vs-cats-redux-kernels-edition", tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert "metric roc_auc only the competition's page tells: look there (--metric)" in said
    assert "positive class dog only the page tells which is counted as 1; the other is cat" in said
    assert "task one_of 2 outputs; cat: " in said
    assert "submission probability as the sample and the metric say" in said


def test_the_metric_of_the_page_decides_the_task(tmp_path: Path) -> None:
    begin("aptos2019-blindness-detection", tmp_path, "rmse")
    with chdir(tmp_path):
        assert '"kind":"number"' in paths.COMPETITION.read_text().replace(" ", "")


def test_folds_are_as_many_as_have_each_class(tmp_path: Path) -> None:
    """Ten classes of twelve images, which six drivers share unevenly."""
    rng = np.random.default_rng(3)
    drivers = [f"p{n}" for n in range(6)]
    rows = [(str(n), f"c{n % 10}", drivers[rng.integers(6)]) for n in range(120)]
    assert min(len({g for _, c, g in rows if c == f"c{k}"}) for k in range(10)) > 2
    folder = tmp_path / "drawn"
    lines = "".join(f"{i},{c},{g}\n" for i, c, g in rows)
    for name, text in {
        "train.csv": f"id,label,driver\n{lines}",
        "submission.csv": "id,label\nx,c0\n",
    }.items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    for name in [*(f"train/{i}" for i, _, _ in rows), "test/x"]:
        path = folder / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8)).save(path)
    with chdir(tmp_path), patch.object(new, "reproduce", reproduce):
        new.new("drawn", None, None)
        config = read_config(paths.PARAMS)
        assert config.prepare.groups.source == "column"
        folds = read_table(paths.FOLDS, FOLD_COLUMNS)
        assert folds.groupby("fold")["label"].nunique().tolist() == [10] * config.split.folds


@pytest.mark.slow
def test_a_zip_becomes_a_split_competition_that_make_run_goes_on_with(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    run(project, "git", "commit", "-qam", "before")
    layout = LAYOUTS["plant-seedlings-classification"]
    Drawn(layout).write(tmp_path / "drawn")
    (source,) = (tmp_path / "drawn").glob("*.zip")
    done = stage(project, "new", str(source), "--metric", "micro_f1")
    assert done.returncode == 0, done.stdout
    assert "Running stage 'split'" in done.stdout
    assert done.stdout.endswith("shows some images of each class. Next: make run\n")
    assert (project / "competitions/plant-seedlings-classification" / source.name).is_file()
    assert "up to date" in stage(project, "repro", "split").stdout
    again = stage(project, "new", str(source), "--metric", "accuracy")
    assert again.returncode == 0, again.stdout  # what it wrote itself it may write again
    params = project / "params.yaml"
    assert "metric: accuracy" in params.read_text()
    params.write_text(f"{params.read_text()}# mine\n")
    refused = stage(project, "new", str(source))
    assert refused.returncode == 1
    assert refused.stdout.startswith("ConfigError: params.yaml: has changes that are neither in")
    assert params.read_text().endswith("# mine\n")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (
            "no/such/folder",
            "expected a folder, a zip, or a competition's name or address on Kaggle",
        ),
        ("https://example.org/x", "competition"),
    ],
)
def test_a_source_that_is_nothing_is_named(tmp_path: Path, source: str, error: str) -> None:
    with chdir(tmp_path), pytest.raises((ConfigError, KaggleError), match=error):
        new.new(source, None, None)
    assert not (tmp_path / "params.yaml").exists()


def test_a_metric_that_is_none_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "competitions").mkdir()
    with chdir(tmp_path), pytest.raises(Exception, match="expected a metric of accuracy"):
        new.new("competitions", None, "acuracy")
    assert not (tmp_path / "params.yaml").exists()


FACTS = {
    "images": 2000,
    "side_px": 300,
    "mirrored": True,
    "folds": 5,
    "rare": "stop",
    "cores": 2,
    "gpu": False,
}


@pytest.mark.parametrize(
    ("changes", "size_px", "epochs"),
    [
        ({}, 160, 25),
        ({"side_px": 28}, 32, 28),
        ({"images": 20_000}, 64, 16),
        ({"images": 20_000, "gpu": True}, 224, 20),
        ({"images": 200_000}, 32, 6),
        ({"images": 200_000, "cores": 64}, 128, 12),
    ],
)
def test_the_recipe_suits_images_and_machine(
    changes: dict[str, int | bool], size_px: int, epochs: int
) -> None:
    facts = Facts(**FACTS | changes)  # type: ignore[arg-type]
    assert choose_size(facts) == size_px
    assert choose_epochs(facts, size_px) == epochs


@pytest.mark.parametrize("rate_hz", [2000, 4000, 8000, 11_025, 16_000, 22_050, 44_100, 192_000])
@pytest.mark.parametrize(("seconds", "most"), [(0.25, 25), (1, 100), (10, 256), (60, 600)])
def test_sound_is_seen_as_a_spectrogram_whose_bands_all_have_frequencies(
    rate_hz: int, seconds: float, most: int
) -> None:
    length = int(rate_hz * seconds)
    network = network_for(side_px=length, rate_hz=rate_hz)
    assert isinstance(network, SpectrogramNetwork)
    decoding = SignalDecoding(length=length, channels=1, rate_hz=rate_hz)
    frames = Spectrogram(network, decoding)(torch.zeros(1, 1, length)).shape[-1]
    assert 16 <= frames <= most


@pytest.mark.parametrize("changes", [{"rate_hz": None}, {"rate_hz": 1000}, {"side_px": 2000}])
def test_other_signals_and_the_shortest_sounds_are_seen_as_they_are(
    changes: dict[str, Any],
) -> None:
    assert isinstance(
        network_for(**{"side_px": 16_000, "rate_hz": 16_000} | changes), SignalNetwork
    )


def network_for(**changes: Any) -> object:
    """What the recipe takes for signals."""
    facts = Facts(**FACTS | changes)  # type: ignore[arg-type]
    prepare = {"kind": "signals", "groups": {"source": "none"}}
    text = write_params("x", {"source": "local", "folder": "x"}, prepare, "accuracy", facts)
    (models,) = Config.model_validate(
        parse_yaml("params.yaml", text.encode())
    ).train.models.values()
    return models.network


def test_any_name_of_a_folder_gives_valid_params(tmp_path: Path) -> None:
    download = {"source": "local", "folder": 'a "b": {c} ü'}
    prepare = {"kind": "images", "groups": {"source": "none"}}
    text = write_params("x", download, prepare, "accuracy", Facts(**FACTS))  # type: ignore[arg-type]
    tree = parse_yaml("params.yaml", text.encode())
    assert isinstance(tree, dict)
    assert tree["download"] == download
    (tmp_path / "params.yaml").write_text(text)
    assert read_config(tmp_path / "params.yaml").split.folds == FOLDS
    shutil.rmtree(tmp_path)
