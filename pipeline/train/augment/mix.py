"""Mixtures of two images or signals of a batch, and of their labels in the same shares.

mixup (Zhang et al. 2017, arXiv:1710.09412) is the weighted mean of both images; cutmix (Yun
et al. 2019, arXiv:1905.04899) puts a rectangle of the other image into the first, and of signals a
window of time. Each draws its own share, partner and box, from one generator on the CPU, whatever
the device.
"""

import numpy as np
import torch
from jaxtyping import Float, Num
from numpy import ndarray
from torch import Tensor

from pipeline.train.augment.operation import inside
from pipeline.train.config import Mix
from pipeline.train.transfer import send

Targets = Float[Tensor, "batch classes"]
"""A share for each class; they add up to 1."""


@torch.no_grad()
def mix(
    images: Num[Tensor, "batch channels *axes"], targets: Targets, config: Mix, seed: int
) -> tuple[Float[Tensor, "batch channels *axes"], Targets]:
    """New images and targets; the same seed draws the same.

    A target's shares are those of the pixels; of a cutmix box only the part in the picture counts.
    """
    rng = np.random.default_rng(seed)
    batch, side, axes = len(images), images.shape[-1], images.ndim - 2
    share = np.where(rng.random(batch) < config.p, rng.beta(config.alpha, config.alpha, batch), 1.0)
    box = _boxes(rng, share, side, axes)
    if config.kind == "cutmix":
        share = 1 - (box[axes:] - box[:axes]).prod(0) / side**axes
    numbers = np.concatenate([[rng.permutation(batch), share], box], dtype=np.float32)
    drawn = send(numbers, images.device)
    others, own = drawn[0].long(), drawn[1]
    images = images.float()
    other_images = images.index_select(0, others)
    if config.kind == "mixup":
        mixed = torch.lerp(other_images, images, own.view(-1, *[1] * (images.ndim - 1)))
    else:
        mixed = torch.where(inside(drawn[2:], side)[:, None], other_images, images)
    return mixed, torch.lerp(targets.index_select(0, others), targets, own[:, None])


def _boxes(
    rng: np.random.Generator, share: Float[ndarray, " batch"], side: int, axes: int
) -> Float[ndarray, "edges batch"]:
    """As `inside` takes them, in pixels: 1 - share of the picture, cut at its edges."""
    size = (side * (1 - share) ** (1 / axes)).astype(int)
    middle = rng.integers(side, size=(axes, len(share)))
    edges = np.concatenate([middle - size // 2, middle + size // 2]).clip(0, side)
    return edges.astype(np.float64)
