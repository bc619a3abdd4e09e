"""A folder's files arrive byte by byte, its answers out of sight."""

import gzip
import hashlib
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from kaggle_server import zip_of
from pictures import fill, tar_of
from project import local_params, make_project, run, stage

from pipeline.core import paths
from pipeline.core.errors import ArchiveError, CompetitionError
from pipeline.download import changes
from pipeline.download import stage as download
from pipeline.download.changes import find_changes
from pipeline.download.config import LocalSource
from pipeline.download.local import copy_competition
from pipeline.ledger import provenance
from pipeline.raw.files import RawFiles
from pipeline.raw.linked import LINKED


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


def files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


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


IMAGES = {"test/deep/b.JPG": b"one", "test/a.png": b"two", "c.png": b"three"}


def test_images_stay_where_they_are_and_the_same_files_give_the_same_record(source: Path) -> None:
    fill(source, {**IMAGES, "test/notes.txt": b"n", "test/labels.csv": b"id\n"})
    copy(source)
    assert files(RAW) == [
        ".linked.json", "notes.json", "test/labels.csv", "train.csv", "train.zip",
    ]  # fmt: skip
    record = (RAW / LINKED).read_bytes()
    assert json.loads(record)["folder"] == str(source)
    assert json.loads(record)["images"] == [
        {
            "path": name,
            "bytes": len(IMAGES[name]),
            "sha256": hashlib.sha256(IMAGES[name]).hexdigest(),
        }
        for name in ("c.png", "test/a.png", "test/deep/b.JPG")
    ]
    with RawFiles(RAW) as tree:
        assert [*tree.tables] == ["notes.json", "train.csv", "test/labels.csv"]
        assert {member: tree.images.read(member) for member in tree.images.members} == {
            **IMAGES, "train.zip/a.png": bytes(range(256)),
        }  # fmt: skip
    for path in source.rglob("*"):
        os.utime(path, (1e9, 1e9))
    shutil.rmtree(RAW)
    RAW.mkdir()
    copy(Path("source"))  # by another name
    assert (RAW / LINKED).read_bytes() == record


def test_a_folder_that_cannot_be_written_is_read_and_stays_as_it_is(source: Path) -> None:
    fill(source, {**IMAGES, "test.tar.gz": tar_of({"a.png": b"a"}, mode="w:gz")})
    everything = [source, *source.rglob("*")]
    for path in everything:
        path.chmod(0o555)
    download.run(local(source))
    assert [source, *source.rglob("*")] == everything
    with RawFiles(paths.RAW) as tree:
        assert len(tree.images.members) == 5
    for path in everything:
        path.chmod(0o755)


def test_links_to_folders_of_images_are_followed(source: Path, tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", {"a.png": b"a"})
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
    (source / "linked").symlink_to(tmp_path / "elsewhere")
    copy(source)
    with RawFiles(RAW) as tree:
        assert tree.images.members == ["train.zip/a.png", "linked/a.png"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda path: path.write_bytes(b"owt"), "has other bytes now (3 of them)"),
        (lambda path: path.write_bytes(b"more"), "has other bytes now (4 of them)"),
        (Path.unlink, "cannot be read (No such file or directory)"),
    ],
)
def test_a_linked_image_that_has_changed_is_named(
    source: Path, change: Callable[[Path], object], found: str
) -> None:
    fill(source, IMAGES)
    copy(source)
    change(source / "test/a.png")
    with RawFiles(RAW) as tree, pytest.raises(CompetitionError) as caught:
        tree.images.read("test/a.png")
    assert str(caught.value) == (
        f"{source}/test/a.png: expected the file as it was when `download` looked at it, found "
        f"that it {found}. Run: make run, which takes the files as they are now"
    )


def test_a_linked_folder_that_is_gone_is_named(source: Path) -> None:
    fill(source, IMAGES)
    copy(source)
    source.rename("moved")
    with pytest.raises(CompetitionError) as caught:
        RawFiles(RAW)
    assert str(caught.value) == (
        f"{source}: expected the 3 files that raw only refers to, found no such folder. Put it "
        "back, or set download.folder in params.yaml to where it is now"
    )


