"""Stage `split`: folds/folds.csv from the training table."""

import json

from pipeline.core import paths
from pipeline.core.competition import read_competition
from pipeline.core.files import write_text
from pipeline.core.progress import say
from pipeline.core.tables import IMAGE_COLUMNS, read_table, write_table
from pipeline.split.config import SplitConfig
from pipeline.split.folds import make_folds, summarise_folds


def run(config: SplitConfig) -> None:
    """Write the table of folds and its summary. Raises FoldError as folds.py states."""
    images = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
    classes = read_competition(paths.COMPETITION).classes
    folds = make_folds(images, classes, config.folds, config.seeds)
    summary = summarise_folds(folds, images, classes)
    write_table(paths.FOLDS, folds)
    write_text(paths.FOLDS_SUMMARY, json.dumps(summary, indent=2) + "\n")
    for fold, rows in folds.groupby("fold"):
        shares = rows["label"].value_counts(normalize=True)
        balance = ", ".join(f"{shares[name]:.1%} {name}" for name in classes)
        say(f"fold {fold}: {len(rows)} images, {rows['group'].nunique()} groups, {balance}")
