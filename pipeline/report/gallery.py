"""Which images are worth a look, and their pictures as data URIs.

An image for which the prediction is confident and contradicts the label is either very hard or
wrongly labelled; one at the border between two classes is where more training can help. Both are
chosen among the out-of-fold rows.
"""

import io
from base64 import b64encode
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from jaxtyping import Int
from markupsafe import Markup
from numpy import ndarray
from PIL import Image as Pillow

from pipeline.core.task import AnyOf, Number, OneOf, describe_label, expected_place
from pipeline.report.diagnosis import PredictedRows
from pipeline.report.facts import ReportFacts

MOST = 24
"""Images in a gallery."""

SIDE_PX = 96
"""Longest side of a picture: 72 of them, of pure noise, are 2.7 MB of page."""

Places = Int[ndarray, " some"]


@dataclass(frozen=True)
class Tile:
    """An image with its label and its prediction."""

    image_id: str
    group: str
    given: str
    predicted: str
    probability_of_given: float | None
    probability_of_predicted: float | None
    """None where an image has not exactly one class."""
    label_rank: int | None
    """The place among the doubtful labels, from 1 on; None for a label that is not doubtful."""
    picture: Markup | str
    """A data URI, or an SVG element where a row is no image."""


def show_galleries(
    facts: ReportFacts, images: ndarray, row_of: dict[str, int]
) -> dict[str, list[Tile]]:
    """At most MOST images each: `mistakes`, `closest`, and the `doubtful` labels of other images.

    images: the stored training array, one image or signal a row. row_of: the row of each image id.
    """
    rows = facts.rows
    rank_of: dict[str, int] = {}
    if facts.noise:
        ranking = facts.noise.ranking[facts.noise.ranking["doubtful"]]
        rank_of = dict(zip(ranking["image_id"], ranking["rank"].tolist(), strict=True))
    place_of = {image_id: place for place, image_id in enumerate(rows.image_ids)}
    mistakes = confident_mistakes(rows)[:MOST].tolist()
    closest = closest_decisions(rows, facts.card.blend.fitted.cuts)[:MOST].tolist()
    doubtful = [place_of[image_id] for image_id in rank_of if place_of[image_id] not in mistakes]

    def describe(place: int) -> Tile:
        image_id = rows.image_ids[place]
        given, predicted = rows.labels[place], rows.decided[place]
        one_of = isinstance(rows.task, OneOf)
        return Tile(
            image_id,
            rows.groups[place],
            describe_label(rows.task, given),
            describe_label(rows.task, predicted),
            float(rows.values[place, given]) if one_of else None,
            float(rows.values[place, predicted]) if one_of else None,
            rank_of.get(image_id),
            picture(np.asarray(images[row_of[image_id]])),
        )

    chosen = {"mistakes": mistakes, "closest": closest, "doubtful": doubtful[:MOST]}
    return {name: [describe(place) for place in places] for name, places in chosen.items()}


def confident_mistakes(rows: PredictedRows) -> Places:
    """The wrong rows, the most confident first, or those of the largest loss; equal ones by id."""
    wrong = np.flatnonzero(~rows.right)
    if not isinstance(rows.task, OneOf):
        return _sort(wrong, -rows.losses[wrong], rows)
    return _sort(wrong, -rows.values[wrong, rows.decided[wrong]], rows)


def closest_decisions(rows: PredictedRows, cuts: list[float] | None) -> Places:
    """All rows, by the distance of the predictions from another decision; equal ones by id.

    cuts: as the task's `decide` takes them. Numbers are no decisions: none.
    """
    if isinstance(rows.task, Number):
        return np.empty(0, np.int64)
    if isinstance(rows.task, AnyOf):
        distance = np.abs(rows.values - (0.5 if cuts is None else np.array(cuts))).min(axis=1)
    elif cuts is None:
        ordered = np.sort(rows.values, axis=1)
        distance = ordered[:, -1] - ordered[:, -2]
    elif len(rows.task.classes) == 2:
        distance = np.abs(rows.values[:, 1] - cuts[0])
    else:
        distance = np.abs(expected_place(rows.values)[:, None] - np.array(cuts)).min(axis=1)
    return _sort(np.arange(len(distance)), distance, rows)


def picture(row: ndarray) -> Markup | str:
    """An image as the data URI of a PNG, at most SIDE_PX a side; any other row as a curve."""
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


def _sort(places: Places, keys: ndarray, rows: PredictedRows) -> Places:
    names = [rows.image_ids[place] for place in places]
    order = sorted(range(len(places)), key=lambda at: (float(keys[at]), names[at]))
    return places[order]
