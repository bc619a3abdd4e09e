"""All images or signals of one split as one packed array, row by row with its table.

One array instead of many files: DVC copies and compares one file in a quarter of the time, and
no epoch decodes anything. Rows are appended as they are decoded, so that memory does not grow
with their number, and the header is written again at the end, when their number is known. A
memory map would do the same until the disk is full, and then kill the process.
"""

import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Bool
from numpy import ndarray
from numpy.typing import DTypeLike

from pipeline.core.arrays import read_array
from pipeline.core.audit import FoundChannels, FoundRange, Unreadable
from pipeline.core.errors import ImageError, examples, plural
from pipeline.core.machine import cores
from pipeline.core.progress import track
from pipeline.prepare.config import ImagesConfig, PrepareConfig
from pipeline.prepare.decode import Decoded, Decoder, ignore_oddities
from pipeline.prepare.duplicates import Fingerprint, fingerprint
from pipeline.prepare.layout import Layout, Split
from pipeline.prepare.levels import ValueSample, find_range
from pipeline.prepare.signal_files import ShapeError

Job = TypeVar("Job")
Result = TypeVar("Result")

_Row = tuple[dict[str, str | int], Decoded, Fingerprint]

MOST_SAMPLES = 2**22
"""Values of all images together, from which the range is found."""

MOST_SAMPLES_EACH = 2**14

_SAMPLED_AT_ONCE = 64

MOST_THREADS = 4
"""Decoding, resizing and hashing release the interpreter's lock, the rest does not."""


@dataclass(frozen=True)
class Stored:
    """What was written; rows of table, array and fingerprints are parallel.

    table: tables.IMAGE_COLUMNS without `duplicate`. encodings: Decoded.encoding of each image_id.
    notes: the image_ids of each of Decoded.notes. colour: the image_ids of those that are not grey.
    """

    table: pd.DataFrame
    fingerprints: list[Fingerprint]
    unreadable: list[Unreadable]
    encodings: dict[str, str]
    notes: dict[str, list[str]]
    colour: list[str]


