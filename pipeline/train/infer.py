"""Predictions with a trained network."""

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

from pipeline.core.progress import track
from pipeline.core.shapes import Images, Probabilities
from pipeline.train.device import Compute
from pipeline.train.models import Classifier

_BATCH = 256


@torch.inference_mode()
def predict(
    model: Classifier,
    images: Images,
    rows: Int[ndarray, " rows"],
    compute: Compute,
    tta: bool,
) -> Probabilities:
    """Class probabilities of the images at `rows`, in that order, as float64.

    tta: the mean of the probabilities over the square's eight symmetries.
    """
    model.eval()
    chunks = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    found = []
    for chunk in track(chunks, "predicting", len(chunks)):
        batch = torch.from_numpy(images[chunk]).to(compute.device).permute(0, 3, 1, 2)
        views = symmetries(batch) if tta else [batch]
        with compute.autocast():
            logits = torch.stack([model(view).float() for view in views])
        found.append(logits.softmax(-1).mean(0).double().cpu().numpy())
    return np.concatenate(found)


def symmetries(
    images: UInt8[Tensor, "batch 3 side side"],
) -> list[UInt8[Tensor, "batch 3 side side"]]:
    """The images under the eight symmetries of the square, the identity first."""
    turned = [torch.rot90(images, turns, (2, 3)) for turns in range(4)]
    return [*turned, *(view.flip(3) for view in turned)]


def mean_and_std(
    images: Images, rows: Int[ndarray, " rows"]
) -> tuple[Float[ndarray, " 3"], Float[ndarray, " 3"]]:
    """Mean and standard deviation of each colour channel over `rows`, in grey levels."""
    counts = np.zeros((3, 256), np.int64)
    for start in range(0, len(rows), 1024):
        chunk = images[rows[start : start + 1024]]
        for channel in range(3):
            counts[channel] += np.bincount(chunk[..., channel].ravel(), minlength=256)
    levels = np.arange(256)
    mean = (counts * levels).sum(1) / counts.sum(1)
    variance = (counts * levels**2).sum(1) / counts.sum(1) - mean**2
    return mean, np.sqrt(np.maximum(variance, 1.0))
