"""Where a JPEG or PNG ends, and whether it is whole.

Pillow fills the missing part of a JPEG with grey when anything behind the cut looks like an end
marker, and telephones append whole films to their JPEGs. So the markers are walked from the start,
and what is behind the end is never shown to a decoder.
"""

import re
import struct
import zlib

from pipeline.core.errors import ImageError

JPEG_START = b"\xff\xd8"
PNG_START = b"\x89PNG\r\n\x1a\n"

MOST_SCANS = 100
"""Each scan of a JPEG goes over the whole image: cameras write 1, progressive files about 10."""

MOST_CHUNKS = 100_000
"""Encoders write at least 4 kB a chunk."""

# In compressed data 0xFF is followed by 0 or a restart marker (D0 to D7), never by these.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_SCAN, _END, _WITHOUT_LENGTH, _METADATA = 0xDA, 0xD9, 0x01, 0xE0
_FILLER = bytes(range(7, 247, 3))
"""Bytes that change what an unfinished scan decodes to, and that are skipped behind a whole one."""


def whole_jpeg(encoded: bytes) -> tuple[bytes, list[int]]:
    """A JPEG without what follows its end, and where each of its scans ends.

    Raises ImageError where it is cut short, or has too many scans.
    """
    ends: list[int] = []
    place, in_scan = len(JPEG_START), False
    while found := _MARKER.search(encoded, place):
        marker, place = encoded[found.end() - 1], found.end()
        if in_scan:
            ends.append(_without_fill(encoded, found.start()))
        if marker == _END:
            return encoded[:place], ends
        length = int.from_bytes(encoded[place : place + 2]) * (marker != _WITHOUT_LENGTH)
        # Metadata may hold a thumbnail, nothing else does.
        another = marker < _METADATA and JPEG_START + b"\xff" in encoded[place : place + length]
        if another or marker == JPEG_START[1]:
            raise ImageError("JPEG cut short: another one begins inside")
        place += length
        in_scan = marker == _SCAN
        if len(ends) >= MOST_SCANS:
            raise ImageError(f"JPEG with more than {MOST_SCANS} scans")
    raise ImageError("JPEG cut short: no end marker")


def lengthened_jpeg(encoded: bytes, ends: list[int]) -> bytes:
    """The same JPEG with bytes behind each scan: it has the same pixels if all scans are whole."""
    parts = [encoded[start:end] for start, end in zip([0, *ends], [*ends, None], strict=True)]
    return _FILLER.join(parts)


def whole_png(encoded: bytes) -> bytes:
    """A PNG without what follows its end.

    Raises ImageError where it is cut short, a checksum is wrong, or there is too much of something.
    """
    place, profiles = len(PNG_START), 0
    for _ in range(MOST_CHUNKS):
        length, kind = struct.unpack(">I4s", encoded[place : place + 8].ljust(8, b"\0"))
        end = place + 12 + length
        if end > len(encoded):
            raise ImageError("PNG cut short: no end marker")
        if zlib.crc32(encoded[place + 4 : end - 4]) != int.from_bytes(encoded[end - 4 : end]):
            raise ImageError("PNG damaged or cut short")
        profiles += kind == b"iCCP"
        if profiles > 1:
            raise ImageError("PNG with more than one colour profile")
        if kind == b"IEND":
            return encoded[:end]
        place = end
    raise ImageError(f"PNG with more than {MOST_CHUNKS:,} chunks")


def _without_fill(encoded: bytes, place: int) -> int:
    """Any number of bytes 0xFF may stand before a marker."""
    while encoded[place - 1] == 0xFF:
        place -= 1
    return place
