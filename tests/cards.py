"""A complete card, as stage `ensemble` writes it, for tests that read cards."""

from typing import Any

import numpy as np

from pipeline.scoring.card import (
    Blend,
    Candidate,
    Card,
    Contribution,
    CorrectRows,
    Diversity,
    Drift,
    Fitted,
    FittedMean,
    Forecast,
    Gain,
    Halves,
    Hashes,
    Network,
    OutOfFold,
    Pair,
    Quantiles,
    Score,
    TestLabels,
)

MODELS = ("vgg", "resnet")


def card(**changes: Any) -> Card:
    """The card of two models, trained on three folds each, with other values for some fields."""
    return Card(
        **{
            "name": "made-up",
            "metric": Score(name="accuracy", value=0.92, interval=(0.88, 0.95)),
            "out_of_fold": OutOfFold(
                accuracy=0.92,
                interval=(0.88, 0.95),
                confidence=0.95,
                interval_method="percentile bootstrap of whole groups, 200 resamples",
                log_loss=0.31,
                recall={"healthy": 0.9, "ill": 0.94},
                rows=240,
                of_images=240,
                groups=15,
            ),
            "forecast": forecast(),
            "test": TestLabels(rows=40, holds="labels", labels={"healthy": 20, "ill": 20}),
            "blend": blend(),
            "diversity": diversity(),
            "networks": [
                Network(
                    model=model,
                    fold=fold,
                    accuracy=0.9,
                    rows=80,
                    sha256={"weights.safetensors": "ab" * 32},
                )
                for model in MODELS
                for fold in range(3)
            ],
            "external": [],
            "sha256": Hashes(
                submission="0123456789abcdef" * 4,
                folds="fe" * 32,
                train_images="01" * 32,
                test_images="02" * 32,
            ),
        }
        | changes
    )


def forecast(mean: float = 0.92, **changes: Any) -> Forecast:
    """A forecast of that score, with intervals around it."""
    public, private = (mean - 0.07, mean + 0.03), (mean - 0.06, mean + 0.02)
    return Forecast(
        **{
            "confidence": 0.9,
            "public": public,
            "private": private,
            "mean": mean,
            "sd": (0.026, 0.024),
            "correlation": 0.62,
            "shake_up": 0.031,
            "rows": Halves(public=20, private=20),
            "levels": [0.05, 0.5, 0.95],
            "quantiles": Quantiles(
                public=[public[0], mean, public[1]], private=[private[0], mean, private[1]]
            ),
            "gain": Gain(mean=0.003, spread=0.002, disagreement=0.04, folds=3),
            "drift": Drift(
                auc=0.6, band=(0.4, 0.7), p=0.15, splits=39, strongest=["width"], weighted=False
            ),
            "correct": CorrectRows.pack(["a", "b"], np.array([True, False])),
            "assumptions": ["test groups are new", "public are 20 of the 40 test rows"],
        }
        | changes
    )


def blend(models: tuple[str, ...] = MODELS, score: float = 0.92, **changes: Any) -> Blend:
    """The mean of the models, chosen from two candidates."""
    return Blend(
        **{
            "asked": "auto",
            "chosen": "mean",
            "why": "the simplest of 2 candidates, from simple to complex, and the best",
            "models": list(models),
            "calibration": "none",
            "unnested": score + 0.004,
            "test": "McNemar, exact",
            "fitted": Fitted(
                blend=FittedMean(kind="weighted_mean", weights=[1 / len(models)] * len(models)),
                temperature=None,
                threshold=None,
            ),
            "candidates": [
                Candidate(
                    blend=kind,
                    nested=score - worse,
                    unnested=score + 0.004,
                    better_than_best_by=-worse,
                    interval=(-worse - 0.01, 0.008),
                    p_value=0.39 if worse else 1.0,
                )
                for kind, worse in (("mean", 0.0), ("stack", 0.0042))
            ],
            "chosen_without_fold": {"0": "mean", "1": "mean", "2": "mean"},
        }
        | changes
    )


def diversity(models: tuple[str, ...] = MODELS, score: float = 0.92) -> Diversity:
    """The first two models compared, and what each model adds; empty with one model."""
    if len(models) == 1:
        return Diversity(pairs=[], each_model=[])
    return Diversity(
        pairs=[
            Pair(models=models[:2], disagreement=0.1125, error_correlation=0.41, both_wrong=0.05)
        ],
        each_model=[
            Contribution(model=model, score_without=score - 0.01, adds=0.01 - 0.015 * place)
            for place, model in enumerate(models)
        ],
    )
