"""The rows to learn from: what each is called, which images it means, and its label."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Num
from numpy import ndarray

from pipeline.core.errors import CompetitionError, examples, plural
from pipeline.core.progress import say
from pipeline.core.task import Kind, Task
from pipeline.prepare.config import PrepareConfig
from pipeline.prepare.labels import read_labels
from pipeline.prepare.matching import ENOUGH, is_image, stem
from pipeline.prepare.roles import class_columns, names_groups
from pipeline.prepare.sample import Sample, read_values
from pipeline.prepare.tables import CATEGORY, Table

_FILE_WORDS = re.compile(r"(?i)(image|img|file|photo|picture|path)[ _-]?(name|id|file|path)?$")
"""In a column's name: it may name the images."""

CHANNEL_IN_BRACES = "{channel}"

_NO_GROUP = re.compile(r"^\s*$|^-?[0-9]*\.[0-9]*[1-9]")
_IN_BRACES = re.compile(r"\{([^{}]*)\}")
Share = Callable[[list[str]], float]
"""How many of some values mean a training image, from 0 to 1."""


@dataclass(frozen=True)
class LabelledRows:
    """The rows to learn from; lists are parallel.

    place: where they stand, for messages. ids: of the rows, several times where several images
    have a line each. keys: what names the images of each. table: their columns. pixels: the images,
    where the table holds them and no file is named, one array a channel.
    """

    place: Path
    id_column: str
    label_column: str
    ids: list[str]
    keys: list[str]
    labels: list[str]
    task: Task
    table: pd.DataFrame
    pixels: list[Num[ndarray, "rows numbers"]]
    unlabelled: list[str]
    """The ids of the rows that are left out, since they have no label."""


def rows_of_table(
    table: Table, sample: Sample, config: PrepareConfig, kind: Kind | None, share: Share
) -> LabelledRows:
    """Read the labels file.

    Raises CompetitionError on columns that are not there or not found, and as read_labels does.
    """
    cells, place = table.cells, table.place
    columns = _label_columns(table, sample, config)
    id_column = _id_column(table, columns, sample, config, share)
    _say_columns(place, columns, id_column, sample, config)
    every = join(place, cells, id_column) if id_column else _numbers(len(cells))
    keep = np.ones(len(cells), bool)
    if config.unlabelled == "leave_out" and kind != "any_of":
        keep = _with_label(place, cells[columns])
    cells = cells[keep].reset_index(drop=True)
    if kind is None and columns[0].startswith(CATEGORY):
        kind = "any_of" if cells[columns[0]].str.contains("|", regex=False).any() else "one_of"
    labels, task = read_labels(place, cells, columns, sample, kind, config.classes)
    ids = [every[row] for row in np.flatnonzero(keep)]
    key_column = _key_column(cells, place, columns, id_column, ids, config, share)
    keys = ids if key_column is None else join(place, cells, key_column)
    return LabelledRows(
        place=place,
        id_column=id_column or "",
        label_column=columns[0],
        ids=ids,
        keys=keys,
        labels=labels,
        task=task,
        table=cells,
        pixels=[] if share(keys) else [channel[keep] for channel in table.pixels],
        unlabelled=[every[row] for row in np.flatnonzero(~keep)],
    )


def _with_label(place: Path, cells: pd.DataFrame) -> Bool[ndarray, " rows"]:
    """Which rows have a value in each column of labels. Raises CompetitionError where none has."""
    empty = cells.apply(lambda column: column.str.strip()) == ""
    keep = np.asarray(~empty.any(axis=1))
    if not keep.any():
        raise CompetitionError(
            f"{place}: expected rows with a label in {', '.join(cells.columns[:5])}, found none in "
            f"{plural(len(cells), 'row')}. Set prepare.labels or prepare.label_column in "
            "params.yaml"
        )
    return keep


def _say_columns(
    place: Path, columns: list[str], id_column: str | None, sample: Sample, config: PrepareConfig
) -> None:
    """Say which columns were decided on, other than those of the sample submission."""
    if config.label_column == "auto" and columns != sample.label_columns:
        say(f"{place}: the label is the column {columns[0]}")
    if id_column is None:
        say(f"{place}: no column names the rows: they are numbered from 1")
    elif id_column not in (config.id_column, sample.id_column):
        say(f"{place}: the id is the column {id_column}")


def group_columns(rows: LabelledRows) -> dict[str, int]:
    """The columns that may say which images belong together, with the number of their values.

    Their names say so, each row has a value, some rows the same, and values are no fractions.
    """
    known, counts = {rows.id_column, rows.label_column, *rows.task.outputs}, {}
    for name in rows.table.columns:
        values = rows.table[name]
        if name in known or not names_groups(name):
            continue
        count = values.nunique()
        if 2 < count < len(values) and not values.str.contains(_NO_GROUP).any():
            counts[name] = count
    return counts


def join(place: Path, cells: pd.DataFrame, template: str) -> list[str]:
    """A column's values, or a text with columns in braces, for each row.

    Raises CompetitionError for a column that is not there.
    """
    names = columns_of(template)
    for name in names:
        _require_column(place, cells, name)
    if names == {template}:
        return read_values(place, cells, template)
    values = {name: read_values(place, cells, name) for name in names}
    texts = [template] * len(cells)
    for name in names:
        braces = "{" + name + "}"
        texts = [
            text.replace(braces, value) for text, value in zip(texts, values[name], strict=True)
        ]
    return texts


