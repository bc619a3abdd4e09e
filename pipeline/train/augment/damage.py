"""Blur, noise and holes, of whole batches."""

from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from torch import Tensor

from pipeline.train.augment.operation import (
    Drawn,
    PixelOperation,
    Pixels,
    Range,
    Rows,
    a_range,
    from_zero,
    within,
)


def _whole(value: Range) -> Range:
    if any(number != int(number) for number in value):
        raise ValueError(f"expected whole numbers, found [{value[0]:g}, {value[1]:g}]")
    return value


_FromZero = Annotated[Range, a_range(from_zero), within(0.0)]


class GaussianBlur(PixelOperation):
    """A Gaussian of random width, both ways, the picture mirrored at its edges.

    blur_limit is the kernel's size in pixels, made odd; 0 takes it from sigma.
    """

    blur_limit: Annotated[_FromZero, AfterValidator(_whole)] = (0.0, 0.0)
    sigma_limit: _FromZero = (0.5, 3.0)

    def draw(self, rng: np.random.Generator, batch: int, _: int) -> Rows:
        """The kernel's weights, from the middle one outwards; 1, 0, 0… leaves all as it is."""
        sigma = rng.uniform(*self.sigma_limit, batch)
        smallest, largest = map(int, self.blur_limit)
        size = rng.integers(smallest, largest, batch, endpoint=True)
        reach = np.where(size == 0, (sigma * 3.5).astype(int), size // 2)
        reach[~self.applied(rng, batch) | (sigma == 0)] = 0
        away = np.arange(self._reach() + 1)[:, None]
        weights: Rows = np.exp(-0.5 * (away / np.maximum(sigma, 1e-9)) ** 2) * (away <= reach)
        weights /= 2 * weights.sum(0) - weights[0]
        return weights

    def apply(self, images: Pixels, drawn: Drawn, _: torch.Generator) -> Pixels:
        """See PixelOperation."""
        side = images.shape[-1]
        seen = _seen(self._reach(), side, images.device)
        blend = (drawn.T @ seen.flatten(1)).view(-1, side, side)
        across = (images.flatten(1, 2) @ blend.mT).view_as(images)
        return blend[:, None] @ across

    def _reach(self) -> int:
        """The most pixels that a kernel reaches to each side."""
        by_sigma = int(self.sigma_limit[1] * 3.5) if self.blur_limit[0] == 0 else 0
        return max(by_sigma, int(self.blur_limit[1]) // 2)


def _seen(reach: int, side: int, device: torch.device) -> Float[Tensor, "reach side side"]:
    """[a, i, j]: how often pixel i sees pixel j when it looks a away to both sides.

    The picture is mirrored at its edges, and the edge itself stands there once.
    """
    pixel = torch.arange(side, device=device)
    away = torch.arange(-reach, reach + 1, device=device)[:, None]
    place = (pixel + away) % max(2 * side - 2, 1)
    place = torch.minimum(place, 2 * side - 2 - place)
    sees = (place[..., None] == pixel).float()
    return torch.cat([sees[reach : reach + 1], sees[reach + 1 :] + sees[:reach].flip(0)])


class GaussNoise(PixelOperation):
    """Normal noise on each pixel, its deviation and mean shares of 255."""

    std_range: Annotated[Range, a_range(None), within(0.0, 1.0)] = (0.2, 0.44)
    mean_range: Annotated[Range, a_range(None), within(-1.0, 1.0)] = (0.0, 0.0)
    per_channel: bool = True
    noise_scale_factor: Literal[1] = 1

    def draw(self, rng: np.random.Generator, batch: int, _: int) -> Rows:
        """Deviation and mean, in grey levels."""
        applied = self.applied(rng, batch)
        limits = (self.std_range, self.mean_range)
        return np.array([np.where(applied, 255 * rng.uniform(*r, batch), 0.0) for r in limits])

    def apply(self, images: Pixels, drawn: Drawn, noise: torch.Generator) -> Pixels:
        """See PixelOperation."""
        batch, channels, side, _ = images.shape
        shape = (batch, channels if self.per_channel else 1, side, side)
        deviation, mean = drawn[..., None, None, None]
        normal = torch.randn(shape, generator=noise, device=images.device)
        return torch.addcmul(images + mean, normal, deviation).clamp_(0, 255)


def _three(value: object) -> object:
    return (value,) * 3 if isinstance(value, (int, float)) else value


_Level = Annotated[float, Field(ge=0, le=255)]
_Number = Annotated[Range, a_range(None), within(1.0), AfterValidator(_whole)]
_Sizes = Annotated[Range, a_range(None), within(0.0)]


class CoarseDropout(PixelOperation):
    """Rectangular holes. Sizes below 1 are shares of the side, others are pixels."""

    num_holes_range: _Number = (1.0, 2.0)
    hole_height_range: _Sizes = (0.1, 0.2)
    hole_width_range: _Sizes = (0.1, 0.2)
    fill: Annotated[tuple[_Level, _Level, _Level], BeforeValidator(_three)] = (0.0, 0.0, 0.0)

    @model_validator(mode="after")
    def _one_unit(self) -> "CoarseDropout":
        if self.hole_height_range[1] < 1 < self.hole_width_range[1]:
            raise ValueError(
                f"expected hole_width_range in shares as hole_height_range, found "
                f"{list(self.hole_width_range)} beside {list(self.hole_height_range)}"
            )
        return self

    def draw(self, rng: np.random.Generator, batch: int, side: int) -> Rows:
        """The colour; then each hole's left, top, right and bottom, equal where there is none."""
        fewest, most = map(int, self.num_holes_range)
        holes = rng.integers(fewest, most, batch, endpoint=True) * self.applied(rng, batch)
        limits = np.array([self.hole_width_range, self.hole_height_range])
        if self.hole_height_range[1] >= 1:  # albumentations asks the height alone
            low, high = np.minimum(limits, side).astype(int).T
            sizes = rng.integers(low, high, (batch, most, 2), endpoint=True)
        else:
            low, high = limits.T
            sizes = (side * rng.uniform(low, high, (batch, most, 2))).astype(int)
        sizes[np.arange(most) >= holes[:, None]] = 0
        start = rng.integers(0, side - sizes, endpoint=True)
        edges = np.concatenate([start, start + sizes], axis=2).transpose(1, 2, 0)
        return np.concatenate([np.tile(self.fill, (batch, 1)).T, edges.reshape(-1, batch)])

    def apply(self, images: Pixels, drawn: Drawn, _: torch.Generator) -> Pixels:
        """See PixelOperation."""
        colour = drawn[:3].T[..., None, None]
        left, top, right, bottom = drawn[3:].view(-1, 4, len(images)).permute(1, 2, 0)[..., None]
        place = torch.arange(images.shape[-1], device=images.device)
        columns = (left <= place) & (place < right)
        rows = (top <= place) & (place < bottom)
        hole = (rows[..., None] & columns[..., None, :]).any(1, keepdim=True)
        return torch.where(hole, colour, images)
