"""The charts of the page."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pipeline.report.diagnosis import Bin, Reliability, Roc
from pipeline.report.facts import Curve, FoldScore
from pipeline.report.svg import BOTTOM, LETTER, RIGHT, TOP, WIDTH, Chart, Scale, scale

COLOURS = 8
"""Series of the style sheet: class s0, s1, …"""


@dataclass(frozen=True)
class IntervalRow:
    """A line of draw_intervals: an interval, its middle, and what really came out."""

    label: str
    value: float | None
    interval: tuple[float, float] | None
    came_out: float | None = None


def draw_intervals(rows: Sequence[IntervalRow], label: str) -> Markup:
    """Intervals under each other on one axis; a diamond where the score came out."""
    ends = [
        at
        for row in rows
        for at in (row.value, row.came_out, *(row.interval or ()))
        if at is not None
    ]
    lines = len(rows)
    y = Scale(0, lines, [], "")
    told = "; ".join(
        f"{row.label} {_tell(row)}"
        + (f", came out {row.came_out:.4f}" if row.interval and row.came_out is not None else "")
        for row in rows
    )
    chart = Chart(f"{label}: {told}", scale(ends, label), y, 52.0 * lines + BOTTOM + TOP, 12)
    chart.mark_x()
    for place, row in enumerate(rows):
        height = lines - place - 0.68
        at = chart.down(height)
        chart.text(chart.left, at - 14, row.label, "name")
        chart.text(WIDTH - RIGHT, at - 14, _tell(row), "name end strong")
        if row.interval:
            low, high = row.interval
            chart.segment((low, height), (high, height), "whisker s0")
            for end in (low, high):
                chart.segment((end, height - 0.1), (end, height + 0.1), "cap s0")
        if row.value is not None:
            chart.dot(row.value, height, 4.5, "dot s0")
        if row.came_out is not None:
            chart.diamond(row.came_out, height, "mark s1")
    return chart.markup()


def draw_folds(
    folds: Sequence[FoldScore], value: float, interval: tuple[float, float], label: str
) -> Markup:
    """Each fold's score, above the interval of the whole."""
    known = [(each.fold.fold, each.score) for each in folds if each.score is not None]
    x = scale([*(score for _, score in known), *interval], label)
    told = ", ".join(f"fold {fold} {score:.4f}" for fold, score in known)
    height = 22.0 * max(1, len(known)) + BOTTOM + TOP
    chart = Chart(f"{label} of each fold: {told}", x, Scale(0, len(known) or 1, [], ""), height, 64)
    chart.mark_x()
    chart.box(interval, (0, chart.y.high), "band s0")
    chart.segment((value, 0), (value, chart.y.high), "rule s0")
    for place, (fold, score) in enumerate(known):
        at = len(known) - place - 0.5
        chart.text(chart.left - 8, chart.down(at) + 4, f"fold {fold}", "tick end")
        chart.dot(score, at, 4.5, "dot s0")
    return chart.markup()


def draw_curves(model: str, curves: Sequence[Curve], column: str) -> Markup:
    """A column of the history over the epochs: a line a fold; the inner split's dashed."""
    drawn = [
        (curve.columns["epoch"], curve.columns[name], f"s{place % COLOURS}{style}")
        for place, curve in enumerate(curves)
        for name, style in ((column, ""), (f"inner_{column}", " dashed"))
        if name in curve.columns
    ]
    x = scale((at for epochs, _, _ in drawn for at in epochs), "epoch", whole=True)
    y = scale((at for _, values, _ in drawn for at in values), _COLUMN_NAMES.get(column, column))
    last = ", ".join(f"fold {each.fold} {each.columns[column][-1]:.4g}" for each in curves
                     if column in each.columns and len(each.columns[column]))  # fmt: skip
    chart = Chart(f"{model}: {y.label} over the epochs; at the end: {last}", x, y)
    chart.mark_x()
    chart.mark_y()
    for epochs, values, style in drawn:
        chart.line(zip(epochs, values, strict=True), style)
    return chart.markup()


