"""Whole cards and audits, for tests of what reads one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.core.audit import Audit
from pipeline.scoring.card import Card, CorrectRows

NUMBERS: dict[str, Any] = {
    "name": "tiny",
    "metric": {"name": "accuracy", "value": 0.9, "interval": [0.86, 0.94]},
    "out_of_fold": {
        "accuracy": 0.9, "interval": [0.86, 0.94], "confidence": 0.95, "log_loss": 0.3,
        "interval_method": "bootstrap", "recall": {"0": 0.9, "1": 0.9}, "rows": 80,
        "of_images": 80, "groups": 10,
    },
    "forecast": {
        "confidence": 0.9, "public": [0.85, 0.95], "private": [0.85, 0.95], "mean": 0.9,
        "sd": [0.03, 0.03], "correlation": 0.5, "shake_up": 0.03,
        "rows": {"public": 12, "private": 12}, "levels": [0.05, 0.5, 0.95],
        "quantiles": {"public": [0.85, 0.9, 0.95], "private": [0.85, 0.9, 0.95]},
        "gain": {"mean": 0.0, "spread": 0.0, "disagreement": 0.1, "folds": 2},
        "drift": None, "correct": {"rows": 0, "ids_sha256": "", "bits": ""}, "assumptions": [],
    },
    "test": {"rows": 24, "holds": "labels", "labels": {"0": 12, "1": 12}},
    "blend": {
        "asked": "mean", "chosen": "mean", "why": "", "models": ["one", "two"],
        "calibration": "none", "unnested": 0.9, "test": "", "candidates": [],
        "chosen_without_fold": {},
        "fitted": {
            "blend": {"kind": "weighted_mean", "weights": [0.5, 0.5]},
            "temperature": None, "threshold": None,
        },
    },
    "diversity": {"pairs": [], "each_model": []},
    "networks": [],
    "external": [],
    "sha256": {"submission": "", "folds": "", "train_images": "", "test_images": ""},
}  # fmt: skip


def make_card(**changes: Any) -> Card:
    """NUMBERS with some parts changed: make_card(blend={"why": "a test"}) changes that field."""
    return Card.model_validate(_merge(NUMBERS, changes))


def _merge(known: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return known | {
        name: _merge(known[name], value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }


def blended_card(
    score: float = 0.92,
    models: Sequence[str] = ("vgg", "resnet"),
    classes: Sequence[str] = ("healthy", "ill"),
    rows: int = 240,
    groups: int = 15,
    **changes: Any,
) -> Card:
    """The card of a mean of models that were trained on three folds each, scored by accuracy.

    changes: the card's fields with other values, as records or as in JSON.
    """
    low, high = score - 0.04, score + 0.03
    interval_method = "percentile bootstrap of whole groups, 200 resamples"
    candidates = [
        {
            "blend": kind, "nested": score - worse, "unnested": score + 0.004,
            "better_than_best_by": -worse, "interval": (-worse - 0.01, 0.008),
            "p_value": 0.39 if worse else 1.0,
        }
        for kind, worse in (("mean", 0.0), ("stack", 0.0042))
    ]  # fmt: skip
    sections: dict[str, dict[str, Any]] = {
        "metric": {"value": score, "interval": (low, high)},
        "out_of_fold": {
            "accuracy": score, "interval": (low, high), "interval_method": interval_method,
            "log_loss": 0.31, "recall": dict.fromkeys(classes, score), "rows": rows,
            "of_images": rows, "groups": groups,
        },
        "forecast": {
            "public": (score - 0.07, score + 0.03), "private": (score - 0.06, score + 0.02),
            "mean": score + 0.003, "sd": (0.026, 0.024), "correlation": 0.62, "shake_up": 0.031,
            "rows": {"public": 20, "private": 20},
            "quantiles": {"public": [low, score, high], "private": [low, score, high]},
            "gain": {"mean": 0.003, "spread": 0.002, "disagreement": 0.04, "folds": 3},
            "correct": CorrectRows.pack(["a", "b"], np.array([True, False])),
            "assumptions": ["test groups are new", "public are 20 of the 40 test rows"],
        },
        "test": {"rows": 40, "labels": dict.fromkeys(classes, 40 // len(classes))},
        "blend": {
            "asked": "auto", "why": "the simplest of 2 candidates, from simple to complex, and the best",
            "models": list(models), "unnested": score + 0.004, "test": "McNemar, exact",
            "fitted": {
                "blend": {"kind": "weighted_mean", "weights": [1 / len(models)] * len(models)},
                "temperature": None, "threshold": None,
            },
            "candidates": candidates, "chosen_without_fold": {"0": "mean", "1": "mean", "2": "mean"},
        },
        "sha256": {
            "submission": "0123456789abcdef" * 4, "folds": "fe" * 32,
            "train_images": "01" * 32, "test_images": "02" * 32,
        },
    }  # fmt: skip
    if len(models) > 1:
        pair = {"disagreement": 0.1125, "error_correlation": 0.41, "both_wrong": 0.05}
        sections["diversity"] = {
            "pairs": [{"models": models[:2], **pair}],
            "each_model": [
                {"model": model, "score_without": score - 0.01, "adds": 0.01 - 0.015 * place}
                for place, model in enumerate(models)
            ],
        }
    networks = [
        {
            "model": model, "fold": fold, "accuracy": 0.9, "rows": 80,
            "sha256": {"weights.safetensors": "ab" * 32},
        }
        for model in models
        for fold in range(3)
    ]  # fmt: skip
    tree = NUMBERS | {name: NUMBERS[name] | fields for name, fields in sections.items()}
    return Card.model_validate(tree | {"name": "made-up", "networks": networks} | changes)


def make_audit(rows: int, classes: Sequence[str], ids: list[str], grouped: bool) -> Audit:
    """The audit of a store with one of everything that an audit can name."""
    size = {"min": 88.0, "median": 125.0, "max": 170.0}
    split = {
        "rows": rows, "classes": dict.fromkeys(classes, rows // len(classes)),
        "groups": 15 if grouped else rows, "width": size, "height": size, "modes": {"RGB": rows},
        "other_files": [],
    }  # fmt: skip
    tree = {
        "train": split,
        "test": split | {"rows": 40, "classes": {}, "groups": 0},
        "excluded": [{"image_id": ids[0], "reason": "truncated"}],
        "duplicates": {
            "clusters": 1, "images": 2, "largest": 2, "kind": {"file": 1, "pixels": 0, "near": 0},
            "where": {"train": 1, "test": 0, "both": 0}, "conflicting_labels": 1, "spans_groups": 1,
        },
        "clusters": [
            {
                "image_ids": ids[:2], "kind": "file", "where": "train",
                "labels": list(classes[:2]), "groups": ["p00", "p01"],
            }
        ],
        "train_test_duplicates": {
            "sentence": "These test images are also in train.",
            "pairs": [{"test": "t_001", "train": ids[2:4], "kind": "near"}],
        },
        "conflicts": {
            "rule": "keep", "excluded": 0, "near": [],
            "sentence": "Training images with the same pixels and different labels stay.",
            "same_pixels": [{"image_ids": ids[:2], "labels": list(classes[:2])}],
        },
        "corrections": {
            "file": "corrections/made-up.csv", "count": 1,
            "by_class": {f"{classes[0]} → {classes[1]}": 1},
            "rows": [
                {"image_id": ids[0], "old": classes[0], "new": classes[1], "reason": "a ring"}
            ],
        },
        "leaks": {
            "method": "ROC AUC of 16 bins over 5 folds",
            "checks": [
                {"name": "file size", "auc": 0.71, "chance": [0.45, 0.55], "flagged": True,
                 "sentence": "The file's size predicts the label with AUC 0.71."},
                {"name": "order", "auc": 0.5, "chance": [0.45, 0.55], "flagged": False,
                 "sentence": "The order predicts the label with AUC 0.50."},
                {"name": "number", "same_as": "order"},
            ],
            "constant": ["suffix"],
        },
    }  # fmt: skip
    return Audit.model_validate(tree)
