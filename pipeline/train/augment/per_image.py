"""Augmentation policies: albumentations, as declared in params.yaml.

A policy is seeded anew for each batch, from the model's seed and the batch's number, so
that a sample's augmentation depends on neither the number of workers nor on where a
killed run went on.
"""

import os
import warnings
from typing import Any

import cv2
import numpy as np

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else the import asks the network for a new version
import albumentations

from pipeline.core.errors import TrainError
from pipeline.core.shapes import Images

_PROBES = 3
"""How often an operation is tried on each form of image: its own numbers are drawn, too."""


class Policy:
    """A sequence of albumentations, applied image by image."""

    def __init__(self, items: list[dict[str, Any]], shape: tuple[int, ...]) -> None:
        """items: as in `train.models.NAME.augment`: `{op: NAME, …arguments}`, names that exist.
        shape: of a stored image.

        Raises TrainError for a value that albumentations refuses, an operation that fails, and
        operations that change the form of an image, be it with a small `p`.
        """
        self._compose = albumentations.Compose([_build(item) for item in items])
        _probe(items, shape)

    def apply(self, images: Images, seed: int) -> Images:
        """A new array with each image augmented; the same seed gives the same bytes.

        Raises TrainError where an operation fails or changes an image's form.
        """
        self._compose.set_random_seed(seed)
        augmented = np.empty_like(images)
        for row, image in enumerate(images):
            changed = _apply(self._compose, image, "the whole policy")
            _check_form(changed, image, "the whole policy")
            augmented[row] = changed
        return augmented


def _probe(items: list[dict[str, Any]], shape: tuple[int, ...]) -> None:
    """Try each operation on every form of image that the operations before it can leave.

    An operation may change the form where a later one, never left out, gives it back: a
    PadIfNeeded before a RandomCrop. What matters is the form at the end, whatever `p` leaves out.
    """
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    reached = {_form(image): (image, "")}  # by form: such an image, and what made it so
    for item in items:
        name, always = item["op"], albumentations.Compose([_build(item | {"p": 1.0})])
        always.set_random_seed(0)
        before = list(reached.values())
        chance = _build(item).p
        if chance == 1:
            reached = {}
        for other, culprit in before * (_PROBES if chance else 0):
            changed = _apply(always, other, name)
            is_new = _form(changed) != _form(other)
            reached.setdefault(_form(changed), (changed, name if is_new else culprit))
    for changed, name in reached.values():
        _check_form(changed, image, name)


def _apply(compose: albumentations.Compose, image: Any, name: str) -> Any:
    """What becomes of an image: an array or a tensor of any form."""
    try:
        return compose(image=image)["image"]
    except MemoryError:
        raise
    except Exception as error:  # whatever the operations of a library of this size raise
        reason = " ".join(str(error).split())[:300]
        grey = ". Leave it out, or set prepare.channels: 3" if image.shape[2:] == (1,) else ""
        raise TrainError(
            f"augment: {name} fails on an image of {_form(image)}: {type(error).__name__}: "
            f"{reason}{grey}"
        ) from error


def _form(image: Any) -> str:
    return f"{tuple(image.shape)} {image.dtype}"


def _check_form(changed: Any, image: Any, name: str) -> None:
    if changed.shape != image.shape or changed.dtype != image.dtype:
        raise TrainError(
            f"augment: {name}: expected images of {_form(image)} to keep their form, found "
            f"{_form(changed)}. Networks normalise by themselves: leave out what changes the size "
            "or the type, or give the form back by a last operation with p: 1.0"
        )


def single_threaded() -> None:
    """Keep OpenCV to one thread: a loader's worker has one core."""
    cv2.setNumThreads(0)


def _build(item: dict[str, Any]) -> albumentations.BasicTransform:
    arguments = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in item.items()
        if key != "op"
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it only warns of some values that it does not use
        try:
            return getattr(albumentations, item["op"])(**arguments)
        except (UserWarning, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise TrainError(f"augment: {item['op']}: {reason}") from error
