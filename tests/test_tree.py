"""A competition's files are one tree, whatever they are packed in; what is unsafe is refused."""

import gzip
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import py7zr
import pytest
from kaggle_server import zip_of
from pictures import fill, seven_zip_of, tar_of
from project import ROOT

from pipeline.core.errors import ArchiveError, CompetitionError, PipelineError
from pipeline.core.files import remove_abandoned
from pipeline.raw import archive as archive_module
from pipeline.raw import unpack
from pipeline.raw.files import RawFiles
from pipeline.raw.kinds import kind_of

LABELS = b"id,label\na,1\n"
FILES = {
    "train/b.JPEG": b"b" * 5000,
    "train/x/a.png": b"a",
    "empty.gif": b"",
    "labels.csv": LABELS,
    "notes.txt": b"n",
    "train/._a.png": b"litter",
    "__MACOSX/a.png": b"litter",
}
PACKERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    ".zip": zip_of,
    ".tar": tar_of,
    ".tar.gz": partial(tar_of, mode="w:gz"),
    ".tgz": partial(tar_of, mode="w:gz"),
    ".TAR.BZ2": partial(tar_of, mode="w:bz2"),
    ".tar.xz": partial(tar_of, mode="w:xz"),
    ".7z": seven_zip_of,
}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "raw"
    folder.mkdir(parents=True)
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read(raw: Path) -> tuple[dict[str, bytes], dict[str, bytes], list[str]]:
    """Images, tables and others of the tree, with their bytes; nothing stays beside the folder."""
    with RawFiles(raw) as tree:
        images = {member: tree.images.read(member) for member in tree.images.members}
        tables = {path: file.read_bytes() for path, file in tree.tables.items()}
    assert names_in(raw.parent) == ["raw"]
    return images, tables, tree.others


def error_of(raw: Path) -> str:
    with pytest.raises(PipelineError) as caught, RawFiles(raw) as tree:
        _ = tree.tables
    assert str(caught.value).startswith(f"{raw}/")
    assert names_in(raw.parent) == ["raw"]
    return str(caught.value)


@pytest.mark.parametrize("suffix", PACKERS)
def test_an_archive_of_any_kind_is_a_folder(raw: Path, suffix: str) -> None:
    fill(raw, {f"all{suffix}": PACKERS[suffix](FILES)})
    images, tables, others = read(raw)
    start = f"all{suffix}"
    wanted = ["train/b.JPEG", "train/x/a.png", "empty.gif"]
    assert sorted(images) == sorted(f"{start}/{name}" for name in wanted)
    assert images == {f"{start}/{name}": FILES[name] for name in wanted}
    assert tables == {f"{start}/labels.csv": LABELS}
    assert others == [f"{start}/notes.txt"]


def test_archives_in_an_archive_are_folders_too(raw: Path) -> None:
    inner = {f"inner{suffix}": pack({"a.png": b"a"}) for suffix, pack in PACKERS.items()}
    deep = {"deep.zip": zip_of({"deeper.7z": seven_zip_of({"b.png": b"b"})})}
    single = {"sample.csv.zip": zip_of({"sample.csv": LABELS})}
    fill(
        raw,
        {"bundle.zip": zip_of({**inner, **deep, **single, "test.csv.gz": gzip.compress(LABELS)})},
    )
    images, tables, _ = read(raw)
    expected = {f"bundle.zip/{name}/a.png": b"a" for name in inner}
    assert images == {**expected, "bundle.zip/deep.zip/deeper.7z/b.png": b"b"}
    assert tables == dict.fromkeys(
        ["bundle.zip/sample.csv.zip/sample.csv", "bundle.zip/test.csv.gz"], LABELS
    )


def test_a_fourth_archive_in_one_another_is_refused(raw: Path) -> None:
    content = zip_of({"a.png": b"a"})
    for name in ("three", "two", "one"):
        content = zip_of({f"{name}.zip": content})
    fill(raw, {"all.zip": content})
    message = error_of(raw)
    assert message.startswith(
        f"{raw}/all.zip/one.zip/two.zip/three.zip: expected at most 3 archives"
    )


def test_plain_files_and_folders_are_the_tree_itself(raw: Path) -> None:
    names = [
        "train.csv",
        "b.png",
        "sub/a.png",
        "sub/t.tsv",
        "sub/deep/x.JSON",
        ".hidden.csv",
        "README.csv",
    ]
    fill(raw, dict.fromkeys(names, b"id,label\n"))
    images, tables, others = read(raw)
    assert list(images) == ["b.png", "sub/a.png"]
    assert list(tables) == ["train.csv", "sub/t.tsv", "sub/deep/x.JSON"]
    assert others == ["README.csv"]


