"""Zips are read safely or not at all, and ids find their images."""

import io
import random
import stat
import struct
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest

from pipeline.core.errors import ArchiveError
from pipeline.raw import archive as archive_module
from pipeline.raw import structure
from pipeline.raw.archive import ImageArchive, check_archive

CENTRAL_ENTRY, END = b"PK\x01\x02", b"PK\x05\x06"


def zip_bytes(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def write_zip(folder: Path, content: bytes | dict[str, bytes]) -> Path:
    """A zip of these bytes, or of these members, deflated."""
    path = folder / "train.zip"
    packed = zip_bytes(content, zipfile.ZIP_DEFLATED) if isinstance(content, dict) else content
    path.write_bytes(packed)
    return path


def make_zip(folder: Path, *names: str) -> Path:
    return write_zip(folder, zip_bytes({name: f"image {name}".encode() for name in names}))


def with_central_field(content: bytes, offset: int, value: bytes) -> bytes:
    """The zip with bytes of its first directory entry replaced."""
    start = content.index(CENTRAL_ENTRY) + offset
    return content[:start] + value + content[start + len(value) :]


def with_both_sizes(content: bytes, declared: int) -> bytes:
    """The zip whose first member declares that size, in its directory and in its header."""
    value = struct.pack("<L", declared)
    return content[:22] + value + with_central_field(content, 24, value)[26:]


def error_of(path: Path) -> str:
    with pytest.raises(ArchiveError) as caught:
        check_archive(path)
    assert str(caught.value).startswith(f"{path}: expected ")
    return str(caught.value)


def test_a_sound_zip_passes(tmp_path: Path) -> None:
    members = {"train/": b"", "train/a.png": b"a" * 3_000_000, "b.jpg": b"", "notes.txt": b"n"}
    path = write_zip(tmp_path, members)
    check_archive(path)
    with ImageArchive(path) as images:
        assert images.read("train/a.png") == b"a" * 3_000_000
        assert images.read("b.jpg") == b""


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    message = error_of(tmp_path / "train.zip")
    assert message.endswith("expected a zip, found no such file. Run: dvc repro download")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda _: b"<!DOCTYPE html><html>", "expected a zip, found 21 bytes that begin with b'<!DOCTYPE html>"),
        (lambda whole: whole[:-40], "expected a whole zip, found one cut short or damaged at "),
        (lambda whole: whole.replace(b"image x/b", b"imagf x/b"), "expected x/b.png whole, found it damaged (Bad CRC-32"),
    ],
    ids=["no zip", "cut short", "a flipped byte"],
)  # fmt: skip
def test_a_damaged_zip_says_how_and_where_to_get_it(
    tmp_path: Path, spoil: Callable[[bytes], bytes], problem: str
) -> None:
    path = make_zip(tmp_path, "a.png", "x/b.png")
    path.write_bytes(spoil(path.read_bytes()))
    message = error_of(path)
    assert problem in message
    assert message.endswith("Get the file from its source again")


def test_no_flipped_or_missing_byte_breaks_out_as_another_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "track", lambda members, *_: members)
    content = zip_bytes({"t/é.png": b"world" * 9}, zipfile.ZIP_DEFLATED)
    path = tmp_path / "train.zip"
    refused = 0
    for place, byte in enumerate(content):
        for broken in (
            content[:place] + bytes([byte ^ 255]) + content[place + 1 :],
            content[:place] + bytes([byte ^ 1]) + content[place + 1 :],
            content[:place],
        ):
            path.write_bytes(broken)
            try:
                check_archive(path)
            except ArchiveError:
                refused += 1
    assert refused > 2 * len(content)


@pytest.mark.parametrize(
    "name", ["../a.png", "t/../../a.png", "/etc/a.png", "C:/a.png", "..\\a.png", "./t/a.png"]
)
def test_a_path_in_a_name_is_no_place_on_the_disk(tmp_path: Path, name: str) -> None:
    path = make_zip(tmp_path, name)
    check_archive(path)
    with ImageArchive(path) as archive:
        assert archive.members == [name]
        assert archive.read(name) == f"image {name}".encode()
    assert [file.name for file in tmp_path.iterdir()] == ["train.zip"]


