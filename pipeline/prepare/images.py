"""The images of rows: files that the rows name, files that a table lists, or pixels in a table."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from numpy import ndarray

from pipeline.core.errors import CompetitionError, examples, plural, short_list
from pipeline.core.progress import say
from pipeline.prepare.config import PrepareConfig
from pipeline.prepare.matching import ENOUGH, FileNames, Matched
from pipeline.prepare.pictures import FilePicture, Picture, PixelPicture, find_channels, pixel_shape
from pipeline.prepare.roles import Roles
from pipeline.prepare.rows import CHANNEL_IN_BRACES, LabelledRows, columns_of, file_column, join
from pipeline.prepare.sample import Sample
from pipeline.prepare.sides import SplitName, choose, folders, roots
from pipeline.prepare.tables import Table
from pipeline.raw.archive import IMAGE_SUFFIXES
from pipeline.raw.files import RawFiles


@dataclass(frozen=True)
class Found:
    """The images of rows; a row may stand several times, and have none or several.

    members: all files that are claimed. places: the folders in which each image should have a row.
    """

    ids: list[str]
    pictures: list[list[Picture]]
    members: list[str]
    places: list[str]


class ImageFinder:
    """Finds the images of train and of test among a competition's files."""

    def __init__(self, raw: Path, config: PrepareConfig, files: RawFiles, roles: Roles) -> None:
        self._raw, self._config, self._files, self._roles = raw, config, files, roles
        self._values: dict[SplitName, str] = {
            "train": config.train_images,
            "test": config.test_images,
        }
        self._said: set[str] = set()
        self._pools = {split: self._choose(split) for split in self._values}

    def members(self, split: SplitName) -> list[str]:
        """The files that most likely are a split's."""
        return self._pools[split][0].members if self._pools[split] else []

    def share(self, values: list[str], split: SplitName = "train") -> float:
        """How many of some values mean an image of a split, from 0 to 1."""
        return self._pools[split][-1].share(values) if self._pools[split] else 0.0

    def of_labelled(self, rows: LabelledRows) -> Found:
        """Raises CompetitionError where no row has an image."""
        if rows.pixels and not self.share(rows.keys):
            return self._from_pixels(rows.ids, rows.pixels, "train", rows.place)
        return self._from_files(rows.ids, rows.keys, "train", rows.place)

    def unlabelled(self, rows: LabelledRows, train: Found) -> list[str]:
        """The files that may be of test and are of no labelled row.

        Raises CompetitionError where there is none.
        """
        claimed = set(train.members)
        for pool in self._pools["test"]:
            free = [member for member in pool.members if member not in claimed]
            if self._values["test"] == "auto":  # those in folders of classes are labelled, too
                classes = set(rows.labels)
                free = [member for member in free if not classes & set(folders(member))]
            if free:
                return free
        raise CompetitionError(
            f"{self._raw}: expected images to predict beside those with a label, found none. Set "
            "prepare.test_images in params.yaml to their folder"
        )

    def one_each(self, values: list[str], members: list[str]) -> list[str]:
        """The files that values mean, where each means one and all files are meant; else none."""
        if len(values) != len(members) or not self.share(values, "test"):
            return []
        found = [file for files in self._pools["test"][-1].match(values).members for file in files]
        return found if sorted(found) == sorted(members) else []

    def of_files(self, ids: list[str], members: list[str]) -> Found:
        """Test images that are known."""
        return self._from_files(ids, members, "test", self._raw)

    def of_sample(self, sample: Sample) -> Found:
        """Raises CompetitionError where no row has an image."""
        template = self._config.image_column
        by_id = template == "auto" and self.share(sample.ids, "test") > 0
        if by_id and not self._named_otherwise(sample):
            return self._from_files(sample.ids, sample.ids, "test", sample.place)
        id_column = sample.id_column
        listed = self._roles.test_table(sample.ids, id_column) if id_column else None
        if listed:
            return self._listed(sample, *listed)
        if pixels := self._roles.pixels_of_test(len(sample.ids)):
            return self._from_pixels(sample.ids, pixels.pixels, "test", pixels.place)
        keys = sample.ids
        if columns_of(template) <= set(sample.columns):
            keys = join(sample.place, sample.table, template)
        return self._from_files(sample.ids, keys, "test", sample.place)

    def _named_otherwise(self, sample: Sample) -> bool:
        """Whether a table of the test rows names other files than their ids do."""
        return any(
            set(sample.ids) <= set(ids) and self._file_column(table, ids)
            for table in self._roles.beside()
            for ids in (list(table.cells[column]) for column in table.columns)
        )

    def _file_column(self, table: Table, ids: list[str]) -> str | None:
        def share(values: list[str]) -> float:
            return self.share(values, "test")

        return file_column(table.place, table.cells, ids, share)

    def _choose(self, split: SplitName) -> list[FileNames]:
        members = self._files.images.members
        place, parameter = str(self._raw), f"prepare.{split}_images"
        pools = choose(members, self._values[split], split, place) if members else []
        return [FileNames(pool, place, parameter) for pool in pools]

    def _listed(self, sample: Sample, table: Table, column: str) -> Found:
        """The test images as a table has them, of which several may have one id."""
        cells, every = table.cells, list(table.cells[column])
        place_of = {row_id: place for place, row_id in enumerate(sample.ids)}
        lines = pd.Series([place_of.get(row_id, -1) for row_id in every])
        order = lines[lines >= 0].sort_values(kind="stable").index.to_numpy()
        ids = [every[line] for line in order]
        if table.pixels and not self._files.images.members:
            pixels = [channel[order] for channel in table.pixels]
            return self._from_pixels(ids, pixels, "test", table.place)
        template = self._config.image_column
        if not columns_of(template) <= set(table.columns):
            shares = {
                name: (self.share(list(cells[name]), "test"), cells[name].nunique())
                for name in table.columns
            }
            likeliest = max(shares, key=lambda name: shares[name])
            template = self._file_column(table, every) or likeliest
            if template != column:
                say(f"{table.place}: the images are named by the column {template}")
        keys = join(table.place, cells.iloc[order], template)
        return self._from_files(ids, keys, "test", table.place)

    def _from_files(self, ids: list[str], keys: list[str], split: SplitName, place: Path) -> Found:
        """The images of each row, from the likeliest folders that have them."""
        found, pools = Matched([[] for _ in keys], []), self._pools[split]
        for pool in pools:
            other = self._match(keys, pool)
            found = max(found, other, key=lambda one: one.share)
            if found.share >= ENOUGH:
                break
        if not any(found.members):
            self._say_nothing_fits(keys, split, place)
        if found.loose:
            images = plural(len(found.loose), "image is", "images are")
            say(f"{place}: {images} spelled otherwise {examples(found.loose)}")
        channels = self._config.channel_names or self._find_channels(found.members)
        pictures: list[list[Picture]] = []
        for key, members in zip(keys, found.members, strict=True):
            if channels and members:
                pictures.append([FilePicture.of_channels(key, members, channels, str(place))])
            else:
                pictures.append([FilePicture((member,)) for member in members])
        claimed = [member for members in found.members for member in members]
        if CHANNEL_IN_BRACES in keys[0]:  # the channels that are not used as well
            beginnings = [key.partition(CHANNEL_IN_BRACES)[0].rstrip("_-. ") for key in keys]
            claimed += [m for members in pools[-1].of_beginnings(beginnings) for m in members]
        places = roots(claimed, self._values[split])
        self._say_found(pictures, split, short_list([place or "." for place in places]), found.how)
        return Found(ids, pictures, claimed, places)

    def _say_found(self, pictures: list[list[Picture]], split: str, where: str, how: str) -> None:
        count, rows = sum(map(len, pictures)), plural(len(pictures), "row")
        of = f" of {rows}{how}" if count != len(pictures) else how
        say(f"{split}: {plural(count, 'image')}{of}, in {where}")

    def _find_channels(self, members: list[list[str]]) -> list[str]:
        channels, sentence = find_channels(members)
        if sentence and sentence not in self._said:  # train and test have the same
            self._said.add(sentence)
            say(sentence)
        return channels

    def _match(self, keys: list[str], pool: FileNames) -> Matched:
        names = self._config.channel_names
        if not names or not any(CHANNEL_IN_BRACES in key for key in keys):
            return pool.match(keys)
        named = [[key.replace(CHANNEL_IN_BRACES, name) for key in keys] for name in names]
        each = [pool.match(of_channel) for of_channel in named]
        rows = zip(*(found.members for found in each), strict=True)
        members = [[member for found in row for member in found] for row in rows]
        return Matched(members, [member for found in each for member in found.loose])

    def _say_nothing_fits(self, keys: list[str], split: SplitName, place: Path) -> None:
        searched, others = self.members(split), self._files.others
        found = f"no match among {len(searched)} images {examples(searched)}"
        if not searched:
            listed = f"{len(others)} other files {examples(others)}"
            found = listed if others else "nothing at all"
        raise CompetitionError(
            f"{self._raw}: expected images ({' '.join(IMAGE_SUFFIXES)}) named like the {len(keys)} "
            f"ids of {place.name} {examples(keys)}, found {found}. Set prepare.{split}_images in "
            "params.yaml to their folder or archive, or prepare.image_column to what names them"
        )

    def _from_pixels(
        self, ids: list[str], pixels: list[ndarray], split: SplitName, place: Path
    ) -> Found:
        shape = pixel_shape(pixels, place)
        pictures: list[list[Picture]] = [
            [PixelPicture(f"{place.name}#{row + 1}", tuple(one[row] for one in pixels), shape)]
            for row in range(len(ids))
        ]
        size = f"{shape[1]} x {shape[0]} pixels"
        self._say_found(pictures, split, f"the rows of {place.name}", f" of {size}")
        return Found(ids, pictures, [], [])
