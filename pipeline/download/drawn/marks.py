"""Parasites, and the artefacts that look like them to a colour threshold.

They have the same stains, strengths and areas, so that only shape and texture distinguish them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pipeline.download.drawn.outlines import (
    Plane,
    Points,
    blurred,
    fill,
    lobed_outline,
    smooth_noise,
    stroke,
    turned,
)  # fmt: skip


@dataclass(frozen=True)
class Layers:
    """What is on one cell at each pixel, changed in place; 0 is nothing, 1 a full stain."""

    chromatin: Plane
    """Magenta: nuclei, platelets' granules, precipitated stain."""
    cytoplasm: Plane
    """Violet-blue."""
    pigment: Plane
    """Brown-black: haemozoin, dust."""
    halo: Plane
    """Light let through: vacuoles, the refraction around what lies on the cell."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.chromatin.shape
        return height, width


@dataclass(frozen=True)
class MarkPlace:
    """Where and how strongly one mark is drawn."""

    centre: Float[ndarray, "2"]
    """x and y in pixels."""
    scale: float
    """Pixels for one hundredth of the cell's diameter."""
    strength: float
    """Strength of the stain: 1 is usual, 0.4 hardly visible."""


Mark = Callable[[np.random.Generator, Layers, MarkPlace], None]


def draw_ring(rng: np.random.Generator, layers: Layers, place: MarkPlace) -> None:
    """Early stage: a thin ring, sometimes open, around a pale vacuole, with one or two nuclei."""
    radius = rng.uniform(8.5, 13) * place.scale
    ring = lobed_outline(rng, place.centre, radius, 0.05, rng.uniform(0.6, 1.0))
    kept = round(len(ring) * rng.choice([1.0, 0.7, 0.85]))
    width = max(1, round(rng.uniform(1.4, 2.6) * place.scale))
    line = stroke(layers.shape, ring[:kept], width, kept == len(ring), 0.7)
    first = int(rng.integers(kept))
    at = [first, (first + int(rng.integers(5, 16))) % kept][: int(rng.integers(1, 3))]
    nuclei = [_nucleus(rng, ring[corner], rng.uniform(2.6, 4.4) * place.scale) for corner in at]
    _add(layers.halo, fill(layers.shape, [ring], 1.5), rng.uniform(0.15, 0.4))
    _add(layers.cytoplasm, line, rng.uniform(0.4, 0.8) * place.strength)
    _add(layers.chromatin, line, rng.uniform(0.35, 0.65) * place.strength)
    _add(layers.chromatin, fill(layers.shape, nuclei, 0.9), rng.uniform(0.9, 1.2) * place.strength)


def draw_dot(rng: np.random.Generator, layers: Layers, place: MarkPlace) -> None:
    """A nucleus whose ring is seen from the side: a smooth dot beside a pale, edged crescent."""
    radius = rng.uniform(4.2, 6.0) * place.scale
    away = turned(np.array([[1.0, 0.0]]), rng.uniform(0, 2 * np.pi))[0]
    vacuole = lobed_outline(rng, place.centre + 1.4 * radius * away, 1.6 * radius, 0.05, 0.8)
    nucleus = _nucleus(rng, place.centre, radius)
    edge = stroke(layers.shape, vacuole, max(1, round(place.scale)), True, 0.8)
    _add(layers.halo, fill(layers.shape, [vacuole], 1.2), rng.uniform(0.35, 0.6))
    _add(layers.cytoplasm, edge, rng.uniform(0.5, 0.9) * place.strength)
    _add(layers.chromatin, edge, rng.uniform(0.15, 0.35) * place.strength)
    _add(layers.chromatin, fill(layers.shape, [nucleus], 1.0), 1.15 * place.strength)


def draw_trophozoite(rng: np.random.Generator, layers: Layers, place: MarkPlace) -> None:
    """Middle stage: an amoeboid violet body with a nucleus, a vacuole and grains of pigment."""
    radius = rng.uniform(11, 16) * place.scale
    body = lobed_outline(rng, place.centre, radius, 0.2, rng.uniform(0.5, 0.9))
    nucleus = _nucleus(rng, _near(rng, place, 0.4 * radius), rng.uniform(4, 5.5) * place.scale)
    vacuole = lobed_outline(rng, _near(rng, place, 0.4 * radius), 0.35 * radius, 0.1)
    grains = [_nucleus(rng, _near(rng, place, 0.5 * radius), place.scale) for _ in range(5)]
    inside = fill(layers.shape, [body], 1.2)
    hole = fill(layers.shape, [vacuole], 1.2)
    _add(layers.cytoplasm, inside * (1 - 0.8 * hole), rng.uniform(0.7, 1.1) * place.strength)
    _add(layers.chromatin, inside * (1 - 0.8 * hole), rng.uniform(0.15, 0.4) * place.strength)
    _add(layers.chromatin, fill(layers.shape, [nucleus], 1.0), place.strength)
    _add(layers.pigment, fill(layers.shape, grains, 0.6), rng.uniform(0.3, 0.6) * place.strength)


