"""How often the forecast's interval contains the score: python -m benchmarks.calibration

Simulated competitions (benchmarks/patients.py), and re-splits of real out-of-fold predictions:
their patients are split at random into training patients and new ones, whose true scores are then
known. One line per setting; the table of docs/FORECAST.md. 5 min on one core, less with
--processes 2, which changes no figure.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from benchmarks.patients import TASK, World, draw_competition
from pipeline.core.tables import FOLD_COLUMNS, read_predictions, read_table
from pipeline.core.task import OneOf
from pipeline.ensemble.blend import Prediction
from pipeline.ensemble.config import ForecastConfig
from pipeline.ensemble.forecast.averaging import NO_GAIN
from pipeline.ensemble.forecast.build import OutOfFoldRows, build_forecast
from pipeline.ensemble.forecast.intervals import PredictedScores, forecast
from pipeline.ledger.explain import expect_private
from pipeline.scoring.card import Forecast, Halves
from pipeline.scoring.metrics import METRICS
from pipeline.scoring.scorers import mean_of

GOAL = (0.85, 0.95)
CONFIDENCE = 0.9

MALARIA_SIZES = tuple(
    np.rint(np.interp(np.linspace(0, 1, 41), [0, 0.25, 0.5, 0.75, 0.9, 0.97, 1],
                      [65, 72, 86, 130, 300, 600, 702])).astype(int).tolist()
)  # fmt: skip
"""Quantiles of the cells a patient in competitions/malaria/train_groups.csv: 65 to 702."""

SMALL = tuple(size // 4 for size in MALARIA_SIZES)
MALARIA = World(train=160, test=40, sizes=MALARIA_SIZES, spread=0.45, row=1.1)
SETTINGS: dict[str, tuple[World, str]] = {
    "like malaria: 160 patients, 40 new": (MALARIA, "accuracy"),
    "a quarter of the rows": (replace(MALARIA, sizes=SMALL), "accuracy"),
    "no patient differs": (replace(MALARIA, sizes=SMALL, spread=0.0), "accuracy"),
    "patients differ three times as much": (replace(MALARIA, sizes=SMALL, spread=1.3), "accuracy"),
    "40 patients, 20 new, error 8 %": (
        World(train=40, test=20, sizes=tuple(range(25, 56)), spread=0.45, ease=2.0, of_row=0.4),
        "accuracy",
    ),
    "20 patients, 6 new": (replace(MALARIA, train=20, test=6, sizes=SMALL), "accuracy"),
    "10 patients, 5 new": (replace(MALARIA, train=10, test=5, sizes=SMALL), "accuracy"),
    "2,000 rows without groups, 1,000 new": (
        replace(MALARIA, train=2000, test=1000, sizes=(1,)), "accuracy",
    ),
    "networks disagree four times as much": (
        replace(MALARIA, sizes=SMALL, of_row=0.8, of_patient=0.3), "accuracy",
    ),
    "public a fifth": (replace(MALARIA, sizes=SMALL, public_share=0.2), "accuracy"),
    "ROC AUC": (replace(MALARIA, sizes=SMALL), "roc_auc"),
    "log loss": (replace(MALARIA, sizes=SMALL), "log_loss"),
}  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One competition: which scores were in their intervals, and the figures behind that."""

    public: bool
    private: bool
    updated: bool
    """Whether the interval after the public score contained the private one."""
    below: bool
    """Private below its interval."""
    above: bool
    width: float
    score: float
    gain: float
    gain_found: float


@dataclass(frozen=True)
class Real:
    """Real out-of-fold rows, and the patient of each."""

    correct: Any
    """1 or 0 for each row."""
    patient: Any
    """For each row, in [0, patients)."""


def main(
    simulations: Annotated[int, typer.Option(help="Competitions per setting.", min=1)] = 200,
    resamples: Annotated[int, typer.Option(help="Draws per forecast.", min=200)] = 400,
    first: Annotated[int, typer.Option(help="Seed of the first competition.", min=0)] = 0,
    processes: Annotated[int, typer.Option(help="How many run side by side.", min=1)] = 1,
    oof: Annotated[Path, typer.Option(help="Out-of-fold table.")] = Path("ensemble/oof.csv"),
    folds: Annotated[Path, typer.Option(help="Its folds.")] = Path("folds/folds.csv"),
) -> None:
    """Print how often the 90 % interval contained the scores, setting by setting."""
    print(f"{simulations} competitions a line, nominal {CONFIDENCE:.0%}, {resamples} draws each")
    print("| competitions | private held | below | above | public held | private, public known "
          "| width | score | gain: true, estimated |\n|" + "---|" * 9, flush=True)  # fmt: skip
    lines: dict[str, Any] = {
        name: partial(simulate, world, metric, resamples)
        for name, (world, metric) in SETTINGS.items()
    }
    if oof.is_file():
        real = read_real(oof, folds)
        lines |= {
            f"{oof}: {share:.0%} of the patients known": partial(resplit, real, share, resamples)
            for share in (0.8, 0.5, 0.2)
        }
    seeds = range(first, first + simulations)
    with ProcessPoolExecutor(processes) as pool:
        held = [print_line(name, list(pool.map(trial, seeds))) for name, trial in lines.items()]
    missed = sum(not GOAL[0] <= share <= GOAL[1] for share in held)
    print(f"\n{'met' if not missed else 'MISSED'}: private held in {GOAL[0]:.0%} to {GOAL[1]:.0%} "
          f"on {len(held) - missed} of {len(held)} lines")  # fmt: skip


