"""Blur, noise and holes, of whole batches."""

from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BeforeValidator, Field
from torch import Tensor

from pipeline.train.augment.operation import (
    Drawn,
    Draws,
    Number,
    PixelOperation,
    Pixels,
    Range,
    WholeRange,
    a_range,
    grey_of,
    inside,
)


def _from_zero(value: Number) -> Range:
    return 0, value


class GaussianBlur(PixelOperation):
    """A Gaussian of random width, both ways, the picture mirrored at its edges.

    sigma_limit: the deviation in pixels. blur_limit: the kernel's size in pixels, made odd; 0
    derives it from sigma. A number alone means from 0 to it.
    """

    blur_limit: Annotated[WholeRange, a_range(_from_zero, 0)] = (0, 0)
    sigma_limit: Annotated[Range, a_range(_from_zero, 0)] = (0.5, 3.0)

    def draw(self, rng: np.random.Generator, batch: int, _: int) -> Draws:
        """The kernel's weights, from the middle one outwards; 1, 0, 0… changes nothing."""
        sigma = rng.uniform(*self.sigma_limit, batch)
        size = rng.integers(*self.blur_limit, batch, endpoint=True)
        reach = np.where(size == 0, (sigma * 3.5).astype(int), size // 2)
        reach[~self.applied(rng, batch) | (sigma == 0)] = 0
        away = np.arange(self._reach() + 1)[:, None]
        weights: Draws = np.exp(-0.5 * (away / np.maximum(sigma, 1e-9)) ** 2) * (away <= reach)
        weights /= 2 * weights.sum(0) - weights[0]
        return weights

    def apply(self, images: Pixels, drawn: Drawn, _: torch.Generator) -> Pixels:
        side = images.shape[-1]
        mirrored = _mirrored(self._reach(), side, images.device)
        blend = (drawn.T @ mirrored.flatten(1)).view(-1, side, side)
        across = (images.flatten(1, 2) @ blend.mT).view_as(images)
        return blend[:, None] @ across

    def _reach(self) -> int:
        """The most pixels that a kernel reaches to each side."""
        by_sigma = int(self.sigma_limit[1] * 3.5) if self.blur_limit[0] == 0 else 0
        return max(by_sigma, self.blur_limit[1] // 2)


def _mirrored(reach: int, side: int, device: torch.device) -> Float[Tensor, "reach side side"]:
    """[a, i, j]: how often pixel j is one of the two that lie a pixels from pixel i.

    The picture is mirrored at its edges, the pixels of the edge itself not repeated.
    """
    pixel = torch.arange(side, device=device)
    away = torch.arange(-reach, reach + 1, device=device)[:, None]
    position = (pixel + away) % max(2 * side - 2, 1)
    position = torch.minimum(position, 2 * side - 2 - position)
    found = (position[..., None] == pixel).float()
    return torch.cat([found[reach : reach + 1], found[reach + 1 :] + found[:reach].flip(0)])


class GaussNoise(PixelOperation):
    """Normal noise on each pixel; its deviation and its mean are shares of 255."""

    std_range: Annotated[Range, a_range(None, 0, 1)] = (0.2, 0.44)
    mean_range: Annotated[Range, a_range(None, -1, 1)] = (0.0, 0.0)
    per_channel: bool = True
    """False draws one number for all channels of a pixel."""

    def draw(self, rng: np.random.Generator, batch: int, _: int) -> Draws:
        """Deviation and mean, in grey levels."""
        applied = self.applied(rng, batch)
        limits = (self.std_range, self.mean_range)
        return np.array([np.where(applied, 255 * rng.uniform(*r, batch), 0.0) for r in limits])

    def apply(self, images: Pixels, drawn: Drawn, noise: torch.Generator) -> Pixels:
        batch, channels, side, _ = images.shape
        shape = (batch, channels if self.per_channel else 1, side, side)
        deviation, mean = drawn[..., None, None, None]
        normal = torch.randn(shape, generator=noise, device=images.device)
        return torch.addcmul(images + mean, normal, deviation).clamp_(0, 255)


def _three(value: object) -> object:
    return (value,) * 3 if isinstance(value, (int, float)) else value


_Level = Annotated[float, Field(ge=0, le=255)]
_Share = Annotated[Range, a_range(None, 0, 0.99)]
"""albumentations reads 1 and above as pixels."""


class CoarseDropout(PixelOperation):
    """Rectangular holes in one colour, their sides in shares of the picture's side."""

    num_holes_range: Annotated[WholeRange, a_range(None, 1)] = (1, 2)
    hole_height_range: _Share = (0.1, 0.2)
    hole_width_range: _Share = (0.1, 0.2)
    fill: Annotated[tuple[_Level, _Level, _Level], BeforeValidator(_three)] = (0.0, 0.0, 0.0)

    def draw(self, rng: np.random.Generator, batch: int, side: int) -> Draws:
        """The colour; then each hole's left, top, right and bottom, equal where there is none."""
        fewest, most = self.num_holes_range
        holes = rng.integers(fewest, most, batch, endpoint=True) * self.applied(rng, batch)
        low, high = np.array([self.hole_width_range, self.hole_height_range]).T
        sizes = (side * rng.uniform(low, high, (batch, most, 2))).astype(int)
        sizes[np.arange(most) >= holes[:, None]] = 0
        start = rng.integers(0, side - sizes, endpoint=True)
        edges = np.concatenate([start, start + sizes], axis=2).transpose(1, 2, 0)
        return np.concatenate([np.tile(self.fill, (batch, 1)).T, edges.reshape(-1, batch)])

    def apply(self, images: Pixels, drawn: Drawn, _: torch.Generator) -> Pixels:
        colour = drawn[:3].T[..., None, None]
        colour = colour if images.shape[1] == 3 else grey_of(colour)
        edges = drawn[3:].view(-1, 4, len(images)).permute(1, 2, 0)
        hole = inside(edges, images.shape[-1]).any(1, keepdim=True)
        return torch.where(hole, colour, images)
