"""Real cells of a downloaded competition, held out by patient, in the two forms of drawn.py.

The folder is laid out as competitions/malaria is: train_data.zip, train_labels.csv (id, label: 0
or 1) and train_groups.csv (id, patient). The held-out cells are of the patients of one fold of
five, as stage `split` deals them, those to train on of the other patients.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import typer

from benchmarks.drawn import TASK, Drawn, store
from pipeline.core.tables import read_csv

FILES = ["train_data.zip", "train_labels.csv", "train_groups.csv"]
FOLDS = 5
SEED = 1


def check_folder(competition: Path) -> None:
    """Raise BadParameter, which ends with one sentence, unless the files are there."""
    for name in FILES:
        if not (competition / name).is_file():
            raise typer.BadParameter(
                f"{competition / name}: no such file. docs/DATA.md says how to get the real "
                "cells; without --data drawn ones are used"
            )


def pick(
    competition: Path, folder: Path, train_images: int, held_images: int, size_px: int
) -> tuple[Drawn, Drawn]:
    """Store some cells to train on, and held-out ones of other patients."""
    from pipeline.split.folds import assign_folds

    archive, labels, groups = (competition / name for name in FILES)
    table = read_csv(labels).merge(read_csv(groups), on="id", validate="one_to_one")
    fold = assign_folds(TASK, list(table["label"]), list(table["patient"]), FOLDS, SEED)
    train = _sample(table[fold != 0], train_images, "--images")
    held = _sample(table[fold == 0], held_images, "--held")
    patients = f"{train['patient'].nunique()} patients, {held['patient'].nunique()} held out"
    print(f"{competition}: {len(train)} and {len(held)} cells, {patients}", flush=True)
    return (
        store(folder / "train", archive, train, size_px),
        store(folder / "held", archive, held, size_px),
    )


def _sample(table: pd.DataFrame, wanted: int, option: str) -> pd.DataFrame:
    if wanted > len(table):
        raise typer.BadParameter(f"{option}: expected at most {len(table)} here, found {wanted}")
    rows = np.random.default_rng(SEED).permutation(len(table))[:wanted]
    return table.iloc[np.sort(rows)]
