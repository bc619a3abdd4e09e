"""A complete card, as stage `ensemble` writes it, for tests that read cards."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.scoring.card import Card, CorrectRows


def card(
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
