"""A NumPy array as an image: that of a .npy file, or one made of a table's numbers.

Two axes are one grey image. Of three, the first or the last is the channels: the shorter of both.
Three channels are red, green and blue, one is grey; any other number is laid one below the other,
as one grey image, so that nothing of it is lost.
"""

import io
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Shaped
from numpy import ndarray

from pipeline.core.errors import ImageError, shown
from pipeline.prepare.opened import Opened, Values, side_fault

NPY_START = b"\x93NUMPY"

MOST_CHANNELS = 32
"""More are a volume."""

_COLOURS = 3
_SURE = 4
"""Up to so many channels, an axis may be that of the channels wherever it is."""

_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def open_npy(encoded: bytes, max_side_px: int) -> Opened:
    """Read the header of a .npy file. Raises ImageError with the reason."""
    values, encoding = read_npy(encoded, lambda shape: _check_shape(shape, max_side_px))
    return open_array(values, max_side_px, encoding)


def read_npy(
    encoded: bytes, check: Callable[[tuple[int, ...]], None] = lambda _: None
) -> tuple[Shaped[ndarray, "..."], str]:
    """The numbers of a .npy file, and how it is written.

    check: of the shape, before anything else is read. Raises ImageError with the reason.
    """
    try:
        file = io.BytesIO(encoded)
        shape, fortran_order, dtype = _READERS[np.lib.format.read_magic(file)](file)
        numbers = encoded[file.tell() :]
    except Exception as error:  # NumPy reads the header as Python: damage raises anything
        raise ImageError("NPY damaged or cut short") from error
    _check_type(dtype)
    check(shape)
    expected = math.prod(shape) * dtype.itemsize
    if len(numbers) != expected or min(shape, default=0) < 0:
        raise ImageError(f"NPY with {len(numbers)} bytes of numbers, expected {expected}")
    values = np.frombuffer(numbers, dtype)
    values = values.reshape(shape[::-1]).T if fortran_order else values.reshape(shape)
    return values, f"NPY {'F' if fortran_order else 'C'}"


def open_array(values: Shaped[ndarray, "..."], max_side_px: int, encoding: str = "array") -> Opened:
    """An array in memory. Raises ImageError with the reason."""
    _check_type(values.dtype)
    _check_shape(values.shape, max_side_px)
    planes = values
    if values.ndim == 3:
        first, last = values.shape[0], values.shape[2]
        planes = np.moveaxis(values, 0, -1) if first < last else values
    channels = planes.shape[2] if values.ndim == 3 else 1
    notes: tuple[str, ...] = ()
    if channels == 1:
        planes = planes.reshape(planes.shape[:2])
    elif channels != _COLOURS:
        notes = (f"{channels} channels, laid one below the other",)
        planes = np.concatenate(list(np.moveaxis(planes, -1, 0)))
        if fault := side_fault(planes.shape[0], planes.shape[1], max_side_px):
            raise ImageError(f"{notes[0]}: {fault}")
    return Opened(
        mode=f"{values.dtype.name} {channels}",
        encoding=encoding,
        load=lambda: _native(planes),
        notes=notes,
        deep=values.dtype not in (np.uint8, np.bool_),
    )


def _check_type(dtype: np.dtype) -> None:
    if dtype.kind not in "biuf":
        raise ImageError(f"an array of {shown(str(dtype))}, expected numbers")


def _check_shape(shape: tuple[int, ...], max_side_px: int) -> None:
    """Raise ImageError on a shape that is no image's, or that may be two different ones'."""
    sides = shape
    if len(shape) == 3:
        first, _, last = shape
        if first == last or max(first, last) <= _SURE:
            raise ImageError(f"an array of shape {shown(shape)}: which axis is the channels?")
        sides = shape[1:] if first < last else shape[:2]
        if min(first, last) not in range(1, MOST_CHANNELS + 1):
            sides = ()
    if len(sides) != 2:
        raise ImageError(f"an array of shape {shown(shape)}, expected that of one image")
    if fault := side_fault(*sides, max_side_px):
        raise ImageError(fault)


def _native(planes: Shaped[ndarray, "..."]) -> Values:
    """The order of bytes is the machine's; false is black, true is white."""
    if planes.dtype == np.bool_:
        return planes.astype(np.uint8) * 255
    return np.ascontiguousarray(planes, planes.dtype.newbyteorder("="))