def test_a_link_is_read_as_the_bytes_that_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "train.zip"
    link = zipfile.ZipInfo("train/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with ImageArchive(path) as images:
        assert images.read("train/link.png") == b"/etc/passwd"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (with_central_field(zip_bytes({"a.png": b"a"}), 8, b"\x01"), "no encryption, found 1 of 1 members otherwise (first: a.png)"),
        (zip_bytes({"a.png": b"a" * 99}, zipfile.ZIP_BZIP2), "stored or deflated members, found 1 of 1"),
        (zip_bytes({"a.png": b"a" * 99}, zipfile.ZIP_LZMA), "stored or deflated members, found 1 of 1"),
        (zip_bytes({"t/a.png": b"1", "t/b.png": b"2"}).replace(b"t/b", b"t/a"), "each name once, found 1 of 2 members otherwise (first: t/a.png)"),
        (zip_bytes({"t/a.png": b"1", "t\\a.png": b"2"}), "each name once, found 1 of 2 members otherwise (first: t/a.png)"),
        (with_central_field(zip_bytes({"a.tif": b"a"}), 20, struct.pack("<LL", 2**29, archive_module.MOST_MEMBER_BYTES + 1)), "(first: a.tif: 1,073,741,825 bytes out of 536,870,912)"),
    ],
    ids=["encrypted", "bzip2", "lzma", "a name twice", "twice by a backslash", "beyond the limit whatever its ratio"],
)  # fmt: skip
def test_a_directory_with_a_fault_is_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    message = error_of(write_zip(tmp_path, content))
    assert fault in message
    assert message.endswith("Pack the images into a plain zip: zip -r NAME.zip FOLDER")


def test_a_bomb_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = archive_module.RATIO_FROM_BYTES + 1
    path = write_zip(tmp_path, {"good.png": b"1", "bomb.png": bytes(size)})

    def read_nothing(*_: object) -> None:
        raise AssertionError("a bomb was read")

    monkeypatch.setattr(archive_module, "read_member", read_nothing)
    message = error_of(path)
    assert "at most 1,073,741,824 bytes a member and at most 200 times the packed size" in message
    assert f"found 1 of 2 members otherwise (first: bomb.png: {size:,} bytes out of " in message
    assert "zip -r" in message


def test_many_small_bombs_are_one_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "MOST_MEMBER_BYTES", 5_000_000)
    path = write_zip(tmp_path, {f"{number}.png": bytes(1_000_000) for number in range(6)})
    assert "(first: all members: 6,000,000 bytes out of " in error_of(path)


def test_a_small_image_of_one_colour_is_no_bomb(tmp_path: Path) -> None:
    check_archive(write_zip(tmp_path, {"black.bmp": bytes(5_000_000)}))


@pytest.mark.parametrize(
    ("method", "declared", "fault"),
    [
        (zipfile.ZIP_STORED, 10, "a.png whole, found it damaged (Bad CRC-32"),
        (zipfile.ZIP_DEFLATED, 10, "a.png whole, found it damaged (Bad CRC-32"),
        (zipfile.ZIP_DEFLATED, 1000, "to have the 1,000 bytes that it declares, found 90. Get"),
    ],
)
def test_a_member_of_another_size_than_declared_is_refused(
    tmp_path: Path, method: int, declared: int, fault: str
) -> None:
    content = zip_bytes({"a.png": b"0123456789" * 9}, method)
    assert fault in error_of(write_zip(tmp_path, with_both_sizes(content, declared)))