def test_another_projects_raw_folder_is_no_folder_of_images(source: Path) -> None:
    fill(source, IMAGES)
    copy(source)
    with pytest.raises(CompetitionError, match="to the folder that raw/.linked.json names"):
        copy(RAW)


def test_a_bundle_is_copied_alone_and_its_tables_are_found_in_it(tmp_path: Path) -> None:
    tables = {"deep/train.csv": b"id,label\n", "solution.csv": b"id,Usage\n"}
    fill(tmp_path / "bundled", {"all.zip": zip_of({"images/a.png": b"x", **tables})})
    copy(tmp_path / "bundled")
    assert files(RAW) == ["all.zip"]
    assert names(HIDDEN) == []
    with RawFiles(RAW) as tree:
        assert [*tree.tables] == ["all.zip/deep/train.csv"]


def test_readmes_hidden_files_and_what_is_no_table_stay_behind_which_is_said(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = ["README", "README.md", "readme_first.csv", "train.tfrecord", "more/notes.txt"]
    fill(source, dict.fromkeys([*others, ".DS_Store", ".hidden.zip"], b"x"))
    copy(source)
    assert files(RAW) == ["notes.json", "train.csv", "train.zip"]
    said = "source: 7 files that are no image, sound, table or archive, hidden files and READMEs are left"
    assert said in capsys.readouterr().err


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
        ("*", "solution.csv", "none among: solution.csv. "),
        ("*", "", "none among: nothing. "),
        ("*", "notes/", "none among: notes/. "),
    ],
)
def test_a_folder_that_is_no_competition_lists_what_is_there(
    source: Path, removed: str, added: str, found: str
) -> None:
    for path in source.glob(removed):
        path.unlink()
    if added.endswith("/"):
        fill(source / added, {"a.txt": b"a"})
    elif added:
        (source / added).write_text("id,label\n")
    assert error_of(source).endswith(
        f"{found}Put it there, or set download.folder in params.yaml to the right folder"
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


def test_a_name_that_another_system_cannot_store_is_refused(source: Path) -> None:
    for where in (source, source / "sub"):
        fill(where, {"Train.CSV": b"id,label\n", "train.csv": b"id,label\n"})
        with pytest.raises(CompetitionError) as caught:
            copy(source)
        assert str(caught.value).startswith(
            f"{where}: expected names that differ in more than case"
        )
        assert "(first: Train.CSV, train.csv). Rename them there" in str(caught.value)
        (where / "Train.CSV").unlink()
    fill(source, {os.fsdecode(b"sub/\xff.png"): b"a"})
    with pytest.raises(CompetitionError, match=r"file names in UTF-8, found 1 of 1 files"):
        copy(source)


def test_hidden_is_never_empty_and_a_failed_stage_leaves_the_last_one(source: Path) -> None:
    download.run(local(source))
    assert names(paths.HIDDEN) == ["MANIFEST.json"]
    for name in ("train.csv", "train.zip", "notes.json"):
        (source / name).unlink()
    with pytest.raises(CompetitionError):
        download.run(local(source))
    assert names(paths.RAW) == ["notes.json", "train.csv", "train.zip"]
    assert names(Path("data")) == ["hidden", "raw"]


# Changes of the folder


@pytest.fixture
def taken(source: Path) -> Path:
    """A folder from which the stage has taken its files."""
    fill(
        source, {**IMAGES, "solution.csv": b"id,label,Usage\n", "sub/t.csv.gz": b"x", "x.md": b"x"}
    )
    (source / "sub/t.csv.gz").write_bytes(gzip.compress(b"id\n"))
    download.run(local(source))
    return source


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda at: (at / "train.csv").write_bytes(b"id,label\r\na,2\r\n"), "1 changed (first: train.csv)"),
        (lambda at: (at / "c.png").write_bytes(b"thre3"), "1 changed (first: c.png)"),
        (lambda at: (at / "solution.csv").write_bytes(b"id,label,Usage\na"), "1 changed (first: solution.csv)"),
        (lambda at: (at / "solution.csv").unlink(), "1 gone (first: solution.csv)"),
        (lambda at: (at / "sub/t.csv.gz").unlink(), "1 gone (first: sub/t.csv.gz)"),
        (lambda at: (at / "sub").rename(at / "bus"), "1 new (first: bus/t.csv.gz), 1 gone (first: sub/t.csv.gz)"),
        (lambda at: fill(at, {"test/d.png": b"4", "e.zip": b"5"}), "2 new (first: e.zip, test/d.png)"),
    ],
    ids=["table", "image", "solution", "no solution", "gone", "moved", "new"],
)  # fmt: skip
@pytest.mark.parametrize("remembered", [True, False])
def test_what_has_changed_in_a_local_folder_is_said(
    taken: Path, change: Callable[[Path], object], found: str, remembered: bool
) -> None:
    if not remembered:
        changes.SEEN.unlink()
    assert find_changes(local(taken)) == ""
    change(taken)
    expected = f"{taken}: {found} since `download` took its files"
    assert find_changes(local(taken)) == expected
    assert find_changes(local(taken)) == expected  # though the hashes are known now
    if not list(taken.glob("e.zip")):
        download.run(local(taken))
        assert find_changes(local(taken)) == ""


