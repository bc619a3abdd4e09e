"""NumPy's arrays and DICOM become the right pixels, or the reason why they cannot."""

import io
import sys
import time
from typing import Any

import numpy as np
import pydicom
import pytest
from pictures import dicom
from PIL import Image as Pillow
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    RLELossless,
)

from pipeline.core.competition import ImageDecoding
from pipeline.core.errors import CompetitionError, ImageError
from pipeline.prepare.decode import (
    CLIPPED,
    Decoded,
    decode,
    decode_array,
    decode_channels,
    sample,
    sample_array,
)
from pipeline.prepare.levels import find_range
from pipeline.prepare.opened import SEVERAL_FRAMES

GENERATOR = np.random.default_rng(3)
STEPS = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOUR = GENERATOR.integers(0, 256, (16, 16, 3), dtype=np.uint8)
GREY = np.dstack([STEPS] * 3)


def npy(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values, **options)
    return file.getvalue()


def decoding(black_white: tuple[float, float] | None = None, side: int = 16) -> ImageDecoding:
    return ImageDecoding(size_px=side, channels=3, fit="stretch", black_white=black_white)


def read(encoded: bytes, black_white: tuple[float, float] | None = None, side: int = 16) -> Decoded:
    return decode(encoded, decoding(black_white, side), 4096)


def range_of(*encoded: bytes) -> tuple[float, float] | None:
    found = find_range(sample(file, 4096, 1000) for file in encoded)
    return (found.black, found.white) if found else None


def reason_of(encoded: bytes, max_side_px: int = 4096) -> str:
    with pytest.raises(ImageError) as caught:
        decode(encoded, decoding((0, 255)), max_side_px)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (STEPS, GREY),
        (STEPS[..., None], GREY),
        (STEPS[None], GREY),
        (COLOUR, COLOUR),
        (np.moveaxis(COLOUR, -1, 0), COLOUR),
        (np.asfortranarray(COLOUR), COLOUR),
        (STEPS > 99, np.where(GREY > 99, 255, 0)),
    ],
)
def test_an_array_of_bytes_keeps_its_values(values: np.ndarray, expected: np.ndarray) -> None:
    assert range_of(npy(values)) is None
    for decoded in (read(npy(values)), decode_array(values, decoding(), 4096)):
        assert np.array_equal(decoded.pixels, expected)
        assert (decoded.width, decoded.height, decoded.notes) == (16, 16, ())


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4", "<i8", "<u4", "<f2", "<f4", ">f8"])
def test_the_same_picture_in_any_type_is_the_same_row(dtype: str) -> None:
    values = (STEPS.astype(np.int64) * 8).astype(dtype)
    black_white = range_of(npy(values))
    assert black_white == ((0, 2047) if values.dtype.kind != "f" else (0, 2040))
    assert np.array_equal(read(npy(values), black_white).pixels, GREY)
    table = values.astype(values.dtype.newbyteorder("="))
    assert np.array_equal(decode_array(table, decoding(black_white), 4096).pixels, GREY)
    taken = sample_array(table, 4096, 1000)
    assert taken
    assert (taken.smallest, taken.largest) == (0, 2040)


def test_pixels_of_a_table_from_0_to_255_stay_as_they_are() -> None:
    table = STEPS.astype(np.int64)
    found = find_range([sample_array(table, 4096, 1000)])
    assert found
    assert (found.black, found.white) == (0, 255)
    assert np.array_equal(decode_array(table, decoding((0, 255)), 4096).pixels, GREY)


def test_six_channels_are_laid_one_below_the_other_and_that_is_said() -> None:
    cadences = GENERATOR.normal(size=(6, 273, 256)).astype(np.float16)
    black_white = range_of(npy(cadences))
    assert black_white
    assert black_white == pytest.approx((-3, 3), abs=0.5)
    decoded = read(npy(cadences), black_white, 64)
    assert (decoded.height, decoded.width, decoded.mode) == (1638, 256, "float16 6")
    assert decoded.notes == ("6 channels, laid one below the other",)
    last = np.moveaxis(cadences, 0, -1)
    assert np.array_equal(read(npy(last), black_white, 64).pixels, decoded.pixels)
    tall = cadences.reshape(1638, 256)
    assert np.array_equal(read(npy(tall), black_white, 64).pixels, decoded.pixels)
    assert read(npy(cadences * 2), black_white, 64).notes[-1] == CLIPPED


