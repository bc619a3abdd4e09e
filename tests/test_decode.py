"""An image file becomes the right pixels, or the reason why it cannot."""

import io
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageFile

from pipeline.core.competition import ImageDecoding
from pipeline.core.errors import ImageError
from pipeline.prepare.decode import CLIPPED, Decoded, sample
from pipeline.prepare.decode import decode as decode_file
from pipeline.prepare.levels import find_range
from pipeline.prepare.opened import SEVERAL_FRAMES

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
    black_white: tuple[float, float] | None = None,
) -> Decoded:
    return decode_file(
        encoded,
        ImageDecoding(size_px=size_px, channels=3, fit=fit, black_white=black_white),
        max_side_px,
    )


def range_of(*encoded: bytes) -> tuple[float, float] | None:
    """What train would say, were it of these files."""
    found = find_range(sample(file, 4096, 1000) for file in encoded)
    return (found.black, found.white) if found else None


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
            (other, "no image (expected one of BMP, DICOM, GIF, JPEG, NPY, PNG, TIFF, WEBP)")
            for other in (b"<html>404</html>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", bytes(99))
        ],
        *[
            (encode(np.zeros((*shape, 3), np.uint8), "PNG"), "a side below 2 px")
            for shape in ((1, 1), (1, 20), (20, 1))
        ],
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


PHOTO = cv2.resize(COARSE[..., :3], (96, 64)) // 2 + GENERATOR.integers(
    0, 100, (64, 96, 3), dtype=np.uint8
)
DARK = np.where(np.arange(96)[:, None] < 40, PHOTO, np.uint8(0))
"""Its lower right corner is of one colour, as what a decoder makes up is."""

FILM = b"\0\0\0\x18ftypmp42" + bytes(GENERATOR.integers(0, 256, 9000, dtype=np.uint8))
BEHIND = {
    "zeros": bytes(3000),
    "a film": FILM + b"\xff\xd8\xff\xe0" + FILM + b"\xff\xd9" + FILM,
    "a second JPEG": encode(255 - PHOTO, "JPEG"),
    "an end marker": b"\xff\xd9",
    "a start marker": b"\xff\xd8",
    "text": b"made by a telephone\n" * 9,
    "fill bytes": b"\xff" * 999,
}
JPEGS: dict[str, bytes] = {
    "plain": encode(PHOTO, "JPEG"),
    "dark": encode(DARK, "JPEG", quality=90),
    "full colour": encode(PHOTO, "JPEG", subsampling=0),
    "restart markers": encode(PHOTO, "JPEG", restart_marker_rows=1),
    "grey": encode(PHOTO[..., 0], "JPEG"),
    "progressive": encode(PHOTO, "JPEG", progressive=True),
}
OTHERS = {kind: encode(PHOTO, kind) for kind in ("PNG", "BMP", "TIFF", "GIF", "WEBP")}


def cuts(encoded: bytes) -> list[int]:
    """40 places, all behind the first tenth: before there are only headers."""
    return np.linspace(len(encoded) / 10, len(encoded) - 3, 40).astype(int).tolist()


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("encoded", [*JPEGS.values(), *OTHERS.values()], ids=[*JPEGS, *OTHERS])
def test_what_follows_an_image_changes_nothing(encoded: bytes, behind: str) -> None:
    assert np.array_equal(decode(encoded + BEHIND[behind]).pixels, decode(encoded).pixels)


@pytest.mark.parametrize("encoded", [*JPEGS.values(), *OTHERS.values()], ids=[*JPEGS, *OTHERS])
def test_an_image_cut_at_40_places_is_refused(encoded: bytes) -> None:
    for end in cuts(encoded):
        assert reason_of(encoded[:end])


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("kind", [*JPEGS, "PNG"])
def test_a_cut_is_seen_whatever_follows_it(kind: str, behind: str) -> None:
    """Unless it is in the very last block, or between two scans: such a JPEG is whole, if coarse."""
    encoded = (JPEGS | OTHERS)[kind]
    whole = decode(encoded, 96).pixels
    between_scans = 0
    for end in cuts(encoded):
        try:
            different = decode(encoded[:end] + BEHIND[behind], 96).pixels != whole
        except ImageError:
            continue
        different[-27:, -17:] = False  # 64 px high, stretched to 96
        between_scans += different.any()
    assert between_scans <= 2 * (kind == "progressive")


