"""One image file to RGB of a fixed size, or the reason why it cannot be.

Pillow decodes, OpenCV resizes. A JPEG or PNG is first walked to its end (whole.py), since neither
library notices every cut. Whatever a decoder raises is the file's fault, and the work on one file
is bounded: by its sides, its scans and chunks, and by looking for no page but the second.

How images become RGB: grey and black-and-white are three equal channels; 16-bit channels keep the
highest 8 of the bits that are used (exact for 16-bit files made of 8-bit ones, times 257 or
shifted); a palette is looked up; CMYK is converted without a colour profile; transparent images are
laid on black. The EXIF orientation is applied, since the image was labelled upright.
"""

import io
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image as Pillow
from PIL import ImageFile, ImageOps, PngImagePlugin

from pipeline.core.errors import ImageError
from pipeline.core.shapes import Image
from pipeline.prepare.whole import lengthened_jpeg, whole_jpeg, whole_png

MIN_SIDE_PX = 2
"""A side of 1 px has no content: it is a tracking pixel or a failed crop."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""Recognised by the content, whatever the suffix says."""

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I;16B")
"""Pillow's names. 32-bit integers and floats have no known white and are refused."""

MOST_TEXT_BYTES = 64 * 2**20
"""Of a PNG's metadata, unpacked: Pillow's own limit of 1 MiB refuses large colour profiles."""

_BITS = 16
_BLOCK_PX = 8


@dataclass(frozen=True)
class Decoded:
    """An image as it is stored, and what it was before.

    width, height: of the original in pixels, upright. mode: Pillow's, followed by ";16" where a
    channel has 16 bits. largest: the largest value of a 16-bit image, of colour known to the high
    byte, the low one taken as 255; None of any other image. encoding: how the file was written:
    its format, the sum of a JPEG's quantisation tables (the higher, the lower its quality) and the
    kinds of metadata in it.
    """

    pixels: Image
    width: int
    height: int
    mode: str
    largest: int | None
    encoding: str


def decode_image(
    encoded: bytes,
    size_px: int,
    fit: Literal["stretch", "pad"],
    max_side_px: int,
    bits: int | None,
) -> Decoded:
    """Decode, upright, to size_px × size_px.

    `stretch` fills the square; `pad` keeps the aspect, centred on black. bits: of a 16-bit channel
    are used, all without.
    Raises ImageError with the reason alone, in the same words for the same fault; for a side above
    max_side_px before any pixel is decoded.
    """
    image = _open(encoded, max_side_px)
    mode, encoding = _mode(image), _encoding(image)
    pixels, largest = _load(image, encoded, mode, bits or _BITS)
    height, width = pixels.shape[:2]
    fitted = _pad(pixels, size_px) if fit == "pad" else resize(pixels, size_px, size_px)
    return Decoded(np.ascontiguousarray(fitted), width, height, mode, largest, encoding)


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
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = MOST_TEXT_BYTES
    try:
        image = Pillow.open(io.BytesIO(encoded), formats=FORMATS)
        # The further frames of an MPO, as telephones write it, are previews.
        faults = {
            f"a side below {MIN_SIDE_PX} px": min(image.size) < MIN_SIDE_PX,
            f"a side above {max_side_px} px (prepare.max_side_px)": max(image.size) > max_side_px,
            "more than one frame or page": image.format != "MPO"
            and getattr(image, "is_animated", False),
            f"mode {image.mode}, whose white is not known": image.mode not in MODES,
        }
    except Exception as error:
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


def _load(
    image: ImageFile.ImageFile, encoded: bytes, mode: str, bits: int
) -> tuple[Image, int | None]:
    """The pixels, upright, and Decoded.largest.

    Raises ImageError where the file is damaged or cut short, or uses more bits than it should.
    """
    try:
        match image.format:
            case "JPEG" | "MPO":
                image = _load_jpeg(image, encoded)
            case "PNG":
                image = _load_whole(image, encoded, whole_png(encoded))
        image.load()
        # A viewer that cannot read the EXIF tag shows the pixels, which are whole, as they are.
        with suppress(Exception):
            ImageOps.exif_transpose(image, in_place=True)
        return _to_rgb(image, mode, bits)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"{image.format} damaged or cut short") from error


def _load_jpeg(image: ImageFile.ImageFile, encoded: bytes) -> ImageFile.ImageFile:
    whole, ends = whole_jpeg(encoded)
    image = _load_whole(image, encoded, whole)
    width, height = image.size
    # What an unfinished scan lacks, up to the last block, libjpeg fills with one colour.
    corner = image.crop((max(0, width - _BLOCK_PX), max(0, height - _BLOCK_PX), width, height))
    colours = corner.getcolors(_BLOCK_PX**2) or []
    if len(whole) < len(encoded) or len(ends) > 1 or len(colours) == 1:
        longer = _load_whole(image, encoded, lengthened_jpeg(whole, ends))
        if longer.tobytes() != image.tobytes():
            raise ImageError("JPEG cut short: its end marker comes too early")
    return image


def _load_whole(image: ImageFile.ImageFile, encoded: bytes, whole: bytes) -> ImageFile.ImageFile:
    """Load the image, or, where other bytes are to be decoded, those."""
    if len(whole) != len(encoded):
        image = Pillow.open(io.BytesIO(whole), formats=FORMATS)
    image.load()
    return image


def _to_rgb(image: Pillow.Image, mode: str, bits: int) -> tuple[Image, int | None]:
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        largest = int(values.max())
        if largest >> bits:
            raise ImageError(f"a value above {2**bits - 1} (prepare.bits)")
        grey = (values >> (bits - 8)).astype(np.uint8)
        return np.dstack([grey, grey, grey]), largest
    pixels = _to_rgb_of_8_bits(image)
    if not mode.endswith(";16"):
        return pixels, None
    if bits < _BITS:
        raise ImageError(f"{mode}, of which prepare.bits must be 16")
    return pixels, int(pixels.max()) * 256 + 255


def _to_rgb_of_8_bits(image: Pillow.Image) -> Image:
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
