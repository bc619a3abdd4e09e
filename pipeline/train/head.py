"""The classifier of a network of timm, its head, and the body below it, while it is frozen."""

from typing import Any

from torch import nn

from pipeline.core.errors import TrainError


def head_names(network: Any) -> list[str]:
    """The modules that are the classifier, as timm names them: two in a distilled network."""
    named = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    return [named] if isinstance(named, str) else list(named)


def is_of_head(name: str, heads: list[str]) -> bool:
    """Whether a tensor or module of that name is of the classifier."""
    return any(f"{name}.".startswith(f"{head}.") for head in heads)


def find_head(network: nn.Module, parameter: str) -> nn.ModuleList:
    """The classifier. Raises TrainError, which names the parameter that needs it, without one."""
    heads = nn.ModuleList(network.get_submodule(name) for name in head_names(network))
    if not any(True for _ in heads.parameters()):
        raise TrainError(
            f"{parameter}: timm does not say which layers of {type(network).__name__} are its "
            f"classifier, so it cannot learn apart from the body. Set {parameter} to null or 0"
        )
    return heads


def freeze_body(network: nn.Module, frozen: bool) -> None:
    """Let all of a network in training mode learn, or, while frozen, its classifier alone.

    A frozen body normalises with the statistics of its batch normalisation that it came with, and
    keeps them, as timm's `freeze` and Keras do: the weights above and below were learned for
    them. Its dropout and stochastic depth stay.
    """
    head = find_head(network, "freeze_epochs")
    network.requires_grad_(not frozen)
    head.requires_grad_(True)
    of_head = set(head.modules())
    for module in network.modules():
        named = [name for name, _ in module.named_buffers(recurse=False)]
        if module not in of_head and any(name.startswith("running_") for name in named):
            module.train(not frozen)
