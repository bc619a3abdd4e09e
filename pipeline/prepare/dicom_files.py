"""A DICOM file as an image, by pydicom: the first frame, as a viewer shows it.

Values are rescaled as the file says (slope and intercept, or a table). Its first window says what
is black and white; where there is none, the training images do (levels.py), unless they have 8
bits. MONOCHROME1 is inverted; palettes are looked up, and YBR becomes RGB.
"""

import io
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as Pillow

from pipeline.core.errors import CompetitionError, ImageError
from pipeline.prepare.opened import SEVERAL_FRAMES, BlackWhite, Opened, Values, side_fault

if TYPE_CHECKING:
    from pydicom import Dataset

MARK, MARK_PLACE = b"DICM", 128

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_LARGEST = 1e30  # of a window's ends
_GREY = ("MONOCHROME1", "MONOCHROME2")


def open_dicom(encoded: bytes, max_side_px: int) -> Opened:
    """Read the header. Raises ImageError with the reason, CompetitionError without pydicom."""
    pydicom = _pydicom()
    if _DEFLATED in encoded:  # it may inflate to a thousand times its size before a tag can be read
        raise ImageError("DICOM compressed as a whole (Deflated Explicit VR Little Endian)")
    try:
        dataset = pydicom.dcmread(io.BytesIO(encoded))
        if not any(name in dataset for name in _PIXELS):
            raise ImageError("DICOM without an image")
        height, width = int(dataset.Rows), int(dataset.Columns)
        if fault := side_fault(height, width, max_side_px):
            raise ImageError(fault)
        _check_compression(dataset)
        kind, bits = str(dataset.PhotometricInterpretation), int(dataset.BitsAllocated)
        frames = int(dataset.get("NumberOfFrames") or 1)
        black_white = _own_range(dataset) if kind in _GREY else None
        return Opened(
            mode=f"{kind} {dataset.get('BitsStored', bits)}",
            encoding=f"DICOM {dataset.file_meta.TransferSyntaxUID.name}",
            load=lambda: _load(dataset),
            notes=(SEVERAL_FRAMES,) if frames > 1 else (),
            deep=black_white is None and (bits > 8 or _is_rescaled(dataset)),
            black_white=black_white,
            inverted=kind == "MONOCHROME1",
        )
    except ImageError:
        raise
    except Exception as error:
        raise ImageError("DICOM damaged or cut short") from error


def _pydicom() -> ModuleType:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        raise CompetitionError(
            "DICOM images need pydicom, the optional extra `dicom`, which is not installed. "
            "Run: .venv/bin/uv pip install --python .venv/bin/python pydicom"
        ) from error
    return pydicom


def _check_compression(dataset: "Dataset") -> None:
    """Raise ImageError where a frame cannot be decoded, or is not of the size that is declared."""
    from pydicom.encaps import get_frame
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return
    if not get_decoder(syntax).is_available:
        raise ImageError(f"DICOM compressed as {syntax.name}, which pydicom cannot decode here")
    if syntax.name.startswith("JPEG"):
        frames = int(dataset.get("NumberOfFrames") or 1)
        frame = get_frame(dataset.PixelData, 0, number_of_frames=frames)
        with Pillow.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")) as image:
            if image.size != (dataset.Columns, dataset.Rows):
                raise ImageError("DICOM whose picture is not of the size that its header says")


def _load(dataset: "Dataset") -> Values:
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
    from pydicom.pixels.utils import pixel_array

    try:
        values = pixel_array(dataset, index=0)
        kind = dataset.PhotometricInterpretation
        if kind == "PALETTE COLOR":
            values = apply_color_lut(values, dataset)
            if values.dtype == np.uint16:
                values = (values >> 8).astype(np.uint8)
        elif kind in _GREY:
            if _is_rescaled(dataset):
                values = apply_modality_lut(values, dataset)
            if dataset.get("VOILUTSequence"):
                values = apply_voi_lut(values.astype(np.int64), dataset)
            elif _function(dataset) == "SIGMOID" and _own_range(dataset):
                centre, width = _window(dataset)
                values = 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -50, 50)))
        return np.ascontiguousarray(values)
    except Exception as error:
        raise ImageError("DICOM damaged or cut short") from error


def _is_rescaled(dataset: "Dataset") -> bool:
    line = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    return line != (1, 0) or bool(dataset.get("ModalityLUTSequence"))


def _own_range(dataset: "Dataset") -> BlackWhite | None:
    """What the file says of black and white: a table's range, or the ends of its first window."""
    if tables := dataset.get("VOILUTSequence"):
        return 0.0, 2.0 ** int(tables[0].LUTDescriptor[2]) - 1
    centre, width = _window(dataset)
    match _function(dataset):
        case "SIGMOID" if width > 0:
            return 0.0, 1.0
        case "LINEAR_EXACT" if width > 0:
            return centre - width / 2, centre + width / 2
        case "LINEAR" if width >= 1:
            return centre - width / 2, centre + width / 2 - 1
    return None


def _window(dataset: "Dataset") -> tuple[float, float]:
    """Centre and width; a width of 0 where there is no window, or none of numbers."""
    both = [np.atleast_1d(dataset.get(name) or 0) for name in ("WindowCenter", "WindowWidth")]
    centre, width = (float(values[0]) for values in both)
    return (centre, width) if max(abs(centre), abs(width)) < _LARGEST else (0, 0)


def _function(dataset: "Dataset") -> str:
    return str(dataset.get("VOILUTFunction") or "LINEAR")
