"""Draws a competition of stained tissue: small patches, and the area of the nucleus in the middle.

The files are those of the drawn cells (competition.py), with a number for a class and slides for
patients. The area is exact: the sum over all pixels of the share that the nucleus covers.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core.shapes import Image
from pipeline.core.tables import write_table
from pipeline.download.config import DrawnNuclei
from pipeline.download.drawn.files import write_images, write_tables
from pipeline.download.drawn.nuclei import Slide, cover, draw_nucleus, draw_patch, draw_slide
from pipeline.download.drawn.plan import (
    choose_copies,
    choose_halves,
    count_images,
    deal_groups,
    draw_pngs,
    stream,
)

TRUTH_COLUMNS = ["id", "split", "slide", "area", "duplicate_of"]
"""Columns of hidden/truth.csv, which no stage reads: one row for each image of train and test.

duplicate_of: the id that this image is a copy of, or empty.
"""

_PLAN, _SLIDES, _TRAIN, _TEST = range(4)
"""Random streams, all from the config's seed."""


def draw_patches(config: DrawnNuclei, raw: Path, hidden: Path) -> None:
    """Write to two empty folders. Raises ConfigError on too few images for slides or copies."""
    train, test, slides = _plan(config)
    for rows, number, name in ((train, _TRAIN, "train_data"), (test, _TEST, "test_data")):
        pngs = draw_pngs(rows, config.seed, number, partial(_draw_image, slides))
        write_images(raw / f"{name}.zip", list(rows["id"]), pngs, f"draw {name}")
    usage = choose_halves(stream(config.seed, _TEST), len(test))
    write_tables(raw, hidden, train[["id", "area", "slide"]], test.assign(Usage=usage))
    write_table(hidden / "truth.csv", pd.concat([train, test])[TRUTH_COLUMNS])


def _plan(config: DrawnNuclei) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Slide]]:
    """What is decided before anything is drawn: the truth of train and test, and the slides."""
    rng = stream(config.seed, _SLIDES)
    in_train, in_test = deal_groups(rng, config)
    slides = {name: draw_slide(rng) for name in in_train + in_test}
    rng = stream(config.seed, _PLAN)
    train = _draw_rows(rng, "train", {name: slides[name] for name in in_train}, config.train_images)
    test = _draw_rows(rng, "test", {name: slides[name] for name in in_test}, config.test_images)
    ids, keys = list(train["id"]), list(train["slide"])
    train["duplicate_of"] = choose_copies(rng, config, ids, keys, "slide")
    originals = train["duplicate_of"].where(train["duplicate_of"] != "", train["id"])
    drawn = train.set_index("id").loc[originals]
    for column in ("nucleus", "area"):
        train[column] = drawn[column].to_numpy()
    return train, test, slides


def _draw_rows(
    rng: np.random.Generator, split: str, slides: dict[str, Slide], images: int
) -> pd.DataFrame:
    """One row an image in random order; ids are row numbers, which reveal nothing."""
    order = rng.permutation(np.repeat(list(slides), count_images(rng, len(slides), images)))
    nuclei = [draw_nucleus(rng, slides[name]) for name in order]
    rows = pd.DataFrame({"id": [f"{split}_{row:05}" for row in range(images)]})
    rows["split"], rows["slide"] = split, order
    rows["nucleus"] = pd.Series(nuclei, dtype=object)
    rows["area"] = [round(float(cover(nucleus)[0].sum(dtype=np.float64)), 2) for nucleus in nuclei]
    rows["duplicate_of"] = ""
    return rows


def _draw_image(
    slides: dict[str, Slide], rng: np.random.Generator, record: dict[Any, Any]
) -> Image:
    return draw_patch(rng, slides[record["slide"]], record["nucleus"])
