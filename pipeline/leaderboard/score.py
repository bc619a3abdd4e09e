"""Accuracy on the public and the private half, where a solution file is at hand.

The solution has the submission's two columns and `Usage`, as Kaggle's own: Public or Private, or
Ignored for rows that do not count.
"""

from pathlib import Path

from pipeline.errors import TableError
from pipeline.tables import check_ids, read_csv

USAGES = ("Public", "Private")


def score_submission(submission: Path, solution: Path) -> dict[str, dict[str, float]]:
    """Rows and accuracy of each half, joined by id.

    Equal to sklearn.metrics.accuracy_score on each half (tests/test_score.py). Raises TableError
    where the solution's columns or ids do not fit, or a half has no rows.
    """
    predicted, truth = read_csv(submission), read_csv(solution)
    id_column, label_column = predicted.columns
    if list(truth.columns) != [id_column, label_column, "Usage"]:
        raise TableError(
            f"{solution}: expected the columns {[id_column, label_column, 'Usage']}, "
            f"found {list(truth.columns)}"
        )
    check_ids(solution, list(truth[id_column]), list(predicted[id_column]))
    unknown = sorted(set(truth["Usage"]) - {*USAGES, "Ignored"})
    if unknown:
        raise TableError(
            f"{solution}: Usage: expected Public, Private or Ignored, found {unknown[0]!r}"
        )
    joined = predicted.merge(truth, on=id_column, suffixes=("", "_true"), validate="one_to_one")
    scores = {}
    for usage in USAGES:
        half = joined[joined["Usage"] == usage]
        if half.empty:
            raise TableError(f"{solution}: Usage: no row is {usage}")
        correct = half[label_column] == half[f"{label_column}_true"]
        scores[usage.lower()] = {"rows": len(half), "accuracy": round(float(correct.mean()), 6)}
    return scores
