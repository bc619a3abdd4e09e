"""The networks of timm: built for the images' size, from fresh, published or a file's weights.

Many take images of one size only, unless they are built for another with `img_size`; some have
a patch or window that must divide it, a least size, or one size and no other. Which sizes a
network takes is asked of itself, on PyTorch's device `meta`, where nothing is computed.
"""

import difflib
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.core.errors import TrainError, examples
from pipeline.train.head import head_names, is_of_head
from pipeline.train.networks.config import TimmNetwork

_STEPS_PX = (14, 16)
"""The sizes that are tried for a hint are multiples of these, as timm's patches and windows are."""

MISFIT = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What timm's networks raise for a size, an argument or weights that they do not take."""

_LOADING = "Error(s) in loading state_dict"
"""How PyTorch begins what it says of weights that do not fit."""


def build_timm(config: TimmNetwork, classes: int, size_px: int, channels: int) -> Any:
    """A network of timm with `classes` outputs for images of `size_px`, of so many channels.

    Weights that belong to another form are adapted as timm does it: tables of positions are
    resampled, and for grey a first layer's weights of red, green and blue are added. Raises
    TrainError for a name that timm does not know, a size that the network cannot take, and weights
    that cannot be had or do not fit.
    """
    import timm  # 4.5 s: only for those who use it

    if not timm.is_model(config.name):
        close = difflib.get_close_matches(config.name, timm.list_models(), n=3)
        raise TrainError(
            f"network: timm has no model {config.name!r}; close names: {', '.join(close) or 'none'}"
        )
    arguments = _arguments_for(config.name, size_px, channels)
    if arguments is None:
        raise TrainError(f"network: {_say_sizes(config.name, size_px, channels)}")
    arguments = arguments | {"num_classes": classes, "drop_rate": config.dropout}
    arguments |= _drop_path_for(config, arguments.get("img_size"))
    try:
        network: Any = timm.create_model(config.name, pretrained=config.pretrained, **arguments)
    except (OSError, RuntimeError, ValueError) as error:  # what the hub's client raises
        reason = " ".join(str(error).split())[:300]
        if _LOADING in reason and "img_size" in arguments:
            raise TrainError(f"network: {_say_other_size(config.name, size_px)}") from error
        raise TrainError(
            f"network: {config.name}: its pretrained weights cannot be downloaded: "
            f"{type(error).__name__}: {reason}. "
            "Offline, set `pretrained: false`, or `weights` to a local .safetensors file"
        ) from error
    if config.weights is not None:
        config.weights.check()
        _load_backbone(network, config.name, Path(config.weights.file), arguments)
    return network


@cache
def _arguments_for(name: str, size_px: int, channels: int) -> dict[str, Any] | None:
    """What timm must be told so that a network takes images of this form; None: it takes none."""
    told = {} if channels == 3 else {"in_chans": channels}
    for side in (None, size_px):
        try:
            network = _build_empty(name, side, channels)
            outputs = network(torch.zeros(2, channels, size_px, size_px, device="meta"))
        except MISFIT:
            continue
        if not isinstance(outputs, Tensor) or outputs.shape != (2, 2):
            return None
        if side is None:
            return told
        if not _cuts_off(network, size_px):
            return told | {"img_size": size_px}
    return None


def _drop_path_for(config: TimmNetwork, side: int | None) -> dict[str, float]:
    """What timm must be told of stochastic depth. Raises TrainError where a network has none."""
    if config.drop_path is None:
        return {}
    if _takes_drop_path(config.name, side):
        return {"drop_path_rate": config.drop_path}
    if config.drop_path == 0:
        return {}
    raise TrainError(
        f"network: {config.name} has no stochastic depth: expected `drop_path: null` or 0, found "
        f"{config.drop_path}"
    )


@cache
def _takes_drop_path(name: str, side: int | None) -> bool:
    """Whether a network has blocks that a rate makes skip; some take the argument and ignore it."""
    try:
        network = _build_empty(name, side, drop_path=0.5)
    except MISFIT:
        return False
    return any(getattr(module, "drop_prob", 0) for module in network.modules())


