"""Draws one stained red blood cell, as the screening set of the National Library of Medicine
shows them: cut out along a coarse mask on pure black, 80 to 170 pixels a side.

The figures for colours, sizes, noise and stains are those of 200 original cells.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pipeline.core.shapes import Image
from pipeline.download.drawn.marks import ARTEFACTS, PARASITES, Layers, pick_place
from pipeline.download.drawn.outlines import Plane, blurred, fill, lobed_outline, smooth_noise

Colour = Float[ndarray, "3"]
"""RGB, 0 to 255."""

SMALLEST_PX, LARGEST_PX = 80, 170
"""Sides of the images."""

_TINTS: list[tuple[float, tuple[float, float, float]]] = [
    (0.24, (213, 147, 143)),  # salmon
    (0.20, (200, 155, 153)),  # rose
    (0.10, (189, 128, 148)),  # pink
    (0.10, (205, 168, 152)),  # beige
    (0.10, (160, 160, 186)),  # grey-blue
    (0.08, (180, 168, 184)),  # mauve
    (0.06, (128, 128, 180)),  # blue
    (0.06, (156, 116, 178)),  # violet
    (0.06, (184, 96, 136)),  # magenta
]
"""Share of the patients, and the colour of their cells."""

_ABSORBED = {
    "chromatin": np.array([0.24, 1.15, 0.12], np.float32),
    "cytoplasm": np.array([0.28, 0.42, 0.04], np.float32),
    "pigment": np.array([0.80, 0.90, 0.70], np.float32),
}
"""For each layer at a full stain, the negative logarithm of the red, green and blue left."""

_BACKGROUND = np.array([232, 222, 208], np.float32)
"""Colour of the slide, which shows at the rim, in the middle and in halos."""


@dataclass(frozen=True)
class Stain:
    """What the cells of one patient share: stain, microscope, and size of the red cells."""

    colour: Colour
    diameter_px: float
    marks: float
    """Strength of the stain on parasites and artefacts, 0.8 to 1.2."""
    pallor: float
    """Brightness of the middle of the disc, 0 to 0.35."""
    rim: float
    """Brightness of the edge, 0 to 0.5."""
    blur_px: float
    noise: float


def draw_stain(rng: np.random.Generator) -> Stain:
    shares = np.array([share for share, _ in _TINTS])
    tint = np.array(_TINTS[rng.choice(len(_TINTS), p=shares)][1], np.float32)
    colour = tint * rng.normal(1, 0.05) + rng.normal(0, 6, 3)
    return Stain(
        colour=colour.clip(60, 235).astype(np.float32),
        diameter_px=float(np.clip(rng.normal(122, 9), 98, 145)),
        marks=rng.uniform(0.8, 1.2),
        pallor=rng.choice([0.0, 1.0]) * rng.uniform(0.05, 0.35),
        rim=rng.choice([0.1, 1.0]) * rng.uniform(0.1, 0.5),
        blur_px=rng.uniform(0.6, 1.1),
        noise=rng.uniform(1.2, 2.8),
    )


def draw_cell(
    rng: np.random.Generator, stain: Stain, parasites: list[str], artefacts: list[str]
) -> Image:
    """One cell, cropped to its mask, with these marks (names in PARASITES and ARTEFACTS)."""
    diameter = float(np.clip(stain.diameter_px * rng.normal(1, 0.07), 86, 158))
    body = _draw_body(rng, LARGEST_PX + 20, diameter)
    body = body[_bounds(body)]
    layers = Layers(*np.zeros((4, *body.shape), np.float32))
    marks = [*(ARTEFACTS[name] for name in artefacts), *(PARASITES[name] for name in parasites)]
    for draw, _ in marks:
        draw(rng, layers, pick_place(rng, body, diameter))
    return _develop(rng, stain, layers, body, diameter)


def _draw_body(rng: np.random.Generator, side: int, diameter_px: float) -> Plane:
    """The mask, 1 on the cell: a disc, or an oval, polygonal, bitten or torn one."""
    middle = np.array([side / 2, side / 2])
    kind = rng.choice(["disc", "oval", "polygon", "bitten", "torn"], p=[0.5, 0.2, 0.1, 0.1, 0.1])
    aspect = rng.uniform(0.7, 0.85) if kind == "oval" else rng.uniform(0.86, 1.0)
    radius = diameter_px / 2 / np.sqrt(aspect)
    outline = lobed_outline(rng, middle, radius, 0.02, aspect)
    if kind == "polygon":
        corners = np.arange(0, len(outline), 6) + rng.integers(-2, 3, len(outline) // 6)
        outline = outline[corners]
    body = fill((side, side), [outline], 5.0 if kind == "polygon" else 0.0)
    edge = outline[rng.integers(len(outline))]
    if kind == "bitten":
        bite = lobed_outline(rng, edge, rng.uniform(0.15, 0.4) * radius, 0.12)
        body = body * (1 - fill((side, side), [bite]))
    if kind == "torn" or rng.random() < 0.1:
        scraps = [
            lobed_outline(rng, edge + rng.normal(0, 0.2 * radius, 2), size * radius, 0.3)
            for size in rng.uniform(0.06, 0.22, 3)
        ]
        body = np.maximum(body, fill((side, side), scraps))
    if kind == "torn":
        body = _torn(rng, body, edge, radius)
    return _one_piece(_coarse(rng, body))


def _torn(
    rng: np.random.Generator, body: Plane, edge: Float[ndarray, "2"], radius_px: float
) -> Plane:
    """The mask with a ragged edge around one point."""
    rows, columns = np.indices(body.shape, np.float32)
    distance = np.hypot(columns - edge[0], rows - edge[1])
    near = np.exp(-((distance / (0.7 * radius_px)) ** 2)).astype(np.float32)
    ragged = blurred(body, 4.0) + 0.35 * near * smooth_noise(rng, (len(body), len(body)), 7.0)
    return np.asarray(ragged > 0.5, np.float32)


def _coarse(rng: np.random.Generator, body: Plane) -> Plane:
    """The mask in steps of two to three pixels, as the segmentation of the originals left it."""
    small = round(len(body) / rng.uniform(1.6, 2.8))
    steps = cv2.resize(body, (small, small), interpolation=cv2.INTER_AREA)
    large = cv2.resize(steps, (len(body), len(body)), interpolation=cv2.INTER_NEAREST)
    return np.asarray(large > 0.5, np.float32)


def _one_piece(body: Plane) -> Plane:
    """The largest connected piece of the mask, without what would be cut at LARGEST_PX."""
    start = (len(body) - LARGEST_PX) // 2
    kept = body[start : start + LARGEST_PX, start : start + LARGEST_PX].astype(np.uint8)
    _, pieces, sizes, _ = cv2.connectedComponentsWithStats(kept, connectivity=4)
    largest = 1 + int(np.argmax(sizes[1:, cv2.CC_STAT_AREA]))
    return np.asarray(pieces == largest, np.float32)


def _bounds(body: Plane) -> tuple[slice, ...]:
    """The smallest box around the mask, no side below SMALLEST_PX."""
    box = []
    for used in np.nonzero(body):
        low, high = int(used.min()), int(used.max()) + 1
        missing = max(0, SMALLEST_PX - (high - low))
        low = max(0, min(low - missing // 2, len(body) - SMALLEST_PX))
        box.append(slice(low, max(high, low + SMALLEST_PX)))
    return tuple(box)


def _develop(
    rng: np.random.Generator, stain: Stain, layers: Layers, body: Plane, diameter_px: float
) -> Image:
    """The photograph: what the stained layers absorb, light at the rim, blur, noise, mask."""
    depth = cv2.distanceTransform(np.pad(body, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    colour = stain.colour + rng.normal(0, 3, 3).astype(np.float32)
    shade = 1 + np.float32(rng.uniform(0.005, 0.02)) * smooth_noise(rng, layers.shape, 40.0)
    absorbed = sum(
        getattr(layers, name)[:, :, None] * (stain.marks * absorbed)
        for name, absorbed in _ABSORBED.items()
    )
    photo = colour * shade[:, :, None] * np.exp(-np.asarray(absorbed, np.float32))
    light = _disc_light(rng, stain, depth, diameter_px) + 0.5 * layers.halo
    photo += (_BACKGROUND - photo) * light.clip(0, 0.85)[:, :, None]
    photo = blurred(photo, stain.blur_px * rng.uniform(0.8, 1.5))
    grain = rng.standard_normal(photo.shape, np.float32)
    photo += stain.noise * 1.6 * blurred(grain, 0.6)
    # 1, not 0: on the cell no pixel is as black as the background
    return np.asarray(photo.round().clip(1, 255) * body[:, :, None], np.uint8)


def _disc_light(
    rng: np.random.Generator, stain: Stain, depth: ndarray, diameter_px: float
) -> Plane:
    """Light through the thin middle and along the rim, as a share of the background's."""
    from_middle = 1 - depth / max(float(depth.max()), 1.0)
    width = rng.uniform(0.25, 0.55)
    pallor = stain.pallor * rng.uniform(0.3, 1.5) * np.exp(-((from_middle / width) ** 2))
    rim = stain.rim * rng.uniform(0.5, 1.3) * np.exp(-depth / (0.02 * diameter_px))
    return np.asarray(pallor + rim, np.float32)
