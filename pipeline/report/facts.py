"""Everything that the page says, read from what the stages wrote and joined by id.

The same figures go to `dvc metrics`: page and file are made from one object.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from pipeline.core import paths
from pipeline.core.competition import read_competition
from pipeline.core.errors import EnsembleError, TableError, examples
from pipeline.core.shapes import Labels, Probabilities
from pipeline.core.tables import (
    FOLD_COLUMNS,
    IMAGE_COLUMNS,
    class_indices,
    read_csv,
    read_predictions,
    read_table,
)
from pipeline.report.diagnosis import (
    ClassReport,
    Reliability,
    Roc,
    count_confusion,
    measure_reliability,
    report_classes,
    trace_roc,
)
from pipeline.report.label_noise import NoiseEstimate, estimate_label_noise, rank_label_noise
from pipeline.report.records import (
    Audit,
    Card,
    Fold,
    Folds,
    Leaderboard,
    Member,
    read_record,
)
from pipeline.scoring.metrics import decide, metric_named

_NOISE_RESAMPLES = 200
_NOISE_SEED = 0


@dataclass(frozen=True)
class Rows:
    """The out-of-fold rows of the ensemble; all run along."""

    image_ids: list[str]
    groups: list[str]
    labels: Labels
    probabilities: Probabilities
    predicted: Labels


@dataclass(frozen=True)
class Half:
    """A half of the leaderboard whose score is known."""

    name: str
    rows: int
    score: float


@dataclass(frozen=True)
class FoldScore:
    """A fold, and the ensemble's score on the rows that it scores; None where there is none."""

    fold: Fold
    score: float | None


@dataclass(frozen=True)
class Curve:
    """The history of one network: a value an epoch, by the column's name."""

    fold: int
    columns: dict[str, Float[ndarray, " epochs"]]
    images: int
    """That it was trained on, those of an inner split included."""


@dataclass(frozen=True)
class GroupScore:
    """How many rows of a group are wrong."""

    group: str
    rows: int
    wrong: int


@dataclass(frozen=True)
class Noise:
    """Labels that are probably wrong; ranking: noise.NOISE_COLUMNS, by image id."""

    estimate: NoiseEstimate
    ranking: pd.DataFrame


@dataclass(frozen=True)
class Facts:
    """The content of the page."""

    classes: list[str]
    card: Card
    leaderboard: Leaderboard
    halves: list[Half]
    audit: Audit
    folds: Folds
    fold_scores: list[FoldScore]
    curves: dict[str, list[Curve]]
    """By model."""
    rows: Rows
    confusion: Int[ndarray, "classes classes"]
    class_reports: list[ClassReport]
    reliability: Reliability
    roc: Roc | None
    """Of the second of two classes."""
    hardest_groups: list[GroupScore]
    """Those with most wrong rows first; empty without groups."""
    noise: Noise | None
    """None where a class has no out-of-fold row."""


def read_facts(name: str) -> Facts:
    """Read and compute everything of the submission of that name.

    Raises TableError where a file is missing, is not what its stage writes, or does not belong
    to the others.
    """
    classes = read_competition(paths.COMPETITION).classes
    card = read_record(paths.card(name), Card, "ensemble")
    leaderboard = read_record(paths.LEADERBOARD, Leaderboard, "check")
    folds = read_record(paths.FOLDS_SUMMARY, Folds, "split")
    table = read_table(paths.FOLDS, FOLD_COLUMNS)
    rows = _read_rows(card, classes)
    confusion = count_confusion(rows.labels, rows.predicted, len(classes))
    return Facts(
        classes=classes,
        card=card,
        leaderboard=leaderboard,
        halves=_read_halves(leaderboard, card.score.name),
        audit=read_record(paths.AUDIT, Audit, "prepare"),
        folds=folds,
        fold_scores=_score_folds(folds, table, rows, card.score.name),
        curves=_read_curves(card.members, folds),
        rows=rows,
        confusion=confusion,
        class_reports=report_classes(confusion, rows.probabilities, rows.labels, classes),
        reliability=measure_reliability(rows.probabilities, rows.predicted, rows.labels, classes),
        roc=trace_roc(rows.probabilities[:, 1], rows.labels == 1) if len(classes) == 2 else None,
        hardest_groups=_rank_groups(rows) if folds.grouped else [],
        noise=_read_noise(rows, classes),
    )


def list_figures(facts: Facts) -> dict[str, Any]:
    """The page's figures for `dvc metrics`, to six decimals; those that do not exist left out."""
    score = facts.card.score
    figures: dict[str, Any] = {
        "out_of_fold": {score.name: score.value},
        "leaderboard": {half.name: half.score for half in facts.halves},
        "folds": {str(each.fold.fold): each.score for each in facts.fold_scores},
        "sensitivity": {each.name: each.sensitivity for each in facts.class_reports},
        "specificity": {each.name: each.specificity for each in facts.class_reports},
        "roc_auc": {each.name: each.roc_auc for each in facts.class_reports},
        "expected_calibration_error": facts.reliability.error,
    }
    if facts.noise:
        figures["estimated_wrong_labels"] = facts.noise.estimate.wrong
    cleaned: dict[str, Any] = _rounded(figures)
    return cleaned


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        known = {name: item for name, item in value.items() if item is not None and item == item}
        return {name: _rounded(item) for name, item in known.items() if item != {}}
    return round(float(value), 6)