def _cuts_off(network: nn.Module, size_px: int) -> bool:
    """Whether the last pixels of an image are in no patch."""
    patch: Any = getattr(getattr(network, "patch_embed", None), "patch_size", 1)
    return any(size_px % side for side in (patch if isinstance(patch, tuple | list) else [patch]))


@lru_cache(maxsize=2)
def _build_empty(
    name: str, side: int | None, channels: int = 3, drop_path: float | None = None
) -> nn.Module:
    """The shapes of a network with two outputs, without values; no random number is drawn."""
    import timm

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        # timm leaves out an argument that is None.
        network: nn.Module = timm.create_model(
            name,
            num_classes=2,
            drop_rate=0.0,
            img_size=side,
            drop_path_rate=drop_path,
            in_chans=channels,
        )
    return network


def _say_sizes(name: str, size_px: int, channels: int) -> str:
    """A sentence with the nearest sizes that a network takes, instead of one that it does not."""
    own_px = _own_size(name)
    if _arguments_for(name, own_px, channels) is None:
        return f"timm's {name} is no classifier of images, so it cannot be trained. Choose another"
    most_px = max(own_px, 2 * size_px)
    sizes = {own_px}.union(*(range(step, most_px + 1, step) for step in _STEPS_PX))
    lower = (each for each in sorted(sizes, reverse=True) if each < size_px)
    higher = (each for each in sorted(sizes) if each > size_px)
    nearest = [
        next((each for each in side if _arguments_for(name, each, channels) is not None), None)
        for side in (lower, higher)
    ]
    taken = " or ".join(str(each) for each in nearest if each is not None)
    return (
        f"{name}, published for {own_px} px, cannot take images of {size_px} px; the nearest that "
        f"it takes: set prepare.size_px to {taken}"
    )


def _say_other_size(name: str, size_px: int) -> str:
    own_px = _own_size(name)
    return (
        f"{name}: its published weights are for images of {own_px} px and do not fit one of "
        f"{size_px} px: set prepare.size_px to {own_px}, or `pretrained: false`"
    )


def _own_size(name: str) -> int:
    """The side of the images that a network was published for."""
    import timm

    published: Any = timm.get_pretrained_cfg(name)
    side: int = published.input_size[-1]
    return side


def _load_backbone(network: Any, name: str, path: Path, arguments: dict[str, Any]) -> None:
    """Load all but a classifier of another size; timm itself only logs tensors that do not fit.

    Where names or shapes differ, timm adapts the tensors to the network as it does its own.
    """
    try:
        found = load_file(path)
    except SafetensorError as error:
        raise TrainError(f"network: weights: {path} is no safetensors file: {error}") from error
    own = network.state_dict()
    heads = head_names(network)
    other = {each for each in own if each in found and found[each].shape != own[each].shape}
    missing = set(own) - set(found)
    fresh = {each for each in other | missing if is_of_head(each, heads)}
    problems = {
        "has no tensor": missing - fresh,
        "has unknown tensors": set(found) - set(own),
        "has other shapes": other - fresh,
    }
    tensors = found | {each: own[each] for each in fresh}
    if any(problems.values()):
        adapted = None if missing - fresh else _adapt(name, tensors, arguments)
        if adapted is None:
            problem, names = next(item for item in problems.items() if item[1])
            raise TrainError(
                f"network: weights: {path} is not of this network: it {problem} for {len(names)} "
                f"of {len(own)} {examples(sorted(names))}{_hint(name, arguments)}"
            )
        tensors = adapted
    network.load_state_dict(tensors)


def _adapt(
    name: str, tensors: dict[str, Tensor], arguments: dict[str, Any]
) -> dict[str, Tensor] | None:
    """The tensors as timm loads them into a network of another size; None: it cannot."""
    import timm

    # With the classifier of the network, and their number of classes, timm leaves nothing out.
    overlay = {"state_dict": tensors, "source": "", "num_classes": arguments["num_classes"]}
    try:
        with torch.random.fork_rng(devices=[]):
            network: nn.Module = timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay=overlay, **arguments
            )
    except MISFIT:
        return None
    return network.state_dict()


def _hint(name: str, arguments: dict[str, Any]) -> str:
    own_px = _own_size(name)
    if arguments.get("img_size", own_px) == own_px:
        return ""
    return f". Published weights are for images of {own_px} px: try prepare.size_px: {own_px}"
