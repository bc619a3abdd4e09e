"""A score is compared with its forecast, and what could explain it follows from the stated rules."""

from typing import Any

import numpy as np
import pytest
from cards import make_audit
from competing import LEVELS, normal_card
from scipy import stats

from pipeline.core.audit import Audit
from pipeline.ledger.explain import chance_of, expect_private, explain_score
from pipeline.ledger.history import Answers, PastSubmission
from pipeline.ledger.review import compare_scores, review, share_of_differences
from pipeline.scoring.card import Drift


def audit_of(spans_groups: int = 0, both: int = 0, classes: tuple[int, ...] = (50, 50)) -> Audit:
    """Training classes with these numbers of images, and so many clusters of duplicates."""
    found = make_audit(100, ("0", "1"), ["a", "b", "c", "d"], grouped=True)
    counts = {str(place): count for place, count in enumerate(classes)}
    duplicates = {"spans_groups": spans_groups, "where": {"train": 0, "test": 0, "both": both}}
    return found.model_copy(
        update={
            "train": found.train.model_copy(update={"classes": counts}),
            "duplicates": found.duplicates.model_copy(update=duplicates),
        }
    )


FACTS = audit_of()
QUANTILES = normal_card().forecast.quantiles.public
DRIFT = Drift(
    auc=0.81, band=(0.4, 0.6), p=0.025, splits=100, strongest=["sharpness of channel 1"],
    weighted=True,
)  # fmt: skip


@pytest.mark.parametrize("z", [-4.0, -2.7, -1.0, -0.2, 0.0, 0.7, 1.9, 3.5])
def test_the_chance_of_a_score_is_the_normal_one(z: float) -> None:
    found = chance_of(0.9 + 0.01 * z, LEVELS, QUANTILES)
    assert found == pytest.approx(2 * stats.norm.sf(abs(z)), rel=0.02)


def test_the_chance_is_known_where_scores_are_few() -> None:
    """Discrete scores: equal quantiles, or one value only."""
    assert 0 < chance_of(0.85, LEVELS, [0.8] * 4 + [0.9] * 5 + [1.0] * 2) < 1
    assert chance_of(1.0, LEVELS, [1.0] * 11) == 1
    assert chance_of(0.9, LEVELS, [1.0] * 11) == 0


def test_a_score_inside_needs_no_explanation() -> None:
    assert explain_score(normal_card(), 0.91, FACTS) == [
        "public 0.91000: inside the forecast 0.8835 to 0.9165 (90%); as far off by chance: 31.7 %",
        "private to expect now: 0.9050 (0.8908 to 0.9192)",
    ]


DRIFTED = {"forecast": {"drift": DRIFT}}
THREE = {"test": {"labels": {"0": 600, "1": 600, "2": 800}}}
SEVERAL = {"test": {"labels": {"0": 900, "1": 800}}}  # of 2,000 rows: some have both, some none
UNEVEN = {"classes": (10, 10, 80)}
UNGROUPED = {"out_of_fold": {"groups": 600}}
LOSS = {"metric": {"name": "log_loss", "value": 0.9}}
OVERFITTED = {"blend": {"unnested": 0.92}}


@pytest.mark.parametrize(
    ("public", "changes", "facts", "reasons"),
    [
        # the file
        (95.0, {}, {}, ["format"]),
        (0.5, {"test": {"labels": {"0": 0, "1": 2000}}}, {}, ["format"]),
        (0.1, {}, {}, ["format"]),
        (0.51, {}, {}, ["format"]),
        (0.51, THREE, UNEVEN, ["nothing known"]),
        (0.38, THREE, UNEVEN, ["format"]),
        (0.1, SEVERAL, {}, ["nothing known"]),
        (0.1, {"metric": {"name": "roc_auc"}}, {}, ["nothing known"]),
        # below
        (0.86, DRIFTED, {}, ["drift"]),
        (0.86, {"forecast": {"drift": DRIFT.model_copy(update={"weighted": False})}}, {}, ["nothing known"]),
        (0.88, {}, {}, []),
        (0.86, UNGROUPED, {}, ["leak in cross-validation"]),
        (0.86, {}, {"spans_groups": 3}, ["leak in cross-validation"]),
        (0.86, OVERFITTED, {}, ["overfitted blend"]),
        (0.86, {"blend": {"unnested": 0.905}}, {}, ["nothing known"]),
        (0.86, {}, {"both": 9}, ["nothing known"]),
        (0.86, DRIFTED | UNGROUPED | OVERFITTED, {}, ["drift", "leak in cross-validation", "overfitted blend"]),
        # above
        (0.96, {}, {"both": 9}, ["leak into test"]),
        (0.96, DRIFTED | UNGROUPED, {}, ["nothing known"]),
        (0.92, {}, {}, []),
        # a loss: low is good
        (0.86, LOSS, {"both": 1}, ["leak into test"]),
        (0.96, LOSS | DRIFTED, {}, ["drift"]),
    ],
)  # fmt: skip
def test_what_fits_is_named_by_the_rules(
    public: float, changes: Any, facts: Any, reasons: list[str]
) -> None:
    first, *fits = explain_score(normal_card(**changes), public, audit_of(**facts))
    assert "inside" not in first
    assert len(fits) == len(reasons) + 1
    for line, reason in zip(fits, [*reasons, "luck"], strict=True):
        assert line.startswith(f"fits: {reason}")


