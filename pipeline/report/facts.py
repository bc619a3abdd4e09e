"""Everything that the page says, read from the outputs of the stages and joined by id.

The same figures go to `dvc metrics`: page and file are made from one object.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from pipeline.core import paths
from pipeline.core.audit import Audit
from pipeline.core.competition import ImageDecoding, read_competition, read_decoding
from pipeline.core.errors import EnsembleError, TableError, examples, named
from pipeline.core.fold_summary import FoldSummary
from pipeline.core.record import read_record
from pipeline.core.tables import (
    FOLD_COLUMNS,
    IMAGE_COLUMNS,
    check_end,
    predictions_file,
    read_csv,
    read_ids,
    read_predictions,
    read_table,
)
from pipeline.core.task import Number, OneOf, Task
from pipeline.core.terminal import printable
from pipeline.report.diagnosis import (
    MOST_CLASSES,
    ClassReport,
    ConfusedPair,
    PredictedRows,
    Reliability,
    Roc,
    count_confusion,
    list_confused,
    measure_reliability,
    report_classes,
    trace_roc,
)
from pipeline.report.label_noise import LabelNoise, find_label_noise, judged_classes
from pipeline.scoring.card import Card, Forecast, Network, read_card
from pipeline.scoring.leaderboard import read_leaderboard
from pipeline.scoring.leak import Leak, read_leak
from pipeline.scoring.metric import Metric
from pipeline.scoring.metrics import metric_for


@dataclass(frozen=True)
class HalfScore:
    """The public or the private half of the leaderboard, scored with the solution."""

    name: str
    rows: int
    score: float
    is_as_forecast: bool | None
    """Whether the score is inside its forecast; None without one."""


@dataclass(frozen=True)
class Curve:
    """The history of one network: one value per epoch, by the column's name."""

    fold: int
    columns: dict[str, Float[ndarray, " epochs"]]
    images: int
    """How many it was trained on, including those of an inner split."""


@dataclass(frozen=True)
class ReportFacts:
    """The content of the page."""

    row: Literal["image", "signal"]
    """What a row of the store is, in words."""
    card: Card
    halves: list[HalfScore]
    """Empty without a solution."""
    audit: Audit
    folds: FoldSummary
    fold_scores: dict[int, float | None]
    """The score of each fold; None where the score is not defined or the fold was not trained."""
    curves: dict[str, list[Curve]]
    """The learning curves of each model."""
    rows: PredictedRows
    confusion: Int[ndarray, "classes classes"] | None
    """None where an image has not exactly one class, and of more classes than MOST_CLASSES."""
    confused: list[ConfusedPair]
    """Of more classes: the pairs that are confused most."""
    class_reports: list[ClassReport]
    """Empty of numbers."""
    reliability: Reliability | None
    """None of numbers."""
    roc: Roc | None
    """For the second of two classes; None with more classes, or where one has no row."""
    hardest_groups: pd.DataFrame
    """How many `rows` of each `group` are `wrong`, most wrong ones first; empty without groups."""
    noise: LabelNoise | None
    """None where fewer than two classes can be judged."""
    leak: Leak | None
    """What a split by row would score; None where it was not asked, or of other data."""

    @property
    def shown_classes(self) -> list[ClassReport]:
        """All classes; of more than MOST_CLASSES those that are recognised least."""
        if len(self.class_reports) <= MOST_CLASSES:
            return self.class_reports
        known = [each for each in self.class_reports if each.rows]
        return sorted(known, key=lambda each: each.sensitivity)[:MOST_CLASSES]


