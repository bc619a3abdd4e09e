"""The parts of an operation of the batched engine: arguments, draws for a batch, and pixels.

An operation is a pydantic model with the name, the arguments and the defaults of albumentations:
a policy in params.yaml means the same to both engines. An argument that is not a field is refused.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from torch import Tensor

Pixels = Float[Tensor, "batch channels side side"]
"""RGB or grey, 0 to 255, not rounded."""

Plane = Float[Tensor, "batch 1 height width"]

Draws = Float[ndarray, "rows batch"]
"""The random numbers of a batch: each row is one number for every image, computed on the CPU."""

Drawn = Float[Tensor, "rows batch"]
"""The same as float32 on the device."""

Number = float | int
Range = tuple[Number, Number]
WholeRange = tuple[int, int]
Probability = Annotated[float, Field(ge=0, le=1)]


class Operation(BaseModel):
    """Arguments with albumentations' names and defaults."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False
    )
    p: Probability = 0.5
    """The probability that an image is changed."""

    def applied(self, rng: np.random.Generator, batch: int) -> Bool[ndarray, " batch"]:
        """True for the images of a batch that the operation is applied to."""
        return rng.random(batch) < self.p


class PixelOperation(Operation):
    """An operation that changes pixels where they are."""

    def draw(self, rng: np.random.Generator, batch: int, side: int, /) -> Draws:
        """The numbers of each image; where `p` leaves an image out, those that change nothing."""
        raise NotImplementedError

    def apply(self, images: Pixels, drawn: Drawn, noise: torch.Generator, /) -> Pixels:
        """New images. noise: a generator on their device, for what is drawn pixel by pixel."""
        raise NotImplementedError


def read_range(
    value: Any,
    of_number: Callable[[Number], Range] | None = None,
    least: Number = -math.inf,
    most: Number = math.inf,
) -> Range:
    """`(low, high)`, or what `of_number` makes of a number; low and high in [least, most].

    Raises ValueError for anything else.
    """
    match value:
        case (float() | int() as low, float() | int() as high):
            pass
        case float() | int() if of_number is not None:
            low, high = of_number(value)
        case _:
            or_number = "" if of_number is None else "a number or "
            raise ValueError(f"expected {or_number}[low, high], found {value!r}")
    if not least <= low <= high <= most:
        limits = f", from {least:g} to {most:g}" if most < math.inf else f", {least:g} or more"
        limits = limits if least > -math.inf else ""
        raise ValueError(f"expected low ≤ high{limits}, found [{low:g}, {high:g}]")
    return low, high


def a_range(*arguments: Any) -> BeforeValidator:
    """read_range with its other arguments, as a validator of pydantic's."""
    return BeforeValidator(lambda value: read_range(value, *arguments))


def constant(value: Number) -> Range:
    """A number that stands for itself."""
    return value, value


def around_one(value: Number) -> Range:
    """A number that stands for all factors between 1 - it and 1 + it."""
    return max(0, 1 - value), 1 + value


def around_zero(value: Number) -> Range:
    """A number that stands for all between its negative and itself."""
    return -value, value


def grey_of(images: Float[Tensor, "batch channels height width"]) -> Plane:
    """ITU-R BT.601's luma, as OpenCV's grey; grey is itself."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return torch.mul(red, 0.299).add_(green, alpha=0.587).add_(blue, alpha=0.114).unsqueeze(1)


def inside(edges: Float[Tensor, "edges *boxes"], side: int) -> Bool[Tensor, "..."]:
    """Which pixels of a picture lie in each box; edges: its left, top, right and bottom.

    Of a signal, which of its samples lie in each window; edges: its start and end.
    """
    place = torch.arange(side, device=edges.device)
    lows, highs = edges[..., None].chunk(2)
    along = (lows <= place) & (place < highs)
    found: Tensor = along[0]
    for rows in along[1:]:
        found = rows[..., None] & found[..., None, :]
    return found
