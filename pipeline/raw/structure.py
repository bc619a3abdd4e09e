"""Whether a zip's directory accounts for the whole file, so that no member is hidden.

zipfile believes what it finds: where one byte is damaged, a directory entry may swallow those that
follow; and a file put before or behind a zip hides the first or the second. So every byte must
belong to a listed member, to the directory or to the end record, and the local headers must say
what the directory says.
"""

import struct
from collections.abc import Sequence
from typing import Any, BinaryIO
from zipfile import BadZipFile, ZipFile

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_WIDE_END = struct.Struct("<4sQ2H2L4Q")
_HEADER = struct.Struct("<4s5H3L2H")
_END_START, _LOCATOR_START, _WIDE_END_START = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
_HEADER_START = b"PK\x03\x04"

_ENCRYPTED, _SIZES_FOLLOW = 0x1, 0x8
_NO_SIZES, _SIZES = {0}, {0, 12, 16, 20, 24}
"""Bytes behind a member; its sizes may follow, with a signature or without, of 32 or 64 bits."""

_COUNT_WRAPS = 2**16
"""Without zip64 the count has 16 bits; macOS writes the rest of larger ones."""

_IN_ZIP64 = 0xFFFFFFFF
_UNSET = (*4 * (0xFFFF,), _IN_ZIP64, _IN_ZIP64)
"""What the end record says of the numbers that only the one of zip64 holds."""


def check_structure(archive: ZipFile, file: BinaryIO) -> None:
    """Raise BadZipFile with the first fault. file: the archive's, opened anew."""
    members = archive.infolist()
    count, wraps, end = _read_end(archive, file)
    if count != len(members) % wraps:
        raise BadZipFile(f"{count} members by its end record, {len(members)} by its directory")
    place, allowed = 0, _NO_SIZES
    for info in sorted(members, key=lambda info: info.header_offset):
        if info.header_offset - place not in allowed:
            raise BadZipFile(f"bytes of no listed member before {info.filename}, or shared ones")
        (
            start, _, flags, method, _, _, crc, packed, unpacked, name_bytes, extra_bytes,
        ) = _unpack(_HEADER, file, info.header_offset)  # fmt: skip
        listed = (info.compress_type, info.flag_bits & _ENCRYPTED)
        same = start == _HEADER_START and (method, flags & _ENCRYPTED) == listed
        if not flags & _SIZES_FOLLOW:
            sizes = ((packed, info.compress_size), (unpacked, info.file_size))
            same &= crc == info.CRC and all(own in (size, _IN_ZIP64) for own, size in sizes)
        if not same:
            raise BadZipFile(f"{info.filename} is another in its directory than in its header")
        place = info.header_offset + _HEADER.size + name_bytes + extra_bytes + info.compress_size
        allowed = _SIZES if flags & _SIZES_FOLLOW else _NO_SIZES
    if end - place not in allowed:
        raise BadZipFile("bytes of no listed member before its directory")


def _read_end(archive: ZipFile, file: BinaryIO) -> tuple[int, int, int]:
    """The number of members, modulo what, and the directory's start, by the end record."""
    place = file.seek(0, 2) - _END.size - len(archive.comment)
    start, *numbers, comment_bytes = _unpack(_END, file, place)
    if start != _END_START or comment_bytes != len(archive.comment):
        raise BadZipFile("bytes behind its end")
    wraps, locator = _COUNT_WRAPS, place - _LOCATOR.size
    if locator >= 0 and _unpack(_LOCATOR, file, locator)[0] == _LOCATOR_START:
        place, wraps = locator - _WIDE_END.size, 2**64
        start, _, _, _, *wide = _unpack(_WIDE_END, file, max(0, place))
        pairs = zip(numbers, wide, _UNSET, strict=True)
        if start != _WIDE_END_START or any(
            short not in (long, unset) for short, long, unset in pairs
        ):
            raise BadZipFile("its two end records differ")
        numbers = wide
    disk, first_disk, here, count, directory_bytes, directory = numbers
    if disk or first_disk or here != count or any(info.volume for info in archive.infolist()):
        raise BadZipFile("one of several parts")
    if directory + directory_bytes != place or directory != archive.start_dir:
        raise BadZipFile("its directory is not where its end record says")
    return count, wraps, directory


def _unpack(record: struct.Struct, file: BinaryIO, place: int) -> Sequence[Any]:
    file.seek(place)
    return record.unpack(file.read(record.size))
