"""Which stored rows are the same: images of equal pixels, or nearly so; signals of equal samples.

Near-duplicates are pairs whose pixels differ by at most so many grey levels on average. All such
pairs are found: sums over blocks differ by at most as much as the pixels do (triangle
inequality), so they rule out nearly all pairs, and the others are compared pixel by pixel. A
64-bit dHash as the filter costs as much and guarantees nothing.

Measured on the 27,558 malaria cells at 64 px: the closest two differ by 5.2 levels. A cell differs
from itself saved again as a JPEG of quality 90, 85, 75 by 0.7, 1.0, 1.3 levels, enlarged by half
by 0.3, shrunk by a tenth by 1.0, moved by 1 px by 3.5; mirrored or turned it is not recognised.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy import ndarray
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from pipeline.core.shapes import Image, Signal

BLOCKS = 4
"""Blocks a side. On the cells at 3 levels, 35 of 66 million pairs were left to be compared."""

Sketch = Float[ndarray, " 48"] | Float[ndarray, " 0"]
"""Sums of the BLOCKS × BLOCKS × 3 blocks over the number of values in the whole image; empty of a
signal."""

SplitImages = UInt8[ndarray, "_ height width channels"]
"""Any number of images; the size is the same in all splits."""

_NO_SKETCH = np.empty(0)

_ROUNDING = 1e-6
_ROWS_AT_ONCE = 32
_COLUMNS_AT_ONCE = 16_384
_BYTES_AT_ONCE = 2**24


@dataclass(frozen=True)
class Fingerprint:
    """pixels: 16 hexadecimal digits of their SHA-256."""

    pixels: str
    sketch: Sketch


def fingerprint(pixels: Image | Signal) -> Fingerprint:
    """What decides whether another row may be the same; of grey, that of three equal channels."""
    if pixels.dtype == np.uint8:
        pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    if pixels.dtype != np.uint8:
        return Fingerprint(digest[:16], _NO_SKETCH)
    edges = [len(pixels) * block // BLOCKS for block in range(BLOCKS)]
    strips = np.add.reduceat(pixels, edges, axis=0, dtype=np.int64)
    sums = np.add.reduceat(strips, edges, axis=1)
    return Fingerprint(digest[:16], sums.ravel() / pixels.size)


def find_duplicates(
    splits: Sequence[ndarray], fingerprints: Sequence[Fingerprint], most_difference: float
) -> Int[ndarray, " rows"]:
    """For each row of all splits in turn, the first row of its cluster; itself where alone.

    Clusters are transitive. most_difference: mean absolute difference in grey levels over all
    pixels and channels up to which two images are the same; at 0 only equal pixels count.
    """
    first_of: dict[str, int] = {}
    firsts = np.array(
        [first_of.setdefault(print_.pixels, row) for row, print_ in enumerate(fingerprints)]
    )
    if most_difference > 0:
        distinct = np.unique(firsts)
        sketches = np.array([fingerprints[row].sketch for row in distinct])
        for pairs in _candidates(sketches, most_difference):
            _join_same(firsts, splits, distinct[pairs], most_difference)
    return firsts


def _candidates(
    sketches: Float[ndarray, "rows blocks"], most_difference: float
) -> Iterator[Int[ndarray, "pairs 2"]]:
    """All pairs of rows whose sketches are close enough, in portions of similar colour.

    Red, green and blue are sums of the sketch, so that, again by the triangle inequality, most
    portions are too far from each other for any pair: 1.3 % of those of 200,000 cells remained.
    """
    limit = most_difference + _ROUNDING
    colours = sketches.reshape(len(sketches), -1, 3).sum(axis=1)
    order = KDTree(colours, leafsize=_ROWS_AT_ONCE).indices
    starts = np.arange(0, len(order), _ROWS_AT_ONCE)
    least = np.minimum.reduceat(colours[order], starts)
    most = np.maximum.reduceat(colours[order], starts)
    for portion, start in enumerate(starts):
        rows = order[start : start + _ROWS_AT_ONCE]
        gaps = np.maximum(least[portion:] - most[portion], least[portion] - most[portion:])
        near = np.maximum(gaps, 0).sum(axis=1) <= limit
        places = np.flatnonzero(np.repeat(near, _ROWS_AT_ONCE)) + start
        places = places[places < len(order)]
        for left in range(0, len(places), _COLUMNS_AT_ONCE):
            some = places[left : left + _COLUMNS_AT_ONCE]
            close = cdist(sketches[rows], sketches[order[some]], "cityblock") <= limit
            row_places, column_places = np.nonzero(close)
            later = some[column_places] > start + row_places
            pairs = [rows[row_places[later]], order[some[column_places[later]]]]
            yield np.stack(pairs, axis=1)


def _join_same(
    firsts: Int[ndarray, " rows"],
    splits: Sequence[SplitImages],
    pairs: Int[ndarray, "pairs 2"],
    most_difference: float,
) -> None:
    """Join the clusters of those pairs that differ little enough, in place."""
    image_size = splits[0][0].size
    portion = max(1, _BYTES_AT_ONCE // image_size)
    for start in range(0, len(pairs), portion):
        some = pairs[start : start + portion]
        # Thousands of frames of one film are millions of pairs, but few that still matter.
        some = some[firsts[some[:, 0]] != firsts[some[:, 1]]]
        left, right = _take(splits, some[:, 0]), _take(splits, some[:, 1])
        apart = np.maximum(left, right) - np.minimum(left, right)
        differences = apart.sum(axis=(1, 2, 3), dtype=np.int64)
        for one, other in firsts[some[differences <= most_difference * image_size]]:
            low, high = sorted((firsts[one], firsts[other]))
            firsts[firsts == high] = low


def _take(splits: Sequence[SplitImages], rows: Int[ndarray, " rows"]) -> SplitImages:
    taken = np.empty((len(rows), *splits[0].shape[1:]), np.uint8)
    start = 0
    for split in splits:
        here: Bool[ndarray, " rows"] = (rows >= start) & (rows < start + len(split))
        taken[here] = split[rows[here] - start]
        start += len(split)
    return taken
