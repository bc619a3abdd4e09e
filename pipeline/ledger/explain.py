"""After a score came in: was it to be expected, and if not, which explanations fit.

Explanations are named by rules, not by taste. A score outside its interval is first held against
what a wrong file would give (format), then against what is known of this competition: drift, leaks
found by the audit, a blend whose own choice was not counted. Luck always remains, with its chance.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

_NORMAL = NormalDist()

REFUTED = 0.01
"""Scores rarer than this speak against the file or the cross-validation, not for bad luck."""


@dataclass(frozen=True)
class Evidence:
    """What is known of a submission's making; None where it is not."""

    labels: Mapping[str, int]
    """Of the submitted file: how many rows of each."""
    train_shares: Mapping[str, float]
    """Of each label in the training rows."""
    grouped: bool | None
    """Whether the folds keep patients together."""
    across_groups: int | None
    """Clusters of duplicates with training images of two groups (audit.json: spans_groups)."""
    across_splits: int | None
    """Clusters of duplicates with training and test images (audit.json: where: both)."""
    claimed: float | None
    """The blend's score on the rows that it was chosen on."""
    nested: float | None
    """Its score by nested cross-validation."""


@dataclass(frozen=True)
class Explanation:
    """What a public score says about its forecast."""

    inside: bool
    chance: float
    """Of a score as far off as this or farther, on either side, if the forecast is right."""
    suspects: list[str]
    """What fits, likeliest first; empty where the score was to be expected."""
    lines: list[str]


def explain_score(card: Mapping[str, Any], public: float, evidence: Evidence) -> Explanation:
    """Hold a public score against its forecast.

    card: a card's part `forecast`. The rules, for a score outside the interval:

    format: one label only; or two classes and one minus the score inside the interval (swapped);
    or the score of the same labels in another order, within 2.6 standard errors. Accuracy only.
    drift: on the bad side, and adversarial validation tells test from train (p ≤ 0.05).
    leak in cross-validation: on the bad side, and duplicates span groups, or there are no groups.
    overfitted blend: on the bad side, and the nested score lies below the claimed one by as much as
    a quarter of the miss.
    leak into test: on the good side, and images stand in both train and test.
    luck: always, with its chance.
    """
    low, high = card["public"]
    inside = bool(low <= public <= high)
    chance = two_sided(card, "public", public)
    place = "inside" if inside else ("below" if public < low else "above")
    lines = [
        f"public {public:.5f}: {place} the forecast {low:.4f} to {high:.4f} "
        f"({card['confidence']:.0%}); as far off by chance: {_percent(chance)}"
    ]
    if inside:
        return Explanation(True, chance, [], lines)
    worse = (public < low) == card["greater_is_better"]
    found = [
        *_format(card, public, evidence),
        *(_worse(card, public, evidence) if worse else _better(evidence)),
        ("luck", f"luck: {_percent(chance)} of such competitions; one score in "
                 f"{1 / (1 - card['confidence']):.0f} falls outside"),
    ]  # fmt: skip
    if chance < REFUTED and len(found) == 1:
        reason = "a test set of another kind than train, or a leak that nothing here looks for"
        found.insert(0, ("unexplained", f"nothing known explains it; left are {reason}"))
    return Explanation(False, chance, [name for name, _ in found], lines + [t for _, t in found])


def two_sided(card: Mapping[str, Any], usage: str, score: float) -> float:
    """Chance of a score as far out as this on either side, from the card's quantiles.

    Between the quantiles on the normal scale; beyond the outermost along the line through the two
    outermost.
    """
    levels = np.array([_NORMAL.inv_cdf(level) for level in card["levels"]])
    scores = np.array(card["quantiles"][usage])
    keep = np.append(True, np.diff(scores) > 0)  # scores are discrete: of equal ones the first
    levels, scores = levels[keep], scores[keep]
    if len(scores) < 2:
        return float(score == scores[0])
    if score < scores[0]:
        height = levels[0] + (score - scores[0]) * _slope(levels[:2], scores[:2])
    elif score > scores[-1]:
        height = levels[-1] + (score - scores[-1]) * _slope(levels[-2:], scores[-2:])
    else:
        height = float(np.interp(score, scores, levels))
    below = _NORMAL.cdf(height)
    return 2 * min(below, 1 - below)


