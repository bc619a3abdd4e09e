"""What an operation of the batched engine is: arguments, draws for a whole batch, and pixels.

An operation is a pydantic model of albumentations' arguments of the same name, with
albumentations' defaults: a policy in params.yaml means the same to both engines. What this
engine cannot do has no field, or a field with the one value that it can.
"""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from torch import Tensor

Pixels = Float[Tensor, "batch 3 side side"]
"""RGB, 0 to 255, not rounded."""

Rows = Float[ndarray, "rows batch"]
"""What an operation drew for a batch: a row a number, worked out on the CPU."""

Drawn = Float[Tensor, "rows batch"]
"""The same as float32 on the device."""

Range = tuple[float, float]


class Operation(BaseModel):
    """Arguments, with albumentations' types and ranges; unknown ones are refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False
    )
    p: Annotated[float, Field(ge=0, le=1)] = 0.5

    def applied(self, rng: np.random.Generator, batch: int) -> Bool[ndarray, " batch"]:
        """Which images of a batch the operation is applied to."""
        return rng.random(batch) < self.p


class PixelOperation(Operation):
    """An operation that changes pixels where they are."""

    def draw(self, rng: np.random.Generator, batch: int, side: int, /) -> Rows:
        """The numbers of each image; where `p` leaves one out, those that change nothing."""
        raise NotImplementedError

    def apply(self, images: Pixels, drawn: Drawn, noise: torch.Generator, /) -> Pixels:
        """New images. noise: on their device, for what is drawn pixel by pixel."""
        raise NotImplementedError


def read_range(value: Any, of_number: Callable[[float], Range] | None) -> Range:
    """`[low, high]`, or what `of_number` makes of a number. Raises ValueError on anything else."""
    if of_number is not None and _is_number(value):
        return of_number(float(value))
    if isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_is_number, value)):
        return float(value[0]), float(value[1])
    or_number = "" if of_number is None else "a number or "
    raise ValueError(f"expected {or_number}[low, high], found {value!r}")


def a_range(of_number: Callable[[float], Range] | None) -> BeforeValidator:
    """Pydantic's form of read_range."""
    return BeforeValidator(lambda value: read_range(value, of_number))


def within(least: float, most: float = float("inf")) -> AfterValidator:
    """Refuse a range that falls, or leaves `least` to `most`."""

    def check(value: Range) -> Range:
        if not least <= value[0] <= value[1] <= most:
            limits = f"{least:g} or more" if most == float("inf") else f"from {least:g} to {most:g}"
            raise ValueError(f"expected low ≤ high, {limits}, found [{value[0]:g}, {value[1]:g}]")
        return value

    return AfterValidator(check)


def just(value: float) -> Range:
    """A number that means itself."""
    return value, value


def around_zero(value: float) -> Range:
    """A number that means all between itself and its negative."""
    return -value, value


def from_zero(value: float) -> Range:
    """A number that means all from 0 up to itself."""
    return 0.0, value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
