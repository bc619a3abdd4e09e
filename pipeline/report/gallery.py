"""Which images are worth a look, and their pictures as data URIs.

An image that every network is sure of, against its label, is either the hardest kind or wrongly
labelled; one at the border between two classes is what more training can win. Both are of
out-of-fold rows.
"""

import io
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from jaxtyping import Int
from markupsafe import Markup
from numpy import ndarray
from PIL import Image as Pillow

from pipeline.report.facts import Facts, Noise, Rows

MOST = 24
"""Images of a gallery."""

SIDE_PX = 96
"""Longest side of a picture: 72 of them, of pure noise, are 2.7 MB of page."""

Places = Int[ndarray, " some"]


@dataclass(frozen=True)
class Tile:
    """An image with what was said of it. chances: of the given and of the predicted class."""

    image_id: str
    group: str
    given: str
    predicted: str
    of_given: float
    of_predicted: float
    label_rank: int | None
    """Among the doubtful labels; None for one that is not doubtful."""
    picture: Markup | str
    """A data URI, or an SVG element where a row is no image."""


@dataclass(frozen=True)
class Galleries:
    """The images to look at."""

    mistakes: list[Tile]
    closest: list[Tile]
    doubtful: list[Tile]
    """Labels that are probably wrong and are not shown among the mistakes."""


def show_galleries(facts: Facts, images: ndarray, row_of: dict[str, int]) -> Galleries:
    """The three galleries. images: the packed training array; row_of: the row of each id."""
    rows = facts.rows
    mistakes = surest_mistakes(rows)[:MOST]
    closest = closest_calls(rows, facts.card.blend.threshold if facts.card.blend else None)
    doubtful = _doubtful_labels(facts.noise, rows, set(mistakes.tolist()))
    tiles = [
        [_describe(int(place), facts, images, row_of) for place in places[:MOST]]
        for places in (mistakes, closest, doubtful)
    ]
    return Galleries(*tiles)


def surest_mistakes(rows: Rows) -> Places:
    """The wrong rows, the surest first; of equals by id."""
    wrong = np.flatnonzero(rows.predicted != rows.labels)
    return _sort(wrong, -rows.probabilities[wrong, rows.predicted[wrong]], rows)


def closest_calls(rows: Rows, threshold: float | None) -> Places:
    """All rows, by how far the probability is from deciding for another class; of equals by id.

    threshold: of the second of two classes; None where the most probable class is taken.
    """
    if threshold is None:
        ordered = np.sort(rows.probabilities, axis=1)
        distance = ordered[:, -1] - ordered[:, -2]
    else:
        distance = np.abs(rows.probabilities[:, 1] - threshold)
    return _sort(np.arange(len(distance)), distance, rows)


def picture(row: ndarray) -> Markup | str:
    """The data URI of an image as PNG, at most SIDE_PX a side; of any other row, its curve."""
    if row.ndim == 3 and row.shape[2] in (1, 3) and row.dtype == np.uint8:
        image = Pillow.fromarray(row[:, :, 0] if row.shape[2] == 1 else row)
        longest = max(image.size)
        if longest > SIDE_PX:
            size = tuple(max(1, round(side * SIDE_PX / longest)) for side in image.size)
            image = image.resize((size[0], size[1]), Pillow.Resampling.BOX)
        file = io.BytesIO()
        image.save(file, "PNG", optimize=True)
        return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
    return _draw_signal(row.reshape(row.shape[0], -1)[:, 0].astype(np.float64))


def _draw_signal(values: ndarray) -> Markup:
    values = values[np.linspace(0, len(values) - 1, min(len(values), 2 * SIDE_PX)).astype(np.int64)]
    low, high = float(values.min()), float(values.max())
    heights = 92 - 88 * (values - low) / ((high - low) or 1.0)
    across = np.linspace(2, 94, len(values))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, heights, strict=True))
    svg = Element("svg", {"class": "chart signal", "viewBox": "0 0 96 96", "aria-hidden": "true"})
    SubElement(svg, "polyline", {"class": "line s0", "points": points})
    return Markup(tostring(svg, encoding="unicode"))


def _doubtful_labels(noise: Noise | None, rows: Rows, shown: Iterable[int]) -> Places:
    """In the order of the ranking; those that are shown already left out."""
    if noise is None:
        return np.array([], np.int64)
    place_of = {image_id: place for place, image_id in enumerate(rows.image_ids)}
    ranked = noise.ranking.index[noise.ranking["doubtful"]]
    left_out = set(shown)
    return np.array([place_of[name] for name in ranked if place_of[name] not in left_out], np.int64)


def _describe(place: int, facts: Facts, images: ndarray, row_of: dict[str, int]) -> Tile:
    rows = facts.rows
    image_id, predicted, given = rows.image_ids[place], rows.predicted[place], rows.labels[place]
    rank = None
    if facts.noise and facts.noise.ranking["doubtful"][image_id]:
        rank = int(facts.noise.ranking["rank"][image_id])
    return Tile(
        image_id,
        rows.groups[place],
        facts.classes[given],
        facts.classes[predicted],
        float(rows.probabilities[place, given]),
        float(rows.probabilities[place, predicted]),
        rank,
        picture(np.asarray(images[row_of[image_id]])),
    )


def _sort(places: Places, keys: ndarray, rows: Rows) -> Places:
    names = [rows.image_ids[place] for place in places]
    order = sorted(range(len(places)), key=lambda at: (float(keys[at]), names[at]))
    return places[order]
