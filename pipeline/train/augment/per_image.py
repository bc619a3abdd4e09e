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


class Policy:
    """A sequence of albumentations, applied image by image."""

    def __init__(self, items: list[dict[str, Any]], size_px: int) -> None:
        """items: as in `train.models.NAME.augment`: `{op: NAME, …arguments}`.

        Raises TrainError for an operation or argument that albumentations does not know, a
        value that it refuses, or operations that change the image's size or type.
        """
        self._compose = albumentations.Compose([_build(item) for item in items])
        if items:
            probe = np.zeros((1, size_px, size_px, 3), np.uint8)
            augmented = self.apply_one(probe[0])
            if augmented.shape != probe[0].shape or augmented.dtype != np.uint8:
                raise TrainError(
                    f"augment: expected images of {probe[0].shape} uint8 to keep their form, "
                    f"found {augmented.shape} {augmented.dtype} after the whole policy"
                )

    def apply_one(self, image: np.ndarray) -> np.ndarray:
        """One image with the policy's current random state."""
        return self._compose(image=image)["image"]  # type: ignore[no-any-return]

    def apply(self, images: Images, seed: int) -> Images:
        """A new array with each image augmented; the same seed gives the same bytes."""
        self._compose.set_random_seed(seed)
        augmented = np.empty_like(images)
        for row, image in enumerate(images):
            augmented[row] = self.apply_one(image)
        return augmented


def single_threaded() -> None:
    """Keep OpenCV to one thread: a loader's worker has one core."""
    cv2.setNumThreads(0)


def _build(item: dict[str, Any]) -> albumentations.BasicTransform:
    arguments = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in item.items()
        if key != "op"
    }
    transform = getattr(albumentations, item["op"], None)
    if not (isinstance(transform, type) and issubclass(transform, albumentations.BasicTransform)):
        raise TrainError(
            f"augment: albumentations {albumentations.__version__} has no operation {item['op']!r}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # for an unknown argument it only warns
        try:
            return transform(**arguments)
        except (UserWarning, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise TrainError(f"augment: {item['op']}: {reason}") from error
