"""Files appear whole or not at all."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.core.files import (
    keep_newest,
    new_file,
    new_folder,
    remove_abandoned,
    sha256_of,
    write_text,
)


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


WRITE_AND_WAIT = """\
import sys, time
from pathlib import Path
from pipeline.core.files import new_file, new_folder
with new_folder(Path("store")) as folder, new_file(Path("table.csv")) as file:
    (folder / "a").write_text("half")
    file.write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""


def test_the_leftover_of_a_killed_process_is_removed_and_that_of_a_live_one_stays(
    tmp_path: Path,
) -> None:
    root = str(Path(__file__).parent.parent)
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_AND_WAIT], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root}, stdout=subprocess.PIPE,
    ) as writing:  # fmt: skip
        assert writing.stdout
        writing.stdout.readline()
        half = sorted(path.name for path in tmp_path.iterdir())
        number = writing.pid
        assert half == [f".store.{number}.partial", f".table.csv.{number}.partial"]
        remove_abandoned(tmp_path)
        with new_folder(tmp_path / "store") as folder:
            assert list(folder.iterdir()) == []
        assert sorted(path.name for path in tmp_path.iterdir()) == [*half, "store"]
        writing.kill()
    (tmp_path / ".mine.txt").write_text("mine")
    write_text(tmp_path / "table.csv", "whole")
    assert not (tmp_path / half[1]).exists()
    assert (tmp_path / half[0]).exists()
    remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.txt", "store", "table.csv"]


@pytest.mark.parametrize("process", ["", f".{os.getpid()}", ".1"], ids=["none", "this", "init"])
def test_a_leftover_is_removed_whatever_process_has_its_number_now(
    tmp_path: Path, process: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftover = tmp_path / f".store{process}.partial"
    leftover.mkdir()
    (leftover / "stale").write_text("x")
    if process == ".1":  # a process that began after it was written
        monkeypatch.setattr(psutil.Process, "create_time", lambda _: time.time() + 60)
    with new_folder(tmp_path / "store") as folder:
        assert list(folder.iterdir()) == []
    assert [file.name for file in tmp_path.iterdir()] == ["store"]


def test_a_link_in_the_place_of_a_folder_is_replaced_and_what_it_leads_to_stays(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a").write_text("mine")
    (tmp_path / "store").symlink_to("mine")
    with new_folder(tmp_path / "store") as folder:
        (folder / "b").write_text("x")
    assert not (tmp_path / "store").is_symlink()
    assert [file.name for file in (tmp_path / "store").iterdir()] == ["b"]
    assert (tmp_path / "mine" / "a").read_text() == "mine"


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


def test_the_folders_that_were_touched_last_stay_and_what_links_lead_to(tmp_path: Path) -> None:
    for name in ("project", "old", "older", "new", "newer"):
        (tmp_path / "work" / name).mkdir(parents=True)
    project = (tmp_path / "work" / "project").rename(tmp_path / "project")
    (project / "mine").write_text("mine")
    work = tmp_path / "work"
    (work / "older" / "data").symlink_to(project)
    (work / "link").symlink_to(project)
    (work / "log").write_text("")
    for time_, name in enumerate(("older", "old", "new", "newer")):
        os.utime(work / name, (time_, time_))
    keep_newest(work, 2)
    assert {each.name for each in work.iterdir()} == {"new", "newer", "link", "log"}
    assert (project / "mine").read_text() == "mine"


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert sha256_of(tmp_path / "empty").startswith("e3b0c44298fc1c14")
