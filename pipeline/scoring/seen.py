"""explain/MEMBER/seen.json: what a trained network sees, with its pictures as PNG files beside it.

Stage `explain` writes it, the report draws it. Whatever is a place in a row is in stored pixels,
from the first one's upper left corner on; a signal is a row of height 1.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.core.errors import TableError
from pipeline.core.files import read_whole
from pipeline.core.record import Count, Figure, Record, Some, read_record

SEEN = "seen.json"

MOST_CURVES = 3
"""Channels of a signal that are drawn, here and in the report's galleries."""

Pictures = Mapping[str, bytes]
"""The content of each PNG by the name of its file."""

PictureFile = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,80}\.png$")]


class Drawn(Record):
    """A picture, and its size."""

    file: PictureFile
    width: Some
    height: Some


class LayerTexts(Record):
    """The network's layers as command `describe` prints them."""

    columns: list[str]
    rows: list[list[str]]
    notes: list[str]


class FirstWeights(Record):
    """The weights that meet the pixels.

    kernels: windows of a convolution; pixels: one weight for each pixel and output.
    """

    layer: str
    kind: Literal["kernels", "pixels"]
    count: Some
    """How many the layer has; the picture may have fewer."""
    names: list[str]
    """The outputs' names, where the layer is all that the network has; else empty."""
    curves: list[str]
    """What each curve of a signal's weights meets, in the order of their colours; else none."""
    picture: Drawn


class FieldGrid(Record):
    """The receptive field of a layer's units: height and width each."""

    size: tuple[Figure, Figure]
    jump: tuple[Figure, Figure]
    offset: tuple[Figure, Figure]
    """The centre of the first unit's field; the first pixel's is 0."""


class MapLayer(Record):
    """The last layer of those that give maps of one size."""

    layer: str
    channels: Some
    sides: tuple[Some, Some]
    field: FieldGrid | None
    """None where each unit sees the whole row, or it is not known."""


class Box(Record):
    """The part of a row that a unit can see."""

    top: Figure
    left: Figure
    bottom: Figure
    right: Figure


class LayerMaps(Record):
    """The feature maps of one layer for one row: the channels with the largest mean."""

    layer: str
    channels: list[Count]
    picture: Drawn
    unit: tuple[Count, Count]
    """The row and column of the largest value in the first of the channels."""
    box: Box | None


class Heat(Record):
    """A map of what counts for an output, and the same of the network with shuffled weights."""

    picture: Drawn
    shuffled: Drawn
    correlation: Figure | None
    """Spearman's, of both; None where one of them is the same everywhere."""


class ShownRow(Record):
    """One image or signal."""

    image_id: str
    group: str
    given: str | None
    """None where no label is known."""
    predicted: str
    right: bool | None
    explained: str
    """The output that the maps are of."""
    value: Figure
    """Its value in the model's table of predictions."""
    picture: Drawn
    """The row with the boxes of `maps`."""
    maps: list[LayerMaps]
    cam: Heat | None
    """None where the network has no maps."""
    occlusion: Heat
    agreement: Figure | None
    """Spearman's correlation of Grad-CAM and occlusion."""


class PointMap(Record):
    """The rows by the last hidden layer, brought to two axes; all lists are parallel."""

    method: Literal["PCA", "t-SNE"]
    kept: Figure | None
    """The share of the variance that the axes have; None of t-SNE."""
    of_rows: Some
    x: list[Figure]
    y: list[Figure]
    labels: list[str]
    wrong: list[bool]
    groups: list[str]
    """Empty without groups."""


class SharedGroups(Record):
    """How often the nearest other row with the same label is of the same group.

    expected: where it is drawn among the rows with the same label.
    """

    observed: Figure
    expected: Figure
    rows: Some


class Neighbour(Record):
    """A training image and its cosine."""

    image_id: str
    label: str
    cosine: Figure
    picture: Drawn


class NearestRows(Record):
    """The training images that are nearest to an image of test."""

    image_id: str
    predicted: str
    picture: Drawn
    neighbours: list[Neighbour]


class Explanation(Record):
    """What one network sees."""

    model: str
    fold: Count
    network: str
    kind: Literal["images", "signals"]
    weights_sha256: str
    cells: tuple[Some, Some]
    """The grid on which maps are compared."""
    grouped: bool
    layers: LayerTexts
    first: FirstWeights | None
    maps: list[MapLayer]
    left_out: list[str]
    """A sentence for each picture that this kind of network has not."""
    rows: list[ShownRow]
    points: PointMap
    shared: SharedGroups | None
    """None without groups of several rows."""
    searched: Some
    """The number of training images among which `nearest` are."""
    nearest: list[NearestRows]


def read_explanation(folder: Path, model: str) -> tuple[Explanation, Pictures]:
    """What stage `explain` wrote. Raises TableError where a file is missing or in another shape."""
    stage = f"explain@{model}"
    found = read_record(folder / SEEN, Explanation, stage)
    if found.model != model:
        raise TableError(
            f"{folder / SEEN}: expected the model {model}, found {found.model}. "
            f"Run: dvc repro --force {stage}"
        )
    names = sorted({each.file for each in list_drawn(found)})
    remedy = f"dvc repro --force {stage}"
    return found, {name: read_whole(folder / name, remedy) for name in names}


def list_drawn(part: object) -> list[Drawn]:
    """All pictures in a record or a part of one."""
    if isinstance(part, Drawn):
        return [part]
    inner: list[object] = []
    if isinstance(part, Record):
        inner = [getattr(part, name) for name in type(part).model_fields]
    elif isinstance(part, list):
        inner = part
    return [each for value in inner for each in list_drawn(value)]
