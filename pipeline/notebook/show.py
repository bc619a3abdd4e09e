"""What a cell shows: the report's charts, or pictures with captions, as one SVG; or a page.

An SVG is text whose bytes depend on the figures alone. Ids and class names come from strangers:
ElementTree escapes them, and `printable` keeps out what XML does not allow.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from markupsafe import Markup

from pipeline.core.terminal import printable
from pipeline.report import svg

SIDE_PX = 88
"""The side of a picture's tile."""

_PAGE_PX = 640

_GAP_PX = 12
_LINE_PX = 13
_LETTER_PX = 6
"""The height of a caption's line below a tile, and the width of a letter."""


@dataclass(frozen=True)
class Drawing:
    """An SVG that a notebook shows."""

    svg: str

    def __repr__(self) -> str:
        return "a drawing"  # where no picture can be shown

    def _repr_svg_(self) -> str:
        return self.svg


@dataclass(frozen=True)
class Page:
    """A page of its own, in a frame that runs no scripts."""

    html: str

    def __repr__(self) -> str:
        return "a page"

    def _repr_html_(self) -> str:
        style = f"width: 100%; height: {_PAGE_PX}px; border: 0"
        return f'<iframe sandbox style="{style}" srcdoc="{escape(self.html)}"></iframe>'


def charts(*each: Markup) -> Drawing:
    """Charts of pipeline/report/plots.py, two in a row."""
    drawn = [fromstring(chart) for chart in each]
    sizes = [tuple(map(float, chart.attrib["viewBox"].split()[2:])) for chart in drawn]
    root = Element("svg")
    top = 0.0
    for start in range(0, len(drawn), 2):
        row = list(zip(drawn[start : start + 2], sizes[start : start + 2], strict=True))
        for place, (chart, (width, height)) in enumerate(row):
            left = place * (svg.WIDTH + _GAP_PX)
            chart.attrib |= {"x": f"{left:g}", "y": f"{top:g}"}
            chart.attrib |= {"width": f"{width:g}", "height": f"{height:g}"}
            root.append(chart)
        top += max(height for _, (_, height) in row) + _GAP_PX
    return _finish(root, min(2, len(drawn)) * (svg.WIDTH + _GAP_PX), top)


def pictures(
    tiles: Iterable[tuple[Markup | str, Sequence[str]]], columns: int = 8, side: int = SIDE_PX
) -> Drawing:
    """Pictures of pipeline/report/gallery.py, each with the lines of its caption below it."""
    listed = list(tiles)
    lines = max((len(caption) for _, caption in listed), default=0)
    step = side + _GAP_PX
    high = step + lines * _LINE_PX
    root = Element("svg")
    for place, (picture, caption) in enumerate(listed):
        left, top = place % columns * step, place // columns * high
        box = {"x": str(left), "y": str(top), "width": str(side), "height": str(side)}
        if isinstance(picture, Markup):
            tile = fromstring(picture)
            tile.attrib |= box
        else:
            tile = Element("image", box | {"href": picture})
        SubElement(tile, "title").text = printable(", ".join(caption))
        root.append(tile)
        for line, text in enumerate(caption, 1):
            at = {"x": str(left), "y": str(top + side + line * _LINE_PX)}
            SubElement(root, "text", at).text = svg.short(printable(text), side // _LETTER_PX)
    rows = -(-len(listed) // columns)
    return _finish(root, min(columns, len(listed)) * step, rows * high)


def _finish(root: Element, width: float, height: float) -> Drawing:
    """The root with its size, the report's colours in their light mode, and a background."""
    size = {"width": f"{width:g}", "height": f"{height:g}"}
    root.attrib |= {"xmlns": "http://www.w3.org/2000/svg", "class": "chart drawing"} | size
    root.attrib["viewBox"] = f"0 0 {width:g} {height:g}"
    style = Element("style")
    style.text = _style()
    root.insert(0, Element("rect", size | {"style": "fill: var(--paper)"}))
    root.insert(0, style)
    return Drawing(tostring(root, encoding="unicode"))


@cache
def _style() -> str:
    """The report's style of charts, whose colours hold in this drawing alone."""
    text = Path(svg.__file__).with_name("chart.css").read_text(encoding="utf-8")
    return text.replace(":root", ".drawing")
