"""What the card says of the score, the blend and the models."""

from typing import Any

from pipeline.ensemble.blend import Kind, Prediction, Recipe, Stacked, fit
from pipeline.ensemble.compare import Rows, compare, name_of_test
from pipeline.ensemble.estimate import accuracy_interval, interval_of
from pipeline.ensemble.nested import Judgement
from pipeline.ensemble.saved import describe_fitted
from pipeline.scoring.metrics import log_loss, recalls


def describe_score(nested: Prediction, rows: Rows, classes: list[str]) -> dict[str, Any]:
    """Accuracy, its interval, log loss and recalls of the nested prediction."""
    correct = nested.predicted == rows.labels
    interval = accuracy_interval(correct, rows.groups, rows.confidence, rows.resamples, rows.seed)
    recall = recalls(nested.predicted, rows.labels, len(classes))
    return {
        "accuracy": round(float(correct.mean()), 6),
        "interval": _rounded(interval),
        "confidence": rows.confidence,
        "interval_method": f"percentile bootstrap of whole groups, {rows.resamples} resamples",
        "log_loss": round(log_loss(nested.probabilities, rows.labels), 6),
        "recall": {name: round(value, 6) for name, value in zip(classes, recall, strict=True)},
    }


def describe_metric(judged: Judgement, rows: Rows) -> dict[str, Any]:
    """The metric of params.yaml, of the nested prediction."""
    metric = judged.recipe.metric
    scores = rows.resample(metric, judged.nested)
    return {
        "name": metric.name,
        "value": round(rows.score(metric, judged.nested), 6),
        "interval": _rounded(interval_of(scores[:, 0], rows.confidence)),
        "greater_is_better": metric.greater_is_better,
    }


def describe_blend(
    asked: str,
    names: list[str],
    recipes: list[Recipe],
    judged: Judgement,
    members: Stacked,
    rows: Rows,
) -> dict[str, Any]:
    """What was chosen among what and why, what was fitted, and what not nesting would have claimed.

    The figures to read are rounded; fitted: what was fitted, to the last digit.
    unnested: the best of the candidates' scores on the very rows that they were fitted on, which
    is the figure that a blend without nested folds would be announced with.
    """
    metric = judged.recipe.metric
    candidates = [_describe_candidate(recipe, judged, members, rows) for recipe in recipes]
    return {
        "asked": asked,
        "chosen": judged.recipe.kind,
        "why": _why(asked, names, judged, candidates, rows),
        "models": names,
        **judged.fitted.blend.describe(),
        "calibration": judged.recipe.calibration,
        "temperature": _rounded_or_none(judged.fitted.temperature),
        "threshold": _rounded_or_none(judged.fitted.threshold),
        "unnested": max((each["unnested"] for each in candidates), key=metric.gain),
        "test": name_of_test(metric),
        "fitted": describe_fitted(judged.fitted),
        "candidates": candidates,
        "chosen_without_fold": {str(name): kind for name, kind in judged.chosen_without.items()},
    }


def _describe_candidate(
    recipe: Recipe, judged: Judgement, members: Stacked, rows: Rows
) -> dict[str, Any]:
    """One blend's nested and un-nested score, and the paired comparison with the best one."""
    metric = recipe.metric
    nested = judged.candidates[recipe.kind]
    seen = fit(recipe, members, rows.labels).apply(members)
    against = compare(metric, nested, judged.candidates[judged.best], rows)
    return {
        "blend": recipe.kind,
        "nested": round(rows.score(metric, nested), 6),
        "unnested": round(rows.score(metric, seen), 6),
        "better_than_best_by": round(against.difference, 6),
        "interval": _rounded(against.interval),
        "p_value": round(against.p_value, 6),
    }


def _why(
    asked: str, names: list[str], judged: Judgement, candidates: list[dict[str, Any]], rows: Rows
) -> str:
    chosen, best = judged.recipe.kind, judged.best
    if len(names) == 1:
        return "one model: there is nothing to blend"
    if asked != "auto":
        return f"params.yaml: ensemble.blend: {asked}"
    level = round(1 - rows.confidence, 6)
    tried = f"of {len(candidates)} candidates, from simple to complex"
    folds = judged.chosen_without
    nesting = (
        f"{_count(chosen, list(folds.values()))} of {len(folds)} folds' others choose it too; the "
        "figure is of what each fold's others chose"
    )
    if chosen == best and candidates[0]["blend"] == best:
        return f"the simplest {tried}, and the best; {nesting}"
    if chosen == best:
        return f"the best {tried}; each simpler one is worse with p < {level}; {nesting}"
    p_value = next(each["p_value"] for each in candidates if each["blend"] == chosen)
    return (
        f"the first {tried}, that is not significantly worse than the best, {best} "
        f"(p = {p_value:.3g}, level {level}); {nesting}"
    )


def _count(kind: Kind, chosen: list[Kind]) -> int:
    return sum(each == kind for each in chosen)


def _rounded(interval: tuple[float, float]) -> list[float]:
    return [round(end, 6) for end in interval]


def _rounded_or_none(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
