"""Receptive fields: which pixels of the picture each element of a tensor can see.

For each element the first and the last row and column that it depends on are kept in tensors of the
same shape. So what an operation does to fields is simple: what moves elements moves their fields,
what joins tensors unites them, a window unites those that it covers. Branches, groups of channels
and windows of tokens need nothing else. Where a window reaches over the edge of a regular grid, the
grid goes on there: that is the closed form of Araujo, Norris and Sim (Distill 2019,
doi:10.23915/distill.00021), whose fields may be larger than the picture.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_leaves, tree_map_only

from pipeline.core.record import Record

aten = torch.ops.aten

Edges = tuple[Tensor, ...]
"""The first row and column, then minus the last row and column: so the union of fields is the
minimum of each. Infinite where an element depends on no pixel."""


@dataclass(frozen=True)
class Seen:
    """The fields of a tensor's elements."""

    edges: Edges
    steps: tuple[float | None, float | None]
    """Rows and columns between neighbours on the grid that a window made, for grids of a single
    place; None where there is no grid."""

    @cached_property
    def distinct(self) -> Edges:
        """The edges without the repetitions that are none in memory, such as of all channels."""
        return tuple(
            edge[tuple(slice(0, 1 if step == 0 else None) for step in edge.stride())]
            for edge in self.edges
        )

    @cached_property
    def size(self) -> tuple[int, int]:
        """The largest height and width of a field."""
        top, left, bottom, right = self.distinct
        if not top.numel():
            return 0, 0
        sizes = [(-top - bottom).max(), (-left - right).max()]
        height, width = (int(each.clamp(min=-1)) + 1 for each in sizes)
        return height, width

    @property
    def start(self) -> tuple[int, int]:
        """The first row and column of all fields."""
        row, column = (int(edge.min().nan_to_num(posinf=0)) for edge in self.distinct[:2])
        return row, column

    def jump(self, axes: int) -> tuple[float, ...] | None:
        """Rows and columns from a field to the next one; None where they are not on a grid.

        axes: 2; or 1 for columns alone, where the picture is a signal.
        """
        jumps = [
            _spacing(edge) if step is not None and _spread(edge) else step
            for edge, step in zip(self.distinct[:2], self.steps, strict=True)
        ][-axes:]
        return None if None in jumps or 0 in jumps else tuple(filter(None, jumps))

    def sees_all_of(self, height: int, width: int) -> bool:
        """Whether each element depends on the whole picture."""
        whole = (0, 0, 1 - height, 1 - width)
        return all(bool((e <= most).all()) for e, most in zip(self.distinct, whole, strict=True))


def pixels(picture: Tensor) -> Seen:
    """The fields of a picture's own elements; a signal is a picture of one row."""
    height, width = picture.shape[-2] if picture.ndim == 4 else 1, picture.shape[-1]
    rows = torch.arange(height, dtype=torch.float32)[:, None].expand(picture.shape)
    columns = torch.arange(width, dtype=torch.float32).expand(picture.shape)
    return Seen((rows, columns, -rows, -columns), (1.0, 1.0))


