"""Files appear whole or not at all."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.files import new_file, new_folder, sha256_of, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), new_file(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["card.json"]


def test_a_failed_folder_leaves_the_old_one_and_nothing_beside(tmp_path: Path) -> None:
    with new_folder(tmp_path / "store") as folder:
        (folder / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "store") as folder:
        (folder / "a").write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "store" / "a").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["store"]


def test_a_new_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with new_folder(tmp_path / "store") as folder:
            (folder / name).write_text("x")
    assert [file.name for file in (tmp_path / "store").iterdir()] == ["b"]


def test_the_leftover_of_a_killed_run_is_replaced(tmp_path: Path) -> None:
    leftover = tmp_path / ".store.partial"
    leftover.mkdir()
    (leftover / "stale").write_text("x")
    with new_folder(tmp_path / "store") as folder:
        assert list(folder.iterdir()) == []
    assert [file.name for file in tmp_path.iterdir()] == ["store"]


def test_a_file_that_the_disk_cannot_hold_is_one_sentence(tmp_path: Path) -> None:
    """A limit on the file's size is like a full disk: both fail in write(2)."""
    code = (
        "import resource, signal\n"
        "from pathlib import Path\n"
        "from pipeline.core.files import write_text\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_text(Path('big.txt'), 'x' * 100_000)\n"
    )
    root = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": root},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "DiskError: big.txt: cannot be written:" in done.stderr
    assert "MiB free there). Nothing half-written was left" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert sha256_of(tmp_path / "empty").startswith("e3b0c44298fc1c14")
