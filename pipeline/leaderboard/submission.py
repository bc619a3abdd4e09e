"""The file for Kaggle: exactly the sample submission's columns, ids and order.

A daily submission that fails for its format is lost, so everything that Kaggle checks, and the
order that it does not, is checked here first.
"""

from collections import Counter
from pathlib import Path

import pandas as pd

from pipeline.errors import SubmissionError, examples
from pipeline.tables import first_repeated, read_csv, write_table


def write_submission(
    path: Path, sample: Path, image_ids: list[str], labels: list[str], classes: list[str]
) -> None:
    """Write labels by id in the sample's columns and order, then read it back and check it."""
    template = read_csv(sample)
    id_column, label_column = template.columns
    label_of = dict(zip(image_ids, labels, strict=True))
    ids = list(template[id_column])
    missing = [image_id for image_id in ids if image_id not in label_of]
    if missing:
        raise SubmissionError(
            f"{path}: {len(missing)} of {len(ids)} test images have no prediction "
            f"{examples(missing)}. Run: dvc repro"
        )
    table = pd.DataFrame({id_column: ids, label_column: [label_of[image_id] for image_id in ids]})
    write_table(path, table)
    check_submission(path, sample, classes)


def check_submission(path: Path, sample: Path, classes: list[str]) -> dict[str, int]:
    """Count the labels of a submission that Kaggle would accept.

    classes: the labels that may occur, as the competition writes them. Raises SubmissionError with
    the first thing that is wrong: columns, ids that are missing, unknown, doubled or out of order,
    empty or unknown labels.
    """
    if not path.is_file():
        raise SubmissionError(f"{path}: no such file. Run: dvc repro ensemble")
    expected, found = read_csv(sample), read_csv(path)
    if list(found.columns) != list(expected.columns):
        raise SubmissionError(
            f"{path}: expected the columns {list(expected.columns)} of the sample submission, "
            f"found {list(found.columns)}"
        )
    id_column, label_column = expected.columns
    _check_ids(path, list(found[id_column]), list(expected[id_column]))
    for row, label in enumerate(found[label_column]):
        if label not in classes:
            raise SubmissionError(
                f"{path}: line {row + 2}: expected one of the labels {classes}, found {label!r} "
                f"(id {found[id_column][row]})"
            )
    counts = Counter(found[label_column])
    return {name: counts[name] for name in classes}


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
                f"{path}: line {row + 2}: expected the sample submission's order, where "
                f"{wanted} stands here; found {name}"
            )
