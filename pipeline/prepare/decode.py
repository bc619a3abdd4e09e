"""One image to RGB, or grey, of a fixed size, or the reason why it cannot be.

Its content says which reader opens it, never its name: pictures (pillow_files.py), NumPy's arrays
(array_files.py), DICOM (dicom_files.py). Whatever a decoder raises is the file's fault, and the
work on one file is bounded. Images of more than 8 bits are scaled by the range of the training
images (levels.py), grey becomes three equal channels, transparent images are laid on black, and
OpenCV resizes. Where one channel is stored, it is made of the resized three: of grey images it is
each of them, bit for bit.
"""

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8
from numpy import ndarray
from PIL import Image as Pillow

from pipeline.core.competition import Decoding, ImageDecoding
from pipeline.core.errors import ImageError
from pipeline.core.shapes import Image, Signal
from pipeline.prepare import dicom_files
from pipeline.prepare.array_files import NPY_START, open_array, open_npy
from pipeline.prepare.dicom_files import open_dicom
from pipeline.prepare.levels import (
    ALL_16_BITS,
    ValueSample,
    check_numbers,
    clips,
    range_of,
    take_sample,
    to_8_bits,
)
from pipeline.prepare.opened import Opened, Values
from pipeline.prepare.pillow_files import lay_on_black, open_picture, surely_8_bits

CLIPPED = "values beyond black and white, clipped"
MADE_GREY = "colour, made grey"


@dataclass(frozen=True)
class Decoded:
    """An image or a signal as it is stored, and what it was before.

    width, height: of the original in pixels, upright; a signal's length and channels. mode:
    Opened.mode, or the type of a signal's numbers and its rate. encoding: how the file was written:
    its format, the sum of a JPEG's quantisation tables (the higher, the lower its quality) and the
    kinds of metadata in it. notes: what was done to it and is to be said. grey: whether an image's
    three channels are equal, before it is made grey. rate_hz: a signal's samples a second, where
    its file says it.
    """

    pixels: Image | Signal
    width: int
    height: int
    mode: str
    encoding: str
    notes: tuple[str, ...]
    grey: bool
    rate_hz: int | None = None


class Decoder(ABC):
    """Makes the rows of the store, each from a row's files or from numbers."""

    decoding: Decoding

    @abstractmethod
    def from_files(self, encoded: list[bytes]) -> Decoded:
        """A row from the bytes of its files. Raises ImageError with the reason alone."""

    @abstractmethod
    def from_numbers(self, values: Shaped[ndarray, "..."]) -> Decoded:
        """A row from an array. Raises ImageError with the reason alone."""


@dataclass(frozen=True)
class ImageDecoder(Decoder):
    """Makes images. max_side_px: an image with a longer side is not decoded."""

    decoding: ImageDecoding
    max_side_px: int

    def from_files(self, encoded: list[bytes]) -> Decoded:
        """One file, or one for each channel."""
        if len(encoded) == 1:
            return decode(encoded[0], self.decoding, self.max_side_px)
        return decode_channels(encoded, self.decoding, self.max_side_px)

    def from_numbers(self, values: Shaped[ndarray, "..."]) -> Decoded:
        return decode_array(values, self.decoding, self.max_side_px)


def decode(encoded: bytes, decoding: ImageDecoding, max_side_px: int) -> Decoded:
    """A file, upright, as size_px × size_px.

    Raises ImageError with the reason alone, in the same words for the same fault; for a side above
    max_side_px before any pixel is decoded.
    """
    return _decode(_open(encoded, max_side_px), decoding)


def decode_array(
    values: Shaped[ndarray, "..."], decoding: ImageDecoding, max_side_px: int
) -> Decoded:
    """The same of an array, as of a .npy file that holds it."""
    return _decode(open_array(values, max_side_px), decoding)


def decode_channels(encoded: list[bytes], decoding: ImageDecoding, max_side_px: int) -> Decoded:
    """Files of one size, each made grey: red, green and blue. A third one of two is black; one
    alone is grey.
    """
    in_colour = decoding.model_copy(update={"channels": 3})
    each = [decode(file, in_colour, max_side_px) for file in encoded]
    sizes = [f"{channel.width} × {channel.height}" for channel in each]
    if len(set(sizes)) > 1:
        raise ImageError(f"channels of different sizes ({', '.join(sizes)} px)")
    planes = [cv2.cvtColor(channel.pixels, cv2.COLOR_RGB2GRAY) for channel in each]
    if len(planes) == 1:
        planes *= 3
    black = [np.zeros_like(planes[0])] * (3 - len(planes))
    pixels, grey, said = _in_channels(np.dstack([*planes, *black]), decoding)
    return Decoded(
        pixels,
        each[0].width,
        each[0].height,
        " + ".join(channel.mode for channel in each),
        " + ".join(channel.encoding for channel in each),
        tuple(dict.fromkeys([*(note for channel in each for note in channel.notes), *said])),
        grey,
    )


