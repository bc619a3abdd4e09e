"""Training labels that a person has looked at and corrected, from a CSV kept in git.

Nothing else ever changes a label. Each row says what the label was, so that a correction is never
applied to a labels file that has changed, or twice; and why, so that it can be judged again.
`python -m pipeline noise` suggests rows; no stage reads its suggestions.

A score that is cross-validated on corrected labels is another score: it rises by the corrected
images alone, which were chosen because the networks disagreed with them. And the leaderboard's
labels stay as they are.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd

from pipeline.core.audit import Correction, Corrections
from pipeline.core.errors import TableError, require
from pipeline.core.tables import first_repeated, read_table
from pipeline.core.task import SEPARATOR, AnyOf, Number, OneOf, Task
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
    ids = table["image_id"]
    require(
        TableError,
        path,
        f"{len(ids)} rows",
        ("each image once", first_repeated(list(ids)), "Keep one row an image"),
        (
            "a reason in each row",
            list(ids[table["reason"].str.strip() == ""]),
            "Write what is seen in the image, and who looked",
        ),
        (
            "another label in `new` than in `old`",
            list(ids[table["old"] == table["new"]]),
            "Remove these rows",
        ),
    )
    return table


def correct_labels(layout: Layout, path: Path | None) -> tuple[Layout, Corrections]:
    """The layout with corrected training labels, and what the audit says of them.

    Raises TableError on what read_corrections refuses, an image that is not in train, a class
    that the labels file does not have, an `old` that is not the present label, and where a class
    would lose its last image.
    """
    if path is None:
        return layout, Corrections(file=None, count=0, by_class={}, rows=[])
    rows = [Correction.model_validate(row) for row in read_corrections(path).to_dict("records")]
    label_of = dict(zip(layout.train.image_ids, layout.train.labels, strict=True))
    tested, task = set(layout.test.image_ids), layout.competition.task
    require(
        TableError,
        path,
        f"{len(rows)} rows",
        (
            "training images",
            [f"{row.image_id} is in test" for row in rows if row.image_id in tested],
            "No label of a test image is known or can be corrected: remove these rows",
        ),
        (
            f"images of {layout.labels_file}",
            [f"{row.image_id} is not there" for row in rows if row.image_id not in label_of],
            "Correct the ids, or remove these rows",
        ),
        (
            f"{_describe(task)} in `new`",
            [f"{row.new!r} for {row.image_id}" for row in rows if not _is_label(row.new, task)],
            "Correct these rows",
        ),
        (
            f"the label that {layout.labels_file} gives in `old`",
            [
                f"{row.old!r} for {row.image_id}, which is {label!r}"
                for row in rows
                if row.old != (label := label_of.get(row.image_id))
            ],
            "The labels have changed, or have this correction already: look at these images again, "
            "then correct the rows or remove them",
        ),
    )
    label_of |= {row.image_id: row.new for row in rows}
    classes = task.classes if isinstance(task, OneOf) else []
    if lost := [name for name in classes if name not in label_of.values()]:
        raise TableError(
            f"{path}: expected images of each class after the corrections, found none of "
            f"{lost[0]!r}. Remove some of its rows"
        )
    turns = Counter(f"{row.old} → {row.new}" for row in rows)
    corrections = Corrections(
        file=path.as_posix(), count=len(rows), by_class=dict(sorted(turns.items())), rows=rows
    )
    train = replace(layout.train, labels=list(label_of.values()))
    return replace(layout, train=train), corrections


def _describe(task: Task) -> str:
    if isinstance(task, Number):
        return task.expected
    several = f", any of them with {SEPARATOR} between," if isinstance(task, AnyOf) else ""
    return f"one of the classes {', '.join(task.classes)}{several}"


def _is_label(text: str, task: Task) -> bool:
    try:
        task.encode("", [text])
    except TableError:
        return False
    return True
