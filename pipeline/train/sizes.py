"""Which sizes of pictures a network of timm takes, and the words for one that it does not.

Many take pictures of one size only, unless they are built for another with `img_size`; some have
a patch or window that must divide it, a least size, or one size and no other. Which sizes a
network takes is asked of itself, on PyTorch's device `meta`, where nothing is computed.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor, nn

_STEPS_PX = (14, 16)
"""The sizes that are tried for a hint are multiples of these, as timm's patches and windows are."""

MISFIT = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What timm's networks raise for a size, an argument or weights that they do not take."""

Sides = tuple[int, int]
"""A height and a width."""


@dataclass(frozen=True)
class PictureSize(ABC):
    """The size of the pictures that a network is for, in the words and parameters of their kind."""

    sides: Sides
    channels: int

    @abstractmethod
    def __str__(self) -> str:
        """The kind of pictures and their size."""

    @abstractmethod
    def nearest(self, name: str) -> str:
        """What to set for the nearest size that a network takes, which does not take this one."""

    @abstractmethod
    def remedy(self, own_px: int) -> str:
        """What to do where weights fit images of own_px alone."""


class ImageSize(PictureSize):
    """Square images."""

    def __str__(self) -> str:
        return f"images of {self.sides[0]} px"

    def nearest(self, name: str) -> str:
        """Below and above."""
        size_px = self.sides[0]
        most_px = max(own_size(name), 2 * size_px)
        sizes = {own_size(name)}.union(*(range(step, most_px + 1, step) for step in _STEPS_PX))
        lower = (each for each in sorted(sizes, reverse=True) if each < size_px)
        higher = (each for each in sorted(sizes) if each > size_px)
        nearest = [
            next((each for each in side if takes(name, (each, each), self.channels)), None)
            for side in (lower, higher)
        ]
        taken = " or ".join(str(each) for each in nearest if each is not None)
        return f"set prepare.size_px to {taken}"

    def remedy(self, own_px: int) -> str:
        """Their own size."""
        return f"set prepare.size_px to {own_px}"


def takes(name: str, sides: Sides, channels: int) -> bool:
    """Whether a network takes pictures of that size."""
    return arguments_for(name, sides, channels) is not None


@cache
def arguments_for(name: str, sides: Sides, channels: int) -> dict[str, Any] | None:
    """What timm must be told so that a network takes pictures of this form; None: it takes none."""
    told = {} if channels == 3 else {"in_chans": channels}
    own = sides[0] if sides[0] == sides[1] else sides
    for img_size in (None, own):
        try:
            network = build_empty(name, img_size, channels)
            outputs = network(torch.zeros(2, channels, *sides, device="meta"))
        except MISFIT:
            continue
        if not isinstance(outputs, Tensor) or outputs.shape != (2, 2):
            return None
        if img_size is None:
            return told
        if not _cuts_off(network, sides):
            return told | {"img_size": img_size}
    return None


def _cuts_off(network: nn.Module, sides: Sides) -> bool:
    """Whether the last pixels of a picture are in no patch."""
    patch: Any = getattr(getattr(network, "patch_embed", None), "patch_size", 1)
    both = patch if isinstance(patch, tuple | list) else (patch, patch)
    return any(side % each for side, each in zip(sides, both, strict=False))


@lru_cache(maxsize=2)
def build_empty(
    name: str, img_size: int | Sides | None, channels: int = 3, drop_path: float | None = None
) -> nn.Module:
    """The shapes of a network with two outputs, without values; no random number is drawn."""
    import timm

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        # timm leaves out an argument that is None.
        network: nn.Module = timm.create_model(
            name,
            num_classes=2,
            drop_rate=0.0,
            img_size=img_size,
            drop_path_rate=drop_path,
            in_chans=channels,
        )
    return network


def say_sizes(name: str, size: PictureSize) -> str:
    """A sentence with the nearest sizes that a network takes, instead of one that it does not."""
    own_px = own_size(name)
    if not takes(name, (own_px, own_px), size.channels):
        return f"timm's {name} is no classifier of images, so it cannot be trained. Choose another"
    return (
        f"{name}, published for {own_px} px, cannot take {size}; the nearest that it takes: "
        f"{size.nearest(name)}"
    )


def own_size(name: str) -> int:
    """The side of the images that a network was published for."""
    import timm

    published: Any = timm.get_pretrained_cfg(name)
    side: int = published.input_size[-1]
    return side
