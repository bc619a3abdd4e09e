"""What a trained network sees, as a part of a page: from the record of stage `explain`."""

from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from markupsafe import Markup

from pipeline.core import paths
from pipeline.core.errors import TableError
from pipeline.report.svg import Chart, Scale
from pipeline.scoring.card import Card
from pipeline.scoring.seen import Explanation, Pictures, PointMap, read_explanation

LIKE_SHUFFLED = 0.5
"""A map with this correlation or more hardly changes when the weights are shuffled."""

MOST_BYTES = 1_500_000
"""All pictures of the report; the networks for which there is no place left are named."""

_OTHER = "others"
_MOST_COLOURS = 6


@dataclass(frozen=True)
class ColouredPoints:
    """A chart of points, and the names of its colours: each with a class of the style sheet."""

    title: str
    chart: Markup
    legend: list[tuple[str, str]]


@dataclass(frozen=True)
class SeenNetwork:
    """The record of a network, with what a page needs of it."""

    record: Explanation
    address: dict[str, str]
    """A data URI for each file of a picture."""
    charts: list[ColouredPoints]
    like_shuffled: float = LIKE_SHUFFLED

    @property
    def unit(self) -> str:
        """What a row is called."""
        return self.record.kind.removesuffix("s")

    @property
    def signals(self) -> bool:
        """Whether a row is a signal: traces then, and words for them."""
        return self.record.kind == "signals"

    @property
    def mark(self) -> str:
        """What is drawn for a receptive field."""
        return "bar" if self.signals else "frame"


def read_seen(card: Card) -> tuple[list[SeenNetwork], list[tuple[str, int]]]:
    """The network of each model of a submission that stage `explain` looked at; and the models and
    folds of those whose pictures find no place on the page.

    Raises TableError where a record is missing, or of another network than the submission's.
    """
    found: list[SeenNetwork] = []
    sha256_of = {(each.model, each.fold): each.sha256 for each in card.networks}
    for model in dict.fromkeys(each.model for each in card.networks):
        record, pictures = read_explanation(paths.explained(model), model)
        known = sha256_of.get((model, record.fold), {}).get("weights.safetensors")
        if known != record.weights_sha256:
            raise TableError(
                f"{paths.explained(model)}: expected the network {model} of a fold in "
                f"{paths.card(card.name)}, found another one's record: they are of different runs. "
                f"Run: dvc repro --force explain@{model}"
            )
        found.append(show(record, pictures))
    sizes = accumulate(sum(map(len, each.address.values())) for each in found)
    fit = sum(size <= MOST_BYTES for size in sizes)
    left = [(each.record.model, each.record.fold) for each in found[fit:]]
    return found[:fit], left


def show(record: Explanation, pictures: Pictures) -> SeenNetwork:
    """A record with its pictures, ready for a page."""
    address = {
        name: f"data:image/png;base64,{b64encode(content).decode()}"
        for name, content in pictures.items()
    }
    points = record.points
    named = [("by label", points.labels), ("by group", points.groups)]
    marks = ["mistakes" if wrong else "right" for wrong in points.wrong]
    charts = [draw_points(points, title, names) for title, names in named if names]
    charts.insert(1, draw_points(points, "by mistake", marks, {"mistakes": "s7", "right": "rest"}))
    return SeenNetwork(record, address, charts)


def draw_points(
    points: PointMap, title: str, names: Sequence[str], styles: dict[str, str] | None = None
) -> ColouredPoints:
    """The points with a colour for each name; of many names for those of most points.

    styles: the names' classes of the style sheet, where they are not s0, s1, …
    """
    if styles is None:
        common = [name for name, _ in Counter(names).most_common(_MOST_COLOURS + 1)]
        if len(common) > _MOST_COLOURS:
            common.pop()
        styles = {name: f"s{place}" for place, name in enumerate(sorted(common))}
        if set(names) - set(styles):
            styles[_OTHER if _OTHER not in styles else f"{_OTHER} "] = "rest"
    x, y = _axis(points.x, "first axis"), _axis(points.y, "second axis")
    what = f"{len(points.x)} points, {title}: {', '.join(styles)}"
    chart = Chart(what, x, y, 300.0, 24.0)
    order = sorted(set(styles.values()), key=lambda style: (style != "rest", style))
    for style in order:  # the rest below the others
        own = [
            (across, up)
            for across, up, name in zip(points.x, points.y, names, strict=True)
            if styles.get(name, "rest") == style
        ]
        chart.dots(own, style)
    return ColouredPoints(title, chart.markup(), list(styles.items()))


def _axis(values: Sequence[float], label: str) -> Scale:
    low, high = min(values), max(values)
    margin = (high - low) * 0.03 or 1.0
    return Scale(low - margin, high + margin, [], label)