def test_without_an_audit_the_card_alone_is_asked() -> None:
    assert "swapped" in explain_score(normal_card(), 0.1, None)[1]
    assert "nothing known" in explain_score(normal_card(), 0.51, None)[1]
    assert "nothing known" in explain_score(normal_card(), 0.96, None)[1]


def test_the_lines_carry_the_figures() -> None:
    lines = explain_score(normal_card(), 0.1, FACTS)
    assert lines == [
        "public 0.10000: below the forecast 0.8835 to 0.9165 (90%); as far off by chance: under 0.1 %",
        "fits: format: 0.9000 was to be expected: the two labels are swapped",
        "fits: luck: under 0.1 % of such competitions",
    ]
    one_label = normal_card(test={"labels": {"0": 0, "1": 2000}})
    assert explain_score(one_label, 0.5, FACTS)[1] == "fits: format: every row is labelled 1"
    assert explain_score(normal_card(), 95.0, FACTS)[1] == (
        "fits: format: no score by accuracy: Kaggle scores by another metric"
    )
    assert explain_score(normal_card(forecast={"drift": DRIFT}), 0.86, FACTS)[1] == (
        "fits: drift: test can be distinguished from train (AUC 0.810, p 0.025), most by sharpness "
        "of channel 1"
    )


def test_the_private_score_follows_the_public_one_by_their_correlation() -> None:
    mean, low, high = expect_private(normal_card().forecast, 0.92)
    assert mean == pytest.approx(0.91)
    assert (high - low) / 2 == pytest.approx(1.645 * 0.01 * np.sqrt(0.75), rel=1e-3)
    assert expect_private(normal_card(forecast={"sd": (0.0, 0.01)}).forecast, 0.92)[
        0
    ] == pytest.approx(0.9)


# All submissions together


def files(count: int, rows: int, errors: float, seed: int) -> list[Answers]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, rows)
    return [
        {
            f"t{row:05}": (str(label),)
            for row, label in enumerate(np.where(rng.random(rows) < errors, 1 - truth, truth))
        }
        for _ in range(count)
    ]


def test_files_differ_by_their_share_of_other_labels() -> None:
    one, other, third = files(3, 4000, 0.05, 1)
    shares = [
        np.mean([a[name] != b[name] for name in a])
        for a, b in ((one, other), (one, third), (other, third))
    ]
    assert share_of_differences([one, other]) == pytest.approx(shares[0])
    assert share_of_differences([one, other, third]) == pytest.approx(np.mean(shares))
    assert share_of_differences([{"x": ("0",)}, {"y": ("0",)}]) == 1


def test_the_noise_between_two_files_is_that_of_fair_coins_where_they_differ() -> None:
    """Two files differ on 400 of 4,000 rows; simulated: who is right there, which are public."""
    rng = np.random.default_rng(1)
    gaps = []
    for _ in range(2000):
        right = np.zeros(4000)
        right[:400] = rng.choice([-1, 1], 400)
        rng.shuffle(right)
        gaps.append(right[:1000].mean() - right[1000:].mean())
    base, other = files(1, 4000, 0.0, 1)[0], files(1, 4000, 0.0, 1)[0]
    for name in list(other)[:400]:
        other[name] = ("9",)
    rows = {"public": 1000, "private": 3000}
    made = [
        PastSubmission(str(place), 0.9, normal_card(forecast={"rows": rows}), "", answers)
        for place, answers in enumerate([base, other, base, other])
    ]
    expected = 1.645 * np.sqrt(4 / 6) * np.std(gaps)  # 4 of the 6 pairs differ
    found = float(review(made)[1].split("within ")[1].split()[0])
    assert found == pytest.approx(expected, rel=0.05)


def test_the_review_counts_and_correlates() -> None:
    forecasts = [normal_card(mean).forecast for mean in (0.88, 0.89, 0.9, 0.91)]
    public = [0.885, 0.88, 0.905, 0.99]
    assert compare_scores(forecasts, public) == (
        "cross-validation against public: 3 of 4 inside their forecast (3.6 expected); rank "
        "correlation 0.80"
    )
    assert compare_scores(forecasts, [0.9] * 4).endswith(
        "; no rank correlation, as all scores are equal"
    )
    assert review([PastSubmission("a", 0.9, normal_card(), "", {"t": ("0",)})] * 2) == []
