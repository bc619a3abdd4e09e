"""Whether the forecast holds where a band of the groups is new: python -m benchmarks.bands

The darkest fifth of a project's groups, the sharpest, … are left out of a training of their own,
and are its test set, whose true score is known. One line per band, as in
benchmarks/shift.py; a table of docs/FORECAST.md.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
import yaml

from benchmarks.shift import TEST_SHARE, Trial, decide, forecast_both, print_head, print_line
from pipeline.core import paths
from pipeline.core.competition import read_competition
from pipeline.core.tables import (
    FOLD_COLUMNS,
    IMAGE_COLUMNS,
    read_csv,
    read_predictions,
    read_table,
)
from pipeline.ensemble.forecast.build import OutOfFoldRows
from pipeline.params import read_config
from pipeline.scoring.metrics import metric_named

BANDS: dict[str, Callable[[Any], Any]] = {
    "darkest": lambda images: images.mean((1, 2, 3)),
    "least contrast": lambda images: images.mean(3).std((1, 2)),
    "most contrast": lambda images: -images.mean(3).std((1, 2)),
    "reddest": lambda images: images[..., 2].mean((1, 2)) - images[..., 0].mean((1, 2)),
    "sharpest": lambda images: -np.abs(np.diff(images.mean(3), axis=1)).mean((1, 2)),
}
"""By what the groups are sorted; the first fifth of the images is left out. Of grey images reddest
are the groups of the first names."""


def main(
    folder: Annotated[Path, typer.Argument(help="Where the trainings go; those there are kept.")],
    project: Annotated[Path, typer.Option(help="A folder after make run.")] = Path(),
    rows: Annotated[int, typer.Option(help="Images of both sides.", min=100)] = 3000,
    epochs: Annotated[int, typer.Option(help="Of each training.", min=1)] = 5,
) -> None:
    """Print whether the interval held the private score, band by band."""
    folder = folder.absolute()
    os.chdir(project)
    print_head()
    for name, sort_by in BANDS.items():
        band = folder / name.replace(" ", "-")
        train_without(band, sort_by, rows, epochs)
        print_line(name, [score_band(band)])


def train_without(folder: Path, sort_by: Callable[[Any], Any], rows: int, epochs: int) -> None:
    """Train three folds on this project's images without a band of groups; a folder that has all
    networks stays."""
    if len(list(folder.glob("models/*/*/weights.safetensors"))) >= 3:
        return
    table, folds = (
        read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS),
        read_table(paths.FOLDS, FOLD_COLUMNS),
    )
    chosen = np.sort(np.random.default_rng(0).permutation(len(table))[:rows])
    table = table.iloc[chosen].reset_index(drop=True)
    group_of = dict(zip(folds["image_id"], folds["group"], strict=True))
    groups = table["image_id"].map(group_of)
    images = np.load(paths.TRAIN_IMAGES, mmap_mode="r")[chosen]
    order = pd.Series(sort_by(images.astype(np.float32))).groupby(groups).mean()
    sizes = groups.value_counts()[order.sort_values(kind="stable").index].cumsum()
    is_test = groups.isin(sizes.index[sizes <= TEST_SHARE * len(table)]).to_numpy()
    store = folder / paths.TRAIN_TABLE.parent
    store.mkdir(parents=True, exist_ok=True)
    for path in (paths.COMPETITION, paths.DECODING):
        (folder / path).write_bytes(path.read_bytes())
    table[is_test].to_csv(folder / "truth.csv", index=False)
    np.save(folder / paths.TRAIN_IMAGES, images[~is_test])
    np.save(folder / paths.TEST_IMAGES, images[is_test])
    table[~is_test].to_csv(folder / paths.TRAIN_TABLE, index=False)
    table[is_test].assign(label="", group="").to_csv(folder / paths.TEST_TABLE, index=False)
    sample = read_csv(paths.SAMPLE_SUBMISSION)
    answer = sample.iloc[0].to_dict()
    ids = {sample.columns[0]: table["row_id"][is_test]}
    pd.DataFrame(answer | ids).to_csv(folder / paths.SAMPLE_SUBMISSION, index=False)
    params = yaml.safe_load(paths.PARAMS.read_text())
    model = params["train"]["members"][0]
    params["split"]["folds"], params["train"]["folds"] = 3, [0, 1, 2]
    params["train"]["models"][model] |= {"epochs": epochs, "tta": False}
    (folder / paths.PARAMS).write_text(yaml.safe_dump(params, sort_keys=False))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    for stage in (["split"], *(["train", model, str(fold)] for fold in range(3))):
        subprocess.run(
            [sys.executable, "-m", "pipeline", *stage], cwd=folder, env=environment, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip


def score_band(folder: Path) -> Trial:
    """The one competition that train_without made."""
    task = read_competition(folder / paths.COMPETITION).task
    config = read_config(folder / paths.PARAMS)
    table = read_table(folder / paths.FOLDS, FOLD_COLUMNS).sort_values("fold", kind="stable")
    truth = read_csv(folder / "truth.csv")
    oof, tests = [], []
    for fold, rows in table.groupby("fold", sort=False):
        model = folder / paths.model_folder(config.train.members[0], int(str(fold)))
        oof.append(read_predictions(model / "oof.csv", list(rows["image_id"]), task))
        tests.append(read_predictions(model / "test.csv", list(truth["image_id"]), task))
    known = OutOfFoldRows(
        task,
        list(table["image_id"]),
        decide(task, np.concatenate(oof)),
        task.encode(paths.FOLDS, table["label"]),
        list(table["group"]),
    )
    labels = task.encode("truth.csv", truth["label"])
    by_fold = [decide(task, values) for values in tests]
    mean = decide(task, np.mean(tests, axis=0))
    return forecast_both(metric_named(config.ensemble.metric), known, mean, by_fold, labels, seed=1)


if __name__ == "__main__":
    typer.run(main)
