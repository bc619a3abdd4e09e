"""Which two submissions are to count: a rule, stated before anybody knows the private half.

The first is the one with the best forecast. The second is the one that differs most from it among
those that are not significantly worse: if the first was lucky in cross-validation, the second
fails on other rows. Public scores choose nothing; but a file whose public score refutes its own
forecast is set aside, since it is not what was cross-validated. No private score is read.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray
from scipy.special import stdtr

from pipeline.core import paths
from pipeline.core.errors import SubmissionError
from pipeline.ledger.explain import REFUTED, chance_of
from pipeline.ledger.history import Answers, PastSubmission, common_ids, find_differences
from pipeline.scoring.card import Card
from pipeline.scoring.metrics import metric_named

LEVEL = 0.05
"""Significance level of the one-sided test for being worse."""


@dataclass(frozen=True)
class Finalist:
    """A submission that may be chosen: all that is needed is there."""

    name: str
    card: Card
    answers: Answers


@dataclass(frozen=True)
class Rival:
    """A submission compared with the first choice."""

    file: Finalist
    differs: float
    """Share of the test rows with another label; for probabilities half the sum of their
    differences in a row, on average over the rows, which is the same where all are 0 and 1; for
    numbers their mean difference, by the first choice's mean distance from its own mean."""
    worse: bool
    reason: str
    """The test behind `worse`, and its figures."""


@dataclass(frozen=True)
class Finals:
    """The choice and what it rests on."""

    first: Finalist
    second: Rival | None
    """None where no other file is different and not significantly worse."""
    rivals: list[Rival]
    aside: list[str]
    """What was not considered, and why."""


def choose_finals(submissions: list[PastSubmission], groups: dict[str, str]) -> Finals:
    """The two submissions to select on Kaggle.

    groups: of the training images, for the paired test. Among equal forecasts the earlier
    submission is chosen; among equally different files the better forecast. Raises SubmissionError
    where no submission has a card and its file, or their cards are of different metrics.
    """
    checked = [_check(each) for each in submissions]
    finalists = [each for each in checked if isinstance(each, Finalist)]
    aside = [reason for reason in checked if isinstance(reason, str)]
    if not finalists:
        raise SubmissionError(
            f"{paths.LEDGER}: expected a submission whose card has a forecast, found none of "
            f"{len(submissions)}{': ' + '; '.join(aside) if aside else ''}"
        )
    metrics = sorted({each.card.metric.name for each in finalists})
    if len(metrics) > 1:
        raise SubmissionError(f"submissions: forecasts of different metrics: {', '.join(metrics)}")
    gain = metric_named(metrics[0]).gain
    first = max(finalists, key=lambda each: gain(each.card.expected.mean))
    rivals = [
        Rival(each, _measure_difference(each, first), *_test_worse(each, first, groups))
        for each in finalists
        if each is not first
    ]
    able = [rival for rival in rivals if not rival.worse and rival.differs > 0]
    second = max(
        able,
        key=lambda rival: (rival.differs, gain(rival.file.card.expected.mean)),
        default=None,
    )
    return Finals(first, second, rivals, aside)


def describe_finals(finals: Finals) -> list[str]:
    """The choice as lines for a terminal."""
    first, second = finals.first, finals.second
    lines = [f"first   {first.name}: the best forecast, {first.card.expected.mean:.4f}"]
    if second is None:
        lines.append("second  none: no other file is different and not significantly worse")
    else:
        lines.append(
            f"second  {second.file.name}: differs most, by {second.differs:.2%}, and is not "
            f"significantly worse ({second.reason})"
        )
    lines += [
        f"        {rival.file.name}: {'worse' if rival.worse else 'not worse'} ({rival.reason}), "
        f"differs by {rival.differs:.2%}"
        for rival in finals.rivals
        if rival is not second
    ]
    return lines + [f"aside   {reason}" for reason in finals.aside]


def _check(each: PastSubmission) -> Finalist | str:
    """The submission as a finalist, or why it cannot be one."""
    if each.card is None:
        return f"{each.name}: no card with a forecast: {each.no_card}"
    if each.answers is None:
        return f"{each.name}: its file is neither here nor in its commit"
    if each.public is not None:
        forecast = each.card.expected
        if chance_of(each.public, forecast.levels, forecast.quantiles.public) < REFUTED:
            return (
                f"{each.name}: its public score {each.public:.5f} refutes its forecast. "
                "See what fits: python -m pipeline scores"
            )
    return Finalist(each.name, each.card, each.answers)


def _measure_difference(each: Finalist, first: Finalist) -> float:
    """`Rival.differs` of a file and the first."""
    ids = common_ids(first.answers, each.answers, each.name)
    metric = metric_named(first.card.metric.name)
    if metric.needs == "labels" or metric.best:
        return len(find_differences(first.answers, each.answers)) / len(ids)
    try:
        rows = [[file.answers[name] for name in ids] for file in (first, each)]
        ours, theirs = np.array(rows, np.float64)
    except ValueError as error:
        raise SubmissionError(
            f"{each.name}: expected as many probabilities a row as {first.name} has: {error}"
        ) from error
    if "number" in metric.tasks:
        spread = np.abs(ours - ours.mean(axis=0)).mean(axis=0)
        return float((np.abs(ours - theirs).mean(axis=0) / np.where(spread > 0, spread, 1)).mean())
    return float(np.abs(ours - theirs).sum(axis=1).mean() / min(ours.shape[1], 2))


def _test_worse(each: Finalist, first: Finalist, groups: dict[str, str]) -> tuple[bool, str]:
    """Whether a file is significantly worse than the first, and the figures.

    By the paired test where both cards are of these same training images; otherwise it is worse
    where its forecast is outside the first one's interval for private.
    """
    ids = sorted(groups)
    packed = (card.expected.correct for card in (first.card, each.card))
    ours, theirs = (correct.unpack(ids) if correct else None for correct in packed)
    is_mean = metric_named(first.card.metric.name).is_mean_of_rows
    if is_mean and ours is not None and theirs is not None:
        group_of_row = np.unique([groups[row_id] for row_id in ids], return_inverse=True)[1]
        difference, p = compare_correct(ours, theirs, group_of_row)
        return p < LEVEL, f"{-difference:+.4f} on the same {len(ids)} out-of-fold rows, p {p:.3f}"
    mean, (low, high) = each.card.expected.mean, first.card.expected.private
    inside = low <= mean <= high
    found = f"its forecast {mean:.4f} {'in' if inside else 'not in'} {low:.4f} to {high:.4f}"
    return not inside, found


def compare_correct(
    first: Bool[ndarray, " rows"],
    other: Bool[ndarray, " rows"],
    group_of_row: Int[ndarray, " rows"],
) -> tuple[float, float]:
    """How much more often the first is right, and the chance of that or more without a difference.

    Student's t on the groups' summed differences (cluster-robust; Cameron and Miller 2015), with
    one degree of freedom less than groups. With each row its own group this is the paired t test,
    and for many rows McNemar's.
    """
    gaps = np.bincount(group_of_row, weights=first.astype(np.float64) - other)
    rows = np.bincount(group_of_row)
    difference = float(gaps.sum() / rows.sum())
    count = len(rows)
    residuals = gaps - difference * rows
    error = float(np.sqrt((residuals**2).sum() * count / (count - 1))) / rows.sum()
    if error == 0:
        return difference, float(difference <= 0)
    return difference, float(stdtr(count - 1, -difference / error))
