"""Competitions of other kinds than one class an image, from a folder to a submission that is right.

A stripe of a colour for each label, or a brightness, decides, so that a tiny network finds it; the
hidden answers are scored with scikit-learn.
"""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from project import local_params, make_project, stage
from sklearn import metrics

COLOURS = {"rust": (230, 40, 40), "scab": (40, 230, 40), "mould": (40, 40, 230)}
NAMES = list(COLOURS)
TRAIN, TEST, SIDE = 120, 40, 24


@dataclass(frozen=True)
class Drawn:
    """What the competition has, and what it hides."""

    files: dict[str, list[list[object]]]
    """The CSVs by name: rows, the header first."""
    answers: list[list[float]]
    """Of the test images, in the order of the sample submission."""


def draw_labels(folder: Path) -> Drawn:
    """Images with a stripe for each label that holds, which one cell lists."""
    rng = np.random.default_rng(1)
    truth = rng.random((TRAIN + TEST, 3)) < 0.45
    ids = draw_images(folder, rng, [_striped(rng, holds) for holds in truth])
    cells = [" ".join(np.array(NAMES)[holds]) for holds in truth]
    rows: list[list[object]] = [[i, cell] for i, cell in zip(ids, cells, strict=True)]
    sample: list[list[object]] = [["image", "labels"], *([i, "scab"] for i in ids[TRAIN:])]
    files = {"train.csv": [["image", "labels"], *rows[:TRAIN]], "sample_submission.csv": sample}
    return Drawn(files, truth[TRAIN:].astype(float).tolist())


def draw_numbers(folder: Path) -> Drawn:
    rng = np.random.default_rng(2)
    truth = rng.uniform(10, 90, TRAIN + TEST).round(2)
    noise = rng.integers(0, 20, (TRAIN + TEST, SIDE, SIDE, 3))
    images = (truth[:, None, None, None] * 2 + noise).astype(np.uint8)
    ids = draw_images(folder, rng, list(images))
    rows = [[i, 7, value] for i, value in zip(ids, truth, strict=True)]
    sample = [["image", "score"], *([i, 50] for i in ids[TRAIN:])]
    files = {
        "train.csv": [["image", "age", "score"], *rows[:TRAIN]],
        "sample_submission.csv": sample,
    }
    return Drawn(files, truth[TRAIN:, None].tolist())


def draw_images(folder: Path, rng: np.random.Generator, images: list[np.ndarray]) -> list[str]:
    """The images as plain folders, as on Kaggle's notebooks; returns their ids."""
    ids = [f"{number:06x}.png" for number in rng.choice(2**24, len(images), replace=False)]
    for place, (image_id, pixels) in enumerate(zip(ids, images, strict=True)):
        path = folder / ("train_images" if place < TRAIN else "test_images") / image_id
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return ids


def _striped(rng: np.random.Generator, holds: np.ndarray) -> np.ndarray:
    pixels = rng.integers(90, 130, (SIDE, SIDE, 3)).astype(np.uint8)
    for place in np.flatnonzero(holds):
        pixels[:, 8 * place : 8 * place + 8] = COLOURS[NAMES[place]]
    return pixels


def solve(
    folder: Path, metric: str, draw: Callable[[Path], Drawn]
) -> tuple[Drawn, list[list[str]]]:
    """Run the whole pipeline; returns what was drawn and the submission's rows."""
    params = local_params("competitions/drawn").replace("metric: accuracy", f"metric: {metric}")
    for old, new in (
        ("groups: {source: file, file: auto}", "groups: {source: none}"),
        ("near_duplicate: 2.0", "near_duplicate: 0.0"),
        ("epochs: 2\n", "epochs: 15\n"),
        ("label_smoothing: 0.05", "label_smoothing: 0.0"),
        ("members: [one, two]", "members: [one]"),
        ("tta: true", "tta: false"),
        ("augment: [{op: SquareSymmetry, p: 1.0}]", "augment: []"),
        ("engine: albumentations", "engine: batched"),
    ):
        assert old in params
        params = params.replace(old, new)
    project = make_project(folder, params)
    raw = project / "competitions/drawn"
    drawn = draw(raw)
    for name, rows in drawn.files.items():
        with (raw / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    done = stage(project, "repro")
    assert done.returncode == 0, done.stdout
    page = (project / "reports/index.html").read_text()
    assert not re.search(r">[^<]*\bnan\b", page)
    with (project / "submissions/tiny.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    sample = drawn.files["sample_submission.csv"]
    assert rows[0] == sample[0]
    assert [row[0] for row in rows] == [row[0] for row in sample]
    return drawn, rows[1:]


@pytest.mark.slow
def test_labels_of_one_cell_are_found_and_written_as_the_sample_has_them(tmp_path: Path) -> None:
    drawn, rows = solve(tmp_path / "project", "samples_f1", draw_labels)
    found = [[float(name in row[1].split(" ")) for name in NAMES] for row in rows]
    assert metrics.f1_score(drawn.answers, found, average="samples", zero_division=1) > 0.95


@pytest.mark.slow
def test_a_number_is_predicted_in_its_own_units(tmp_path: Path) -> None:
    drawn, rows = solve(tmp_path / "project", "rmse", draw_numbers)
    found = [[float(row[1])] for row in rows]
    assert metrics.r2_score(drawn.answers, found) > 0.95