def columns_of(template: str) -> set[str]:
    """The columns that a template needs, or that it is."""
    return set(_IN_BRACES.findall(template)) - {"channel"} if "{" in template else {template}


def _label_columns(table: Table, sample: Sample, config: PrepareConfig) -> list[str]:
    columns, wanted = table.columns, sample.label_columns
    if config.label_column != "auto":
        _require_column(table.place, table.cells, config.label_column)
        return [config.label_column]
    if set(wanted) <= set(columns):
        return wanted
    if len(wanted) > 1:
        if len(found := class_columns(table, wanted)) == 1:
            return found
    else:
        alike = [name for name in columns if name.lower() == wanted[0].lower()]
        if len(alike) == 1:
            return alike
    if CATEGORY in columns:
        named = f"{CATEGORY}_name"
        words = {word for value in sample.values for word in value.split()}
        return [named if named in columns and words & set(table.cells[named]) else CATEGORY]
    others = [name for name in columns if name != sample.id_column]
    if len(columns) == 2:
        return [others[0] if len(others) == 1 else columns[1]]
    expected = f"the column {wanted[0]}"
    if len(wanted) > 1:
        expected = f"a column with the {len(wanted)} classes {examples(wanted)}"
    raise CompetitionError(
        f"{table.place}: expected {expected} of {sample.place.name}, or exactly two columns, the "
        f"id and the label; found {len(columns)}: {columns[:20]}. Set prepare.label_column in "
        "params.yaml to the column of the labels, or prepare.labels to the right file"
    )


def _id_column(
    table: Table, labels: list[str], sample: Sample, config: PrepareConfig, share: Share
) -> str | None:
    """The column of the ids, or a template; None where the rows have none but their pixels."""
    if config.id_column != "auto":
        return config.id_column
    if sample.id_column in table.columns:
        return sample.id_column
    if naming := _naming_images(table.cells, labels, share):
        return naming
    others = [name for name in table.columns if name not in labels]
    if table.holds_numbers:
        return None
    if len(others) == 1:
        return others[0]
    raise CompetitionError(
        f"{table.place}: expected a column with the ids or the names of the images, as "
        f"{sample.id_column} of {sample.place.name}; found {table.columns[:20]}, none of which "
        "names them. Set prepare.id_column or prepare.image_column in params.yaml"
    )


def _key_column(
    cells: pd.DataFrame, place: Path, labels: list[str], id_column: str | None, ids: list[str],
    config: PrepareConfig, share: Share,
) -> str | None:  # fmt: skip
    """The column or template that names each row's images; None where its id does."""
    if config.image_column != "auto":
        return config.image_column
    if id_column is None:
        return None
    repeated = len(set(ids)) < len(ids)
    found = file_column(place, cells, ids, share)
    if not found and (repeated or share(ids) < ENOUGH):
        found = _naming_images(cells, labels, share)
    if found in (None, id_column):
        return None
    say(f"{place}: the images are named by the column {found}")
    return found


def file_column(place: Path, cells: pd.DataFrame, ids: list[str], share: Share) -> str | None:
    """The column of files' names where these are not what the ids mean; None where there is none.

    Raises CompetitionError where several columns name files, and not the same, or one that is
    called so has names without suffix, which the ids may be as well.
    """
    found: dict[str, list[str]] = {}
    certain = True
    for name in cells.columns:
        values = list(cells[name])
        are_files = all(map(is_image, values))
        if not are_files and not (_FILE_WORDS.search(name) and len(set(values)) == len(values)):
            continue
        stems = list(map(stem, values))
        if share(values) < ENOUGH or stems in found.values():
            continue
        if all(map(str.startswith, map(_plain, stems), map(_plain, map(stem, ids)))):
            if are_files:
                return None
            continue
        found[name] = stems
        certain = certain and are_files
    if not found or (not certain and share(ids) < ENOUGH):
        return None
    if len(found) > 1 or not certain:
        several = ", ".join(found if certain else ["the ids", *found])
        raise CompetitionError(
            f"{place}: expected one column that names the images, found several that differ: "
            f"{several}. Set prepare.image_column in params.yaml to the one to look at"
        )
    return next(iter(found))


def _plain(name: str) -> str:
    return name.casefold().lstrip("0")


def naming_column(cells: pd.DataFrame, share: Share) -> str | None:
    """The column that names an image in each row."""
    return _naming_images(cells, [], share)


def _naming_images(cells: pd.DataFrame, labels: list[str], share: Share) -> str | None:
    shares = {
        name: share(list(cells[name]))
        for name in cells.columns
        if name not in labels and cells[name].nunique() > ENOUGH * len(cells)
    }
    best = max(shares, key=lambda name: shares[name], default=None)
    return best if best is not None and shares[best] >= ENOUGH else None


def _require_column(place: Path, cells: pd.DataFrame, name: str) -> None:
    if name not in cells.columns:
        raise CompetitionError(
            f"{place}: expected the column {name}, found {list(cells.columns[:20])}. Correct the "
            "column's name in section prepare of params.yaml"
        )


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]