def read_facts(name: str) -> ReportFacts:
    """Read the outputs of all stages for the submission of that name, and compute the rest.

    Raises TableError or EnsembleError where a file is missing, is not what its stage writes, or
    does not belong to the others.
    """
    task = read_competition(paths.COMPETITION).task
    card = read_card(paths.card(name))
    card.blend.fitted.check_cuts(paths.card(name), task)
    folds = read_record(paths.FOLDS_SUMMARY, FoldSummary, "split")
    table = read_table(paths.FOLDS, FOLD_COLUMNS)
    train = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
    rows = read_rows(train, task, card.blend.fitted.cuts)
    _check_card(card, rows)
    is_first = table["image_id"].isin(train.drop_duplicates("row_id")["image_id"])
    counted = set(task.count(rows.labels))
    if any(not set(fold.shares) == set(fold.classes) == counted for fold in folds.folds):
        raise TableError(
            f"{paths.FOLDS_SUMMARY}: expected the classes {named(task.outputs)} in each fold, "
            "found others. Run: dvc repro --force split"
        )
    never = folds.only_trained.classes if folds.only_trained else ()
    metric = metric_for(card.metric.name, task, never)
    many = len(task.outputs) > MOST_CLASSES
    every_class = isinstance(task, OneOf) and len(np.unique(rows.labels)) == len(task.outputs)
    of_images = isinstance(read_decoding(paths.DECODING), ImageDecoding)
    return ReportFacts(
        row="image" if of_images else "signal",
        card=card,
        halves=_read_halves(card),
        audit=read_record(paths.AUDIT, Audit, "prepare"),
        folds=folds,
        fold_scores=_score_folds(folds, table[is_first], rows, metric),
        curves=_read_curves(card.networks, folds),
        rows=rows,
        confusion=count_confusion(rows) if isinstance(task, OneOf) and not many else None,
        confused=list_confused(rows) if isinstance(task, OneOf) and many else [],
        class_reports=report_classes(rows),
        reliability=None if isinstance(task, Number) else measure_reliability(rows),
        roc=trace_roc(rows.values[:, 1], rows.labels == 1)
        if len(task.outputs) == 2 and every_class
        else None,
        hardest_groups=_rank_groups(rows)
        if folds.grouped and not isinstance(task, Number)
        else pd.DataFrame(),
        noise=find_label_noise(rows) if len(judged_classes(rows)) > 1 else None,
        leak=_leak_of(card),
    )


def _leak_of(card: Card) -> Leak | None:
    """The record of command `leak`, where it is of the folds and images of the card."""
    leak, of = read_leak(card.name), card.sha256
    if leak and (leak.folds_sha256, leak.train_images_sha256) == (of.folds, of.train_images):
        return leak
    return None


def read_rows(train: pd.DataFrame, task: Task, cuts: list[float] | None) -> PredictedRows:
    """Read the out-of-fold table, and join labels, groups and the first image by row id.

    train: tables.IMAGE_COLUMNS. cuts: as the task's `decide` takes them. Raises TableError where
    the table and the store do not belong together.
    """
    first = train.drop_duplicates("row_id").set_index("row_id")
    table = predictions_file(paths.ENSEMBLE_OOF, task)
    row_ids = read_ids(table)
    values = read_predictions(table, row_ids, task)
    known = set(first.index)
    if unknown := [row_id for row_id in row_ids if row_id not in known]:
        raise TableError(
            f"{paths.ENSEMBLE_OOF}: expected images of {paths.TRAIN_TABLE}, found {len(unknown)} "
            f"of {len(row_ids)} others {examples(unknown)}. Run: dvc repro ensemble"
        )
    scored = first.loc[row_ids]
    return PredictedRows(
        image_ids=list(scored["image_id"]),
        groups=list(scored["group"]),
        task=task,
        labels=task.encode(paths.TRAIN_TABLE, scored["label"]),
        values=values,
        decided=task.decide(values, cuts),
    )


def list_figures(facts: ReportFacts) -> dict[str, Any]:
    """The page's figures for `dvc metrics`, which prints them on a terminal: to six decimals,
    without those that are not defined."""
    metric = facts.card.metric
    figures: dict[str, Any] = {
        "out_of_fold": {metric.name: metric.value},
        "leaderboard": {half.name: half.score for half in facts.halves},
        "folds": {str(fold): score for fold, score in facts.fold_scores.items()},
        "sensitivity": {printable(each.name): each.sensitivity for each in facts.shown_classes},
        "specificity": {printable(each.name): each.specificity for each in facts.shown_classes},
        "roc_auc": {printable(each.name): each.roc_auc for each in facts.shown_classes},
    }
    if facts.reliability:
        figures["expected_calibration_error"] = facts.reliability.error
    if facts.noise:
        figures["estimated_wrong_labels"] = facts.noise.wrong
    cleaned: dict[str, Any] = _rounded(figures)
    return cleaned


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        known = {name: item for name, item in value.items() if item is not None and item == item}
        return {name: _rounded(item) for name, item in known.items() if item != {}}
    return round(float(value), 6)


