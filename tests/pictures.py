"""Pictures in folders and archives, and the tables that are written about them."""

import csv
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import py7zr
from PIL import Image


def png(seed: int, size: tuple[int, int] = (30, 26)) -> bytes:
    """A picture of noise, a different one for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    return encoded.getvalue()


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tar_of(files: dict[str, bytes], *more: tarfile.TarInfo, mode: str = "w") -> bytes:
    """A tar of these files, and of members without content; mode: "w:gz", too."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 1_700_000_000
            archive.addfile(member, io.BytesIO(content))
        for member in more:
            archive.addfile(member)
    return packed.getvalue()


def seven_zip_of(files: dict[str, bytes], password: str | None = None) -> bytes:
    packed = io.BytesIO()
    with py7zr.SevenZipFile(packed, "w", password=password) as archive:
        for name, content in files.items():
            archive.writestr(content, name)
    return packed.getvalue()


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def dicom(values: np.ndarray, *changes: dict[str, Any], frame: bytes | None = None) -> bytes:
    """A file as scanners write it. frame: the compressed pixels."""
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless

    stored = {"|u1": 8, "<u2": 12, "<i2": 16}[values.dtype.str]
    tags = {
        "PhotometricInterpretation": "MONOCHROME2" if values.ndim == 2 else "RGB",
        "SamplesPerPixel": 1 if values.ndim == 2 else 3,
        "Rows": values.shape[0], "Columns": values.shape[1],
        "BitsAllocated": 8 * values.dtype.itemsize,
        "BitsStored": stored, "HighBit": stored - 1,
        "PixelRepresentation": int(values.dtype.kind == "i"),
    }  # fmt: skip
    syntax = ExplicitVRLittleEndian
    for change in changes:
        tags |= change
    syntax = tags.pop("syntax", syntax)
    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, "1.2.3"
    if values.ndim == 3:
        dataset.PlanarConfiguration = 0
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.PixelData = values.tobytes()
    if syntax == RLELossless:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.compress(RLELossless, generate_instance_uid=False)
    if frame is not None:
        dataset.PixelData = pydicom.encaps.encapsulate([frame])
        dataset["PixelData"].VR = "OB"
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()
