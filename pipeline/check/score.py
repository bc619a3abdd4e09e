"""The score on the public and the private half, where a solution file is at hand.

The solution has the id, the label as in the labels file, and `Usage`, as Kaggle's own: Public or
Private, or Ignored for rows that do not count.
"""

from pathlib import Path

from pipeline.core.errors import EnsembleError, TableError
from pipeline.core.tables import check_ids, class_indices, read_csv
from pipeline.scoring.metrics import METRICS, Metric
from pipeline.scoring.submission import Form, read_submission

USAGES = ("Public", "Private")


def score_submission(
    submission: Path, form: Form, solution: Path, label_column: str, metric: Metric
) -> dict[str, dict[str, float]]:
    """Rows and score of each half, joined by id; of submitted labels the accuracy as well.

    Equal to scikit-learn's of the same name on each half (tests/test_submission.py). Raises
    TableError where the solution's columns, ids or labels do not fit, or the metric is not defined
    on a half.
    """
    submitted = read_submission(submission, form)
    truth = read_csv(solution)
    id_column = form.columns[0]
    if list(truth.columns) != [id_column, label_column, "Usage"]:
        raise TableError(
            f"{solution}: expected the columns {[id_column, label_column, 'Usage']}, "
            f"found {list(truth.columns)}"
        )
    check_ids(solution, list(truth[id_column]), form.ids)
    unknown = sorted(set(truth["Usage"]) - {*USAGES, "Ignored"})
    if unknown:
        raise TableError(
            f"{solution}: Usage: expected Public, Private or Ignored, found {unknown[0]!r}"
        )
    truth = truth.set_index(id_column).loc[form.ids]
    metrics = {metric.name: metric}
    if form.holds == "labels":
        metrics = {"accuracy": METRICS["accuracy"]} | metrics
    scores: dict[str, dict[str, float]] = {}
    for usage in USAGES:
        rows = (truth["Usage"] == usage).to_numpy()
        if not rows.any():
            raise TableError(f"{solution}: Usage: no row is {usage}")
        labels = class_indices(solution, truth[label_column][rows], form.classes)
        scores[usage.lower()] = {"rows": len(labels)}
        for name, each in metrics.items():
            try:
                score = each.score(submitted.probabilities[rows], submitted.predicted[rows], labels)
            except EnsembleError as error:
                raise TableError(f"{solution}: {usage}: {error}") from error
            scores[usage.lower()][name] = round(score, 6)
    return scores
