"""Stage `ensemble`: the submission, its card, and the ensemble's out-of-fold table.

Every figure on the card is nested: each row is predicted by a blend that was chosen and fitted
without its fold. So is ensemble/oof.csv. The submission is from the blend fitted on all rows.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core import paths
from pipeline.core.competition import read_competition
from pipeline.core.errors import EnsembleError
from pipeline.core.files import sha256_of, write_text
from pipeline.core.progress import say
from pipeline.core.tables import (
    FOLD_COLUMNS,
    IMAGE_COLUMNS,
    class_indices,
    read_table,
    write_predictions,
)
from pipeline.ensemble.blend import KINDS, Kind, Recipe
from pipeline.ensemble.card import describe_blend, describe_metric, describe_score
from pipeline.ensemble.compare import Rows
from pipeline.ensemble.config import EnsembleConfig
from pipeline.ensemble.diversity import compare_pairs, leave_each_out
from pipeline.ensemble.forecast.card import Scored, forecast_card
from pipeline.ensemble.forecast.drift import LEAST_GROUPS, Drift, measure_drift
from pipeline.ensemble.members import (
    Column,
    External,
    Member,
    covered_images,
    read_external,
    read_model,
    read_tests_by_fold,
    score_member,
)
from pipeline.ensemble.nested import judge
from pipeline.scoring.metrics import Metric, metric_named
from pipeline.scoring.submission import check_submission, read_form, write_submission

_DRIFT_SPLITS = 39
"""Of training groups against each other: with drift itself 40, so that p goes down to 0.025."""


def run(config: EnsembleConfig, models: list[str], folds: list[int]) -> None:
    """Blend the models' predictions on these folds.

    Raises TableError or EnsembleError where they do not fit together, SubmissionError where the
    sample submission cannot hold what the metric scores.
    """
    classes = read_competition(paths.COMPETITION).classes
    metric = metric_named(config.metric, len(classes))
    form = read_form(paths.SAMPLE_SUBMISSION, metric, classes)
    table = read_table(paths.FOLDS, FOLD_COLUMNS)
    image_ids = covered_images(table, folds)
    test_ids = list(read_table(paths.TEST_TABLE, IMAGE_COLUMNS)["image_id"])
    members = [
        Member(model, fold, paths.model_folder(model, fold)) for model in models for fold in folds
    ]
    externals = _externals(config, models)
    columns = _read_columns(members, externals, (image_ids, test_ids), table, classes)
    names = [column.name for column in columns]
    out_of_fold = np.stack([column.out_of_fold for column in columns])

    rows = _rows(config, table, image_ids, classes)
    fold_of_row = _fold_of_row(table, image_ids, folds)
    recipes = _recipes(config, names, metric)
    judged = judge(recipes, out_of_fold, fold_of_row, rows)
    test = judged.fitted.apply(np.stack([column.test for column in columns]))
    by_fold = read_tests_by_fold(members, columns[len(models) :], test_ids, table, classes)

    submission = paths.submission(config.name)
    write_predictions(paths.ENSEMBLE_OOF, image_ids, judged.nested.probabilities, classes)
    write_submission(submission, form, test_ids, test.probabilities, test.predicted)
    card = {
        "name": config.name,
        "out_of_fold": describe_score(judged.nested, rows, classes)
        | {
            "rows": len(image_ids),
            "of_images": table["image_id"].nunique(),
            "groups": len(set(rows.groups)),
        },
        "metric": describe_metric(judged, rows),
        "forecast": forecast_card(
            judged.recipe.metric,
            Scored(
                image_ids,
                judged.nested.probabilities,
                judged.nested.predicted,
                rows.labels,
                list(rows.groups),
            ),
            test,
            [judged.fitted.apply(stacked) for stacked in by_fold],
            _measure_drift(table, config),
            config.forecast,
        ),
        "test": {
            "rows": len(test_ids),
            "holds": form.holds,
            "labels": check_submission(submission, form),
        },
        "blend": describe_blend(config.blend, names, recipes, judged, out_of_fold, rows),
        "diversity": {
            "pairs": compare_pairs(names, out_of_fold, rows),
            "each_model": leave_each_out(names, judged.recipe, out_of_fold, fold_of_row, rows)
            if len(names) > 1
            else [],
        },
        "members": [_describe(member, table, classes) for member in members]
        + [_describe_external(external) for external in externals],
        "sha256": {
            "submission": sha256_of(submission),
            "folds": sha256_of(paths.FOLDS),
            "train_images": sha256_of(paths.TRAIN_IMAGES),
            "test_images": sha256_of(paths.TEST_IMAGES),
        },
    }
    write_text(paths.card(config.name), json.dumps(card, indent=2) + "\n")
    blended = f"{judged.recipe.kind} of {', '.join(names)}"
    say(f"{submission}: {form.holds} of {len(test_ids)} images, {blended}")


def _measure_drift(folds: pd.DataFrame, config: EnsembleConfig) -> Drift | None:
    """Train against test; None where there are too few groups to tell."""
    train = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
    group_of = dict(zip(folds["image_id"], folds["group"], strict=True))
    groups = [group_of[image_id] for image_id in train["image_id"]]
    if len(set(groups)) < LEAST_GROUPS:
        return None
    return measure_drift(
        paths.TRAIN_IMAGES,
        paths.TEST_IMAGES,
        train,
        read_table(paths.TEST_TABLE, IMAGE_COLUMNS),
        groups,
        _DRIFT_SPLITS,
        config.forecast.seed,
    )


def _externals(config: EnsembleConfig, models: list[str]) -> list[External]:
    for member in config.external:
        if member.name in models:
            raise EnsembleError(
                f"params.yaml: ensemble.external: {member.name} is also one of train.members "
                f"{models}: expected another name"
            )
    return [
        External(member.name, Path(member.oof), Path(member.test), member.folds, member.sha256)
        for member in config.external
    ]


def _read_columns(
    members: list[Member],
    externals: list[External],
    ids: tuple[list[str], list[str]],
    table: pd.DataFrame,
    classes: list[str],
) -> list[Column]:
    """The models of train.members in their order, then those from elsewhere."""
    models = dict.fromkeys(member.model for member in members)
    own = [[member for member in members if member.model == model] for model in models]
    return [
        *(read_model(of_model, *ids, table, classes) for of_model in own),
        *(read_external(external, *ids, table, classes) for external in externals),
    ]


def _rows(
    config: EnsembleConfig, table: pd.DataFrame, image_ids: list[str], classes: list[str]
) -> Rows:
    known = table.drop_duplicates("image_id").set_index("image_id").loc[image_ids]
    return Rows(
        class_indices(paths.FOLDS, known["label"], classes),
        list(known["group"]),
        config.confidence,
        config.resamples,
        config.seed,
    )


def _fold_of_row(table: pd.DataFrame, image_ids: list[str], folds: list[int]) -> np.ndarray:
    """The fold of each image in the first repeat that is trained: blends are nested along these.

    Any one partition keeps groups whole, whatever the repeats that a row's mean is over.
    """
    trained = table[table["fold"].isin([str(fold) for fold in folds])]
    repeat = min(trained["repeat"], key=int)
    of_image = table[table["repeat"] == repeat].set_index("image_id")["fold"]
    return np.asarray(of_image.loc[image_ids], np.int64)


def _recipes(config: EnsembleConfig, names: list[str], metric: Metric) -> list[Recipe]:
    """What is fitted and judged: one kind of blend, or for auto all that the metric allows."""
    kinds: list[Kind]
    if len(names) == 1:
        kinds = ["mean"]
    elif config.blend == "auto":
        kinds = [kind for kind in KINDS if kind != "rank_mean" or config.metric == "roc_auc"]
    else:
        kinds = [config.blend]
    return [
        Recipe(
            kind,
            metric,
            config.calibration,
            config.threshold,
            config.greedy_rounds,
            config.stack_l2,
        )
        for kind in kinds
    ]


def _describe(member: Member, folds: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    accuracy, rows = score_member(member, folds, classes)
    return {
        "model": member.model,
        "fold": member.fold,
        "accuracy": round(accuracy, 6),
        "rows": rows,
        "sha256": {
            name: sha256_of(member.folder / name)
            for name in ("weights.safetensors", "oof.csv", "test.csv")
        },
    }


def _describe_external(external: External) -> dict[str, Any]:
    return {
        "model": external.name,
        "from_elsewhere": True,
        "folds": external.folds,
        "sha256": {"oof": sha256_of(external.oof), "test": sha256_of(external.test)},
    }
