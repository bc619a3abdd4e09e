"""Everything that the page says, read from the outputs of the stages and joined by image id.

The same figures go to `dvc metrics`: page and file are made from one object.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from pipeline.core import paths
from pipeline.core.audit import Audit
from pipeline.core.competition import read_competition
from pipeline.core.errors import EnsembleError, TableError, examples
from pipeline.core.fold_summary import FoldSummary
from pipeline.core.record import read_record
from pipeline.core.tables import (
    FOLD_COLUMNS,
    IMAGE_COLUMNS,
    class_indices,
    read_csv,
    read_predictions,
    read_table,
)
from pipeline.core.terminal import printable
from pipeline.report.diagnosis import (
    ClassReport,
    PredictedRows,
    Reliability,
    Roc,
    count_confusion,
    measure_reliability,
    report_classes,
    trace_roc,
)
from pipeline.report.label_noise import LabelNoise, find_label_noise
from pipeline.scoring.card import Card, Network, read_card
from pipeline.scoring.leaderboard import read_leaderboard
from pipeline.scoring.metrics import METRICS, decide


@dataclass(frozen=True)
class HalfScore:
    """The public or the private half of the leaderboard, scored with the solution."""

    name: str
    rows: int
    score: float
    is_as_forecast: bool
    """Whether the score is inside its forecast."""


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
    confusion: Int[ndarray, "classes classes"]
    class_reports: list[ClassReport]
    reliability: Reliability
    roc: Roc | None
    """For the second of two classes; None with more classes, or where one has no row."""
    hardest_groups: pd.DataFrame
    """How many `rows` of each `group` are `wrong`, most wrong ones first; empty without groups."""
    noise: LabelNoise | None
    """None where a class has no out-of-fold row."""


def read_facts(name: str) -> ReportFacts:
    """Read the outputs of all stages for the submission of that name, and compute the rest.

    Raises TableError where a file is missing, is not what its stage writes, or does not belong
    to the others.
    """
    classes = read_competition(paths.COMPETITION).classes
    card = read_card(paths.card(name))
    folds = read_record(paths.FOLDS_SUMMARY, FoldSummary, "split")
    table = read_table(paths.FOLDS, FOLD_COLUMNS)
    rows = read_rows(classes, card.blend.fitted.threshold)
    _check_card(card, rows)
    if any(not set(fold.shares) == set(fold.classes) == set(classes) for fold in folds.folds):
        raise TableError(
            f"{paths.FOLDS_SUMMARY}: expected the classes {classes} in each fold, found others. "
            "Run: dvc repro --force split"
        )
    every_class = len(np.unique(rows.labels)) == len(classes)
    return ReportFacts(
        card=card,
        halves=_read_halves(card),
        audit=read_record(paths.AUDIT, Audit, "prepare"),
        folds=folds,
        fold_scores=_score_folds(folds, table, rows, card.metric.name),
        curves=_read_curves(card.networks, folds),
        rows=rows,
        confusion=count_confusion(rows),
        class_reports=report_classes(rows),
        reliability=measure_reliability(rows),
        roc=trace_roc(rows.probabilities[:, 1], rows.labels == 1)
        if len(classes) == 2 and every_class
        else None,
        hardest_groups=_rank_groups(rows) if folds.grouped else pd.DataFrame(),
        noise=find_label_noise(rows) if every_class else None,
    )


def read_rows(classes: list[str], threshold: float | None) -> PredictedRows:
    """Read the out-of-fold table, and join labels and groups to it by image id.

    threshold: from which probability on the second of two classes is predicted; None for the most
    probable class. Raises TableError where the table and the store do not belong together.
    """
    train = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS).set_index("image_id")
    image_ids = list(read_csv(paths.ENSEMBLE_OOF).get("image_id", []))
    if not paths.ENSEMBLE_OOF.read_bytes().endswith(b"\n"):  # nobody else counts its rows
        raise TableError(f"{paths.ENSEMBLE_OOF}: its last line is cut. Run: dvc repro ensemble")
    probabilities = read_predictions(paths.ENSEMBLE_OOF, image_ids, classes)
    known = set(train.index)
    if unknown := [image_id for image_id in image_ids if image_id not in known]:
        raise TableError(
            f"{paths.ENSEMBLE_OOF}: expected images of {paths.TRAIN_TABLE}, found {len(unknown)} "
            f"of {len(image_ids)} others {examples(unknown)}. Run: dvc repro ensemble"
        )
    scored = train.loc[image_ids]
    return PredictedRows(
        image_ids=image_ids,
        groups=list(scored["group"]),
        labels=class_indices(paths.TRAIN_TABLE, scored["label"], classes),
        probabilities=probabilities,
        predicted=decide(probabilities, threshold),
        classes=classes,
    )


def list_figures(facts: ReportFacts) -> dict[str, Any]:
    """The page's figures for `dvc metrics`, which prints them on a terminal: to six decimals,
    without those that are not defined."""
    metric = facts.card.metric
    figures: dict[str, Any] = {
        "out_of_fold": {metric.name: metric.value},
        "leaderboard": {half.name: half.score for half in facts.halves},
        "folds": {str(fold): score for fold, score in facts.fold_scores.items()},
        "sensitivity": {printable(each.name): each.sensitivity for each in facts.class_reports},
        "specificity": {printable(each.name): each.specificity for each in facts.class_reports},
        "roc_auc": {printable(each.name): each.roc_auc for each in facts.class_reports},
        "expected_calibration_error": facts.reliability.error,
    }
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
    accuracy = float((rows.predicted == rows.labels).mean())
    is_fitted = card.blend.fitted.threshold is not None
    differs = not is_fitted and abs(accuracy - on_card.accuracy) * count > 2
    if count != on_card.rows or differs:
        raise TableError(
            f"{paths.card(card.name)}: expected the accuracy of {paths.ENSEMBLE_OOF}, "
            f"{accuracy:.6f} on {count} rows, found {on_card.accuracy:.6f} on {on_card.rows}: they "
            "are of different runs. Run: dvc repro --force ensemble"
        )


def _read_halves(card: Card) -> list[HalfScore]:
    solution = read_leaderboard(paths.LEADERBOARD, card.metric.name).solution
    if solution is None:
        return []
    return [
        HalfScore(name, half.rows, score := half.scores[card.metric.name], low <= score <= high)
        for name, half, (low, high) in (
            ("public", solution.public, card.forecast.public),
            ("private", solution.private, card.forecast.private),
        )
    ]


def _score_folds(
    folds: FoldSummary, table: pd.DataFrame, rows: PredictedRows, metric: str
) -> dict[int, float | None]:
    place_of = {image_id: place for place, image_id in enumerate(rows.image_ids)}
    known = table[table["image_id"].isin(place_of)]
    scores: dict[int, float | None] = {}
    for fold in folds.folds:
        scores[fold.fold] = None
        ids = known.loc[known["fold"] == str(fold.fold), "image_id"]
        # If only some folds were trained, folds of other repeats have some rows, but not all.
        if len(ids) == fold.rows:
            places = np.array([place_of[image_id] for image_id in ids], np.int64)
            with suppress(EnsembleError):  # a metric that needs rows of each class
                scores[fold.fold] = METRICS[metric].score(
                    rows.probabilities[places], rows.predicted[places], rows.labels[places]
                )
    return scores


def _read_curves(networks: list[Network], folds: FoldSummary) -> dict[str, list[Curve]]:
    size_of = {fold.fold: fold.rows for fold in folds.folds}
    curves: dict[str, list[Curve]] = {}
    for network in networks:
        path = paths.model_folder(network.model, network.fold) / "history.csv"
        table = read_csv(path)
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
    wrong = pd.Series(rows.predicted != rows.labels).groupby(rows.groups)
    counts = wrong.agg(rows="size", wrong="sum").rename_axis("group").reset_index()
    return counts.sort_values(["wrong", "rows", "group"], ascending=[False, True, True])