def simulate(world: World, metric_name: str, resamples: int, seed: int) -> Trial:
    """One simulated competition, forecast as stage `ensemble` does."""
    metric, found = METRICS[metric_name], draw_competition(world, seed)
    oof = most_probable(found.probabilities)
    ids = [f"{row:06}" for row in range(len(found.labels))]
    card = build_forecast(
        metric,
        OutOfFoldRows(TASK, ids, oof, found.labels, found.groups),
        most_probable(np.mean(found.test_by_fold, axis=0)),
        [most_probable(table) for table in found.test_by_fold],
        None,
        configure(resamples, seed, world.public_share),
    )
    public, private = (found.score(metric, usage) for usage in ("public", "private"))
    return _trial(card, public, private, found.gain(metric), card.gain.mean)


def read_real(oof: Path, folds: Path) -> Real:
    """The rows that have a prediction; a partial table has those of its folds."""
    table = read_table(folds, FOLD_COLUMNS).drop_duplicates("image_id")
    columns = pd.read_csv(oof, nrows=0).columns[1:]
    task = OneOf(classes=[name.removeprefix("p_") for name in columns])
    known = set(pd.read_csv(oof, usecols=["image_id"], dtype=str)["image_id"])
    table = table[table["image_id"].isin(known)]
    probabilities = read_predictions(oof, list(table["image_id"]), task)
    correct = probabilities.argmax(axis=1) == task.encode(folds, table["label"])
    return Real(correct.astype(float), np.unique(table["group"], return_inverse=True)[1])


def resplit(real: Real, share: float, resamples: int, seed: int) -> Trial:
    """Real out-of-fold rows: a share of the patients is known, the others are the test set.

    Both kinds of rows have one fold's model each, so there is no gain to forecast.
    """
    rng = np.random.default_rng(seed)
    patients = real.patient.max() + 1
    is_train = (rng.permutation(patients) < share * patients)[real.patient]
    test = rng.permutation(real.correct[~is_train])
    half = len(test) // 2
    found = forecast(
        mean_of(real.correct[is_train]),
        [str(name) for name in real.patient[is_train]],
        Halves(public=half, private=len(test) - half),
        NO_GAIN, None, (0.0, 1.0), configure(resamples, seed, 0.5),
    )  # fmt: skip
    return _trial(found, float(test[:half].mean()), float(test[half:].mean()), 0.0, 0.0)


def configure(resamples: int, seed: int, public_share: float) -> ForecastConfig:
    """The forecast at the nominal confidence."""
    return ForecastConfig(
        confidence=CONFIDENCE, resamples=resamples, seed=seed, public_share=public_share
    )


def most_probable(probabilities: Any) -> Prediction:
    """Without a threshold."""
    return Prediction(probabilities, probabilities.argmax(axis=1))


def _trial(
    found: Forecast | PredictedScores, public: float, private: float, gain: float, gain_found: float
) -> Trial:
    _, low, high = expect_private(found, public)
    return Trial(
        public=found.public[0] <= public <= found.public[1],
        private=found.private[0] <= private <= found.private[1],
        updated=low <= private <= high,
        below=private < found.private[0],
        above=private > found.private[1],
        width=found.private[1] - found.private[0],
        score=private,
        gain=gain,
        gain_found=gain_found,
    )


def print_line(name: str, trials: list[Trial]) -> float:
    """One setting's line; the share of private scores inside their intervals."""

    def mean(field: str) -> float:
        return float(np.mean([getattr(trial, field) for trial in trials]))

    print(
        f"| {name} | {mean('private'):.1%} | {mean('below'):.1%} | {mean('above'):.1%} "
        f"| {mean('public'):.1%} | {mean('updated'):.1%} | {mean('width'):.4f} "
        f"| {mean('score'):.4f} | {mean('gain'):+.4f}, {mean('gain_found'):+.4f} |",
        flush=True,
    )
    return mean("private")


if __name__ == "__main__":
    typer.run(main)