@pytest.mark.parametrize("extra", [b"\xff\xff\xff", bytes(9), b"\0\xff"])
def test_bytes_that_cameras_leave_before_the_end_marker_do_no_harm(extra: bytes) -> None:
    for encoded in JPEGS.values():
        padded = encoded[:-2] + extra + encoded[-2:] + b"behind"
        assert np.array_equal(decode(padded).pixels, decode(encoded).pixels)


def test_a_jpeg_turned_by_its_exif_is_whole_where_its_last_block_is_black() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    upright = decode(encode(DARK, "JPEG", exif=exif)).pixels
    assert np.array_equal(upright, np.rot90(decode(encode(DARK, "JPEG")).pixels, -1))


def chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def with_chunks(*chunks: bytes) -> bytes:
    """A PNG with more chunks behind its header."""
    return OTHERS["PNG"][:33] + b"".join(chunks) + OTHERS["PNG"][33:]


NOISE = bytes(GENERATOR.integers(0, 256, 2**21, dtype=np.uint8))
PROFILE = b"profile\0\0" + zlib.compress(NOISE, 0)
TEXT = b"Comment\0\0" + zlib.compress(bytes(2**21))


@pytest.mark.parametrize(
    "metadata", [chunk(b"iCCP", PROFILE), chunk(b"zTXt", TEXT), chunk(b"tEXt", b"a\0" + b"x" * 2**21)]
)  # fmt: skip
def test_a_png_with_two_megabytes_of_metadata_is_a_picture(metadata: bytes) -> None:
    assert np.array_equal(decode(with_chunks(metadata)).pixels, decode(OTHERS["PNG"]).pixels)


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is there many times."""
    encoded = JPEGS["progressive"]
    last = encoded.rindex(b"\xff\xda")
    return encoded[:last] + encoded[last:-2] * count + b"\xff\xd9"


def tiff_of_pages(count: int) -> bytes:
    """Directories one behind the other, all of the same 3 x 3 grey pixels, which come first."""
    tags = {256: 3, 257: 3, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 3, 279: 9}
    fields = b"".join(struct.pack("<2H2L", tag, 4, 1, value) for tag, value in tags.items())
    start, size = 8 + 10, 2 + len(fields) + 4
    places = [*range(start + size, start + count * size, size), 0]
    pages = [struct.pack("<H", len(tags)) + fields + struct.pack("<L", place) for place in places]
    return struct.pack("<2sHL", b"II", 42, start) + bytes(10) + b"".join(pages)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: jpeg_of_scans(5000), "JPEG with more than 100 scans"),
        (lambda: with_chunks(*[chunk(b"iCCP", PROFILE)] * 2), "PNG with more than one colour profile"),
        (lambda: with_chunks(*[chunk(b"tIME", b"")] * 100_000), "PNG with more than 100,000 chunks"),
        (lambda: with_chunks(*[chunk(b"zTXt", TEXT)] * 40), "no image (expected one of BMP, DICOM, GIF, JPEG, NPY, PNG, TIFF, WEBP)"),
        (lambda: png_header(2**31 - 1, 2**31 - 1), "a side above 4096 px (prepare.max_side_px)"),
    ],
)  # fmt: skip
def test_the_work_on_one_file_is_bounded(make: Callable[[], bytes], reason: str) -> None:
    encoded = make()
    started = time.process_time()
    assert reason_of(encoded) == reason
    assert time.process_time() - started < 2


def test_of_100_000_pages_only_two_are_looked_at() -> None:
    encoded = tiff_of_pages(100_000)
    started = time.process_time()
    assert decode(encoded).notes == (SEVERAL_FRAMES,)
    assert time.process_time() - started < 2


def test_a_jpeg_of_100_scans_is_decoded() -> None:
    assert decode(jpeg_of_scans(80)).width == 96


def test_a_palette_without_its_colours_is_the_files_fault() -> None:
    encoded = encode(Pillow.fromarray(RGB).quantize(16), "PNG")
    start = encoded.index(b"PLTE") - 4
    colours = 12 + int.from_bytes(encoded[start : start + 4])
    assert reason_of(encoded[:start] + encoded[start + colours :]) == "PNG damaged or cut short"


@pytest.mark.parametrize(
    "fault", [MemoryError, RecursionError, AssertionError, cv2.error, RuntimeError]
)
@pytest.mark.parametrize("where", ["open", "load"])
def test_whatever_a_decoder_raises_is_the_files_fault(
    fault: type[Exception], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    place = Pillow if where == "open" else ImageFile.ImageFile
    monkeypatch.setattr(place, where, fail)
    assert reason_of(OTHERS["BMP"]).startswith("no image" if where == "open" else "BMP damaged")


RAMP = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)
"""Each of the 256 steps of 12 bits once."""


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize(("values", "mode"), [(RAMP, "I;16"), (np.dstack([RAMP, RAMP.T, 4095 - RAMP]), "RGB;16")])  # fmt: skip
def test_12_bits_in_16_become_the_same_picture_in_8(
    values: np.ndarray, mode: str, suffix: str
) -> None:
    values = np.where(values == 4080, np.uint16(4095), values)
    encoded = encode_16(values, suffix)
    assert range_of(encoded) == (0, 4095)
    decoded = decode(encoded, 16, black_white=(0, 4095))
    assert decoded.mode == mode
    assert not decoded.notes
    steps = np.dstack([values // 16] * (5 - values.ndim))[..., :3]
    assert np.array_equal(decoded.pixels, steps)
    clipped = decode(encoded, 16, black_white=(0, 2047))
    assert clipped.notes == (CLIPPED,)
    doubled = np.dstack([values] * (5 - values.ndim))[..., :3].astype(int) * 256 // 2047
    assert np.array_equal(clipped.pixels, np.minimum(doubled, 255))
    assert range_of(encoded, encode(GREY, "PNG")) == (0, 4095)
    assert range_of(encode(GREY, "PNG"), encode(RGB, "JPEG")) is None


@pytest.mark.parametrize(("largest", "bits"), [(3, 8), (255, 8), (256, 9), (4095, 12), (4096, 13), (65535, 16)])  # fmt: skip
def test_white_is_the_largest_number_of_the_bits_that_train_uses(largest: int, bits: int) -> None:
    values = np.zeros((9, 9), np.uint16)
    values[4, 4] = largest
    assert range_of(encode_16(values)) == (0, 2**bits - 1)


def test_of_all_16_bits_the_highest_8_are_kept_with_a_range_and_without() -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for black_white in (None, (0.0, 65535.0)):
        pixels = decode(encode_16(every), 256, black_white=black_white).pixels
        assert np.array_equal(pixels[..., 0], every >> 8)


def png_of_grey_and_opacity(values: np.ndarray) -> bytes:
    """In 16 bits, which neither library writes."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 4, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("kind", ["grey", "colour"])
