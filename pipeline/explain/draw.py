"""Rows of the store, maps over them and weights as PNG pictures.

An image is drawn as it is, a signal as its traces: what is drawn upon them, the part that a unit
sees and the part that counts, is asked of one type for the kind of row.
"""

import io
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from PIL import Image as Pillow
from PIL import ImageDraw

from pipeline.core.competition import ImageDecoding, SignalDecoding
from pipeline.explain.cam import Map
from pipeline.scoring.seen import Box, Drawn

COLOURS = [
    (11, 98, 164), (184, 66, 10), (15, 118, 110), (157, 27, 99), (106, 53, 201), (122, 100, 0),
    (71, 81, 96), (179, 38, 30),
]  # fmt: skip
"""Those of the report's style sheet, s0 to s7."""

_RAISES, _LOWERS = np.array([214.0, 39, 20]), np.array([20.0, 90, 214])
_GREY = (128, 128, 128)


@dataclass
class Album:
    """The pictures of a record."""

    pictures: dict[str, bytes] = field(default_factory=dict)

    def add(self, name: str, image: Pillow.Image) -> Drawn:
        """A picture as NAME.png."""
        content = io.BytesIO()
        image.save(content, "PNG", optimize=True)
        self.pictures[f"{name}.png"] = content.getvalue()
        return Drawn(file=f"{name}.png", width=image.width, height=image.height)


@dataclass(frozen=True)
class Canvas:
    """How a kind of row is drawn: about row_px a side, and maps of it about map_px."""

    row_px: int
    map_px: int

    @abstractmethod
    def plain(self, row: ndarray, boxes: Sequence[Box | None] = ()) -> Pillow.Image:
        """The row, with the part inside each box framed in the colour of its place."""

    @abstractmethod
    def heated(self, row: ndarray, found: Map) -> Pillow.Image:
        """The row in grey; red is what raises an output, blue what lowers it."""

    @abstractmethod
    def strip(self, maps: Float[ndarray, "some height width"]) -> Pillow.Image:
        """Maps side by side, in one scale from the least to the largest value."""


def canvas_for(decoding: ImageDecoding | SignalDecoding, row_px: int, map_px: int) -> Canvas:
    """The canvas for the kind of row that a network was trained on."""
    if isinstance(decoding, SignalDecoding):
        return SignalCanvas(row_px, map_px)
    return ImageCanvas(row_px, map_px)


