"""reports/index.html from the facts: one file, without scripts, that fetches nothing.

Ids and class names come from files of unknown origin: the template escapes all that it prints, and
a content security policy in the page would stop what was missed. The page contains no date, no
duration and no commit: the same inputs give the same bytes, and DVC sees no change where there is
none. The commit is found with git, from the submission's own file.
"""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.core import paths
from pipeline.core.errors import plural
from pipeline.core.task import Number
from pipeline.report import plots
from pipeline.report.diagnosis import MOST_CLASSES
from pipeline.report.facts import ReportFacts
from pipeline.report.gallery import Tile
from pipeline.report.seen import SeenNetwork
from pipeline.scoring.card import Card, Contribution, FittedMean, Forecast

TEMPLATE = "page.html.j2"

MOST_LISTED = MOST_CLASSES
"""Rows of a long table: of clusters, exclusions, corrections. The audit has them all."""

_MOST_GROUPS = 10


@dataclass(frozen=True)
class ModelRow:
    """A model with all its folds."""

    name: str
    by_fold: dict[int, float | None]
    accuracy: float | None
    """Over the rows of all its folds; None for an external model."""
    external_folds: str | None
    """Whether an external model's folds were checked; None for the others."""
    weight: float | None
    """None where the blend is no weighted mean."""
    contribution: Contribution | None
    """None for the only model."""


def render_page(
    facts: ReportFacts,
    galleries: dict[str, list[Tile]],
    seen: list[SeenNetwork],
    seen_left: list[tuple[str, int]],
) -> str:
    """The whole page as HTML. seen, seen_left: as read_seen gives them."""
    card, oof = facts.card, facts.card.out_of_fold
    other_scores = {}
    if oof.accuracy is not None and oof.interval is not None and oof.log_loss is not None:
        between = f"{oof.confidence:.0%} interval {oof.interval[0]:.4f} to {oof.interval[1]:.4f}"
        other_scores["accuracy"] = f"{oof.accuracy:.4f}, {between}"
        other_scores["log_loss"] = f"{oof.log_loss:.4f}"
    other_scores.pop(card.metric.name, None)
    page: str = (
        _templates()
        .get_template(TEMPLATE)
        .render(
            facts=facts,
            card=card,
            metric=card.metric,
            other_scores=other_scores,
            audit=facts.audit,
            galleries=galleries,
            seen=seen,
            seen_left=seen_left,
            charts=draw(facts),
            errors=int((~facts.rows.right).sum()),
            submission=paths.submission(card.name).as_posix(),
            card_path=paths.card(card.name).as_posix(),
            audit_path=paths.AUDIT.as_posix(),
            hardest=facts.hardest_groups.head(_MOST_GROUPS).to_dict("records"),
            columns=_columns(facts),
            models=_list_models(card),
            most=MOST_LISTED,
            frequent=_frequent,
        )
    )
    return page


def render_seen(seen: SeenNetwork) -> str:
    """What one network sees, as a page of its own."""
    page: str = _templates().get_template("seen_page.html.j2").render(each=seen)
    return page


def _frequent(counts: dict[str, int]) -> list[tuple[str, int]]:
    """All counts by name in their order; of more than MOST_LISTED the largest ones."""
    if len(counts) <= MOST_LISTED:
        return list(counts.items())
    return sorted(counts.items(), key=lambda each: -each[1])[:MOST_LISTED]


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (_count, _percent, _score, _signed, _words, plural)
    environment.filters |= {each.__name__.removeprefix("_"): each for each in filters}
    return environment


def draw(facts: ReportFacts) -> dict[str, Any]:
    """Each chart by its name; `curves` and `numbers` hold several."""
    metric, forecast = facts.card.metric, facts.card.forecast
    name = _words(metric.name)
    around = (metric.value, metric.value)  # without an interval
    actual = {half.name: half.score for half in facts.halves}
    intervals = [
        plots.IntervalRow("cross-validated", metric.value, metric.interval or around),
    ]
    if isinstance(forecast, Forecast):
        intervals += [
            plots.IntervalRow(f"{half}, forecast", forecast.mean, interval, actual.get(half))
            for half, interval in (("public", forecast.public), ("private", forecast.private))
        ]
    charts: dict[str, Any] = {
        "intervals": plots.draw_intervals(intervals, name),
        "folds": plots.draw_folds(facts.fold_scores, metric.value, metric.interval or around, name),
        "curves": {
            model: [plots.draw_curves(model, curves, column) for column in _columns(facts)[model]]
            for model, curves in facts.curves.items()
        },
    }
    if facts.reliability:
        charts["reliability"] = plots.draw_reliability(facts.reliability)
        charts["counts"] = plots.draw_counts(facts.reliability.bins, facts.reliability.what)
    if isinstance(facts.rows.task, Number):
        charts["numbers"] = [
            plots.draw_numbers(name, facts.rows.labels[:, place], facts.rows.values[:, place])
            for place, name in enumerate(facts.rows.task.names)
        ]
    if facts.roc:
        second = facts.class_reports[1]
        point = (1 - second.specificity, second.sensitivity)
        charts["roc"] = plots.draw_roc(facts.roc, second.roc_auc, point, corner=False)
        if point[0] < 0.2 and point[1] > 0.8:
            charts["roc_corner"] = plots.draw_roc(facts.roc, second.roc_auc, point, corner=True)
    return charts


def _columns(facts: ReportFacts) -> dict[str, list[str]]:
    """Each model's columns to draw: all of its history but the epoch and the inner split's."""
    return {
        model: sorted(
            (n for n in curves[0].columns if n != "epoch" and not n.startswith("inner_")),
            key=lambda name: name == "lr",  # last
        )
        for model, curves in facts.curves.items()
    }


def _list_models(card: Card) -> list[ModelRow]:
    """A row for each model of the blend: those that were trained here, then external ones."""
    blend = card.blend.fitted.blend
    weight_of: dict[str, float] = {}
    if isinstance(blend, FittedMean):
        weight_of = dict(zip(card.blend.models, blend.weights, strict=True))
    contribution_of = {each.model: each for each in card.diversity.each_model}
    folds_of = {external.model: external.folds for external in card.external}
    found = []
    for name in card.blend.models:
        own = [network for network in card.networks if network.model == name]
        rows = sum(network.rows for network in own)
        found.append(
            ModelRow(
                name,
                {network.fold: network.accuracy for network in own},
                sum((network.accuracy or 0.0) * network.rows for network in own) / rows
                if rows and own[0].accuracy is not None
                else None,
                folds_of.get(name),
                weight_of.get(name),
                contribution_of.get(name),
            )
        )
    return found


def _count(number: int | float) -> str:
    return f"{number:,.0f}"


def _percent(share: float, decimals: int = 1) -> str:
    return "–" if math.isnan(share) else f"{share * 100:.{decimals}f} %"


def _score(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−") if round(value, 4) else "0"


def _words(name: str) -> str:
    return name.replace("_", " ")
