"""The signals of rows: a file for each, rows of a table, or rows of one array.

A signal is found by its row's id: the file of that name, or the row of a table that has the id. The
rows of an array have none: they are those of the labels, or of the sample submission, in order.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy import ndarray

from pipeline.core.errors import CompetitionError, ImageError, examples, require
from pipeline.core.progress import say
from pipeline.core.tables import first_repeated
from pipeline.prepare.array_files import read_npy
from pipeline.prepare.config import SignalsConfig
from pipeline.prepare.finder import Found, RowFinder
from pipeline.prepare.matching import ENOUGH, FileNames, without_suffix
from pipeline.prepare.pictures import Picture, PixelPicture
from pipeline.prepare.roles import SIGNALS, Roles, says_submission
from pipeline.prepare.rows import LabelledRows
from pipeline.prepare.sample import Sample, no_sample
from pipeline.prepare.sides import SplitName, folders, side
from pipeline.prepare.signal_files import channels_first, describe_shape, is_number
from pipeline.prepare.tables import Table
from pipeline.raw.archive import SOUND_SUFFIXES, file_name
from pipeline.raw.files import ARRAY, ImageFiles, RawFiles

_LONG = 4
"""A signal has so many times more samples than channels, where nobody says what it is."""

NUMBER_SUFFIXES = (ARRAY, ".csv", ".tsv")
"""The suffixes of files of numbers, of which one may hold all signals."""

SIGNAL_SUFFIXES = (*SOUND_SUFFIXES, *NUMBER_SUFFIXES)
"""The suffixes of files that signals lie in."""


class SignalFinder(RowFinder):
    """Finds signals, of which each row has one."""

    suffixes = SIGNAL_SUFFIXES

    def __init__(
        self, raw: Path, config: SignalsConfig, files: ImageFiles, others: list[str], roles: Roles
    ) -> None:
        super().__init__(raw, config, files, others, roles)
        self._read: dict[Path, set[str]] = {}
        """The ids of each table of signals, without those that were asked for."""
        self._used: dict[Path, dict[str, SplitName]] = {}
        """The split of each id that was asked for, by table."""

    def of_labelled(self, rows: LabelledRows) -> Found:
        if rows.pixels:
            return self._from_numbers(rows.ids, rows.pixels, "train", rows.place)
        return self._of_ids(rows.ids, rows.keys, rows.id_column, "train", rows.place)

    def of_sample(self, sample: Sample) -> Found:
        ids = sample.ids
        return self._of_ids(ids, ids, sample.id_column or "", "test", sample.place)

    def listed_test(self, rows: LabelledRows) -> Sample | None:
        tables = [one for one in self._tables("test") if rows.id_column in one.columns]
        ids = {one.name: list(one.cells[rows.id_column]) for one in tables}
        others = [name for name in ids if not set(ids[name]) & set(rows.ids)]
        if len(others) != 1:
            return None
        return no_sample(self._raw, ids[others[0]], rows.id_column)

    def left_over(self, known: set[str]) -> list[str]:
        return [
            f"{row_id} of {place.name}" for place in self._read
            for row_id in sorted(self._read[place] - known)
        ]  # fmt: skip

    def _choose(self, split: SplitName) -> list[FileNames]:
        value = self._config.files_of(split)
        return [] if value in self._roles.tables else super()._choose(split)

    def _of_ids(
        self, ids: list[str], keys: list[str], id_column: str, split: SplitName, place: Path
    ) -> Found:
        """keys: what names the files of each row, where there are files."""
        if self.share(keys, split):
            return self._from_files(ids, keys, split, place)
        wanted = set(ids)
        columns = [(table, name) for table in self._tables(split) for name in table.columns]
        shares = {
            (name != id_column, place): len(wanted & set(table.cells[name])) / len(wanted)
            for place, (table, name) in enumerate(columns)
        }
        if found := [key for key in sorted(shares) if shares[key] >= ENOUGH]:
            first = columns[found[0][1]][0]
            named = side(f"{without_suffix(first.name)}/x") == split
            others = {columns[at][0].name for _, at in found} - {first.name}
            if others and not named:
                raise CompetitionError(
                    f"{self._raw}: expected one table with the signals of {place.name}, found "
                    f"{len(others) + 1}: {first.name}, {', '.join(sorted(others))}. "
                    f"{self._remedy(split)}"
                )
            return self._from_table(ids, *columns[found[0][1]], split)
        arrays = self._arrays(split)
        fitting = {name: array for name, array in arrays.items() if len(array) == len(ids)}
        if len(fitting) == 1:
            return self._from_array(ids, *fitting.popitem(), split)
        if not arrays:
            self._say_nothing_fits(ids, split, place)
        shapes = [f"{name}: {' × '.join(map(str, arrays[name].shape))}" for name in arrays]
        raise CompetitionError(
            f"{self._raw}: expected one array with the {len(ids)} rows of {place.name}, found "
            f"{len(fitting)} among {len(arrays)} {examples(shapes)}. {self._remedy(split)}"
        )

    def _tables(self, split: SplitName) -> list[Table]:
        """Those of signals that may be of a split."""
        value = self._config.files_of(split)
        tables = self._roles.tables
        if value in tables:
            return [tables[value]]
        if value != "auto":
            return []
        named = [(side(f"{without_suffix(one.name)}/x"), one) for one in self._roles.with_numbers()]
        return [
            table
            for wanted in (split, None)  # one whose name says the other side is not of this one
            for found, table in named
            if found == wanted
        ]

    def _arrays(self, split: SplitName) -> dict[str, ndarray]:
        """The arrays of several signals that may be of a split."""
        value, found = self._config.files_of(split), {}
        for member in self.files.members:
            named = side(f"{without_suffix(member)}/x")
            if not member.lower().endswith(ARRAY) or (value == "auto" and named != split):
                continue
            if value != "auto" and value != member:
                continue
            try:
                array, _ = read_npy(self.files.read(member))
            except ImageError as error:
                raise CompetitionError(f"{self._raw / member}: {error}") from error
            if array.ndim in (2, 3):
                found[member] = array
        return found

    def _from_table(self, ids: list[str], table: Table, column: str, split: SplitName) -> Found:
        every = list(table.cells[column])
        remedy = "Keep one row an id"
        once = ("each id once", first_repeated(every), remedy)
        require(CompetitionError, table.place, f"{len(every)} rows", once)
        used = self._used.setdefault(table.place, {})
        both = [row_id for row_id in ids if used.get(row_id, split) != split]
        apart = ("each signal in train or in test", both, self._remedy(split))
        require(CompetitionError, table.place, f"{len(ids)} ids", apart)
        used |= dict.fromkeys(ids, split)
        self._roles.taken[table.name] = SIGNALS
        self._read[table.place] = self._read.get(table.place, set(every)) - set(ids)
        line = {row_id: number for number, row_id in enumerate(every)}
        order = [line.get(row_id) for row_id in ids]
        return self._make_found(ids, table.pixels, order, split, table.place)

    def _from_array(self, ids: list[str], name: str, array: ndarray, split: SplitName) -> Found:
        place = self._raw / name
        rows = channels_last(place, array)
        say(f"{place}: its rows are the {len(ids)} ids in their order")
        found = self._make_found(ids, [rows], range(len(ids)), split, place)
        return Found(found.ids, found.pictures, [name], [])

    def _from_numbers(
        self, ids: list[str], channels: list[ndarray], split: SplitName, place: Path
    ) -> Found:
        return self._make_found(ids, channels, range(len(ids)), split, place)

    def _make_found(
        self, ids: list[str], channels: list[ndarray], order: Sequence[int | None],
        split: SplitName, place: Path,
    ) -> Found:  # fmt: skip
        """order: the row of each id, which may have none."""
        shape = channels[0].shape[1:]
        pictures: list[list[Picture]] = [
            [] if row is None else [picture_of(channels, row, place)] for row in order
        ]
        size = describe_shape(shape[0], shape[1] if len(shape) == 2 else len(channels))
        self._say_found(pictures, split, f"the rows of {place.name}", f", {size}")
        return Found(ids, pictures, [], [])

    def _remedy(self, split: SplitName) -> str:
        return (
            f"Set {self.parameter(split)} in params.yaml to the table or the array of all signals, "
            "or to the folder or archive with a file for each"
        )


def hold_signals(files: RawFiles, tables: dict[str, Table]) -> bool:
    """Whether a competition's files look like signals. tables: of signals.

    There is no picture among them, and there is sound, or an array, a row of a table or a file of
    numbers is longer than wide. Rows of as many numbers as a square image has pixels are taken for
    images.
    """
    if any(not member.lower().endswith(ARRAY) for member in files.images.members):
        return False
    if files.sounds:
        return True
    for member in files.images.members[:1]:
        with suppress(ImageError):
            array, _ = read_npy(files.images.read(member))
            path = f"{without_suffix(member)}/x"
            of_all = side(path) and (
                array.ndim > 1 or side(f"{without_suffix(file_name(member))}/x")
            )
            sides = sorted(array.shape[1:] if of_all else array.shape)
            return len(sides) == 1 or (len(sides) == 2 and sides[1] >= _LONG * sides[0])
    counts = [len(one.pixel_columns) for one in tables.values() if one.pixel_columns]
    grey = [n // 3 if n % 3 == 0 else n for n in counts]
    squares = [n for n in (*counts, *grey) if math.isqrt(n) ** 2 == n]
    return bool(signal_tables(tables)) or bool(counts and not squares)


def picture_of(channels: list[ndarray], row: int, place: Path) -> PixelPicture:
    """A row of arrays, one a channel, or of one with all channels."""
    shape = channels[0].shape[1:]
    return PixelPicture(
        f"{place.name}#{row + 1}", tuple(one[row].ravel() for one in channels), shape
    )


def channels_last(place: Path, array: ndarray) -> ndarray:
    """An array of signals as (rows, length) or (rows, length, channels); says which axis it took.

    Raises CompetitionError where both may be the channels.
    """
    if array.ndim == 2:
        return array
    try:
        first = channels_first(array.shape[1:])
    except ImageError as error:
        raise CompetitionError(
            f"{place}: {error} Expected rows × length × channels, with more samples than "
            "channels. Write the array anew"
        ) from error
    axis = "second" if first else "last"
    say(f"{place}: the {axis} axis is the channels, since it is the shorter one")
    return np.moveaxis(array, 1, 2) if first else array


def signal_tables(tables: dict[str, Table], *places: str, guess: bool = True) -> set[str]:
    """The tables that are one signal each.

    All in one of the places, which a parameter names; or, if guess, in any other folder, where they
    have as many columns each, no ids beside the samples, and no sample submission is among them.
    """
    by_folder: dict[str, list[str]] = {}
    for name in tables:
        by_folder.setdefault("/".join(folders(name)), []).append(name)
    named = {place.strip("/") for place in places}
    found = set()
    for folder, names in by_folder.items():
        above = set(accumulate(folder.split("/"), lambda upper, name: f"{upper}/{name}"))
        alike = guess and len(names) > 1 and len({len(tables[name].header) for name in names}) == 1
        with_ids = any(_has_ids(tables[name]) or says_submission(name) for name in names)
        if folder and (above & named or (alike and not with_ids)):
            found |= set(names)
    return found


def _has_ids(table: Table) -> bool:
    return bool(table.pixel_columns and table.columns and not all(map(is_number, table.header)))
