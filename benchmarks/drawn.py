"""Drawn cells in both forms: a folder of PNG files, as tutorials want it, and our packed array.

The PNG files are 128 px a side, as the real data come; the array has the size that is trained
on, as stage `prepare` stores it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from pipeline.archive import ImageArchive
from pipeline.config.download import SyntheticSource
from pipeline.config.tree import Config, read_config
from pipeline.download.synthetic import draw_competition
from pipeline.prepare.decode import decode_image
from pipeline.shapes import Images, Labels
from pipeline.tables import read_csv

FILE_PX = 128
_MOST_SIDE_PX = 4096


@dataclass(frozen=True)
class Drawn:
    """One split on disk: png/CLASS/ID.png, images.npy and labels.npy, the same images in all."""

    folder: Path

    @property
    def png(self) -> Path:
        """The folder of class folders."""
        return self.folder / "png"

    def images(self) -> Images:
        """The packed array, memory-mapped as the stages do."""
        return np.load(self.folder / "images.npy", mmap_mode="r")  # type: ignore[no-any-return]

    def labels(self) -> Labels:
        """Classes 0 and 1."""
        return np.load(self.folder / "labels.npy")  # type: ignore[no-any-return]


def read_profile() -> Config:
    """The parameters that real cells are trained with."""
    return read_config(Path("profiles/malaria-local.yaml"))


def draw_raw(raw: Path, hidden: Path, train_images: int, test_images: int) -> None:
    """A competition as it is downloaded: forty images a patient, no wrong labels, no copies."""
    raw.mkdir(parents=True)
    hidden.mkdir(parents=True)
    source = SyntheticSource(
        source="synthetic",
        train_images=train_images,
        test_images=test_images,
        patients=max(8, (train_images + test_images) // 40),
        wrong_labels=0.0,
        duplicates=0.0,
        seed=1,
    )
    draw_competition(source, raw, hidden)


def draw(folder: Path, train_images: int, held_images: int, size_px: int) -> tuple[Drawn, Drawn]:
    """Draw images to train on, and held-out ones of other patients."""
    raw, hidden = folder / "raw", folder / "hidden"
    draw_raw(raw, hidden, train_images, held_images)
    train = _store(folder / "train", raw / "train_data.zip", raw / "train_labels.csv", size_px)
    held = _store(folder / "held", raw / "test_data.zip", hidden / "solution.csv", size_px)
    return train, held


def _store(folder: Path, archive_path: Path, labels_path: Path, size_px: int) -> Drawn:
    table = read_csv(labels_path)
    labels = table["label"].to_numpy(np.int64)
    images = np.empty((len(table), size_px, size_px, 3), np.uint8)
    with ImageArchive(archive_path) as archive:
        members = archive.match_ids(list(table["id"]))
        for row, (image_id, label) in enumerate(zip(table["id"], labels, strict=True)):
            encoded = archive.read(members[image_id])
            png = folder / "png" / str(label) / f"{image_id}.png"
            png.parent.mkdir(parents=True, exist_ok=True)
            large = decode_image(encoded, FILE_PX, "stretch", _MOST_SIDE_PX).pixels
            Pillow.fromarray(large).save(png)
            images[row] = decode_image(png.read_bytes(), size_px, "stretch", _MOST_SIDE_PX).pixels
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    return Drawn(folder)