def test_a_lying_bomb_is_not_unpacked_beyond_what_it_declares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = zip_bytes({"a.png": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    path = write_zip(tmp_path, with_both_sizes(content, 100))
    unpacked: list[int] = []
    read = zipfile.ZipExtFile.read

    def counting_read(member: zipfile.ZipExtFile, size: int = -1) -> bytes:
        unpacked.append(len(chunk := read(member, size)))
        return chunk

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counting_read)
    assert "a.png whole, found it damaged (Bad CRC-32" in error_of(path)
    assert sum(unpacked) <= 2**20


def test_images_are_found_in_nested_folders_and_litter_is_not_even_reported(tmp_path: Path) -> None:
    images = ["a.png", "x/b.JPG", "x/y/c.JPeG", "d.bmp", "e.tif", "f.TIFF", "g.webp", "./x/h.png"]
    litter = [
        "__MACOSX/x/._a.png", "x/.DS_Store", "x/Thumbs.db", "x/.hidden.png", ".git/c.png",
        "x/__MACOSX/b.png",
    ]  # fmt: skip
    path = make_zip(tmp_path, *images, "notes.txt", "x/labels.csv", *litter)
    with ImageArchive(path) as archive:
        assert archive.members == images
        assert archive.ignored == ["notes.txt", "x/labels.csv"]
        assert archive.read("x/y/c.JPeG") == b"image x/y/c.JPeG"


@pytest.mark.parametrize("folder", ["train", "train/"])
def test_a_folder_inside_holds_what_is_below_it_only(tmp_path: Path, folder: str) -> None:
    path = make_zip(
        tmp_path, "train/a.png", "train/x/b.png", "train2/c.png", "d.png", "train/n.txt"
    )
    with ImageArchive(path, folder) as archive:
        assert archive.members == ["train/a.png", "train/x/b.png"]
        assert archive.ignored == ["train/n.txt"]
        assert archive.place == f"{path}/train"


def test_one_thread_reads_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """zipfile counts its open members without a lock."""
    reading: list[int] = []

    def slow_read(*_: object) -> bytes:
        reading.append(1)
        time.sleep(0.01)
        overlap = len(reading)
        reading.pop()
        return bytes([overlap])

    monkeypatch.setattr(archive_module, "read_member", slow_read)
    path = make_zip(tmp_path, "a.png")
    with ImageArchive(path) as archive, ThreadPoolExecutor(4) as pool:
        assert set(pool.map(archive.read, ["a.png"] * 8)) == {b"\x01"}


def test_the_directory_gives_a_members_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "train.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("x/a.png", (2020, 2, 3, 4, 5, 6)), b"0" * 5000)
    with ImageArchive(path) as images:
        entry = images.entry("x/a.png")
        assert (entry.file_size, entry.date_time) == (5000, (2020, 2, 3, 4, 5, 6))
        with pytest.raises(ArchiveError) as caught:
            images.read("x/b.png")
    assert str(caught.value) == (
        f"{path}: no member x/b.png. The table that names it is older than the archive. "
        "Run: dvc repro prepare"
    )


def streamed(members: dict[str, bytes]) -> bytes:
    """A zip from a program that cannot go back: each member's sizes follow it."""
    written = io.BytesIO()
    pipe = Mock(write=written.write, flush=written.flush, spec=["write", "flush"])
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return written.getvalue()


def with_zip64(content: bytes, **changes: int) -> bytes:
    """The zip with an end record of zip64, as for more than 65,535 members."""
    end = content.rindex(END)
    _, _, _, here, count, size, start, _ = struct.unpack("<4s4H2LH", content[end:])
    fields = {"disk": 0, "first": 0, "here": here, "count": count, "size": size, "start": start}
    wide = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, *(fields | changes).values())
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    short = struct.pack("<4s4H2LH", END, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return content[:end] + wide + locator + short


def with_end(content: bytes, offset: int, value: bytes) -> bytes:
    """The zip with bytes of its end record replaced."""
    start = content.rindex(END) + offset
    return content[:start] + value + content[start + len(value) :]


PICTURES = {f"t/{number:02}.png": f"picture {number}".encode() * 9 for number in range(24)}
PLAIN = zip_bytes(PICTURES, zipfile.ZIP_DEFLATED)
FEW = zip_bytes({"t/a.png": b"a", "t/b.png": b"b", "t/c.png": b"c"})
EMPTY_FOLDER = zip_bytes({"t/": b"", **PICTURES})
COMMENTED = with_end(PLAIN, 20, struct.pack("<H", 5)) + b"hello"


@pytest.mark.parametrize(
    "content", [PLAIN, EMPTY_FOLDER, COMMENTED, streamed(PICTURES), with_zip64(PLAIN)]
)
def test_whatever_wrote_a_sound_zip_each_member_is_read(tmp_path: Path, content: bytes) -> None:
    path = write_zip(tmp_path, content)
    check_archive(path)
    with ImageArchive(path) as images:
        assert {name: images.read(name) for name in images.members} == PICTURES


def test_the_count_of_a_zip_of_macos_wraps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "_COUNT_WRAPS", 16)
    wrapped = with_end(PLAIN, 8, struct.pack("<2H", 24 % 16, 24 % 16))
    with ImageArchive(write_zip(tmp_path, wrapped)) as images:
        assert len(images.members) == 24


