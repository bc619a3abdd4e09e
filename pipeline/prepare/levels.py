"""Which values are black and white in images of more than 8 bits, and those images in 8 bits.

No such file says its white: a 12-bit camera writes 16-bit files, an array of floats holds any unit.
So the training images say it, all together, and all images are scaled alike. Where they hold
integers from 0 to 65535, black is 0 and white the largest number of the bits that are used: 4095
of 12 bits, and of all 16 exactly the high byte is kept. Anything else (negative numbers, floats,
larger integers) is scaled linearly: the lowest and the highest thousandth of its values are
clipped, so that one broken pixel does not turn all images black. Both are 256 equal steps.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Num, UInt8
from numpy import ndarray

from pipeline.core.audit import FoundRange
from pipeline.core.errors import ImageError
from pipeline.prepare.opened import BlackWhite

LEAST_BITS = 8
"""Integers up to 255 are those of an 8-bit image, whatever type holds them."""

MOST_BITS = 16

ALL_16_BITS = (0.0, 2.0**MOST_BITS - 1)
_CLIPPED_SHARE = 0.001
_NOTED_SHARE = 0.01
_LARGEST = 3e38  # of 32-bit floats; more would overflow in between


@dataclass(frozen=True)
class ValueSample:
    """What one image says of the range. integers: all its numbers are. some: of its values."""

    smallest: float
    largest: float
    integers: bool
    some: Float64[ndarray, " values"]


def take_sample(values: Num[ndarray, "..."], most: int) -> ValueSample:
    """Up to so many values, spread evenly over the image."""
    flat = values.reshape(-1)
    if len(flat) > most:
        golden = 0.6180339887498949  # its multiples fall on no column or row more often
        flat = flat[(np.arange(most) * golden % 1 * len(flat)).astype(np.int64)]
    integers = values.dtype.kind in "iu"
    return ValueSample(float(values.min()), float(values.max()), integers, flat.astype(np.float64))


def find_range(samples: Iterable[ValueSample | None]) -> FoundRange | None:
    """The range of all images; None stands for an image of 8 bits, and for all of them."""
    found = [sample for sample in samples if sample is not None]
    if not found:
        return None
    smallest = min(sample.smallest for sample in found)
    largest = max(sample.largest for sample in found)
    of = f"of {len(found)} training images with more than 8 bits"
    if all(sample.integers for sample in found) and smallest >= 0 and largest < 2**MOST_BITS:
        bits = max(LEAST_BITS, int(largest).bit_length())
        white = 2**bits - 1
        sentence = (
            f"the largest value {of} is {int(largest)}: {bits} bits are used, white is {white}"
        )
        return FoundRange(black=0, white=white, images=len(found), sentence=sentence)
    values = np.concatenate([sample.some for sample in found])
    shares = [_CLIPPED_SHARE, 1 - _CLIPPED_SHARE]
    black, white = map(float, np.quantile(values, shares, method="inverted_cdf"))
    if black == white:  # nearly all values are the same, and the picture is in the rest
        black, white = smallest, largest
    sentence = (
        f"the values {of} are from {smallest:.6g} to {largest:.6g}: "
        f"black is {black:.6g}, white is {white:.6g}"
    )
    return FoundRange(black=black, white=white, images=len(found), sentence=sentence)


def range_of(values: Num[ndarray, "..."], black_white: BlackWhite | None) -> BlackWhite:
    """The range of an image: that of train, or all of 16 bits.

    Raises ImageError where neither can be.
    """
    if black_white:
        return black_white
    if values.dtype == np.uint16:
        return ALL_16_BITS
    raise ImageError(f"values of type {values.dtype}, and no training image says their range")


def to_8_bits(values: Num[ndarray, "*shape"], black_white: BlackWhite) -> UInt8[ndarray, "*shape"]:
    """Black is 0, white is 255, in 256 equal steps."""
    if values.dtype == np.uint16:
        found: UInt8[ndarray, "*shape"] = _table(black_white)[values]
        return found
    black, white = map(np.float64, black_white)  # a 16-bit float would have to hold them, else
    if black >= white:
        return np.where(values > white, np.uint8(255), np.uint8(0))
    scaled = np.clip(values.astype(np.float64), black, white)
    scaled -= black
    scaled *= 256 / (white - black)
    return np.minimum(scaled, 255, out=scaled).astype(np.uint8)


def clips(values: Num[ndarray, "..."], black_white: BlackWhite) -> bool:
    """Whether an image has any value beyond the range of bits, or more than a hundredth of them
    beyond a range that leaves some out in train, too."""
    black, white = map(np.float64, black_white)
    of_bits = values.dtype.kind in "iu" and black == 0 and white < 2**MOST_BITS
    allowed = 0.0 if of_bits else _NOTED_SHARE
    return bool(np.mean((values < black) | (values > white)) > allowed)


def check_numbers(values: Num[ndarray, "..."]) -> None:
    """Raise ImageError on a value that is no number."""
    if values.dtype.kind == "f":
        smallest, largest = float(values.min()), float(values.max())
        if not (smallest >= -_LARGEST and largest <= _LARGEST):
            raise ImageError("values that are no numbers (NaN, or infinite)")


@lru_cache(8)
def _table(black_white: BlackWhite) -> UInt8[ndarray, "65536"]:
    """What each 16-bit value becomes."""
    return to_8_bits(np.arange(2**MOST_BITS), black_white)