@pytest.mark.parametrize("opacity", [65535, 32768])
def test_of_16_bits_with_opacity_the_colour_is_scaled_and_laid_on_black(
    kind: str, opacity: int
) -> None:
    full = np.full((16, 16), opacity, np.uint16)
    if kind == "grey":
        encoded = png_of_grey_and_opacity(np.dstack([RAMP + 15, full]))
    else:
        encoded = bytes(cv2.imencode(".png", np.dstack([RAMP, RAMP, RAMP + 15, full]))[1])
    assert range_of(encoded) == (0, 4095)
    red = decode(encoded, 16, black_white=(0, 4095)).pixels[..., 0]
    assert np.abs(red - (RAMP // 16) * (opacity / 65535)).max() <= (0 if opacity == 65535 else 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bit_colour_is_turned_upright(orientation: int, suffix: str) -> None:
    """As the same picture in 8 bits is."""
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    tiff = {0x0112: orientation}
    if suffix == ".png":
        raw = encode_16(RGB[:12].astype(np.uint16) * 257)
        tag = encode(RGB, "PNG", exif=exif)
        start = tag.index(b"eXIf") - 4
        encoded = (
            raw[:33] + tag[start : start + 12 + int.from_bytes(tag[start : start + 4])] + raw[33:]
        )
        expected = encode(RGB[:12], "PNG", exif=exif)
    else:
        encoded = tiff_of(RGB[:12].astype(np.uint16) * 257, orientation)
        expected = encode(RGB[:12], "TIFF", tiffinfo=tiff)
    assert np.array_equal(decode(encoded).pixels, decode(expected).pixels)


def tiff_of(values: np.ndarray, orientation: int = 1) -> bytes:
    """RGB of 16 bits, or grey of 32, as they are in memory."""
    height, width, samples = (*values.shape, 1)[:3]
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    bits = 8 * values.dtype.itemsize
    tags = {
        256: width, 257: height, 258: bits, 259: 1, 262: 2 if samples == 3 else 1, 273: 8,
        274: orientation, 277: samples, 278: height, 279: values.nbytes, 339: kind,
    }  # fmt: skip
    behind = 8 + values.nbytes
    fields = b""
    for tag, value in tags.items():
        many = samples if tag in (258, 339) else 1
        place = behind + (6 if tag == 339 else 0)
        packed = struct.pack("<L", value if many == 1 else place)
        if tag in (256, 257, 273, 279):
            fields += struct.pack("<2H2L", tag, 4, 1, value)
        else:
            fields += struct.pack("<2HL", tag, 3, many) + packed
    extra = struct.pack("<6H", *[bits] * 3, *[kind] * 3)
    start = struct.pack("<2sHL", b"II", 42, behind + len(extra))
    return start + values.tobytes() + extra + struct.pack("<H", len(tags)) + fields + bytes(4)


def test_a_tiff_that_no_library_here_reads_is_refused_as_that() -> None:
    assert reason_of(tiff_of(RAMP.astype(np.float64))) == (
        "no image that can be read: a damaged TIFF, or one of several bands or of 64 bits"
    )


FLOATS = RAMP.astype(np.float32) / 100 - 10


@pytest.mark.parametrize(
    "values", [FLOATS, RAMP.astype(np.int32) - 1000, RAMP.astype(np.uint32) * 2**19 + 2**31]
)
def test_32_bits_are_scaled_from_the_smallest_to_the_largest_value(values: np.ndarray) -> None:
    encoded = tiff_of(values)
    black_white = range_of(encoded)
    assert black_white == (values.min(), values.max())
    decoded = decode(encoded, 16, black_white=black_white)
    assert decoded.mode == ("F" if values.dtype.kind == "f" else "I")
    assert np.array_equal(decoded.pixels, np.dstack([np.arange(256).reshape(16, 16)] * 3))
    assert reason_of(encoded) == (
        f"values of type {values.dtype}, and no training image says their range"
    )


def test_a_broken_pixel_does_not_turn_the_others_black() -> None:
    values = np.tile(FLOATS, (8, 8))
    values[3, 5] = 1e20
    black_white = range_of(*[tiff_of(values)] * 9)
    assert black_white
    assert (FLOATS.min(), FLOATS.max()) == pytest.approx(black_white, abs=1)
    decoded = decode(tiff_of(values), 128, black_white=black_white)
    assert decoded.pixels.std() > 50
    assert not decoded.notes
    assert decode(tiff_of(values + 3), 128, black_white=black_white).notes == (CLIPPED,)


def test_an_image_of_one_value_but_for_a_few_pixels_keeps_those() -> None:
    values = np.zeros((100, 100), np.float32)
    values[50, 50] = 7
    assert range_of(tiff_of(values)) == (0, 7)
    assert range_of(tiff_of(values * 0)) == (0, 0)
    assert not decode(tiff_of(values * 0), 100, black_white=(0, 0)).pixels.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_the_files_fault(value: float) -> None:
    values = FLOATS.copy()
    values[2, 2] = value
    with pytest.raises(ImageError, match="no numbers"):
        decode(tiff_of(values), black_white=(0, 1))
    with pytest.raises(ImageError, match="no numbers"):
        range_of(tiff_of(values))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_or_pages_the_first_is_taken_and_that_is_said(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    frames = [Pillow.fromarray(each) for each in (RGB, 255 - RGB)]
    if kind == "GIF":
        frames = [each.quantize(64) for each in frames]
    encoded = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    decoded = decode(encoded)
    assert decoded.notes == (SEVERAL_FRAMES,)
    assert np.array_equal(decoded.pixels, np.asarray(frames[0].convert("RGB")))
    alone = decode(encode(frames[0], kind, **options))
    assert not alone.notes
    assert np.array_equal(alone.pixels, decoded.pixels)
