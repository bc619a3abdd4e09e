"""Which part of a row counts for an output: Grad-CAM, and occlusion as its control.

Grad-CAM asks the gradients inside the network, occlusion only what comes out. Both are also made
with shuffled weights (Adebayo et al. 2018, arXiv:1810.03292): a map that stays the same then shows
the picture, or the shape of the network, and not what the network has learned.
"""

import copy
import math

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn
from torch.nn import functional

from pipeline.explain.network import BATCH, as_tensor
from pipeline.train.models import Classifier

Sides = tuple[int, int]
"""A height and a width; of signals 1 and a length."""

Map = Float[ndarray, "height width"]


def feature_maps(
    model: Classifier, layer: nn.Module, rows: Tensor
) -> tuple[Float[Tensor, "rows outputs"], Tensor]:
    """The outputs for rows, and the maps of a layer: (rows, channels, height, width)."""
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        kept.append(output)
        return output.clone()  # what follows may work in place

    hook = layer.register_forward_hook(keep)
    outputs = model(rows)
    hook.remove()
    return outputs, kept[-1]


def grad_cam(model: Classifier, layer: nn.Module, row: ndarray, place: int) -> Map:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) of one row and the output at a place.

    Each channel's map is weighted with the mean of the output's gradient over it; what lowers the
    output is cut off. The output is the one before the softmax or sigmoid. Of a signal's
    spectrogram it is the mean over its bands.
    """
    rows = as_tensor(row[None]).float().requires_grad_(True)
    outputs, maps = feature_maps(model, layer, rows)
    (gradient,) = torch.autograd.grad(outputs[0, place], maps)
    weights = gradient.flatten(2).mean(2).view(*gradient.shape[:2], *[1] * (gradient.ndim - 2))
    found = functional.relu((weights * maps).sum(1))[0].detach()
    found = found.view(-1, found.shape[-1])
    if rows.ndim == 3:
        found = found.mean(0, keepdim=True)
    return np.asarray(found.double().numpy())


@torch.no_grad()
def occlude(model: Classifier, row: ndarray, place: int, cells: Sides) -> Map:
    """How much an output falls where a grey patch covers the row (Zeiler and Fergus 2014,
    arXiv:1311.2901).

    The patch is twice as high and wide as a cell, and has the cell in its middle. place: of the
    prediction, so of classes it is the probability that falls. Grey is the mean of the training
    rows, which the network normalises to 0.
    """
    whole, grey = as_tensor(row[None]).float(), model.mean.view(-1)
    places = [(down, right) for down in range(cells[0]) for right in range(cells[1])]
    values = []
    for start in range(0, len(places), BATCH):
        part = [_covered(whole, grey, at, cells) for at in places[start : start + BATCH]]
        values.append(model.activate(model(torch.cat(part)))[:, place])
    before = model.activate(model(whole))[0, place]
    return np.asarray((before - torch.cat(values)).view(cells).double().numpy())


def _covered(row: Tensor, grey: Tensor, at: Sides, cells: Sides) -> Tensor:
    """The row with a patch around a cell."""
    sides = (1, *row.shape[2:])[-2:]
    down, right = (_span(at[axis], sides[axis] / cells[axis]) for axis in (0, 1))
    covered = row.clone()
    part = covered[:, :, down, right] if row.ndim == 4 else covered[:, :, right]
    part[:] = grey.view(1, -1, *[1] * (row.ndim - 2))
    return covered


def _span(at: int, cell: float) -> slice:
    start, end = (math.floor(edge * cell + 0.5) for edge in (at - 0.5, at + 1.5))
    return slice(max(0, start), end)


def shuffled(model: Classifier, rows: ndarray) -> Classifier:
    """The network with the numbers of each weight in another order, the same in every run.

    Its batch normalisation has the statistics of `rows` then: with those of the trained weights
    nothing but noise, or the same for all rows, would come out.
    """
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in other.network.parameters():
            order = torch.randperm(weight.numel(), generator=generator)
            weight.copy_(weight.flatten()[order].view_as(weight))
        for module in other.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
                module.reset_running_stats()
                module.momentum = None  # the mean of all batches: here one
                module.train()
        other(as_tensor(rows))
    return other.eval()


def on_grid(found: Map, cells: Sides) -> Float[ndarray, "down right"]:
    """A map on a grid: smoothly enlarged where the grid is finer, its mean in each cell else."""
    given = torch.from_numpy(found)[None, None]
    finer = [side if side >= cell else cell for side, cell in zip(found.shape, cells, strict=True)]
    if tuple(finer) != found.shape:
        given = functional.interpolate(given, finer, mode="bilinear", align_corners=False)
    return np.asarray(functional.adaptive_avg_pool2d(given, cells)[0, 0].numpy())


def rank_correlation(one: Map, other: Map) -> float | None:
    """Spearman's, with the mean rank for equal values; None where a map is the same everywhere."""
    ranks = [pd.Series(each.ravel().round(9)).rank().to_numpy() for each in (one, other)]
    if any(np.ptp(each) == 0 for each in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
