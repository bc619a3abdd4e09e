"""How many samples an MP3 has, which not every one says.

Where a file does not say it, libsndfile divides its size by that of the first frame, and reads no
more samples than that: too few where later frames are smaller, or too many where there are pictures
in a tag. So the frames are counted, and the file gets what LAME begins its files with: a frame
without sound that says their number.
"""

from pipeline.core.errors import ImageError

_KBITS = {
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""A second, of MPEG 1, and of MPEG 2 and 2.5, by the number in a frame's header, from 1."""

_RATES_HZ = (44100, 48000, 32000)
_SLOWER = {0b11: 1, 0b10: 2, 0b00: 4}
"""How many times, of MPEG 1, 2 and 2.5, as their bits say."""

_MPEG_1 = 0b11
_MONO = 0b11
_TAGS_BEHIND = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"3DI")


def with_length(encoded: bytes) -> bytes:
    """The same sound in a file that says its length.

    Raises ImageError where a frame is cut, something else than a frame or a tag follows one, or
    there are several files in one, of which only the first would be read.
    """
    start = _after_tags(encoded)
    first = frame_bytes(encoded[start : start + 4])
    said = _frames_said(encoded[start : start + first])
    if said == 0:  # what a writer leaves that cannot go back in its file: it says nothing
        start, said = start + first, None
    end, frames = start, 0
    while size := frame_bytes(encoded[end : end + 4]):
        end += size
        frames += 1
    behind = encoded[end:]
    more = frame_bytes(behind[_after_tags(behind) :][:4]) if behind.startswith(b"ID3") else 0
    if more or (said is not None and frames > said + 2):  # the first frame, and a writer's slip
        raise ImageError("MP3 of several parts, one behind the other")
    if said is not None:
        return encoded
    if not frames or end > len(encoded) or not (behind.startswith(_TAGS_BEHIND) or not any(behind)):
        raise ImageError("MP3 cut short, or damaged")
    return _silent_frame(encoded[start : start + 4], frames) + encoded[start:end]


def _after_tags(encoded: bytes) -> int:
    """Where the tags before the sound end, and the zeros behind them."""
    place = 0
    while encoded[place : place + 3] == b"ID3" and len(encoded) >= place + 10:
        size = 0
        for byte in encoded[place + 6 : place + 10]:
            size = size << 7 | byte & 0x7F
        footer = 10 if encoded[place + 5] & 0x10 else 0
        place += 10 + size + footer
    return len(encoded) - len(encoded[place:].lstrip(b"\0"))


def frame_bytes(header: bytes) -> int:
    """The size of the frame of layer III that begins so; 0 where none does."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, kbits, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version not in _SLOWER or kbits in (0, 15) or rate == 3:
        return 0
    is_first = version == _MPEG_1
    rate_hz = _RATES_HZ[rate] // _SLOWER[version]
    return (144_000 if is_first else 72_000) * _KBITS[is_first][kbits - 1] // rate_hz + (
        header[2] >> 1 & 1
    )


def _frames_said(frame: bytes) -> int | None:
    """The number of frames, where a file's first one is Xing's or LAME's and says it."""
    for name in (b"Xing", b"Info"):
        place = frame.find(name, 4, 48)
        if place > 0 and len(frame) >= place + 12 and frame[place + 7] & 1:
            return int.from_bytes(frame[place + 8 : place + 12], "big")
    return None


def _silent_frame(header: bytes, frames: int) -> bytes:
    """A frame as LAME's first, for a file whose first frame begins with this header."""
    largest = bytes([0xFF, header[1] | 1, 0xE0 | header[2] & 0x0C, header[3]])  # without a checksum
    is_first, is_mono = header[1] >> 3 & 3 == _MPEG_1, header[3] >> 6 == _MONO
    unused = (17 if is_mono else 32) if is_first else (9 if is_mono else 17)
    said = b"Info" + (1).to_bytes(4, "big") + frames.to_bytes(4, "big")
    return (largest + bytes(unused) + said).ljust(frame_bytes(largest), b"\0")
