"""Which two submissions are to count: a rule, stated before anybody knows the private half.

The first is the one with the best forecast. The second is the one that differs most from it among
those that are not significantly worse: if the first was lucky in cross-validation, the second fails
elsewhere. Public scores choose nothing; one that refutes its own forecast sets a file aside, since
then the file is not what was cross-validated. Of the private half nothing gets here.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from pipeline.core.errors import SubmissionError
from pipeline.ledger.agreement import Rows, common_ids, encode
from pipeline.ledger.explain import REFUTED, two_sided
from pipeline.ledger.history import Recalled
from pipeline.scoring.card import CorrectRows
from pipeline.scoring.metrics import METRICS

LEVEL = 0.05
"""Of the one-sided test for being worse."""


@dataclass(frozen=True)
class Rival:
    """A submission beside the first choice."""

    name: str
    expected: float
    differs: float
    """Share of the test rows that it labels otherwise; of probabilities half the sum of their
    differences in a row, on average over the rows, which is the same where all are 0 and 1."""
    apart: str
    """`differs` in words."""
    worse: bool
    reason: str
    """Of `worse`: the test and its figures."""


@dataclass(frozen=True)
class Finals:
    """The choice and what it rests on."""

    first: str
    expected: float
    second: str | None
    """None where no other file remains."""
    rivals: list[Rival]
    aside: list[str]
    """What was not considered, and why."""


def choose_finals(submissions: list[Recalled], groups: dict[str, str]) -> Finals:
    """The two submissions to select on Kaggle.

    groups: of the training images, for the paired test. Of equal forecasts the earlier submission
    is taken; of equally different ones the better forecast. Raises SubmissionError where no
    submission has a card with a forecast, or their forecasts are of different metrics.
    """
    fit, aside = [], []
    for each in submissions:
        if obstacle := _obstacle(each):
            aside.append(f"{each.name}: {obstacle}")
        else:
            fit.append(each)
    if not fit:
        raise SubmissionError(
            "submissions/ledger.csv: expected a submission whose card has a forecast, found none "
            f"of {len(submissions)}{': ' + '; '.join(aside) if aside else ''}"
        )
    metrics = sorted({_forecast(each)["metric"] for each in fit})
    if len(metrics) > 1:
        raise SubmissionError(f"submissions: forecasts of different metrics: {', '.join(metrics)}")
    sign = 1 if _forecast(fit[0])["greater_is_better"] else -1
    first = max(fit, key=lambda each: sign * _forecast(each)["mean"])
    rivals = [_compare(each, first, groups) for each in fit if each is not first]
    able = [rival for rival in rivals if not rival.worse and rival.differs > 0]
    second = max(able, key=lambda rival: (rival.differs, sign * rival.expected), default=None)
    return Finals(
        first=first.name,
        expected=_forecast(first)["mean"],
        second=second.name if second else None,
        rivals=rivals,
        aside=aside,
    )


def describe(finals: Finals) -> list[str]:
    """The choice as lines for a terminal."""
    lines = [f"first   {finals.first}: the best forecast, {finals.expected:.4f}"]
    if finals.second is None:
        lines.append("second  none: no other file is different and not significantly worse")
    else:
        chosen = next(rival for rival in finals.rivals if rival.name == finals.second)
        lines.append(
            f"second  {finals.second}: differs most, {chosen.apart}, and is not significantly "
            f"worse ({chosen.reason})"
        )
    lines += [
        f"        {rival.name}: {'worse' if rival.worse else 'not worse'} ({rival.reason}), "
        f"differs {rival.apart}"
        for rival in finals.rivals
        if rival.name != finals.second
    ]
    return lines + [f"aside   {reason}" for reason in finals.aside]


def _obstacle(each: Recalled) -> str:
    if each.forecast is None:
        return "no card with a forecast"
    if each.rows is None:
        return "its file is neither here nor in its commit"
    if each.public is not None:
        chance = two_sided(each.forecast, "public", each.public)
        if chance < REFUTED:
            return (
                f"its public score {each.public:.5f} refutes its forecast (chance {chance:.1g}): "
                "python -m pipeline scores tells what fits"
            )
    return ""


def _compare(each: Recalled, first: Recalled, groups: dict[str, str]) -> Rival:
    worse, reason = _paired(each, first, groups) or _overlap(each, first)
    if METRICS[_forecast(first)["metric"]].needs == "labels":
        ours, theirs = encode([_rows(first), _rows(each)])
        differs = float((ours != theirs).mean())
        apart = f"on {differs:.2%} of the test rows"
    else:
        differs = _distance(first, each)
        apart = f"by {differs:.4f} of probability on average"
    return Rival(each.name, _forecast(each)["mean"], differs, apart, worse, reason)


def _distance(first: Recalled, other: Recalled) -> float:
    """Between submitted probabilities: of the second of two classes, or of each class."""
    ids = common_ids([_rows(first), _rows(other)])
    ours, theirs = (_probabilities(each, ids) for each in (first, other))
    if ours.shape != theirs.shape:
        raise SubmissionError(
            f"{other.name}: expected {ours.shape[1]} probabilities a row as {first.name} has, "
            f"found {theirs.shape[1]}"
        )
    gaps = np.abs(ours - theirs).sum(axis=1)
    return float(gaps.mean() if ours.shape[1] == 1 else gaps.mean() / 2)


def _probabilities(each: Recalled, ids: list[str]) -> Float[ndarray, "rows columns"]:
    rows = _rows(each)
    try:
        return np.array([rows[image_id] for image_id in ids], np.float64)
    except ValueError as error:
        raise SubmissionError(
            f"{each.name}: expected probabilities, as its card's metric asks for: {error}"
        ) from error


def _paired(each: Recalled, first: Recalled, groups: dict[str, str]) -> tuple[bool, str] | None:
    """The one-sided paired test by group, where both cards hold hits of the same images."""
    if _forecast(first)["metric"] != "accuracy":
        return None
    ids = sorted(groups)
    packed = [CorrectRows.model_validate(_forecast(card)["correct"]) for card in (first, each)]
    hits = [correct.unpack(ids) for correct in packed]
    if hits[0] is None or hits[1] is None:
        return None
    group_of_row = np.unique([groups[image_id] for image_id in ids], return_inverse=True)[1]
    difference, p = compare_hits(hits[0], hits[1], group_of_row)
    return p < LEVEL, f"{-difference:+.4f} on the same {len(ids)} out-of-fold rows, p {p:.3f}"


def compare_hits(
    first: Bool[ndarray, " rows"],
    other: Bool[ndarray, " rows"],
    group_of_row: Int[ndarray, " rows"],
) -> tuple[float, float]:
    """How much more often the first is right, and the chance of that or more without a difference.

    Student's t on the groups' summed differences (cluster-robust; Cameron and Miller 2015), with
    one degree of freedom less than groups. Each row its own group: the paired t test, which is
    McNemar's for large samples.
    """
    from scipy.special import stdtr  # 0.1 s

    gaps = np.bincount(group_of_row, weights=first.astype(np.float64) - other)
    rows = np.bincount(group_of_row)
    difference = float(gaps.sum() / rows.sum())
    count = len(rows)
    residuals = gaps - difference * rows
    error = float(np.sqrt((residuals**2).sum() * count / (count - 1))) / rows.sum()
    if error == 0:
        return difference, float(difference <= 0)
    return difference, float(stdtr(count - 1, -difference / error))


def _overlap(each: Recalled, first: Recalled) -> tuple[bool, str]:
    """Without common rows: is its forecast within the first one's interval for the private half."""
    mean, (low, high) = _forecast(each)["mean"], _forecast(first)["private"]
    inside = low <= mean <= high
    return (
        not inside,
        f"its forecast {mean:.4f} {'in' if inside else 'not in'} {low:.4f} to {high:.4f}",
    )


def _forecast(each: Recalled) -> dict[str, Any]:
    if each.forecast is None:
        raise SubmissionError(f"{each.name}: no card with a forecast")
    return each.forecast


def _rows(each: Recalled) -> Rows:
    if each.rows is None:
        raise SubmissionError(f"{each.name}: its file is neither here nor in its commit")
    return each.rows
