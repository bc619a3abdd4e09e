"""A network's layers, each with its shape, its cost and its receptive field.

The network runs once, on one picture. What PyTorch then dispatches are operations, whatever module
or function asked for them, so that any network is read in the same way.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakTensorKeyDictionary

from pipeline.core.competition import Decoding, ImageDecoding, SignalDecoding
from pipeline.core.record import Record
from pipeline.train.field import Seen, Window, aten, follow, pixels, seen_in, window_of
from pipeline.train.kinds import blank

Sides = tuple[int, ...]
"""A height and a width; of a signal its length alone."""


class LayerField(Record):
    """The receptive field of a layer's elements, in pixels of the picture, or samples."""

    size: Sides
    """On a grid that goes on beyond the picture, where there is a jump; else within the picture."""
    jump: tuple[float, ...] | None
    """From an element to the next one; None where all see the same, or there is no grid."""
    offset: tuple[float, ...] | None
    """The centre of the first element's field; the first pixel's is 0."""
    share: float
    """The largest part of the picture that an element sees."""
    whole: bool
    """Whether each element sees the whole picture."""
    beyond: bool
    """Whether the size is larger than the picture."""


class Layer(Record):
    """An operation that has weights, or changes the receptive field."""

    name: str
    """The module that asked for it."""
    kind: str
    window: Window | None
    shape: list[int]
    """Of the output for one picture."""
    parameters: int
    multiplications: int
    field: LayerField | None
    """None where it is unknown."""
    dense: int | None
    """The parameters of a fully connected layer with the inputs and outputs of a convolution."""


class LayerTable(Record):
    """A network for one size of pictures, or length of signals."""

    network: str
    size_px: int | None
    length: int | None
    """The length of a signal, in samples."""
    outputs: int
    layers: list[Layer]
    parameters: int
    """All, those of normalisation too."""
    multiplications: int
    unknown: str | None
    """The operation from which on fields are unknown."""
    ended: dict[str, int]
    """How many of the layers had run when each module ended, by its name."""


@torch.no_grad()
def list_layers(network: nn.Module, title: str, decoding: Decoding) -> LayerTable:
    """The layers of a network, in the order in which it runs them on a picture decoded so."""
    running, ended = [""], dict[str, int]()

    def leave(*_: Any) -> None:
        ended[running.pop()] = len(reader.layers)

    hooks = []
    for name, module in network.named_modules():
        enter = partial(lambda name, *_: running.append(name), name)
        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    was_training = network.training
    picture = blank(decoding)
    reader = _Follower(picture, running, network)
    with reader:
        output = network.eval()(picture)
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return LayerTable(
        network=title,
        size_px=decoding.size_px if isinstance(decoding, ImageDecoding) else None,
        length=decoding.length if isinstance(decoding, SignalDecoding) else None,
        outputs=output.shape[-1],
        layers=reader.layers,
        parameters=sum(each.numel() for each in network.parameters()),
        multiplications=reader.multiplications,
        unknown=reader.unknown,
        ended=ended,
    )


@dataclass(frozen=True)
class _Lost:
    """The field of a tensor that an operation without a rule made, or one after it."""


