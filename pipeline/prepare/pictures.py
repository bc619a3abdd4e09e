"""What a row's image or signal is made of: one file, a file for each channel, or numbers."""

import hashlib
import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Num
from numpy import ndarray

from pipeline.core.errors import CompetitionError, examples
from pipeline.prepare.decode import Decoded, Decoder, sample, sample_array
from pipeline.prepare.levels import ValueSample
from pipeline.prepare.matching import stem, without_suffix

COLOURS = ("red", "green", "blue")
_COLOUR_WORDS = {*COLOURS, "yellow", "r", "g", "b", "y", "nir", "cyan", "magenta", "grey", "gray"}


@runtime_checkable
class Readable(Protocol):
    """Where files are read: a folder, or the tree of a competition's files."""

    def read(self, member: str) -> bytes:
        """A file's bytes."""


class Picture(ABC):
    """An image of a row, or the signal that a row is."""

    files: tuple[str, ...]
    """The files that it is made of."""

    @property
    @abstractmethod
    def file(self) -> str:
        """Where it comes from, as our tables say it."""

    def name(self, above: str) -> str:
        """What it is called among the images of its row, which all lie below one folder."""
        return without_suffix(self.file.removeprefix(above).strip("/"))

    @abstractmethod
    def decode(self, images: Readable, decoder: Decoder) -> tuple[Decoded, str]:
        """As it is stored, and the SHA-256 of what it is made of. Raises ImageError."""

    @abstractmethod
    def sample(self, images: Readable, max_side_px: int, most: int) -> ValueSample | None:
        """Some of its values, where they have more than 8 bits. Raises ImageError."""


@dataclass(frozen=True)
class FilePicture(Picture):
    """A file, or one for each channel."""

    files: tuple[str, ...]

    @classmethod
    def of_channels(
        cls, key: str, members: list[str], channels: list[str], place: str
    ) -> "FilePicture":
        """The files of these channels, in their order. Raises CompetitionError where one lacks."""
        found = {}
        for member in members:
            for channel in channels:
                if _last_word(stem(member)) == channel.lower():
                    found[channel] = member
        if missing := [channel for channel in channels if channel not in found]:
            raise CompetitionError(
                f"{place}: expected a file for each of the channels {channels} of {key}, found "
                f"none for {', '.join(missing)} among {examples(members)}. Set prepare.channels in "
                "params.yaml"
            )
        return cls(tuple(found[channel] for channel in channels))

    @property
    def file(self) -> str:
        return self.files[0]

    def decode(self, images: Readable, decoder: Decoder) -> tuple[Decoded, str]:
        encoded = [images.read(file) for file in self.files]
        return decoder.from_files(encoded), hashlib.sha256(b"".join(encoded)).hexdigest()

    def sample(self, images: Readable, max_side_px: int, most: int) -> ValueSample | None:
        return sample(images.read(self.files[0]), max_side_px, most)


def each_a_picture(members: list[str]) -> list[Picture]:
    """Files that are an image each."""
    return [FilePicture((member,)) for member in members]


@dataclass(frozen=True)
class PixelPicture(Picture):
    """Numbers of a row of a table or of an array, one array a channel."""

    row: str
    channels: tuple[Num[ndarray, " numbers"], ...]
    shape: tuple[int, ...]
    files: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        return self.row

    def decode(self, images: Readable, decoder: Decoder) -> tuple[Decoded, str]:  # noqa: ARG002
        array = self.array
        return decoder.from_numbers(array), hashlib.sha256(array.tobytes()).hexdigest()

    def sample(self, images: Readable, max_side_px: int, most: int) -> ValueSample | None:  # noqa: ARG002
        return sample_array(self.array, max_side_px, most)

    @property
    def array(self) -> ndarray:
        return np.stack([one.reshape(self.shape) for one in self.channels], axis=-1).squeeze()


def find_channels(members: list[list[str]]) -> tuple[list[str], str]:
    """The channels, where each row has one file for each and their names end with colours.

    And a sentence that says so.
    """
    words: set[tuple[str, ...]] = set()
    for found in members:
        if len(found) == 1:
            return [], ""
        if found:
            words.add(tuple(sorted(_last_word(stem(member)) for member in found)))
    if len(words) != 1:
        return [], ""
    (names,) = words
    if len(set(names)) < len(names) or not set(names) <= _COLOUR_WORDS:
        return [], ""
    ordered = [*(c for c in COLOURS if c in names), *(n for n in names if n not in COLOURS)]
    used, others = ordered[: len(COLOURS)], ordered[len(COLOURS) :]
    left = f"; not used: {', '.join(others)} (prepare.channels chooses)" if others else ""
    return used, f"each row has {len(names)} files, one a channel: {', '.join(used)}{left}"


def pixel_shape(pixels: list[Num[ndarray, "rows numbers"]], place: Path) -> tuple[int, ...]:
    """Height and width, and colours where there are three times as many numbers.

    Raises CompetitionError on a number of pixels that makes no square.
    """
    count = pixels[0].shape[1]
    for colours in (1, 3):
        side = math.isqrt(count // colours)
        if side * side * colours == count:
            return (side, side) if colours == 1 else (side, side, 3)
    raise CompetitionError(
        f"{place}: expected as many pixels a row as a square has, in grey or RGB, found {count}. "
        "If rows are signals, set prepare.kind in params.yaml to signals"
    )


def _last_word(name: str) -> str:
    return re.split(r"[_\-. ]", name)[-1].lower()