def test_tables_are_uncompressed_files_that_have_their_names(raw: Path) -> None:
    fill(
        raw,
        {
            "train.csv.gz": gzip.compress(LABELS),
            "all.zip": zip_of({"x/test.csv": LABELS, "a\0b.csv": b""}),
        },
    )
    with RawFiles(raw) as tree:
        files = [tree.tables[path] for path in ("train.csv.gz", "all.zip/x/test.csv")]
        assert [file.name for file in files] == ["train.csv", "test.csv"]
        assert [file.read_bytes() for file in files] == [LABELS, LABELS]
        assert {path.parent.parent for path in files} == {tree.tables["train.csv.gz"].parents[1]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("answers.csv", b"id,label,Usage\na,1,Public\n"),
        ("answers.tsv", b'id\tlabel\t"Usage"\n'),
        ("Solution_v2.csv", LABELS),
        ("solution.json", b"{}"),
    ],
)
def test_a_solution_is_no_table_wherever_it_lies(raw: Path, name: str, content: bytes) -> None:
    packed = {"all.zip": zip_of({name: content}), f"{name}.gz": gzip.compress(content)}
    fill(raw, {name: content, "train.csv": b"id,usage\n", **packed})
    with RawFiles(raw) as tree:
        assert list(tree.tables) == ["train.csv"]
        assert sorted(tree.solutions) == sorted([f"all.zip/{name}", name, f"{name}.gz"])


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".7z"])
def test_an_archives_order_times_and_sizes_are_kept(raw: Path, suffix: str) -> None:
    names = ["z.png", "a/b.png", "c.png"]
    fill(raw, {f"all{suffix}": PACKERS[suffix]({name: name.encode() for name in names})})
    with RawFiles(raw) as tree:
        images = tree.images
        assert images.members == [f"all{suffix}/{name}" for name in names]
        entries = [images.entry(member) for member in images.members]
        assert [(entry.bytes, entry.place) for entry in entries] == [(5, 0), (7, 1), (5, 2)]
        year = {".zip": 1980, ".tar": 2023, ".7z": time.gmtime().tm_year}[suffix]
        assert {entry.date_time[0] for entry in entries} <= {year, year - 1}
        below = images.below(f"all{suffix}/a/")
        assert (below.members, below.place) == ([f"all{suffix}/a/b.png"], f"{raw}/all{suffix}/a")
        with pytest.raises(
            ArchiveError, match=r"no image gone\.png\. The table .* dvc repro prepare"
        ):
            images.read("gone.png")


def test_threads_read_every_member_of_every_kind_whole(raw: Path) -> None:
    files = {f"{number}.png": bytes([number]) * (1000 + number) for number in range(60)}
    fill(raw, {f"all{suffix}": pack(files) for suffix, pack in PACKERS.items()})
    with RawFiles(raw) as tree, ThreadPoolExecutor(8) as pool:
        found = dict(
            zip(tree.images.members, pool.map(tree.images.read, tree.images.members), strict=True)
        )
    assert found == {
        f"all{suffix}/{name}": each for suffix in PACKERS for name, each in files.items()
    }


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "t/../../a.png"])
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_a_name_that_leads_out_leads_nowhere(raw: Path, suffix: str, name: str) -> None:
    fill(raw, {f"all{suffix}": PACKERS[suffix]({name: b"a"})})
    images, _, _ = read(raw)
    (path,) = images
    assert ".." not in path
    assert images[path] == b"a"


def special(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(raw: Path, kind: bytes) -> None:
    fill(raw, {"all.tar": tar_of({"a.png": b"a"}, special("b.png", kind))})
    assert error_of(raw).startswith(
        f"{raw}/all.tar: expected files and folders alone, no links or devices, found 1 of 2 "
        "members otherwise (first: b.png). "
    )


def test_a_link_in_a_7z_archive_is_refused(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("/etc/passwd")
    with py7zr.SevenZipFile(raw / "all.7z", "w") as archive:
        archive.write(tmp_path / "link.png", "link.png")
    (tmp_path / "link.png").unlink()
    assert "no links or devices, found 1 of 1 members otherwise (first: link.png)" in error_of(raw)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".7z"])
def test_a_name_twice_is_refused(raw: Path, suffix: str) -> None:
    fill(raw, {f"all{suffix}": PACKERS[suffix]({"t/a.png": b"1", "t/./a.png": b"2"})})
    assert "expected each name once, found 1 of 2 members otherwise (first: t/a.png)" in error_of(
        raw
    )


@pytest.mark.parametrize("name", ["a.png", "a.wav", "a.csv"])
def test_an_archive_beside_a_folder_of_its_name_is_refused(raw: Path, name: str) -> None:
    fill(raw, {"all.zip": zip_of({f"x.zip/{name}": b"1", "x.zip": zip_of({name: b"2"})})})
    assert error_of(raw).startswith(f"{raw}/all.zip/x.zip/{name}: expected one file, found two")


def test_an_encrypted_7z_archive_is_refused(raw: Path) -> None:
    fill(raw, {"all.7z": seven_zip_of({"a.png": b"a"}, password="secret")})
    assert "expected no encryption, found 1 of 1 members otherwise (first: a.png)" in error_of(raw)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".TAR.BZ2", ".tar.xz", ".7z"])
