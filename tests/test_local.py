"""A folder's files arrive byte by byte, its answers out of sight."""

import hashlib
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline.core import paths
from pipeline.core.errors import ArchiveError, CompetitionError
from pipeline.download import stage as download
from pipeline.download.config import LocalSource
from pipeline.download.local import copy_competition
from pipeline.raw.archive import check_archive


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    with zipfile.ZipFile(folder / "train.zip", "w") as archive:
        archive.writestr("a.png", bytes(range(256)))
    (folder / "train.csv").write_bytes(b"id,label\r\na,1\r\n")
    (folder / "notes.json").write_text("{}")
    return folder


RAW, HIDDEN = Path("raw"), Path("hidden")


@pytest.fixture(autouse=True)
def _two_empty_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    RAW.mkdir()
    HIDDEN.mkdir()


def local(folder: Path) -> LocalSource:
    return LocalSource(source="local", folder=str(folder))


def copy(folder: Path) -> None:
    copy_competition(local(folder), RAW, HIDDEN)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def error_of(folder: Path) -> str:
    with pytest.raises(CompetitionError) as caught:
        copy(folder)
    assert str(caught.value).startswith(f"{folder}: expected ")
    assert names(RAW) == names(HIDDEN) == []
    return str(caught.value)


def test_files_are_copied_byte_by_byte(source: Path) -> None:
    copy(source)
    assert names(RAW) == ["notes.json", "train.csv", "train.zip"]
    for name in names(RAW):
        assert (RAW / name).read_bytes() == (source / name).read_bytes()
    assert names(HIDDEN) == []


def test_a_folder_of_images_becomes_a_zip_that_holds_them_and_has_the_same_bytes_each_time(
    source: Path,
) -> None:
    (source / "test/deep").mkdir(parents=True)
    (source / "test/deep/b.JPG").write_bytes(b"one")
    (source / "test/a.txt").write_bytes(b"two")
    copy(source)
    first = (RAW / "test.zip").read_bytes()
    with zipfile.ZipFile(RAW / "test.zip") as archive:
        assert archive.namelist() == ["test/a.txt", "test/deep/b.JPG"]
        assert archive.read("test/deep/b.JPG") == b"one"
    for path in source.rglob("*"):
        os.utime(path, (1e9, 1e9))
    shutil.rmtree(RAW)
    RAW.mkdir()
    copy(source)
    assert (RAW / "test.zip").read_bytes() == first
    check_archive(RAW / "test.zip")


def test_the_tables_of_a_single_zip_are_copied_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "bundled"
    folder.mkdir()
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        archive.writestr("images/a.png", b"x")
        archive.writestr("deep/train.csv", b"id,label\n")
    copy(folder)
    assert names(RAW) == ["all.zip", "train.csv"]
    assert (RAW / "train.csv").read_bytes() == b"id,label\n"


def test_readmes_hidden_files_and_folders_stay_behind(source: Path) -> None:
    for name in ("README", "README.md", "readme_first.csv", ".DS_Store", ".hidden.zip"):
        (source / name).write_text("x")
    (source / "more").mkdir()
    (source / "more" / "labels.csv").write_text("id,label\n")
    copy(source)
    assert names(RAW) == ["notes.json", "train.csv", "train.zip"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("answers.CSV", "id,label,Usage\nt,1,Public\n"), ("Solution_v2.csv", "id,label\nt,1\n")],
)
def test_a_solution_is_hidden(source: Path, name: str, content: str) -> None:
    (source / name).write_text(content)
    copy(source)
    assert names(RAW) == ["notes.json", "train.csv", "train.zip"]
    assert names(HIDDEN) == ["solution.csv"]
    assert (HIDDEN / "solution.csv").read_text() == content


def test_two_solutions_are_both_named(source: Path) -> None:
    for name in ("answers.csv", "solution.csv"):
        (source / name).write_text("id,label,Usage\nt,1,Public\n")
    message = error_of(source)
    assert "at most one solution" in message
    assert "found 2 (first: answers.csv, solution.csv). Remove the wrong ones" in message


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    message = error_of(tmp_path / "nowhere")
    assert "no such folder. Set download.folder in params.yaml" in message


@pytest.mark.parametrize(
    ("removed", "added", "found"),
    [
        (
            "train.zip",
            "train/",
            "found no zip or folder of images among: notes.json, train/, train.csv. ",
        ),
        ("train.csv", "solution.csv", "found no CSV among: notes.json, solution.csv, train.zip. "),
        ("*", "", "found no zip or folder of images among: nothing. "),
    ],
)
def test_a_folder_that_is_no_competition_lists_what_is_there(
    source: Path, removed: str, added: str, found: str
) -> None:
    for path in source.glob(removed):
        path.unlink()
    if added.endswith("/"):
        (source / added).mkdir()
    elif added:
        (source / added).write_text("id,label\n")
    assert error_of(source).endswith(
        f"{found}Put them there, or set download.folder in params.yaml to the right folder"
    )


def test_a_damaged_zip_is_refused_before_anything_is_copied(source: Path) -> None:
    content = (source / "train.zip").read_bytes()
    (source / "train.zip").write_bytes(content.replace(b"\x10\x11", b"\x10\x10"))
    with pytest.raises(ArchiveError, match=r"source/train\.zip: expected a\.png whole"):
        copy(source)
    assert names(RAW) == []


def test_the_stage_fills_both_folders_with_the_same_bytes_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pipeline.download.drawn.competition", None)  # not importable
    (source / "solution.csv").write_text("id,label,Usage\nt,1,Public\n")
    download.run(local(source))
    first = {path: path.read_bytes() for path in tmp_path.glob("data/*/*")}
    assert names(paths.RAW) == ["notes.json", "train.csv", "train.zip"]
    assert names(paths.HIDDEN) == ["MANIFEST.json", "solution.csv"]
    download.run(local(source))
    assert {path: path.read_bytes() for path in tmp_path.glob("data/*/*")} == first


def test_the_manifest_lists_each_file_and_no_time(source: Path) -> None:
    listed = [
        {
            "name": path.name,
            "bytes": len(path.read_bytes()),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(source.iterdir())
    ]
    download.run(local(source))
    assert json.loads((paths.HIDDEN / "MANIFEST.json").read_text()) == {
        "source": {"source": "local", "folder": str(source)},
        "raw": listed,
        "hidden": [],
    }


def test_a_file_named_as_our_manifest_is_the_competitions(source: Path) -> None:
    (source / "MANIFEST.json").write_text("the competition's own")
    download.run(local(source))
    assert (paths.RAW / "MANIFEST.json").read_text() == "the competition's own"


def test_a_name_that_another_system_cannot_store_is_refused_and_what_is_left_out_is_said(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "folder").mkdir()
    (source / "README.md").write_text("read me")
    copy(source)
    said = "source: other folders, hidden files and READMEs are left out (first: README.md, folder)"
    assert said in capsys.readouterr().err
    (source / "Train.CSV").write_text("id,label\n")
    with pytest.raises(
        CompetitionError, match=r"first: Train\.CSV, train\.csv\). Rename them there"
    ):
        copy(source)


def test_hidden_is_never_empty_and_a_failed_stage_leaves_the_last_one(source: Path) -> None:
    download.run(local(source))
    assert names(paths.HIDDEN) == ["MANIFEST.json"]
    (source / "train.csv").unlink()
    with pytest.raises(CompetitionError):
        download.run(local(source))
    assert names(paths.RAW) == ["notes.json", "train.csv", "train.zip"]
    assert names(Path("data")) == ["hidden", "raw"]
