"""Flips, quarter turns and affine maps of whole batches, each image sampled once.

The maps that follow each other in a policy are multiplied into one per image. So nothing is
interpolated twice, and what one map moves out of the picture the next can bring back, unlike in
albumentations. Flips and quarter turns alone only pick pixels: they are exact.

Coordinates start at the picture's middle, x to the right and y down: there a flip or a turn
is a matrix of 0, 1 and -1, and only a translation shifts. Interpolation is bilinear, and what
lies outside is 0: albumentations' defaults.
"""

import math
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from pydantic import BeforeValidator, model_validator
from torch.nn import functional

from pipeline.train.augment.operation import (
    Drawn,
    Draws,
    Number,
    Operation,
    Pixels,
    Probability,
    Range,
    a_range,
    constant,
    read_range,
)

Matrices = Float[ndarray, "batch 2 2"]
Shifts = Float[ndarray, "batch 2"]

_HORIZONTAL = np.array([[-1.0, 0.0], [0.0, 1.0]])
_TRANSPOSE = np.array([[0.0, 1.0], [1.0, 0.0]])
_QUARTER = _TRANSPOSE @ _HORIZONTAL
"""Counterclockwise, as numpy.rot90."""
_QUARTERS = np.stack([np.linalg.matrix_power(_QUARTER, turns) for turns in range(4)])


class GeometricOperation(Operation):
    """An operation that moves pixels."""

    def maps(self, rng: np.random.Generator, batch: int, side: int) -> tuple[Matrices, Shifts]:
        """For each image, where a pixel goes: matrix @ position + shift, in pixels.

        Whatever `p`: Geometry leaves out the images that are not changed.
        """
        raise NotImplementedError


class Symmetry(GeometricOperation):
    """One of some symmetries of the square, each as likely as the others."""

    choices: ClassVar[ndarray]

    def maps(self, rng: np.random.Generator, batch: int, _: int) -> tuple[Matrices, Shifts]:
        chosen = self.choices[rng.integers(len(self.choices), size=batch)]
        return chosen, np.zeros((batch, 2))


class HorizontalFlip(Symmetry):
    choices: ClassVar[ndarray] = _HORIZONTAL[None]


class VerticalFlip(Symmetry):
    choices: ClassVar[ndarray] = -_HORIZONTAL[None]


class Transpose(Symmetry):
    choices: ClassVar[ndarray] = _TRANSPOSE[None]


class RandomRotate90(Symmetry):
    """None to three quarter turns."""

    p: Probability = 1.0
    choices: ClassVar[ndarray] = _QUARTERS


class D4(Symmetry):
    """Any of the square's eight symmetries."""

    p: Probability = 1.0
    choices: ClassVar[ndarray] = np.concatenate([_QUARTERS, _QUARTERS @ _HORIZONTAL])


class SquareSymmetry(D4):
    """albumentations' other name for D4."""


Axes = tuple[Range, Range]
"""The range of x and that of y."""


def _read_axes(value: Any, least: Number = -math.inf) -> Axes:
    """One range for both axes, or a mapping with x and y."""
    both = value if isinstance(value, dict) else {"x": value, "y": value}
    if set(both) != {"x", "y"}:
        raise ValueError(f"expected the keys x and y, found {', '.join(map(str, both))}")
    return read_range(both["x"], constant, least), read_range(both["y"], constant, least)


_Scales = Annotated[Axes, BeforeValidator(partial(_read_axes, least=0.01))]
_Axes = Annotated[Axes, BeforeValidator(_read_axes)]


class Affine(GeometricOperation):
    """Scale, then turn, shear and shift, about the middle.

    Each axis draws its own numbers, unless keep_ratio gives both the same scale. rotate and shear
    are in degrees, translate_percent in shares of the side, cut to whole pixels.
    """

    scale: _Scales = ((1.0, 1.0), (1.0, 1.0))
    translate_percent: _Axes | None = None
    rotate: Annotated[Range, a_range(constant)] = (0.0, 0.0)
    shear: _Axes = ((0.0, 0.0), (0.0, 0.0))
    keep_ratio: bool = False

    @model_validator(mode="after")
    def _one_scale(self) -> "Affine":
        if self.keep_ratio and self.scale[0] != self.scale[1]:
            raise ValueError(f"keep_ratio: expected one range for both axes, found {self.scale}")
        return self

    def maps(self, rng: np.random.Generator, batch: int, side: int) -> tuple[Matrices, Shifts]:
        scale = np.array([rng.uniform(*limits, batch) for limits in self.scale])
        if self.keep_ratio:
            scale[1] = scale[0]
        angle = np.deg2rad(rng.uniform(*self.rotate, batch))
        shear_x, shear_y = (-np.tan(np.deg2rad(rng.uniform(*r, batch))) for r in self.shear)
        shift = np.zeros((batch, 2))
        if self.translate_percent is not None:
            low, high = np.array(self.translate_percent).T
            shift = np.trunc(side * rng.uniform(low, high, (batch, 2)))
        one = np.ones(batch)
        sheared = np.array([[one, shear_x], [shear_y, one]])
        turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        return np.einsum("ijb,jkb,kb->bik", sheared, turned, scale), shift


class Geometry:
    """Geometric operations that follow each other, as one step."""

    def __init__(self, operations: list[GeometricOperation]) -> None:
        """operations: one or more, in order."""
        self.operations = operations
        self._exact = all(isinstance(operation, Symmetry) for operation in operations)

    def draw(self, rng: np.random.Generator, batch: int, side: int) -> Draws:
        """The inverse maps: where a pixel comes from, the shifts in halves of the side."""
        matrix, shift = np.eye(2), np.zeros((batch, 2))
        for operation in self.operations:
            then, then_shift = operation.maps(rng, batch, side)
            applied = operation.applied(rng, batch)[:, None]
            then = np.where(applied[..., None], then, np.eye(2))
            matrix = then @ matrix
            shift = np.einsum("bij,bj->bi", then, shift) + np.where(applied, then_shift, 0.0)
        (a, b), (c, d) = matrix.transpose(1, 2, 0)
        inverse = np.array([[d, -b], [-c, a]]) / (a * d - b * c)
        back = np.einsum("ijb,bj->ib", -inverse, shift) / (side / 2)
        return np.concatenate([inverse[:, 0], inverse[:, 1], back])

    def apply(self, images: Pixels, drawn: Drawn, _: torch.Generator) -> Pixels:
        """Sample each image once."""
        of_x, of_y, shift = drawn.view(3, 2, -1).transpose(1, 2)[..., None, None]
        side = images.shape[-1]
        middles = 2 * torch.arange(side, device=images.device, dtype=torch.float32) + (1 - side)
        if self._exact:
            position = (of_x * middles + (of_y * middles[:, None] + (side - 1))) / 2
            pixel = (position[:, :1] + side * position[:, 1:]).flatten(2).long()
            pixel = pixel.expand(-1, images.shape[1], -1)
            return images.flatten(2).gather(2, pixel).view_as(images)
        middles = middles / side
        # A plane of x and a plane of y: this sum and grid_sample are both fastest so.
        grid = of_x * middles + (of_y * middles[:, None] + shift)
        return functional.grid_sample(images, grid.permute(0, 2, 3, 1), align_corners=False)
