"""What a network learns by, for each task, and the predictions that its outputs stand for.

task     outputs                loss                                  predictions
one_of   logits                 cross-entropy                         softmax
any_of   logits                 mean binary cross-entropy             sigmoid
number   standardised numbers   mean squared error, standardised      numbers
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from pipeline.core.shapes import Labels
from pipeline.core.task import AnyOf, OneOf, Task

RawOutputs = Float[Tensor, "batch outputs"]

Targets = Int[Tensor, " batch"] | Float[Tensor, "batch outputs"]
"""Class indices, or shares of each class; 0 and 1 of each label; standardised numbers."""


def targets_of(labels: Labels, offset: Tensor, spread: Tensor) -> Labels:
    """The labels as targets; offset, spread: the scale of numbers."""
    if labels.ndim == 1:
        return labels
    if labels.dtype == bool:
        return labels.astype(np.float32)
    return np.asarray((labels - offset.cpu().numpy()) / spread.cpu().numpy(), np.float32)


def loss_of(outputs: RawOutputs, targets: Targets, task: Task, smoothing: float) -> Tensor:
    """The mean over the batch. smoothing: the share of each label that is given to the others."""
    if isinstance(task, OneOf):
        return functional.cross_entropy(outputs, targets, label_smoothing=smoothing)
    if isinstance(task, AnyOf):
        softened = targets * (1 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(outputs, softened)
    return functional.mse_loss(outputs, targets)


def count_right(outputs: RawOutputs, targets: Targets, task: Task) -> Tensor:
    """How many rows are right; of a mixture the class with the larger share counts."""
    if isinstance(task, OneOf):
        labels = targets if targets.ndim == 1 else targets.argmax(1)
        return (outputs.argmax(1) == labels).sum()
    return ((outputs >= 0) == (targets >= 0.5)).all(1).sum()


def activate(outputs: Tensor, task: Task, offset: Tensor, spread: Tensor) -> Tensor:
    """The predictions; offset, spread: the scale of numbers."""
    if isinstance(task, OneOf) and task.merged:
        share = torch.from_numpy(task.share_learned).to(outputs)
        return outputs.softmax(-1)[..., task.place_learned] * share
    if isinstance(task, OneOf):
        return outputs.softmax(-1)
    return outputs.sigmoid() if isinstance(task, AnyOf) else outputs * spread + offset
