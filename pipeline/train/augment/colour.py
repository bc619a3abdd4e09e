"""Brightness, contrast, saturation and hue of whole batches.

albumentations rounds down and clips to 0…255 after each part of an operation; here an operation
clips once, at its end, and nothing is rounded. On 300 malaria cells at 64 px with the profile's
arguments, both given the same numbers, that is 1.1 grey levels brighter on average, of which
clipping is 0.01. tests/test_batched.py compares the distributions.
"""

from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from pipeline.train.augment.operation import (
    Drawn,
    Draws,
    PixelOperation,
    Pixels,
    Plane,
    Range,
    a_range,
    around_one,
    around_zero,
    grey_of,
)

_Factor = Annotated[Range, a_range(around_one, 0)]


class ColorJitter(PixelOperation):
    """Factors of brightness, contrast and saturation, and a turn of the hue, in random order.

    Without clipping the order matters little: the three factors commute, a turn of the hue
    commutes with what stretches and shifts all channels alike, and only the grey that
    saturation keeps, and the mean grey that contrast keeps, can be those before or after the turn.
    So all 24 orders are one formula with two switches. hue is a share of the whole circle; a
    number alone means from its negative to it, and of a factor from 1 - it to 1 + it. Saturation
    and hue change nothing in grey images.
    """

    brightness: _Factor = (0.8, 1.2)
    contrast: _Factor = (0.8, 1.2)
    saturation: _Factor = (0.8, 1.2)
    hue: Annotated[Range, a_range(around_zero, -0.5, 0.5)] = (-0.5, 0.5)

    def draw(self, rng: np.random.Generator, batch: int, _: int) -> Draws:
        """Weights of the turned image, each pixel's grey and the mean grey; switches; turn."""
        applied = self.applied(rng, batch)
        brightness, contrast, saturation = (
            np.where(applied, rng.uniform(*limits, batch), 1.0)
            for limits in (self.brightness, self.contrast, self.saturation)
        )
        saturation_at, contrast_at, hue_at = rng.random((3, batch))
        # OpenCV's hue has 180 whole steps to the circle: 30 to a sextant.
        turn = np.where(applied, np.floor(180 * rng.uniform(*self.hue, batch)) / 30, 0.0)
        both = brightness * contrast
        weights = [both * saturation, both * (1 - saturation), brightness * (1 - contrast)]
        switches = [saturation_at > hue_at, contrast_at > hue_at]
        return np.concatenate([weights, switches, _plan_turn(turn)])

    def apply(self, images: Pixels, drawn: Drawn, _: torch.Generator) -> Pixels:
        colour, grey, mean, saturation_after, contrast_after = drawn[:5, :, None, None, None]
        before = after = grey_of(images)
        if self.hue != (0.0, 0.0) and images.shape[1] == 3:
            images = _turn_hue(images, drawn[5:])
            after = grey_of(images)
        kept = torch.lerp(before, after, saturation_after)
        kept_mean = torch.lerp(_mean(before), _mean(after), contrast_after)
        base = (kept * grey).add_(mean * kept_mean)
        return torch.addcmul(base, images, colour).clamp_(0, 255)


class RandomBrightnessContrast(PixelOperation):
    """A factor 1 + contrast, and brightness added as a share of 255.

    A number alone means from its negative to it.
    """

    brightness_limit: Annotated[Range, a_range(around_zero)] = (-0.2, 0.2)
    contrast_limit: Annotated[Range, a_range(around_zero)] = (-0.2, 0.2)

    def draw(self, rng: np.random.Generator, batch: int, _: int) -> Draws:
        """The factor, and the grey levels added."""
        applied = self.applied(rng, batch)
        contrast, brightness = (
            np.where(applied, rng.uniform(*limits, batch), 0.0)
            for limits in (self.contrast_limit, self.brightness_limit)
        )
        return np.array([1 + contrast, 255 * brightness])

    def apply(self, images: Pixels, drawn: Drawn, _: torch.Generator) -> Pixels:
        factor, added = drawn[..., None, None, None]
        return torch.addcmul(added, images, factor).clamp_(0, 255)


def _plan_turn(turn: Float[ndarray, " batch"]) -> Draws:
    """The numbers that _turn_hue needs for a turn by so many sextants of the colour circle.

    The part beyond whole sextants, without its sign; whether to take the opposite colour. Then,
    of each channel: the plane that it comes from, and the one that the hue moves it towards.
    Planes are the channels of the whole batch, numbered consecutively.
    """
    whole = np.rint(turn)
    opposite = whole % 2
    channel, first = np.arange(3)[:, None], 3 * np.arange(len(turn))
    source = (channel - (whole - 3 * opposite) / 2) % 3 + first
    towards = (channel + np.where(turn < whole, -1, 1)) % 3 + first
    return np.concatenate([[np.abs(turn - whole), opposite], source, towards])


def _turn_hue(images: Pixels, plan: Drawn) -> Pixels:
    """Turn the hue as HSV has it: each pixel keeps its largest and smallest channel.

    A third of the circle is a change of channels, half of it takes x to high + low - x, and
    both together make whole sextants. A turn by t more, up to half a sextant towards green, takes
    red, between its pixel's low and high, to the lesser of
        red - green - blue + 2 low + (1 + t) (high - low)
        red - green + low + (1 - t) (high - low)
    cut to low and high; the other channels and direction likewise, with their neighbours on the
    circle. That is HSV's hexagon without its cases: half the passes over the pixels.
    """
    part, opposite = plan[:2, :, None, None, None]
    low, high = images.amin(1, keepdim=True), images.amax(1, keepdim=True)
    both, chroma = high + low, high - low
    images = torch.addcmul(opposite * both, images, 1 - 2 * opposite)
    images = _pick_planes(images, plan[2:5])
    towards = _pick_planes(images, plan[5:8])
    rising = torch.addcmul(both, chroma, part).sub_(images.sum(1, keepdim=True))
    falling = torch.addcmul(high, chroma, -part)
    first = torch.add(rising, images, alpha=2)
    second = torch.sub(images, towards, out=towards).add_(falling)
    return torch.minimum(first, second, out=first).clamp_(low, high)


def _pick_planes(images: Pixels, planes: Float[Tensor, "3 batch"]) -> Pixels:
    """New images made of the named channels of the whole batch."""
    return images.flatten(0, 1).index_select(0, planes.T.flatten().long()).view_as(images)


def _mean(planes: Plane) -> Float[Tensor, "batch 1 1 1"]:
    return planes.mean((2, 3), keepdim=True)
