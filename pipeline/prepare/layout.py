"""The layout of a competition's files, understood by one rule.

Every file lies directly in the raw folder. A CSV with a column `Usage`, or whose name begins
with `solution`, is a solution and never a candidate for anything. `auto` means, in this order:

1. `prepare.sample_submission`: the only CSV whose name contains both "sample" and "submission",
   whatever the case and the separators. Its first column is the id. Either one more follows, the
   label column; or one for each class, named like the class, in any order. What else stands in it
   (0, 0.5, …) is left aside.
2. `prepare.labels`: the only other CSV that has both the id and the label column; it may have
   more. One that is named may call them otherwise: if it has exactly two columns, the first is the
   id and the second the label. Beside a sample submission with a column a class it is the only
   other CSV that has the id column and, as its label column, one that holds exactly these classes
   (labels that are given as a column of 0 and 1 for each class are not understood).
3. `prepare.groups.file`: the only remaining CSV of exactly two columns, one of which is the id
   column (the sample submission's or the labels file's); the other is the group. In one that is
   named, failing that, the first is the id. It covers each labelled id; ids of the sample
   submission may be in it.
4. `prepare.train_images`, `prepare.test_images`: the only zip whose name contains "train", or
   "test", whatever the case. `bundle.zip/folder` is a folder inside a zip.

An id belongs to the image whose file name equals it, with or without its suffix. Train and test
may lie in one archive: each of its images then belongs to either. Everything is read as text, so
that the id 007 and the class NA stay what they are. No candidate, or several, is an error that
names the parameter to set: nothing is guessed.
"""

import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from pipeline.core.competition import Competition
from pipeline.core.errors import CompetitionError, examples
from pipeline.core.tables import first_repeated, read_csv
from pipeline.prepare.config import GroupsFromFile, GroupsFromName, PrepareConfig
from pipeline.raw.archive import IMAGE_SUFFIXES, ImageArchive, file_name
from pipeline.raw.folder import RawFolder, find_class_columns


@dataclass(frozen=True)
class Split:
    """Train or test. The lists run along, in the order of the labels file or sample submission.

    labels: the class as written; empty in test. groups: the image_id itself where there are no
    groups, or where the group stands in the name of an image that is missing; empty in test.
    members: the image of each id that has one.
    """

    archive: ImageArchive
    image_ids: list[str]
    labels: list[str]
    groups: list[str]
    members: dict[str, str]

    @property
    def missing(self) -> list[str]:
        """The ids without an image; in test there are none."""
        return [image_id for image_id in self.image_ids if image_id not in self.members]


@dataclass(frozen=True)
class Layout:
    """The raw folder, understood. Both archives are open: closing them is the caller's."""

    competition: Competition
    train: Split
    test: Split
    sample_submission: Path
    labels_file: Path


def understand(raw: Path, config: PrepareConfig) -> Layout:
    """Tell which file is what, and match ids, labels, groups and images.

    Raises CompetitionError on a missing or ambiguous file, wrong columns, empty or padded
    values, ids that stand twice or in both splits, fewer than two classes, groups that do not
    fit the labels, images that no id claims, and a test id without image. A training id without
    image is left to the caller: Split.missing. Raises TableError on a file that is no CSV,
    ArchiveError on a zip that is damaged, unsafe or ambiguous.
    """
    folder = RawFolder.of(raw)
    sample = folder.sample_submission(config.sample_submission)
    columns, test_ids = _read_sample(sample)
    labels_file = folder.labels(config.labels, sample, columns)
    (train_id_column, label_column), train_ids, labels = _read_labels(labels_file, columns)
    _check_apart(labels_file, train_ids, sample, test_ids)
    classes = _ordered_classes(labels_file, labels)
    if len(columns) == 2:
        label_column = columns[1]
    else:
        _check_class_columns(sample, columns[1:], labels_file, classes)
    competition = Competition(columns[0], label_column, classes)
    with ExitStack() as opened:
        train = opened.enter_context(_open_images(folder, config.train_images, "train"))
        test = opened.enter_context(_open_images(folder, config.test_images, "test"))
        train_members = _match_images(train, train_ids, labels_file)
        test_members = _match_images(test, test_ids, sample)
        if isinstance(config.groups, GroupsFromFile):
            id_columns = [columns[0], train_id_column]
            groups_file = folder.groups(config.groups.file, sample, labels_file, id_columns)
            groups = _groups_from_file(groups_file, id_columns, train_ids, test_ids)
        elif isinstance(config.groups, GroupsFromName):
            groups = _groups_from_names(train, config.groups.pattern, train_ids, train_members)
        else:
            groups = list(train_ids)
        no_labels, no_groups = ([""] * len(test_ids) for _ in range(2))
        layout = Layout(
            competition,
            Split(train, train_ids, labels, groups, train_members),
            Split(test, test_ids, no_labels, no_groups, test_members),
            sample,
            labels_file,
        )
        _check_complete(layout.test, sample)
        _check_claimed(layout.train, layout.test, labels_file)
        _check_claimed(layout.test, layout.train, sample)
        opened.pop_all()
    return layout


