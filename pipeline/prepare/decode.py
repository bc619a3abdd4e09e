"""One image file to RGB of a fixed size, or the reason why it cannot be.

Pillow decodes, OpenCV resizes. OpenCV would decode too, but it fills the missing part of a cut JPEG
with grey. Pillow refuses a JPEG or PNG cut at any byte, except where only the end marker is
missing, which is looked for here.

How images become RGB: grey and black-and-white are three equal channels; 16-bit channels keep
their high byte (exact for 16-bit files made of 8-bit ones, times 257 or shifted); a palette
is looked up; CMYK is converted without a colour profile; transparent images are laid on black.
The EXIF orientation is applied, since the image was labelled upright.
"""

import io
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image as Pillow
from PIL import ImageFile, ImageOps

from pipeline.core.errors import ImageError
from pipeline.core.shapes import Image

MIN_SIDE_PX = 2
"""A side of 1 px has no content: it is a tracking pixel or a failed crop."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""Recognised by the content, whatever the suffix says."""

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I;16B")
"""Pillow's names. 32-bit integers and floats have no known white and are refused."""

# What Pillow 12 and 13 raised on 32,000 randomly damaged files, and related exceptions.
_DAMAGE = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError,
    struct.error,
)  # fmt: skip

_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class Decoded:
    """An image as it is stored, and what it was before.

    width, height: of the original in pixels, upright. mode: Pillow's, followed by ";16" where a
    channel has 16 bits. encoding: how the file was written: its format, the sum of a JPEG's
    quantisation tables (the higher, the lower its quality) and the kinds of metadata in it.
    """

    pixels: Image
    width: int
    height: int
    mode: str
    encoding: str


def decode_image(
    encoded: bytes, size_px: int, fit: Literal["stretch", "pad"], max_side_px: int
) -> Decoded:
    """Decode, upright, to size_px × size_px.

    `stretch` fills the square; `pad` keeps the aspect, centred on black.
    Raises ImageError with the reason alone, in the same words for the same fault; for a side above
    max_side_px before any pixel is decoded.
    """
    image = _open(encoded, max_side_px)
    mode, encoding = _mode(image), _encoding(image)
    _load(image, encoded)
    # A viewer that cannot read the EXIF tag shows the pixels, which are whole, as they are.
    with suppress(*_DAMAGE):
        ImageOps.exif_transpose(image, in_place=True)
    pixels = _to_rgb(image)
    height, width = pixels.shape[:2]
    fitted = _pad(pixels, size_px) if fit == "pad" else resize(pixels, size_px, size_px)
    return Decoded(np.ascontiguousarray(fitted), width, height, mode, encoding)


def resize(pixels: UInt8[ndarray, "..."], width: int, height: int) -> UInt8[ndarray, "..."]:
    """Averaged over areas where a side shrinks, interpolated linearly where it grows."""
    least = min(width, pixels.shape[1]), min(height, pixels.shape[0])
    shrunk = cv2.resize(pixels, least, interpolation=cv2.INTER_AREA)
    return cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR)


def _open(encoded: bytes, max_side_px: int) -> ImageFile.ImageFile:
    if not encoded:
        raise ImageError("zero bytes")
    Pillow.init()
    Pillow.MAX_IMAGE_PIXELS = None  # Pillow would warn or stop before the sides can be compared
    try:
        image = Pillow.open(io.BytesIO(encoded), formats=FORMATS)
        # The further frames of an MPO, as telephones write it, are previews.
        faults = {
            f"a side below {MIN_SIDE_PX} px": min(image.size) < MIN_SIDE_PX,
            f"a side above {max_side_px} px (prepare.max_side_px)": max(image.size) > max_side_px,
            "more than one frame or page": image.format != "MPO"
            and getattr(image, "n_frames", 1) > 1,
            f"mode {image.mode}, whose white is not known": image.mode not in MODES,
        }
    except _DAMAGE as error:
        raise ImageError(f"no image (expected one of {', '.join(FORMATS)})") from error
    for fault, found in faults.items():
        if found:
            raise ImageError(fault)
    return image


def _mode(image: ImageFile.ImageFile) -> str:
    """Pillow opens 16-bit colour as 8-bit; only the arguments of its decoder show it."""
    for tile in image.tile:
        raw = tile.args if isinstance(tile.args, str) else (tile.args or [""])[0]
        if str(raw).startswith(f"{image.mode};16"):
            return f"{image.mode};16"
    return image.mode


def _encoding(image: ImageFile.ImageFile) -> str:
    tables = getattr(image, "quantization", {}).values()  # JPEG alone has them
    quality = [str(sum(sum(table) for table in tables))] if tables else []
    return " ".join([str(image.format), *quality, *sorted(map(str, image.info))])


def _load(image: ImageFile.ImageFile, encoded: bytes) -> None:
    is_whole = True  # Pillow notices in the other formats
    if image.format == "PNG":
        is_whole = _PNG_END in encoded
    elif image.format in ("JPEG", "MPO"):
        # In compressed data 0xFF is always followed by 0 or a restart marker, never by these.
        is_whole = encoded.rfind(_JPEG_END) > encoded.rfind(_JPEG_SCAN)
    if not is_whole:
        raise ImageError(f"{image.format} cut short: no end marker")
    try:
        if image.format == "PNG":
            # Loading does not check the checksums; verify() does, but then nothing can be loaded.
            Pillow.open(io.BytesIO(encoded), formats=["PNG"]).verify()
        image.load()
    except _DAMAGE as error:
        raise ImageError(f"{image.format} damaged or cut short") from error


def _to_rgb(image: Pillow.Image) -> Image:
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.dstack([grey, grey, grey])
    if image.has_transparency_data:
        black = Pillow.new("RGBA", image.size, (0, 0, 0, 255))
        laid = Pillow.alpha_composite(black, image.convert("RGBA"))
        return np.asarray(laid.convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _pad(pixels: Image, size_px: int) -> UInt8[ndarray, "size_px size_px 3"]:
    height, width = pixels.shape[:2]
    scale = size_px / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (size_px - new_height) // 2, (size_px - new_width) // 2
    square = np.zeros((size_px, size_px, 3), np.uint8)
    square[top : top + new_height, left : left + new_width] = resize(pixels, new_width, new_height)
    return square