def draw_schizont(rng: np.random.Generator, layers: Layers, place: MarkPlace) -> None:
    """Late stage: a cluster of equal round nuclei around a clump of pigment."""
    count = int(rng.integers(6, 13))
    radius = rng.uniform(2.0, 2.7) * place.scale
    spread = radius * 1.7 * np.sqrt(count)
    turns = 2.4 * np.arange(count) + rng.uniform(0, 2 * np.pi)  # the golden angle: even packing
    reach = spread * np.sqrt((np.arange(count) + 0.7) / count)
    spots = place.centre + reach[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    spots += rng.normal(0, 0.35 * radius, spots.shape)
    nuclei = [_nucleus(rng, spot, radius) for spot in spots]
    body = lobed_outline(rng, place.centre, 1.2 * spread, 0.06)
    clump = _nucleus(rng, place.centre, rng.uniform(2.0, 3.0) * place.scale)
    _add(layers.cytoplasm, fill(layers.shape, [body], 1.5), rng.uniform(0.25, 0.6))
    _add(layers.chromatin, fill(layers.shape, nuclei, 0.7), rng.uniform(0.8, 1.1) * place.strength)
    _add(layers.pigment, fill(layers.shape, [clump], 1.0), rng.uniform(0.35, 0.7) * place.strength)


def draw_platelet(rng: np.random.Generator, layers: Layers, place: MarkPlace) -> None:
    """A platelet on the cell: a granular blob without a nucleus or edge, in a bright halo."""
    radius = rng.uniform(8, 14) * place.scale
    body = lobed_outline(rng, place.centre, radius, 0.12, rng.uniform(0.6, 1.0))
    inside = fill(layers.shape, [body], 2.5)
    grains = (0.6 + 0.5 * smooth_noise(rng, layers.shape, 2.0)).clip(0, 1.5)
    _add_glow(layers, inside, rng.uniform(0.7, 1.2))
    _add(layers.cytoplasm, inside, rng.uniform(0.3, 0.8) * place.strength)
    _add(layers.chromatin, inside * grains, rng.uniform(0.6, 1.0) * place.strength)


def draw_grains(rng: np.random.Generator, layers: Layers, place: MarkPlace) -> None:
    """Precipitated stain: sharp, angular specks of unequal size, strewn far and wide."""
    count = int(rng.integers(4, 12))
    spots = place.centre + rng.normal(0, 17 * place.scale, (count, 2))
    sizes = rng.uniform(1.2, 3.2, count) * place.scale
    specks = [_shard(rng, spot, size) for spot, size in zip(spots, sizes, strict=True)]
    mask = fill(layers.shape, specks, 0.5)
    _add_glow(layers, mask, rng.uniform(0.3, 0.9))
    _add(layers.cytoplasm, mask, rng.uniform(0.0, 0.8) * place.strength)
    _add(layers.chromatin, mask, rng.uniform(0.8, 1.2) * place.strength)
    _add(layers.pigment, mask, rng.uniform(0.0, 0.3) * place.strength)


def draw_needle(rng: np.random.Generator, layers: Layers, place: MarkPlace) -> None:
    """Debris: one to three pointed splinters or fibres."""
    splinters = []
    for _ in range(int(rng.integers(1, 4))):
        half, width = rng.uniform(10, 20) * place.scale, rng.uniform(0.9, 2.2) * place.scale
        ends = np.array([[-half, 0], [0.3 * half, -width], [half, 0], [-0.3 * half, width]])
        middle = _near(rng, place, 5 * place.scale)
        splinters.append(middle + turned(ends, rng.uniform(0, 2 * np.pi)))
    mask = fill(layers.shape, splinters, 0.7)
    _add_glow(layers, mask, rng.uniform(0.3, 0.9))
    _add(layers.chromatin, mask, rng.uniform(0.6, 1.1) * place.strength)
    _add(layers.cytoplasm, mask, rng.uniform(0.2, 0.8) * place.strength)
    _add(layers.pigment, mask, rng.uniform(0.0, 0.3) * place.strength)


def draw_spot(rng: np.random.Generator, layers: Layers, place: MarkPlace) -> None:
    """Dirt above or below the plane of focus: a dark spot that fades outwards."""
    radius = rng.uniform(5, 9) * place.scale
    body = lobed_outline(rng, place.centre, radius, 0.08, rng.uniform(0.6, 1.0))
    inside = fill(layers.shape, [body], 0.5 * radius)
    _add_glow(layers, inside, rng.uniform(0.2, 0.8))
    _add(layers.chromatin, inside, rng.uniform(0.6, 1.2) * place.strength)
    _add(layers.cytoplasm, inside, rng.uniform(0.4, 1.0) * place.strength)
    _add(layers.pigment, inside, rng.uniform(0.0, 0.25) * place.strength)


def draw_fold(rng: np.random.Generator, layers: Layers, place: MarkPlace) -> None:
    """A fold of the membrane: a wide, soft, gently bent streak."""
    along = np.linspace(-1, 1, 12)[:, None]
    length, bend = rng.uniform(12, 22) * place.scale, rng.uniform(-6, 6) * place.scale
    line = np.concatenate([along * length, bend * along**2], axis=1)
    line = turned(line, rng.uniform(0, 2 * np.pi)) + place.centre
    width = max(2, round(rng.uniform(3, 6) * place.scale))
    streak = stroke(layers.shape, line, width, False, rng.uniform(1.5, 2.5))
    _add(layers.chromatin, streak, rng.uniform(0.5, 1.0) * place.strength)
    _add(layers.cytoplasm, streak, rng.uniform(0.5, 1.0) * place.strength)
    _add(layers.pigment, streak, rng.uniform(0.0, 0.3) * place.strength)


PARASITES: dict[str, tuple[Mark, float]] = {
    "ring": (draw_ring, 0.54),
    "dot": (draw_dot, 0.08),
    "trophozoite": (draw_trophozoite, 0.25),
    "schizont": (draw_schizont, 0.13),
}
"""Each stage's drawing and its share of the parasites; rings lead, as in thin smears."""

ARTEFACTS: dict[str, tuple[Mark, float]] = {
    "platelet": (draw_platelet, 0.35),
    "grains": (draw_grains, 0.22),
    "needle": (draw_needle, 0.18),
    "spot": (draw_spot, 0.13),
    "fold": (draw_fold, 0.12),
}
"""Each artefact's drawing and its share of the artefacts."""


def pick_place(rng: np.random.Generator, inside: Plane, diameter_px: float) -> MarkPlace:
    """A place on the cell, where `inside` is not 0: at its edge about one time in seven."""
    depth = cv2.distanceTransform((inside > 0).astype(np.uint8), cv2.DIST_L2, 3)
    at_edge = rng.random() < 0.15
    low, high = (0.03, 0.08) if at_edge else (0.13, 1.0)
    spots = np.argwhere((depth >= low * diameter_px) & (depth <= high * diameter_px))
    if not len(spots):  # a torn, slender cell has no such place
        spots = np.argwhere(depth == np.max(depth))
    row, column = spots[rng.integers(len(spots))]
    faint = rng.random() < 0.06
    strength = rng.uniform(0.4, 0.65) if faint else rng.uniform(0.8, 1.15)
    return MarkPlace(np.array([column, row], float), diameter_px / 100, strength)


def _add_glow(layers: Layers, mask: Plane, strength: float) -> None:
    """Light refracted around what lies on the cell, not in it."""
    _add(layers.halo, (blurred(mask, 4.0) - 0.5 * mask).clip(0, 1), strength)


def _near(rng: np.random.Generator, place: MarkPlace, reach_px: float) -> Float[ndarray, "2"]:
    return place.centre + rng.uniform(-reach_px, reach_px, 2)


def _nucleus(rng: np.random.Generator, centre: Float[ndarray, "2"], radius_px: float) -> Points:
    return lobed_outline(rng, centre, radius_px, 0.06, rng.uniform(0.7, 1.0))


def _shard(rng: np.random.Generator, centre: Float[ndarray, "2"], radius_px: float) -> Points:
    """A triangle or quadrangle with unequal sides."""
    turns = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 5))))
    radii = radius_px * rng.uniform(0.7, 1.5, len(turns))
    directions = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    return np.asarray(centre + radii[:, None] * directions)


def _add(layer: Plane, mask: Plane, strength: float) -> None:
    layer += np.float32(strength) * mask
