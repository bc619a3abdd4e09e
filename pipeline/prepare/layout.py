"""The raw folder as a whole: which image, label and group belong to which row.

roles.py says which table is what, rows.py what a row of the labels is, matching.py which images it
means, sides.py where these lie. What is not decided by the files is an error that names the
parameter to set; what was decided, and what is not used, is said.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from numpy import ndarray

from pipeline.core.competition import Competition
from pipeline.core.errors import CompetitionError, examples, require
from pipeline.core.progress import say
from pipeline.core.tables import first_repeated
from pipeline.core.task import Kind
from pipeline.prepare import groups
from pipeline.prepare.config import GroupsFromColumn, GroupsFromFile, GroupsFromName, PrepareConfig
from pipeline.prepare.matching import Matched, match, of_beginnings, shared_folder, short_names
from pipeline.prepare.pictures import FilePicture, Picture, PixelPicture, find_channels, pixel_shape
from pipeline.prepare.roles import Roles
from pipeline.prepare.rows import (
    CHANNEL_IN_BRACES,
    LabelledRows,
    Share,
    columns_of,
    group_columns,
    join,
    rows_of_files,
    rows_of_table,
)
from pipeline.prepare.sample import Sample, no_sample, read_sample
from pipeline.prepare.sides import SplitName, choose, folders, is_below, roots
from pipeline.prepare.tables import Table
from pipeline.raw.archive import IMAGE_SUFFIXES
from pipeline.raw.files import ImageFiles, RawFiles
from pipeline.scoring.metric import Metric

_FOUND = 0.5
"""Of the rows: where fewer have an image, it is looked for in other folders as well."""


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
    with RawFiles(raw) as files:
        tables = {
            name: Table(name, raw / name, path, config.encoding)
            for name, path in sorted(files.tables.items())
        }
        yield _Reader(raw, config, files, Roles(raw, tables)).read(_kind(config, metric))


def _kind(config: PrepareConfig, metric: Metric) -> Kind | None:
    """The task where the parameters decide it."""
    if config.task != "auto":
        return config.task
    return metric.tasks[0] if len(metric.tasks) == 1 and metric.tasks != ("one_of",) else None


@dataclass(frozen=True)
class _Side:
    """The rows of a split with what they mean."""

    ids: list[str]
    pictures: list[list[Picture]]
    members: list[str]
    """All files that are claimed."""
    places: list[str]
    """The folders in which each image should have a row."""


class _Reader:
    """The files of one competition, on the way to a Layout."""

    def __init__(self, raw: Path, config: PrepareConfig, files: RawFiles, roles: Roles) -> None:
        self.raw, self.config, self.files, self.roles = raw, config, files, roles
        self.members = files.images.members

    def read(self, kind: Kind | None) -> Layout:
        config = self.config
        sample = self._sample()
        rows = self._rows(sample, kind)
        _check_rows(rows)
        if rows.unlabelled:
            left = rows.unlabelled
            say(f"left out: {len(left)} rows without a label {examples(left)}")
        train = self._train(rows)
        if sample is None:
            free = self._unlabelled(rows)
            sample = no_sample(self.raw, short_names(free))
            test = self._from_files(sample.ids, free, "test", self.raw)
        else:
            test = self._test(sample)
        both = set(rows.ids) & set(sample.ids)
        if both:
            self._require_others(rows, sample, train, test, both)
        train_split = self._split(train, rows, "train", self._groups(rows, sample, train), both)
        test_split = self._split(test, None, "test", [""] * len(test.ids), set())
        self._check_claimed(train, test)
        missing = [i for i, found in zip(test.ids, test.pictures, strict=True) if not found]
        remedy = "Get the archive from its source again, or set prepare.test_images in params.yaml"
        requirement = (f"an image for each id of {sample.place.name}", missing, remedy)
        require(CompetitionError, test_split.place, f"{len(test.ids)} ids", requirement)
        used = config.groups.column if isinstance(config.groups, GroupsFromColumn) else None
        possible = {name: n for name, n in group_columns(rows).items() if name != used}
        return Layout(
            competition=Competition(
                id_column=sample.id_column,
                label_column=sample.label_columns[0]
                if len(sample.label_columns) == 1
                else rows.label_column,
                task=rows.task,
            ),
            train=train_split,
            test=test_split,
            sample=sample,
            labels_file=rows.place,
            roles=self.roles.taken,
            possible_groups=possible,
        )

    def _sample(self) -> Sample | None:
        if self.config.sample_submission == "none":
            return None
        table = self.roles.sample_submission(self.config.sample_submission)
        sample = read_sample(table, without_ids=not self.members)
        self.roles.keep_classes(sample.label_columns)
        return sample

    def _rows(self, sample: Sample | None, kind: Kind | None) -> LabelledRows:
        config = self.config
        pools = (
            choose(self.members, config.train_images, "train", str(self.raw))
            if self.members
            else []
        )
        table = None
        if isinstance(config.labels, str):
            shown = sample or no_sample(self.raw, [])
            table = self.roles.labels(config.labels, shown.columns)
            if table:
                share = _share(pools[-1] if pools else [])
                return rows_of_table(table, shown, config, kind, share)
        rows = rows_of_files(pools[0], sample, config, kind, self.raw) if pools else None
        if rows is None:
            known = ", ".join(
                f"{name} ({', '.join(one.columns[:20])})"
                for name, one in self.roles.tables.items() if name not in self.roles.taken
            )  # fmt: skip
            raise CompetitionError(
                f"{self.raw}: expected the labels in a table with the sample submission's columns "
                f"{(sample.columns if sample else ['id', 'label'])[:5]}, in the folders of the "
                f"training images or in their names; found none of these among: "
                f"{known or 'no table'}. Set prepare.labels in params.yaml"
            )
        return rows

    def _unlabelled(self, rows: LabelledRows) -> list[str]:
        """The images to predict where no sample submission says it: those of no labelled row."""
        claimed = set(rows.keys)
        pools = choose(self.members, self.config.test_images, "test", str(self.raw))
        for pool in pools:
            free = [member for member in pool if member not in claimed]
            if self.config.test_images == "auto":
                free = [member for member in free if not _like_rows(member, rows)]
            if free:
                return free
        raise CompetitionError(
            f"{self.raw}: expected images to predict beside those with a label, found none. Set "
            "prepare.test_images in params.yaml to their folder"
        )

    def _train(self, rows: LabelledRows) -> _Side:
        if rows.pixels and not self._has_images(rows.keys, "train"):
            return self._from_pixels(rows.ids, rows.pixels, rows.place)
        return self._from_files(rows.ids, rows.keys, "train", rows.place)

    def _test(self, sample: Sample) -> _Side:
        keys = sample.ids
        if self.config.image_column != "auto" or not self._has_images(keys, "test"):
            listed = self.roles.test_table(sample.ids) if sample.id_column else None
            if listed is None:
                pixels = self.roles.pixels_of_test(len(sample.ids))
                if pixels:
                    return self._from_pixels(sample.ids, pixels.pixels, pixels.place)
                if columns_of(self.config.image_column) <= set(sample.columns):
                    keys = join(sample.place, sample.table, self.config.image_column)
            else:
                table, column = listed
                if table.pixels and not self.members:
                    order = pd.Series(range(len(table.cells)), index=table.cells[column])
                    rows = order.loc[sample.ids].to_numpy()
                    return self._from_pixels(
                        sample.ids, [channel[rows] for channel in table.pixels], table.place
                    )
                return self._listed(sample, table, column)
        return self._from_files(sample.ids, keys, "test", sample.place)

    def _listed(self, sample: Sample, table: Table, column: str) -> _Side:
        """The test images as a table names them, of which several may have one id."""
        cells, pool = (
            table.cells,
            choose(self.members, self.config.test_images, "test", str(self.raw)),
        )
        template = self.config.image_column
        if not columns_of(template) <= set(table.columns):
            share = _share(pool[-1])
            shares = {n: (share(list(cells[n])), cells[n].nunique()) for n in cells.columns}
            template = max(shares, key=lambda name: shares[name])
        keys = join(table.place, cells, template)
        known = set(sample.ids)
        pairs = [(i, k) for i, k in zip(cells[column], keys, strict=True) if i in known]
        position = {image_id: place for place, image_id in enumerate(sample.ids)}
        pairs.sort(key=lambda pair: position[pair[0]])
        return self._from_files([i for i, _ in pairs], [k for _, k in pairs], "test", table.place)

    def _has_images(self, keys: list[str], split: SplitName) -> bool:
        if not self.members:
            return False
        value = self.config.train_images if split == "train" else self.config.test_images
        pools = choose(self.members, value, split, str(self.raw))
        return bool(pools) and _share(pools[-1])(keys) > 0

    def _from_files(self, ids: list[str], keys: list[str], split: SplitName, place: Path) -> _Side:
        """The images of each row, from the likeliest folders that have them."""
        config = self.config
        value = config.train_images if split == "train" else config.test_images
        best = None
        pools = choose(self.members, value, split, str(self.raw)) if self.members else []
        for pool in pools:
            found = self._match(keys, pool, split)
            if best is None or found.share > best.share:
                best = found
            if best.share >= _FOUND:
                break
        if best is None or not any(best.members):
            self._say_nothing_fits(keys, pools[0] if pools else [], split, place)
        assert best is not None
        if best.loose:
            say(f"{place}: {len(best.loose)} images are spelled otherwise {examples(best.loose)}")
        channels = config.channels or find_channels(best.members)
        pictures: list[list[Picture]] = []
        for key, members in zip(keys, best.members, strict=True):
            if channels and members:
                pictures.append([FilePicture.of_channels(key, members, channels, str(place))])
            else:
                pictures.append([FilePicture((member,)) for member in members])
        claimed = [member for members in best.members for member in members]
        if CHANNEL_IN_BRACES in keys[0]:  # the channels that are not used as well
            beginnings = [key.partition(CHANNEL_IN_BRACES)[0].rstrip("_-. ") for key in keys]
            claimed += [m for members in of_beginnings(beginnings, pools[-1]) for m in members]
        return _Side(ids, pictures, claimed, roots(claimed, value))

    def _match(self, keys: list[str], pool: list[str], split: SplitName) -> Matched:
        place, parameter = str(self.raw), f"prepare.{split}_images"
        names = self.config.channels
        if not names or not any(CHANNEL_IN_BRACES in key for key in keys):
            return match(keys, pool, place, parameter)
        each = [
            match([key.replace(CHANNEL_IN_BRACES, name) for key in keys], pool, place, parameter)
            for name in names
        ]
        members = [
            [m for found in per_key for m in found]
            for per_key in zip(*(found.members for found in each), strict=True)
        ]
        return Matched(members, [m for found in each for m in found.loose], several=True)

    def _say_nothing_fits(
        self, keys: list[str], searched: list[str], split: SplitName, place: Path
    ) -> None:
        ignored = self.files.others
        found = f"no match among {len(searched)} images {examples(searched)}"
        if not searched:
            others = f"{len(ignored)} other files {examples(ignored)}"
            found = others if ignored else "nothing at all"
        raise CompetitionError(
            f"{self.raw}: expected images ({' '.join(IMAGE_SUFFIXES)}) named like the {len(keys)} "
            f"ids of {place.name} {examples(keys)}, found {found}. Set prepare.{split}_images in "
            "params.yaml to their folder or archive, or prepare.image_column to what names them"
        )

    def _from_pixels(self, ids: list[str], pixels: list[ndarray], place: Path) -> _Side:
        shape = pixel_shape(pixels, place)
        pictures: list[list[Picture]] = [
            [PixelPicture(f"{place.name}#{row + 1}", tuple(one[row] for one in pixels), shape)]
            for row in range(len(ids))
        ]
        return _Side(ids, pictures, [], [])

    def _require_others(
        self, rows: LabelledRows, sample: Sample, train: _Side, test: _Side, both: set[str]
    ) -> None:
        """Raise CompetitionError on an id of both that is one image, or has none in train."""
        tested = set(test.members)
        own = {
            row_id
            for row_id, pictures in zip(train.ids, train.pictures, strict=True)
            if pictures and not any(set(picture.files) & tested for picture in pictures)
        }
        same = [row_id for row_id in dict.fromkeys(rows.ids) if row_id in both - own]
        remedy = (
            "Set prepare.labels or prepare.sample_submission in params.yaml if one is the wrong "
            "file"
        )
        requirement = (f"no id of {sample.place.name}", same, remedy)
        require(CompetitionError, rows.place, f"{len(rows.ids)} rows", requirement)
        say(
            f"{len(both)} ids are in train and in test, of different images: train/ID in our tables"
        )

    def _groups(self, rows: LabelledRows, sample: Sample, train: _Side) -> list[str]:
        """The group of each row."""
        match self.config.groups:
            case GroupsFromFile(file=file):
                id_columns = [name for name in (sample.id_column, rows.id_column) if name]
                table = self.roles.groups(file, id_columns)
                return groups.groups_from_file(table, rows, sample)
            case GroupsFromColumn(column=column):
                return groups.groups_from_column(rows, column)
            case GroupsFromName(pattern=pattern):
                named = [found[0].files[0] if found else "" for found in train.pictures]
                return groups.groups_from_names(str(self.raw), pattern, rows.ids, named)
        return rows.ids

    def _split(
        self,
        found: _Side,
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
            above = shared_folder([picture.file for picture in its_pictures])
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
        places = found.places or ["."]
        return Split(
            self.files.images,
            ", ".join(str(self.raw / place) for place in places),
            image_ids, row_ids, labels, its_groups, pictures,
            [m for m in self.files.images.ignored if any(is_below(m, p) for p in found.places)],
        )  # fmt: skip

    def _check_claimed(self, train: _Side, test: _Side) -> None:
        """Raise CompetitionError on images that should have a row, and say what is not used."""
        claimed = {*train.members, *test.members}
        free = [member for member in self.members if member not in claimed]
        places = [*train.places, *test.places]
        unlabelled = [m for m in free if any(is_below(m, place) for place in places)]
        if self.config.unlabelled == "stop":
            remedy = (
                "Add their rows, or set prepare.train_images or prepare.test_images in params.yaml "
                "to the right folder, or leave them out: prepare.unlabelled: leave_out"
            )
            where = ", ".join(dict.fromkeys(str(self.raw / place) for place in places))
            total = sum(any(is_below(m, place) for place in places) for m in self.members)
            requirement = ("only images of the ids in the tables", unlabelled, remedy)
            require(CompetitionError, where, f"{total} images", requirement)
        elif unlabelled:
            say(f"left out: {len(unlabelled)} images without a row {examples(unlabelled)}")
        others: dict[str, int] = defaultdict(int)
        for member in set(free) - set(unlabelled):
            others["/".join(folders(member)[:3]) or "."] += 1
        if others:
            listed = ", ".join(f"{place} ({n})" for place, n in sorted(others.items())[:5])
            say(f"not used: {sum(others.values())} images in other folders: {listed}")


def _share(members: list[str]) -> Share:
    """How many of some values mean one of these files."""

    def share(values: list[str]) -> float:
        try:
            return match(list(dict.fromkeys(values)), members, "", "").share
        except CompetitionError:
            return 0.0

    return share


def _like_rows(member: str, rows: LabelledRows) -> bool:
    """Whether an image lies in folders named like classes, as the labelled ones do."""
    return bool(set(folders(member)) & set(rows.labels))


def _check_rows(rows: LabelledRows) -> None:
    """Raise CompetitionError where rows of one id have different labels, or one has two rows."""
    by_id: dict[str, list[str]] = defaultdict(list)
    for row_id, label in zip(rows.ids, rows.labels, strict=True):
        by_id[row_id].append(label)
    several = rows.keys is not rows.ids and rows.keys != rows.ids
    bad = {
        row_id: list(dict.fromkeys(labels)) for row_id, labels in by_id.items()
        if len(labels) > 1 and (not several or len(set(labels)) > 1)
    }  # fmt: skip
    disagreeing_first = sorted(bad.items(), key=lambda item: -len(item[1]))
    repeated = [f"{row_id} is {' and '.join(labels)}" for row_id, labels in disagreeing_first]
    once = ("each id once", repeated, "Keep one row an id")
    require(CompetitionError, rows.place, f"{len(rows.ids)} rows", once)
