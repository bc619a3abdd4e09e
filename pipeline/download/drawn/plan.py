"""What drawn competitions share: random streams, whole groups in one split, copies, halves of test.

Each image has a random stream of its own, so that the same config gives the same bytes. (They may
differ between versions or builds of NumPy and OpenCV.)
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Int
from numpy import ndarray

from pipeline.core.errors import ConfigError
from pipeline.core.machine import cores
from pipeline.core.shapes import Image
from pipeline.download.config import DrawnCells, DrawnNuclei

_AT_ONCE = 64
"""Images that wait for threads: few, so that Ctrl-C waits for few."""


def stream(seed: int, *key: int) -> np.random.Generator:
    """One of many that know nothing of each other: a draw from one changes no other."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def deal_groups(
    rng: np.random.Generator, config: DrawnCells | DrawnNuclei
) -> tuple[list[str], list[str]]:
    """The names of the groups in train and in test, in proportion to the images.

    Raises ConfigError where a group would have no image.
    """
    many, count = config.groups
    images = config.train_images + config.test_images
    in_test = max(1, round(count * config.test_images / images))
    in_train = count - in_test
    splits = [("train", in_train, config.train_images), ("test", in_test, config.test_images)]
    for split, groups, room in splits:
        if groups > room:
            raise ConfigError(
                f"download.{many}: {count} {many} put {groups} of them into "
                f"{split}, where each needs an image, but download.{split}_images is {room}. "
                f"Use fewer {many} or more images"
            )
    names = [f"{many[0].upper()}{number:0{len(str(count))}}" for number in range(count)]
    shuffled = [names[place] for place in rng.permutation(count)]
    return shuffled[:in_train], shuffled[in_train:]


def count_images(rng: np.random.Generator, groups: int, images: int) -> Int[ndarray, " groups"]:
    """How many each group has: at least one, some a few times as many as others."""
    weights = rng.lognormal(0, 0.5, groups)
    return np.asarray(1 + rng.multinomial(images - groups, weights / weights.sum()))


def choose_copies(
    rng: np.random.Generator,
    config: DrawnCells | DrawnNuclei,
    ids: Sequence[str],
    keys: Sequence[Hashable],
    same: str,
) -> list[str]:
    """The id that each training row copies, or "": of an equal key, itself no copy.

    same: what the keys are. Raises ConfigError where fewer rows can be copies than should.
    """
    count, many = round(config.duplicates * len(ids)), config.groups[0]
    originals: dict[Hashable, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        originals[key].append(row)
    room = len(ids) - len(originals)
    if count > room:
        raise ConfigError(
            f"download.duplicates: {count} of the {len(ids)} training images should copy another "
            f"one of the same {same}, but at most {room} can with this many {many}. "
            f"Use fewer duplicates or {many}"
        )
    copies: list[int] = []
    for row in rng.permutation(len(ids)):
        if len(copies) < count and len(originals[keys[row]]) > 1:
            originals[keys[row]].remove(row)
            copies.append(int(row))
    copied = [""] * len(ids)
    for row in copies:
        copied[row] = str(ids[rng.choice(originals[keys[row]])])
    return copied


def choose_halves(rng: np.random.Generator, rows: int) -> list[str]:
    """Public for a random half of the rows, rounded down; Private for the others."""
    usage = np.repeat(["Public", "Private"], [rows // 2, rows - rows // 2])
    return [str(half) for half in rng.permutation(usage)]


def draw_pngs(
    rows: pd.DataFrame,
    seed: int,
    split: int,
    draw: Callable[[np.random.Generator, dict[Any, Any]], Image],
) -> Iterator[bytes]:
    """Draw each row's image, in the order of the rows; a copy gets its original's bytes.

    rows: columns id, duplicate_of, and what `draw` needs. split: the number of its streams. Each
    image has a stream of its own, so that threads draw the same ones in any order.
    """
    places = {image_id: place for place, image_id in enumerate(rows["id"])}

    def draw_png(record: dict[Any, Any]) -> bytes:
        place = places[record["duplicate_of"] or record["id"]]
        image = draw(stream(seed, split, place), record)
        _, png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        return png.tobytes()

    records = rows.to_dict("records")
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(records), _AT_ONCE):
            yield from pool.map(draw_png, records[start : start + _AT_ONCE])
