"""The packed array of a split, row by row with its table; only this module opens one."""

from pathlib import Path

import numpy as np
from numpy import ndarray

from pipeline.core.errors import TableError


def open_array(path: Path, rows: int) -> ndarray:
    """The numbers, mapped into memory: each image or signal is a row.

    Raises TableError where the file is missing, no such array, cut, or of other than `rows` rows.
    """
    expected = f"{path}: expected an array of numbers with {rows} rows, found"
    again = "Run: dvc repro --force prepare"
    if not path.is_file():
        raise TableError(f"{path}: no such file. Run: dvc repro prepare")
    try:
        array: ndarray = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # of NumPy, mmap, ast or tokenize, which parse the header
        raise TableError(f"{expected} another or a damaged file ({error}). {again}") from error
    shape = array.shape
    if array.dtype.kind not in "uif" or len(shape) < 2 or shape[0] != rows or 0 in shape[1:]:
        raise TableError(f"{expected} {array.dtype} of shape {shape}. {again}")
    return array
