"""The file for Kaggle: exactly the sample submission's columns, ids and order.

forms.py says what its rows hold. A submission that Kaggle refuses for its format still counts
towards the day's limit, so everything that Kaggle checks, and the order, is checked here first.
"""

from pathlib import Path

import pandas as pd

from pipeline.core.errors import SubmissionError, examples, named
from pipeline.core.shapes import Labels, Outputs
from pipeline.core.tables import first_repeated, read_csv, write_table
from pipeline.scoring.forms import Form, Submitted


def write_submission(
    path: Path, form: Form, image_ids: list[str], values: Outputs, decided: Labels
) -> None:
    """Write predictions by id in the sample's columns and order, then read them back and check.

    Numbers have 9 significant digits, as in tables.write_predictions.
    """
    if not form.has_ids:
        form.check_rows(image_ids)
    names = form.ids if form.has_ids else image_ids
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    if missing := [image_id for image_id in names if image_id not in row_of]:
        raise SubmissionError(
            f"{path}: {len(missing)} of {len(form.ids)} test images of {form.sample} have no "
            f"prediction {examples(missing)}. Run: dvc repro"
        )
    rows = [row_of[image_id] for image_id in names]
    cells = form.cells(Submitted(values[rows], decided[rows]))
    ids = {form.columns[0]: form.ids} if form.has_ids else {}
    write_table(path, pd.DataFrame({**ids, **cells}))
    read_submission(path, form)


def check_submission(path: Path, form: Form) -> dict[str, int]:
    """Count the labels, or the most probable classes, of a submission that Kaggle would accept.

    Raises SubmissionError as read_submission does.
    """
    return form.task.count(read_submission(path, form).decided)


def read_submission(path: Path, form: Form) -> Submitted:
    """Read and check a submission.

    Raises SubmissionError with the first mistake: other columns; ids that are missing, unknown,
    repeated or out of order; cells that the form does not have.
    """
    if not path.is_file():
        raise SubmissionError(f"{path}: no such file. Run: dvc repro ensemble")
    found = read_csv(path)
    if list(found.columns) != form.columns:
        raise SubmissionError(
            f"{path}: expected the columns {named(form.columns)} of the sample submission, "
            f"found {named(list(found.columns))}"
        )
    if form.has_ids:
        _check_ids(path, list(found[form.columns[0]]), form.ids)
    elif len(found) != len(form.ids):
        raise SubmissionError(
            f"{path}: expected {len(form.ids)} rows, as the sample submission has, found "
            f"{len(found)}"
        )
    return form.parse(path, found)


def _check_ids(path: Path, found: list[str], expected: list[str]) -> None:
    known = set(expected)
    problems = {
        "ids stand twice": first_repeated(found),
        "ids are not in the sample submission": [name for name in found if name not in known],
        "ids of the sample submission are missing": sorted(known - set(found)),
    }
    for problem, ids in problems.items():
        if ids:
            raise SubmissionError(f"{path}: {len(ids)} {problem} {examples(ids)}")
    for row, (name, wanted) in enumerate(zip(found, expected, strict=True)):
        if name != wanted:
            raise SubmissionError(
                f"{path}: line {row + 2}: expected {wanted}, by the order of the sample "
                f"submission, found {name}"
            )
