"""Stage `ensemble`: the submission, its card, and the ensemble's out-of-fold table."""

import json
from dataclasses import dataclass

import numpy as np

from pipeline import paths
from pipeline.competition import read_competition
from pipeline.config.ensemble import EnsembleConfig
from pipeline.ensemble.blend import Member, mean_out_of_fold, mean_test
from pipeline.ensemble.estimate import accuracy_interval
from pipeline.files import sha256_of, write_text
from pipeline.leaderboard.submission import check_submission, write_submission
from pipeline.metrics import accuracy, log_loss, recalls
from pipeline.progress import say
from pipeline.shapes import Probabilities
from pipeline.tables import FOLD_COLUMNS, IMAGE_COLUMNS, read_table, write_predictions


@dataclass(frozen=True)
class _OutOfFold:
    """The blended out-of-fold predictions, row by row."""

    image_ids: list[str]
    probabilities: Probabilities
    labels: np.ndarray
    groups: list[str]
    images: int
    """All training images; image_ids may be fewer, where not every fold was trained."""


def run(config: EnsembleConfig, models: list[str], folds: list[int]) -> None:
    """Blend the models' predictions on these folds.

    Raises TableError or EnsembleError where they do not fit together.
    """
    classes = read_competition(paths.COMPETITION).classes
    members = [
        Member(model, fold, paths.model_folder(model, fold)) for model in models for fold in folds
    ]
    oof = _blend_out_of_fold(members, classes)
    test_ids = list(read_table(paths.TEST_TABLE, IMAGE_COLUMNS)["image_id"])
    test = mean_test(members, test_ids, classes)
    labels = [classes[place] for place in test.argmax(axis=1)]

    submission = paths.submission(config.name)
    write_predictions(paths.ENSEMBLE_OOF, oof.image_ids, oof.probabilities, classes)
    write_submission(submission, paths.SAMPLE_SUBMISSION, test_ids, labels, classes)
    card = {
        "name": config.name,
        "out_of_fold": _estimate(oof, classes, config),
        "test": {
            "rows": len(labels),
            "labels": check_submission(submission, paths.SAMPLE_SUBMISSION, classes),
        },
        "blend": config.blend,
        "members": [_describe(member) for member in members],
        "sha256": {
            "submission": sha256_of(submission),
            "folds": sha256_of(paths.FOLDS),
            "train_images": sha256_of(paths.TRAIN_IMAGES),
            "test_images": sha256_of(paths.TEST_IMAGES),
        },
    }
    write_text(paths.card(config.name), json.dumps(card, indent=2) + "\n")
    say(f"{submission}: {len(labels)} rows, from {len(members)} members")


def _blend_out_of_fold(members: list[Member], classes: list[str]) -> _OutOfFold:
    folds = read_table(paths.FOLDS, FOLD_COLUMNS)
    image_ids, probabilities = mean_out_of_fold(members, folds, classes)
    known = folds.drop_duplicates("image_id").set_index("image_id").loc[image_ids]
    return _OutOfFold(
        image_ids,
        probabilities,
        known["label"].map({name: place for place, name in enumerate(classes)}).to_numpy(np.int64),
        list(known["group"]),
        folds["image_id"].nunique(),
    )


def _estimate(oof: _OutOfFold, classes: list[str], config: EnsembleConfig) -> dict[str, object]:
    low, high = accuracy_interval(
        oof.probabilities.argmax(axis=1) == oof.labels,
        oof.groups,
        config.confidence,
        config.resamples,
        config.seed,
    )
    recall = recalls(oof.probabilities, oof.labels, len(classes))
    return {
        "accuracy": round(accuracy(oof.probabilities, oof.labels), 6),
        "interval": [round(low, 6), round(high, 6)],
        "confidence": config.confidence,
        "interval_method": f"percentile bootstrap of whole groups, {config.resamples} resamples",
        "log_loss": round(log_loss(oof.probabilities, oof.labels), 6),
        "recall": {name: round(value, 6) for name, value in zip(classes, recall, strict=True)},
        "rows": len(oof.image_ids),
        "of_images": oof.images,
        "groups": len(set(oof.groups)),
    }


def _describe(member: Member) -> dict[str, object]:
    metrics = json.loads((member.folder / "metrics.json").read_text(encoding="utf-8"))
    return {
        "model": member.model,
        "fold": member.fold,
        "weight": 1,
        "accuracy": metrics["accuracy"],
        "rows": metrics["rows"],
        "sha256": {
            name: sha256_of(member.folder / name)
            for name in ("weights.safetensors", "oof.csv", "test.csv")
        },
    }
