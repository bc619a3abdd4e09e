"""What was fitted, as a part of a submission's card, and back from there to the last bit.

`predict` and a winner's package blend new images by it: a rounded weight or threshold would turn a
label that is nearly a tie. JSON keeps every digit of a double; the ranks of rank_mean, a number a
training row and model, are packed as base64.
"""

import base64
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy import ndarray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.core.errors import EnsembleError
from pipeline.ensemble.blend import Fitted, Logistic, Ranks, WeightedMean, logit_features

_DOUBLES = np.dtype("<f8")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Mean(_Part):
    kind: Literal["weighted_mean"]
    weights: list[float]


class _Logistic(_Part):
    kind: Literal["logistic"]
    features: Literal["logits", "ranks"]
    known: list[str]
    """Of ranks: the doubles of each model, in base64; of logits: none."""
    coefficients: list[list[float]]
    intercepts: list[float]


class _Fitted(_Part):
    blend: Annotated[_Mean | _Logistic, Field(discriminator="kind")]
    temperature: float | None
    threshold: float | None


def describe_fitted(fitted: Fitted) -> dict[str, Any]:
    """All that it takes to apply it again, exactly."""
    blend = fitted.blend
    part: _Mean | _Logistic
    if isinstance(blend, WeightedMean):
        part = _Mean(kind="weighted_mean", weights=blend.weights.tolist())
    else:
        ranks = blend.features if isinstance(blend.features, Ranks) else None
        part = _Logistic(
            kind="logistic",
            features="ranks" if ranks else "logits",
            known=[_pack(column) for column in ranks.known] if ranks else [],
            coefficients=blend.coefficients.tolist(),
            intercepts=blend.intercepts.tolist(),
        )
    whole = _Fitted(blend=part, temperature=fitted.temperature, threshold=fitted.threshold)
    return whole.model_dump()


def read_fitted(card: Path, blend: dict[str, Any], models: int) -> Fitted:
    """What describe_fitted described, from the card's part `blend`.

    Raises EnsembleError where it is not there, or not of so many models.
    """
    if "fitted" not in blend:
        raise EnsembleError(
            f"{card}: expected blend.fitted, what new images are blended by; found none: it was "
            "made by an earlier version. Run: dvc repro ensemble"
        )
    try:
        found = _Fitted.model_validate(blend["fitted"])
        fitted = Fitted(_read_blend(found.blend, models), found.temperature, found.threshold)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in ("fitted", *first["loc"]))
        raise _broken(card, f"{place}: {first['msg']}") from error
    except ValueError as error:  # of the shapes or the base64
        raise _broken(card, f"fitted.blend: {error}") from error
    return fitted


def _read_blend(part: _Mean | _Logistic, models: int) -> WeightedMean | Logistic:
    if isinstance(part, _Mean):
        return WeightedMean(np.array(part.weights).reshape(models))
    outputs = len(part.intercepts)
    if part.features == "ranks":
        known = np.stack([_unpack(column) for column in part.known])
        features = Ranks(known.reshape(models, -1))
        coefficients = np.array(part.coefficients).reshape(1, 1)
        return Logistic(features, coefficients, np.array(part.intercepts))
    coefficients = np.array(part.coefficients).reshape(outputs, models * outputs)
    return Logistic(logit_features, coefficients, np.array(part.intercepts))


def _pack(values: ndarray) -> str:
    return base64.b64encode(values.astype(_DOUBLES).tobytes()).decode()


def _unpack(packed: str) -> ndarray:
    return np.frombuffer(base64.b64decode(packed, validate=True), _DOUBLES).astype(np.float64)


def _broken(card: Path, what: str) -> EnsembleError:
    return EnsembleError(f"{card}: blend.{what}. Run: dvc repro --force ensemble")
