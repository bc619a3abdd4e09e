"""Rows of the store, maps over them and weights as PNG pictures.

An image is drawn as it is, a signal as its traces, or as the spectrogram that its network sees:
what is drawn upon them, the part that a unit sees and the part that counts, is asked of one type.
"""

import io
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from PIL import Image as Pillow
from PIL import ImageDraw

from pipeline.core.competition import ImageDecoding, SignalDecoding
from pipeline.explain.cam import Map
from pipeline.scoring.seen import MOST_CURVES, Box, Drawn

COLOURS = [
    (11, 98, 164), (184, 66, 10), (15, 118, 110), (157, 27, 99), (106, 53, 201), (122, 100, 0),
    (71, 81, 96), (179, 38, 30),
]  # fmt: skip
"""Those of the report's style sheet, s0 to s7."""

Colour = tuple[int, int, int]

_RAISES, _LOWERS = np.array([214.0, 39, 20]), np.array([20.0, 90, 214])
_INK: Colour = (27, 31, 36)
_FINER = 4
"""How many times as large lines are drawn, before they are reduced."""


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

    @abstractmethod
    def weights(self, weights: Float[ndarray, "some channels *axes"]) -> Pillow.Image:
        """Weights that meet a row, side by side, in one scale that has 0 in its middle."""


Spectrograms = Callable[[ndarray], Float[ndarray, "channels bands frames"]]
"""What a network makes of a signal (length, channels) before it looks."""


def canvas_for(
    decoding: ImageDecoding | SignalDecoding,
    row_px: int,
    map_px: int,
    spectrograms: Spectrograms | None = None,
) -> Canvas:
    """The canvas for the kind of row that a network was trained on, and what it makes of it."""
    if spectrograms is not None:
        return SpectrogramCanvas(row_px, map_px, spectrograms)
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

    def weights(self, weights: Float[ndarray, "some channels height width"]) -> Pillow.Image:
        """0 is grey, the largest of all is white, or black.

        Three channels are red, green and blue; of any other number each is a picture of its own,
        above each other.
        """
        if weights.shape[1] not in (1, 3):
            count, channels, height, width = weights.shape
            weights = weights.reshape(count, 1, channels * height, width)
        most = float(np.abs(weights).max()) or 1.0
        levels = np.moveaxis(127.5 + 127.5 * weights / most, 1, -1).round().astype(np.uint8)
        tiles = [_sized(_image_of(each), _TILE_PX) for each in levels]
        return _side_by_side(tiles, _ACROSS)


@dataclass(frozen=True)
class SignalCanvas(Canvas):
    """Signals: at most three channels as traces above each other, time from left to right."""

    def plain(self, row: ndarray, boxes: Sequence[Box | None] = ()) -> Pillow.Image:
        sheet = _Sheet.blank(2 * self.row_px, self.row_px)
        sheet.traces(row, self._bars(sheet, row, boxes))
        return sheet.finish()

    def _bars(self, sheet: "_Sheet", row: ndarray, boxes: Sequence[Box | None]) -> int:
        """Draw what each unit sees of the signal as a bar above it; returns where it begins."""
        step = self.row_px // 19
        for place, (colour, box) in enumerate(zip(COLOURS, boxes, strict=False)):
            if box is not None:
                ends = box.left / len(row), box.right / len(row)
                sheet.bar(ends, (step * place, step * (place + 1) - 1), colour)
        return step * len(boxes)

    def heated(self, row: ndarray, found: Map) -> Pillow.Image:
        share = _smooth(found, (2 * self.row_px, self.row_px))[:, :, None]
        sheet = _Sheet.over(_blend(np.full((*share.shape[:2], 3), 255.0), share))
        sheet.traces(row)
        return _few_colours(sheet.finish())

    def strip(self, maps: Float[ndarray, "some height width"]) -> Pillow.Image:
        scale = float(maps.min()), float(maps.max())
        tiles = []
        for each in maps:
            sheet = _Sheet.blank(2 * self.map_px, self.map_px)
            sheet.curve(each[0], scale, (2.0, self.map_px - 2.0))
            tiles.append(sheet.finish())
        return _few_colours(_side_by_side(tiles, 6, 6))

    def weights(self, weights: Float[ndarray, "some channels length"]) -> Pillow.Image:
        """A curve for each channel, in the colours of COLOURS; grey is 0."""
        most = float(np.abs(weights).max()) or 1.0
        tiles = []
        for kernel in weights:
            sheet = _Sheet.blank(2 * self.map_px, self.map_px)
            for colour, values in zip(
                ((190, 190, 186), *COLOURS), (0 * kernel[0], *kernel), strict=False
            ):
                sheet.curve(values, (-most, most), (1.0, self.map_px - 1.0), colour)
            tiles.append(sheet.finish())
        return _few_colours(_side_by_side(tiles, _ACROSS, 6))


