"""All images that are the same are found, and no others."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image as Pillow
from project import COMPETITIONS, needs

from pipeline.core.competition import ImageDecoding
from pipeline.prepare import duplicates
from pipeline.prepare.decode import decode
from pipeline.prepare.duplicates import find_duplicates, fingerprint

GENERATOR = np.random.default_rng(3)


def firsts_of(splits: list[np.ndarray], most_difference: float) -> list[int]:
    fingerprints = [fingerprint(image) for split in splits for image in split]
    return find_duplicates(splits, fingerprints, most_difference).tolist()


def brute_force(images: np.ndarray, most_difference: float) -> list[int]:
    """Every pair compared, clusters spread until nothing changes."""
    values = images.astype(int).reshape(len(images), -1)
    same = np.array([np.abs(values - row).mean(axis=1) <= most_difference for row in values])
    firsts = np.arange(len(images))
    while True:
        spread = np.array([firsts[row].min() for row in same])
        if (spread == firsts).all():
            return [int(first) for first in firsts]
        firsts = spread


def lookalikes(count: int, size_px: int) -> np.ndarray:
    """Images around a few centres, some 0, some 1, some 4 levels apart."""
    centres = GENERATOR.integers(8, 240, (5, size_px, size_px, 3))
    chosen = centres[GENERATOR.integers(0, 5, count)]
    spread = GENERATOR.choice([0, 1, 2, 4], count)[:, None, None, None]
    return (chosen + GENERATOR.integers(-8, 9, chosen.shape) * spread / 4).astype(np.uint8)


@pytest.mark.parametrize("size_px", [8, 13])
@pytest.mark.parametrize("most_difference", [0.0, 1.0, 1.6, 2.5, 5.0, 64.0])
def test_the_clusters_are_those_of_comparing_every_pair(
    size_px: int, most_difference: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "_ROWS_AT_ONCE", 7)
    monkeypatch.setattr(duplicates, "_COLUMNS_AT_ONCE", 11)
    monkeypatch.setattr(duplicates, "_BYTES_AT_ONCE", 5 * size_px**2 * 3)
    images = lookalikes(150, size_px)
    expected = brute_force(images, most_difference)
    assert firsts_of([images[:90], images[90:]], most_difference) == expected


@pytest.mark.parametrize("rows_at_once", [1, 5, 32])
@pytest.mark.parametrize("most_difference", [0.4, 1.0, 2.0])
def test_near_images_are_found_whatever_portions_their_colours_fall_in(
    rows_at_once: int, most_difference: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "_ROWS_AT_ONCE", rows_at_once)
    monkeypatch.setattr(duplicates, "_COLUMNS_AT_ONCE", 11)
    colours = GENERATOR.integers(100, 112, (200, 1, 1, 3))
    images = np.broadcast_to(colours, (200, 8, 8, 3)).astype(np.uint8)
    expected = brute_force(images, most_difference)
    assert len(set(expected)) < 190
    assert firsts_of([images[:90], images[90:]], most_difference) == expected


def test_the_limit_itself_is_still_the_same_image() -> None:
    one = np.full((1, 8, 8, 3), 100, np.uint8)
    images = np.concatenate([one, one + 2, one + 5])
    assert firsts_of([images], 2.0) == [0, 0, 2]
    assert firsts_of([images], 1.999) == [0, 1, 2]


def test_a_chain_is_one_cluster_named_by_its_first_row() -> None:
    levels = np.array([104, 10, 102, 100, 10, 106], np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (6, 8, 8, 3)).copy()
    assert firsts_of([images[:4], images[4:]], 2.0) == [0, 1, 0, 0, 1, 0]


def test_nothing_but_equal_pixels_counts_at_zero() -> None:
    images = np.full((3, 8, 8, 3), 100, np.uint8)
    images[1, 0, 0, 0] = 101
    assert firsts_of([images], 0.0) == [0, 1, 0]


def test_a_thousand_frames_of_one_film_are_not_compared_pair_by_pair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = 0
    original = duplicates._take

    def counting(splits: object, rows: np.ndarray) -> np.ndarray:
        nonlocal taken
        taken += len(rows)
        return original(splits, rows)

    monkeypatch.setattr(duplicates, "_take", counting)
    monkeypatch.setattr(duplicates, "_BYTES_AT_ONCE", 200_000)
    film = 100 + GENERATOR.integers(0, 2, (1000, 8, 8, 3)).astype(np.uint8)
    assert set(firsts_of([film], 3.0)) == {0}
    assert taken < 10_000


def test_a_sketch_never_differs_by_more_than_the_pixels() -> None:
    for size_px in (8, 9, 50, 64):
        one, other = GENERATOR.integers(0, 256, (2, size_px, size_px, 3)).astype(np.uint8)
        sketches = np.abs(fingerprint(one).sketch - fingerprint(other).sketch).sum()
        assert 0 < sketches <= np.abs(one.astype(int) - other).mean()
        assert fingerprint(one).sketch.sum() == pytest.approx(one.mean())


@needs(COMPETITIONS / "malaria")
def test_real_cells_are_distinguished_and_recognised_when_saved_again() -> None:
    with zipfile.ZipFile(COMPETITIONS / "malaria" / "train_data.zip") as archive:
        files = [archive.read(name) for name in sorted(archive.namelist())[:400]]
    images = [
        decode(
            file, ImageDecoding(size_px=64, channels=3, fit="stretch", black_white=None), 4096
        ).pixels
        for file in files
    ]
    for file in files[:40]:
        again = io.BytesIO()
        Pillow.open(io.BytesIO(file)).save(again, "JPEG", quality=75)
        images.append(
            decode(
                again.getvalue(),
                ImageDecoding(size_px=64, channels=3, fit="stretch", black_white=None),
                4096,
            ).pixels
        )
    assert firsts_of([np.stack(images)], 2.5) == [*range(400), *range(40)]
