"""A trained network that predicts one batch after the other, as the end of its training did."""

from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.core.shapes import Images, Probabilities
from pipeline.train.device import Compute
from pipeline.train.infer import symmetries
from pipeline.train.models import Classifier, load_model


@dataclass(frozen=True)
class TrainedNetwork:
    """A network on its device, in its precision."""

    model: Classifier
    classes: list[str]
    """In the order of the probabilities."""
    compute: Compute
    tta: bool
    """Predict the mean over the square's eight symmetries."""

    @torch.inference_mode()
    def predict(self, images: Images) -> Probabilities:
        """Class probabilities of a batch, as float64: the same bits as those of train.infer.

        So where the batches are the same; in batches of another size convolutions may round
        otherwise, in the last digits of a float32.
        """
        batch = torch.from_numpy(images).to(self.compute.device).permute(0, 3, 1, 2)
        views = symmetries(batch) if self.tta else [batch]
        with self.compute.autocast():
            logits = torch.stack([self.model(view).float() for view in views])
        found: Probabilities = logits.softmax(-1).mean(0).double().cpu().numpy()
        return found


def load_network(path: Path, compute: Compute, tta: bool) -> TrainedNetwork:
    """Read a weights file. Raises TrainError as load_model does."""
    model, classes = load_model(path)
    model = model.to(compute.device).to(
        memory_format=torch.channels_last
    )  # as pipeline/train/fit.py
    return TrainedNetwork(model, classes, compute, tta)
