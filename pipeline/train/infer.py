"""Predictions with a trained network."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray

from pipeline.core.progress import track
from pipeline.core.shapes import Outputs, Packed
from pipeline.train.device import Compute, choose_compute, suit_network
from pipeline.train.kinds import kind_of
from pipeline.train.models import Classifier, Description, load_model
from pipeline.train.world import ALONE, World

BATCH = 256
"""Images or signals that are predicted at a time. In batches of another size convolutions may round
differently, in the last digits of a float32."""


@torch.inference_mode()
def predict_batch(model: Classifier, packed: Packed, compute: Compute, tta: bool) -> Outputs:
    """The predictions of one batch, as float64.

    model: in evaluation mode. tta: the mean of the predictions over all views of the
    rows (kinds.py).
    """
    batch = torch.from_numpy(packed).to(compute.device).movedim(-1, 1)
    views = kind_of(batch).views(batch) if tta else [batch]
    with compute.autocast():
        logits = torch.stack([model(view).float() for view in views])
    values: Outputs = model.activate(logits).mean(0).double().cpu().numpy()
    return values


def predict(
    model: Classifier,
    packed: Packed,
    rows: Int[ndarray, " rows"],
    compute: Compute,
    tta: bool,
    world: World = ALONE,
) -> Outputs:
    """The predictions of the images or signals at `rows`, in that order, in batches of BATCH.

    world: the processes that share the batches; each returns all predictions.
    """
    model.eval()

    def work(chunks: list[ndarray]) -> list[Outputs]:
        said = track(chunks, "predicting", len(chunks))
        return [predict_batch(model, packed[chunk], compute, tta) for chunk in said]

    chunks = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    return np.concatenate(world.share_out(chunks, work))


@dataclass(frozen=True)
class TrainedNetwork:
    """A network on its device, which predicts as its weights file says."""

    model: Classifier
    description: Description
    compute: Compute

    def predict(self, packed: Packed) -> Outputs:
        """The predictions of a batch; of the same batch the bits of stage `train`."""
        torch.set_num_threads(self.description.threads)
        return predict_batch(self.model, packed, self.compute, self.description.tta)


def load_network(path: Path, device: str) -> TrainedNetwork:
    """Read a weights file. Raises TrainError as load_model and choose_compute do."""
    model, description = load_model(path)
    compute = choose_compute(device, description.precision)
    compute = suit_network(compute, description.precision, model, description.decoding)
    model = model.to(compute.device).to(memory_format=torch.channels_last)  # as fit.py trains it
    return TrainedNetwork(model, description, compute)
