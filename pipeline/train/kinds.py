"""What differs between images and signals where a network trains and predicts.

Packed arrays have the channels last, networks take them first. All else that is particular to one
kind of rows stands here, and in the two files of augmentation that are named after it.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from numpy import ndarray
from torch import Tensor

from pipeline.core.competition import Decoding
from pipeline.core.shapes import Images, Packed, Signals

_AT_ONCE = 1024
_VALUES_AT_ONCE = 2**24

Levels = tuple[Float[ndarray, " channels"], Float[ndarray, " channels"]]
"""The mean and the standard deviation of each channel."""


class Kind(ABC):
    """Images or signals."""

    @abstractmethod
    def views(self, batch: Num[Tensor, "batch channels *axes"]) -> list[Tensor]:
        """What `tta: true` takes the mean over, the rows as they are first."""

    @abstractmethod
    def mean_and_std(self, packed: Packed, rows: Int[ndarray, " rows"]) -> Levels:
        """Those of each channel over `rows`; a standard deviation is never 0."""


class ImageKind(Kind):
    def views(self, batch: Num[Tensor, "batch channels side side"]) -> list[Tensor]:
        """The square's eight symmetries."""
        turned = [torch.rot90(batch, turns, (2, 3)) for turns in range(4)]
        return [*turned, *(view.flip(3) for view in turned)]

    def mean_and_std(self, packed: Images, rows: Int[ndarray, " rows"]) -> Levels:
        """The levels of grey, from how often there is each; the deviation is at least 1."""
        channels = packed.shape[-1]
        counts = np.zeros((channels, 256), np.int64)
        for start in range(0, len(rows), _AT_ONCE):
            chunk = packed[rows[start : start + _AT_ONCE]]
            for channel in range(channels):
                counts[channel] += np.bincount(chunk[..., channel].ravel(), minlength=256)
        levels = np.arange(256)
        mean = (counts * levels).sum(1) / counts.sum(1)
        variance = (counts * levels**2).sum(1) / counts.sum(1) - mean**2
        return mean, np.sqrt(np.maximum(variance, 1.0))


class SignalKind(Kind):
    def views(self, batch: Num[Tensor, "batch channels length"]) -> list[Tensor]:
        """Shifts by up to a sixteenth of the length: where a window begins says nothing.

        A change of sign, or of time's direction, makes another signal of most.
        """
        step = batch.shape[-1] // 32
        return [shift(batch, torch.full((len(batch),), by * step)) for by in (0, -2, -1, 1, 2)]

    def mean_and_std(self, packed: Signals, rows: Int[ndarray, " rows"]) -> Levels:
        """Two passes in float64; the deviation of a channel that never changes is 1."""
        size = max(1, min(_AT_ONCE, _VALUES_AT_ONCE // packed[0].size))
        chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
        count = len(rows) * packed.shape[1]
        mean = sum(packed[chunk].sum((0, 1), dtype=np.float64) for chunk in chunks) / count
        squares = sum(((packed[chunk] - mean) ** 2).sum((0, 1)) for chunk in chunks)
        std = np.sqrt(np.asarray(squares) / count)
        return np.asarray(mean), np.where(std > 0, std, 1.0)


def kind_of(packed: ndarray | Tensor) -> Kind:
    """The kind of the rows of an array or a batch, by its number of axes."""
    return ImageKind() if packed.ndim == 4 else SignalKind()


def mean_and_std(packed: Packed, rows: Int[ndarray, " rows"]) -> Levels:
    """The mean and the standard deviation of each channel over `rows`."""
    return kind_of(packed).mean_and_std(packed, rows)


def blank(decoding: Decoding) -> Float[Tensor, "1 channels *axes"]:
    """A batch of one row of zeros, as networks take it."""
    return torch.zeros(1, *decoding.shape).movedim(-1, 1)


def shift(
    signals: Num[Tensor, "batch channels length"], samples: Num[Tensor, " batch"]
) -> Num[Tensor, "batch channels length"]:
    """Each signal moved later by its number of samples.

    What moves in at an end is the signal mirrored there, so that it never jumps.
    """
    length = signals.shape[-1]
    place = torch.arange(length, device=signals.device)
    place = (place - samples.to(signals.device).long()[:, None]) % max(2 * length - 2, 1)
    place = torch.minimum(place, 2 * length - 2 - place)
    return signals.gather(2, place[:, None].expand_as(signals))
