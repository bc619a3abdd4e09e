"""Flips, quarter turns and affine maps of whole batches, each image sampled once.

The maps that follow each other in a policy are multiplied to one an image. So nothing is
interpolated twice, and what one map moves out of the picture the next can bring back, which
albumentations cannot. Flips and quarter turns alone only pick pixels: they are exact.

Coordinates are from the picture's middle, x to the right and y down: there a flip or a turn
is a matrix of 0, 1 and -1, and only a translation shifts. Interpolation is bilinear, and what
lies outside is 0: albumentations' defaults.
"""

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from torch.nn import functional

from pipeline.train.augment.operation import (
    Drawn,
    Operation,
    Pixels,
    Range,
    Rows,
    a_range,
    just,
    read_range,
)

Matrices = Float[ndarray, "batch 2 2"]
Shifts = Float[ndarray, "batch 2"]

_IDENTITY = np.eye(2)
_HORIZONTAL = np.array([[-1.0, 0.0], [0.0, 1.0]])
_TRANSPOSE = np.array([[0.0, 1.0], [1.0, 0.0]])
_QUARTER = _TRANSPOSE @ _HORIZONTAL
"""Counterclockwise, as numpy.rot90."""
_QUARTERS = np.stack([np.linalg.matrix_power(_QUARTER, turns) for turns in range(4)])


class GeometricOperation(Operation):
    """An operation that moves pixels."""

    def maps(self, rng: np.random.Generator, batch: int, side: int) -> tuple[Matrices, Shifts]:
        """Of each image: where a pixel goes, matrix @ place + shift, from the middle in pixels."""
        raise NotImplementedError


class Symmetry(GeometricOperation):
    """One of some symmetries of the square, each as likely as the others."""

    choices: ClassVar[ndarray]

    def maps(self, rng: np.random.Generator, batch: int, _: int) -> tuple[Matrices, Shifts]:
        """See GeometricOperation."""
        chosen = self.choices[rng.integers(len(self.choices), size=batch)]
        applied = self.applied(rng, batch)[:, None, None]
        return np.where(applied, chosen, _IDENTITY), np.zeros((batch, 2))


class HorizontalFlip(Symmetry):
    """Left becomes right."""

    choices: ClassVar[ndarray] = _HORIZONTAL[None]


class VerticalFlip(Symmetry):
    """Up becomes down."""

    choices: ClassVar[ndarray] = -_HORIZONTAL[None]


class Transpose(Symmetry):
    """Rows become columns."""

    choices: ClassVar[ndarray] = _TRANSPOSE[None]


class RandomRotate90(Symmetry):
    """None to three quarter turns."""

    p: Annotated[float, Field(ge=0, le=1)] = 1.0
    choices: ClassVar[ndarray] = _QUARTERS


class D4(Symmetry):
    """Any of the square's eight symmetries."""

    p: Annotated[float, Field(ge=0, le=1)] = 1.0
    choices: ClassVar[ndarray] = np.concatenate([_QUARTERS, _QUARTERS @ _HORIZONTAL])


class SquareSymmetry(D4):
    """albumentations' other name for D4."""


Axes = tuple[Range, Range]
"""The range of x and that of y."""


def _of_axes(missing: float) -> BeforeValidator:
    """Read one range for both axes, or a mapping with x, y or both; `missing` is the other's."""

    def read(value: Any) -> Axes:
        if not isinstance(value, dict):
            return read_range(value, just), read_range(value, just)
        if not value or set(value) - {"x", "y"}:
            raise ValueError(f"expected the keys x, y or both, found {', '.join(map(str, value))}")
        return tuple(read_range(value.get(axis, missing), just) for axis in "xy")  # type: ignore[return-value]

    return BeforeValidator(read)


def _positive(axes: Axes) -> Axes:
    if (least := min(map(min, axes))) <= 0:
        raise ValueError(f"expected scales above 0, found {least:g}")
    return axes


