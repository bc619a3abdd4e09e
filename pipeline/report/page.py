"""reports/index.html from the facts: one file, without scripts, that fetches nothing.

Ids and class names come from strangers' files: the template escapes whatever it prints, and a
content security policy in the page would stop what got through. The page holds no date, no
duration and no commit: the same inputs give the same bytes, and DVC sees no change where there
is none. The commit is found by git, from the submission's own file.
"""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from pipeline.core import paths
from pipeline.report import plots
from pipeline.report.facts import Facts, Half
from pipeline.report.gallery import Galleries
from pipeline.report.records import Card, Contribution

TEMPLATE = "page.html.j2"

MOST_LISTED = 50
"""Rows of a long table: of clusters, exclusions, corrections. The files have them all."""

_MOST_GROUPS = 10


@dataclass(frozen=True)
class ModelRow:
    """A model with all its folds."""

    name: str
    by_fold: dict[int, float | None]
    accuracy: float | None
    """Over its folds, by their rows."""
    from_elsewhere: bool
    checked: str
    weight: float | None
    added: Contribution | None


def render_page(facts: Facts, galleries: Galleries) -> str:
    """The whole page as HTML."""
    page: str = _template().render(
        facts=facts,
        card=facts.card,
        score=facts.card.score,
        audit=facts.audit,
        galleries=galleries,
        charts=_draw(facts),
        submission=paths.submission(facts.card.name).as_posix(),
        card_path=paths.card(facts.card.name).as_posix(),
        audit_path=paths.AUDIT.as_posix(),
        hardest=[each for each in facts.hardest_groups if each.wrong > 1][:_MOST_GROUPS],
        columns=_columns(facts),
        models=_list_models(facts.card),
        fate=lambda half: fate(facts, half),
        most=MOST_LISTED,
    )
    return page


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": _count,
        "percent": _percent,
        "score": _score,
        "signed": _signed,
        "words": _words,
        "plural": _plural,
    }
    return environment.get_template(TEMPLATE)


def _draw(facts: Facts) -> dict[str, Any]:
    score = facts.card.score
    charts: dict[str, Any] = {
        "intervals": plots.draw_intervals(_interval_rows(facts), _words(score.name)),
        "folds": plots.draw_folds(
            facts.fold_scores, score.value, score.interval, _words(score.name)
        ),
        "curves": {
            model: [plots.draw_curves(model, curves, column) for column in _columns(facts)[model]]
            for model, curves in facts.curves.items()
        },
        "reliability": plots.draw_reliability(facts.reliability),
        "counts": plots.draw_counts(facts.reliability.bins, facts.reliability.what),
    }
    if facts.roc and not math.isnan(facts.roc.area):
        second = facts.class_reports[1]
        point = (1 - second.specificity, second.sensitivity)
        charts["roc"] = plots.draw_roc(facts.roc, point, corner=False)
        if point[0] < 0.2 and point[1] > 0.8:
            charts["roc_corner"] = plots.draw_roc(facts.roc, point, corner=True)
    return charts


def _interval_rows(facts: Facts) -> list[plots.IntervalRow]:
    score, forecast = facts.card.score, facts.card.forecast
    rows = [plots.IntervalRow("cross-validated", score.value, score.interval)]
    known = {half.name: half.score for half in facts.halves}
    if forecast and forecast.metric == score.name:
        for name, interval in (("public", forecast.public), ("private", forecast.private)):
            rows.append(
                plots.IntervalRow(f"{name}, forecast", forecast.mean, interval, known.get(name))
            )
        return rows
    return rows + [plots.IntervalRow(name, None, None, known[name]) for name in known]


def _columns(facts: Facts) -> dict[str, list[str]]:
    """What is drawn of each model's history: every column but the epoch and the inner split's."""
    return {
        model: sorted(
            (n for n in curves[0].columns if n != "epoch" and not n.startswith("inner_")),
            key=lambda name: name == "lr",  # last
        )
        for model, curves in facts.curves.items()
    }


def _list_models(card: Card) -> list[ModelRow]:
    weights = card.blend.weights if card.blend else None
    weight_of = dict(zip(card.blend.models, weights, strict=True)) if card.blend and weights else {}
    added = {each.model: each for each in card.diversity.each_model}
    found = []
    for name in dict.fromkeys(member.model for member in card.members):
        own = [member for member in card.members if member.model == name]
        scored = [(m.accuracy, m.rows) for m in own if m.accuracy is not None and m.rows]
        rows = sum(count for _, count in scored)
        found.append(
            ModelRow(
                name,
                {member.fold: member.accuracy for member in own if member.fold is not None},
                sum(value * count for value, count in scored) / rows if rows else None,
                own[0].from_elsewhere,
                own[0].folds,
                weight_of.get(name),
                added.get(name),
            )
        )
    return found


def fate(facts: Facts, half: Half) -> str:
    """Whether a half's score fell inside its forecast, in words; empty without a forecast."""
    forecast = facts.card.forecast
    intervals = {"public": forecast.public, "private": forecast.private} if forecast else {}
    if half.name not in intervals or (forecast and forecast.metric != facts.card.score.name):
        return ""
    low, high = intervals[half.name]
    return "inside the forecast" if low <= half.score <= high else "outside the forecast"


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _percent(share: float, decimals: int = 1) -> str:
    return "–" if math.isnan(share) else f"{share * 100:.{decimals}f} %"


def _score(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.4f}"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−") if round(value, 4) else "0"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _plural(number: int, one: str, many: str = "") -> str:
    """A number with its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
