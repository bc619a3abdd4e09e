"""Reading the packed arrays of data/store/."""

from pathlib import Path

import numpy as np
from numpy import ndarray

from pipeline.core.errors import TableError


def read_array(path: Path, rows: int) -> ndarray:
    """An array, memory-mapped, with as many rows as the table beside it, train.csv of train.npy.

    Raises TableError where the file is missing, damaged, or has another number of rows.
    """
    if not path.is_file():
        raise TableError(f"{path}: no such file. Run: dvc repro prepare")
    try:
        array: ndarray = np.lib.format.open_memmap(path, mode="r")
        found = str(len(array))
    except Exception as error:  # NumPy reads the header as Python: damage raises anything
        found = f"a file cut short or damaged ({type(error).__name__})"
    if found == str(rows):
        return array
    raise TableError(
        f"{path}: expected the {rows} rows of {path.with_suffix('.csv')}, found {found}. "
        "Run: dvc repro --force prepare"
    )
