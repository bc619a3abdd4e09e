"""Draws a small patch of stained tissue with one nucleus in its middle, whose area is known.

Haematoxylin makes nuclei blue and eosin the rest pink, each slide in its own strength. Other nuclei
reach in from the border, so that who adds up all that is dark counts them as well.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Complex, Float
from numpy import ndarray

from pipeline.core.shapes import Image
from pipeline.download.drawn.outlines import Plane, blurred, smooth_noise

SIDE_PX = 24

_FINE = 4
"""Points along a pixel's side at which an outline is asked for."""

_SMALLEST_PX, _LARGEST_PX = 2.5, 8.9
"""Radii of circles of 20 and 249 pixels."""

_REACH_PX = SIDE_PX / 2 - 0.5
"""No point of the nucleus is farther from the middle of the patch."""

_HAEMATOXYLIN = np.array([0.65, 0.70, 0.29], np.float32)
_EOSIN = np.array([0.07, 0.99, 0.11], np.float32)
"""The negative logarithm of the red, green and blue left: Ruifrok and Johnston 2001 (Analytical and
Quantitative Cytology and Histology 23:291)."""

_ORDERS = np.arange(2, 6)
"""Waves around an outline, one after the other."""


@dataclass(frozen=True)
class Slide:
    """What the patches of one slide share: stain, microscope, and the size of its nuclei."""

    haematoxylin: float
    """Strength of the stain in a nucleus."""
    haze: float
    """Its share of that in all other tissue."""
    eosin: float
    light: Float[ndarray, "3"]
    """Red, green and blue where nothing is stained, 0 to 255."""
    pallor: float
    """The share of the stain that is missing in the middle of a nucleus."""
    radius_px: float
    blur_px: float
    noise: float


@dataclass(frozen=True)
class Outline:
    """A closed curve: an ellipse of the area π radius_px², with waves."""

    centre: complex
    """x + iy in pixels from the middle of the patch."""
    radius_px: float
    aspect: float
    """Short over long axis."""
    angle: float
    """The direction of the long axis, in radians."""
    waves: Complex[ndarray, " orders"]
    """Depth, relative to the radius, and phase of those in _ORDERS."""

    @property
    def reach_px(self) -> float:
        """No point of the curve is farther from its centre."""
        return float(self.radius_px / np.sqrt(self.aspect) * (1 + np.abs(self.waves).sum()))


def draw_slide(rng: np.random.Generator) -> Slide:
    return Slide(
        haematoxylin=rng.uniform(0.8, 1.5),
        haze=rng.uniform(0.05, 0.25),
        eosin=rng.uniform(0.25, 0.6),
        light=rng.uniform(230, 252, 3).astype(np.float32),
        pallor=rng.uniform(0.0, 0.6),
        radius_px=float(np.clip(5.2 * rng.lognormal(0, 0.14), 3.6, 7.2)),
        blur_px=rng.uniform(0.5, 0.9),
        noise=rng.uniform(2.0, 5.0),
    )


def draw_nucleus(rng: np.random.Generator, slide: Slide) -> Outline:
    """The one in the middle, all of which is in the patch."""
    outline = _draw_outline(rng, slide, complex(*rng.uniform(-1, 1, 2)))
    room_px = _REACH_PX - abs(outline.centre)
    smaller = min(1.0, room_px / outline.reach_px)
    return replace(outline, radius_px=outline.radius_px * smaller)


def cover(outline: Outline) -> tuple[Plane, Plane]:
    """The share of each pixel that is inside, and how deep it is: 0 outside, 1 in the middle."""
    places = (np.arange(SIDE_PX * _FINE, dtype=np.float32) + 0.5) / _FINE - SIDE_PX / 2
    points = (places[None, :] + 1j * places[:, None]).astype(np.complex64)
    points = (points - np.complex64(outline.centre)) * np.complex64(np.exp(-1j * outline.angle))
    points.real *= np.sqrt(outline.aspect)
    points.imag /= np.sqrt(outline.aspect)
    distance = np.abs(points) + np.float32(1e-6)
    direction = points / distance
    edge, turn = np.ones_like(distance), direction
    for wave in outline.waves:
        turn = turn * direction
        edge += (np.complex64(wave) * turn).real
    edge *= outline.radius_px
    inside = (0.5 + _FINE * (edge - distance)).clip(0, 1)  # soft over the distance of two points
    depth = inside * (1 - (distance / edge).clip(0, 1) ** 2)
    return _averaged(inside), _averaged(depth)


def draw_patch(rng: np.random.Generator, slide: Slide, nucleus: Outline) -> Image:
    stain = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    taken = np.zeros_like(stain)
    for outline in [*_draw_others(rng, slide, nucleus), nucleus]:
        inside, depth = cover(outline)
        strength = rng.lognormal(0, 0.15) * (inside - slide.pallor * depth)
        stain = stain * (1 - inside) + strength  # what comes later lies above
        taken = np.maximum(taken, inside)
    return _develop(rng, slide, stain, taken)


def _draw_outline(rng: np.random.Generator, slide: Slide, centre: complex) -> Outline:
    radius = slide.radius_px * rng.lognormal(0, 0.28)
    depths = rng.normal(0, 0.05, (2, len(_ORDERS))) / np.sqrt(_ORDERS)
    return Outline(
        centre=centre,
        radius_px=float(np.clip(radius, _SMALLEST_PX, _LARGEST_PX)),
        aspect=rng.uniform(0.6, 1.0),
        angle=rng.uniform(0, np.pi),
        waves=depths[0] + 1j * depths[1],
    )


def _draw_others(rng: np.random.Generator, slide: Slide, nucleus: Outline) -> list[Outline]:
    """Nuclei around the one in the middle, and clear of it; some are out of sight."""
    others = []
    for _ in range(rng.poisson(3.0)):
        other = _draw_outline(rng, slide, 0j)
        distance_px = nucleus.reach_px + other.reach_px + rng.uniform(0, 7)
        towards = np.exp(1j * rng.uniform(0, 2 * np.pi))
        others.append(replace(other, centre=complex(nucleus.centre + distance_px * towards)))
    return others


def _develop(rng: np.random.Generator, slide: Slide, stain: Plane, taken: Plane) -> Image:
    """The photograph: what both stains absorb, blur and noise. taken: where nuclei are."""
    clumps, fibres, spots = (smooth_noise(rng, stain.shape, grain) for grain in (2.0, 6.0, 2.5))
    tissue = (1 + 0.25 * fibres + 0.12 * spots).clip(0.1, None) * (1 - taken)
    blue = slide.haematoxylin * (stain * (1 + 0.2 * clumps) + slide.haze * tissue)
    pink = slide.eosin * (tissue + 0.4 * taken)
    absorbed = blue[:, :, None] * _HAEMATOXYLIN + pink[:, :, None] * _EOSIN
    photo = blurred(slide.light * np.exp(-absorbed), slide.blur_px * rng.uniform(0.9, 1.1))
    photo += slide.noise * rng.standard_normal(photo.shape, np.float32)
    return np.asarray(photo.round().clip(0, 255), np.uint8)


def _averaged(fine: ndarray) -> Plane:
    """The mean over each pixel."""
    cut = fine.reshape(SIDE_PX, _FINE, SIDE_PX, _FINE)
    return np.asarray(cut.mean(axis=(1, 3)), np.float32)
