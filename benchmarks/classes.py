"""How much memory stage `ensemble` takes with thousands of classes.

    python -m benchmarks.classes 1010 3000

Made-up networks predict so many classes for so many training and test rows, in three folds. The
stage runs as a process of its own, whose peak is printed.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from pipeline.core import paths
from pipeline.core.competition import Competition
from pipeline.core.record import write_record
from pipeline.core.tables import (
    IMAGE_COLUMNS,
    predictions_file,
    write_predictions,
    write_table,
)
from pipeline.core.task import OneOf
from pipeline.scoring.metrics import metric_named

FOLDS = 3
ROOT = Path(__file__).parent.parent


def predict(rows: int, task: OneOf, labels: np.ndarray, seed: int) -> np.ndarray:
    """Probabilities of which the label's is often the largest."""
    generator = np.random.default_rng(seed)
    values = generator.random((rows, len(task.classes)), dtype=np.float32) ** 8
    values[np.arange(rows), labels] += generator.random(rows) * len(task.classes) / 50
    return np.asarray(values / values.sum(axis=1, keepdims=True), np.float64)


def make(classes: int, rows: int, metric: str) -> None:
    """The outputs of `prepare`, `split` and `train` in the working directory."""
    task = OneOf(classes=[f"c{place}" for place in range(classes)])
    labels = np.random.default_rng(1).permutation(np.arange(rows) % classes)
    write_record(paths.COMPETITION, Competition(id_column="id", label_column="label", task=task))
    images = pd.DataFrame("4", index=range(rows), columns=IMAGE_COLUMNS)
    images["image_id"] = images["row_id"] = images["duplicate"] = [f"i{r}" for r in range(rows)]
    images["group"] = images["image_id"]
    images["label"] = [task.classes[label] for label in labels]
    write_table(paths.TRAIN_TABLE, images)
    test = images.assign(image_id=[f"t{row}" for row in range(rows)], label="", group="")
    test["row_id"] = test["image_id"]
    write_table(paths.TEST_TABLE, test)
    scored = metric_named(metric)
    each = scored.needs == "predictions" and not scored.best
    columns = task.classes if each else ["label"]
    sample = pd.DataFrame("0" if each else "c0", index=range(rows), columns=columns)
    sample.insert(0, "id", test["image_id"])
    write_table(paths.SAMPLE_SUBMISSION, sample)
    pixels = np.random.default_rng(3).integers(0, 256, (rows, 8, 8, 3), np.uint8)
    np.save(paths.TRAIN_IMAGES, pixels)
    np.save(paths.TEST_IMAGES, pixels)
    fold = np.arange(rows) % FOLDS
    folds = images[["image_id", "label", "group"]].assign(repeat="0", fold=fold)
    write_table(paths.FOLDS, folds)
    for number in range(FOLDS):
        folder, own = paths.model_folder("one", number), np.flatnonzero(fold == number)
        oof = predict(len(own), task, labels[own], number)
        ids = [f"i{row}" for row in own]
        write_predictions(predictions_file(folder / "oof.csv", task), ids, oof, task)
        of_test = predict(rows, task, labels, 10 + number)
        write_predictions(
            predictions_file(folder / "test.csv", task), list(test["image_id"]), of_test, task
        )
        save_file({"bias": np.array([number])}, folder / "weights.safetensors")


RUN = """\
import sys
from pipeline.ensemble import stage
from pipeline.ensemble.config import EnsembleConfig
blend, _, calibration = sys.argv[3].partition("+")
choices = {"name": "tiny", "metric": sys.argv[1], "blend": blend,
    "calibration": calibration or "none",
    "threshold": "none", "greedy_rounds": 10, "stack_l2": 1.0, "external": [], "confidence": 0.95,
    "resamples": 200, "seed": 1,
    "forecast": {"confidence": 0.9, "resamples": 200, "seed": 1, "public_share": 0.5}}
stage.run(EnsembleConfig.model_validate(choices), ["one"], list(range(int(sys.argv[2]))))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("classes", type=int)
    parser.add_argument("rows", type=int)
    parser.add_argument("--metric", default="accuracy")
    parser.add_argument("--blend", default="mean", help="mean, or mean+temperature")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-c", f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); "
             f"os.chdir({folder!r}); from benchmarks.classes import make; "
             f"make({chosen.classes}, {chosen.rows}, {chosen.metric!r})"],
            check=True, cwd=ROOT,
        )  # fmt: skip
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", RUN, chosen.metric, str(FOLDS), chosen.blend],
            check=True, cwd=folder, env={"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(
            f"{chosen.classes:,} classes, {chosen.rows:,} rows, {chosen.metric}, {chosen.blend}: "
            f"ensemble {peak:.2f} GiB, {time.perf_counter() - began:.0f} s"
        )


if __name__ == "__main__":
    main()
