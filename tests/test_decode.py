"""An image file becomes the right pixels, or the reason why it cannot."""

import io
import struct
import tracemalloc
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from pipeline.core.errors import ImageError
from pipeline.prepare.decode import Decoded, decode_image

SIDE = 24
GENERATOR = np.random.default_rng(7)
COARSE = GENERATOR.integers(0, 256, (6, 6, 4), dtype=np.uint8)
RGBA = cv2.resize(COARSE, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
RGB = np.ascontiguousarray(RGBA[..., :3])
GREY = np.ascontiguousarray(RGBA[..., 0])
RGB_FRAMES = [Pillow.fromarray(RGB), Pillow.fromarray(255 - RGB)]


def encode(picture: np.ndarray | Pillow.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image = Pillow.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    image.save(file, file_format, **options)
    return file.getvalue()


def encode_16(values: np.ndarray, suffix: str = ".png") -> bytes:
    """Grey, or RGB, which OpenCV wants as BGR."""
    return bytes(cv2.imencode(suffix, values if values.ndim == 2 else values[..., ::-1])[1])


def decode(
    encoded: bytes,
    size_px: int = SIDE,
    fit: Any = "stretch",
    max_side_px: int = 4096,
    bits: int | None = None,
) -> Decoded:
    return decode_image(encoded, size_px, fit, max_side_px, bits)


def reason_of(encoded: bytes, max_side_px: int = 4096) -> str:
    with pytest.raises(ImageError) as caught:
        decode(encoded, max_side_px=max_side_px)
    return str(caught.value)


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\x00\x00\x10\x00IDAT" + bytes(100)


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_rgb_keeps_its_values(file_format: str) -> None:
    decoded = decode(encode(RGB, file_format, lossless=True))
    assert np.array_equal(decoded.pixels, RGB)
    assert (decoded.width, decoded.height, decoded.mode) == (SIDE, SIDE, "RGB")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_has_the_pixels_that_opencv_sees(options: dict[str, Any]) -> None:
    encoded = encode(RGB, "JPEG", quality=90, **options)
    oracle = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(decode(encoded).pixels, oracle)


@pytest.mark.parametrize(
    ("picture", "file_format", "mode"),
    [(GREY, "PNG", "L"), (GREY, "JPEG", "L"), (GREY, "TIFF", "L"), (GREY > 127, "PNG", "1")],
)
def test_grey_and_black_and_white_are_three_equal_channels(
    picture: np.ndarray, file_format: str, mode: str
) -> None:
    encoded = encode(picture, file_format)
    oracle = np.asarray(Pillow.open(io.BytesIO(encoded)).convert("L"))
    decoded = decode(encoded)
    assert decoded.mode == mode
    assert np.array_equal(decoded.pixels, np.dstack([oracle] * 3))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize(("picture", "mode"), [(GREY, "I;16"), (RGB, "RGB;16")])
def test_16_bit_made_of_8_bit_is_the_8_bit_image_and_any_other_within_a_level(
    picture: np.ndarray, mode: str, suffix: str
) -> None:
    decoded = decode(encode_16(picture.astype(np.uint16) * 257, suffix))
    assert decoded.mode == mode
    assert np.array_equal(decoded.pixels, np.dstack([picture] * (5 - picture.ndim))[..., :3])
    values = GENERATOR.integers(0, 65536, picture.shape).astype(np.uint16)
    exact = np.dstack([values] * (5 - picture.ndim))[..., :3] / 257
    assert np.abs(decode(encode_16(values, suffix)).pixels - exact).max() <= 1


def test_transparency_is_laid_on_black() -> None:
    alpha = RGBA[..., 3:] / 255
    decoded = decode(encode(RGBA, "PNG"))
    assert decoded.mode == "RGBA"
    assert np.abs(decoded.pixels - RGB * alpha).max() <= 1
    grey_alpha = Pillow.merge("LA", [Pillow.fromarray(RGBA[..., c]) for c in (0, 3)])
    grey = decode(encode(grey_alpha, "PNG"))
    assert grey.mode == "LA"
    assert np.abs(grey.pixels - GREY[..., None] * alpha).max() <= 1


def test_a_palette_is_looked_up_and_its_transparent_colour_is_black() -> None:
    palette = Pillow.fromarray(RGB).quantize(16)
    oracle = np.asarray(palette.convert("RGB"))
    decoded = decode(encode(palette, "PNG"))
    assert decoded.mode == "P"
    assert np.array_equal(decoded.pixels, oracle)
    clear = np.asarray(palette) == 3
    assert clear.any()
    expected = np.where(clear[..., None], 0, oracle)
    assert np.array_equal(decode(encode(palette, "PNG", transparency=3)).pixels, expected)


def test_a_cmyk_jpeg_has_the_colours_of_its_rgb() -> None:
    encoded = encode(Pillow.fromarray(RGB).convert("CMYK"), "JPEG", quality=100, subsampling=0)
    decoded = decode(encoded)
    assert decoded.mode == "CMYK"
    assert np.abs(decoded.pixels.astype(int) - RGB).mean() < 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright_as_its_exif_says(orientation: int) -> None:
    turns = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: np.rot90,
    }  # fmt: skip
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    decoded = decode(encode(RGB[:12], "PNG", exif=exif))
    upright = turns[orientation](RGB[:12])
    assert (decoded.height, decoded.width) == upright.shape[:2]
    expected = decode(encode(np.ascontiguousarray(upright), "PNG")).pixels
    assert np.array_equal(decoded.pixels, expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_an_orientation_that_cannot_be_read_leaves_the_image_as_it_is() -> None:
    damaged = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff" + b"\xff" * 9
    assert np.array_equal(decode(encode(RGB, "PNG", exif=damaged)).pixels, RGB)


def test_shrinking_averages_whole_areas() -> None:
    areas = RGB.reshape(6, 4, 6, 4, 3).mean((1, 3))
    assert np.abs(decode(encode(RGB, "PNG"), size_px=6).pixels - areas).max() <= 0.5


def test_a_side_that_shrinks_is_averaged_and_one_that_grows_keeps_its_range() -> None:
    stripes = np.zeros((8, 160, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = decode(encode(stripes, "PNG"), size_px=16).pixels
    assert pixels.shape == (16, 16, 3)
    assert np.abs(pixels.astype(int) - 127).max() <= 1
    checks = np.where(RGB > 127, np.uint8(200), np.uint8(100))
    grown = decode(encode(checks, "PNG"), size_px=64).pixels
    assert (grown.min(), grown.max()) == (100, 200)


def test_pad_keeps_the_aspect_centred_on_black_and_stretch_fills() -> None:
    wide = encode(np.full((10, 40, 3), 200, np.uint8), "PNG")
    padded = decode(wide, 20, "pad").pixels
    assert (padded[7:12] == 200).all()
    assert not padded[:7].any()
    assert not padded[12:].any()
    assert (decode(wide, 20, "stretch").pixels == 200).all()
    tall = decode(encode(np.full((200, 2, 3), 200, np.uint8), "PNG"), 20, "pad").pixels
    assert (tall[:, 9:10] == 200).all()
    assert tall.any(axis=(0, 2)).sum() == 1


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "zero bytes"),
        *[
            (other, "no image (expected one of BMP, GIF, JPEG, PNG, TIFF, WEBP)")
            for other in (b"<html>404</html>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", bytes(99))
        ],
        *[
            (encode(np.zeros((*shape, 3), np.uint8), "PNG"), "a side below 2 px")
            for shape in ((1, 1), (1, 20), (20, 1))
        ],
        *[
            (encode(RGB_FRAMES[0], kind, save_all=True, append_images=RGB_FRAMES[1:]), "more than one frame or page")
            for kind in ("GIF", "TIFF", "WEBP", "PNG")
        ],
        (encode_16(RGB[..., 0].astype(np.float32), ".tiff"), "mode F, whose white is not known"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused_with_its_reason(encoded: bytes, reason: str) -> None:
    assert reason_of(encoded) == reason


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_is_refused_wherever_it_is_cut(options: dict[str, Any]) -> None:
    encoded = encode(RGB, "JPEG", **options)
    for end in range(1, len(encoded)):
        assert reason_of(encoded[:end]).startswith(("JPEG ", "no image"))
    assert reason_of(encoded[:-1]) == "JPEG cut short: no end marker"


def test_a_jpeg_cut_behind_the_end_marker_of_its_thumbnail_is_refused() -> None:
    exif = b"Exif\x00\x00" + encode(RGB[:8, :8], "JPEG")
    encoded = encode(RGB, "JPEG", exif=exif)
    assert reason_of(encoded[:-40]) == "JPEG cut short: no end marker"
    assert np.array_equal(decode(encoded + bytes(50)).pixels, decode(encode(RGB, "JPEG")).pixels)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("file_format", ["PNG", "BMP", "GIF", "WEBP", "TIFF"])
def test_other_formats_are_refused_wherever_they_are_cut(file_format: str) -> None:
    options = {"compression": "tiff_lzw"} if file_format == "TIFF" else {}
    encoded = encode(RGB, file_format, **options)
    for end in range(1, len(encoded), 1 if file_format == "PNG" else 7):
        fault = "PNG " if file_format == "PNG" else f"{file_format} damaged"
        assert reason_of(encoded[:end]).startswith((fault, "no image"))


@pytest.mark.parametrize("where", ["pixels", "checksum"])
def test_a_png_with_one_flipped_bit_is_refused(where: str) -> None:
    encoded = bytearray(encode(RGB, "PNG", compress_level=0))
    encoded[len(encoded) // 2 if where == "pixels" else encoded.rfind(b"IEND") - 5] ^= 1
    assert reason_of(bytes(encoded)) == "PNG damaged or cut short"


def test_a_declared_20000_px_is_refused_without_memory() -> None:
    tracemalloc.start()
    reason = reason_of(png_header(20_000, 20_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reason == "a side above 4096 px (prepare.max_side_px)"
    assert peak < 2**20


def test_the_longest_side_is_allowed_and_one_more_is_not() -> None:
    image = encode(RGB[:12], "PNG")
    assert decode(image, max_side_px=SIDE).width == SIDE
    assert reason_of(image, SIDE - 1) == "a side above 23 px (prepare.max_side_px)"


def test_of_a_telephones_jpeg_with_previews_the_picture_is_taken() -> None:
    encoded = encode(RGB_FRAMES[0], "MPO", save_all=True, append_images=RGB_FRAMES[1:])
    assert np.array_equal(decode(encoded).pixels, decode(encode(RGB, "JPEG")).pixels)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP"])
def test_a_randomly_damaged_file_is_decoded_or_refused_but_nothing_else(file_format: str) -> None:
    encoded = encode(RGB, file_format)
    generator = np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(encoded)
        for place in generator.integers(0, len(damaged), 2):
            damaged[place] = generator.integers(0, 256)
        try:
            assert decode(bytes(damaged), max_side_px=200).pixels.shape == (SIDE, SIDE, 3)
        except ImageError:
            continue
