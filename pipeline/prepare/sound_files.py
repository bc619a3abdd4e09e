"""A file of sound as samples and their rate: WAV, AIFF, FLAC, OGG or MP3, as its content says.

libsndfile gives what is left of a file that was cut, as if it were all. So the sizes that WAV and
AIFF say are compared with the bytes that are there, an OGG must have all its pages, each with the
right checksum, up to the one that ends it, and of each file as many samples must come out as it
says, or as an MP3 has frames; the checksums of FLAC libsndfile compares. What nothing shows is that
an MP3 that does not say its length was cut between two frames, and damage inside an MP3, a WAV or
an AIFF.
"""

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import soundfile
from jaxtyping import Float32
from numpy import ndarray

from pipeline.core.errors import ImageError
from pipeline.prepare.config import MOST_RATE_HZ, MOST_SAMPLES
from pipeline.prepare.mp3_files import with_length

_MP3_STARTS = (b"ID3", *(bytes([0xFF, second]) for second in (0xE2, 0xE3, 0xF2, 0xF3, 0xFA, 0xFB)))
"""A tag, or the first frame of layer III, with a checksum or without. Text in UTF-16 begins with
another byte after 0xFF."""

_CUT = "cut short, or damaged"
_LAST_PAGE = 0x04
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class _Bytes(io.BytesIO):
    """A file in memory. In damaged ones libsndfile looks for what would be before the beginning."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return super().seek(max(0, offset) if whence == io.SEEK_SET else offset, whence)


@dataclass(frozen=True)
class SoundHeader:
    """What a file of sound says of itself. name: of the format. coding: of its samples."""

    name: str
    coding: str
    rate_hz: int
    length: int
    channels: int


def is_sound(encoded: bytes) -> bool:
    """Whether a file's content is that of one of the formats, whole or not."""
    return bool(_name(encoded))


def read_header(encoded: bytes) -> SoundHeader:
    """Check that a file is whole, as far as that shows without its samples. Raises ImageError with
    the reason, in the same words for the same fault."""
    with _open(encoded) as file:
        return _header(encoded, file)


def read_samples(encoded: bytes) -> tuple[SoundHeader, Float32[ndarray, "length channels"]]:
    """Samples from -1 to 1, those of floats as they are. Raises ImageError as read_header does."""
    with _open(encoded) as file:
        header = _header(encoded, file)
        try:
            samples = file.read(header.length, dtype="float32", always_2d=True)
        except Exception as error:
            raise ImageError(f"{header.name} {_CUT}") from error
    if len(samples) != header.length:
        raise ImageError(f"{header.name} {_CUT}: fewer samples than it says")
    return header, np.asarray(samples)


def _name(encoded: bytes) -> str:
    start, form = encoded[:4], encoded[8:12]
    if start == b"RIFF" and form == b"WAVE":
        return "WAV"
    if start == b"FORM" and form in (b"AIFF", b"AIFC"):
        return "AIFF"
    if start == b"fLaC":
        return "FLAC"
    if start == b"OggS":
        return "OGG"
    return "MP3" if start.startswith(_MP3_STARTS) else ""


def _open(encoded: bytes) -> soundfile.SoundFile:
    name = _name(encoded)
    readable = with_length(encoded) if name == "MP3" else encoded
    try:
        return soundfile.SoundFile(_Bytes(readable))
    except Exception as error:  # of libsndfile, whose texts depend on other threads
        raise ImageError(f"{name} {_CUT}") from error


def _header(encoded: bytes, file: soundfile.SoundFile) -> SoundHeader:
    name, frames, rate_hz = _name(encoded), file.frames, file.samplerate
    try:
        if name == "WAV":
            _require_bytes(encoded, "<", b"data")
        elif name == "AIFF":
            _require_bytes(encoded, ">", b"SSND")
        elif name == "OGG":
            _require_pages(encoded)
    except (struct.error, IndexError) as error:
        raise ImageError(f"{name} {_CUT}") from error
    if not frames:
        raise ImageError(f"{name} with zero samples")
    if frames * file.channels > MOST_SAMPLES:  # libsndfile says 2^63 where it is not known
        raise ImageError(f"{name} of more than {MOST_SAMPLES:,} samples, or of unknown length")
    if not 0 < rate_hz <= MOST_RATE_HZ:
        raise ImageError(f"{name} of {rate_hz} Hz, expected at most {MOST_RATE_HZ:,}")
    return SoundHeader(name, file.subtype, rate_hz, frames, file.channels)


def _require_bytes(encoded: bytes, order: str, wanted: bytes) -> None:
    """Raise ImageError unless a file has as many bytes of samples as its header says.

    order: of bytes, of struct. wanted: the name of the chunk that has them.
    """
    place = 12
    while True:
        name, size = struct.unpack_from(f"{order}4sI", encoded, place)
        place += 8
        if name == wanted:
            if size > len(encoded) - place:
                raise ImageError(f"{_name(encoded)} {_CUT}: fewer samples than it says")
            return
        place += size + size % 2


def _require_pages(encoded: bytes) -> None:
    """Raise ImageError on an OGG without its end, with a damaged page, or of several streams, of
    which only the first would be read."""
    start, flags = 0, 0
    while not flags & _LAST_PAGE:
        parts = encoded[start + 26]
        end = start + 27 + parts + sum(encoded[start + 27 : start + 27 + parts])
        page, flags = encoded[start:end], encoded[start + 5]
        if len(page) < end - start or _checksum(page) != page[22:26]:
            raise ImageError(f"OGG {_CUT}")
        start = end
    if encoded[start : start + 4] == b"OggS":
        raise ImageError("OGG of several streams")


def _checksum(page: bytes) -> bytes:
    """The checksum that a page should have: zlib's, but begun and ended with 0, and with the bits
    of each byte, and of the result, the other way round."""
    blank = page[:22] + bytes(4) + page[26:]
    found = zlib.crc32(blank.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return found.to_bytes(4, "big").translate(_MIRRORED)
