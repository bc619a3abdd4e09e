"""The charts of the page."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from markupsafe import Markup
from numpy import ndarray

from pipeline.report.diagnosis import Bin, Reliability, Roc
from pipeline.report.facts import Curve
from pipeline.report.svg import BOTTOM, DIGIT, RIGHT, TOP, WIDTH, Chart, Scale, scale

_FIFTHS = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]

_MOST_DOTS = 1000

COLOURS = 8
"""How many classes s0, s1, … the style sheet has."""


@dataclass(frozen=True)
class IntervalRow:
    """A line of draw_intervals; actual: the score where it is known."""

    label: str
    value: float
    interval: tuple[float, float]
    actual: float | None = None


def draw_intervals(rows: Sequence[IntervalRow], label: str) -> Markup:
    """Intervals below each other on one axis, with a diamond at the actual score."""
    ends = [end for row in rows for end in (row.value, *row.interval)]
    ends += [row.actual for row in rows if row.actual is not None]
    texts = [f"{row.interval[0]:.4f} to {row.interval[1]:.4f}" for row in rows]
    described = "; ".join(
        f"{row.label} {text}" + ("" if row.actual is None else f", actual score {row.actual:.4f}")
        for row, text in zip(rows, texts, strict=True)
    )
    y = Scale(0.0, float(len(rows)), [], "")
    height = 52.0 * len(rows) + BOTTOM + TOP
    chart = Chart(f"{label}: {described}", scale(ends, label), y, height, 12.0)
    for place, (row, text) in enumerate(zip(rows, texts, strict=True)):
        at = len(rows) - place - 0.68
        chart.text(chart.left, chart.down(at) - 14, row.label, "name")
        chart.text(WIDTH - RIGHT, chart.down(at) - 14, text, "name end strong")
        low, high = row.interval
        chart.segment((low, at), (high, at), "whisker s0")
        for end in (low, high):
            chart.segment((end, at - 0.1), (end, at + 0.1), "cap s0")
        chart.dot(row.value, at, 4.5, "dot s0")
        if row.actual is not None:
            chart.diamond(row.actual, at, "mark s1")
    return chart.markup()


def draw_folds(
    folds: Mapping[int, float | None], value: float, interval: tuple[float, float], label: str
) -> Markup:
    """The score of each fold, over the interval of the whole."""
    known = [(fold, score) for fold, score in folds.items() if score is not None]
    described = ", ".join(f"fold {fold} {score:.4f}" for fold, score in known)
    x = scale([*(score for _, score in known), *interval], label)
    y = Scale(0.0, float(max(1, len(known))), [], "")
    chart = Chart(f"{label} of each fold: {described}", x, y, 22 * y.high + BOTTOM + TOP, 64.0)
    chart.box(interval, (y.low, y.high), "band s0")
    chart.segment((value, y.low), (value, y.high), "rule s0")
    for place, (fold, score) in enumerate(known):
        at = len(known) - place - 0.5
        chart.text(chart.left - 8, chart.down(at) + 4, f"fold {fold}", "tick end")
        chart.dot(score, at, 4.5, "dot s0")
    return chart.markup()


def draw_curves(model: str, curves: Sequence[Curve], column: str) -> Markup:
    """A column of the history over the epochs: one line per fold, dashed for the inner split."""
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
    for epochs, values, style in drawn:
        chart.line(zip(epochs, values, strict=True), style)
    return chart.markup()


_COLUMN_NAMES = {"loss": "training loss", "accuracy": "training accuracy", "lr": "learning rate"}


def draw_reliability(reliability: Reliability) -> Markup:
    """The observed share over the mean probability of each bin; more rows, larger dots."""
    x = Scale(0.0, 1.0, _FIFTHS, reliability.what)
    y = Scale(0.0, 1.0, _FIFTHS, "observed share")
    filled = [each for each in reliability.bins if each.rows]
    described = ", ".join(f"{each.mean:.2f} {each.share:.2f}" for each in filled)
    chart = Chart(f"{reliability.what} and the observed share, by bin: {described}", x, y, 300.0)
    chart.segment((0.0, 0.0), (1.0, 1.0), "diagonal")
    chart.line(((each.mean, each.share) for each in filled), "s0")
    most = max(each.rows for each in filled)
    for each in filled:
        chart.dot(each.mean, each.share, 2 + 3.5 * math.sqrt(each.rows / most), "dot s0")
    return chart.markup()


def draw_counts(bins: Sequence[Bin], label: str) -> Markup:
    """How many rows are in each bin of probabilities."""
    most = max(each.rows for each in bins)
    described = ", ".join(f"{each.low:.1f} to {each.high:.1f}: {each.rows}" for each in bins)
    x = Scale(0.0, 1.0, _FIFTHS, label)
    y = Scale(0.0, most * 1.25, [], "")
    chart = Chart(f"rows by {label}: {described}", x, y, 130.0, 24 + 3 * DIGIT)
    for each in bins:
        chart.box((each.low + 0.008, each.high - 0.008), (0.0, float(each.rows)), "bar s0")
        middle = chart.across((each.low + each.high) / 2)
        rows = f"{each.rows:,}" if each.rows < 10_000 else f"{each.rows / 1000:.1f}k"
        chart.text(middle, chart.down(float(each.rows)) - 4, rows, "count middle")
    return chart.markup()


def draw_numbers(
    name: str, labels: Float[ndarray, " rows"], predicted: Float[ndarray, " rows"]
) -> Markup:
    """A dot for each image at its label and its prediction; of many images every so many-th."""
    step = -(-len(labels) // _MOST_DOTS)
    across, up = labels[::step].tolist(), predicted[::step].tolist()
    both = scale([*across, *up], "")
    x, y = replace(both, label=f"given {name}"), replace(both, label="predicted, out of fold")
    correlation = float(np.corrcoef(labels, predicted)[0, 1]) if len(set(up)) > 1 else 0.0
    chart = Chart(f"{name}: predicted against given; correlation {correlation:.3f}", x, y, 300.0)
    chart.segment((both.low, both.low), (both.high, both.high), "diagonal")
    for place in zip(across, up, strict=True):
        chart.dot(*place, 1.5, "dot s0")
    return chart.markup()


def draw_roc(roc: Roc, area: float, point: tuple[float, float], corner: bool) -> Markup:
    """The curve with the submitted point; corner: only the upper left fifth of it."""
    ticks = [0.0, 0.05, 0.1, 0.15, 0.2] if corner else _FIFTHS
    x = Scale(ticks[0], ticks[-1], ticks, "1 − specificity")
    above = [round(1 - tick, 2) for tick in reversed(ticks)]
    y = Scale(above[0], above[-1], above, "sensitivity")
    what = "upper left corner of the ROC curve" if corner else "ROC curve"
    chart = Chart(
        f"{what}: area {area:.4f}; submitted at sensitivity {point[1]:.4f} and "
        f"1 − specificity {point[0]:.4f}", x, y, 300.0,
    )  # fmt: skip
    if not corner:
        chart.segment((0.0, 0.0), (1.0, 1.0), "diagonal")
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
