"""One signal as (length, channels), float32, or the reason why it cannot be.

A file is NumPy's array, as its content says, or a table of samples: a row for each, a column for
each channel, with or without a line of names above. Nothing is cut, padded or scaled.
"""

import csv
from dataclasses import dataclass

import numpy as np
from jaxtyping import Num, Shaped
from numpy import ndarray

from pipeline.core.competition import SignalDecoding
from pipeline.core.errors import ImageError, shown
from pipeline.prepare.array_files import NPY_START, read_npy
from pipeline.prepare.decode import Decoded, Decoder
from pipeline.prepare.tables import SEPARATORS


class ShapeError(ImageError):
    """A signal that is sound, and has another length or number of channels."""


@dataclass(frozen=True)
class SignalDecoder(Decoder):
    """Makes signals of one shape."""

    decoding: SignalDecoding

    def from_files(self, encoded: list[bytes]) -> Decoded:
        """One file, as read_signal has it."""
        return _require_shape(read_signal(encoded[0]), self.decoding)

    def from_numbers(self, values: Shaped[ndarray, "..."]) -> Decoded:
        """The first of two axes is the length."""
        return _require_shape(make_signal(values, values.dtype.name), self.decoding)


class AnyShape(Decoder):
    """Makes signals of any shape."""

    def from_files(self, encoded: list[bytes]) -> Decoded:
        """One file."""
        return read_signal(encoded[0])

    def from_numbers(self, values: Shaped[ndarray, "..."]) -> Decoded:
        """The first of two axes is the length."""
        return make_signal(values, values.dtype.name)


def read_signal(encoded: bytes) -> Decoded:
    """A file of one signal. Raises ImageError with the reason."""
    if not encoded:
        raise ImageError("zero bytes")
    if not encoded.startswith(NPY_START):
        return make_signal(_read_text(encoded), "text", "text")
    values, encoding = read_npy(encoded)
    if values.ndim == 2:
        values = values.T if channels_first(values.shape) else values
    return make_signal(values, values.dtype.name, encoding)


def channels_first(shape: tuple[int, ...]) -> bool:
    """Whether the first of two axes is the channels: the shorter one is.

    Raises ImageError where both are as long.
    """
    if shape[0] == shape[1]:
        raise ImageError(f"an array of shape {shown(shape)}: which axis is the channels?")
    return shape[0] < shape[1]


def make_signal(values: Shaped[ndarray, "..."], mode: str, encoding: str = "array") -> Decoded:
    """An array as (length, channels). Raises ImageError on what no signal is or float32 holds."""
    if values.dtype.kind not in "biuf":
        raise ImageError(f"an array of {shown(str(values.dtype))}, expected numbers")
    if values.ndim not in (1, 2) or not values.size:
        raise ImageError(f"an array of shape {shown(values.shape)}, expected that of one signal")
    if values.ndim == 1:
        values = values[:, None]
    if np.isnan(values).any():
        raise ImageError("a value that is missing or NaN")
    with np.errstate(over="ignore"):
        samples = np.ascontiguousarray(values, np.float32)
    if not np.isfinite(samples).all():
        raise ImageError("a value that is infinite, or too large for float32")
    return Decoded(samples, len(samples), samples.shape[1], mode, encoding, (), grey=False)


def _require_shape(decoded: Decoded, decoding: SignalDecoding) -> Decoded:
    if decoded.pixels.shape != decoding.shape:
        raise ShapeError(
            f"{describe_shape(*decoded.pixels.shape)}, expected {describe_shape(*decoding.shape)}"
        )
    return decoded


def describe_shape(*shape: int) -> str:
    """Length and channels for messages."""
    return f"{shape[0]} samples of {shape[1]} {'channel' if shape[1] == 1 else 'channels'}"


def _read_text(encoded: bytes) -> Num[ndarray, "length channels"]:
    """A table of numbers; one of a single line is one channel. Raises ImageError."""
    try:
        lines = encoded.decode("utf-8-sig").splitlines()
        separator = max(SEPARATORS, key=lines[0].count)
        rows = [row for row in csv.reader(lines, delimiter=separator, strict=True) if row]
        if indexed := _has_index(rows):
            rows = [row[1:] for row in rows]
        names, sure = rows[0], indexed or len(rows[0]) > 1
        counted = len(rows) > 1 and sure and names == [str(n) for n in range(len(names))]
        if counted or not any(map(is_number, names)):  # a line of names, or of pandas' numbers
            del rows[0]
        if len({len(row) for row in rows}) != 1:
            raise ValueError("lines of different lengths" if rows else "no line of numbers")
        values = np.array([[cell.strip() or "nan" for cell in row] for row in rows], np.float64)
    except (ValueError, IndexError, csv.Error) as error:
        reason = shown(" ".join(str(error).split()), 60)
        raise ImageError(f"not a table of numbers ({reason})") from error
    return values.T if len(values) == 1 else values


def _has_index(rows: list[list[str]]) -> bool:
    """Whether the first column is the one that pandas writes unasked: without a name, it counts the
    lines."""
    first = [row[0] for row in rows[1:]]
    counts = bool(first) and first[0].isdecimal() and not rows[0][0].strip()
    return counts and first == [str(int(first[0]) + line) for line in range(len(first))]


def is_number(field: str) -> bool:
    """Whether a text is a number."""
    try:
        float(field)
    except ValueError:
        return False
    return True
