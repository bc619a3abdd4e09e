"""The images of rows: files that the rows name, files that a table lists, or pixels in a table."""

from pathlib import Path

import pandas as pd
from numpy import ndarray

from pipeline.core.progress import say
from pipeline.prepare.config import ImagesConfig
from pipeline.prepare.finder import Found, RowFinder
from pipeline.prepare.matching import FileNames, Matched
from pipeline.prepare.pictures import (
    FilePicture,
    Picture,
    PixelPicture,
    each_a_picture,
    find_channels,
    pixel_shape,
)
from pipeline.prepare.roles import Roles
from pipeline.prepare.rows import CHANNEL_IN_BRACES, columns_of, file_column, join
from pipeline.prepare.sample import Sample
from pipeline.prepare.sides import SplitName
from pipeline.prepare.tables import Table
from pipeline.raw.archive import IMAGE_SUFFIXES, SOUND_SUFFIXES
from pipeline.raw.files import ImageFiles


class ImageFinder(RowFinder):
    """Finds images, of which a row may have several, or one a channel."""

    suffixes = IMAGE_SUFFIXES

    def __init__(
        self, raw: Path, config: ImagesConfig, files: ImageFiles, others: list[str], roles: Roles
    ) -> None:
        super().__init__(raw, config, files, others, roles)
        self._channels = config.channel_names
        self._said: set[str] = set()

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
            return self._from_numbers(sample.ids, pixels.pixels, "test", pixels.place)
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

    def _listed(self, sample: Sample, table: Table, column: str) -> Found:
        """The test images as a table has them, of which several may have one id."""
        cells, every = table.cells, list(table.cells[column])
        place_of = {row_id: place for place, row_id in enumerate(sample.ids)}
        lines = pd.Series([place_of.get(row_id, -1) for row_id in every])
        order = lines[lines >= 0].sort_values(kind="stable").index.to_numpy()
        ids = [every[line] for line in order]
        if table.pixels and not self.files.members:
            pixels = [channel[order] for channel in table.pixels]
            return self._from_numbers(ids, pixels, "test", table.place)
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

    def _make_pictures(
        self, keys: list[str], members: list[list[str]], place: str
    ) -> list[list[Picture]]:
        channels = self._channels or self._find_channels(members)
        pictures: list[list[Picture]] = []
        for key, files in zip(keys, members, strict=True):
            if channels and files:
                pictures.append([FilePicture.of_channels(key, files, channels, place)])
            else:
                pictures.append(each_a_picture(files))
        return pictures

    def _match(self, keys: list[str], pool: FileNames) -> Matched:
        names = self._channels
        if not names or not any(CHANNEL_IN_BRACES in key for key in keys):
            return pool.match(keys)
        named = [[key.replace(CHANNEL_IN_BRACES, name) for key in keys] for name in names]
        each = [pool.match(of_channel) for of_channel in named]
        rows = zip(*(found.members for found in each), strict=True)
        members = [[member for found in row for member in found] for row in rows]
        return Matched(members, [member for found in each for member in found.loose])

    def _find_channels(self, members: list[list[str]]) -> list[str]:
        channels, sentence = find_channels(members)
        if sentence and sentence not in self._said:  # train and test have the same
            self._said.add(sentence)
            say(sentence)
        return channels

    def _from_numbers(
        self, ids: list[str], channels: list[ndarray], split: SplitName, place: Path
    ) -> Found:
        shape = pixel_shape(channels, place)
        pictures: list[list[Picture]] = [
            [PixelPicture(f"{place.name}#{row + 1}", tuple(one[row] for one in channels), shape)]
            for row in range(len(ids))
        ]
        size = f"{shape[1]} x {shape[0]} pixels"
        self._say_found(pictures, split, f"the rows of {place.name}", f" of {size}")
        return Found(ids, pictures, [], [])

    def _remedy(self, split: SplitName) -> str:
        remedy = (
            f"Set {self.parameter(split)} in params.yaml to their folder or archive, or "
            "prepare.image_column to what names them"
        )
        of_numbers = [name for name, table in self._roles.tables.items() if table.pixel_columns]
        if of_numbers:
            remedy += f". If the numbers in {of_numbers[0]} are signals: prepare.kind: signals"
        elif any(name.lower().endswith(SOUND_SUFFIXES) for name in self._others):
            remedy += ". If the rows are sounds: prepare.kind: signals"
        return remedy