@dataclass(frozen=True)
class SpectrogramCanvas(SignalCanvas):
    """Signals as their network sees them: low bands below, what is strong in its band is dark."""

    spectrograms: Spectrograms

    def plain(self, row: ndarray, boxes: Sequence[Box | None] = ()) -> Pillow.Image:
        sheet = _Sheet.blank(2 * self.row_px, self.row_px)
        top = self._bars(sheet, row, boxes)
        image = sheet.finish()
        image.paste(self._picture(row, self.row_px - top), (0, top))
        return _few_colours(image)

    def heated(self, row: ndarray, found: Map) -> Pillow.Image:
        picture = self._picture(row, self.row_px)
        share = _smooth(found, picture.size)[:, :, None]
        return _few_colours(_blend(np.asarray(picture, np.float64), share))

    def _picture(self, row: ndarray, height: int) -> Pillow.Image:
        """The first channels above each other, in one scale without the most extreme values."""
        values = self.spectrograms(row)[:MOST_CURVES, ::-1]
        low, high = np.quantile(values, [0.02, 0.998])
        levels = _levels(-values.reshape(-1, values.shape[2]).clip(low, high))
        size = 2 * self.row_px, height
        return Pillow.fromarray(levels).resize(size, Pillow.Resampling.BOX).convert("RGB")


@dataclass(frozen=True)
class _Sheet:
    """Lines on a larger picture, which come out smooth."""

    image: Pillow.Image

    @classmethod
    def blank(cls, width: int, height: int) -> "_Sheet":
        return cls(Pillow.new("RGB", (_FINER * width, _FINER * height), (255, 255, 255)))

    @classmethod
    def over(cls, image: Pillow.Image) -> "_Sheet":
        return cls(image.resize((_FINER * image.width, _FINER * image.height)))

    def bar(self, ends: tuple[float, float], rows: tuple[int, int], colour: Colour) -> None:
        """A bar between two shares of the width, in some rows of pixels."""
        left, right = (round(end * self.image.width) for end in ends)
        top, bottom = rows
        box = (left, _FINER * top, max(left, right - 1), _FINER * bottom - 1)
        ImageDraw.Draw(self.image).rectangle(box, fill=colour)

    def traces(self, row: ndarray, top: int = 0) -> None:
        """The channels of a row, each from its least to its largest value."""
        channels = row[:, :MOST_CURVES].T.astype(np.float64)
        band = (self.image.height / _FINER - top) / len(channels)
        for place, values in enumerate(channels):
            start = top + place * band
            scale = float(values.min()), float(values.max())
            self.curve(values, scale, (start + 2, start + band - 2))

    def curve(
        self,
        values: Float[ndarray, " length"],
        scale: tuple[float, float],
        ends: tuple[float, float],
        colour: Colour = _INK,
    ) -> None:
        """Values from left to right. ends: where the largest and the least of the scale are."""
        low, high = scale
        top, bottom = ends
        across = (np.arange(len(values)) + 0.5) / len(values) * self.image.width
        share = (values - low) / ((high - low) or 1.0)
        down = _FINER * (bottom - (bottom - top) * share)
        points = list(zip(across.tolist(), down.tolist(), strict=True))
        pen = max(5, self.image.height // 77)
        ImageDraw.Draw(self.image).line(points, colour, pen, "curve")

    def finish(self) -> Pillow.Image:
        return self.image.reduce(_FINER)


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


def _side_by_side(tiles: list[Pillow.Image], across: int, gap: int = 2) -> Pillow.Image:
    """Tiles of one size in lines, with a gap between them."""
    width, height = tiles[0].width + gap, tiles[0].height + gap
    lines = -(-len(tiles) // across)
    mode = tiles[0].mode
    size = (min(across, len(tiles)) * width - gap, lines * height - gap)
    sheet = Pillow.new(mode, size, 255 if mode == "L" else (255, 255, 255))
    for place, tile in enumerate(tiles):
        sheet.paste(tile, (place % across * width, place // across * height))
    return sheet
