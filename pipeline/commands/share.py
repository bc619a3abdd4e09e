"""Command `share`: a trained model as the two tables of a teammate's `ensemble.external`."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.core import paths
from pipeline.core.competition import read_competition
from pipeline.core.errors import EnsembleError
from pipeline.core.ours import refuse_others, remember
from pipeline.core.progress import say
from pipeline.core.tables import (
    FOLD_COLUMNS,
    IMAGE_COLUMNS,
    predictions_file,
    read_predictions,
    read_table,
    write_predictions,
    write_table,
)
from pipeline.core.task import Task
from pipeline.core.terminal import print_line


def run(model: str, folds: list[int], folder: Path, outputs: Sequence[Path] = ()) -> None:
    """Write FOLDER/MODEL-oof.csv, with a column `fold`, and MODEL-test.csv, and print the entry.

    Test is the mean of the networks of all folds. outputs: of the stages, which remove what lies
    there. Raises EnsembleError unless `folds` are those of one repeat, TableError where a network's
    table is missing or damaged, OutputError for a place in `outputs` or with another file.
    """
    table = read_table(paths.FOLDS, FOLD_COLUMNS)
    of_one_repeat = [set(rows["fold"]) - {""} for _, rows in table.groupby("repeat")]
    if {str(fold) for fold in folds} not in of_one_repeat:
        raise EnsembleError(
            f"share: expected train.folds to be all folds of one repeat, so that each image is "
            f"predicted once, found {folds} of {sorted(map(sorted, of_one_repeat))}"
        )
    task = read_competition(paths.COMPETITION).task
    oof, test = folder / f"{model}-oof.csv", folder / f"{model}-test.csv"
    refuse_others(oof, test, reserved=[*paths.OWN_FILES, *outputs])
    test_ids = list(read_table(paths.TEST_TABLE, IMAGE_COLUMNS)["image_id"])
    found = [_read_fold(model, fold, table, task) for fold in folds]
    tests = [_read(model, fold, "test.csv", test_ids, task) for fold in folds]
    folder.mkdir(parents=True, exist_ok=True)
    write_table(oof, pd.concat(found).loc[_in_order(table, folds)].reset_index())
    remember(oof)
    write_predictions(test, test_ids, np.mean(tests, axis=0), task)
    remember(test)
    digest = hashlib.sha256(oof.read_bytes() + test.read_bytes()).hexdigest()
    say(f"{oof}, {test}: for params.yaml: ensemble.external of one who has the same folds.csv:")
    print_line(
        f"- {{name: {model}_of_ours, oof: {oof}, test: {test}, folds: checked,\n"
        f"   sha256: {digest}}}"
    )


def _in_order(table: pd.DataFrame, folds: list[int]) -> list[str]:
    return list(table["image_id"][table["fold"].isin([str(fold) for fold in folds])])


def _read_fold(model: str, fold: int, table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The out-of-fold predictions of a fold by image id, with its number, as they are written."""
    ids = list(table["image_id"][table["fold"] == str(fold)])
    values = _read(model, fold, "oof.csv", ids, task)
    rows = pd.DataFrame(values, columns=task.columns).map("{:.9g}".format)
    rows.insert(0, "fold", fold)
    return rows.set_index(pd.Index(ids, name="image_id"))


def _read(model: str, fold: int, name: str, ids: list[str], task: Task) -> np.ndarray:
    file = predictions_file(paths.model_folder(model, fold) / name, task)
    return read_predictions(file, ids, task)
