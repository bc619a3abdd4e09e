"""Across the ledger: does cross-validation predict the public score, and what will be shaken up.

Two files are told apart only by the rows on which they differ, so all noise here is of those rows:
a public half sees a random part of them, the private half the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from pipeline.core.errors import SubmissionError

_DRAWS = 2000

Rows = dict[str, tuple[str, ...]]
"""What a file says of each id: one label, or probabilities."""


@dataclass(frozen=True)
class Agreement:
    """Cross-validated against public scores of several submissions."""

    inside: int
    scored: int
    expected: float
    """How many were to be inside."""
    correlation: float
    """Spearman's, of the two scores."""
    band: tuple[float, float]
    """Where 90 % of the correlations lie if the forecasts are right and public only adds noise."""


@dataclass(frozen=True)
class ShakeUp:
    """How one's own ranking may change from public to private."""

    best_stays: float
    """Chance that the file that is best on public is best on private, ties included."""
    rank_change: float
    """Mean change of a file's rank."""
    noise: float
    """Standard deviation of the private minus the public difference of two files, on average."""


def compare_scores(
    cards: Sequence[Mapping[str, Any]], public: list[float], noise: float, seed: int
) -> Agreement:
    """Hold the public scores of all submissions against their forecasts.

    cards: the parts `forecast`. noise: standard deviation of the difference of two public scores
    around that of the forecasts. Raises SubmissionError for fewer than three submissions.
    """
    if len(public) < 3:
        raise SubmissionError(
            f"a correlation needs three scored submissions or more, found {len(public)}"
        )
    means = np.array([card["mean"] for card in cards])
    inside = sum(
        card["public"][0] <= score <= card["public"][1]
        for card, score in zip(cards, public, strict=True)
    )
    generator = np.random.default_rng(seed)
    drawn = means + noise / np.sqrt(2) * generator.standard_normal((_DRAWS, len(means)))
    correlations = [spearman(means, scores) for scores in drawn]
    low, high = np.nanquantile(correlations, [0.05, 0.95]) if np.ptp(means) > 0 else (np.nan,) * 2
    return Agreement(
        inside=inside,
        scored=len(public),
        expected=sum(card["confidence"] for card in cards),
        correlation=spearman(means, np.array(public)),
        band=(float(low), float(high)),
    )


def spearman(first: Float[ndarray, " files"], second: Float[ndarray, " files"]) -> float:
    """Correlation of the ranks, ties at their mean; NaN where all are equal.

    Same as scipy.stats.spearmanr (tests/test_review.py).
    """
    ranks = [_mean_ranks(values) for values in (first, second)]
    if min(np.ptp(rank) for rank in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def shake_up(labels: list[Rows], public_rows: int, seed: int) -> ShakeUp:
    """Simulate the public and the private ranking of one's own files.

    labels: of each file, by id. The truth of a row on which they differ is drawn from their votes;
    the rest of the rows move all files alike. Where the true halves lie is drawn as well.
    Raises SubmissionError for fewer than two files or files of different ids.
    """
    votes = encode(labels)
    files, rows = votes.shape
    if files < 2:
        raise SubmissionError(f"a shake-up needs two files or more, found {files}")
    generator = np.random.default_rng(seed)
    differ = votes[:, (votes != votes[0]).any(axis=0)]
    stays, changes, gaps = [], [], []
    for _ in range(_DRAWS):
        voter = generator.integers(files, size=differ.shape[1])
        right = differ == differ[voter, np.arange(differ.shape[1])]
        is_public = generator.permutation(rows)[: differ.shape[1]] < public_rows
        public = right[:, is_public].sum(axis=1) / public_rows
        private = right[:, ~is_public].sum(axis=1) / (rows - public_rows)
        stays.append(private[public == public.max()].max() == private.max())
        changes.append(np.abs(_mean_ranks(public) - _mean_ranks(private)).mean())
        gaps.append((private - public) - (private - public).mean())
    pairs = np.sqrt(2 * np.var(gaps, axis=0, ddof=1).mean() * files / (files - 1))
    return ShakeUp(float(np.mean(stays)), float(np.mean(changes)), float(pairs))


def public_noise(labels: list[Rows], public_rows: int) -> float:
    """Standard deviation of the difference of two files' public scores, on average over the pairs.

    On a row where they differ one is right and the other not, or neither is: at most as much as a
    fair coin's, sqrt(d / public rows) where they differ on a share d.
    """
    votes = encode(labels)
    pairs = [(a, b) for a in range(len(votes)) for b in range(a)]
    shares = [float((votes[a] != votes[b]).mean()) for a, b in pairs]
    return float(np.sqrt(np.mean(shares) / public_rows)) if shares else 0.0


def encode(labels: list[Rows]) -> Int[ndarray, "files rows"]:
    """The labels as numbers, in the order of the sorted ids. Raises SubmissionError."""
    ids = common_ids(labels)
    names = {
        name: place for place, name in enumerate(sorted(set().union(*map(dict.values, labels))))
    }
    return np.array([[names[file[image_id]] for image_id in ids] for file in labels])


def common_ids(files: list[Rows]) -> list[str]:
    """The ids of the files, sorted. Raises SubmissionError where they differ."""
    ids = sorted(files[0])
    for number, file in enumerate(files):
        if sorted(file) != ids:
            raise SubmissionError(
                f"file {number + 1} of {len(files)}: expected the {len(ids)} ids of the first, "
                f"found {len(file)}, {len(set(file) - set(ids))} of them others"
            )
    return ids


def describe(agreement: Agreement, shaken: ShakeUp) -> list[str]:
    """Both, as lines for a terminal."""
    low, high = agreement.band
    levels = NormalDist().inv_cdf(0.95)
    return [
        f"cross-validation against public: {agreement.inside} of {agreement.scored} inside their "
        f"forecast ({agreement.expected:.1f} were to be); rank correlation "
        f"{agreement.correlation:.2f}, by the forecasts and noise {low:.2f} to {high:.2f}",
        f"two of these files within {levels * shaken.noise:.4f} on public may stand the other way "
        f"round on private; the best on public stays the best with {shaken.best_stays:.0%}, ranks "
        f"move by {shaken.rank_change:.1f} on average",
    ]


def _mean_ranks(values: Float[ndarray, " files"]) -> Float[ndarray, " files"]:
    """From 1; equal values share the mean of their ranks."""
    below = (values[:, None] > values).sum(axis=1)
    equal = (values[:, None] == values).sum(axis=1)
    ranks: Float[ndarray, " files"] = below + (equal + 1) / 2
    return ranks
