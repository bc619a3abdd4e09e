"""Predictions with a trained network."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

from pipeline.core.progress import track
from pipeline.core.shapes import Images, Outputs
from pipeline.train.device import Compute, choose_compute, suit_network
from pipeline.train.models import Classifier, Description, load_model

BATCH = 256
"""Images that are predicted at a time. In batches of another size convolutions may round
differently, in the last digits of a float32."""


@torch.inference_mode()
def predict_batch(model: Classifier, images: Images, compute: Compute, tta: bool) -> Outputs:
    """The predictions of one batch, as float64.

    model: in evaluation mode. tta: the mean of the predictions over the square's eight
    symmetries.
    """
    batch = torch.from_numpy(images).to(compute.device).permute(0, 3, 1, 2)
    views = symmetries(batch) if tta else [batch]
    with compute.autocast():
        logits = torch.stack([model(view).float() for view in views])
    values: Outputs = model.activate(logits).mean(0).double().cpu().numpy()
    return values


def predict(
    model: Classifier,
    images: Images,
    rows: Int[ndarray, " rows"],
    compute: Compute,
    tta: bool,
) -> Outputs:
    """The predictions of the images at `rows`, in that order, in batches of BATCH."""
    model.eval()
    chunks = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    return np.concatenate(
        [
            predict_batch(model, images[chunk], compute, tta)
            for chunk in track(chunks, "predicting", len(chunks))
        ]
    )


@dataclass(frozen=True)
class TrainedNetwork:
    """A network on its device, which predicts as its weights file says."""

    model: Classifier
    description: Description
    compute: Compute

    def predict(self, images: Images) -> Outputs:
        """The predictions of a batch; of the same batch the bits of stage `train`."""
        torch.set_num_threads(self.description.threads)
        return predict_batch(self.model, images, self.compute, self.description.tta)


def load_network(path: Path, device: str) -> TrainedNetwork:
    """Read a weights file. Raises TrainError as load_model and choose_compute do."""
    model, description = load_model(path)
    compute = choose_compute(device, description.precision)
    size_px = description.decoding.shape[0]
    compute = suit_network(compute, description.precision, model, size_px)
    model = model.to(compute.device).to(memory_format=torch.channels_last)  # as fit.py trains it
    return TrainedNetwork(model, description, compute)


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
