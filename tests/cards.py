"""A complete card of a submission, of which a test changes the parts that it is about."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from pipeline.core.record import write_record
from pipeline.scoring.card import Card, CorrectRows

LEVELS = [0.005, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.995]
CORRECT = CorrectRows.pack([f"train_{row}" for row in range(10)], np.ones(10, np.bool_))


def normal_forecast(mean: float = 0.9, sd: float = 0.01) -> dict[str, Any]:
    """The parts of a card's forecast that follow from a normal distribution of both scores."""
    quantiles = [mean + sd * stats.norm.ppf(level) for level in LEVELS]
    interval = (mean - 1.65 * sd, mean + 1.65 * sd)
    return {
        "mean": mean,
        "sd": (sd, sd),
        "public": interval,
        "private": interval,
        "levels": LEVELS,
        "quantiles": {"public": quantiles, "private": quantiles},
    }


COMPLETE: dict[str, Any] = {
    "name": "tiny",
    "metric": {"name": "accuracy", "value": 0.9, "interval": (0.88, 0.92)},
    "out_of_fold": {
        "accuracy": 0.9,
        "interval": (0.88, 0.92),
        "confidence": 0.95,
        "interval_method": "bootstrap",
        "log_loss": 0.25,
        "recall": {"0": 0.9, "1": 0.9},
        "rows": 600,
        "of_images": 600,
        "groups": 30,
    },
    "forecast": {
        "confidence": 0.9,
        **normal_forecast(),
        "correlation": 0.5,
        "shake_up": 0.01,
        "rows": {"public": 1000, "private": 1000},
        "gain": {"mean": 0.0, "spread": 0.0, "disagreement": 0.0, "folds": 1},
        "drift": None,
        "correct": CORRECT,
        "assumptions": [],
    },
    "test": {"rows": 2000, "holds": "labels", "labels": {"0": 800, "1": 1200}},
    "blend": {
        "asked": "mean",
        "chosen": "mean",
        "why": "as asked",
        "models": ["one"],
        "calibration": "none",
        "unnested": 0.9,
        "test": "none",
        "fitted": {
            "blend": {"kind": "weighted_mean", "weights": [1.0]},
            "temperature": None,
            "threshold": None,
        },
        "candidates": [],
        "chosen_without_fold": {},
    },
    "diversity": {"pairs": [], "each_model": []},
    "networks": [],
    "external": [],
    "sha256": {"submission": "", "folds": "", "train_images": "", "test_images": ""},
}


def card(**changes: Mapping[str, Any]) -> Card:
    """A card of two classes; changes: fields by section, as metric={"name": "log_loss"}."""
    sections = {name: COMPLETE[name] | dict(fields) for name, fields in changes.items()}
    return Card.model_validate(COMPLETE | sections)


def write_card(path: Path, submission_sha256: str, **changes: Mapping[str, Any]) -> None:
    """The card of a submission with this hash."""
    write_record(path, card(sha256={"submission": submission_sha256}, **changes))
