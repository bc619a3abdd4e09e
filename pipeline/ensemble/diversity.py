"""How different the models are, and what each adds.

Models that err on different rows are worth blending; two that agree everywhere are one.
"""

from itertools import combinations
from typing import Any

import numpy as np

from pipeline.ensemble.blend import Recipe, Stacked
from pipeline.ensemble.compare import Rows
from pipeline.ensemble.nested import FoldOfRow, predict_nested


def compare_pairs(names: list[str], members: Stacked, rows: Rows) -> list[dict[str, Any]]:
    """For each two models: on how many rows they disagree, and how their errors go together.

    disagreement: share of rows with another most probable class. error_correlation: Pearson's, of
    their errors as 0 and 1; None where one of them makes none, or nothing else. both_wrong: share
    of rows, which no weighting of these two can be sure to mend.
    """
    predicted = members.argmax(axis=2)
    wrong = predicted != rows.labels
    pairs = []
    for one, other in combinations(range(len(names)), 2):
        varied = wrong[one].std() > 0 and wrong[other].std() > 0
        correlation = float(np.corrcoef(wrong[one], wrong[other])[0, 1]) if varied else None
        pairs.append(
            {
                "models": [names[one], names[other]],
                "disagreement": round(float((predicted[one] != predicted[other]).mean()), 6),
                "error_correlation": None if correlation is None else round(correlation, 6),
                "both_wrong": round(float((wrong[one] & wrong[other]).mean()), 6),
            }
        )
    return pairs


def leave_each_out(
    names: list[str], recipe: Recipe, members: Stacked, folds: FoldOfRow, rows: Rows
) -> list[dict[str, Any]]:
    """The recipe's nested score without each model, and what the model adds to it.

    adds: turned so that more than 0 is better with the model than without.
    """

    def nested_score(chosen: Stacked) -> float:
        return rows.score(recipe.metric, predict_nested(recipe, chosen, folds, rows))

    every = nested_score(members)
    found = []
    for place, name in enumerate(names):
        without = nested_score(np.delete(members, place, axis=0))
        found.append(
            {
                "model": name,
                "score_without": round(without, 6),
                "adds": round(recipe.metric.gain(every - without), 6),
            }
        )
    return found