@dataclass(frozen=True)
class ImageCanvas(Canvas):
    """Images, of one or three channels."""

    def plain(self, row: ndarray, boxes: Sequence[Box | None] = ()) -> Pillow.Image:
        image = _sized(_image_of(row), self.row_px)
        if boxes:
            image = image.convert("RGB")
        draw, times = ImageDraw.Draw(image), image.height / row.shape[0]
        for colour, box in zip(COLOURS, boxes, strict=False):
            if box is not None:
                left, top = round(box.left * times), round(box.top * times)
                right, bottom = round(box.right * times) - 1, round(box.bottom * times) - 1
                frame = (left, top, max(left, right), max(top, bottom))
                draw.rectangle(frame, outline=colour, width=max(1, self.row_px // 96))
        return image

    def heated(self, row: ndarray, found: Map) -> Pillow.Image:
        grey = _sized(_image_of(row).convert("L"), self.row_px)
        share = _smooth(found, grey.size)[:, :, None]
        base = np.asarray(grey, np.float64)[:, :, None]
        return _few_colours(_blend(np.broadcast_to(base, (*base.shape[:2], 3)), share))

    def strip(self, maps: Float[ndarray, "some height width"]) -> Pillow.Image:
        tiles = [_sized(Pillow.fromarray(level), self.map_px) for level in _levels(maps)]
        return _side_by_side(tiles, len(tiles))


@dataclass(frozen=True)
class SignalCanvas(Canvas):
    """Signals: at most three channels as traces above each other, time from left to right."""

    @property
    def _size(self) -> tuple[int, int]:
        return 2 * self.row_px, self.row_px

    def plain(self, row: ndarray, boxes: Sequence[Box | None] = ()) -> Pillow.Image:
        image = Pillow.new("RGB", self._size, (255, 255, 255))
        draw = ImageDraw.Draw(image)
        times = image.width / len(row)
        for place, (colour, box) in enumerate(zip(COLOURS, boxes, strict=False)):
            if box is not None:
                ends = round(box.left * times), max(0, round(box.right * times) - 1)
                draw.rectangle((ends[0], 4 * place, ends[1], 4 * place + 2), fill=colour)
        _trace(draw, row, image.size)
        return image

    def heated(self, row: ndarray, found: Map) -> Pillow.Image:
        width, height = self._size
        share = _smooth(found, (width, height))[:, :, None]
        image = _blend(np.full((height, width, 3), 255.0), share)
        _trace(ImageDraw.Draw(image), row, image.size)
        return _few_colours(image)

    def strip(self, maps: Float[ndarray, "some height width"]) -> Pillow.Image:
        tiles = []
        for each in maps:
            tile = Pillow.new("L", (2 * self.map_px, self.map_px), 255)
            _trace(ImageDraw.Draw(tile), each.T, tile.size)
            tiles.append(tile)
        return _side_by_side(tiles, len(tiles))


def draw_weights(weights: Float[ndarray, "some channels height width"]) -> Pillow.Image:
    """Weights as pictures, all in one scale: 0 is grey, the largest of all is white, or black.

    Three channels are red, green and blue; of any other number each is a picture of its own, above
    each other.
    """
    if weights.shape[1] not in (1, 3):
        count, channels, height, width = weights.shape
        weights = weights.reshape(count, 1, channels * height, width)
    most = float(np.abs(weights).max()) or 1.0
    levels = np.moveaxis(127.5 + 127.5 * weights / most, 1, -1).round().astype(np.uint8)
    tiles = [_sized(_image_of(each), _TILE_PX) for each in levels]
    return _side_by_side(tiles, _ACROSS)


_TILE_PX, _ACROSS = 36, 8


def _image_of(row: ndarray) -> Pillow.Image:
    return Pillow.fromarray(row[:, :, 0] if row.shape[2] == 1 else np.ascontiguousarray(row))


def _sized(image: Pillow.Image, side_px: int) -> Pillow.Image:
    """A whole multiple of its size where that is smaller than side_px, else reduced to it."""
    longest = max(image.size)
    times = side_px // longest if longest <= side_px else side_px / longest
    width, height = (max(1, round(each * times)) for each in image.size)
    kind = Pillow.Resampling.NEAREST if times >= 1 else Pillow.Resampling.BOX
    return image.resize((width, height), kind)


def _smooth(found: Map, size: tuple[int, int]) -> ndarray:
    """A map as shares of its largest value, smoothly enlarged."""
    most = float(np.abs(found).max()) or 1.0
    image = Pillow.fromarray((found / most).astype(np.float32))
    return np.asarray(image.resize(size, Pillow.Resampling.BILINEAR), np.float64)


def _blend(base: ndarray, share: ndarray) -> Pillow.Image:
    colour = np.where(share > 0, _RAISES, _LOWERS)
    weight = 0.7 * np.abs(share).clip(0, 1)
    return Pillow.fromarray((base * (1 - weight) + colour * weight).round().astype(np.uint8))


def _few_colours(image: Pillow.Image) -> Pillow.Image:
    """A third of the bytes, and no difference to be seen."""
    return image.quantize(128, Pillow.Quantize.MEDIANCUT)


def _levels(maps: ndarray) -> ndarray:
    low, high = float(maps.min()), float(maps.max())
    scaled: ndarray = (255 * (maps - low) / ((high - low) or 1.0)).round().astype(np.uint8)
    return scaled


def _side_by_side(tiles: list[Pillow.Image], across: int) -> Pillow.Image:
    """Tiles of one size in lines, with a gap between them."""
    width, height = tiles[0].width + 2, tiles[0].height + 2
    lines = -(-len(tiles) // across)
    mode = tiles[0].mode
    size = (min(across, len(tiles)) * width - 2, lines * height - 2)
    sheet = Pillow.new(mode, size, 255 if mode == "L" else (255, 255, 255))
    for place, tile in enumerate(tiles):
        sheet.paste(tile, (place % across * width, place // across * height))
    return sheet


def _trace(draw: ImageDraw.ImageDraw, row: ndarray, size: tuple[int, int]) -> None:
    """row: (length, channels)."""
    channels = row[:, :3].T.astype(np.float64)
    band = (size[1] - 8) / len(channels)
    across = np.linspace(2, size[0] - 3, row.shape[0])
    for place, values in enumerate(channels):
        low, high = float(values.min()), float(values.max())
        down = 4 + band * (place + 0.95 - 0.9 * (values - low) / ((high - low) or 1.0))
        draw.line(list(zip(across.tolist(), down.tolist(), strict=True)), fill="black")