HUGE = npy(STEPS).replace(b"(16, 16)", b"(4, 2**9)")


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (npy(np.zeros((9, 30, 9))), "an array of shape (9, 30, 9): which axis is the channels?"),
        (npy(np.zeros((3, 30, 4))), "an array of shape (3, 30, 4): which axis is the channels?"),
        (npy(np.zeros((40, 50, 60))), "an array of shape (40, 50, 60), expected that of one image"),
        (npy(np.zeros((2, 9, 9, 3))), "an array of shape (2, 9, 9, 3), expected that of one image"),
        (npy(np.zeros(9)), "an array of shape (9,), expected that of one image"),
        (npy(np.zeros((0, 9))), "a side below 2 px"),
        (npy(np.zeros((1, 9))), "a side below 2 px"),
        (npy(np.zeros((4097, 9))), "a side above 4096 px (prepare.max_side_px)"),
        (npy(np.zeros((6, 700, 9))), "6 channels, laid one below the other: a side above 4096 px (prepare.max_side_px)"),
        (npy(np.array([[1j, 2], [3, 4]])), "an array of 'complex128', expected numbers"),
        (npy(np.array([["a", "b"]] * 2)), "an array of '<U1', expected numbers"),
        (npy(np.array([[{}, 1]] * 2), allow_pickle=True), "an array of 'object', expected numbers"),
        (npy(np.full((4, 4), np.nan)), "values that are no numbers (NaN, or infinite)"),
        (npy(np.full((4, 4), 1e300)), "values that are no numbers (NaN, or infinite)"),
        (npy(STEPS)[:-1], "NPY with 255 bytes of numbers, expected 256"),
        (npy(STEPS) + b"1", "NPY with 257 bytes of numbers, expected 256"),
        (npy(STEPS)[:40], "NPY damaged or cut short"),
        (npy(STEPS).replace(b"(16, 16)", b"(16, -6)"), "a side below 2 px"),
        (npy(STEPS).replace(b"(16, 16)", b"2**99999"), "NPY damaged or cut short"),
    ],
)  # fmt: skip
def test_an_array_that_is_no_image_is_refused_with_its_reason(encoded: bytes, reason: str) -> None:
    assert reason_of(encoded) == reason


def test_the_range_is_written_and_read_to_the_last_digit() -> None:
    for black_white in (None, (0, 4095), (-3.0996093750000004, 1e-17)):
        written = decoding(black_white).model_dump_json()
        assert ImageDecoding.model_validate_json(written, strict=True) == decoding(black_white)


def test_channels_in_files_of_their_own_are_red_green_and_blue() -> None:
    files = [picture(COLOUR[..., channel]) for channel in range(3)]
    decoded = decode_channels(files, decoding(), 4096)
    assert np.array_equal(decoded.pixels, COLOUR)
    assert (decoded.width, decoded.height, decoded.mode) == (16, 16, "L + L + L")
    two = decode_channels(files[:2], decoding(), 4096).pixels
    assert np.array_equal(two, COLOUR * np.array([1, 1, 0], np.uint8))
    one = decode_channels([npy(STEPS.astype(np.uint16) * 16)], decoding((0, 4095)), 4096)
    assert np.array_equal(one.pixels, GREY)
    with pytest.raises(ImageError, match="channels of different sizes \\(16 × 16, 16 × 8 px\\)"):
        decode_channels([files[0], picture(STEPS[:8])], decoding(), 4096)


def picture(pixels: np.ndarray, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, file_format, **options)
    return file.getvalue()


TWELVE = STEPS.astype(np.uint16) * 16
CT = TWELVE.astype(np.int16) - 1024
BRAIN = {"WindowCenter": 40, "WindowWidth": 80}
RESCALED = {"RescaleSlope": 1, "RescaleIntercept": -1024}