class _Follower(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each layer while a network runs."""

    def __init__(self, picture: Tensor, running: list[str], network: nn.Module) -> None:
        """running: the names of the modules that run now, the innermost last."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.layers: list[Layer] = []
        self.multiplications = 0
        self.unknown: str | None = None
        self._running = running
        self._fixed = {each.untyped_storage().data_ptr() for each in network.buffers()}
        self._axes = picture.ndim - 2
        self._height, self._width = picture.shape[-2] if self._axes == 2 else 1, picture.shape[-1]
        self._fields: Any = WeakTensorKeyDictionary()
        self._fields[picture] = pixels(picture)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; else PyTorch imports its compiler, which takes two seconds."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given = tree_map_only(
            Tensor, lambda each: self._fields.get(each, each), _by_name(func, args, kwargs)
        )
        known, lost = seen_in(given), any(isinstance(each, _Lost) for each in tree_leaves(given))
        results = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        empty = not any(each.numel() for each in results)
        if not (known or lost) or empty or func.overloadpacket in _CONSTANTS:
            return result
        found: list[Seen | _Lost] = [] if lost else [*follow(func, given, results)]
        found += [_Lost()] * (len(results) - len(found))
        changes_a_part = torch.Tag.inplace in func.tags and len(known) > 1
        for tensor, field in zip(results, found, strict=True):
            fits = isinstance(field, Seen) and field.edges[0].shape == tensor.shape
            self._fields[tensor] = field if fits else _Lost()
            if changes_a_part and tensor._base is not None:
                self._fields[tensor._base] = _Lost()
        multiplications = 0
        if formula := flop_registry.get(func.overloadpacket):  # and an addition each
            multiplications = formula(*args, **kwargs, out_val=result) // 2
        operands = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        self._note(func, given, operands, results[0], multiplications)
        return result

    def _note(
        self,
        func: Any,
        given: dict[str, Any],
        operands: list[Tensor],
        output: Tensor,
        multiplications: int,
    ) -> None:
        """Add an operation to the layers, if it is one."""
        name, packet, field = self._running[-1], func.overloadpacket, self._fields[output]
        if not isinstance(field, Seen) and self.unknown is None:
            self.unknown = f"{packet.__name__} in {name or 'the network'}"
        self.multiplications += multiplications
        known, inputs = seen_in(given), operands[0]
        window = window_of(func, given, inputs.shape[1] if inputs.ndim > 1 else 1)
        grows = isinstance(field, Seen) and any(
            each is not field and each.size != field.size for each in known
        )
        if not (multiplications or window or grows):
            return
        weights = [
            each
            for each in tree_leaves(given)
            if isinstance(each, Tensor) and each.untyped_storage().data_ptr() not in self._fixed
        ]
        shape = list(output.shape[output.shape[0] == 1 :])
        pooled = window if packet != aten.convolution else None
        if self._axes == 1 and pooled and pooled.kernel[0] == 1 == shape[1]:
            shape = [shape[0], *shape[2:]]  # PyTorch pools a signal as a picture of one row
        self.layers.append(
            Layer(
                name=name,
                kind=_kind_of(packet, window, bool(weights), inputs.shape),
                window=window and window.along(max(self._axes, len(shape) - 1)),
                shape=shape,
                parameters=sum(each.numel() for each in weights) if multiplications else 0,
                multiplications=multiplications,
                field=self._describe(field) if isinstance(field, Seen) else None,
                dense=(inputs.numel() + 1) * output.numel() if window and weights else None,
            )
        )

    def _describe(self, seen: Seen) -> LayerField:
        height, width = self._height, self._width
        top, left, bottom, right = seen.distinct
        heights = ((-bottom).clamp(max=height - 1) - top.clamp(min=0) + 1).clamp(min=0)
        widths = ((-right).clamp(max=width - 1) - left.clamp(min=0) + 1).clamp(min=0)
        size, jump = seen.size, seen.jump(self._axes)
        if jump is None:
            size = int(heights.max()), int(widths.max())
        centre = [first + (side - 1) / 2 for first, side in zip(seen.start, size, strict=True)]
        return LayerField(
            size=size[-self._axes :],
            jump=jump,
            offset=None if jump is None else tuple(centre[-self._axes :]),
            share=float((heights * widths).max()) / (height * width),
            whole=seen.sees_all_of(height, width),
            beyond=size[0] > height or size[1] > width,
        )


_CONSTANTS = (
    aten.zeros_like, aten.ones_like, aten.full_like, aten.empty_like, aten.new_zeros,
    aten.new_ones, aten.new_full, aten.new_empty, aten.new_empty_strided,
)  # fmt: skip
"""What takes of a tensor only its shape."""


def _by_name(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """An operation's arguments, with its defaults, in their order."""
    given: dict[str, Any] = {}
    for place, each in enumerate(func._schema.arguments):
        if place < len(args):
            given[each.name] = args[place]
        elif each.name in kwargs or each.has_default_value():
            given[each.name] = kwargs.get(each.name, each.default_value)
    return given


_KINDS = {
    aten.max_pool2d_with_indices: "maximum",
    aten.avg_pool2d: "average",
    aten._fft_r2c: "Fourier transform",
    aten.mean: "average",
    aten._adaptive_avg_pool2d: "average",
    aten.amax: "maximum",
    aten.adaptive_max_pool2d: "maximum",
    aten.cat: "concatenation",
    aten.add: "sum",
    aten.add_: "sum",
    aten.mul: "product",
    aten.mul_: "product",
    aten._softmax: "softmax",
    aten.native_layer_norm: "normalisation",
    aten.native_group_norm: "normalisation",
    aten.var_mean: "normalisation",
    aten._scaled_dot_product_flash_attention_for_cpu: "attention",
}
"""Others have PyTorch's name."""


def _kind_of(packet: Any, window: Window | None, weighted: bool, inputs: torch.Size) -> str:
    if packet == aten.convolution:
        groups = window.groups if window else 1
        if groups == 1:
            return "convolution"
        return "depthwise" if groups == inputs[1] else f"convolution, {groups} groups"
    if packet in (aten.mm, aten.addmm, aten.bmm, aten.baddbmm):
        return "fully connected" if weighted else "product"
    return _KINDS.get(packet) or packet.__name__.strip("_")