class Window(Record):
    """A convolution, or the maximum or average of windows: height and width of each.

    Or, along a signal, the width alone.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def along(self, axes: int) -> "Window":
        """The same along the last axes alone."""
        sides = ("kernel", "stride", "padding", "dilation")
        return self.model_copy(update={side: getattr(self, side)[-axes:] for side in sides})

    @property
    def by_axis(self) -> list[tuple[int, int, int, int]]:
        """Kernel, stride, padding and dilation, downwards and to the right."""
        return list(zip(self.kernel, self.stride, self.padding, self.dilation, strict=True))


def window_of(func: Any, given: dict[str, Any], channels: int) -> Window | None:
    """The window of an operation; None for others, and for what enlarges.

    given: its arguments by name.
    """
    if func.overloadpacket == aten.convolution:
        weight = given["weight"]
        if given["transposed"] or not isinstance(weight, Tensor) or weight.ndim > 4:
            return None
        kernel, groups = list(weight.shape[2:]), given["groups"]
    elif func.overloadpacket in _POOLS:
        kernel, groups = given["kernel_size"], channels
    else:
        return None
    return Window(
        kernel=_pair(kernel, 1),
        stride=_pair(given["stride"] or kernel, 1),
        padding=_pair(given["padding"], 0),
        dilation=_pair(given.get("dilation", [1, 1]), 1),
        groups=groups,
    )


def _pair(values: Sequence[int], default: int) -> tuple[int, int]:
    """Height and width; of a row, which has one dimension alone, the height is the default."""
    return (values[0], values[1]) if len(values) == 2 else (default, values[0])


def follow(func: Any, given: dict[str, Any], results: list[Tensor]) -> list[Seen]:
    """The fields of an operation's results; of fewer of them where they are not known.

    given: its arguments by name, with Seen in the place of tensors that depend on the picture.
    """
    fields, shape = seen_in(given), results[0].shape
    name, first = func.overloadpacket, fields[0]
    if window := window_of(func, given, first.edges[0].shape[1] if len(shape) > 1 else 1):
        return [_windowed(first, window, shape)] * len(results)  # a maximum, and its place
    by_element = torch.Tag.pointwise in func.tags or name in _BY_ELEMENT
    alone = len(fields) == 1 and first.edges[0].shape == shape
    if alone and (by_element or name == aten.as_strided_):  # which changes the order in memory
        return [first]
    if rule := _RULES.get(name):
        found = [rule(given, shape)]
    elif name in _JOINS or (
        len(fields) == 1 and (name in _MOVES or (func.is_view and name != aten.as_strided))
    ):
        found = _moved(func, given)
    elif by_element:
        found = [_united(fields, shape)]
    else:
        return []
    if name in _PRODUCTS and len(fields) > 1:  # the fields depend on the place
        return [Seen(edges, (None, None)) for edges in found]
    return [_with_steps(edges, fields) for edges in found if edges]


def seen_in(given: dict[str, Any]) -> list[Seen]:
    """The fields among an operation's arguments."""
    return [each for each in tree_leaves(list(given.values())) if isinstance(each, Seen)]


def _with_steps(edges: Edges, fields: list[Seen]) -> Seen:
    """A single place has those of the places before it, unless several were brought together."""
    steps: list[float | None] = []
    for axis in (0, 1):
        before = {each.steps[axis] for each in fields}
        gathered = any(_spread(each.distinct[axis]) for each in fields) and not _spread(edges[axis])
        steps.append(None if gathered or len(before) > 1 else before.pop())
    return Seen(edges, (steps[0], steps[1]))


def _spread(edge: Tensor) -> bool:
    return edge.numel() > 0 and bool(edge.min() != edge.max())


def _spacing(edge: Tensor) -> float | None:
    """The distance between the values, where it is the same one for all."""
    finite = edge[edge.isfinite()].long()
    places = (finite - finite.min()).bincount().nonzero().flatten().diff()
    return float(places[0]) if len(places) and bool((places == places[0]).all()) else None


def _united(fields: list[Seen], shape: Sequence[int]) -> Edges:
    """Element by element, with PyTorch's broadcasting."""
    every = zip(*(each.distinct for each in fields), strict=True)
    return tuple(reduce(torch.minimum, edges).expand(shape) for edges in every)


def _moved(func: Any, given: dict[str, Any]) -> list[Edges]:
    """What is cut, repeated, put in another order or together."""
    if func.overloadpacket in (aten.view, aten._unsafe_view):
        return [tuple(edge.reshape(given["size"]) for edge in given["self"].edges)]
    if func.overloadpacket in _JOINS:  # a constant depends on no pixel
        given = tree_map_only(Tensor, lambda each: torch.full(each.shape, math.inf), given)
    by_edge = [
        tree_leaves(func(**tree_map_only(Seen, partial(_edge_of, place), given)))
        for place in range(4)
    ]
    return list(zip(*by_edge, strict=True))


def _edge_of(place: int, seen: Seen) -> Tensor:
    return seen.edges[place]


