"""What training does to images after their augmentation: symmetries in turn, and smaller sizes."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int, Num
from numpy import ndarray
from torch import Tensor
from torch.nn import functional

from pipeline.train.transfer import send

SYMMETRIES = 8
"""Of the square: 0 to 3 quarter turns, and the same mirrored."""


def turn_each(
    images: Num[Tensor, "batch 3 side side"], symmetries: Int[ndarray, " batch"]
) -> Num[Tensor, "batch 3 side side"]:
    """New images, each under its own symmetry."""
    side = images.shape[-1]
    sources = _sources(side)[symmetries]
    places = send(sources, images.device)[:, None].expand(-1, 3, -1)
    return images.flatten(2).gather(2, places).view_as(images)


@lru_cache(maxsize=1)
def orders(rows: int, cycle: int, seed: int) -> Int[ndarray, "rows symmetries"]:
    """The order in which each row is shown in all symmetries, in that cycle of eight epochs."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, 3, cycle)))
    return rng.permuted(np.tile(np.arange(SYMMETRIES), (rows, 1)), axis=1)


def shrink(images: Num[Tensor, "batch 3 side side"], side: int) -> Float[Tensor, "batch 3 to to"]:
    """Images of a smaller side, as the mean of the pixels that one covers."""
    return functional.interpolate(
        images.float(), (side, side), mode="bilinear", antialias=True, align_corners=False
    )


def _sources(side: int) -> Int[ndarray, "symmetries pixels"]:
    """For each symmetry the pixel that each pixel of the result shows."""
    pixels = np.arange(side * side).reshape(side, side)
    turned = [np.rot90(pixels, turns) for turns in range(4)]
    return np.stack([view.ravel() for view in (*turned, *(view[:, ::-1] for view in turned))])
