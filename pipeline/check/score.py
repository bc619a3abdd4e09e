"""The score on the public and the private half, where a solution file is available.

The solution has the id, the label as in the labels file, and `Usage`, as Kaggle's own: Public,
Private, or Ignored for rows that do not count.
"""

from pathlib import Path

import pandas as pd

from pipeline.core.errors import EnsembleError, TableError, named
from pipeline.core.shapes import Labels
from pipeline.core.tables import check_ids, read_csv
from pipeline.core.task import AnyOf, Number, OneOf
from pipeline.scoring.forms import FlagsForm, Form, LabelsForm, NumbersForm
from pipeline.scoring.leaderboard import HalfScores, SolutionScores
from pipeline.scoring.metric import Metric
from pipeline.scoring.metrics import METRICS
from pipeline.scoring.submission import read_submission


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
    id_columns = form.columns[:1] if form.has_ids else []
    each, one = [*form.columns, "Usage"], [*id_columns, label_column, "Usage"]
    columns = each if isinstance(form.task, Number) else one
    if list(truth.columns) not in (columns, each, one):
        raise TableError(
            f"{solution}: expected the columns {named(columns)}, found {named(list(truth.columns))}"
        )
    ids = list(truth[id_columns[0]]) if id_columns else [str(row + 1) for row in range(len(truth))]
    check_ids(solution, ids, form.ids)
    if unknown := sorted(set(truth["Usage"]) - {"Public", "Private", "Ignored"}):
        raise TableError(
            f"{solution}: Usage: expected Public, Private or Ignored, found {unknown[0]!r}"
        )
    row_of = pd.Series(truth.index, index=ids)
    truth = truth.loc[row_of.loc[form.ids]]  # its index tells the lines
    metrics = [metric]
    if isinstance(form.task, OneOf) and form.holds == "labels" and not metric.is_mean_of_rows:
        metrics = [METRICS["accuracy"], metric]

    def score_half(usage: str) -> HalfScores:
        rows = (truth["Usage"] == usage).to_numpy()
        if not rows.any():
            raise TableError(f"{solution}: Usage: no row is {usage}")
        labels = _read_truth(solution, truth[rows].drop(columns="Usage"), form)
        values, decided = submitted.values[rows], submitted.decided[rows]
        try:
            scores = {each.name: each.score(values, decided, labels) for each in metrics}
        except EnsembleError as error:
            raise TableError(f"{solution}: {usage}: {error}") from error
        return HalfScores(rows=int(rows.sum()), scores=scores)

    return SolutionScores(public=score_half("Public"), private=score_half("Private"))


def _read_truth(solution: Path, truth: pd.DataFrame, form: Form) -> Labels:
    """The labels of these rows. Raises TableError or SubmissionError, which name the file."""
    task, columns = form.task, list(truth.columns)
    place = (solution, columns, form.ids, task)
    if isinstance(task, Number):
        return NumbersForm(*place).parse(solution, truth).decided
    if sorted(columns[1:]) == sorted(task.classes):
        return FlagsForm(*place).parse(solution, truth).decided
    if isinstance(task, AnyOf):
        return LabelsForm(*place, task.separator).parse(solution, truth).decided
    return task.encode(solution, truth[columns[-1]])