def expect_private(card: Mapping[str, Any], public: float) -> tuple[float, float, float]:
    """The private score to expect once the public one is known, and its interval.

    Both share patients and networks, so a public score above its forecast promises a private one
    above, by their correlation (a normal approximation).
    """
    of_public, of_private = card["sd"]
    slope = card["correlation"] * of_private / of_public if of_public > 0 else 0.0
    mean = card["mean"] + slope * (public - card["mean"])
    left = of_private * (1 - card["correlation"] ** 2) ** 0.5
    half = _NORMAL.inv_cdf((1 + card["confidence"]) / 2) * left
    return mean, mean - half, mean + half


def _format(card: Mapping[str, Any], public: float, evidence: Evidence) -> list[tuple[str, str]]:
    if card["metric"] != "accuracy":
        return []
    rows = sum(evidence.labels.values())
    used = [name for name, count in evidence.labels.items() if count]
    if len(used) == 1:
        return [("format", f"format: every row is labelled {used[0]}")]
    low, high = card["public"]
    if len(evidence.labels) == 2 and low <= 1 - public <= high:
        return [("format", f"format: 1 - {public:.4f} = {1 - public:.4f} was to be expected: the "
                           "two labels are swapped")]  # fmt: skip
    shuffled = sum(
        count / rows * evidence.train_shares.get(name, 0.0)
        for name, count in evidence.labels.items()
    )
    error = (shuffled * (1 - shuffled) / card["rows"]["public"]) ** 0.5
    if abs(public - shuffled) <= 2.576 * error:
        return [("format", f"format: the same labels in random order score {shuffled:.4f}: ids and "
                           "labels do not belong together")]  # fmt: skip
    return []


def _worse(card: Mapping[str, Any], public: float, evidence: Evidence) -> list[tuple[str, str]]:
    found = []
    drift = card["drift"]
    if drift is not None and drift["weighted"]:
        found.append(("drift", f"drift: test can be told from train (AUC {drift['auc']:.3f}, p "
                               f"{drift['p']:.3f}), most by {drift['strongest'][0]}"))  # fmt: skip
    if evidence.across_groups:
        found.append(("leak in cross-validation",
                      f"leak in cross-validation: {evidence.across_groups} clusters of duplicates "
                      "span groups: the groups may not be patients"))  # fmt: skip
    elif evidence.grouped is False:
        found.append(("leak in cross-validation",
                      "leak in cross-validation: the folds know no groups; where rows hang "
                      "together (patient, site), the out-of-fold score is too good"))  # fmt: skip
    if evidence.claimed is not None and evidence.nested is not None:
        overfit = abs(evidence.claimed - evidence.nested)
        if overfit >= abs(public - card["mean"]) / 4:
            found.append(("overfitted blend",
                          f"overfitted blend: chosen on rows that it was scored on, which is worth "
                          f"{overfit:.4f} (claimed {evidence.claimed:.4f}, nested "
                          f"{evidence.nested:.4f})"))  # fmt: skip
    return found


def _better(evidence: Evidence) -> list[tuple[str, str]]:
    if evidence.across_splits:
        return [("leak into test",
                 f"leak into test: {evidence.across_splits} clusters of duplicates have images in "
                 "both train and test")]  # fmt: skip
    return []


def _slope(heights: Any, scores: Any) -> float:
    return float((heights[1] - heights[0]) / (scores[1] - scores[0]))


def _percent(chance: float) -> str:
    return "under 0.1 %" if chance < 0.001 else f"{100 * chance:.1f} %"