@pytest.mark.parametrize("content", [FEW, streamed(PICTURES), with_zip64(PLAIN), COMMENTED])
def test_no_damaged_byte_hides_a_member(tmp_path: Path, content: bytes) -> None:
    """Bytes of the directory and the end, of the small zip all: all members are there, or none."""
    path = tmp_path / "train.zip"
    members = content.count(CENTRAL_ENTRY)
    places = range(content.index(CENTRAL_ENTRY), len(content))
    generator = random.Random(1)
    for place in places if content == FEW else generator.sample(places, 60):
        flipped = content[place] ^ generator.choice([1, 2, 4, 8, 16, 32, 64, 128, 255])
        path.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
        try:
            with ImageArchive(path) as images:
                assert len(images.members) + len(images.ignored) == members
        except ArchiveError:
            continue


SMALL = zip_bytes({"z.png": b"z"})


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (with_central_field(PLAIN, 33, b"\x40"), "24 members by its end record, 1 by its directory"),
        (with_end(PLAIN, 8, struct.pack("<2H", 23, 23)), "23 members by its end record, 24 by its directory"),
        (with_end(PLAIN, 8, struct.pack("<2H", 12, 24)), "one of several parts"),
        (with_end(PLAIN, 4, struct.pack("<2H", 1, 1)), "one of several parts"),
        (with_central_field(PLAIN, 34, b"\x01"), "one of several parts"),
        (with_end(PLAIN, 16, struct.pack("<L", 0)), "its directory is not where its end record says"),
        (with_zip64(PLAIN, count=23, here=23), "23 members by its end record, 24"),
        (with_zip64(PLAIN, here=12), "one of several parts"),
        (with_end(with_zip64(PLAIN), 8, struct.pack("<2H", 5, 5)), "its two end records differ"),
        (b"#!/bin/sh\n" + PLAIN, "its directory is not where its end record says"),
        (SMALL + PLAIN, "its directory is not where its end record says"),
        (PLAIN + bytes(99), "bytes behind its end"),
        (PLAIN + b"PK", "bytes behind its end"),
        (with_end(PLAIN, 20, struct.pack("<H", 9)), "bytes behind its end"),
        (with_end(PLAIN, 20, struct.pack("<H", len(SMALL))) + SMALL, "its directory is not where its end record says"),
        (PLAIN.replace(b"t/05.png", b"t/55.png", 1), ""),
        (PLAIN[:14] + b"1234" + PLAIN[18:], "t/00.png is another in its directory than in its header"),
        (PLAIN[:22] + b"\1" + PLAIN[23:], "t/00.png is another in its directory than in its header"),
        (PLAIN[:8] + b"\0" + PLAIN[9:], "t/00.png is another in its directory than in its header"),
        (with_central_field(PLAIN, 42, struct.pack("<L", 60)), "bytes of no listed member before "),
    ],
)  # fmt: skip
def test_a_zip_whose_records_contradict_each_other_is_refused(
    tmp_path: Path, content: bytes, fault: str
) -> None:
    assert fault in error_of(write_zip(tmp_path, content))


def test_a_member_that_the_directory_does_not_list_is_noticed(tmp_path: Path) -> None:
    start, end = PLAIN.index(CENTRAL_ENTRY), PLAIN.rindex(END)
    following = PLAIN.index(CENTRAL_ENTRY, start + 1)
    without = PLAIN[:start] + PLAIN[following:end] + PLAIN[end:]
    size = struct.pack("<2H2L", 23, 23, end - following, start)
    assert "bytes of no listed member before t/01.png" in error_of(
        write_zip(tmp_path, with_end(without, 8, size))
    )