def _read_rows(card: Card, classes: list[str]) -> Rows:
    train = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS).set_index("image_id")
    image_ids = list(read_csv(paths.ENSEMBLE_OOF).get("image_id", []))
    probabilities = read_predictions(paths.ENSEMBLE_OOF, image_ids, classes)
    known = set(train.index)
    if unknown := [image_id for image_id in image_ids if image_id not in known]:
        raise TableError(
            f"{paths.ENSEMBLE_OOF}: expected images of {paths.TRAIN_TABLE}, found {len(unknown)} "
            f"of {len(image_ids)} others {examples(unknown)}. Run: dvc repro ensemble"
        )
    scored = train.loc[image_ids]
    labels = class_indices(paths.TRAIN_TABLE, scored["label"], classes)
    threshold = card.blend.threshold if card.blend else None
    predicted = decide(probabilities, threshold)
    _check_card(card, float((predicted == labels).mean()), len(labels), threshold is not None)
    return Rows(image_ids, list(scored["group"]), labels, probabilities, predicted)


def _check_card(card: Card, accuracy: float, rows: int, is_fitted: bool) -> None:
    """The card is of these predictions, unless thresholds of other folds decided its classes.

    Two rows may differ: the table has nine digits of a probability.
    """
    told = card.out_of_fold
    far = not is_fitted and abs(accuracy - told.accuracy) * rows > 2
    if rows != told.rows or far:
        raise TableError(
            f"{paths.card(card.name)}: expected the accuracy of {paths.ENSEMBLE_OOF}, "
            f"{accuracy:.6f} on {rows} rows, found {told.accuracy:.6f} on {told.rows}: they are of "
            "different runs. Run: dvc repro --force ensemble"
        )


def _read_halves(leaderboard: Leaderboard, metric: str) -> list[Half]:
    """None where `check` scored by another metric than the card's."""
    found = []
    for name, scores in (leaderboard.solution or {}).items():
        score, rows = scores.get(metric), scores.get("rows")
        if isinstance(score, int | float) and isinstance(rows, int):
            found.append(Half(name, rows, float(score)))
    return found


def _score_folds(folds: Folds, table: pd.DataFrame, rows: Rows, metric: str) -> list[FoldScore]:
    place_of = {image_id: place for place, image_id in enumerate(rows.image_ids)}
    known = table[table["image_id"].isin(place_of)]
    places = {
        fold: np.array([place_of[image_id] for image_id in ids])
        for fold, ids in known.groupby("fold")["image_id"]
    }
    found = []
    for fold in folds.folds:
        score = None
        # Of one fold alone, other folds of other repeats share rows: these are not its own.
        if str(fold.fold) in places and len(places[str(fold.fold)]) == fold.rows:
            score = _score(rows, places[str(fold.fold)], metric)
        found.append(FoldScore(fold, score))
    return found


def _score(rows: Rows, places: Int[ndarray, " some"], metric: str) -> float | None:
    try:
        return metric_named(metric, rows.probabilities.shape[1]).score(
            rows.probabilities[places], rows.predicted[places], rows.labels[places]
        )
    except EnsembleError:  # a fold without a class: some metrics are not defined there
        return None


def _read_curves(members: list[Member], folds: Folds) -> dict[str, list[Curve]]:
    size_of = {fold.fold: fold.rows for fold in folds.folds}
    curves: dict[str, list[Curve]] = {}
    for member in members:
        if member.fold is None:
            continue
        path = paths.model_folder(member.model, member.fold) / "history.csv"
        table = read_csv(path)
        if "epoch" not in table.columns:
            raise TableError(
                f"{path}: expected a column epoch, found {list(table.columns)}. "
                f"Run: dvc repro --force train@{member.model}-{member.fold}"
            )
        try:
            columns = {name: table[name].to_numpy(np.float64) for name in table.columns}
        except ValueError as error:
            raise TableError(f"{path}: expected numbers: {error}") from error
        images = folds.images - size_of.get(member.fold, 0)
        curves.setdefault(member.model, []).append(Curve(member.fold, columns, images))
    return curves


def _rank_groups(rows: Rows) -> list[GroupScore]:
    wrong = pd.Series(rows.predicted != rows.labels).groupby(rows.groups).agg(["size", "sum"])
    found = [
        GroupScore(str(group), int(size), int(count))
        for group, size, count in wrong.itertuples(name=None)
    ]
    return sorted(found, key=lambda each: (-each.wrong, each.rows, each.group))


def _read_noise(rows: Rows, classes: list[str]) -> Noise | None:
    if len(np.unique(rows.labels)) < len(classes):
        return None
    estimate = estimate_label_noise(
        rows.labels, rows.probabilities, rows.groups, classes, _NOISE_RESAMPLES, _NOISE_SEED
    )
    ranking = rank_label_noise(
        rows.image_ids, rows.labels, rows.probabilities, rows.groups, classes
    )
    return Noise(estimate, ranking.set_index("image_id"))
