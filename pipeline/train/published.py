"""The networks of timm: built for the pictures' size, from fresh, published or a file's weights."""

import difflib
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.core.errors import TrainError, examples
from pipeline.train.head import head_names, is_of_head
from pipeline.train.networks.config import PublishedNetwork
from pipeline.train.sizes import (
    MISFIT,
    PictureSize,
    Sides,
    arguments_for,
    build_empty,
    own_size,
    say_sizes,
)

_LOADING = "Error(s) in loading state_dict"
"""How PyTorch begins what it says of weights that do not fit."""


def build_timm(config: PublishedNetwork, classes: int, size: PictureSize) -> Any:
    """A network of timm with `classes` outputs for pictures of that size.

    Weights that belong to another size are adapted as timm does it: tables of positions are
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
    arguments = arguments_for(config.name, size.sides, size.channels)
    if arguments is None:
        raise TrainError(f"network: {say_sizes(config.name, size)}")
    arguments = arguments | {"num_classes": classes, "drop_rate": config.dropout}
    arguments |= _drop_path_for(config, arguments.get("img_size"))
    try:
        network: Any = timm.create_model(config.name, pretrained=config.pretrained, **arguments)
    except (OSError, RuntimeError, ValueError) as error:  # what the hub's client raises
        reason = " ".join(str(error).split())[:300]
        if _LOADING in reason and "img_size" in arguments:
            own_px = own_size(config.name)
            raise TrainError(
                f"network: {config.name}: its published weights are for images of {own_px} px and "
                f"do not fit {size}: {size.remedy(own_px)}, or `pretrained: false`"
            ) from error
        raise TrainError(
            f"network: {config.name}: its pretrained weights cannot be downloaded: "
            f"{type(error).__name__}: {reason}. "
            "Offline, set `pretrained: false`, or `weights` to a local .safetensors file"
        ) from error
    if config.weights is not None:
        config.weights.check()
        _load_backbone(network, config.name, Path(config.weights.file), arguments, size)
    return network


def _drop_path_for(config: PublishedNetwork, img_size: int | Sides | None) -> dict[str, float]:
    """What timm must be told of stochastic depth. Raises TrainError where a network has none."""
    if config.drop_path is None:
        return {}
    if _takes_drop_path(config.name, img_size):
        return {"drop_path_rate": config.drop_path}
    if config.drop_path == 0:
        return {}
    raise TrainError(
        f"network: {config.name} has no stochastic depth: expected `drop_path: null` or 0, found "
        f"{config.drop_path}"
    )


@cache
def _takes_drop_path(name: str, img_size: int | Sides | None) -> bool:
    """Whether a network has blocks that a rate makes skip; some take the argument and ignore it."""
    try:
        network = build_empty(name, img_size, drop_path=0.5)
    except MISFIT:
        return False
    return any(getattr(module, "drop_prob", 0) for module in network.modules())


def _load_backbone(
    network: Any, name: str, path: Path, arguments: dict[str, Any], size: PictureSize
) -> None:
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
                f"of {len(own)} {examples(sorted(names))}{_hint(name, arguments, size)}"
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


def _hint(name: str, arguments: dict[str, Any], size: PictureSize) -> str:
    own_px = own_size(name)
    if arguments.get("img_size", own_px) == own_px:
        return ""
    return f". Published weights are for images of {own_px} px: {size.remedy(own_px)}"