def sample(encoded: bytes, max_side_px: int, most: int) -> ValueSample | None:
    """What a file says of the range of the training images; None where it needs none, which is
    known without decoding it. most: values in the sample. Raises ImageError as decode does.
    """
    return None if surely_8_bits(encoded) else _sample(_open(encoded, max_side_px), most)


def sample_array(values: Shaped[ndarray, "..."], max_side_px: int, most: int) -> ValueSample | None:
    """The same of an array."""
    return _sample(open_array(values, max_side_px), most)


def ignore_oddities() -> None:
    """Silence what decoders warn of: they read such files all the same, or refuse right after."""
    warnings.filterwarnings("ignore", module="PIL")
    warnings.filterwarnings("ignore", category=UserWarning)  # of pydicom and NumPy


def resize(pixels: UInt8[ndarray, "..."], width: int, height: int) -> UInt8[ndarray, "..."]:
    """Averaged over areas where a side shrinks, interpolated linearly where it grows."""
    least = min(width, pixels.shape[1]), min(height, pixels.shape[0])
    shrunk = cv2.resize(pixels, least, interpolation=cv2.INTER_AREA)
    return cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR)


def _open(encoded: bytes, max_side_px: int) -> Opened:
    if not encoded:
        raise ImageError("zero bytes")
    if encoded.startswith(NPY_START):
        return open_npy(encoded, max_side_px)
    if encoded.startswith(dicom_files.MARK, dicom_files.MARK_PLACE):
        return open_dicom(encoded, max_side_px)
    return open_picture(encoded, max_side_px)


def _sample(opened: Opened, most: int) -> ValueSample | None:
    return take_sample(_colour(_load(opened)), most) if opened.deep else None


def _load(opened: Opened) -> Values:
    values = opened.load()
    check_numbers(values)
    return values


def _colour(values: Values) -> Values:
    """Without the opacity."""
    return values if values.ndim == 2 else values[..., :3]


def _decode(opened: Opened, decoding: ImageDecoding) -> Decoded:
    values, notes = _load(opened), opened.notes
    pixels = _colour(values)
    if opened.deep or opened.black_white:
        black_white = opened.black_white or range_of(values, decoding.black_white)
        if opened.deep and clips(pixels, black_white):
            notes = (*notes, CLIPPED)
        pixels = to_8_bits(pixels, black_white)
        if values.shape[2:] == (4,):
            opacity = to_8_bits(values[..., 3], ALL_16_BITS)
            pixels = lay_on_black(Pillow.fromarray(np.dstack([pixels, opacity])))
    if pixels.ndim == 2:
        pixels = np.dstack([pixels] * 3)
    if opened.inverted:
        pixels = 255 - pixels
    height, width = pixels.shape[:2]
    size_px = decoding.size_px
    fitted = _pad(pixels, size_px) if decoding.fit == "pad" else resize(pixels, size_px, size_px)
    stored, grey, said = _in_channels(np.ascontiguousarray(fitted), decoding)
    return Decoded(stored, width, height, opened.mode, opened.encoding, (*notes, *said), grey)


def _in_channels(
    pixels: UInt8[ndarray, "size_px size_px 3"], decoding: ImageDecoding
) -> tuple[Image, bool, list[str]]:
    """As many channels as are stored, whether all were equal, and what is to be said."""
    grey = bool((pixels == pixels[..., :1]).all())
    if decoding.channels == 3:
        return pixels, grey, []
    plane = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
    return plane, grey, [] if grey else [MADE_GREY]


def _pad(pixels: Image, size_px: int) -> UInt8[ndarray, "size_px size_px 3"]:
    height, width = pixels.shape[:2]
    scale = size_px / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (size_px - new_height) // 2, (size_px - new_width) // 2
    square = np.zeros((size_px, size_px, 3), np.uint8)
    square[top : top + new_height, left : left + new_width] = resize(pixels, new_width, new_height)
    return square
