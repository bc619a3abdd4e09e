"""The drawn nuclei: exact areas, whole slides in one split, and worth a network."""

import zipfile
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from project import ROOT, decoding_of
from sklearn.linear_model import Ridge
from tasks import number
from test_synthetic import RAW_FILES, pixels
from threadpoolctl import threadpool_limits

from pipeline.core import paths
from pipeline.core.competition import read_competition
from pipeline.core.errors import ConfigError
from pipeline.core.files import sha256_of
from pipeline.core.tables import IMAGE_COLUMNS, read_csv, read_table
from pipeline.download.config import DrawnNuclei
from pipeline.download.drawn.nuclei import SIDE_PX, Outline, cover, draw_nucleus, draw_slide
from pipeline.download.drawn.patches import TRUTH_COLUMNS, draw_patches
from pipeline.params import read_config
from pipeline.prepare import stage as prepare
from pipeline.split.folds import assign_folds
from pipeline.train.checkpoint import Checkpoint
from pipeline.train.config import ModelConfig
from pipeline.train.device import choose_compute, deterministic
from pipeline.train.fit import TrainingRows, fit
from pipeline.train.infer import predict
from pipeline.train.kinds import mean_and_std
from pipeline.train.models import build_model

PROFILE = ROOT / "profiles" / "nuclei.yaml"

SMALL = {
    "source": "synthetic", "kind": "nuclei", "train_images": 120, "test_images": 61, "slides": 18,
    "duplicates": 0.1, "seed": 7,
}  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A drawn competition on disk."""

    raw: Path
    hidden: Path

    def split(self, name: str) -> pd.DataFrame:
        """The rows of hidden/truth.csv of one split."""
        truth = read_table(self.hidden / "truth.csv", TRUTH_COLUMNS).astype({"area": float})
        return truth[truth["split"] == name].reset_index(drop=True)

    def pngs(self, split: str) -> dict[str, bytes]:
        """The images' files by member name."""
        with zipfile.ZipFile(self.raw / f"{split}_data.zip") as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def images(self, split: str) -> np.ndarray:
        return np.stack([pixels(png) for png in self.pngs(split).values()])

    def hashes(self) -> dict[str, str]:
        files = [*self.raw.iterdir(), *self.hidden.iterdir()]
        return {path.name: sha256_of(path) for path in files}


def draw(folder: Path, config: DrawnNuclei | None = None, **changes: float) -> Drawn:
    """Draw SMALL with some values changed, or as another config says."""
    drawn = Drawn(folder / "data" / "raw", folder / "data" / "hidden")
    drawn.raw.mkdir(parents=True)
    drawn.hidden.mkdir()
    draw_patches(config or DrawnNuclei.model_validate(SMALL | changes), drawn.raw, drawn.hidden)
    return drawn


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return draw(tmp_path_factory.mktemp("small"))


def mask_of(outline: Outline, points: int) -> np.ndarray:
    """The share of each pixel inside, counted at so many points along its side."""
    place = (np.arange(SIDE_PX * points) + 0.5) / points - SIDE_PX / 2
    x, y = np.meshgrid(place - outline.centre.real, place - outline.centre.imag)
    cosine, sine = np.cos(outline.angle), np.sin(outline.angle)
    long = (x * cosine + y * sine) * np.sqrt(outline.aspect)
    short = (y * cosine - x * sine) / np.sqrt(outline.aspect)
    angle = np.arctan2(short, long)
    radius = 1 + sum(
        abs(wave) * np.cos(order * angle + np.angle(wave))
        for order, wave in enumerate(outline.waves, start=2)
    )
    inside = np.hypot(long, short) <= outline.radius_px * radius
    return inside.reshape(SIDE_PX, points, SIDE_PX, points).mean(axis=(1, 3))


@pytest.mark.parametrize("seed", range(12))
def test_the_area_is_that_of_the_outline_and_of_a_mask_of_finer_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outline = draw_nucleus(rng, draw_slide(rng))
    drawn, _ = cover(outline)
    of_curve = np.pi * outline.radius_px**2 * (1 + (np.abs(outline.waves) ** 2).sum() / 2)
    assert drawn.sum() == pytest.approx(of_curve, abs=0.25)  # so none of it is cut off
    counted = mask_of(outline, 16)
    assert drawn.sum() == pytest.approx(counted.sum(), abs=0.25)
    assert np.abs(drawn - counted).max() < 0.2