def range_of_images(split: Split, config: ImagesConfig, what: str) -> FoundRange | None:
    """Black and white of a split's images with more than 8 bits; None where all have 8.

    Only those are decoded. One that cannot be read is left to store_rows. what: for the progress
    line. Raises ArchiveError where the archive is damaged.
    """
    images = len(split.image_ids)
    most = max(1, min(MOST_SAMPLES // max(1, images), MOST_SAMPLES_EACH))
    starts = range(0, images, _SAMPLED_AT_ONCE)
    with warnings.catch_warnings():
        ignore_oddities()
        parts = in_order(partial(_take_samples, split, config.max_side_px, most), starts)
        return find_range(taken for part in track(parts, what, len(starts)) for taken in part)


def store_rows(split: Split, path: Path, decoder: Decoder, what: str) -> Stored:
    """Decode a split's images or signals into `path`, an array as decoder.decoding says.

    Rows are in the order of the split's ids, without those that cannot be read: all of these
    are returned, none stops. what: for the progress line.
    Raises ArchiveError where the archive is damaged, ShapeError on a signal that does not fit.
    """
    unreadable: list[Unreadable] = []
    records: list[dict[str, str | int]] = []
    fingerprints: list[Fingerprint] = []
    encodings: dict[str, str] = {}
    notes: defaultdict[str, list[str]] = defaultdict(list)
    colour: list[str] = []
    places = range(len(split.image_ids))
    with path.open("wb") as file, warnings.catch_warnings():
        ignore_oddities()
        _write_header(file, (0, *decoder.decoding.shape), decoder.decoding.dtype)
        rows = in_order(partial(_make_row, split, decoder), places)
        for row in track(rows, what, len(places)):
            if isinstance(row, Unreadable):
                unreadable.append(row)
                continue
            record, decoded, print_ = row
            file.write(decoded.pixels.tobytes())
            records.append(record)
            fingerprints.append(print_)
            encodings[str(record["image_id"])] = decoded.encoding
            for note in decoded.notes:
                notes[note].append(str(record["image_id"]))
            if not decoded.grey:
                colour.append(str(record["image_id"]))
        file.seek(0)
        _write_header(file, (len(records), *decoder.decoding.shape), decoder.decoding.dtype)
    return Stored(pd.DataFrame(records), fingerprints, unreadable, encodings, dict(notes), colour)


def find_channels(train: Stored, test: Stored) -> FoundChannels:
    """One channel where every image is grey, else three."""
    colour = [*train.colour, *test.colour]
    images = plural(len(train.table) + len(test.table), "image")
    if not colour:
        why = f"1: all {images}, of train and test, are grey"
        return FoundChannels(channels=1, colour=0, sentence=f"channels: {why}")
    why = f"3: {len(colour)} of {images} with colour {examples(colour)}"
    return FoundChannels(channels=3, colour=len(colour), sentence=f"channels: {why}")


def keep_one_channel(path: Path, rows: int) -> None:
    """Keep one of the equal channels of an array that store_rows wrote."""
    images = read_array(path, rows)
    _replace(path, (*images.shape[:3], 1), images.dtype, (image[..., :1] for image in images))


def keep_rows(path: Path, stays: Bool[ndarray, " rows"]) -> None:
    """Keep only these rows of an array that store_rows wrote."""
    images = read_array(path, len(stays))
    shape = (int(stays.sum()), *images.shape[1:])
    _replace(path, shape, images.dtype, (images[row] for row in np.flatnonzero(stays)))


def check_readable(layout: Layout, train: Stored, test: Stored, config: PrepareConfig) -> None:
    """Raise ImageError on what cannot be read; `exclude` allows it in train, never in test."""
    problems = []
    again = "Get the archive from its source again"
    if train.unreadable and (config.unreadable == "stop" or train.table.empty):
        way_out = "" if train.table.empty else ", or leave them out: prepare.unreadable: exclude"
        problems.append((layout.train, train, f"{again}{way_out}"))
    if test.unreadable:
        never = f"A test {config.row} can never be left out, since a submission needs its row"
        problems.append((layout.test, test, f"{never}. {again}"))
    if problems:
        lines = [
            f"{split.place}: {describe_unreadable(stored, config.row)}. {remedy}"
            for split, stored, remedy in problems
        ]
        raise ImageError("\n".join(lines))


def describe_unreadable(stored: Stored, row: str) -> str:
    """How many images or signals have no row, and for each reason how many and the first few ids.

    row: what they are called.
    """
    ids: dict[str, list[str]] = {}
    for image in stored.unreadable:
        ids.setdefault(image.reason, []).append(image.image_id)
    reasons = [f"{len(ids[reason])} × {reason} {examples(ids[reason])}" for reason in ids]
    images = len(stored.unreadable) + len(stored.table)
    return f"{len(stored.unreadable)} of {images} {row}s cannot be read: {'; '.join(reasons)}"


def _take_samples(split: Split, max_side_px: int, most: int, start: int) -> list[ValueSample]:
    """Of one image after the other: most have 8 bits, and a thread for each would cost more."""
    taken = []
    for picture in split.pictures[start : start + _SAMPLED_AT_ONCE]:
        if picture:
            with suppress(ImageError):
                taken.append(picture.sample(split.images, max_side_px, most))
    return [each for each in taken if each is not None]


def _make_row(split: Split, decoder: Decoder, place: int) -> _Row | Unreadable:
    image_id = split.image_ids[place]
    picture = split.pictures[place]
    if picture is None:
        return Unreadable(image_id=image_id, reason="not in the archive")
    try:
        decoded, sha256 = picture.decode(split.images, decoder)
    except ShapeError as error:
        raise ShapeError(f"{image_id} ({picture.file}) with {error}") from error
    except ImageError as error:
        return Unreadable(image_id=image_id, reason=str(error))
    print_ = fingerprint(decoded.pixels)
    record: dict[str, str | int] = {
        "image_id": image_id,
        "row_id": split.row_ids[place],
        "label": split.labels[place],
        "group": split.groups[place],
        "file": picture.file,
        "width": decoded.width,
        "height": decoded.height,
        "mode": decoded.mode,
        "sha256": sha256,
        "pixels": print_.pixels,
    }
    return record, decoded, print_


def _replace(path: Path, shape: tuple[int, ...], dtype: DTypeLike, rows: Iterable[ndarray]) -> None:
    kept = path.with_name(f"{path.name}.kept")
    with kept.open("wb") as file:
        _write_header(file, shape, dtype)
        for row in rows:
            file.write(row.tobytes())
    kept.replace(path)


def _write_header(file: BinaryIO, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    """NumPy pads it to the same length for any number of rows."""
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def in_order(work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """Results in the order of the jobs, from threads that are only a few jobs ahead."""
    threads = min(MOST_THREADS, cores())
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(work, job))
                if len(waiting) > 4 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
