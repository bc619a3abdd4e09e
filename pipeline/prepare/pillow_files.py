"""Pictures: JPEG, PNG, TIFF and the other formats that Pillow reads.

A JPEG or PNG is first walked to its end (whole.py), since no library notices every cut. The work
on one file is bounded: by its sides, its scans and chunks, and by looking for no page but the
second.

Of several frames or pages, the first is taken. Black-and-white is grey; a palette is looked up;
CMYK is converted without a colour profile; transparent images are laid on black. 16 and 32 bits are
kept. The EXIF orientation is applied, since the image was labelled upright.
"""

import io
import sys
from contextlib import suppress
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16
from numpy import ndarray
from PIL import Image as Pillow
from PIL import ImageFile, ImageOps, PngImagePlugin

from pipeline.core.errors import ImageError
from pipeline.core.shapes import Image
from pipeline.prepare.opened import SEVERAL_FRAMES, Opened, Values, side_fault
from pipeline.prepare.whole import (
    JPEG_START,
    PNG_START,
    lengthened_jpeg,
    whole_jpeg,
    whole_png,
)

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""Recognised by the content, whatever the suffix says."""

MODES_8 = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
"""Pillow's names. 16-bit CMYK keeps its high bytes."""

DEEP_GREY = ("I;16", "I;16B", "I", "F")

DEEP_COLOUR = ("RGB;16", "RGBA;16", "RGBX;16", "LA;16")

MOST_TEXT_BYTES = 64 * 2**20
"""Of a PNG's metadata, unpacked: Pillow's own limit of 1 MiB refuses large colour profiles."""

_EXPECTED = "no image (expected one of BMP, DICOM, GIF, JPEG, NPY, PNG, TIFF, WEBP)"
_OTHER_TIFF = "no image that can be read: a damaged TIFF, or one of several bands or of 64 bits"
_TIFF_STARTS = (b"II*\0", b"MM\0*")
_BLOCK_PX = 8
_SAMPLE_FORMAT = 339
_PNG_BITS = 24
_UNSIGNED = 1


def open_picture(encoded: bytes, max_side_px: int) -> Opened:
    """Read the header. Raises ImageError with the reason."""
    image, notes = _open(encoded, max_side_px)
    mode = _mode(image)
    return Opened(
        mode=mode,
        encoding=_encoding(image),
        load=lambda: _load(image, encoded, mode),
        notes=notes,
        deep=mode in DEEP_GREY + DEEP_COLOUR,
    )


def surely_8_bits(encoded: bytes) -> bool:
    """Whether the first bytes of a file say so already, as those of most images do."""
    if encoded.startswith(PNG_START):
        return encoded[_PNG_BITS : _PNG_BITS + 1] != bytes([16])
    return encoded.startswith(JPEG_START)


def lay_on_black(image: Pillow.Image) -> Image:
    black = Pillow.new("RGBA", image.size, (0, 0, 0, 255))
    laid = Pillow.alpha_composite(black, image.convert("RGBA"))
    return np.asarray(laid.convert("RGB"))


def _open(encoded: bytes, max_side_px: int) -> tuple[ImageFile.ImageFile, tuple[str, ...]]:
    """The image, and what is to be said of it."""
    Pillow.init()
    Pillow.MAX_IMAGE_PIXELS = None  # Pillow would warn or stop before the sides can be compared
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = MOST_TEXT_BYTES
    try:
        image = Pillow.open(io.BytesIO(encoded), formats=FORMATS)
        notes = {
            # The further frames of an MPO, as telephones write it, are previews.
            SEVERAL_FRAMES: image.format != "MPO" and getattr(image, "is_animated", False),
            "a fourth channel that is no opacity, left out": image.mode == "RGBX",
        }
        fault = side_fault(image.height, image.width, max_side_px)
        if image.mode not in MODES_8 + DEEP_GREY:
            fault = fault or f"mode {image.mode}, whose white is not known"
    except Exception as error:
        is_tiff = encoded.startswith(_TIFF_STARTS)
        raise ImageError(_OTHER_TIFF if is_tiff else _EXPECTED) from error
    if fault:
        raise ImageError(fault)
    return image, tuple(note for note, holds in notes.items() if holds)


