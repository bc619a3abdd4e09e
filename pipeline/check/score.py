"""The score on the public and the private half, where a solution file is available.

The solution has the id, the label as in the labels file, and `Usage`, as Kaggle's own: Public,
Private, or Ignored for rows that do not count.
"""

from pathlib import Path

import pandas as pd

from pipeline.core.errors import EnsembleError, TableError
from pipeline.core.shapes import Labels
from pipeline.core.tables import check_ids, read_csv
from pipeline.core.task import AnyOf, Number, OneOf
from pipeline.scoring.leaderboard import HalfScores, SolutionScores
from pipeline.scoring.metric import Metric
from pipeline.scoring.metrics import METRICS
from pipeline.scoring.submission import (
    FlagsForm,
    Form,
    LabelsForm,
    NumbersForm,
    read_submission,
)


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
    id_column = form.columns[0]
    columns = [id_column, label_column, "Usage"]
    each = [*form.columns, "Usage"]
    if list(truth.columns) not in (columns, each):
        raise TableError(f"{solution}: expected the columns {columns}, found {list(truth.columns)}")
    check_ids(solution, list(truth[id_column]), form.ids)
    if unknown := sorted(set(truth["Usage"]) - {"Public", "Private", "Ignored"}):
        raise TableError(
            f"{solution}: Usage: expected Public, Private or Ignored, found {unknown[0]!r}"
        )
    truth = truth.set_index(id_column, drop=False).loc[form.ids].reset_index(drop=True)
    labels = _read_truth(solution, truth.drop(columns="Usage"), form)
    metrics = [metric]
    if isinstance(form.task, OneOf) and form.holds == "labels" and not metric.is_mean_of_rows:
        metrics = [METRICS["accuracy"], metric]

    def score_half(usage: str) -> HalfScores:
        rows = (truth["Usage"] == usage).to_numpy()
        if not rows.any():
            raise TableError(f"{solution}: Usage: no row is {usage}")
        values, decided = submitted.values[rows], submitted.decided[rows]
        try:
            scores = {each.name: each.score(values, decided, labels[rows]) for each in metrics}
        except EnsembleError as error:
            raise TableError(f"{solution}: {usage}: {error}") from error
        return HalfScores(rows=int(rows.sum()), scores=scores)

    return SolutionScores(public=score_half("Public"), private=score_half("Private"))


def _read_truth(solution: Path, truth: pd.DataFrame, form: Form) -> Labels:
    """The labels of the form's ids. Raises TableError or SubmissionError, which name the file."""
    id_column, *others = truth.columns
    place = (solution, [id_column, *others], form.ids, form.task)
    if isinstance(form.task, OneOf) and len(others) == 1:
        return form.task.encode(solution, truth[others[0]])
    if isinstance(form.task, Number):
        return NumbersForm(*place).parse(solution, truth).decided
    if isinstance(form.task, AnyOf) and len(others) == 1 < len(form.task.classes):
        return LabelsForm(*place, form.task.separator).parse(solution, truth).decided
    flags = FlagsForm(*place).parse(solution, truth).decided
    return flags if isinstance(form.task, AnyOf) else flags.argmax(axis=1)
