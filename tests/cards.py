"""Whole cards, for tests of what reads one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

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
    out_of_fold = {
        "accuracy": score,
        "interval": (low, high),
        "confidence": 0.95,
        "interval_method": "percentile bootstrap of whole groups, 200 resamples",
        "log_loss": 0.31,
        "recall": dict.fromkeys(classes, score),
        "rows": rows,
        "of_images": rows,
        "groups": groups,
    }
    forecast = {
        "confidence": 0.9,
        "public": (score - 0.07, score + 0.03),
        "private": (score - 0.06, score + 0.02),
        "mean": score + 0.003,
        "sd": (0.026, 0.024),
        "correlation": 0.62,
        "shake_up": 0.031,
        "rows": {"public": 20, "private": 20},
        "levels": [0.05, 0.5, 0.95],
        "quantiles": {"public": [low, score, high], "private": [low, score, high]},
        "gain": {"mean": 0.003, "spread": 0.002, "disagreement": 0.04, "folds": 3},
        "drift": None,
        "correct": CorrectRows.pack(["a", "b"], np.array([True, False])),
        "assumptions": ["test groups are new", "public are 20 of the 40 test rows"],
    }
    candidates = [
        {
            "blend": kind,
            "nested": score - worse,
            "unnested": score + 0.004,
            "better_than_best_by": -worse,
            "interval": (-worse - 0.01, 0.008),
            "p_value": 0.39 if worse else 1.0,
        }
        for kind, worse in (("mean", 0.0), ("stack", 0.0042))
    ]
    weights = [1 / len(models)] * len(models)
    blend = {
        "asked": "auto",
        "chosen": "mean",
        "why": "the simplest of 2 candidates, from simple to complex, and the best",
        "models": list(models),
        "calibration": "none",
        "unnested": score + 0.004,
        "test": "McNemar, exact",
        "fitted": {
            "blend": {"kind": "weighted_mean", "weights": weights},
            "temperature": None,
            "threshold": None,
        },
        "candidates": candidates,
        "chosen_without_fold": {"0": "mean", "1": "mean", "2": "mean"},
    }
    pair = {"models": models[:2], "disagreement": 0.1125, "error_correlation": 0.41}
    diversity = {
        "pairs": [pair | {"both_wrong": 0.05}],
        "each_model": [
            {"model": model, "score_without": score - 0.01, "adds": 0.01 - 0.015 * place}
            for place, model in enumerate(models)
        ],
    }
    weights_file = {"weights.safetensors": "ab" * 32}
    tree = {
        "name": "made-up",
        "metric": {"name": "accuracy", "value": score, "interval": (low, high)},
        "out_of_fold": out_of_fold,
        "forecast": forecast,
        "test": {
            "rows": 40,
            "holds": "labels",
            "labels": dict.fromkeys(classes, 40 // len(classes)),
        },
        "blend": blend,
        "diversity": diversity if len(models) > 1 else {"pairs": [], "each_model": []},
        "networks": [
            {"model": model, "fold": fold, "accuracy": 0.9, "rows": 80, "sha256": weights_file}
            for model in models
            for fold in range(3)
        ],
        "external": [],
        "sha256": {
            "submission": "0123456789abcdef" * 4,
            "folds": "fe" * 32,
            "train_images": "01" * 32,
            "test_images": "02" * 32,
        },
    }
    return Card.model_validate(tree | changes)