def test_the_nucleus_in_the_picture_is_as_large_as_its_label_says(small: Drawn) -> None:
    """Otsu's threshold on red, and the piece in the middle: a rough measure, on any stain."""
    measured = []
    for image in small.images("test"):
        _, dark = cv2.threshold(image[..., 0], 0, 1, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
        _, pieces = cv2.connectedComponents(dark, connectivity=4)
        middle = pieces[10:14, 10:14]
        measured.append((pieces == np.bincount(middle[middle > 0], minlength=1).argmax()).sum())
    areas = small.split("test")["area"]
    off = np.abs(np.array(measured) - areas)
    assert off.median() < 6
    assert areas.between(15, 255).all()
    assert areas.std() > 30


def test_the_same_config_gives_the_same_bytes_and_another_seed_others(
    small: Drawn, tmp_path: Path
) -> None:
    ours = small.hashes()
    assert draw(tmp_path / "again").hashes() == ours
    other = draw(tmp_path / "other", seed=8).hashes()
    same = {name for name in ours if ours[name] == other[name]}
    assert same == {"sample_submission.csv"}  # ids and zeros only


def test_the_files_are_named_as_the_cells_are_and_hold_numbers(small: Drawn) -> None:
    assert sorted(path.name for path in small.raw.iterdir()) == RAW_FILES
    train, test = small.split("train"), small.split("test")
    labels = read_csv(small.raw / "train_labels.csv")
    groups = read_csv(small.raw / "train_groups.csv")
    sample = read_csv(small.raw / "sample_submission.csv")
    solution = read_csv(small.hidden / "solution.csv")
    assert list(labels) == list(sample) == ["id", "area"]
    assert labels["area"].astype(float).tolist() == train["area"].tolist()
    assert groups.equals(train[["id", "slide"]])
    assert list(solution["id"]) == list(sample["id"]) == test["id"].tolist()
    assert solution["area"].astype(float).tolist() == test["area"].tolist()
    assert solution["Usage"].value_counts().to_dict() == {"Private": 31, "Public": 30}
    for split, rows in (("train", train), ("test", test)):
        assert list(small.pngs(split)) == [f"{split}_data/{name}.png" for name in rows["id"]]
        assert small.images(split).shape == (len(rows), SIDE_PX, SIDE_PX, 3)
        assert small.images(split).dtype == np.uint8


def test_no_slide_is_in_train_and_test_and_all_are_somewhere(small: Drawn) -> None:
    train, test = set(small.split("train")["slide"]), set(small.split("test")["slide"])
    assert not train & test
    assert len(train | test) == SMALL["slides"]


def test_copies_have_the_slide_area_and_bytes_of_their_originals(small: Drawn) -> None:
    pngs, train = small.pngs("train"), small.split("train").set_index("id")
    copies = train[train["duplicate_of"] != ""]
    originals = train.loc[copies["duplicate_of"]]
    assert len(copies) == 12
    assert originals[["slide", "area"]].to_numpy().tolist() == (
        copies[["slide", "area"]].to_numpy().tolist()
    )
    for copy, original in copies["duplicate_of"].items():
        assert pngs[f"train_data/{copy}.png"] == pngs[f"train_data/{original}.png"]
    assert len(set(pngs.values())) == 120 - 12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slides": 300}, r"download\.slides: 300 slides put 199 of them into train, where each"),
        ({"slides": 150, "duplicates": 0.45}, r"download\.duplicates: 54 .* one of the same slide, but at most \d+ can with this many slides"),
    ],
)  # fmt: skip
def test_more_slides_or_copies_than_images_allow_is_an_error(
    tmp_path: Path, changes: dict[str, float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        draw(tmp_path, **changes)


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ("seed: 1", "seed: 1\n  wrong_labels: 0.1", "download.wrong_labels: unknown parameter; known: duplicates, kind, seed, slides, source, test_images, train_images"),
        ("  kind: nuclei\n", "", "download: missing the key 'kind' that says which kind this is"),
        ("kind: nuclei", "kind: nucleus", "download: 'kind': expected one of 'cells', 'nuclei', found 'nucleus'"),
    ],
)  # fmt: skip
def test_a_parameter_of_another_kind_is_one_sentence(
    tmp_path: Path, old: str, new: str, mistake: str
) -> None:
    path, text = tmp_path / "params.yaml", PROFILE.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert str(caught.value) == f"{path}: {mistake}"


def test_prepare_understands_the_files_without_a_parameter_that_names_one(
    small: Drawn, tmp_path: Path
) -> None:
    config = read_config(PROFILE)
    place = tmp_path / "data"
    place.mkdir()
    (place / "raw").symlink_to(small.raw)
    with chdir(tmp_path):
        prepare.run(config.prepare, config.ensemble.metric)
        task = read_competition(paths.COMPETITION).task
        rows = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
        stored = np.load(paths.TRAIN_IMAGES)
    train = small.split("train")
    assert task == number("area")
    assert rows["label"].astype(float).tolist() == train["area"].tolist()
    assert rows["group"].tolist() == train["slide"].tolist()
    assert (stored == small.images("train")).all()


@pytest.mark.slow
def test_a_linear_model_is_far_below_the_mean_and_the_network_far_below_it(tmp_path: Path) -> None:
    """The profile's competition and network, on the slides of one fold, with fewer epochs."""
    config = read_config(PROFILE)
    assert config.download.source == "synthetic"
    assert config.download.kind == "nuclei"
    drawn = draw(tmp_path, config.download)
    train, images = drawn.split("train"), drawn.images("train")
    areas = train[["area"]].to_numpy()
    texts = read_csv(drawn.raw / "train_labels.csv")["area"]
    scored = assign_folds(number("area"), list(texts), list(train["slide"]), 5, 1) == 0

    flat = images.reshape(len(images), -1) / np.float32(255)
    with threadpool_limits(1):
        linear = Ridge(alpha=10.0).fit(flat[~scored], areas[~scored]).predict(flat[scored])

    model = config.train.models["vgg"]
    assert isinstance(model, ModelConfig)
    model = model.model_copy(update={"epochs": 6})
    rows = TrainingRows(np.flatnonzero(~scored), inner=np.array([], np.int64))
    deterministic(config.train.threads)
    torch.manual_seed(model.seed)
    mean, std = mean_and_std(images, rows.training)
    network = build_model(
        model.network, number("area"), decoding_of(SIDE_PX), list(mean), list(std)
    )
    compute = choose_compute("cpu", model.precision)
    checkpoint = Checkpoint(tmp_path / "resume")
    network, _ = fit(network, images, areas, rows, model, compute, checkpoint, lambda _: None)
    found = predict(network, images, np.flatnonzero(scored), compute, model.tta)

    def error(predicted: np.ndarray) -> float:
        return float(np.sqrt(((predicted - areas[scored]) ** 2).mean()))

    of_mean = error(np.full_like(areas[scored], areas[~scored].mean()))
    assert error(linear.reshape(-1, 1)) < 0.5 * of_mean
    assert error(found) < 0.7 * error(linear.reshape(-1, 1))