def test_what_no_stage_reads_may_change_and_times_alone_are_no_change(taken: Path) -> None:
    fill(taken, {"x.md": b"y", "new.txt": b"y", ".hidden.csv": b"y"})
    for path in taken.rglob("*"):
        os.utime(path, (1e9, 1e9))
    assert find_changes(local(taken)) == ""


def test_files_are_read_only_where_size_or_time_differ(
    taken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(changes, "sha256_of", lambda path: read.append(path.name) or "")
    assert find_changes(local(taken)) == ""
    assert read == []
    os.utime(taken / "c.png", (1e9, 1e9))
    find_changes(local(taken))
    assert read == ["c.png"]


def test_where_nothing_was_taken_or_all_is_gone_there_is_no_change(taken: Path) -> None:
    other = fill(Path("other"), {"a.csv": b"id\n"})
    assert find_changes(local(other)) == ""
    taken.rename("gone")
    assert find_changes(local(taken)) == ""
    (paths.HIDDEN / "MANIFEST.json").write_text("{")
    assert find_changes(local(Path("gone"))) == ""


def test_a_changed_folder_keeps_a_submission_from_being_what_the_commit_makes(taken: Path) -> None:
    Path("params.yaml").write_text(local_params("source"))
    download.run(local(Path("source")))
    assert provenance._examine_named() == ([], [])
    (taken / "c.png").write_bytes(b"other")
    _, obstacles = provenance._examine_named()
    assert provenance.explain_obstacles(obstacles) == (
        "source: 1 changed (first: c.png) since `download` took its files. "
        "Run: python -m pipeline repro"
    )


@pytest.mark.slow
def test_repro_takes_a_changed_folder_anew_and_says_what_has_changed(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", local_params("mine"))
    packed = zip_of({"b.png": b"b"})
    fill(project / "mine", {"train.csv": b"id\na\n", "test/a.png": b"a", "b.zip": packed})
    assert stage(project, "repro", "download").returncode == 0
    fill(project / "mine", {"test/a.png": b"A", "test/c.png": b"c"})
    asked = "from pipeline.commands.repro import find_stale; print(find_stale('download'))"
    assert "{'download'}" in run(project, sys.executable, "-c", asked).stdout
    done = stage(project, "repro", "download")
    assert done.returncode == 0, done.stdout
    assert (
        "mine: 1 changed (first: test/a.png), 1 new (first: test/c.png) since `download` took its "
        "files: `download` runs again"
    ) in done.stdout
    assert done.stdout.endswith("Data and pipelines are up to date.\n")
    with RawFiles(project / "data/raw") as tree:
        assert [tree.images.read(member) for member in tree.images.members] == [b"b", b"A", b"c"]
