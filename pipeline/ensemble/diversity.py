"""How different the models are, and what each adds.

Models that err on different rows are worth blending; two that agree everywhere count as one.
"""

from itertools import combinations

import numpy as np

from pipeline.core.task import Number
from pipeline.ensemble.blend import Recipe, Stacked
from pipeline.ensemble.bootstrap import ScoredRows
from pipeline.ensemble.nested import predict_nested
from pipeline.scoring.card import Contribution, Pair


def compare_pairs(names: list[str], members: Stacked, rows: ScoredRows) -> list[Pair]:
    """For each two models: on how many rows they disagree, and how their errors go together."""
    task = rows.task
    decided = [task.decide(member, None) for member in members]
    right = np.stack([task.right(each, rows.labels) for each in decided])
    # Numbers are never right; their errors have a size and a sign instead.
    errors = (members - rows.labels).mean(axis=2) if isinstance(task, Number) else ~right
    pairs = []
    for one, other in combinations(range(len(names)), 2):
        varied = errors[one].std() > 0 and errors[other].std() > 0
        pairs.append(
            Pair(
                models=(names[one], names[other]),
                disagreement=float((~task.right(decided[one], decided[other])).mean()),
                error_correlation=float(np.corrcoef(errors[one], errors[other])[0, 1])
                if varied
                else None,
                both_wrong=float((~right[one] & ~right[other]).mean()),
            )
        )
    return pairs


def leave_each_out(
    names: list[str], recipe: Recipe, members: Stacked, rows: ScoredRows
) -> list[Contribution]:
    """The recipe's nested score without each model, and what the model adds to it."""

    def nested_score(chosen: Stacked) -> float:
        return rows.score(recipe.metric, predict_nested(recipe, chosen, rows))

    every = nested_score(members)
    found = []
    for place, name in enumerate(names):
        without = nested_score(np.delete(members, place, axis=0))
        adds = recipe.metric.gain(every - without)
        found.append(Contribution(model=name, score_without=without, adds=adds))
    return found