def test_bombs_are_refused_and_leave_nothing(
    raw: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    for module in (archive_module, unpack):
        for limit in ("MOST_MEMBER_BYTES", "RATIO_FROM_BYTES"):
            if hasattr(module, limit):
                monkeypatch.setattr(module, limit, 100_000)
    packed = PACKERS[suffix]({"a.png": bytes(10_000_000)})
    fill(raw, {f"all{suffix}": packed})
    message = error_of(raw)
    assert "a bomb" in message or "at most 100,000 bytes a member" in message


def test_a_compressed_table_is_no_way_round(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MOST_MEMBER_BYTES", 100_000)
    fill(raw, {"train.csv.gz": gzip.compress(bytes(10_000_000))})
    assert error_of(raw).startswith(f"{raw}/train.csv.gz: expected at most ")


SOUND = {"a.png": b"a" * 2000, "b.png": os.urandom(1500), "c.png": b"c"}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".TAR.BZ2", ".tar.xz", ".7z"])
def test_an_archive_that_is_cut_short_or_has_a_wrong_byte_never_gives_other_images(
    raw: Path, suffix: str
) -> None:
    packed, path = PACKERS[suffix](SOUND), raw / f"all{suffix}"
    refused = 0
    places = range(0, len(packed), max(1, len(packed) // 40))
    for place in places:
        for broken in (
            packed[:place],
            packed[:place] + bytes([packed[place] ^ 8]) + packed[place + 1 :],
        ):
            path.write_bytes(broken)
            try:
                with RawFiles(raw) as tree:
                    names = [member.rpartition("/")[2] for member in tree.images.members]
            except ArchiveError:
                refused += 1
                continue
            # A tar has no checksum of its members' bytes, nor of what is padding.
            assert suffix == ".tar" or names == list(SOUND)
            assert broken != packed[:place] or len(packed) - place <= 10_240
    assert refused > len(places) * (1 if suffix != ".tar" else 0.3)


@pytest.mark.parametrize("block", [1, 2, 3])
def test_a_damaged_header_in_a_tar_hides_no_member(raw: Path, block: int) -> None:
    content = bytearray(tar_of({"a.png": b"a", "b.png": b"b", "c.png": b"c"}))
    content[block * 1024 % 3072 + 150] ^= 1  # in a header's checksum
    fill(raw, {"all.tar": bytes(content)})
    assert "expected a whole archive, found one that is damaged" in error_of(raw)


def test_a_file_that_is_no_archive_says_so(raw: Path) -> None:
    for suffix in PACKERS:
        fill(raw, {f"all{suffix}": b"<!DOCTYPE html>"})
        assert error_of(raw).startswith(f"{raw}/all{suffix}: expected a ")
        (raw / f"all{suffix}").unlink()


def test_parts_of_an_archive_are_named_with_the_way_to_join_them(raw: Path) -> None:
    fill(raw, {"train.zip.001": b"x", "train.zip.002": b"x", "test.z01": b"x"})
    with pytest.raises(CompetitionError) as caught:
        RawFiles(raw)
    assert "found 3 parts (first: test.z01, train.zip.001, train.zip.002). Join them (cat" in str(
        caught.value
    )


def test_without_the_package_for_7z_one_sentence_names_the_way_to_get_it(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "find_spec", lambda _: None)
    fill(raw, {"all.7z": seven_zip_of({"a.png": b"a"})})
    assert error_of(raw) == (
        f"{raw}/all.7z: expected the package py7zr, which reads .7z archives, found none. Run: "
        ".venv/bin/python -m pip install '.[7z]'"
    )


KILLED = """\
import os, signal, sys
from pathlib import Path
from pipeline.raw.files import RawFiles
with RawFiles(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_kill_has_left_unpacked_is_removed_by_the_next(raw: Path) -> None:
    fill(raw, {"all.tar.gz": PACKERS[".tgz"](FILES)})
    code = subprocess.run(
        [sys.executable, "-c", KILLED, str(raw)], cwd=ROOT, check=False
    ).returncode
    assert code == -signal.SIGKILL
    (left,) = set(names_in(raw.parent)) - {"raw"}
    assert len(read(raw)[0]) == 3  # and nothing is left
    (raw.parent / left).mkdir()
    remove_abandoned(raw.parent)  # where no archive is read, each run does that
    assert names_in(raw.parent) == ["raw"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.JPEG", "image"), ("x/a.dcm", "image"), ("a.npy", "image"), ("a.csv.gz", "table"),
        ("a.WAV", "sound"), ("x/a.aif", "sound"), ("a.TSV", "table"), ("a.json", "table"), ("a.csv.zip", "archive"), ("a.tar.gz", "archive"),
        ("README.csv", "other"), ("a.gz", "other"), ("a.parquet", "other"), ("csv", "other"),
    ],
)  # fmt: skip
def test_a_files_name_says_what_it_is(name: str, kind: str) -> None:
    assert kind_of(name) == kind
