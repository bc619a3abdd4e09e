"""After a score came in: was it to be expected, and if not, what could explain it.

A score outside its interval is first compared with what a wrong file would get (format), then with
what is known of this competition: drift, leaks, an overfitted blend; luck always remains. Private
scores are printed here once Kaggle shows them; the finals are chosen without these lines.
"""

from statistics import NormalDist

import numpy as np
from scipy import stats

from pipeline.core.audit import Audit
from pipeline.ledger.history import PastSubmission, parse_score, recall
from pipeline.ledger.ledger import COUNTED, Entry
from pipeline.ledger.review import review
from pipeline.scoring.card import Card, Forecast
from pipeline.scoring.metrics import metric_named

REFUTED = 0.01
"""A score with a smaller chance speaks against the file or the cross-validation, not for luck."""

_NORMAL = NormalDist()


def explain_entries(entries: list[Entry], audit: Audit | None) -> list[str]:
    """For each scored submission of a competition whether it was to be expected; then all together.

    audit: None where `prepare` has not run here.
    """
    lines = []
    submissions = recall(entries)
    counted = [entry for entry in entries if entry.status in COUNTED]
    for entry, each in zip(counted, submissions, strict=True):
        lines += _explain(each, parse_score(entry, entry.private), audit)
    return lines + review(submissions)


def _explain(each: PastSubmission, private: float | None, audit: Audit | None) -> list[str]:
    if each.public is None and private is None:
        return []
    if each.card is None:
        return [f"{each.name}: no forecast to compare its score with: {each.no_card}"]
    lines = explain_score(each.card, each.public, audit) if each.public is not None else []
    if private is not None:
        forecast = each.card.expected
        chance = chance_of(private, forecast.levels, forecast.quantiles.private)
        lines.append(f"private {_compare(private, forecast.private, forecast, chance)}")
    return [f"{each.name}: {lines[0]}", *(f"  {line}" for line in lines[1:])]


def explain_score(card: Card, public: float, audit: Audit | None) -> list[str]:
    """Compare a public score with its forecast: one line, then what fits it, likeliest first.

    The rules are the table of docs/FORECAST.md, "After a score came in".
    """
    forecast = card.expected
    low, high = forecast.public
    chance = chance_of(public, forecast.levels, forecast.quantiles.public)
    first = f"public {_compare(public, forecast.public, forecast, chance)}"
    if low <= public <= high:
        mean, low, high = expect_private(forecast, public)
        return [first, f"private to expect now: {mean:.4f} ({low:.4f} to {high:.4f})"]
    is_worse = (public < low) == metric_named(card.metric.name).greater_is_better
    reasons = _find_wrong_file(card, public, audit)
    if is_worse:
        reasons += _find_optimism(card, public, audit)
    elif audit is not None and audit.duplicates.where["both"]:
        reasons.append(
            f"leak into test: {audit.duplicates.where['both']} clusters of duplicates have images "
            "in both train and test"
        )
    if chance < REFUTED and not reasons:
        reasons = ["nothing known explains it"]
    reasons.append(f"luck: {_percent(chance)} of such competitions")
    return [first, *(f"fits: {reason}" for reason in reasons)]


def chance_of(score: float, levels: list[float], quantiles: list[float]) -> float:
    """The chance of a score as far out as this on either side, if the forecast is right.

    quantiles: the forecast's scores at the levels. Interpolated on the normal scale; beyond the
    outermost quantiles along the line through the two outermost.
    """
    scores, first = np.unique(quantiles, return_index=True)  # discrete scores repeat
    if len(scores) < 2:
        return float(score == scores[0])
    heights = np.array([_NORMAL.inv_cdf(level) for level in levels])[first]
    place = np.clip(np.searchsorted(scores, score), 1, len(scores) - 1)
    slope = (heights[place] - heights[place - 1]) / (scores[place] - scores[place - 1])
    below = _NORMAL.cdf(float(heights[place] + (score - scores[place]) * slope))
    return 2 * min(below, 1 - below)


def expect_private(forecast: Forecast, public: float) -> tuple[float, float, float]:
    """The private score to expect once the public one is known, and its interval.

    Both halves share patients and networks, so a public score above its forecast promises a
    private one above, by their correlation (a normal approximation).
    """
    of_public, of_private = forecast.sd
    slope = forecast.correlation * of_private / of_public if of_public > 0 else 0.0
    mean = forecast.mean + slope * (public - forecast.mean)
    left = of_private * (1 - forecast.correlation**2) ** 0.5
    half = _NORMAL.inv_cdf((1 + forecast.confidence) / 2) * left
    return mean, mean - half, mean + half


def _find_wrong_file(card: Card, public: float, audit: Audit | None) -> list[str]:
    """What a wrong file would have scored, if that fits; random order by an exact binomial test."""
    metric, labels = metric_named(card.metric.name), card.test.labels
    if not metric.lowest <= public <= metric.highest:
        return [f"format: no score by {metric.name}: Kaggle scores by another metric"]
    if not metric.is_mean_of_rows or sum(labels.values()) != card.test.rows:  # several a row
        return []
    used = [name for name, count in labels.items() if count]
    if len(used) == 1:
        return [f"format: every row is labelled {used[0]}"]
    low, high = card.expected.public
    if len(labels) == 2 and low <= 1 - public <= high:
        return [f"format: {1 - public:.4f} was to be expected: the two labels are swapped"]
    if audit is None:
        return []
    train = audit.train.classes
    right = sum(count * train.get(name, 0) for name, count in labels.items())
    shuffled = right / (card.test.rows * sum(train.values()))
    rows = card.expected.rows.public
    if stats.binomtest(round(public * rows), rows, shuffled).pvalue < REFUTED:
        return []
    return [f"format: the same labels in random order score {shuffled:.4f}"]


def _find_optimism(card: Card, public: float, audit: Audit | None) -> list[str]:
    found = []
    drift, claimed, nested = card.expected.drift, card.blend.unnested, card.metric.value
    if drift is not None and drift.weighted:
        found.append(
            f"drift: test can be distinguished from train (AUC {drift.auc:.3f}, p {drift.p:.3f}), "
            f"most by {drift.strongest[0]}"
        )
    if card.other_population:
        found.append(f"drift: {card.other_population}")
    if audit is not None and audit.duplicates.spans_groups:
        found.append(
            f"leak in cross-validation: {audit.duplicates.spans_groups} clusters of duplicates "
            "span groups"
        )
    elif card.out_of_fold.groups == card.out_of_fold.rows:
        found.append("leak in cross-validation: the folds have no groups")
    if abs(claimed - nested) >= abs(public - card.expected.mean) / 4:
        found.append(f"overfitted blend: claimed {claimed:.4f}, nested {nested:.4f}")
    return found


def _compare(score: float, interval: tuple[float, float], forecast: Forecast, chance: float) -> str:
    low, high = interval
    side = "inside" if low <= score <= high else ("below" if score < low else "above")
    return (
        f"{score:.5f}: {side} the forecast {low:.4f} to {high:.4f} ({forecast.confidence:.0%}); "
        f"as far off by chance: {_percent(chance)}"
    )


def _percent(chance: float) -> str:
    return "under 0.1 %" if chance < 0.001 else f"{100 * chance:.1f} %"
