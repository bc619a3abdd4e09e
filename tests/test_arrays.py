"""The packed arrays of the store: a damaged one is a sentence that names the file."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.core.arrays import read_array
from pipeline.core.errors import TableError

ROWS = np.arange(5 * 8 * 8 * 3, dtype=np.uint8).reshape(5, 8, 8, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.save(tmp_path / "train.npy", ROWS)
    return tmp_path / "train.npy"


def refused(path: Path, rows: int = 5) -> str:
    with pytest.raises(TableError) as caught:
        read_array(path, rows)
    return str(caught.value)


def test_a_whole_array_is_read(path: Path) -> None:
    assert (read_array(path, 5) == ROWS).all()


def test_another_number_of_rows_is_said(path: Path) -> None:
    assert refused(path, rows=6) == (
        f"{path}: expected the 6 rows of its table, found 5. Run: dvc repro --force prepare"
    )
    path.unlink()
    assert refused(path) == f"{path}: no such file. Run: dvc repro prepare"


def test_a_file_cut_anywhere_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        message = refused(path)
        assert message.startswith(f"{path}: expected the 5 rows of its table, found a file cut")
        assert message.endswith(". Run: dvc repro --force prepare")


def test_a_damaged_header_is_refused(path: Path) -> None:
    whole, draw = path.read_bytes(), np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(whole)
        for place in draw.integers(128, size=draw.integers(1, 4)):
            damaged[place] ^= 1 << int(draw.integers(8))
        path.write_bytes(damaged)
        assert refused(path).startswith(f"{path}: expected the 5 rows of its table, found ")