def _mode(image: ImageFile.ImageFile) -> str:
    """Pillow opens 16-bit colour as 8-bit; only the arguments of its decoder show it."""
    for tile in image.tile:
        raw = tile.args if isinstance(tile.args, str) else (tile.args or [""])[0]
        channels, _, bits = str(raw)[:-1].partition(";")
        if bits == "16" and channels in (image.mode, "LA"):
            return f"{channels};16"
    return image.mode


def _encoding(image: ImageFile.ImageFile) -> str:
    tables = getattr(image, "quantization", {}).values()  # JPEG alone has them
    quality = [str(sum(sum(table) for table in tables))] if tables else []
    return " ".join([str(image.format), *quality, *sorted(map(str, image.info))])


def _load(image: ImageFile.ImageFile, encoded: bytes, mode: str) -> Values:
    """The values, upright. Raises ImageError where the file is damaged or cut short."""
    try:
        match image.format:
            case "JPEG" | "MPO":
                image = _load_jpeg(image, encoded)
            case "PNG":
                image = _load_whole(image, encoded, whole_png(encoded))
        values = _to_array(_upright(image), mode)
        return _with_low_bytes(values, encoded, mode) if mode in DEEP_COLOUR else values
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"{image.format} damaged or cut short") from error


def _upright(image: ImageFile.ImageFile) -> ImageFile.ImageFile:
    image.load()
    # A viewer that cannot read the EXIF tag shows the pixels, which are whole, as they are.
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    return image


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


def _to_array(image: ImageFile.ImageFile, mode: str) -> Values:
    if mode in DEEP_COLOUR:
        return np.asarray(image)
    if mode not in DEEP_GREY:
        return (
            lay_on_black(image) if image.has_transparency_data else np.asarray(image.convert("RGB"))
        )
    values = np.asarray(image)
    if mode == "I" and _is_unsigned(image):
        return values.view(np.uint32)
    return values.astype(values.dtype.newbyteorder("="))


def _is_unsigned(image: ImageFile.ImageFile) -> bool:
    """Whether a TIFF's 32 bits have no sign, as they have in Pillow."""
    kinds = getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT, (_UNSIGNED,))
    return image.format == "TIFF" and kinds[0] == _UNSIGNED


def _with_low_bytes(
    high: UInt8[ndarray, "height width channels"], encoded: bytes, mode: str
) -> Values:
    """Of 16-bit colour Pillow keeps the high bytes. It gives the low ones, too, where it is told
    that the bytes are in the other order; or, of grey with opacity, that each is a channel.
    """
    image = Pillow.open(io.BytesIO(encoded), formats=FORMATS)
    if mode == "LA;16":
        image.tile = [tile._replace(args="RGBA") for tile in image.tile]
        grey, grey_low, opacity, opacity_low = np.moveaxis(np.asarray(_upright(image)), -1, 0)
        grey, opacity = _join(grey, grey_low), _join(opacity, opacity_low)
        return np.dstack([grey, grey, grey, opacity])
    image.tile = [tile._replace(args=_other_order(tile.args)) for tile in image.tile]
    values = _join(high, np.asarray(_upright(image)))
    return values if image.mode == "RGBA" else values[..., :3]


def _join(high: UInt8[ndarray, "..."], low: UInt8[ndarray, "..."]) -> UInt16[ndarray, "..."]:
    joined: UInt16[ndarray, ...] = high.astype(np.uint16) << 8 | low
    return joined


def _other_order(args: Any) -> Any:
    """A decoder's arguments, the first of which ends in L for little, B for big or N for native."""
    if not isinstance(args, str):
        return (_other_order(args[0]), *args[1:])
    little = args.endswith("L") or (args.endswith("N") and sys.byteorder == "little")
    return f"{args[:-1]}{'B' if little else 'L'}"
