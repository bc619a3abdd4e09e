"""A score is held against its forecast, and what fits is named by the stated rules."""

import json
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pipeline.core.errors import SubmissionError
from pipeline.ensemble.forecast.intervals import LEVELS
from pipeline.ledger.agreement import (
    compare_scores,
    describe,
    encode,
    public_noise,
    shake_up,
    spearman,
)
from pipeline.ledger.commentary import gather
from pipeline.ledger.explain import Evidence, expect_private, explain_score, two_sided

NOTHING = Evidence({"0": 400, "1": 600}, {"0": 0.5, "1": 0.5}, True, 0, 0, None, None)


def card(mean: float = 0.9, **changes: Any) -> dict[str, Any]:
    """A forecast that is normal, with a standard deviation of 0.01."""
    sd = 0.01
    quantiles = [mean + sd * stats.norm.ppf(level) for level in LEVELS]
    interval = [mean - 1.65 * sd, mean + 1.65 * sd]
    return {
        "metric": "accuracy", "greater_is_better": True, "confidence": 0.9, "mean": mean,
        "public": interval, "private": interval, "sd": [sd, sd], "correlation": 0.5,
        "rows": {"public": 1000, "private": 1000}, "levels": list(LEVELS),
        "quantiles": {"public": quantiles, "private": quantiles}, "drift": None,
    } | changes  # fmt: skip


def drifted(weighted: bool) -> dict[str, Any]:
    return {"auc": 0.81, "p": 0.025, "weighted": weighted, "strongest": ["sharpness of channel 1"]}


@pytest.mark.parametrize("z", [-4.0, -2.7, -1.0, -0.2, 0.0, 0.7, 1.9, 3.5])
def test_the_chance_of_a_score_is_the_normal_one(z: float) -> None:
    assert two_sided(card(), "public", 0.9 + 0.01 * z) == pytest.approx(
        2 * stats.norm.sf(abs(z)), rel=0.02
    )


def test_the_chance_is_known_where_scores_are_few() -> None:
    """Discrete scores: equal quantiles, or one value only."""
    steps = {"public": [0.8] * 4 + [0.9] * 5 + [1.0] * 2}
    assert 0 < two_sided(card(quantiles=steps), "public", 0.85) < 1
    assert two_sided(card(quantiles={"public": [1.0] * 11}), "public", 1.0) == 1
    assert two_sided(card(quantiles={"public": [1.0] * 11}), "public", 0.9) == 0


def test_a_score_inside_needs_no_explanation() -> None:
    found = explain_score(card(), 0.91, NOTHING)
    assert found.inside
    assert found.suspects == []
    assert found.lines == [
        "public 0.91000: inside the forecast 0.8835 to 0.9165 (90%); as far off by chance: 31.7 %"
    ]


@pytest.mark.parametrize(
    ("public", "changes", "evidence", "suspects"),
    [
        # the file
        (0.5, {}, {"labels": {"0": 0, "1": 1000}}, ["format", "luck"]),
        (0.1, {}, {}, ["format", "luck"]),
        (0.51, {}, {}, ["format", "luck"]),
        (0.51, {}, {"labels": {"0": 300, "1": 300, "2": 400}, "train_shares": {"0": 0.1, "1": 0.1, "2": 0.8}}, ["unexplained", "luck"]),
        (0.38, {}, {"labels": {"0": 300, "1": 300, "2": 400}, "train_shares": {"0": 0.1, "1": 0.1, "2": 0.8}}, ["format", "luck"]),
        (0.1, {"metric": "roc_auc"}, {}, ["unexplained", "luck"]),
        # below
        (0.86, {"drift": drifted(True)}, {}, ["drift", "luck"]),
        (0.86, {"drift": drifted(False)}, {}, ["unexplained", "luck"]),
        (0.88, {}, {}, ["luck"]),
        (0.86, {}, {"grouped": False}, ["leak in cross-validation", "luck"]),
        (0.86, {}, {"grouped": None}, ["unexplained", "luck"]),
        (0.86, {}, {"across_groups": 3}, ["leak in cross-validation", "luck"]),
        (0.86, {}, {"claimed": 0.92, "nested": 0.90}, ["overfitted blend", "luck"]),
        (0.86, {}, {"claimed": 0.905, "nested": 0.90}, ["unexplained", "luck"]),
        (0.86, {}, {"across_splits": 9}, ["unexplained", "luck"]),
        (0.86, {"drift": drifted(True)}, {"grouped": False, "claimed": 0.92, "nested": 0.9}, ["drift", "leak in cross-validation", "overfitted blend", "luck"]),
        # above
        (0.96, {}, {"across_splits": 9}, ["leak into test", "luck"]),
        (0.96, {"drift": drifted(True)}, {"grouped": False}, ["unexplained", "luck"]),
        (0.92, {}, {}, ["luck"]),
        # a loss: low is good
        (0.86, {"metric": "log_loss", "greater_is_better": False}, {"across_splits": 1}, ["leak into test", "luck"]),
        (0.96, {"metric": "log_loss", "greater_is_better": False, "drift": drifted(True)}, {}, ["drift", "luck"]),
    ],
)  # fmt: skip
def test_what_fits_is_named_by_the_rules(
    public: float, changes: Any, evidence: Any, suspects: list[str]
) -> None:
    known = Evidence(**(NOTHING.__dict__ | evidence))
    found = explain_score(card(**changes), public, known)
    assert not found.inside
    assert found.suspects == suspects
    assert len(found.lines) == len(suspects) + 1


