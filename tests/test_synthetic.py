"""The drawn competition: its layout, its promises about patients and labels, its difficulty."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.core.errors import ConfigError
from pipeline.core.files import sha256_of
from pipeline.core.tables import read_table
from pipeline.download.config import DrawnCells
from pipeline.download.drawn.competition import TRUTH_COLUMNS, draw_competition

SMALL = {
    "source": "synthetic", "kind": "cells", "train_images": 120, "test_images": 61, "patients": 12,
    "wrong_labels": 0.1, "duplicates": 0.1, "seed": 7,
}  # fmt: skip

RAW_FILES = [
    "sample_submission.csv", "test_data.zip", "train_data.zip", "train_groups.csv",
    "train_labels.csv",
]  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A drawn competition on disk."""

    raw: Path
    hidden: Path

    @property
    def truth(self) -> pd.DataFrame:
        """hidden/truth.csv, labels as numbers."""
        table = read_table(self.hidden / "truth.csv", TRUTH_COLUMNS)
        return table.astype({"label": int, "true_label": int})

    def split(self, name: str) -> pd.DataFrame:
        """The rows of one split, counted from 0."""
        truth = self.truth
        return truth[truth["split"] == name].reset_index(drop=True)

    def pngs(self, split: str) -> dict[str, bytes]:
        """The images' files by member name."""
        with zipfile.ZipFile(self.raw / f"{split}_data.zip") as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def solution(self) -> pd.DataFrame:
        table = read_table(self.hidden / "solution.csv", ["id", "label", "Usage"])
        return table.astype({"label": int})

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file by its name."""
        files = [*self.raw.iterdir(), *self.hidden.iterdir()]
        return {path.name: sha256_of(path) for path in files}


def draw(folder: Path, **changes: float) -> Drawn:
    """Draw SMALL with some values changed."""
    drawn = Drawn(folder / "raw", folder / "hidden")
    drawn.raw.mkdir(parents=True)
    drawn.hidden.mkdir()
    draw_competition(DrawnCells.model_validate(SMALL | changes), drawn.raw, drawn.hidden)
    return drawn


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return draw(tmp_path_factory.mktemp("small"))


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_the_same_config_gives_the_same_bytes_and_another_seed_others(
    small: Drawn, tmp_path: Path
) -> None:
    ours = small.hashes()
    assert draw(tmp_path / "again").hashes() == ours
    other = draw(tmp_path / "other", seed=8).hashes()
    same = {name for name in ours if ours[name] == other[name]}
    assert same == {"sample_submission.csv"}  # ids and zeros only


def test_the_files_are_exactly_the_competitions_with_the_ids_in_order(small: Drawn) -> None:
    assert sorted(path.name for path in small.raw.iterdir()) == RAW_FILES
    assert sorted(path.name for path in small.hidden.iterdir()) == ["solution.csv", "truth.csv"]
    train_ids = [f"train_{row:05}" for row in range(120)]
    test_ids = [f"test_{row:05}" for row in range(61)]
    labels = read_table(small.raw / "train_labels.csv", ["id", "label"])
    groups = read_table(small.raw / "train_groups.csv", ["id", "patient"])
    sample = read_table(small.raw / "sample_submission.csv", ["id", "label"])
    assert list(labels["id"]) == list(groups["id"]) == train_ids
    assert list(groups["patient"]) == list(small.split("train")["patient"])
    assert list(sample["id"]) == list(small.solution()["id"]) == test_ids
    assert set(sample["label"]) == {"0"}
    assert set(labels["label"]) == {"0", "1"}
    for split, ids in (("train", train_ids), ("test", test_ids)):
        assert list(small.pngs(split)) == [f"{split}_data/{image_id}.png" for image_id in ids]
    usage = small.solution()["Usage"]
    assert usage.value_counts().to_dict() == {"Private": 31, "Public": 30}
    assert (usage != usage.shift()).sum() > 15  # runs: 31 expected, 2 if sorted


def test_no_patient_is_in_train_and_test_and_all_are_somewhere(small: Drawn) -> None:
    train, test = set(small.split("train")["patient"]), set(small.split("test")["patient"])
    assert not train & test
    assert len(train | test) == SMALL["patients"]


def test_exactly_the_asked_share_of_training_labels_is_wrong_and_none_of_test(
    small: Drawn,
) -> None:
    train, test, truth = small.split("train"), small.split("test"), small.truth
    assert ((truth["parasites"] != "") == (truth["true_label"] == 1)).all()
    assert (train["label"] != train["true_label"]).sum() == 12
    given = read_table(small.raw / "train_labels.csv", ["id", "label"])["label"].astype(int)
    assert given.tolist() == train["label"].tolist()
    assert small.solution()["label"].tolist() == test["true_label"].tolist()
    assert (test["label"] == test["true_label"]).all()


def test_exactly_the_asked_share_of_training_images_is_a_copy_byte_for_byte(small: Drawn) -> None:
    pngs, train = small.pngs("train"), small.split("train").set_index("id")
    copies = train[train["duplicate_of"] != ""]
    originals = train.loc[copies["duplicate_of"]]
    assert len(copies) == 12
    assert (originals["duplicate_of"] == "").all()
    for column in ("patient", "true_label", "parasites", "artefacts"):
        assert originals[column].tolist() == copies[column].tolist()
    for copy, original in copies["duplicate_of"].items():
        assert pngs[f"train_data/{copy}.png"] == pngs[f"train_data/{original}.png"]
    assert len(set(pngs.values())) == 120 - 12
    assert not set(pngs.values()) & set(small.pngs("test").values())


def test_images_are_rgb_cells_of_various_sizes_on_pure_black(small: Drawn) -> None:
    images = [pixels(png) for png in small.pngs("train").values()]
    assert all(image.ndim == 3 and image.shape[2] == 3 for image in images)
    sides = {side for image in images for side in image.shape[:2]}
    assert min(sides) >= 80
    assert max(sides) <= 170
    assert len({image.shape for image in images}) > 60
    black = np.array([(image == 0).all(axis=2).mean() for image in images])
    assert ((black > 0.1) & (black < 0.7)).all()  # 0.21 outside of a disc


def test_images_are_cropped_to_the_cell_whose_edge_is_hard(small: Drawn) -> None:
    for png in small.pngs("test").values():
        image = pixels(png)
        inside = image.any(axis=2)
        assert image[inside].min() >= 1
        assert image[inside].max(axis=1).min() > 30  # a soft edge would go to 0
        if min(inside.shape) > 80:  # smaller cells are padded to 80
            assert inside[[0, -1]].any(axis=1).all()
            assert inside[:, [0, -1]].any(axis=0).all()


def test_classes_are_balanced_and_a_quarter_of_the_patients_healthy(tmp_path: Path) -> None:
    changes = {"train_images": 200, "test_images": 100, "patients": 24}
    drawn = draw(tmp_path, **changes, wrong_labels=0.0, duplicates=0.0)
    assert (drawn.truth["label"] == drawn.truth["true_label"]).all()
    assert (drawn.truth["duplicate_of"] == "").all()
    for split in ("train", "test"):
        rows = drawn.split(split)
        share = rows.groupby("patient")["true_label"].mean()
        assert rows["true_label"].mean() == 0.5
        assert (share == 0).sum() >= len(share) // 4
        assert share[share > 0].std() > 0.08


def test_ids_tell_nothing_about_label_or_patient(small: Drawn) -> None:
    train = small.split("train")
    place = np.arange(len(train))
    # 3.3 standard errors of a correlation of 120 unrelated rows
    assert abs(np.corrcoef(place, train["true_label"])[0, 1]) < 0.3
    repeated = (train["patient"] == train["patient"].shift()).mean()
    chance = (train["patient"].value_counts(normalize=True) ** 2).sum()
    assert repeated < chance + 0.15


def test_patients_differ_in_stain_more_than_their_cells_do(small: Drawn) -> None:
    colours = [
        np.median((image := pixels(png))[image.any(axis=2)], axis=0)
        for png in small.pngs("train").values()
    ]
    table = pd.DataFrame(colours).groupby(small.split("train")["patient"].to_numpy())
    assert table.mean().std().mean() > 2 * table.std().mean().mean()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patients": 300}, r"download\.patients: 300 patients put 199 of them"),
        ({"patients": 150, "duplicates": 0.45}, r"download\.duplicates: 54 of the 120 .* at most \d+"),
    ],
)  # fmt: skip
def test_more_patients_or_copies_than_images_allow_is_an_error(
    tmp_path: Path, changes: dict[str, float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        draw(tmp_path, **changes)


@pytest.mark.slow
def test_colour_histograms_see_something_but_not_enough(tmp_path: Path) -> None:
    """Gradient boosting on RGB histograms: 0.77 to 0.81 with 1,600 images (seeds 1 and 2).

    The bound leaves 0.06 to the highest of these: four standard errors of 800 images.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import GroupKFold, cross_val_score
    from threadpoolctl import threadpool_limits

    drawn = draw(
        tmp_path, train_images=800, test_images=10, patients=40, wrong_labels=0.0, duplicates=0.0
    )
    train = drawn.split("train")
    features = np.stack([histogram(pixels(png)) for png in drawn.pngs("train").values()])
    model = HistGradientBoostingClassifier(random_state=0, max_iter=60)
    with threadpool_limits(1):  # OpenMP's threads wait for each other for minutes on a busy machine
        scores = cross_val_score(
            model, features, train["true_label"], groups=train["patient"], cv=GroupKFold(5)
        )
    assert 0.6 < scores.mean() < 0.87


def histogram(image: np.ndarray) -> np.ndarray:
    """8 × 8 × 8 colour shares of the cell, its colours' mean, spread and extremes, its size."""
    cell = image[image.any(axis=2)]
    shares = np.histogramdd(cell, 8, [(0, 256)] * 3)[0].ravel() / len(cell)
    extremes = np.percentile(cell, [1, 5, 50, 95, 99], axis=0).ravel()
    return np.concatenate([shares, cell.mean(axis=0), cell.std(axis=0), extremes, [len(cell)]])
