"""Shifts, scales, noise and masks of whole batches of signals.

A change of amplitude is one about each channel's own mean over time, and noise is measured by its
own standard deviation, so that arguments mean the same whatever the unit and the offset are.
"""

from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.train.augment.operation import (
    Drawn,
    Draws,
    Operation,
    Range,
    WholeRange,
    a_range,
    around_one,
    around_zero,
    inside,
)
from pipeline.train.kinds import shift

Waves = Float[Tensor, "batch channels length"]


class SignalOperation(Operation):
    """An operation on signals."""

    def draw(self, rng: np.random.Generator, batch: int, length: int, /) -> Draws:
        """The numbers of each signal; where `p` leaves it out, those that change nothing."""
        raise NotImplementedError

    def apply(self, signals: Waves, drawn: Drawn, noise: torch.Generator, /) -> Waves:
        """New signals. noise: a generator on their device, for what is drawn for each value."""
        raise NotImplementedError


class SignalShift(SignalOperation):
    """Later by a whole number of samples, or earlier; the signal is mirrored at its ends.

    A number alone means from its negative to it.
    """

    samples: Annotated[WholeRange, a_range(around_zero)] = (-8, 8)

    def draw(self, rng: np.random.Generator, batch: int, _: int) -> Draws:
        """The samples."""
        samples = rng.integers(*self.samples, batch, endpoint=True)
        return np.where(self.applied(rng, batch), samples, 0.0)[None]

    def apply(self, signals: Waves, drawn: Drawn, _: torch.Generator) -> Waves:
        return shift(signals, drawn[0])


class _Stretch(SignalOperation):
    """An operation that multiplies the distance from each channel's mean by one number."""

    def apply(self, signals: Waves, drawn: Drawn, _: torch.Generator) -> Waves:
        return torch.lerp(_mean(signals), signals, drawn[0, :, None, None])


class SignalScale(_Stretch):
    """A factor for all channels of a signal; a number alone means from 1 - it to 1 + it."""

    factor: Annotated[Range, a_range(around_one, 0)] = (0.8, 1.2)

    def draw(self, rng: np.random.Generator, batch: int, _: int) -> Draws:
        """The factor."""
        factor = rng.uniform(*self.factor, batch)
        return np.where(self.applied(rng, batch), factor, 1.0)[None]


class SignalFlip(_Stretch):
    """Upside down, all channels of a signal together."""

    def draw(self, rng: np.random.Generator, batch: int, _: int) -> Draws:
        """The sign."""
        return np.where(self.applied(rng, batch), -1.0, 1.0)[None]


class SignalNoise(SignalOperation):
    """Normal noise on each value; its deviation is a share of the channel's own."""

    std: Annotated[Range, a_range(None, 0)] = (0.05, 0.2)

    def draw(self, rng: np.random.Generator, batch: int, _: int) -> Draws:
        """The share."""
        share = rng.uniform(*self.std, batch)
        return np.where(self.applied(rng, batch), share, 0.0)[None]

    def apply(self, signals: Waves, drawn: Drawn, noise: torch.Generator) -> Waves:
        normal = torch.randn(signals.shape, generator=noise, device=signals.device)
        deviation = signals.std(2, correction=0, keepdim=True) * drawn[0, :, None, None]
        return torch.addcmul(signals, normal, deviation)


class SignalMask(SignalOperation):
    """A window, a share of the length, in which each channel is its mean."""

    length: Annotated[Range, a_range(None, 0, 1)] = (0.05, 0.2)

    def draw(self, rng: np.random.Generator, batch: int, length: int) -> Draws:
        """The window's start and end, equal where there is none."""
        size = (length * rng.uniform(*self.length, batch)).astype(int) * self.applied(rng, batch)
        start = rng.integers(0, length - size, endpoint=True)
        return np.array([start, start + size], np.float64)

    def apply(self, signals: Waves, drawn: Drawn, _: torch.Generator) -> Waves:
        window = inside(drawn, signals.shape[-1])[:, None]
        return torch.where(window, _mean(signals), signals)


def _mean(signals: Waves) -> Float[Tensor, "batch channels 1"]:
    return signals.mean(2, keepdim=True)


OPERATIONS: dict[str, type[SignalOperation]] = {
    "Shift": SignalShift,
    "Scale": SignalScale,
    "SignFlip": SignalFlip,
    "Noise": SignalNoise,
    "TimeMask": SignalMask,
}
"""Each by its name in params.yaml."""