def _check_card(card: Card, rows: PredictedRows) -> None:
    """Raise TableError where the card is of other predictions.

    Two rows may differ, since the table has nine digits of a probability. With a threshold only
    their number can be compared: the card's accuracy is nested, by thresholds of other folds.
    """
    on_card, count = card.out_of_fold, len(rows.labels)
    accuracy, known = float(rows.right.mean()), on_card.accuracy
    is_fitted = card.blend.fitted.threshold is not None
    differs = known is not None and not is_fitted and abs(accuracy - known) * count > 2
    if count != on_card.rows or differs:
        raise TableError(
            f"{paths.card(card.name)}: expected the accuracy of {paths.ENSEMBLE_OOF}, "
            f"{accuracy:.6f} on {count} rows, found {known or 0:.6f} on {on_card.rows}: they "
            "are of different runs. Run: dvc repro --force ensemble"
        )


def _read_halves(card: Card) -> list[HalfScore]:
    solution = read_leaderboard(paths.LEADERBOARD, card.metric.name).solution
    if solution is None:
        return []
    halves = []
    for name, half in (("public", solution.public), ("private", solution.private)):
        score, inside = half.scores[card.metric.name], None
        if isinstance(card.forecast, Forecast):
            low, high = getattr(card.forecast, name)
            inside = low <= score <= high
        halves.append(HalfScore(name, half.rows, score, inside))
    return halves


def _score_folds(
    folds: FoldSummary, table: pd.DataFrame, rows: PredictedRows, metric: Metric
) -> dict[int, float | None]:
    """table: FOLD_COLUMNS of the first image of each row."""
    place_of = {image_id: place for place, image_id in enumerate(rows.image_ids)}
    scores: dict[int, float | None] = {}
    for fold in folds.folds:
        scores[fold.fold] = None
        ids = table.loc[table["fold"] == str(fold.fold), "image_id"]
        # If only some folds were trained, folds of other repeats have some rows, but not all.
        if len(ids) and ids.isin(place_of).all():
            places = np.array([place_of[image_id] for image_id in ids], np.int64)
            with suppress(EnsembleError):  # a metric that needs rows of each class
                scores[fold.fold] = metric.score(
                    rows.values[places], rows.decided[places], rows.labels[places]
                )
    return scores


def _read_curves(networks: list[Network], folds: FoldSummary) -> dict[str, list[Curve]]:
    size_of = {fold.fold: fold.rows for fold in folds.folds}
    curves: dict[str, list[Curve]] = {}
    for network in networks:
        path = paths.model_folder(network.model, network.fold) / "history.csv"
        table = read_csv(path)
        check_end(path, f"train@{network.model}-{network.fold}")
        if "epoch" not in table.columns or table.empty:
            raise TableError(
                f"{path}: expected a column epoch and rows, found {len(table)} rows of "
                f"{list(table.columns)}. "
                f"Run: dvc repro --force train@{network.model}-{network.fold}"
            )
        try:
            columns = {name: table[name].to_numpy(np.float64) for name in table.columns}
        except ValueError as error:
            raise TableError(f"{path}: expected numbers: {error}") from error
        images = folds.images - size_of.get(network.fold, 0)
        curves.setdefault(network.model, []).append(Curve(network.fold, columns, images))
    return curves


def _rank_groups(rows: PredictedRows) -> pd.DataFrame:
    wrong = pd.Series(~rows.right).groupby(rows.groups)
    counts = wrong.agg(rows="size", wrong="sum").rename_axis("group").reset_index()
    return counts.sort_values(["wrong", "rows", "group"], ascending=[False, True, True])
