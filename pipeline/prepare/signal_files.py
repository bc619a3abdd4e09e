"""One signal as (length, channels), float32, or the reason why it cannot be.

A file is sound or NumPy's array, as its content says, or a table of samples: a row for each, a
column for each channel, with or without a line of names above. Nothing is scaled; what is to be
resampled, cut or padded, SignalDecoding.fitted says, and what was, each signal's notes.
"""

import csv
import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Num, Shaped
from numpy import ndarray

from pipeline.core.competition import SignalDecoding
from pipeline.core.errors import ImageError, shown
from pipeline.core.shapes import Signal
from pipeline.prepare.array_files import NPY_START, read_npy
from pipeline.prepare.config import MOST_SAMPLES
from pipeline.prepare.decode import Decoded, Decoder
from pipeline.prepare.sound_files import SoundHeader, is_sound, read_header, read_samples
from pipeline.prepare.tables import SEPARATORS


class ShapeError(ImageError):
    """A signal that is whole, and has another rate, length or number of channels."""


@dataclass(frozen=True)
class SignalDecoder(Decoder):
    """Makes signals of one shape and rate."""

    decoding: SignalDecoding

    def from_files(self, encoded: list[bytes]) -> Decoded:
        """One file, as read_signal has it."""
        return _fit(read_signal(encoded[0]), self.decoding)

    def from_numbers(self, values: Shaped[ndarray, "..."]) -> Decoded:
        """The first of two axes is the length."""
        return _fit(make_signal(values, values.dtype.name), self.decoding)


class Measure(Decoder):
    """Says the length, the channels and the rate of a signal. Of sound it decodes no sample."""

    def from_files(self, encoded: list[bytes]) -> Decoded:
        """One file."""
        if not is_sound(encoded[0]):
            return read_signal(encoded[0])
        header = read_header(encoded[0])
        return _decoded_sound(header, np.empty((0, header.channels), np.float32))

    def from_numbers(self, values: Shaped[ndarray, "..."]) -> Decoded:
        """The first of two axes is the length."""
        return make_signal(values, values.dtype.name)


def read_signal(encoded: bytes) -> Decoded:
    """A file of one signal. Raises ImageError with the reason."""
    if not encoded:
        raise ImageError("zero bytes")
    if is_sound(encoded):
        header, samples = read_samples(encoded)
        _refuse_no_numbers(samples)
        return _decoded_sound(header, samples)
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
    with np.errstate(over="ignore"):
        samples = np.ascontiguousarray(values, np.float32)
    _refuse_no_numbers(samples)
    return Decoded(samples, len(samples), samples.shape[1], mode, encoding, (), grey=False)


def _refuse_no_numbers(samples: Signal) -> None:
    if np.isnan(samples).any():
        raise ImageError("a value that is missing or NaN")
    if not np.isfinite(samples).all():
        raise ImageError("a value that is infinite, or too large for float32")


def _decoded_sound(header: SoundHeader, samples: Signal) -> Decoded:
    mode = f"{header.coding} {header.rate_hz} Hz"
    return Decoded(
        samples, header.length, header.channels, mode, header.name, (), grey=False,
        rate_hz=header.rate_hz,
    )  # fmt: skip


def _fit(decoded: Decoded, decoding: SignalDecoding) -> Decoded:
    """A signal as a row of the store. Raises ShapeError where something is another and is not to be
    fitted."""
    samples, notes = decoded.pixels, []
    own, rate_hz = decoded.rate_hz, decoding.rate_hz
    if own != rate_hz and (own is None or rate_hz is None or "rate" not in decoding.fitted):
        raise ShapeError(f"{describe_rate(own)}, expected {describe_rate(rate_hz)}")
    if samples.shape[1] != decoding.channels:
        _require_fitted("channels", samples, decoding)
        samples = samples.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
        notes.append("several channels, of which the mean is stored")
    if own and rate_hz and own != rate_hz:
        if length_at(len(samples), own, rate_hz) > MOST_SAMPLES:
            raise ImageError(f"more than {MOST_SAMPLES:,} samples at {rate_hz} Hz")
        from scipy.signal import resample_poly  # 0.2 s: only for those who need it

        shared = math.gcd(own, rate_hz)
        samples = resample_poly(samples, rate_hz // shared, own // shared, axis=0)
        _refuse_no_numbers(samples)  # a filter may exceed what float32 holds
        notes.append(f"resampled to {rate_hz} Hz")
    if more := len(samples) - decoding.length:
        _require_fitted("length", samples, decoding)
        before = abs(more) // 2
        if more > 0:  # copied, so that memory does not hold the rest
            samples = samples[before : before + decoding.length].copy()
            notes.append(f"longer than {decoding.length} samples, cut to the middle")
        else:
            samples = np.pad(samples, ((before, -more - before), (0, 0)))
            notes.append(f"shorter than {decoding.length} samples, padded with zeros at both ends")
    return replace(decoded, pixels=samples, notes=(*decoded.notes, *notes))


def _require_fitted(
    what: Literal["channels", "length"], samples: Signal, decoding: SignalDecoding
) -> None:
    if what not in decoding.fitted:
        raise ShapeError(
            f"{describe_shape(*samples.shape)}, expected {describe_shape(*decoding.shape)}"
        )


def length_at(length: int, own: int | None, rate_hz: int | None) -> int:
    """How many samples a signal has at another rate; as many as before where either is None."""
    return -(-length * rate_hz // own) if own and rate_hz else length


def describe_shape(*shape: int) -> str:
    """Length and channels for messages."""
    return f"{shape[0]} samples of {shape[1]} {'channel' if shape[1] == 1 else 'channels'}"


def describe_rate(rate_hz: int | None) -> str:
    """A rate for messages."""
    return "no rate" if rate_hz is None else f"{rate_hz} Hz"


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
        formats = "WAV, AIFF, FLAC, OGG, MP3"
        raise ImageError(f"no sound ({formats}), array or table of numbers ({reason})") from error
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
