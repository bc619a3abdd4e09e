"""Stage `ensemble`: the submission, its card, and the ensemble's out-of-fold table.

Every figure on the card is nested: each row is predicted by a blend that was chosen and fitted
without its fold. So is ensemble/oof.csv. The submission is from the blend fitted on all rows. A row
is one of the competition, whose prediction by each model is the mean of its images.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.core import paths
from pipeline.core.arrays import read_array
from pipeline.core.competition import read_competition
from pipeline.core.errors import EnsembleError
from pipeline.core.files import sha256_of
from pipeline.core.fold_summary import OnlyTrained
from pipeline.core.ours import refuse_others, remember
from pipeline.core.progress import say
from pipeline.core.record import write_record
from pipeline.core.tables import (
    FOLD_COLUMNS,
    IMAGE_COLUMNS,
    check_ids,
    predictions_file,
    read_table,
    write_predictions,
)
from pipeline.core.task import OneOf, Task
from pipeline.ensemble.blend import Recipe
from pipeline.ensemble.bootstrap import ScoredRows
from pipeline.ensemble.config import KINDS, EnsembleConfig, Kind
from pipeline.ensemble.describe import describe_blend, describe_ceiling, describe_out_of_fold
from pipeline.ensemble.diversity import compare_pairs, leave_each_out
from pipeline.ensemble.forecast.build import OutOfFoldRows, build_forecast
from pipeline.ensemble.forecast.drift import measure_drift
from pipeline.ensemble.members import (
    PredictedImages,
    covered_images,
    read_external,
    read_model,
    stack_tests_by_fold,
)
from pipeline.ensemble.nested import judge
from pipeline.scoring.card import (
    Card,
    Diversity,
    Drift,
    ExternalModel,
    Forecast,
    Hashes,
    NoForecast,
    Score,
    TestLabels,
)
from pipeline.scoring.metric import Metric
from pipeline.scoring.plan import plan
from pipeline.scoring.submission import check_submission, write_submission

_DRIFT_SPLITS = 39
"""Splits of the training groups that make the band: with the real one 40, so p can be 0.025."""


def run(config: EnsembleConfig, models: list[str], folds: list[int]) -> None:
    """Blend the models' predictions on these folds.

    Raises TableError or EnsembleError where they do not fit together, SubmissionError where the
    sample submission cannot hold what the metric scores, OutputError where another file has the
    submission's name.
    """
    for external in config.external:
        if external.name in models:
            raise EnsembleError(
                f"params.yaml: ensemble.external: {external.name} is also one of train.members "
                f"{models}: expected another name"
            )
    submission = paths.submission(config.name)
    refuse_others(submission, paths.card(config.name), submission=True)
    task = read_competition(paths.COMPETITION).task
    table = read_table(paths.FOLDS, FOLD_COLUMNS)
    only_trained = OnlyTrained.of(table)
    never_scored = only_trained.classes if only_trained else ()
    metric, form = plan(
        config.metric, config.choices, paths.SAMPLE_SUBMISSION, task, never_scored=never_scored
    )
    tested = read_table(paths.TEST_TABLE, IMAGE_COLUMNS)
    trained = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
    test_rows = list(dict.fromkeys(tested["row_id"]))
    # The arrays are read last, for the drift: what is damaged is said before anything is written.
    read_array(paths.TRAIN_IMAGES, len(trained))
    read_array(paths.TEST_IMAGES, len(tested))
    form.check_rows(test_rows)
    check_ids(paths.FOLDS, list(dict.fromkeys(table["image_id"])), list(trained["image_id"]))
    table = table.merge(trained[["image_id", "row_id"]], "left")
    images = PredictedImages(
        covered_images(table, folds),
        list(tested["image_id"]),
        table,
        task,
        list(tested["row_id"]),
    )
    members = [
        *(read_model(model, folds, images) for model in models),
        *(read_external(external, images) for external in config.external),
    ]
    names = [member.name for member in members]
    out_of_fold = np.stack([member.out_of_fold for member in members])

    rows = _scored_rows(config, images, folds)
    recipes = _recipes(config, names, task, metric)
    judged = judge(recipes, out_of_fold, rows)
    test = judged.fitted.apply(np.stack([member.test for member in members]))
    by_fold = [judged.fitted.apply(tests) for tests in stack_tests_by_fold(members, table)]
    networks = [network for member in members for network in member.networks]
    members.clear()  # of thousands of classes their tables have gigabytes

    oof_file = predictions_file(paths.ENSEMBLE_OOF, task)
    write_predictions(oof_file, images.rows, judged.nested.values, task)
    write_submission(submission, form, test_rows, test.values, test.decided)
    remember(submission)  # its card comes later
    scored = OutOfFoldRows(task, images.rows, judged.nested, rows.labels, rows.groups)
    forecast: Forecast | NoForecast
    try:
        drift = _measure_drift(table, config)
        forecast = build_forecast(metric, scored, test, by_fold, drift, config.forecast)
    except EnsembleError as error:
        say(f"left out: {error}")
        forecast = NoForecast(why=str(error))
    card = Card(
        name=config.name,
        metric=Score(
            name=metric.name,
            value=rows.score(metric, judged.nested),
            interval=rows.interval(metric, judged.nested),
        ),
        out_of_fold=describe_out_of_fold(
            judged.nested, rows, table["row_id"].nunique(), only_trained
        ),
        forecast=forecast,
        test=TestLabels(
            rows=len(test_rows), holds=form.holds, labels=check_submission(submission, form)
        ),
        blend=describe_blend(config.blend, names, recipes, judged, out_of_fold, rows),
        diversity=Diversity(
            pairs=compare_pairs(names, out_of_fold, rows),
            each_model=leave_each_out(names, judged.recipe, out_of_fold, rows)
            if len(names) > 1
            else [],
        ),
        networks=networks,
        external=[
            ExternalModel(
                model=each.name,
                folds=each.folds,
                sha256={"oof": sha256_of(Path(each.oof)), "test": sha256_of(Path(each.test))},
            )
            for each in config.external
        ],
        sha256=Hashes(
            submission=sha256_of(submission),
            folds=sha256_of(paths.FOLDS),
            train_images=sha256_of(paths.TRAIN_IMAGES),
            test_images=sha256_of(paths.TEST_IMAGES),
        ),
        ceiling=describe_ceiling(metric, judged.nested, names, out_of_fold, len(models), rows),
    )
    write_record(paths.card(config.name), card)
    blended = f"{judged.recipe.kind} of {', '.join(names)}"
    averaged = f" of {len(tested)} images" if len(test_rows) < len(tested) else ""
    say(f"{submission}: {form.holds} of {len(test_rows)} rows{averaged}, {blended}")
    if only_trained:
        say(only_trained.sentence)


def _scored_rows(config: EnsembleConfig, images: PredictedImages, trained: list[int]) -> ScoredRows:
    """The folds are those of the first repeat that is trained.

    Any one partition keeps groups whole, whatever the repeats that a row's mean is over.
    """
    table = images.folds
    repeats = table.loc[table["fold"].isin([str(fold) for fold in trained]), "repeat"]
    first = table[table["repeat"] == min(repeats, key=int)]
    known = first[first["image_id"].isin(images.image_ids)]
    check_ids(paths.FOLDS, list(known["image_id"]), images.image_ids)
    known = known.drop_duplicates("row_id").set_index("row_id").loc[images.rows]
    return ScoredRows(
        task=images.task,
        labels=images.task.encode(paths.FOLDS, known["label"]),
        groups=list(known["group"]),
        folds=known["fold"].to_numpy(np.int64),
        confidence=config.confidence,
        resamples=config.resamples,
        seed=config.seed,
    )


def _recipes(config: EnsembleConfig, names: list[str], task: Task, metric: Metric) -> list[Recipe]:
    """What is fitted and judged: one kind of blend, or for auto all that the metric allows.

    Raises EnsembleError for a stack, which fits each class, where some have no row to fit.
    """
    kinds: list[Kind]
    stackable = isinstance(task, OneOf) and not metric.optional
    if config.blend == "stack" and metric.optional and len(names) > 1:
        rare = [task.outputs[place] for place in metric.optional]
        raise EnsembleError(
            "params.yaml: ensemble.blend: stack fits each class, and too few groups have "
            f"{', '.join(rare[:5])} (split.rare); expected mean, single, weighted or greedy"
        )
    if len(names) == 1:
        kinds = ["mean"]
    elif config.blend == "auto":
        kinds = [
            kind
            for kind in KINDS
            if (kind != "rank_mean" or metric.scores_order)
            and (kind != "rank_mean" or isinstance(task, OneOf))
            and (kind != "stack" or stackable)
        ]
    else:
        kinds = [config.blend]
    return [
        Recipe(
            kind,
            task,
            metric,
            config.calibration,
            config.threshold,
            config.greedy_rounds,
            config.stack_l2,
        )
        for kind in kinds
    ]


def _measure_drift(
    folds: pd.DataFrame, config: EnsembleConfig
) -> tuple[Drift, dict[str, float]] | None:
    train = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
    group_of = dict(zip(folds["image_id"], folds["group"], strict=True))
    check_ids(paths.TRAIN_TABLE, list(train["image_id"]), list(group_of))
    return measure_drift(
        paths.TRAIN_IMAGES,
        paths.TEST_IMAGES,
        train,
        read_table(paths.TEST_TABLE, IMAGE_COLUMNS),
        [group_of[image_id] for image_id in train["image_id"]],
        _DRIFT_SPLITS,
        config.forecast.seed,
    )
