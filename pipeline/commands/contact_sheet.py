"""A contact sheet: images side by side with a few words below each, as one PNG.

Drawn with Pillow and the font that it brings along, so that it needs nothing else and looks the
same everywhere. That font knows Latin letters: others are drawn as boxes, as arrows would be.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from pipeline.core.shapes import Image

SIDE_PX = 96
_GAP_PX = 12
_FONT_PX = 13
_LINE_PX = 16
_PAPER, _INK = (255, 255, 255), (20, 20, 20)


@dataclass(frozen=True)
class Picture:
    """An image, and the lines below it; one that is too long loses its middle."""

    pixels: Image
    lines: list[str]


def draw_gallery(pictures: Sequence[Picture], columns: int) -> bytes:
    """The pictures from left to right and top to bottom, as a PNG; the same for the same input."""
    font = ImageFont.load_default(_FONT_PX)
    lines = max(len(picture.lines) for picture in pictures)
    wide, high = SIDE_PX + _GAP_PX, SIDE_PX + lines * _LINE_PX + _GAP_PX
    rows = -(-len(pictures) // columns)
    size = min(columns, len(pictures)) * wide + _GAP_PX, rows * high + _GAP_PX
    sheet = Pillow.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, picture in enumerate(pictures):
        left = _GAP_PX + place % columns * wide
        top = _GAP_PX + place // columns * high
        image = Pillow.fromarray(picture.pixels)
        sheet.paste(image.resize((SIDE_PX, SIDE_PX), Pillow.Resampling.BICUBIC), (left, top))
        for line, text in enumerate(picture.lines):
            below = top + SIDE_PX + line * _LINE_PX
            draw.text((left + 1, below), _shorten(text, font), _INK, font)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Names that count differ at their ends, so that the middle goes first."""
    kept, short = len(text), text
    while font.getbbox(short)[2] >= SIDE_PX and kept > 2:
        kept -= 1
        short = f"{text[: kept // 2]}..{text[len(text) - (kept - kept // 2) :]}"
    return short