def _padded(seen: Seen, dim: int, before: int, after: int) -> tuple[Edges, float | None]:
    """The fields with more places at both ends of a dimension (fewer where negative).

    And how far the fields of neighbours there are from each other; None where there is no grid.
    """
    size = seen.edges[0].shape[dim]
    place = torch.arange(-before, size + after)
    inside = place.clamp(0, size - 1)
    beyond = (place - inside).view(-1, *[1] * (-dim - 1))
    moves = _moves(seen, dim)
    edges = tuple(edge.index_select(dim, inside) for edge in seen.edges)
    if moves is None:
        return tuple(edge.where(beyond == 0, math.inf) for edge in edges), None
    return tuple(e + beyond * move for e, move in zip(edges, moves, strict=True)), max(moves)


def _moves(seen: Seen, dim: int) -> list[float] | None:
    """How far each edge moves from a place to the next one; None where that differs."""
    if seen.edges[0].shape[dim] == 1:
        axis = dim + 2
        step = seen.steps[axis] if axis >= 0 else None
        return (
            None
            if step is None
            else [step * (k == axis) - step * (k == axis + 2) for k in range(4)]
        )
    steps = [edge.diff(dim=dim) for edge in seen.edges]
    if not all(bool((step == step.flatten()[0]).all()) for step in steps):
        return None
    return [float(step.flatten()[0]) for step in steps]


