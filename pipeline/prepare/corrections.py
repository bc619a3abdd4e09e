"""Training labels that a person has looked at and corrected, from a CSV kept in git.

Nothing else ever changes a label. Each row says what the label was, so that a correction is never
applied to a labels file that has changed, or twice; and why, so that it can be judged again.
`python -m pipeline noise` suggests rows; no stage reads its suggestions.

A score that is cross-validated on corrected labels is another score: it rises by the corrected
images alone, which were chosen because the networks disagreed with them. And the leaderboard's
labels stay as they are.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.core.errors import TableError, examples
from pipeline.core.tables import first_repeated, read_table
from pipeline.prepare.layout import Layout

CORRECTION_COLUMNS = ["image_id", "old", "new", "reason"]
"""One row an image. old: the label in the labels file. new: one of its other classes."""


def read_corrections(path: Path) -> pd.DataFrame:
    """Read CORRECTION_COLUMNS.

    Raises TableError where the file is missing, has other columns or no rows, names an image
    twice, gives no reason, or changes nothing.
    """
    if not path.is_file():
        raise TableError(
            f"{path}: no such file, but prepare.corrections names it. Write it with the columns "
            f"{','.join(CORRECTION_COLUMNS)}, or set prepare.corrections to null in params.yaml"
        )
    table = read_table(path, CORRECTION_COLUMNS)
    ids = list(table["image_id"])
    if repeated := first_repeated(ids):
        raise TableError(
            f"{path}: expected each image once, found {len(repeated)} of them twice or more "
            f"{examples(repeated)}. Keep one row an image"
        )
    if nameless := list(table.loc[table["reason"].str.strip() == "", "image_id"]):
        raise TableError(
            f"{path}: expected a reason in each row, found none in {len(nameless)} of {len(ids)} "
            f"{examples(nameless)}. Write what is seen in the image, and who looked"
        )
    if idle := list(table.loc[table["old"] == table["new"], "image_id"]):
        raise TableError(
            f"{path}: expected another label in `new` than in `old`, found the same in "
            f"{len(idle)} of {len(ids)} {examples(idle)}. Take these rows out"
        )
    return table


def correct_labels(layout: Layout, corrections: pd.DataFrame, path: Path) -> Layout:
    """The layout with corrected training labels. path: of the corrections, for messages.

    Raises TableError on an image of test or of nowhere, a class that the labels file does not
    have, an `old` that is not the present label, and where a class would lose its last image.
    """
    label_of = dict(zip(layout.train.image_ids, layout.train.labels, strict=True))
    tested, classes = set(layout.test.image_ids), layout.competition.classes
    rows = corrections.to_dict("records")
    rules: list[tuple[Callable[[Any], bool], str, Callable[[Any], str], str]] = [
        (
            lambda row: row["image_id"] in tested,
            "training images",
            lambda row: f"{row['image_id']} is of test",
            "No label of a test image is known or can be corrected: take these rows out",
        ),
        (
            lambda row: row["image_id"] not in label_of,
            f"images of {layout.labels_file}",
            lambda row: f"{row['image_id']} is not there",
            "Mend the ids, or take these rows out",
        ),
        (
            lambda row: row["new"] not in classes,
            f"one of the classes {', '.join(classes)} in `new`",
            lambda row: f"{row['new']!r} for {row['image_id']}",
            "Mend these rows",
        ),
        (
            lambda row: row["old"] != label_of[row["image_id"]],
            f"the label that {layout.labels_file} gives in `old`",
            lambda row: (
                f"{row['old']!r} for {row['image_id']}, which is {label_of[row['image_id']]!r}"
            ),
            "The labels have changed, or have this correction already: look at these images "
            "again, then mend the rows or take them out",
        ),
    ]
    for breaks, expected, tell, remedy in rules:
        if broken := [tell(row) for row in rows if breaks(row)]:
            raise TableError(
                f"{path}: expected {expected}, found {len(broken)} of {len(rows)} rows otherwise "
                f"{examples(broken)}. {remedy}"
            )
    label_of |= {str(row["image_id"]): str(row["new"]) for row in rows}
    if lost := [name for name in classes if name not in label_of.values()]:
        raise TableError(
            f"{path}: expected images of each class after the corrections, found none of "
            f"{lost[0]!r}. Take some of its rows out"
        )
    return replace(layout, train=replace(layout.train, labels=list(label_of.values())))


def describe_corrections(corrections: pd.DataFrame | None, path: Path | None) -> dict[str, Any]:
    """What was corrected, for the audit: how many, from which class to which, and each with why."""
    rows = [] if corrections is None else corrections.to_dict("records")
    turns = Counter(f"{row['old']} → {row['new']}" for row in rows)
    return {
        "file": None if path is None else path.as_posix(),
        "count": len(rows),
        "by_class": dict(sorted(turns.items())),
        "list": rows,
    }
