"""The raw folder as a whole: which image, label and group belong to which row.

roles.py says which table is what, rows.py what a row of the labels is, images.py which images it
means, sides.py where these lie. What is not decided by the files is an error that names the
parameter to set; what was decided, and what is not used, is said.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.competition import Competition
from pipeline.core.errors import CompetitionError, examples, plural, require, short_list
from pipeline.core.progress import say
from pipeline.core.tables import first_repeated
from pipeline.core.task import Kind
from pipeline.prepare import groups
from pipeline.prepare.config import (
    GroupsFromColumn,
    GroupsFromFile,
    GroupsFromName,
    ImagesConfig,
    PrepareConfig,
)
from pipeline.prepare.finder import Found, RowFinder
from pipeline.prepare.images import ImageFinder
from pipeline.prepare.matching import ENOUGH, shared_folder, short_names
from pipeline.prepare.pictures import Picture
from pipeline.prepare.roles import Roles, names_groups
from pipeline.prepare.rows import LabelledRows, group_columns, naming_column, rows_of_table
from pipeline.prepare.sample import Sample, no_sample, read_sample
from pipeline.prepare.sides import SplitName, folders, is_below
from pipeline.prepare.signals import SignalFinder, signal_tables
from pipeline.prepare.tables import Table
from pipeline.prepare.without_table import rows_of_files
from pipeline.raw.files import ImageFiles, RawFiles
from pipeline.scoring.metric import Metric


@dataclass(frozen=True)
class Split:
    """Train or test. Parallel lists, in the order of the labels or of the sample submission.

    row_ids: of the rows that are predicted; a row may have several images, one after the other.
    labels: the class as written; empty in test. groups: the row's id itself where there are no
    groups, or where the group is in the name of an image that is missing; empty in test.
    pictures: what is decoded; None where it is missing, as it never is in test. ignored: files
    among the images that are none.
    """

    images: ImageFiles
    place: str
    image_ids: list[str]
    row_ids: list[str]
    labels: list[str]
    groups: list[str]
    pictures: list[Picture | None]
    ignored: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        """The ids without an image."""
        pairs = zip(self.image_ids, self.pictures, strict=True)
        return [image_id for image_id, picture in pairs if picture is None]


@dataclass(frozen=True)
class Layout:
    """What prepare needs to know of the raw folder.

    roles: what each table and folder was taken for. possible_groups: columns that may say which
    images belong together, and are not used, with the number of their values.
    """

    competition: Competition
    train: Split
    test: Split
    sample: Sample
    labels_file: Path
    roles: dict[str, str]
    possible_groups: dict[str, int]


@contextmanager
def understand(raw: Path, config: PrepareConfig, metric: Metric) -> Iterator[Layout]:
    """Find the files; match ids, labels, groups and images. The archives are open in the block.

    Raises CompetitionError on a missing or ambiguous file, what the modules above refuse, images
    without a row, and a test id without an image (a training id without one is in Split.missing).
    Raises TableError on an invalid table, ArchiveError on an archive that is damaged, ambiguous or
    a bomb.
    """
    with _open(raw, config) as reader:
        yield reader.read(_kind(config, metric))


@contextmanager
def _open(raw: Path, config: PrepareConfig) -> Iterator["_Reader"]:
    with RawFiles(raw) as files:
        of_signals = not isinstance(config, ImagesConfig)
        tables = {
            name: Table(name, raw / name, path, config.encoding, signals=of_signals)
            for name, path in sorted(files.tables.items())
        }
        if isinstance(config, ImagesConfig):
            roles = Roles(raw, tables)
            others = [*files.sounds, *files.others]
            finder: RowFinder = ImageFinder(raw, config, files.images, others, roles)
        else:
            named = config.train_signals, config.test_signals
            each = signal_tables(tables, *named, guess=not files.sounds)
            roles = Roles(raw, {name: table for name, table in tables.items() if name not in each})
            finder = SignalFinder(raw, config, files.signals(each), files.others, roles)
        yield _Reader(raw, config, finder, roles, files.solutions)


@contextmanager
def understand_test(
    raw: Path, config: PrepareConfig, metric: Metric
) -> Iterator[tuple[Sample, Split]]:
    """The sample submission and the test images, which need no labels to be found.

    Raises as understand does.
    """
    if config.sample_submission == "none":
        with understand(raw, config, metric) as layout:
            yield layout.sample, layout.test
        return
    with _open(raw, config) as reader:
        yield reader.read_test()


def _kind(config: PrepareConfig, metric: Metric) -> Kind | None:
    """The task where the parameters decide it."""
    if config.task != "auto":
        return config.task
    return metric.tasks[0] if len(metric.tasks) == 1 and metric.tasks != ("one_of",) else None


class _Reader:
    """The files of one competition, on the way to a Layout."""

    def __init__(
        self, raw: Path, config: PrepareConfig, finder: RowFinder, roles: Roles,
        solutions: list[str],
    ) -> None:  # fmt: skip
        self.raw, self.config, self.finder, self.roles = raw, config, finder, roles
        self.files, self.solutions = finder.files, solutions

    def read(self, kind: Kind | None) -> Layout:
        sample = self._sample()
        rows = self._rows(sample, kind)
        _check_rows(rows)
        if rows.unlabelled:
            left = rows.unlabelled
            say(f"left out: {plural(len(left), 'row')} without a label {examples(left)}")
        train = self.finder.of_labelled(rows)
        if sample is not None:
            test = self.finder.of_sample(sample)
        else:
            sample, test = self._others(rows, train)
        both = set(rows.ids) & set(sample.ids)
        if both:
            self._require_others(rows, sample, train, test, both)
        train_split = self._split(train, rows, "train", self._groups(rows, sample, train), both)
        test_split = self._split(test, None, "test", [""] * len(test.ids), set())
        self._check_claimed(train, test, set(rows.unlabelled))
        self._say_tables()
        self._require_all(test_split, sample)
        label = sample.label_columns[0] if len(sample.label_columns) == 1 else rows.label_column
        return Layout(
            competition=Competition(id_column=sample.id_column, label_column=label, task=rows.task),
            train=train_split,
            test=test_split,
            sample=sample,
            labels_file=rows.place,
            roles=self.roles.taken,
            possible_groups=self._possible_groups(rows),
        )

    def read_test(self) -> tuple[Sample, Split]:
        sample = self._sample()
        assert sample is not None
        found = self.finder.of_sample(sample)
        test = self._split(found, None, "test", [""] * len(found.ids), set())
        self._require_all(test, sample)
        return sample, test

    def _sample(self) -> Sample | None:
        if self.config.sample_submission == "none":
            return None
        table = self.roles.sample_submission(self.config.sample_submission)
        sample = read_sample(table, without_ids=not self.files.members)
        self.roles.keep_classes(sample.label_columns)
        return sample

    def _rows(self, sample: Sample | None, kind: Kind | None) -> LabelledRows:
        config = self.config
        if isinstance(config.labels, str):
            shown = sample or no_sample(self.raw, [])
            if table := self.roles.labels(config.labels, shown.columns, config.label_column):
                listed = rows_of_table(table, shown, config, kind, self.finder.share)
                self._refuse_links(listed)
                return listed
        rows = rows_of_files(self.finder.members("train"), sample, config, kind, self.raw)
        if rows and config.labels == "auto":
            self._refuse_other_labels(rows)
        if rows is None:
            known = ", ".join(
                f"{name} ({', '.join(one.columns[:20])})"
                for name, one in self.roles.tables.items() if name not in self.roles.taken
            )  # fmt: skip
            raise CompetitionError(
                f"{self.raw}: expected the labels in a table with the sample submission's columns "
                f"{(sample.columns if sample else ['id', 'label'])[:5]}, in the folders of the "
                f"training {self.config.row}s or in their names; found none of these among: "
                f"{known or 'no table'}. Set prepare.labels in params.yaml, prepare.label_column "
                "if its column is called otherwise, or "
                f"{self.finder.parameter('train')} to their folder"
            )
        return rows

    def _others(self, rows: LabelledRows, train: Found) -> tuple[Sample, Found]:
        """What is predicted where no sample submission says it: the images without a label, in the
        order of a table that lists them."""
        if listed := self.finder.listed_test(rows):
            say(
                f"no sample submission: as {' and '.join(listed.columns)}, each signal is predicted"
            )
            return listed, self.finder.of_sample(listed)
        free = self.finder.unlabelled(rows, train)
        for table in self.roles.beside():
            for column in table.columns:
                values = list(table.cells[column])
                if members := self.finder.one_each(values, free):
                    say(f"{table.place}: the ids to predict are in its column {column}")
                    return no_sample(self.raw, values, column), self.finder.of_files(
                        values, members
                    )
        sample = no_sample(self.raw, short_names(free))
        columns = " and ".join(sample.columns)
        what = f"the {self.config.row}s without a label"
        say(f"no sample submission: {what} are predicted, as {columns}")
        return sample, self.finder.of_files(sample.ids, free)

    def _refuse_links(self, rows: LabelledRows) -> None:
        """Raise CompetitionError where another table says which images the ids mean."""
        if rows.keys is not rows.ids or not rows.id_column:
            return
        for table in self.roles.beside(rows.id_column):
            ids = table.cells[rows.id_column]
            column = naming_column(table.cells.drop(columns=rows.id_column), self.finder.share)
            if column and ids.nunique() < len(ids) and set(rows.ids) <= set(ids):
                raise CompetitionError(
                    f"{rows.place}: expected ids that name the images, but {table.place} has the "
                    f"images of each {rows.id_column} in its column {column}. Write one table of "
                    f"both with a row for each image, set prepare.labels in params.yaml to it, "
                    f"prepare.id_column to {rows.id_column} and prepare.image_column to {column}"
                )

    def _refuse_other_labels(self, rows: LabelledRows) -> None:
        """Raise CompetitionError where a table may have other labels of the same images."""
        classes = set(rows.labels)
        for table in self.roles.beside():
            cells = table.cells
            if len(cells) < ENOUGH * len(rows.ids) or not (
                named := naming_column(cells, self.finder.share)
            ):
                continue
            others = [
                name
                for name in cells.columns
                if name != named
                and not names_groups(name)
                and 1 < cells[name].nunique() < len(cells)
            ]
            if others and all(set(cells[name]) != classes for name in others):
                raise CompetitionError(
                    f"{table.place}: it may have the labels, in {', '.join(others[:10])}, and so "
                    f"may the images' paths, of the classes {examples(sorted(classes))}. Set "
                    f"prepare.labels in params.yaml to {table.name} and prepare.label_column to "
                    "the column, or prepare.labels to {source: folder}, or to {source: name, "
                    "pattern: …}"
                )

    def _possible_groups(self, rows: LabelledRows) -> dict[str, int]:
        config = self.config.groups
        used = config.column if isinstance(config, GroupsFromColumn) else None
        return {name: count for name, count in group_columns(rows).items() if name != used}

    def _require_others(
        self, rows: LabelledRows, sample: Sample, train: Found, test: Found, both: set[str]
    ) -> None:
        """Raise CompetitionError on an id of both that is one image, or has none in train."""
        tested = set(test.members)
        own = {
            row_id
            for row_id, pictures in zip(train.ids, train.pictures, strict=True)
            if pictures and not any(set(picture.files) & tested for picture in pictures)
        }
        shared = both - own
        same = [row_id for row_id in dict.fromkeys(rows.ids) if row_id in shared]
        remedy = (
            "Set prepare.labels or prepare.sample_submission in params.yaml if one is the wrong "
            "file"
        )
        requirement = (f"no id of {sample.place.name}", same, remedy)
        require(CompetitionError, rows.place, f"{len(rows.ids)} rows", requirement)
        say(
            f"{plural(len(both), 'id is', 'ids are')} in train and in test, of different "
            f"{self.config.row}s: "
            "our tables call those of train train/ID"
        )

    def _groups(self, rows: LabelledRows, sample: Sample, train: Found) -> list[str]:
        """The group of each row."""
        match self.config.groups:
            case GroupsFromFile(file=file):
                id_columns = [name for name in (sample.id_column, rows.id_column) if name]
                table = self.roles.groups(file, id_columns)
                return groups.groups_from_file(table, rows, sample)
            case GroupsFromColumn(column=column):
                return groups.groups_from_column(rows, column)
            case GroupsFromName(pattern=pattern):
                if not any(picture.files for found in train.pictures for picture in found):
                    raise CompetitionError(
                        f"{rows.place}: expected files whose names have the group, found rows of "
                        "numbers. Set prepare.groups in params.yaml to {source: column, column: …} "
                        "or {source: file, file: …}"
                    )
                named = [found[0].files[0] if found else "" for found in train.pictures]
                return groups.groups_from_names(str(self.raw), pattern, rows.ids, named)
        return rows.ids

    def _split(
        self,
        found: Found,
        rows: LabelledRows | None,
        name: SplitName,
        group_of: list[str],
        both: set[str],
    ) -> Split:
        """A line for each image; a row without one keeps its line."""
        several = Counter(found.ids)
        image_ids, row_ids, labels, its_groups = [], [], [], []
        pictures: list[Picture | None] = []
        for place, (row_id, its_pictures) in enumerate(zip(found.ids, found.pictures, strict=True)):
            one = several[row_id] == 1 and len(its_pictures) <= 1
            each: list[Picture | None] = [*its_pictures] or [None]
            above = "" if one else shared_folder([picture.file for picture in its_pictures])
            for picture in each:
                prefix = f"{name}/" if row_id in both else ""
                image_id = row_id if one or picture is None else f"{row_id}/{picture.name(above)}"
                image_ids.append(prefix + image_id)
                row_ids.append(row_id)
                labels.append(rows.labels[place] if rows else "")
                its_groups.append(group_of[place])
                pictures.append(picture)
        if repeated := first_repeated(image_ids):
            raise CompetitionError(
                f"{self.raw}: expected images of different names for each id, found "
                f"{len(repeated)} twice {examples(repeated)}. Rename them"
            )
        below = set(found.places)
        return Split(
            self.files,
            self._called(found.places or ["."]),
            image_ids, row_ids, labels, its_groups, pictures,
            [member for member in self.files.ignored if is_below(member, below)],
        )  # fmt: skip

    def _called(self, places: list[str]) -> str:
        """Folders for messages."""
        return short_list([str(self.raw / place) for place in places])

    def _say_tables(self) -> None:
        for name, role in self.roles.taken.items():
            say(f"{name}: {role}")
        if unused := [name for name in self.roles.tables if name not in self.roles.taken]:
            say(f"not used: {plural(len(unused), 'table')} {examples(unused)}")
        if self.solutions:
            say(f"not used: {', '.join(self.solutions)}, which has answers: only `check` reads it")

    def _require_all(self, test: Split, sample: Sample) -> None:
        """Raise CompetitionError where a row to predict has no image or signal."""
        parameter = self.finder.parameter("test")
        remedy = f"Get the archive from its source again, or set {parameter} in params.yaml"
        what = f"{'an' if self.config.row == 'image' else 'a'} {self.config.row}"
        requirement = (f"{what} for each id of {sample.place.name}", test.missing, remedy)
        require(CompetitionError, test.place, f"{len(test.row_ids)} ids", requirement)

    def _check_claimed(self, train: Found, test: Found, without_label: set[str]) -> None:
        """Raise CompetitionError on images that should have a row, and say what is not used."""
        claimed = {*train.members, *test.members}
        members = self.files.members
        shared = sorted({*train.members} & {*test.members})
        row = self.config.row
        parameters = [self.finder.parameter(split) for split in ("train", "test")]
        remedy = f"Set {parameters[1]} in params.yaml"
        requirement = (f"each {row} in train or in test", shared, remedy)
        require(CompetitionError, self.raw, f"{len(members)} {row}s", requirement)
        free = [member for member in members if member not in claimed]
        places = list(dict.fromkeys([*train.places, *test.places]))
        below = set(places)
        unlabelled = [member for member in free if is_below(member, below)]
        unlabelled += self.finder.left_over(without_label)
        if self.config.unlabelled == "stop":
            remedy = (
                f"Add their rows, or set {' or '.join(parameters)} in params.yaml "
                "to the right folder, or leave them out: prepare.unlabelled: leave_out"
            )
            asked = len(train.ids) + len(test.ids) + len(unlabelled)
            total = sum(is_below(member, below) for member in members) or asked
            requirement = (f"only {row}s of the ids in the tables", unlabelled, remedy)
            require(CompetitionError, self._called(places), f"{total} {row}s", requirement)
        elif unlabelled:
            left = plural(len(unlabelled), row)
            say(f"left out: {left} without a row {examples(unlabelled)}")
        others: dict[str, int] = defaultdict(int)
        for member in set(free) - set(unlabelled):
            others["/".join(folders(member)[:3]) or "."] += 1
        if others:
            count = plural(sum(others.values()), row)
            listed = short_list([f"{place} ({n})" for place, n in sorted(others.items())])
            say(f"not used: {count} in other folders: {listed}")


def _check_rows(rows: LabelledRows) -> None:
    """Raise CompetitionError where rows of one id have different labels, or one has two rows."""
    by_id: dict[str, list[str]] = defaultdict(list)
    for row_id, label in zip(rows.ids, rows.labels, strict=True):
        by_id[row_id].append(label)
    several = rows.keys != rows.ids
    bad = {
        row_id: list(dict.fromkeys(labels)) for row_id, labels in by_id.items()
        if len(labels) > 1 and (not several or len(set(labels)) > 1)
    }  # fmt: skip
    disagreeing_first = sorted(bad.items(), key=lambda item: -len(item[1]))
    repeated = [f"{row_id} is {' and '.join(labels)}" for row_id, labels in disagreeing_first]
    once = ("each id once", repeated, "Keep one row an id")
    require(CompetitionError, rows.place, f"{len(rows.ids)} rows", once)
