"""Stage `split`: folds/folds.csv from the training table."""

from pipeline.core import paths
from pipeline.core.competition import read_competition
from pipeline.core.progress import say
from pipeline.core.record import write_record
from pipeline.core.tables import IMAGE_COLUMNS, read_table, write_table
from pipeline.split.config import SplitConfig
from pipeline.split.folds import make_folds, summarise_folds


def run(config: SplitConfig) -> None:
    """Write the table of folds and its summary. Raises FoldError as folds.py states."""
    images = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
    task = read_competition(paths.COMPETITION).task
    folds = make_folds(images, task, config.folds, config.seeds, config.rare)
    summary = summarise_folds(folds, images, task)
    write_table(paths.FOLDS, folds)
    write_record(paths.FOLDS_SUMMARY, summary)
    for fold in summary.folds:
        balance = "".join(f", {share:.1%} {name}" for name, share in fold.shares.items())
        say(f"fold {fold.fold}: {fold.rows} images, {fold.groups} groups{balance}")
    if summary.only_trained:
        say(summary.only_trained.sentence)
