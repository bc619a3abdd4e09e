"""Reading the packed arrays of data/store/: only this module opens one."""

from pathlib import Path

import numpy as np
from numpy import ndarray

from pipeline.core.errors import TableError


def read_array(path: Path, rows: int) -> ndarray:
    """An array with a row for each of so many images or signals, memory-mapped.

    Raises TableError where the file is missing, damaged, or has another number of rows.
    """
    if not path.is_file():
        raise TableError(f"{path}: no such file. Run: dvc repro prepare")
    try:
        array: np.memmap = np.lib.format.open_memmap(path, mode="r")
        found = str(len(array))
        if array.dtype.kind not in "uif" or array.ndim < 2 or 0 in array.shape[1:]:
            found = f"{array.dtype} of shape {array.shape}"
        if path.stat().st_size != array.offset + array.nbytes:
            found = "bytes that are not of the array"
    except Exception as error:  # NumPy reads the header as Python: damage raises anything
        found = f"a file cut short or damaged ({type(error).__name__})"
    if found == str(rows):
        return array
    raise TableError(
        f"{path}: expected the {rows} rows of its table, found {found}. "
        "Run: dvc repro --force prepare"
    )
