"""How often the forecast holds where test is another population: python -m benchmarks.shift

A share of the out-of-fold groups of a project is test, and its images are damaged and predicted
again, each by the network that did not see it: their true score is known. One line per damage, with
and without the part that asks the networks; a table of docs/FORECAST.md. For classes. With --drawn
the competitions of benchmarks/calibration.py, whose test is no other population.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import pandas as pd
import typer

from benchmarks.calibration import SETTINGS, configure, most_probable
from benchmarks.patients import TASK, World, draw_competition
from pipeline.core import paths
from pipeline.core.competition import read_competition
from pipeline.core.tables import FOLD_COLUMNS, IMAGE_COLUMNS, read_table
from pipeline.core.task import Task
from pipeline.ensemble.blend import Prediction
from pipeline.ensemble.forecast.averaging import AveragingGain
from pipeline.ensemble.forecast.build import OutOfFoldRows, build_forecast
from pipeline.ensemble.forecast.drift import choose_groups
from pipeline.ensemble.forecast.intervals import PredictedScores, forecast
from pipeline.params import read_config
from pipeline.scoring.card import Forecast
from pipeline.scoring.metric import Metric
from pipeline.scoring.metrics import METRICS, metric_named
from pipeline.train.infer import BATCH, load_network, predict_batch

_MOST_OF_A_GROUP = 16
TEST_SHARE = 0.2
"""The rows of the groups."""

Damage = Callable[[Any, int, Any], Any]


def _blur(images: Any, level: int, _: Any) -> Any:
    return np.stack([cv2.GaussianBlur(image, (0, 0), 0.6 * level) for image in images])


def _shrink(images: Any, level: int, _: Any) -> Any:
    side = images.shape[1]
    small = (round(side / (1 + 0.7 * level)),) * 2
    return np.stack([cv2.resize(cv2.resize(i, small, interpolation=cv2.INTER_AREA), (side, side))
                     for i in images])  # fmt: skip


def _flatten(images: Any, level: int, _: Any) -> Any:
    mean = images.mean((1, 2), keepdims=True)
    return mean + (images - mean) * (1 - 0.25 * level)


DAMAGES: dict[str, Damage] = {
    "darker": lambda images, level, _: images * (1 - 0.2 * level),
    "brighter": lambda images, level, _: 255 - (255 - images) * (1 - 0.2 * level),
    "less contrast": _flatten,
    "noise": lambda images, level, rng: images + rng.normal(0, 8 * level, images.shape),
    "other colours": lambda images, level, _: images * (1, 1 - 0.1 * level, 1 + 0.1 * level),
    "blurred": _blur,
    "fewer pixels": _shrink,
}
"""What each does to float32 images of 0 to 255, at the levels 1 to 3."""

_COLUMNS = (
    "test is", "private score", "error rises by", "flagged", "held", "without", "width", "without",
    "rise over estimate",
)  # fmt: skip


@dataclass(frozen=True)
class Known:
    """A project's out-of-fold rows: what is needed to predict them again, and their labels."""

    task: Task
    metric: Metric
    table: pd.DataFrame
    """image_id, label, group, fold, and `place` in the array; sorted by fold."""

    @classmethod
    def read(cls, rows: int) -> "Known":
        """At most that many rows, of each group a few; the first repeat alone."""
        task = read_competition(paths.COMPETITION).task
        images = list(read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)["image_id"])
        table = read_table(paths.FOLDS, FOLD_COLUMNS)
        table = table[(table["repeat"] == "0") & (table["fold"] != "")]
        table = table.sample(frac=1, random_state=0).groupby("group").head(_MOST_OF_A_GROUP)[:rows]
        place_of = {image_id: place for place, image_id in enumerate(images)}
        table = table.assign(place=[place_of[each] for each in table["image_id"]])
        metric = metric_named(read_config(paths.PARAMS).ensemble.metric)
        return cls(task, metric, table.sort_values("fold", kind="stable"))

    @property
    def labels(self) -> Any:
        """As core/task.py has them."""
        return self.task.encode(paths.FOLDS, self.table["label"])

    def predict(self, damage: Damage | None, level: int) -> Any:
        """Each row by the first model's network of its fold, without views of test time."""
        images = np.load(paths.TRAIN_IMAGES, mmap_mode="r")
        rng, found = np.random.default_rng(0), []
        model = read_config(paths.PARAMS).train.members[0]
        for fold, rows in self.table.groupby("fold", sort=False):
            folder = paths.model_folder(model, int(str(fold)))
            network = load_network(folder / "weights.safetensors", "cpu")
            network.model.eval()
            for start in range(0, len(rows), BATCH):
                some = images[rows["place"].to_numpy()[start : start + BATCH]]
                if damage is not None:
                    damaged = damage(some.astype(np.float32), level, rng)
                    some = np.clip(damaged.round(), 0, 255).astype(np.uint8)
                found.append(predict_batch(network.model, some, network.compute, tta=False))
        return np.concatenate(found)


@dataclass(frozen=True)
class Trial:
    """One competition: its private score, and the forecast with and without the networks."""

    score: float
    rise: float
    """The rise of the error from the known rows to test."""
    asked: Forecast
    plain: PredictedScores

    @property
    def is_flagged(self) -> bool:
        """Whether test was found to be another population."""
        return self.asked.shift is not None and self.asked.shift.is_other

    @property
    def ratio(self) -> float:
        """The true rise over the one that the forecast is made with."""
        assert self.asked.shift is not None
        return self.rise / self.asked.shift.rises[self.asked.shift.strongest].beyond


