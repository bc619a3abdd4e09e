"""A fitted blend as a part of the card, and back from there to the last bit.

`predict` and a winner's package blend new images with it: a rounded weight or threshold could
change a label that is nearly a tie. JSON keeps every digit of a double; the ranks of rank_mean, a
number for each training row and model, are packed as base64.
"""

import base64
from pathlib import Path

import numpy as np

from pipeline.core.errors import EnsembleError
from pipeline.core.task import OneOf, Task
from pipeline.ensemble.blend import FittedBlend, Logistic, Ranks, WeightedMean, logit_features
from pipeline.scoring.card import Fitted, FittedLogistic, FittedMean

_DOUBLES = np.dtype("<f8")


def describe_fitted(fitted: FittedBlend) -> Fitted:
    """Everything that is needed to apply it again, exactly."""
    blend = fitted.blend
    part: FittedMean | FittedLogistic
    if isinstance(blend, WeightedMean):
        part = FittedMean(kind="weighted_mean", weights=blend.weights.tolist())
    else:
        ranks = blend.features if isinstance(blend.features, Ranks) else None
        part = FittedLogistic(
            kind="logistic",
            features="ranks" if ranks else "logits",
            known=[
                base64.b64encode(column.astype(_DOUBLES).tobytes()).decode()
                for column in (ranks.known if ranks else [])
            ],
            coefficients=blend.coefficients.tolist(),
            intercepts=blend.intercepts.tolist(),
        )
    threshold: float | list[float] | None = fitted.cuts
    if fitted.cuts is not None and isinstance(fitted.task, OneOf) and len(fitted.cuts) == 1:
        (threshold,) = fitted.cuts
    return Fitted(blend=part, temperature=fitted.temperature, threshold=threshold)


def read_fitted(card: Path, fitted: Fitted, models: int, task: Task) -> FittedBlend:
    """What describe_fitted described: the card's `blend.fitted`, for so many models.

    Raises EnsembleError, which names the card, where its numbers are not for so many models, or
    not for the task.
    """
    fitted.check_cuts(card, task)
    return FittedBlend(task, read_blend(card, fitted, models), fitted.temperature, fitted.cuts)


def read_blend(card: Path, fitted: Fitted, models: int) -> WeightedMean | Logistic:
    """The blend alone; raises as read_fitted does."""
    try:
        return _read_blend(fitted.blend, models)
    except ValueError as error:  # from the shapes or the base64
        raise EnsembleError(
            f"{card}: blend.fitted.blend: expected the numbers of {models} models: {error}. "
            "Run: dvc repro --force ensemble"
        ) from error


def _read_blend(part: FittedMean | FittedLogistic, models: int) -> WeightedMean | Logistic:
    if isinstance(part, FittedMean):
        return WeightedMean(np.array(part.weights).reshape(models))
    outputs = len(part.intercepts)
    if part.features == "ranks":
        packed = [base64.b64decode(column, validate=True) for column in part.known]
        known = np.stack([np.frombuffer(column, _DOUBLES) for column in packed])
        features = Ranks(known.reshape(models, -1).astype(np.float64))
        coefficients = np.array(part.coefficients).reshape(1, 1)
        return Logistic(features, coefficients, np.array(part.intercepts))
    coefficients = np.array(part.coefficients).reshape(outputs, models * outputs)
    return Logistic(logit_features, coefficients, np.array(part.intercepts))
