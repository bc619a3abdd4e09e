"""What `scores` and `finals` print below the ledger's table.

The one place where a private score is spoken of, once Kaggle has shown it or a solution is at
hand; nothing reads these lines, and the choice of the finals is made without them.
"""

import json
from collections.abc import Mapping
from typing import Any

from pipeline.core import paths
from pipeline.core.errors import SubmissionError
from pipeline.ledger.agreement import compare_scores, public_noise, shake_up
from pipeline.ledger.agreement import describe as describe_review
from pipeline.ledger.explain import Evidence, expect_private, explain_score, two_sided
from pipeline.ledger.finals import choose_finals
from pipeline.ledger.finals import describe as describe_finals
from pipeline.ledger.history import Recalled, read_groups, recall
from pipeline.ledger.ledger import Entry
from pipeline.scoring.metrics import METRICS

_SEED = 1


def explain_entries(entries: list[Entry], audit: Mapping[str, Any] | None) -> list[str]:
    """For each scored submission whether it was to be expected, and the review of all.

    audit: data/audit.json, where there is one. Entries of one competition.
    """
    known = recall(entries)
    lines: list[str] = []
    for each in known:
        if each.public is not None:
            lines += _explain(each, audit)
    private = {entry.mark: entry.private for entry in entries}
    for each in known:
        if each.forecast is not None and private.get(each.mark):
            lines.append(_tell_private(each.name, each.forecast, float(private[each.mark])))
    return lines + _review([each for each in known if each.public is not None])


def finals_lines(entries: list[Entry]) -> list[str]:
    """The rule's choice among the ledger's submissions of one competition."""
    return describe_finals(choose_finals(recall(entries), read_groups(paths.FOLDS)))


def read_audit() -> dict[str, Any] | None:
    """data/audit.json; None where `prepare` has not run here."""
    if not paths.AUDIT.is_file():
        return None
    audit: dict[str, Any] = json.loads(paths.AUDIT.read_text(encoding="utf-8"))
    return audit


def _explain(each: Recalled, audit: Mapping[str, Any] | None) -> list[str]:
    if each.card is None or each.forecast is None or each.public is None:
        return [f"{each.name}: no forecast to hold its score against"]
    found = explain_score(each.forecast, each.public, gather(each.card, audit))
    lines = [f"{each.name}: {found.lines[0]}", *(f"  fits: {line}" for line in found.lines[1:])]
    if found.inside:
        mean, low, high = expect_private(each.forecast, each.public)
        lines.append(f"  private to expect now: {mean:.4f} ({low:.4f} to {high:.4f})")
    return lines


def gather(card: Mapping[str, Any], audit: Mapping[str, Any] | None) -> Evidence:
    """What the card and the audit tell; a card of an earlier version may lack parts."""
    oof, blend = card["out_of_fold"], card.get("blend")
    classes = audit["train"]["classes"] if audit else {}
    total = sum(classes.values())
    duplicates = audit["duplicates"] if audit else {}
    rows, groups = oof.get("rows"), oof.get("groups")
    nested = card.get("metric", {}).get("value")
    return Evidence(
        labels=card["test"]["labels"],
        train_shares={name: count / total for name, count in classes.items()},
        grouped=None if rows is None else groups < rows,
        across_groups=duplicates.get("spans_groups"),
        across_splits=duplicates.get("where", {}).get("both"),
        claimed=blend.get("unnested") if isinstance(blend, dict) else None,
        nested=nested,
    )


def _tell_private(name: str, card: Mapping[str, Any], private: float) -> str:
    low, high = card["private"]
    place = "inside" if low <= private <= high else ("below" if private < low else "above")
    chance = two_sided(card, "private", private)
    return (
        f"{name}: private {private:.5f}: {place} the forecast {low:.4f} to {high:.4f}; as far off "
        f"by chance: {100 * chance:.1f} %"
    )


def _review(scored: list[Recalled]) -> list[str]:
    """Nothing where there are too few files, or files of different test sets."""
    cards, public, labels = [], [], []
    for each in scored:
        if each.forecast is not None and each.rows is not None and each.public is not None:
            cards.append(each.forecast)
            public.append(each.public)
            labels.append(each.rows)
    if len(cards) < 3:
        return []
    if any(METRICS[card["metric"]].needs == "probabilities" for card in cards):
        return ["no review of all submissions: it tells the luck of differing labels, and these "
                "files hold probabilities"]  # fmt: skip
    rows = cards[0]["rows"]["public"]
    try:
        agreement = compare_scores(cards, public, public_noise(labels, rows), _SEED)
        return describe_review(agreement, shake_up(labels, rows, _SEED))
    except SubmissionError as error:
        return [f"no review of all submissions: {error}"]