def main(
    project: Annotated[Path, typer.Option(help="A folder after make run.")] = Path(),
    draws: Annotated[int, typer.Option(help="Competitions a line.", min=1)] = 100,
    rows: Annotated[int, typer.Option(help="Rows that are predicted.", min=100)] = 2500,
    kept: Annotated[Path | None, typer.Option(help="Predictions: kept here, or read.")] = None,
    drawn: Annotated[bool, typer.Option(help="The lines of benchmarks.calibration.")] = False,
) -> None:
    """Print how often the interval held the private score, damage by damage."""
    kept = kept and kept.absolute()
    os.chdir(project)
    print_head()
    if drawn:
        for name, (world, metric) in SETTINGS.items():
            print_line(name, (draw_trial(world, metric, seed) for seed in range(draws)))
        return
    known = Known.read(rows)
    lines: dict[str, tuple[Damage | None, int]] = {"as it is": (None, 0)}
    lines |= {f"{name}, {level}": (each, level) for name, each in DAMAGES.items()
              for level in (1, 2, 3)}  # fmt: skip
    stored = dict(np.load(kept)) if kept is not None and kept.is_file() else {}
    for line, (damage, level) in lines.items():
        if line not in stored:
            stored[line] = known.predict(damage, level)
            if kept is not None:
                np.savez(kept, **stored)
        print_line(line, trials(known, stored["as it is"], stored[line], draws))


def trials(known: Known, plain: Any, damaged: Any, draws: int) -> Iterator[Trial]:
    """Random groups of a fifth of the rows are test, damaged; the others are known as they are."""
    group_of_row = np.unique(known.table["group"], return_inverse=True)[1]
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        is_test = choose_groups(group_of_row, TEST_SHARE, rng)
        rows = known.table[~is_test]
        oof = OutOfFoldRows(
            known.task,
            list(rows["image_id"]),
            decide(known.task, plain[~is_test]),
            known.labels[~is_test],
            list(rows["group"]),
        )
        test = decide(known.task, damaged[is_test])
        yield forecast_both(known.metric, oof, test, [test], known.labels[is_test], seed)


def draw_trial(world: World, metric: str, seed: int) -> Trial:
    """A drawn competition whose test is no other population."""
    found = draw_competition(world, seed)
    ids = [str(row) for row in range(len(found.labels))]
    oof = OutOfFoldRows(TASK, ids, most_probable(found.probabilities), found.labels, found.groups)
    mean = most_probable(np.mean(found.test_by_fold, axis=0))
    by_fold = [most_probable(table) for table in found.test_by_fold]
    return forecast_both(METRICS[metric], oof, mean, by_fold, found.test_labels, seed)


def forecast_both(
    metric: Metric,
    oof: OutOfFoldRows,
    test: Prediction,
    by_fold: list[Prediction],
    truth: Any,
    seed: int,
) -> Trial:
    """The score of a random half of the test rows, and the forecasts of it."""
    config = configure(400, seed, 0.5)
    asked = build_forecast(metric, oof, test, by_fold, None, config)
    gain = AveragingGain(asked.gain.mean, asked.gain.spread, asked.gain.disagreement)
    known = metric.scorer(oof.prediction.values, oof.prediction.decided, oof.labels)
    bounds = (metric.lowest, metric.highest)
    plain = forecast(known, oof.groups, asked.rows, gain, None, bounds, config)
    rows = np.random.default_rng(seed).permutation(len(truth))[: asked.rows.private]
    return Trial(
        score=metric.score(test.values[rows], test.decided[rows], truth[rows]),
        rise=float((test.decided != truth).mean() - (oof.prediction.decided != oof.labels).mean()),
        asked=asked,
        plain=plain,
    )


def decide(task: Task, values: Any) -> Prediction:
    """Without a threshold."""
    return Prediction(values, task.decide(values, None))


def print_head() -> None:
    """The table's first two lines."""
    print(f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}", flush=True)


def print_line(name: str, found: Iterable[Trial]) -> None:
    """One damage's line."""
    lines = list(found)

    def mean(of: Callable[[Trial], float]) -> float:
        return float(np.mean([of(trial) for trial in lines]))

    ratios = [trial.ratio for trial in lines if trial.is_flagged]
    print(
        f"| {name} | {mean(lambda t: t.score):.4f} | {mean(lambda t: t.rise):+.4f} "
        f"| {mean(lambda t: t.is_flagged):.0%} "
        f"| {mean(lambda t: _holds(t.asked, t.score)):.0%} "
        f"| {mean(lambda t: _holds(t.plain, t.score)):.0%} "
        f"| {mean(lambda t: _width(t.asked)):.4f} | {mean(lambda t: _width(t.plain)):.4f} "
        f"| {f'{np.median(ratios):.2f}' if ratios else '–'} |",
        flush=True,
    )


def _holds(found: Forecast | PredictedScores, score: float) -> bool:
    return found.private[0] <= score <= found.private[1]


def _width(found: Forecast | PredictedScores) -> float:
    return found.private[1] - found.private[0]


if __name__ == "__main__":
    typer.run(main)