def _read_sample(path: Path) -> tuple[list[str], list[str]]:
    table = read_csv(path)
    columns = list(table.columns)
    if len(columns) < 2:
        raise CompetitionError(
            f"{path}: expected two columns with a comma between, the id and the label, or the id "
            f"and one for each class; found {len(columns)}: {columns}. If this is no sample "
            "submission, set prepare.sample_submission in params.yaml"
        )
    image_ids = _values(path, table, columns[0])
    if repeated := first_repeated(image_ids):
        raise CompetitionError(
            f"{path}: expected each id once, found {len(repeated)} twice {examples(repeated)}. "
            "Get the file from its source again"
        )
    return columns, image_ids


def _read_labels(path: Path, columns: list[str]) -> tuple[list[str], list[str], list[str]]:
    """The id and the label column, the ids, and their labels. columns: the sample submission's."""
    table = read_csv(path)
    found = list(table.columns)
    wanted = columns
    if len(columns) > 2:
        wanted = [columns[0], *find_class_columns(path, columns[1:])]
    is_known = len(wanted) == 2 and set(wanted) <= set(found)
    if not is_known and len(found) != 2:
        expected = columns if len(columns) == 2 else f"{columns[0]} and one with the classes"
        raise CompetitionError(
            f"{path}: expected the columns {expected}, or exactly two with a comma between, the "
            f"id and the label; found {len(found)}: {found}. Set prepare.labels in params.yaml "
            "to the right file"
        )
    id_column, label_column = wanted if is_known else found
    image_ids = _values(path, table, id_column)
    labels = _values(path, table, label_column)
    _check_labelled_once(path, image_ids, labels)
    return [id_column, label_column], image_ids, labels


def _check_class_columns(
    sample: Path, columns: list[str], labels_file: Path, classes: list[str]
) -> None:
    faults = {
        "no labelled image": [name for name in columns if name not in classes],
        "no column": [name for name in classes if name not in columns],
    }
    for fault, names in faults.items():
        if names:
            raise CompetitionError(
                f"{sample}: expected the id and a column for each class of {labels_file.name}, "
                f"found {len(names)} of them with {fault} {examples(names)}. Set prepare.labels or "
                "prepare.sample_submission in params.yaml to the right file"
            )


def _values(path: Path, table: pd.DataFrame, column: str) -> list[str]:
    values = [str(value) for value in table[column]]
    if not values:
        raise CompetitionError(
            f"{path}: expected rows, found none. Get the file from its source again"
        )
    bad = [
        f"row {row}: {value!r}"
        for row, value in enumerate(values, start=1)
        if not value or value != value.strip()
    ]
    if bad:
        raise CompetitionError(
            f"{path}: expected text without blanks around it in the column {column}, found "
            f"{len(bad)} of {len(values)} values empty or with blanks {examples(bad)}. "
            "Repair the file at its source"
        )
    return values


def _check_labelled_once(path: Path, image_ids: list[str], labels: list[str]) -> None:
    repeated = first_repeated(image_ids)
    if not repeated:
        return
    given: dict[str, set[str]] = {}
    for image_id, label in zip(image_ids, labels, strict=True):
        given.setdefault(image_id, set()).add(label)
    torn = [
        f"{image_id} is {' and '.join(sorted(given[image_id]))}"
        for image_id in repeated
        if len(given[image_id]) > 1
    ]
    verdict = f"the labels of {len(torn)} disagree {examples(torn)}" if torn else "the labels agree"
    raise CompetitionError(
        f"{path}: expected each id once, found {len(repeated)} twice or more "
        f"{examples(repeated)}; {verdict}. Keep one row an id"
    )


def _check_apart(
    labels_file: Path, train_ids: list[str], sample: Path, test_ids: list[str]
) -> None:
    tested = set(test_ids)
    if both := [image_id for image_id in train_ids if image_id in tested]:
        raise CompetitionError(
            f"{labels_file}: expected no id of {sample.name}, found {len(both)} in both "
            f"{examples(both)}. Set prepare.labels or prepare.sample_submission in params.yaml "
            "if one is the wrong file"
        )