class Affine(GeometricOperation):
    """Scale, then turn, shear and shift, about the middle.

    The axes draw apart, unless keep_ratio ties their scales. A key that is missing from a
    mapping means 1, for `shear` too, in degrees: as in albumentations.
    """

    scale: Annotated[Axes, _of_axes(1.0), AfterValidator(_positive)] = ((1.0, 1.0), (1.0, 1.0))
    translate_percent: Annotated[Axes, _of_axes(0.0)] | None = None
    translate_px: Annotated[Axes, _of_axes(0.0)] | None = None
    rotate: Annotated[Range, a_range(just)] = (0.0, 0.0)
    shear: Annotated[Axes, _of_axes(1.0)] = ((0.0, 0.0), (0.0, 0.0))
    keep_ratio: bool = False
    balanced_scale: bool = False
    interpolation: Literal[1] = 1
    border_mode: Literal[0] = 0
    fill: Literal[0] = 0
    fit_output: Literal[False] = False

    @model_validator(mode="after")
    def _consistent(self) -> "Affine":
        if self.translate_percent is not None and self.translate_px is not None:
            raise ValueError("expected translate_percent or translate_px, found both")
        if self.translate_px is not None and any(low > high for low, high in self.translate_px):
            raise ValueError(f"translate_px: expected low ≤ high, found {self.translate_px}")
        if self.keep_ratio and self.scale[0] != self.scale[1]:
            raise ValueError(f"keep_ratio: expected one range for both axes, found {self.scale}")
        return self

    def maps(self, rng: np.random.Generator, batch: int, side: int) -> tuple[Matrices, Shifts]:
        """See GeometricOperation."""
        scale = np.array([self._scale(rng, limits, batch) for limits in self.scale])
        if self.keep_ratio:
            scale[1] = scale[0]
        angle = np.deg2rad(rng.uniform(*self.rotate, batch))
        shear_x, shear_y = (-np.tan(np.deg2rad(rng.uniform(*r, batch))) for r in self.shear)
        shift = self._shift(rng, batch, side)
        one = np.ones(batch)
        sheared = np.array([[one, shear_x], [shear_y, one]])
        turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        matrix = np.einsum("ijb,jkb,kb->bik", sheared, turned, scale)
        applied = self.applied(rng, batch)[:, None]
        return np.where(applied[..., None], matrix, _IDENTITY), np.where(applied, shift, 0.0)

    def _scale(
        self, rng: np.random.Generator, limits: Range, batch: int
    ) -> Float[ndarray, " batch"]:
        if not self.balanced_scale:
            return rng.uniform(*limits, batch)
        shrinks = rng.random(batch) < 0.5
        if limits[0] >= 1 or limits[1] <= 1:
            shrinks[:] = limits[0] < 1
        smaller = rng.uniform(min(limits[0], 1.0), 1.0, batch)
        return np.where(shrinks, smaller, rng.uniform(1.0, max(limits[1], 1.0), batch))

    def _shift(self, rng: np.random.Generator, batch: int, side: int) -> Shifts:
        """Whole pixels; a share of the side is cut to them towards 0."""
        if self.translate_px is not None:
            low, high = np.trunc(self.translate_px).astype(int).T
            return rng.integers(low, high, (batch, 2), endpoint=True).astype(float)
        if self.translate_percent is not None:
            low, high = np.array(self.translate_percent).T
            return np.trunc(side * rng.uniform(low, high, (batch, 2)))
        return np.zeros((batch, 2))


class Geometry:
    """Geometric operations that follow each other, as one step."""

    def __init__(self, operations: list[GeometricOperation]) -> None:
        """operations: one or more, in order."""
        self.operations = operations
        self._exact = all(isinstance(operation, Symmetry) for operation in operations)

    def draw(self, rng: np.random.Generator, batch: int, side: int) -> Rows:
        """Where a pixel comes from: the inverse maps, their shifts in halves of the side."""
        matrix, shift = self.operations[0].maps(rng, batch, side)
        for operation in self.operations[1:]:
            then, then_shift = operation.maps(rng, batch, side)
            matrix = then @ matrix
            shift = np.einsum("bij,bj->bi", then, shift) + then_shift
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
            place = (of_x * middles + (of_y * middles[:, None] + (side - 1))) / 2
            pixel = (place[:, :1] + side * place[:, 1:]).flatten(2).long()
            return images.flatten(2).gather(2, pixel.expand(-1, 3, -1)).view_as(images)
        middles = middles / side
        # A plane of x and a plane of y: this sum and grid_sample are both fastest so.
        grid = of_x * middles + (of_y * middles[:, None] + shift)
        return functional.grid_sample(images, grid.permute(0, 2, 3, 1), align_corners=False)
