"""All images of one split as one packed array, row by row with its table.

One array instead of many files: DVC copies and compares one file in a quarter of the time, and
no epoch decodes anything. Rows are appended as they are decoded, so that memory does not grow
with their number, and the header is written again at the end, when their number is known. A
memory map would do the same until the disk is full, and then kill the process.
"""

import hashlib
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Bool
from numpy import ndarray

from pipeline.core.arrays import read_array
from pipeline.core.audit import Unreadable
from pipeline.core.errors import ImageError, examples
from pipeline.core.machine import cores
from pipeline.core.progress import track
from pipeline.prepare.config import LEAST_BITS, PrepareConfig
from pipeline.prepare.decode import Decoded, decode_image
from pipeline.prepare.duplicates import Fingerprint, fingerprint
from pipeline.prepare.layout import Layout, Split

Job = TypeVar("Job")
Result = TypeVar("Result")

_Row = tuple[dict[str, str | int], Decoded, Fingerprint]

_HALF_RANGE = 2**15

MOST_THREADS = 4
"""Decoding, resizing and hashing release the interpreter's lock, the rest does not."""


@dataclass(frozen=True)
class Stored:
    """What was written; rows of table, array and fingerprints are parallel.

    table: tables.IMAGE_COLUMNS without `duplicate`. encodings: Decoded.encoding of each image_id.
    brightest: the largest value in the 16-bit images, and its file; None without such images.
    """

    table: pd.DataFrame
    fingerprints: list[Fingerprint]
    unreadable: list[Unreadable]
    encodings: dict[str, str]
    brightest: tuple[int, str] | None


def store_images(split: Split, path: Path, config: PrepareConfig, what: str) -> Stored:
    """Decode a split's images into `path`, an array (rows, size_px, size_px, 3), uint8 RGB.

    Rows are in the order of the split's ids, without those that cannot be read: all of these
    are returned, none stops. what: for the progress line.
    Raises ArchiveError where the archive is damaged.
    """
    unreadable: list[Unreadable] = []
    records: list[dict[str, str | int]] = []
    fingerprints: list[Fingerprint] = []
    encodings: dict[str, str] = {}
    brightest: tuple[int, str] | None = None
    places = range(len(split.image_ids))
    with path.open("wb") as file, warnings.catch_warnings():
        # Pillow warns of oddities in files that it reads all the same, or refuses right after.
        warnings.filterwarnings("ignore", module="PIL")
        _write_header(file, 0, config.size_px)
        rows = _in_order(partial(_make_row, split, config), places)
        for row in track(rows, what, len(places)):
            if isinstance(row, Unreadable):
                unreadable.append(row)
                continue
            record, decoded, print_ = row
            file.write(decoded.pixels.tobytes())
            records.append(record)
            fingerprints.append(print_)
            encodings[str(record["image_id"])] = decoded.encoding
            if decoded.largest is not None and decoded.largest > (brightest or (-1,))[0]:
                brightest = decoded.largest, str(record["file"])
        file.seek(0)
        _write_header(file, len(records), config.size_px)
    return Stored(pd.DataFrame(records), fingerprints, unreadable, encodings, brightest)


def keep_rows(path: Path, stays: Bool[ndarray, " rows"]) -> None:
    """Keep only these rows of an array that store_images wrote."""
    images = read_array(path, len(stays))
    kept = path.with_name(f"{path.name}.kept")
    with kept.open("wb") as file:
        _write_header(file, int(stays.sum()), images.shape[1])
        for row in np.flatnonzero(stays):
            file.write(images[row].tobytes())
    kept.replace(path)


def check_readable(layout: Layout, train: Stored, test: Stored, config: PrepareConfig) -> None:
    """Raise ImageError on what cannot be read; `exclude` allows it in train, never in test."""
    problems = []
    again = "Get the archive from its source again"
    if train.unreadable and (config.unreadable == "stop" or train.table.empty):
        way_out = "" if train.table.empty else ", or leave them out: prepare.unreadable: exclude"
        problems.append((layout.train, train, f"{again}{way_out}"))
    if test.unreadable:
        never = "A test image can never be left out, since a submission needs its row"
        problems.append((layout.test, test, f"{never}. {again}"))
    if problems:
        lines = [
            f"{split.place}: {describe_unreadable(stored)}. {remedy}"
            for split, stored, remedy in problems
        ]
        raise ImageError("\n".join(lines))


def check_range(split: Split, stored: Stored, config: PrepareConfig) -> None:
    """Raise ImageError where 16-bit images use less than half of their range.

    12-bit values in 16-bit files would be nearly black, and so duplicates of each other.
    """
    if config.bits is not None or stored.brightest is None:
        return
    largest, file = stored.brightest
    if largest < _HALF_RANGE:
        used = max(LEAST_BITS, largest.bit_length())
        raise ImageError(
            f"{split.place}: expected 16-bit images whose white is 65535, found no value "
            f"above {largest} in train (in {file}): they would be nearly black. Set prepare.bits "
            f"in params.yaml to the bits that are used ({used}, it seems), or to 16 if these "
            "images are as dark as that"
        )


def describe_unreadable(stored: Stored) -> str:
    """How many images have no row, and for each reason how many and the first few ids."""
    ids: dict[str, list[str]] = {}
    for image in stored.unreadable:
        ids.setdefault(image.reason, []).append(image.image_id)
    reasons = [f"{len(ids[reason])} × {reason} {examples(ids[reason])}" for reason in ids]
    images = len(stored.unreadable) + len(stored.table)
    return f"{len(stored.unreadable)} of {images} images cannot be read: {'; '.join(reasons)}"


def _make_row(split: Split, config: PrepareConfig, place: int) -> _Row | Unreadable:
    image_id = split.image_ids[place]
    picture = split.pictures[place]
    if picture is None:
        return Unreadable(image_id=image_id, reason="not in the archive")
    (encoded,) = picture.read(split.images)
    try:
        decoded = decode_image(encoded, config.size_px, config.fit, config.max_side_px, config.bits)
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
        "sha256": hashlib.sha256(encoded).hexdigest(),
        "pixels": print_.pixels,
    }
    return record, decoded, print_


def _write_header(file: BinaryIO, rows: int, size_px: int) -> None:
    """NumPy pads it to the same length for any number of rows."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (rows, size_px, size_px, 3)}
    np.lib.format.write_array_header_1_0(file, header)


def _in_order(work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
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
