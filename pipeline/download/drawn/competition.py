"""Draws a malaria-cell competition in the layout of "Fighting Malaria with CNNs".

Parasites and artefacts share their colours and areas (`pipeline/download/drawn/marks.py`), and a
patient's stain changes a cell's colour more than a parasite does: of 1,600 images, gradient
boosting on colour histograms is right for 0.77 to 0.82, a VGG-like net at 48 px for 0.94 to 0.95.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool
from numpy import ndarray

from pipeline.core.shapes import Image
from pipeline.core.tables import write_table
from pipeline.download.config import DrawnCells
from pipeline.download.drawn.cells import Stain, draw_cell, draw_stain
from pipeline.download.drawn.files import write_images, write_tables
from pipeline.download.drawn.marks import ARTEFACTS, PARASITES, Mark
from pipeline.download.drawn.plan import (
    choose_copies,
    choose_halves,
    count_images,
    deal_groups,
    draw_pngs,
    stream,
)

TRUTH_COLUMNS = [
    "id", "split", "patient", "true_label", "label", "parasites", "artefacts", "duplicate_of",
]  # fmt: skip
"""Columns of hidden/truth.csv, which no stage reads: one row for each image of train and test.

label: as given to competitors, wrong ones included. parasites, artefacts: what was drawn,
joined by "+", or empty. duplicate_of: the id that this image is a copy of, or empty.
"""

_HEALTHY_PATIENTS = 0.25
"""Share of the patients without any parasite, as in the original: 50 of 200."""

_ARTEFACT_IF_HEALTHY, _ARTEFACT_IF_PARASITIZED = 0.68, 0.2
"""Share of cells with artefacts. Where 68 % of the healthy cells carry a mark, a classifier
that only sees whether there is one is right for 66 % of all cells."""

_PLAN, _PATIENTS, _TRAIN_CELLS, _TEST_CELLS = range(4)
"""Random streams, all from the config's seed."""


@dataclass(frozen=True)
class _Patient:
    name: str
    images: int
    pull: float
    """How readily this patient's cells are parasitized, 0 for never; only ratios count."""
    stain: Stain


def draw_competition(config: DrawnCells, raw: Path, hidden: Path) -> None:
    """Write to two empty folders. Raises ConfigError on too few images for patients or copies."""
    train, test, stains = _plan(config)
    splits = [(train, _TRAIN_CELLS, "train_data"), (test, _TEST_CELLS, "test_data")]
    for rows, number, name in splits:
        pngs = draw_pngs(rows, config.seed, number, partial(_draw_image, stains))
        write_images(raw / f"{name}.zip", list(rows["id"]), pngs, f"draw {name}")
    usage = choose_halves(stream(config.seed, _TEST_CELLS), len(test))
    solution = test[["id"]].assign(label=test["true_label"], Usage=usage)
    write_tables(raw, hidden, train[["id", "label", "patient"]], solution)
    write_table(hidden / "truth.csv", pd.concat([train, test])[TRUTH_COLUMNS])


def _plan(config: DrawnCells) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Stain]]:
    """What is decided before anything is drawn: the truth of train and test, and the stains."""
    rng = stream(config.seed, _PLAN)
    train_patients, test_patients = _draw_patients(config)
    train = _draw_rows(rng, "train", train_patients)
    test = _draw_rows(rng, "test", test_patients)
    keys = list(zip(train["patient"], train["true_label"], strict=True))
    train["duplicate_of"] = choose_copies(rng, config, list(train["id"]), keys, "patient and label")
    originals = train.set_index("id")
    for column in ("parasites", "artefacts"):
        drawn = originals.loc[train["duplicate_of"].where(train["duplicate_of"] != "", train["id"])]
        train[column] = drawn[column].to_numpy()
    wrong = rng.choice(len(train), round(config.wrong_labels * len(train)), replace=False)
    labels = train["true_label"].to_numpy(copy=True)
    labels[wrong] = 1 - labels[wrong]
    train["label"] = labels
    stains = {patient.name: patient.stain for patient in [*train_patients, *test_patients]}
    return train, test, stains


def _draw_patients(config: DrawnCells) -> tuple[list[_Patient], list[_Patient]]:
    """The patients of train and of test."""
    rng = stream(config.seed, _PATIENTS)
    train, test = deal_groups(rng, config)
    return (
        _draw_split_patients(rng, train, config.train_images),
        _draw_split_patients(rng, test, config.test_images),
    )


def _draw_split_patients(rng: np.random.Generator, names: list[str], images: int) -> list[_Patient]:
    counts = count_images(rng, len(names), images)
    pulls = rng.lognormal(0, 0.5, len(names))
    pulls[: int(_HEALTHY_PATIENTS * len(names))] = 0
    return [
        _Patient(name, int(count), float(pull), draw_stain(rng))
        for name, count, pull in zip(names, counts, pulls, strict=True)
    ]


def _draw_rows(rng: np.random.Generator, split: str, patients: list[_Patient]) -> pd.DataFrame:
    """One row an image in random order; ids are row numbers, which reveal nothing."""
    order = rng.permutation(np.repeat(np.arange(len(patients)), [p.images for p in patients]))
    parasitized = _choose_parasitized(rng, np.array([patients[place].pull for place in order]))
    rows = pd.DataFrame({"id": [f"{split}_{row:05}" for row in range(len(order))]})
    rows["split"] = split
    rows["patient"] = [patients[place].name for place in order]
    rows["true_label"] = rows["label"] = parasitized.astype(np.int64)
    rows["parasites"] = [_draw_names(rng, PARASITES) if ill else "" for ill in parasitized]
    rows["artefacts"] = [
        _draw_names(rng, ARTEFACTS)
        if rng.random() < (_ARTEFACT_IF_PARASITIZED if ill else _ARTEFACT_IF_HEALTHY)
        else ""
        for ill in parasitized
    ]
    rows["duplicate_of"] = ""
    return rows


def _choose_parasitized(rng: np.random.Generator, pulls: ndarray) -> Bool[ndarray, " rows"]:
    """Half of the images, or all that can be, drawn with chances proportional to `pulls`."""
    able = np.flatnonzero(pulls > 0)
    count = min(len(pulls) // 2, len(able))
    chosen = np.zeros(len(pulls), bool)
    shares = pulls[able] / pulls[able].sum()
    chosen[rng.choice(able, count, replace=False, p=shares)] = True
    return chosen


def _draw_names(rng: np.random.Generator, kinds: dict[str, tuple[Mark, float]]) -> str:
    """One mark, sometimes two or three, joined by "+"."""
    count = int(rng.choice([1, 2, 3], p=[0.75, 0.2, 0.05]))
    shares = [share for _, share in kinds.values()]
    return "+".join(rng.choice(list(kinds), count, p=shares))


def _draw_image(
    stains: dict[str, Stain], rng: np.random.Generator, record: dict[Any, Any]
) -> Image:
    return draw_cell(
        rng,
        stains[record["patient"]],
        [name for name in record["parasites"].split("+") if name],
        [name for name in record["artefacts"].split("+") if name],
    )