_COLUMN_NAMES = {
    "loss": "training loss",
    "accuracy": "training accuracy",
    "lr": "learning rate",
}


def draw_reliability(reliability: Reliability) -> Markup:
    """The share that came true over the mean probability of each bin; more rows, larger dots."""
    x = Scale(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1], reliability.what)
    y = Scale(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1], "share that is so")
    told = ", ".join(f"{each.mean:.2f} {each.share:.2f}" for each in reliability.bins if each.rows)
    chart = Chart(f"{reliability.what} and the share that is so, by bin: {told}", x, y, 300)
    chart.mark_x()
    chart.mark_y()
    chart.segment((0, 0), (1, 1), "diagonal")
    filled = [each for each in reliability.bins if each.rows]
    chart.line(((each.mean, each.share) for each in filled), "s0")
    most = max(each.rows for each in filled)
    for each in filled:
        chart.dot(each.mean, each.share, 2 + 3.5 * math.sqrt(each.rows / most), "dot s0")
    return chart.markup()


def draw_counts(bins: Sequence[Bin], label: str) -> Markup:
    """How many rows each bin of probabilities has."""
    most = max(each.rows for each in bins)
    told = ", ".join(f"{each.low:.1f} to {each.high:.1f}: {each.rows}" for each in bins)
    x = Scale(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1], label)
    chart = Chart(
        f"rows by {label}: {told}", x, Scale(0, most * 1.25 or 1, [], ""), 130, 24 + 3 * LETTER
    )
    chart.mark_x()
    for each in bins:
        chart.box((each.low + 0.008, each.high - 0.008), (0, each.rows), "bar s0")
        middle = chart.across((each.low + each.high) / 2)
        chart.text(middle, chart.down(each.rows) - 4, _brief(each.rows), "count middle")
    return chart.markup()


def draw_roc(roc: Roc, point: tuple[float, float], corner: bool) -> Markup:
    """The curve with the point that is submitted; `corner`: the upper left fifth of it alone."""
    ticks = [0.0, 0.05, 0.1, 0.15, 0.2] if corner else [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    x = Scale(ticks[0], ticks[-1], ticks, "1 − specificity")
    above = [round(1 - tick, 2) for tick in reversed(ticks)]
    y = Scale(above[0], above[-1], above, "sensitivity")
    what = "upper left corner of the ROC curve" if corner else "ROC curve"
    chart = Chart(
        f"{what}: area {roc.area:.4f}; submitted at sensitivity {point[1]:.4f} and "
        f"1 − specificity {point[0]:.4f}", x, y, 300,
    )  # fmt: skip
    chart.mark_x()
    chart.mark_y()
    if not corner:
        chart.segment((0, 0), (1, 1), "diagonal")
    points = zip(roc.false_positive_rate.tolist(), roc.true_positive_rate.tolist(), strict=True)
    chart.line(_clip(points, x.high, y.low) if corner else points, "s0")
    if point[0] <= x.high and point[1] >= y.low:
        chart.diamond(*point, "mark s1")
    return chart.markup()


def _clip(
    points: Iterable[tuple[float, float]], right: float, bottom: float
) -> list[tuple[float, float]]:
    """The part of a rising curve inside the corner, cut where it enters and leaves."""
    kept: list[tuple[float, float]] = []
    before = (0.0, 0.0)
    for x, y in points:
        if y >= bottom and before[1] < bottom:
            share = (bottom - before[1]) / (y - before[1])
            kept.append((before[0] + share * (x - before[0]), bottom))
        if x > right:
            share = (right - before[0]) / (x - before[0])
            kept.append((right, before[1] + share * (y - before[1])))
            break
        if y >= bottom:
            kept.append((x, y))
        before = (x, y)
    return [(x, y) for x, y in kept if x <= right and y >= bottom]


def _tell(row: IntervalRow) -> str:
    if row.interval:
        return f"{row.interval[0]:.4f} to {row.interval[1]:.4f}"
    return "" if row.came_out is None else f"{row.came_out:.4f}"


def _brief(count: int) -> str:
    return f"{count:,}" if count < 10_000 else f"{count / 1000:.1f}k"
