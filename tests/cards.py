"""A whole card, for tests of what reads one."""

from typing import Any

from pipeline.scoring.card import Card

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
