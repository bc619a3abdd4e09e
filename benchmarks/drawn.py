"""Drawn cells in both forms: a folder of PNG files, as tutorials want it, and our packed array.

The PNG files are 128 px a side, as the real data come; the array has the size that is trained
on, as stage `prepare` stores it. And whole competitions of hundreds of thousands of images,
varied from a few hundred cells, since drawing one takes 3 ms and varying one a tenth of that.
"""

import os
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy import ndarray
from PIL import Image as Pillow

from pipeline.core.competition import Decoding, ImageDecoding
from pipeline.core.shapes import Image, Images, Labels
from pipeline.core.tables import read_csv
from pipeline.core.task import OneOf
from pipeline.download.config import DrawnCells
from pipeline.download.drawn.competition import draw_competition
from pipeline.download.drawn.files import write_tables
from pipeline.params import Config, read_config
from pipeline.prepare.decode import decode
from pipeline.prepare.matching import FileNames
from pipeline.raw.archive import ImageArchive

TASK = OneOf(classes=["0", "1"])
FILE_PX = 128
IMAGES_A_PATIENT = 40
_MOST_SIDE_PX = 4096


def decoding(size_px: int) -> Decoding:
    return ImageDecoding(size_px=size_px, channels=3, fit="stretch", black_white=None)


_AT_ONCE = 1024


@dataclass(frozen=True)
class Drawn:
    """One split on disk: png/CLASS/ID.png, images.npy and labels.npy, the same images in all."""

    folder: Path

    @property
    def png(self) -> Path:
        """The folder of class folders."""
        return self.folder / "png"

    @property
    def size_px(self) -> int:
        """Side of the packed images."""
        return self.images().shape[1]

    def images(self) -> Images:
        """The packed array, memory-mapped as the stages do."""
        return np.load(self.folder / "images.npy", mmap_mode="r")  # type: ignore[no-any-return]

    def labels(self) -> Labels:
        """Classes 0 and 1."""
        return np.load(self.folder / "labels.npy")  # type: ignore[no-any-return]


def read_profile() -> Config:
    """Profile malaria-best, whose vgg the benchmarks train, without smaller images at first."""
    config = read_config(Path("profiles/malaria-best.yaml"))
    models = {
        name: model.model_copy(update={"sizes_px": None})
        for name, model in config.train.models.items()
    }
    train = config.train.model_copy(update={"models": models})
    return config.model_copy(update={"train": train})


def draw_raw(raw: Path, hidden: Path, train_images: int, test_images: int) -> None:
    """A competition as it is downloaded: forty images a patient, no wrong labels, no copies."""
    raw.mkdir(parents=True)
    hidden.mkdir(parents=True)
    source = DrawnCells(
        source="synthetic",
        kind="cells",
        train_images=train_images,
        test_images=test_images,
        patients=max(8, (train_images + test_images) // IMAGES_A_PATIENT),
        wrong_labels=0.0,
        duplicates=0.0,
        seed=1,
    )
    draw_competition(source, raw, hidden)


def draw(folder: Path, train_images: int, held_images: int, size_px: int) -> tuple[Drawn, Drawn]:
    """Draw images to train on, and held-out ones of other patients."""
    raw, hidden = folder / "raw", folder / "hidden"
    draw_raw(raw, hidden, train_images, held_images)
    labels, solution = read_csv(raw / "train_labels.csv"), read_csv(hidden / "solution.csv")
    train = store(folder / "train", raw / "train_data.zip", labels, size_px)
    held = store(folder / "held", raw / "test_data.zip", solution, size_px)
    return train, held


def vary(
    base: Drawn, raw: Path, hidden: Path, train_images: int, test_images: int, side_px: int
) -> None:
    """A competition of any size as it is downloaded: JPEG files of side_px, no two alike.

    Each image is one of the base's, in turn, mirrored or not, turned by any angle, enlarged by
    0.7 to 1.1, and with its red, green and blue multiplied by 0.6 to 1 each: hardly a copy is a
    near duplicate of another, and each costs the search for them what a new cell would.
    """
    raw.mkdir(parents=True)
    hidden.mkdir(parents=True)
    size = (side_px, side_px)
    cells = [cv2.resize(image[..., ::-1], size) for image in base.images()]
    rows = np.arange(train_images + test_images)
    table = pd.DataFrame({"label": base.labels()[rows % len(cells)]})
    table["patient"] = [f"P{row // IMAGES_A_PATIENT}" for row in rows]
    table["Usage"] = np.where(rows % 2, "Public", "Private")
    table["id"] = [f"cell_{row:06}" for row in rows]
    write_tables(raw, hidden, table[:train_images], table[train_images:])
    for name, some in (("train", rows[:train_images]), ("test", rows[train_images:])):
        with zipfile.ZipFile(raw / f"{name}_data.zip", "w", zipfile.ZIP_STORED) as archive:
            for row, jpeg in zip(some, _vary_cells(cells, some), strict=True):
                archive.writestr(f"{name}_data/{table['id'][row]}.jpg", jpeg)


def _vary_cells(cells: list[Image], rows: ndarray) -> Iterator[bytes]:
    """The file of each row, in their order."""

    def encode(row: int) -> bytes:
        rng = np.random.default_rng(row)
        cell = cells[row % len(cells)]
        side = len(cell)
        turn = cv2.getRotationMatrix2D(
            ((side - 1) / 2, (side - 1) / 2), rng.uniform(0, 360), rng.uniform(0.7, 1.1)
        )
        if rng.integers(2):
            turn = turn[::-1].copy()  # x for y
        factors = rng.uniform(0.6, 1.0, (1, 1, 3))
        levels = (np.arange(256)[None, :, None] * factors).astype(np.uint8)
        varied = cv2.LUT(cv2.warpAffine(cell, turn, (side, side)), levels)
        return cv2.imencode(".jpg", varied)[1].tobytes()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(rows), _AT_ONCE):  # a few at a time: a pool takes all there are
            yield from pool.map(encode, rows[start : start + _AT_ONCE].tolist())


def store(folder: Path, archive_path: Path, table: pd.DataFrame, size_px: int) -> Drawn:
    """Write the images of a table's rows (`id` and `label`) in both forms."""
    labels = table["label"].to_numpy(np.int64)
    images = np.empty((len(table), size_px, size_px, 3), np.uint8)
    with ImageArchive(archive_path) as archive:
        found = FileNames(archive.members, str(archive_path), "").match(list(table["id"]))
        members = dict(zip(table["id"], (file for (file,) in found.members), strict=True))
        for row, (image_id, label) in enumerate(zip(table["id"], labels, strict=True)):
            encoded = archive.read(members[image_id])
            png = folder / "png" / str(label) / f"{image_id}.png"
            png.parent.mkdir(parents=True, exist_ok=True)
            large = decode(encoded, decoding(FILE_PX), _MOST_SIDE_PX).pixels
            Pillow.fromarray(large).save(png)
            images[row] = decode(png.read_bytes(), decoding(size_px), _MOST_SIDE_PX).pixels
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    return Drawn(folder)
