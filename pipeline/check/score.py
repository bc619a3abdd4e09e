"""The score on the public and the private half, where a solution file is available.

The solution has the id, the label as in the labels file, and `Usage`, as Kaggle's own: Public,
Private, or Ignored for rows that do not count.
"""

from pathlib import Path

from pipeline.core.errors import EnsembleError, TableError
from pipeline.core.tables import check_ids, class_indices, read_csv
from pipeline.scoring.leaderboard import HalfScores, SolutionScores
from pipeline.scoring.metrics import METRICS, Metric
from pipeline.scoring.submission import Form, read_submission


def score_submission(
    submission: Path, form: Form, solution: Path, label_column: str, metric: Metric
) -> SolutionScores:
    """Rows and score of each half, joined by id; for submitted labels the accuracy as well.

    Equal to scikit-learn's of the same name on each half (tests/test_submission.py). Raises
    TableError where the solution's columns, ids or labels do not fit, or the metric is not defined
    on a half.
    """
    submitted = read_submission(submission, form)
    truth = read_csv(solution)
    columns = [form.columns[0], label_column, "Usage"]
    if list(truth.columns) != columns:
        raise TableError(f"{solution}: expected the columns {columns}, found {list(truth.columns)}")
    check_ids(solution, list(truth[columns[0]]), form.ids)
    if unknown := sorted(set(truth["Usage"]) - {"Public", "Private", "Ignored"}):
        raise TableError(
            f"{solution}: Usage: expected Public, Private or Ignored, found {unknown[0]!r}"
        )
    truth = truth.set_index(columns[0]).loc[form.ids]
    metrics = [metric]
    if form.holds == "labels" and not metric.is_mean_of_rows:
        metrics = [METRICS["accuracy"], metric]

    def score_half(usage: str) -> HalfScores:
        rows = (truth["Usage"] == usage).to_numpy()
        if not rows.any():
            raise TableError(f"{solution}: Usage: no row is {usage}")
        labels = class_indices(solution, truth[label_column][rows], form.classes)
        probabilities, predicted = submitted.probabilities[rows], submitted.predicted[rows]
        try:
            scores = {each.name: each.score(probabilities, predicted, labels) for each in metrics}
        except EnsembleError as error:
            raise TableError(f"{solution}: {usage}: {error}") from error
        return HalfScores(rows=len(labels), scores=scores)

    return SolutionScores(public=score_half("Public"), private=score_half("Private"))
