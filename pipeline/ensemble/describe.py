"""What the card says about the score and the blend."""

from pipeline.core.fold_summary import OnlyTrained
from pipeline.core.task import Number
from pipeline.ensemble.blend import Prediction, Recipe, Stacked, fit
from pipeline.ensemble.bootstrap import ScoredRows
from pipeline.ensemble.compare import compare, name_of_test
from pipeline.ensemble.nested import Judgement
from pipeline.ensemble.saved import describe_fitted
from pipeline.scoring.card import Blend, Candidate, OutOfFold
from pipeline.scoring.ceiling import Ceiling, NoCeiling, measure_ceiling
from pipeline.scoring.metric import Metric
from pipeline.scoring.metrics import METRICS
from pipeline.scoring.of_labels import recalls


def describe_out_of_fold(
    nested: Prediction, rows: ScoredRows, of_images: int, only_trained: OnlyTrained | None = None
) -> OutOfFold:
    """What the nested prediction is worth, whatever the competition's metric is."""
    accuracy = interval = log_loss = None
    recall: list[float | None] = []
    if not isinstance(rows.task, Number):
        accuracy = rows.score(METRICS["accuracy"], nested)
        interval = rows.interval(METRICS["accuracy"], nested)
        log_loss = float(rows.task.losses(nested.values, rows.labels).mean())
        recall = recalls(nested.decided, rows.labels, len(rows.task.classes))
    return OutOfFold(
        accuracy=accuracy,
        interval=interval,
        confidence=rows.confidence,
        interval_method=f"percentile bootstrap of whole groups, {rows.resamples} resamples",
        log_loss=log_loss,
        recall=dict(zip(rows.task.outputs, recall, strict=False)),
        rows=len(rows.labels),
        of_images=of_images,
        groups=len(set(rows.groups)),
        only_trained=only_trained,
    )


def describe_ceiling(
    metric: Metric,
    nested: Prediction,
    names: list[str],
    members: Stacked,
    own: int,
    rows: ScoredRows,
) -> Ceiling | NoCeiling:
    """What the labels allow, by the mean of our own models: the first `own` of the members."""
    right = {"the submission": rows.right(nested)}
    for name, values in zip(names, members, strict=True):
        right[name] = rows.task.right(rows.task.decide(values, None), rows.labels)
    scores = {name: float(each.mean()) for name, each in right.items()}
    values = members[:own].mean(axis=0)
    return measure_ceiling(metric, rows.task, values, rows.labels, rows.groups, scores)


def describe_blend(
    asked: str,
    names: list[str],
    recipes: list[Recipe],
    judged: Judgement,
    members: Stacked,
    rows: ScoredRows,
) -> Blend:
    """What was chosen, among which candidates and why, and what was fitted.

    asked: params.yaml's ensemble.blend. names: the models', in the order of `members`.
    """
    metric = judged.recipe.metric
    candidates = [_describe_candidate(recipe, judged, members, rows) for recipe in recipes]
    return Blend(
        asked=asked,
        chosen=judged.recipe.kind,
        why=_why(asked, judged, candidates, rows)
        if len(names) > 1
        else "one model: there is nothing to blend",
        models=names,
        calibration=judged.recipe.calibration,
        unnested=max((each.unnested for each in candidates), key=metric.gain),
        test=name_of_test(metric),
        fitted=describe_fitted(judged.fitted),
        candidates=candidates,
        chosen_without_fold={str(fold): kind for fold, kind in judged.chosen_without.items()},
    )


def _describe_candidate(
    recipe: Recipe, judged: Judgement, members: Stacked, rows: ScoredRows
) -> Candidate:
    metric = recipe.metric
    nested = judged.candidates[recipe.kind]
    seen = fit(recipe, members, rows.labels).apply(members)
    against = compare(metric, nested, judged.candidates[judged.best], rows)
    return Candidate(
        blend=recipe.kind,
        nested=rows.score(metric, nested),
        unnested=rows.score(metric, seen),
        better_than_best_by=against.difference,
        interval=against.interval,
        p_value=against.p_value,
    )


def _why(asked: str, judged: Judgement, candidates: list[Candidate], rows: ScoredRows) -> str:
    chosen, best = judged.recipe.kind, judged.best
    if asked != "auto":
        return f"params.yaml: ensemble.blend: {asked}"
    level = round(1 - rows.confidence, 6)
    tried = f"of {len(candidates)} candidates, from simple to complex"
    others = list(judged.chosen_without.values())
    nesting = (
        f"chosen in {others.count(chosen)} of {len(others)} cases where a fold is left out; each "
        "fold is scored by the choice made without it"
    )
    if chosen == best and candidates[0].blend == best:
        return f"the simplest {tried}, and the best; {nesting}"
    if chosen == best:
        return f"the best {tried}; each simpler one is worse with p < {level}; {nesting}"
    p_value = next(each.p_value for each in candidates if each.blend == chosen)
    return (
        f"the first {tried}, that is not significantly worse than the best, {best} "
        f"({'no test' if p_value is None else f'p = {p_value:.3g}'}, level {level}); {nesting}"
    )