def _ordered_classes(labels_file: Path, labels: list[str]) -> list[str]:
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise CompetitionError(
            f"{labels_file}: expected at least two classes, found only {classes[0]}. Set "
            "prepare.labels in params.yaml if this is the wrong file"
        )
    if all(re.fullmatch(r"[+-]?[0-9]+", name) for name in classes):
        return sorted(classes, key=int)
    return classes


def _open_images(folder: RawFolder, value: str, split: Literal["train", "test"]) -> ImageArchive:
    archive = ImageArchive(*folder.images(value, split))
    if archive.members:
        return archive
    archive.close()
    others = f"{len(archive.ignored)} other files {examples(archive.ignored)}"
    raise CompetitionError(
        f"{archive.place}: expected images ({' '.join(IMAGE_SUFFIXES)}), found "
        f"{others if archive.ignored else 'nothing at all'}. Set prepare.{split}_images in "
        "params.yaml to NAME.zip or NAME.zip/FOLDER"
    )


def _match_images(archive: ImageArchive, image_ids: list[str], source: Path) -> dict[str, str]:
    members = archive.match_ids(image_ids)
    if not members:
        raise CompetitionError(
            f"{archive.place}: expected images named like the ids of {source.name}, found no match "
            f"for any of {len(image_ids)} ids {examples(image_ids)} among {len(archive.members)} "
            f"images {examples(archive.members)}. Set prepare.train_images or "
            "prepare.test_images in params.yaml if this is the wrong archive"
        )
    return members


def _check_complete(test: Split, sample: Path) -> None:
    if missing := test.missing:
        raise CompetitionError(
            f"{test.archive.place}: expected an image for each id of {sample.name}, found none for "
            f"{len(missing)} of {len(test.image_ids)} {examples(missing)}. Get the archive from "
            "its source again, or set prepare.test_images in params.yaml"
        )


def _check_claimed(split: Split, other: Split, source: Path) -> None:
    archive = split.archive
    claimed = set(split.members.values())
    if other.archive.place == archive.place:
        claimed.update(other.members.values())
    if unclaimed := [member for member in archive.members if member not in claimed]:
        raise CompetitionError(
            f"{archive.place}: expected only images of the ids in {source.name}, found "
            f"{len(unclaimed)} of {len(archive.members)} without an id {examples(unclaimed)}. "
            f"Add their ids, or set prepare.train_images or prepare.test_images in params.yaml "
            "to the right folder (NAME.zip/FOLDER)"
        )


def _groups_from_file(
    path: Path, id_columns: list[str], train_ids: list[str], test_ids: list[str]
) -> list[str]:
    table = read_csv(path)
    columns = list(table.columns)
    if len(columns) != 2:
        raise CompetitionError(
            f"{path}: expected two columns with a comma between, the id and the group; found "
            f"{len(columns)}: {columns}. Set prepare.groups.file in params.yaml to the right file"
        )
    swapped = columns[1] in id_columns and columns[0] not in id_columns
    id_column, group_column = reversed(columns) if swapped else columns
    image_ids = _values(path, table, id_column)
    group_of = dict(zip(image_ids, _values(path, table, group_column), strict=True))
    faults = {
        "each id once, found twice": first_repeated(image_ids),
        "a group for each labelled id, found none for": [
            image_id for image_id in train_ids if image_id not in group_of
        ],
        "only ids of the labels or the sample submission, found unknown": sorted(
            set(group_of) - set(train_ids) - set(test_ids)
        ),
    }
    for fault, broken in faults.items():
        if broken:
            raise CompetitionError(
                f"{path}: expected {fault}: {len(broken)} ids {examples(broken)}. Set "
                "prepare.groups in params.yaml to the right file, or to {source: none}"
            )
    return [group_of[image_id] for image_id in train_ids]


def _groups_from_names(
    archive: ImageArchive, pattern: str, train_ids: list[str], members: dict[str, str]
) -> list[str]:
    groups: list[str] = []
    nameless: list[str] = []
    for image_id in train_ids:
        if image_id not in members:
            groups.append(image_id)
            continue
        match = re.search(pattern, file_name(members[image_id]))
        groups.append((match and match[1]) or "")
        if not groups[-1]:
            nameless.append(file_name(members[image_id]))
    if nameless:
        raise CompetitionError(
            f"{archive.place}: expected a group in each image's name by the pattern {pattern}, "
            f"found none in {len(nameless)} of {len(members)} {examples(nameless)}. Set "
            "prepare.groups.pattern in params.yaml"
        )
    return groups