def windowed(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """As the standard has it (PS3.3 C.11.2.1.2.1), in 256 equal steps."""
    share = (values - (centre - 0.5)) / (width - 1) + 0.5
    return np.clip(np.floor(share * 256), 0, 255)


@pytest.mark.parametrize(
    ("encoded", "expected", "black_white"),
    [
        (dicom(STEPS), STEPS, None),
        (dicom(STEPS, {"PhotometricInterpretation": "MONOCHROME1"}), 255 - STEPS, None),
        (dicom(COLOUR), COLOUR, None),
        (dicom(TWELVE), STEPS, (0, 4095)),
        (dicom(TWELVE, {"PhotometricInterpretation": "MONOCHROME1"}), 255 - STEPS, (0, 4095)),
        (dicom(TWELVE, {"syntax": RLELossless}), STEPS, (0, 4095)),
        (dicom(TWELVE, {"RescaleSlope": 1, "RescaleIntercept": 0}), STEPS, (0, 4095)),
        (dicom(CT), STEPS, (-1024, 3056)),
        (dicom(TWELVE, RESCALED), STEPS, (-1024, 3056)),
        (dicom(TWELVE, {"RescaleSlope": 0.5, "RescaleIntercept": 7}), STEPS, (7, 2047)),
        (dicom(CT, BRAIN), windowed(CT, 40, 80), None),
        (dicom(TWELVE, RESCALED, BRAIN), windowed(CT, 40, 80), None),
        (dicom(TWELVE, RESCALED, {"WindowCenter": [40, 600], "WindowWidth": [80, 2800]}), windowed(CT, 40, 80), None),
        (dicom(TWELVE, RESCALED, BRAIN, {"PhotometricInterpretation": "MONOCHROME1"}), 255 - windowed(CT, 40, 80), None),
        (dicom(STEPS, {"WindowCenter": 128, "WindowWidth": 256}), STEPS, None),
        (dicom(TWELVE, {"WindowCenter": 128, "WindowWidth": 0}), STEPS, (0, 4095)),
        (dicom(CT, BRAIN, {"VOILUTFunction": "LINEAR_EXACT"}), np.clip((CT - 0.0) * 256 // 80, 0, 255), None),
        (dicom(CT, BRAIN, {"VOILUTFunction": "SIGMOID"}), np.floor(256 / (1 + np.exp(np.clip(-4 * (CT - 40.0) / 80, -50, 50)))).clip(0, 255), None),
    ],
)  # fmt: skip
def test_a_dicom_file_is_shown_as_it_says(
    encoded: bytes, expected: np.ndarray, black_white: tuple[float, float] | None
) -> None:
    assert range_of(encoded) == black_white
    decoded = read(encoded, black_white)
    if expected.ndim == 2:
        expected = np.dstack([expected] * 3)
    assert np.array_equal(decoded.pixels, expected)
    assert not decoded.notes


def test_a_table_of_levels_in_the_file_is_applied() -> None:
    table = pydicom.Dataset()
    table.LUTDescriptor = [256, 0, 8]
    table.LUTData = [int(value) for value in (255 - np.arange(256))]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    encoded = dicom(STEPS.astype(np.uint16), {"VOILUTSequence": Sequence([table])})
    assert range_of(encoded) is None
    assert np.array_equal(read(encoded).pixels, 255 - GREY)


def test_a_palette_in_the_file_is_looked_up() -> None:
    colours = GENERATOR.integers(0, 256, (256, 3), dtype=np.uint16) * 257
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for channel, name in enumerate(("Red", "Green", "Blue")):
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tags[f"{name}PaletteColorLookupTableData"] = colours[:, channel].tobytes()
    assert np.array_equal(read(dicom(STEPS, tags), (0, 4095)).pixels, colours[STEPS] // 257)


def smooth() -> np.ndarray:
    return np.dstack([STEPS, STEPS.T, 255 - STEPS])


@pytest.mark.parametrize(
    ("syntax", "file_format", "options"),
    [
        (JPEGBaseline8Bit, "JPEG", {"quality": 95, "subsampling": 0}),
        (JPEG2000Lossless, "JPEG2000", {"no_jp2": True}),
    ],
)
def test_a_compressed_picture_is_that_picture(
    syntax: str, file_format: str, options: dict[str, Any]
) -> None:
    for values in (STEPS, smooth()):
        frame = picture(values, file_format, **options)
        kind = "YBR_FULL" if syntax == JPEGBaseline8Bit else "RGB"
        tags = {"syntax": syntax}
        if values.ndim == 3:
            tags["PhotometricInterpretation"] = kind
        decoded = read(dicom(values, tags, frame=frame))
        expected = np.dstack([values] * (5 - values.ndim))[..., :3]
        assert np.abs(decoded.pixels.astype(int) - expected).max() <= 25
        assert np.abs(decoded.pixels.astype(int) - expected).mean() <= 2
        larger = dicom(values[:8], tags, frame=frame)
        assert reason_of(larger) == "DICOM whose picture is not of the size that its header says"


def test_of_several_frames_the_first_is_taken_and_that_is_said() -> None:
    frames = np.concatenate([TWELVE, TWELVE // 2])
    encoded = dicom(frames, {"Rows": 16, "NumberOfFrames": 2})
    decoded = read(encoded, (0, 4095))
    assert np.array_equal(decoded.pixels, GREY)
    assert decoded.notes == (SEVERAL_FRAMES,)


def without_pixels() -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(dicom(TWELVE)))
    del dataset.PixelData
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (without_pixels(), "DICOM without an image"),
        (dicom(TWELVE)[:200], "DICOM without an image"),
        (dicom(TWELVE)[:-9], "DICOM damaged or cut short"),
        (dicom(TWELVE, {"Rows": 5000}), "a side above 4096 px (prepare.max_side_px)"),
        (dicom(TWELVE, {"Rows": 17}), "DICOM damaged or cut short"),
        (dicom(TWELVE, {"Rows": 1}), "a side below 2 px"),
        (dicom(STEPS, {"syntax": JPEGLossless}, frame=picture(STEPS, "JPEG")), "DICOM compressed as JPEG Lossless, Non-Hierarchical (Process 14), which pydicom cannot decode here"),
        (dicom(TWELVE, {"syntax": DeflatedExplicitVRLittleEndian}), "DICOM compressed as a whole (Deflated Explicit VR Little Endian)"),
        (b"\0" * 128 + b"DICM", "DICOM without an image"),
        (b"\0" * 128 + b"DICM" + b"\xff" * 99, "DICOM without an image"),
    ],
)  # fmt: skip
def test_a_dicom_file_that_is_no_image_is_refused_with_its_reason(
    encoded: bytes, reason: str
) -> None:
    started = time.process_time()
    assert reason_of(encoded) == reason
    assert time.process_time() - started < 2


def test_without_pydicom_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(CompetitionError) as caught:
        read(dicom_bytes)
    assert str(caught.value) == (
        "DICOM images need pydicom, the optional extra `dicom`, which is not installed. "
        "Run: .venv/bin/uv pip install --python .venv/bin/python pydicom"
    )


dicom_bytes = dicom(TWELVE)