def test_the_lines_carry_the_figures() -> None:
    text = "\n".join(explain_score(card(), 0.1, NOTHING).lines)
    assert "public 0.10000: below the forecast 0.8835 to 0.9165" in text
    assert "format: 1 - 0.1000 = 0.9000 was to be expected: the two labels are swapped" in text
    assert "luck: under 0.1 % of such competitions; one score in 10 falls outside" in text
    assert (
        "every row is labelled 1"
        in explain_score(
            card(), 0.5, Evidence(**(NOTHING.__dict__ | {"labels": {"0": 0, "1": 9}}))
        ).lines[1]
    )
    assert (
        "AUC 0.810, p 0.025), most by sharpness of channel 1"
        in explain_score(card(drift=drifted(True)), 0.86, NOTHING).lines[1]
    )


def test_the_private_score_follows_the_public_one_by_their_correlation() -> None:
    mean, low, high = expect_private(card(), 0.92)
    assert mean == pytest.approx(0.91)
    assert (high - low) / 2 == pytest.approx(1.645 * 0.01 * np.sqrt(0.75), rel=1e-3)
    assert expect_private(card(sd=[0.0, 0.01]), 0.92)[0] == pytest.approx(0.9)


def test_evidence_is_gathered_from_card_and_audit_of_any_age() -> None:
    old = {"out_of_fold": {"accuracy": 0.9}, "test": {"labels": {"0": 1}}, "blend": "mean"}
    assert gather(old, None) == Evidence({"0": 1}, {}, None, None, None, None, None)
    new = {
        "out_of_fold": {"rows": 100, "groups": 10}, "test": {"labels": {"0": 1}},
        "blend": {"unnested": 0.93}, "metric": {"value": 0.92},
    }  # fmt: skip
    audit = {
        "train": {"classes": {"0": 30, "1": 70}},
        "duplicates": {"spans_groups": 2, "where": {"both": 4}},
    }
    assert gather(new, audit) == Evidence({"0": 1}, {"0": 0.3, "1": 0.7}, True, 2, 4, 0.93, 0.92)


# Across the ledger


@pytest.mark.parametrize("seed", range(5))
def test_the_rank_correlation_is_scipys(seed: int) -> None:
    first, second = np.random.default_rng(seed).integers(0, 6, (2, 9)).astype(float)
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert np.isnan(spearman(first, np.ones(9)))


def files(count: int, rows: int, errors: float, seed: int) -> list[dict[str, str]]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, rows)
    return [
        {
            f"t{row:05}": str(label)
            for row, label in enumerate(np.where(rng.random(rows) < errors, 1 - truth, truth))
        }
        for _ in range(count)
    ]


def test_the_noise_between_two_files_is_that_of_their_disagreement() -> None:
    """Two files that differ on d rows: sqrt(d / n) for a fair coin each."""
    labels = files(2, 4000, 0.05, 1)
    votes = encode(labels)
    differ = (votes[0] != votes[1]).mean()
    assert public_noise(labels, 2000) == pytest.approx(np.sqrt(differ / 2000))
    assert shake_up(labels, 2000, 1).noise == pytest.approx(np.sqrt(2 * differ / 2000), rel=0.1)


def test_alike_files_are_not_shaken_up_and_many_close_ones_are() -> None:
    same = files(1, 500, 0.1, 1) * 3
    assert shake_up(same, 250, 1).rank_change == 0
    assert shake_up(same, 250, 1).best_stays == 1
    close = shake_up(files(6, 500, 0.1, 1), 250, 1)
    assert close.best_stays < 0.5
    assert close.rank_change > 1


def test_the_review_counts_and_correlates() -> None:
    cards = [card(mean) for mean in (0.88, 0.89, 0.9, 0.91)]
    found = compare_scores(cards, [0.885, 0.88, 0.905, 0.99], 0.002, 1)
    assert (found.inside, found.scored, found.expected) == (3, 4, 3.6)
    assert found.correlation == pytest.approx(0.8)
    assert found.band[0] > 0.9
    noisy = compare_scores(cards, [0.885, 0.88, 0.905, 0.99], 0.1, 1)
    assert noisy.band[0] < 0
    lines = describe(found, shake_up(files(4, 500, 0.1, 1), 250, 1))
    assert "3 of 4 inside their forecast (3.6 were to be); rank correlation 0.80" in lines[0]
    assert "the best on public stays the best with" in lines[1]
    with pytest.raises(SubmissionError, match="needs three scored submissions or more, found 2"):
        compare_scores(cards[:2], [0.9, 0.9], 0.1, 1)


def test_files_of_other_ids_are_not_compared() -> None:
    first, second = files(2, 5, 0.1, 1)
    second.pop("t00000")
    with pytest.raises(
        SubmissionError, match="file 2 of 2: expected the 5 ids of the first, found 4, 0 of them"
    ):
        encode([first, second])
    with pytest.raises(SubmissionError, match="a shake-up needs two files or more, found 1"):
        shake_up([first], 2, 1)


def test_a_review_is_the_same_each_time() -> None:
    labels = files(4, 200, 0.1, 1)
    assert json.dumps(shake_up(labels, 100, 1).__dict__) == json.dumps(
        shake_up(labels, 100, 1).__dict__
    )
