"""Augmentation policies for whole batches, as tensors, on the device that trains.

Images: operations of albumentations without worker processes, at two to three times their speed:
at 64 px, with the policy of profiles/malaria-local.yaml, on two CPU cores 20,500 images/s, where
two workers give 9,100 and one gives 6,000 (`python -m benchmarks.feed`).

All numbers of a batch are drawn on the CPU, from one generator, and sent to the device at once,
so that a policy draws the same on every device. Only noise is drawn there, pixel by pixel.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Num
from pydantic import ValidationError
from torch import Tensor

from pipeline.core.errors import TrainError
from pipeline.train.augment import colour, damage, geometry, signal
from pipeline.train.augment.geometry import GeometricOperation, Geometry
from pipeline.train.augment.operation import PixelOperation
from pipeline.train.augment.signal import SignalOperation
from pipeline.train.transfer import send

OPERATIONS: dict[str, type[GeometricOperation | PixelOperation]] = {
    operation.__name__: operation
    for operation in (
        geometry.HorizontalFlip,
        geometry.VerticalFlip,
        geometry.Transpose,
        geometry.RandomRotate90,
        geometry.D4,
        geometry.SquareSymmetry,
        geometry.Affine,
        colour.ColorJitter,
        colour.RandomBrightnessContrast,
        damage.GaussianBlur,
        damage.GaussNoise,
        damage.CoarseDropout,
    )
}
"""Those on images, each by its name in albumentations."""

AnyOperation = GeometricOperation | PixelOperation | SignalOperation


class BatchedPolicy:
    """A sequence of operations, applied to whole batches."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        """items: as in `train.models.NAME.augment`: `{op: NAME, …arguments}`, names that exist.

        Raises TrainError for a wrong value.
        """
        self._steps = _join([_read(item) for item in items])

    @torch.no_grad()
    def apply(
        self, images: Num[Tensor, "batch channels *axes"], seed: int
    ) -> Float[Tensor, "batch channels *axes"]:
        """New images or signals on the same device; the same seed gives the same bytes."""
        rng = np.random.default_rng(seed)
        noise = torch.Generator(images.device).manual_seed(int(rng.integers(2**63)))
        batch, side = len(images), images.shape[-1]
        draws = [step.draw(rng, batch, side) for step in self._steps]
        together = np.concatenate([np.empty((0, batch)), *draws], dtype=np.float32)
        drawn = torch.split(send(together, images.device), [len(part) for part in draws])
        augmented = images.float()
        if not (self._steps and isinstance(self._steps[0], Geometry)):
            augmented = augmented.contiguous()  # twice as fast for colours, the same for Geometry
        for step, part in zip(self._steps, drawn, strict=True):
            augmented = step.apply(augmented, part, noise)
        if augmented.shape != images.shape or augmented.dtype != torch.float32:
            raise TrainError(
                f"augment: expected float32 rows of {tuple(images.shape)} after the whole "
                f"policy, found {augmented.dtype} of {tuple(augmented.shape)}"
            )
        return augmented


def _read(item: dict[str, Any]) -> AnyOperation:
    name = item["op"]
    arguments = {key: _as_tuples(value) for key, value in item.items() if key != "op"}
    try:
        return (OPERATIONS | signal.OPERATIONS)[name](**arguments)
    except ValidationError as error:
        raise TrainError(f"augment: {name}: {_sentence(error)}") from error


def _sentence(error: ValidationError) -> str:
    """The first mistake."""
    first = error.errors()[0]
    argument = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "value_error":
        text = str(first["ctx"]["error"])
        return f"{argument}: {text}" if argument else text
    text = first["msg"].removeprefix("Input should be ")
    return f"{argument}: expected {text}, found {first['input']!r}"


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _join(operations: list[AnyOperation]) -> list[PixelOperation | SignalOperation | Geometry]:
    """Make one step of geometric operations that follow each other."""
    steps: list[PixelOperation | SignalOperation | Geometry] = []
    for operation in operations:
        if not isinstance(operation, GeometricOperation):
            steps.append(operation)
        elif steps and isinstance(steps[-1], Geometry):
            steps[-1] = Geometry([*steps[-1].operations, operation])
        else:
            steps.append(Geometry([operation]))
    return steps
