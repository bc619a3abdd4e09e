"""Axes of a chart as inline SVG, as wide as a phone, so that its text is never scaled down.

Written by hand instead of with matplotlib: colours come from the page's style sheet, so they follow
its light and dark mode; ten charts are 60 kB and take a few milliseconds; the bytes depend on the
figures alone.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

WIDTH = 340.0
RIGHT, TOP, BOTTOM = 14.0, 10.0, 42.0
"""Margins."""

DIGIT = 6.4
"""Width of a digit of the ticks."""


@dataclass(frozen=True)
class Scale:
    """An axis: its ends, its ticks, and its label."""

    low: float
    high: float
    ticks: list[float]
    label: str

    def text(self, tick: float) -> str:
        """A tick with as many decimals as it needs to differ from the next one."""
        step = self.ticks[1] - self.ticks[0] if len(self.ticks) > 1 else 1.0
        if 0 < step < 1e-4:
            return f"{tick:.0e}" if tick else "0"
        return f"{tick:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def scale(values: Iterable[float], label: str, whole: bool = False) -> Scale:
    """About five ticks at 1, 2 or 5 times a power of ten around the values; whole: integers."""
    known = [value for value in values if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if high - low < 1e-9:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough * 0.999)
    if whole:
        step = max(1.0, round(step, 0))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = [round(number * step, 12) for number in range(first, last + 1)]
    return Scale(marks[0], marks[-1], marks, label)


class Chart:
    """Axes, and shapes in the units of the axes; `style` is always a class of the style sheet."""

    def __init__(
        self, what: str, x: Scale, y: Scale, height: float = 230.0, left: float | None = None
    ) -> None:
        longest = max((len(y.text(tick)) for tick in y.ticks), default=0)
        self.x, self.y, self.height = x, y, height
        self.left = 24 + DIGIT * longest if left is None else left
        self.svg = Element(
            "svg",
            {"class": "chart", "viewBox": f"0 0 {WIDTH:g} {height:g}", "role": "img"}
            | {"aria-label": what},
        )
        for tick in x.ticks:
            self.segment((tick, y.low), (tick, y.high), "grid")
            self.text(self.across(tick), height - BOTTOM + 18, x.text(tick), "tick middle")
        middle = (self.left + WIDTH - RIGHT) / 2
        self.text(middle, height - 6, short(x.label, 44), "axis middle")
        for tick in y.ticks:
            self.segment((x.low, tick), (x.high, tick), "grid")
            self.text(self.left - 7, self.down(tick) + 4, y.text(tick), "tick end")
        if y.label:
            middle = (TOP + height - BOTTOM) / 2
            turned = f"rotate(-90 10 {middle:g})"
            self.text(10.0, middle, short(y.label, 30), "axis middle", transform=turned)

    def across(self, value: float) -> float:
        share = (value - self.x.low) / (self.x.high - self.x.low)
        return self.left + share * (WIDTH - self.left - RIGHT)

    def down(self, value: float) -> float:
        share = (value - self.y.low) / (self.y.high - self.y.low)
        return self.height - BOTTOM - share * (self.height - BOTTOM - TOP)

    def text(self, x: float, y: float, text: str, style: str, **more: str) -> None:
        attributes = {"x": _number(x), "y": _number(y), "class": style} | more
        SubElement(self.svg, "text", attributes).text = text

    def segment(self, start: tuple[float, float], end: tuple[float, float], style: str) -> None:
        (x1, y1), (x2, y2) = start, end
        ends = {"x1": self.across(x1), "y1": self.down(y1)}
        self._shape("line", style, ends | {"x2": self.across(x2), "y2": self.down(y2)})

    def line(self, points: Iterable[tuple[float, float]], style: str) -> None:
        places = (
            f"{_number(self.across(x))},{_number(self.down(y))}"
            for x, y in points
            if math.isfinite(x) and math.isfinite(y)
        )
        joined = " ".join(place for place, _ in groupby(places))
        SubElement(self.svg, "polyline", {"class": f"line {style}", "points": joined})

    def dot(self, x: float, y: float, radius: float, style: str) -> None:
        self._shape("circle", style, {"cx": self.across(x), "cy": self.down(y), "r": radius})

    def dots(self, points: Iterable[tuple[float, float]], style: str) -> None:
        """Many of them in one shape: a tenth of the bytes."""
        places = (f"M{_number(self.across(x))},{_number(self.down(y))}h0" for x, y in points)
        SubElement(self.svg, "path", {"class": f"dots {style}", "d": "".join(places)})

    def diamond(self, x: float, y: float, style: str) -> None:
        at_x, at_y = self.across(x), self.down(y)
        corners = [(at_x, at_y - 6), (at_x + 6, at_y), (at_x, at_y + 6), (at_x - 6, at_y)]
        points = " ".join(f"{_number(x)},{_number(y)}" for x, y in corners)
        SubElement(self.svg, "polygon", {"class": style, "points": points})

    def box(self, x: tuple[float, float], y: tuple[float, float], style: str) -> None:
        left, right = self.across(x[0]), self.across(x[1])
        top, bottom = self.down(y[1]), self.down(y[0])
        size = {"width": right - left, "height": bottom - top}
        self._shape("rect", style, {"x": left, "y": top} | size)

    def _shape(self, tag: str, style: str, places: dict[str, float]) -> None:
        numbers = {name: _number(at) for name, at in places.items()}
        SubElement(self.svg, tag, numbers | {"class": style})

    def markup(self) -> Markup:
        return Markup(tostring(self.svg, encoding="unicode"))  # ElementTree escapes


def _number(value: float) -> str:
    """A position in pixels, to a tenth."""
    return f"{round(value * 10) / 10:g}"


def short(text: str, most: int) -> str:
    """The text, cut to so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
