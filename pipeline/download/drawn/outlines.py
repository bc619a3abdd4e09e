"""Irregular closed outlines and their filled, anti-aliased masks: what cells are drawn with.

Masks are filled at the image's own resolution with sub-pixel corners and softened by a
Gaussian: as smooth as drawing four times larger and shrinking, in a fraction of the time.
"""

import cv2
import numpy as np
from jaxtyping import Float
from numpy import ndarray

Points = Float[ndarray, "corners 2"]
"""x and y in pixels."""

Plane = Float[ndarray, "height width"]

Layered = Float[ndarray, "height width *channels"]

_CORNERS = 48
_ORDERS = np.arange(2, 8)[:, None]
"""Waves around the outline: 2 is an oval, 7 the finest lobes."""

_SUBPIXEL_BITS = 4
"""OpenCV takes corners as integers of 1/16 pixel."""


def lobed_outline(
    rng: np.random.Generator,
    centre: Float[ndarray, "2"],
    radius_px: float,
    roughness: float,
    aspect: float = 1.0,
) -> Points:
    """A closed curve around `centre`, turned at random.

    roughness: relative depth of the lobes, 0 (an ellipse) to about 0.3 (an amoeba).
    aspect: short over long axis, in (0, 1].
    """
    turns = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    depths = rng.normal(0, roughness, _ORDERS.shape) / np.sqrt(_ORDERS)
    waves = depths * np.cos(_ORDERS * turns + rng.uniform(0, 2 * np.pi, _ORDERS.shape))
    radii = radius_px * (1 + waves.sum(axis=0)).clip(0.3, 1.8)
    points = np.stack([radii * np.cos(turns), aspect * radii * np.sin(turns)], axis=1)
    return np.asarray(turned(points, rng.uniform(0, 2 * np.pi)) + centre)


def turned(points: Points, angle: float) -> Points:
    """The points, turned around the origin by `angle` in radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cosine, sine], [-sine, cosine]]))


def fill(shape: tuple[int, int], outlines: list[Points], blur_px: float = 0.0) -> Plane:
    """The union of the outlines' insides: 1 inside, 0 outside, soft over `blur_px` (a sigma)."""
    mask = np.zeros(shape, np.uint8)
    for outline in outlines:
        cv2.fillPoly(mask, [_fixed_point(outline)], (255,), cv2.LINE_AA, _SUBPIXEL_BITS)
    return _softened(mask, blur_px)


def stroke(
    shape: tuple[int, int], line: Points, width_px: int, closed: bool, blur_px: float
) -> Plane:
    """A line along the points: 1 on it, 0 beside it, soft over `blur_px` (a sigma)."""
    mask = np.zeros(shape, np.uint8)
    corners = [_fixed_point(line)]
    cv2.polylines(mask, corners, closed, (255,), width_px, cv2.LINE_AA, _SUBPIXEL_BITS)
    return _softened(mask, blur_px)


def blurred(plane: Layered, blur_px: float) -> Layered:
    """The plane, or each of its channels, after a Gaussian with a sigma of `blur_px`."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), blur_px), np.float32)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], grain_px: float) -> Plane:
    """Noise with a mean of 0 and a standard deviation of 1, in spots of about `grain_px`."""
    small = (max(4, round(shape[0] / grain_px)), max(4, round(shape[1] / grain_px)))
    noise = rng.standard_normal(small, np.float32)
    large = cv2.resize(noise, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray((large - large.mean()) / large.std(), np.float32)


def _fixed_point(points: Points) -> ndarray:
    return np.asarray(np.round(points * 2**_SUBPIXEL_BITS), np.int32)


def _softened(mask: ndarray, blur_px: float) -> Plane:
    plane = mask.astype(np.float32) / np.float32(255)
    return blurred(plane, blur_px) if blur_px > 0 else plane