def _windowed(seen: Seen, window: Window, shape: Sequence[int]) -> Seen:
    edges, steps, sides = seen.edges, list(seen.steps), list(shape[2:])
    if all(edge.stride(1) == 0 for edge in edges):  # all channels see the same
        edges = tuple(edge[:, :1] for edge in edges)
    if len(sides) == 1:  # a row
        edges, sides = tuple(edge.unsqueeze(-2) for edge in edges), [1, *sides]
    for axis, (kernel, stride, padding, dilation) in enumerate(window.by_axis):
        reach = (sides[axis] - 1) * stride + (kernel - 1) * dilation + 1
        after = reach - padding - edges[0].shape[axis - 2]
        edges, move = _padded(Seen(edges, seen.steps), axis - 2, padding, after)
        steps[axis] = None if move is None else move * stride
    batch, channels, height, width = edges[0].shape
    groups = window.groups if channels > 1 else 1
    within = (batch, groups, channels // groups, height, width)
    apart = [edge.reshape(within).amin(2) for edge in edges]
    below = [
        -functional.max_pool2d(-edge, window.kernel, window.stride, 0, window.dilation)
        for edge in apart
    ]
    edges = tuple(
        edge.unsqueeze(2).expand(-1, -1, shape[1] // groups, -1, -1).reshape(shape)
        for edge in below
    )
    return Seen(edges, (steps[0], steps[1]))


def _reduced(given: dict[str, Any], _: Sequence[int]) -> Edges:
    """A mean, a maximum, a norm over some dimensions, or all."""
    edges, dims = given["self"].edges, given.get("dim")
    wanted = [dims] if isinstance(dims, int) else list(dims or range(edges[0].ndim))
    return tuple(edge.amin(wanted, keepdim=given.get("keepdim", False)) for edge in edges)


def _normalised(given: dict[str, Any], shape: Sequence[int]) -> Edges:
    """Softmax and layer norm: each element depends on all along some dimensions."""
    seen = given["input"] if "input" in given else given["self"]
    last = range(-len(given.get("normalized_shape", ())), 0)
    dims = list(last) or [given["dim"]]
    return tuple(edge.amin(dims, keepdim=True).expand(shape) for edge in seen.edges)


def _transformed(given: dict[str, Any], shape: Sequence[int]) -> Edges:
    """Fourier's: each frequency depends on all along one dimension, whose size it changes."""
    return tuple(
        edge.amin(given["dim"], keepdim=True).expand(shape) for edge in given["self"].edges
    )


def _group_normalised(given: dict[str, Any], shape: Sequence[int]) -> Edges:
    apart = (*shape[:1], given["group"], -1)
    return tuple(
        edge.reshape(apart).amin(2, keepdim=True).expand_as(edge.reshape(apart)).reshape(shape)
        for edge in given["input"].edges
    )


def _batch_normalised(given: dict[str, Any], _: Sequence[int]) -> Edges:
    """While it learns, an element depends on all others, and the field is not asked."""
    return () if given.get("training", False) else given["input"].edges


def _multiplied(given: dict[str, Any], shape: Sequence[int]) -> Edges:
    """Matrices: a row of the first one meets a column of the second one."""
    *added, first, second = [name for name in given if name in _MATRICES]
    along = {first: [-1], second: [-2]} | {name: [] for name in added}
    return _over(given, along, shape)


_MATRICES = ("self", "mat1", "mat2", "batch1", "batch2")


def _attended(given: dict[str, Any], shape: Sequence[int]) -> Edges:
    """Each token asks all tokens."""
    return _over(given, {"query": [-1], "key": [-1, -2], "value": [-1, -2]}, shape)


def _over(given: dict[str, Any], along: dict[str, list[int]], shape: Sequence[int]) -> Edges:
    """The union of several tensors, each along some of its dimensions."""
    parts = [
        Seen(tuple(e.amin(dims, keepdim=True) if dims else e for e in each.edges), each.steps)
        for name, dims in along.items()
        if isinstance(each := given[name], Seen)
    ]
    return _united(parts, shape)


def _extended(given: dict[str, Any], _: Sequence[int]) -> Edges:
    """A padding with a constant."""
    seen, pads = given["self"], given["pad"]
    for dim in range(len(pads) // 2):
        edges = _padded(seen, -1 - dim, pads[2 * dim], pads[2 * dim + 1])[0]
        seen = Seen(edges, seen.steps)
    return seen.edges  # type: ignore[no-any-return]


def _adapted(given: dict[str, Any], shape: Sequence[int]) -> Edges:
    """Pooling to a size."""
    edges = given["self"].edges
    return tuple(-functional.adaptive_max_pool2d(-edge, list(shape[-2:])) for edge in edges)


_POOLS = (aten.max_pool2d_with_indices, aten.avg_pool2d)
_PRODUCTS = (
    aten.mm,
    aten.addmm,
    aten.bmm,
    aten.baddbmm,
    aten._scaled_dot_product_flash_attention_for_cpu,
)
_JOINS = (aten.cat, aten.stack)
_MOVES = (
    aten._unsafe_view, aten.roll, aten.flip, aten.repeat, aten.index,
    aten.index_select, aten.gather, aten.pixel_shuffle, aten.pixel_unshuffle, aten.channel_shuffle,
    aten.upsample_nearest2d, aten.reflection_pad2d, aten.replication_pad2d,
)  # fmt: skip
_BY_ELEMENT = (aten._to_copy, aten.hardswish, aten.hardswish_, aten.masked_fill_, aten.copy_)
_RULES: dict[Any, Callable[[dict[str, Any], Sequence[int]], Edges]] = {
    **dict.fromkeys(
        (aten.mean, aten.sum, aten.amax, aten.amin, aten.max, aten.min, aten.var, aten.std,
         aten.var_mean, aten.linalg_vector_norm, aten.logsumexp), _reduced),
    **dict.fromkeys((aten._softmax, aten._safe_softmax, aten._log_softmax, aten.native_layer_norm,
                     aten._fused_rms_norm), _normalised),
    aten._fft_r2c: _transformed,
    aten.native_group_norm: _group_normalised,
    **dict.fromkeys((aten.native_batch_norm, aten._native_batch_norm_legit_no_training,
                     aten.cudnn_batch_norm), _batch_normalised),
    **dict.fromkeys(_PRODUCTS, _multiplied),
    aten._scaled_dot_product_flash_attention_for_cpu: _attended,
    aten.constant_pad_nd: _extended,
    **dict.fromkeys((aten._adaptive_avg_pool2d, aten.adaptive_max_pool2d), _adapted),
}  # fmt: skip
