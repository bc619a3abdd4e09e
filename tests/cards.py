"""Whole cards and audits, for tests of what reads one."""

import io
from collections.abc import Sequence
from typing import Any

from PIL import Image as Pillow

from pipeline.core.audit import Audit
from pipeline.scoring.card import Card
from pipeline.scoring.leaderboard import Leaderboard
from pipeline.scoring.seen import Explanation


def make_card(
    models: Sequence[str] = ("one", "two"), classes: Sequence[str] = ("0", "1"), **changes: Any
) -> Card:
    """The card of a mean: make_card(blend={"why": "a test"}) changes that field alone."""
    tree: dict[str, Any] = {
        "name": "tiny",
        "metric": {"name": "accuracy", "value": 0.9, "interval": [0.86, 0.94]},
        "out_of_fold": {
            "accuracy": 0.9, "interval": [0.86, 0.94], "confidence": 0.95, "log_loss": 0.3,
            "interval_method": "bootstrap", "recall": dict.fromkeys(classes, 0.9), "rows": 80,
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
        "test": {"rows": 24, "holds": "labels", "labels": dict.fromkeys(classes, 12)},
        "blend": {
            "asked": "mean", "chosen": "mean", "why": "", "models": models,
            "calibration": "none", "unnested": 0.9, "test": "", "candidates": [],
            "chosen_without_fold": {},
            "fitted": {
                "blend": {"kind": "weighted_mean", "weights": [1 / len(models)] * len(models)},
                "temperature": None, "threshold": None,
            },
        },
        "diversity": {"pairs": [], "each_model": []},
        "networks": [],
        "external": [],
        "sha256": {"submission": "", "folds": "", "train_images": "", "test_images": ""},
    }  # fmt: skip
    return Card.model_validate(_merge(tree, changes))


def _merge(known: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return known | {
        name: _merge(known[name], value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }


def make_leaderboard(card: Card, public: float, private: float) -> Leaderboard:
    """What stage `check` says of the card's submission, with 20 rows scored in each half."""
    name = card.metric.name
    scores = {"public": {name: public}, "private": {name: private}}
    board = {
        "submission": f"submissions/{card.name}.csv", "holds": card.test.holds,
        "labels": card.test.labels, "metric": name,
        "expected": {"value": card.metric.value, "interval": card.metric.interval, "confidence": 0.95},
        "solution": {half: {"rows": 20, "scores": each} for half, each in scores.items()},
    }  # fmt: skip
    return Leaderboard.model_validate(board)


def make_audit(rows: int, classes: Sequence[str], ids: list[str], grouped: bool) -> Audit:
    """The audit of a store with one of everything that an audit can name."""
    size = {"min": 88.0, "median": 125.0, "max": 170.0}
    split = {
        "rows": rows, "classes": dict.fromkeys(classes, rows // len(classes)),
        "groups": 15 if grouped else rows, "width": size, "height": size,
        "modes": {"RGB": rows}, "notes": {}, "other_files": [],
    }  # fmt: skip
    equal = {"image_ids": ids[:2], "labels": list(classes[:2])}
    tree = {
        "train": split,
        "test": split | {"rows": 40, "classes": {}, "groups": 0},
        "found_range": None,
        "found_channels": None,
        "possible_groups": {"patient_id": 3},
        "excluded": [{"image_id": ids[0], "reason": "truncated"}],
        "duplicates": {
            "clusters": 1, "images": 2, "largest": 2, "kind": {"file": 1, "pixels": 0, "near": 0},
            "where": {"train": 1, "test": 0, "both": 0}, "conflicting_labels": 1, "spans_groups": 1,
        },
        "clusters": [equal | {"kind": "file", "where": "train", "groups": ["p00", "p01"]}],
        "train_test_duplicates": {
            "sentence": "These test images are also in train.",
            "pairs": [{"test": "t_001", "train": ids[2:4], "kind": "near"}],
        },
        "conflicts": {
            "rule": "keep", "excluded": 0, "same_pixels": [equal], "near": [],
            "sentence": "Training images with the same pixels and different labels stay.",
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


def make_explanation(model: str, weights_sha256: str) -> tuple[Explanation, dict[str, bytes]]:
    """What one network sees, with one of everything, and its pictures."""
    content = io.BytesIO()
    Pillow.new("L", (4, 4)).save(content, "PNG")
    picture = {"file": "dot.png", "width": 4, "height": 4}
    heat = {"picture": picture, "shuffled": picture, "correlation": 0.75}
    box = {"top": 0.0, "left": 1.0, "bottom": 3.0, "right": 4.0}
    field = {"size": (3.0, 3.0), "jump": (1.0, 1.0), "offset": (0.0, 0.0)}
    row = {
        "image_id": "img_001", "group": "p01", "given": "ill", "predicted": "healthy",
        "right": False, "explained": "healthy", "value": 0.9, "picture": picture,
        "maps": [{"layer": "last", "channels": [2], "picture": picture, "unit": (1, 2), "box": box}],
        "cam": heat, "occlusion": heat, "agreement": -0.25,
    }  # fmt: skip
    points = {
        "method": "PCA", "kept": 0.5, "of_rows": 80, "x": [0.0, 1.0], "y": [1.0, 0.0],
        "labels": ["ill", "healthy"], "wrong": [True, False], "groups": ["p01", "p02"],
    }  # fmt: skip
    near = {"image_id": "img_002", "label": "ill", "cosine": 0.9, "picture": picture}
    tree = {
        "model": model, "fold": 0, "network": "vgg", "kind": "images", "cells": (8, 8),
        "weights_sha256": weights_sha256, "grouped": True,
        "layers": {"columns": ["layer"], "rows": [["last"]], "notes": ["vgg, one picture"]},
        "first": {"layer": "first", "kind": "kernels", "count": 4, "names": [], "picture": picture},
        "maps": [{"layer": "last", "channels": 4, "sides": (4, 4), "field": field}],
        "left_out": [], "rows": [row], "points": points,
        "shared": {"observed": 0.4, "expected": 0.1, "rows": 2}, "searched": 160,
        "nearest": [
            {"image_id": "t_001", "predicted": "ill", "picture": picture, "neighbours": [near]}
        ],
    }  # fmt: skip
    return Explanation.model_validate(tree), {"dot.png": content.getvalue()}
