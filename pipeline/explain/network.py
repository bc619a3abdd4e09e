"""The layers of a trained network that are worth a look, and what they give.

Nothing here knows a network's family: it runs once, and what its modules give says which of them
are maps, which one the first weights belong to and which one the last.
"""

import difflib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor, nn

from pipeline.core.errors import TrainError, short_list
from pipeline.scoring.seen import Box, FieldGrid
from pipeline.train.layers import LayerTable
from pipeline.train.networks.spectrogram import OnSpectrogram

BATCH = 64
"""Rows that run at a time."""


@dataclass(frozen=True)
class Ran:
    """A module that has run."""

    name: str
    module: nn.Module
    given: tuple[int, ...]
    """The shape of its first input for one row; () where that is no tensor."""
    shape: tuple[int, ...]
    """The shape of its output; () where that is no tensor."""
    same: bool
    """Whether it gave what the module that ran before it gave, unchanged."""


def list_runs(network: nn.Module, rows: Tensor) -> list[Ran]:
    """The modules of a network, in the order in which they end. rows: one row of a batch."""
    found: list[Ran] = []
    last: tuple[Any, int] = (None, 0)
    names = {module: name for name, module in network.named_modules()}

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal last
        given = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
        shape: tuple[int, ...] = ()
        same = False
        if isinstance(output, Tensor):
            shape = tuple(output.shape[1:])
            same = output is last[0] and output._version == last[1]
            last = (output, output._version)
        of_input = () if given is None else tuple(given.shape[1:])
        found.append(Ran(names[module], module, of_input, shape, same))

    hooks = [module.register_forward_hook(note) for module in names]
    with torch.no_grad():
        network(rows)
    for hook in hooks:
        hook.remove()
    return found


@dataclass(frozen=True)
class MapModule:
    """A module that gives maps, with the receptive field of its units."""

    name: str
    module: nn.Module
    channels: int
    sides: tuple[int, int]
    field: FieldGrid | None


def find_maps(runs: list[Ran], table: LayerTable, dims: int) -> list[MapModule]:
    """The last module of each size of maps that is no convolution itself: what follows it, such as
    its normalisation, belongs to it.

    dims: 2 for images, whose maps are square, 1 for signals, whose maps have time as their last or
    only axis. Empty where places are mixed by attention: what stands at a place there need not come
    from it.
    """
    if any(layer.kind in _ATTENTION for layer in table.layers):
        return []
    last = {ran.shape[1:]: place for place, ran in enumerate(runs) if _is_map(ran, dims)}
    return [map_module(runs, table, place, dims) for place in sorted(last.values())]


_ATTENTION = ("attention", "softmax")


def _is_map(ran: Ran, dims: int, any_module: bool = False) -> bool:
    """any_module: a convolution, and what changes nothing, too."""
    sides = ran.shape[1:]
    passed_over = ran.same or isinstance(ran.module, nn.Conv1d | nn.Conv2d)
    if passed_over and not any_module:
        return False
    of_row = len(sides) in (1, 2) if dims == 1 else len(sides) == 2 and sides[0] == sides[1]
    return of_row and sides[-1] > 1


def stage_runs(network: nn.Module, runs: list[Ran]) -> list[Ran]:
    """The runs that may give maps: of a spectrogram those that end a stage, as its pictures are not
    square, by which maps are told from what has channels or tokens in the place of a side."""
    if not isinstance(network, OnSpectrogram):
        return runs
    return [replace(ran, same=False) for ran in runs if ran.name in network.stages]


def named_map(runs: list[Ran], table: LayerTable, dims: int, name: str) -> MapModule:
    """The maps of a module. Raises TrainError, with names that are near, for one without maps."""
    known = {ran.name: place for place, ran in enumerate(runs) if _is_map(ran, dims, True)}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)[:3]
        raise TrainError(
            f"--layer: expected a layer that gives maps, found {name!r}; "
            f"{f'near ones: {short_list(near)}' if near else 'this network has none'}"
        )
    return map_module(runs, table, known[name], dims)


def map_module(runs: list[Ran], table: LayerTable, place: int, dims: int) -> MapModule:
    """A module that has run, as what gives maps; of signals along time alone."""
    ran = runs[place]
    sides = ran.shape[1:]
    run = table.layers[: table.ended[ran.name]]
    before = [layer.field for layer in run if tuple(layer.shape[1:]) == sides]
    field = before[-1] if before else None
    grid = None
    if field and field.jump and field.offset:
        size, jump = _on_both_axes(field.size, 1.0), _on_both_axes(field.jump, 1.0)
        grid = FieldGrid(size=size, jump=jump, offset=_on_both_axes(field.offset, 0.0))
    height, width = (1, *sides[-dims:])[-2:]
    return MapModule(ran.name, ran.module, ran.shape[0], (height, width), grid)


def _on_both_axes(
    values: tuple[int, ...] | tuple[float, ...], of_height: float
) -> tuple[float, float]:
    """A signal is one high."""
    height, width = (of_height, *map(float, values))[-2:]
    return height, width


def field_box(grid: FieldGrid, unit: tuple[int, int], sides: tuple[int, int]) -> Box:
    """What a unit sees, cut at the edges of a row. sides: the row's height and width."""
    ends = []
    for axis in (0, 1):
        centre = grid.offset[axis] + unit[axis] * grid.jump[axis]
        first, last = centre - (grid.size[axis] - 1) / 2, centre + (grid.size[axis] - 1) / 2
        ends.append((max(0.0, first), min(float(sides[axis]), last + 1)))
    (top, bottom), (left, right) = ends
    return Box(top=top, left=left, bottom=bottom, right=right)


def last_layer(runs: list[Ran]) -> nn.Module:
    """The module whose weights give the outputs: what it is given is the last hidden layer."""
    weighted = [ran for ran in runs if not list(ran.module.children()) and _has_weights(ran.module)]
    return weighted[-1].module


@dataclass(frozen=True)
class FirstLayer:
    """A layer with the weights that meet the pixels."""

    name: str
    weight: Tensor


def first_layer(runs: list[Ran], row: tuple[int, ...]) -> FirstLayer | None:
    """What meets the pixels: a convolution, or a layer with a weight for each of them; else None.

    row: the shape of a row, channels first. What comes before may add channels, as a signal's
    differences, but leaves each value at its place.
    """
    for ran in runs:
        module = ran.module
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            return FirstLayer(ran.name, module.weight) if ran.given[1:] == row[1:] else None
        if isinstance(module, nn.Linear):
            fits = module.in_features == torch.Size(row).numel()
            return FirstLayer(ran.name, module.weight) if fits else None
    return None


def _has_weights(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim > 1


def as_tensor(rows: ndarray) -> Tensor:
    """Rows of the store as a network takes them."""
    return torch.from_numpy(np.array(rows)).movedim(-1, 1)


@torch.no_grad()
def hidden_features(
    model: nn.Module, layer: nn.Module, rows: ndarray, places: Int[ndarray, " some"]
) -> Float[Tensor, "some features"]:
    """What the last layer is given for the rows at these places."""
    kept: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        kept.append(inputs[0].flatten(1).clone())

    hook = layer.register_forward_pre_hook(keep)
    for start in range(0, len(places), BATCH):
        model(as_tensor(rows[places[start : start + BATCH]]))
    hook.remove()
    return torch.cat(kept)
