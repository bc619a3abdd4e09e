"""The competition's tables as text: CSVs with any separator, and JSON.

    JSON                                  becomes
    a list of records                     a row for each
    {column: {row: value}}                the same
    {name: value}                         the columns `key` and `value`
    {row: {column: value}}, more of rows  a row for each, with its name as `key`
    images, annotations (as in COCO)      a row for each image, with its categories as `category`

A table may hold images or signals: a column for each pixel or sample, or one column in which a cell
has all of them. Of signals, several blocks of columns (`ch1_0…`, `ch2_0…`) are channels.
"""

import codecs
import csv
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from statistics import mode
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Num
from numpy import ndarray

from pipeline.core.errors import CompetitionError, TableError, short_list, shown
from pipeline.core.tables import Dialect, read_csv

SEPARATORS = (",", ";", "\t", "|")
CATEGORY = "category"
LEAST_PIXELS = 64
"""A row of fewer numbers is no image: 8 by 8."""

LEAST_SAMPLES = 8
"""A row of fewer numbers is no signal."""

_LINES = 20
_IMAGE_KEYS = ("image_id", "imageId")
_CATEGORY_KEYS = ("category_id", "label_id", "labelId")
_NUMBERED = re.compile(r"(.*?)([0-9]+)")
_PIXELS = re.compile(r"(-?[0-9.eE+-]+[ ,]+)+-?[0-9.eE+-]+ *")


@dataclass(frozen=True)
class Table:
    """A table of the competition.

    name: its path in the tree of files. place: for messages. classes: columns that are none of
    pixels, however they are numbered. signals: whether rows may be signals, else images.
    """

    name: str
    place: Path
    path: Path
    encoding: str
    classes: frozenset[str] = frozenset()
    signals: bool = False

    @cached_property
    def columns(self) -> list[str]:
        """The columns that are no pixels. Raises CompetitionError where nothing can be read."""
        pixels = set(self.pixel_columns)
        return [name for name in self.header if name not in pixels]

    @cached_property
    def cells(self) -> pd.DataFrame:
        """As text, without columns that are pixels. Raises TableError where it is no table."""
        return self._all[self.columns] if self.pixel_columns else self._all

    @cached_property
    def pixels(self) -> list[Num[ndarray, "rows numbers"]]:
        """The images or signals that the rows hold, one array for each channel; empty where there
        is none. Raises TableError where channels have different lengths, or one has a gap."""
        self._require_whole_channels()
        return self._numbers

    @property
    def holds_numbers(self) -> bool:
        """Whether there are pixels or samples, whole or not."""
        return bool(self._numbers)

    @cached_property
    def _numbers(self) -> list[Num[ndarray, "rows numbers"]]:
        if self.pixel_columns:
            return [_narrow(self._all[names].to_numpy(np.float32)) for names in self._blocks]
        arrays = (self._parse(name) for name in self._all.columns)
        return [_narrow(array) for array in arrays if array is not None]

    @cached_property
    def pixel_columns(self) -> list[str]:
        """Those that are numbered and so many that they must be pixels or samples."""
        return [name for names in self._blocks for name in names]

    @cached_property
    def _blocks(self) -> list[list[str]]:
        """The same, those of one channel together."""
        families = self._families
        most = max(map(len, families.values()), default=0)
        if most < (LEAST_SAMPLES if self.signals else LEAST_PIXELS):
            return []
        largest = [family for family in families.values() if len(family) == most]
        blocks = [[name for _, name in sorted(family)] for family in largest]
        # Sorted, channels have the same order in every table.
        return sorted(blocks) if self.signals else blocks[:1]

    @cached_property
    def _families(self) -> dict[str, list[tuple[int, str]]]:
        """The numbered columns, by what stands before the number."""
        families: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for name in self.header:
            numbered = _NUMBERED.fullmatch(name)
            if numbered and name not in self.classes:
                families[numbered[1]].append((int(numbered[2]), name))
        return dict(families)

    def _require_whole_channels(self) -> None:
        lengths = [array.shape[1] for array in self._numbers]
        if len(set(lengths)) > 1:
            raise TableError(
                f"{self.place}: expected channels of one length, found columns of "
                f"{short_list([str(length) for length in lengths])} numbers a row. Write as many "
                "for each channel"
            )
        if not self.signals or not self.pixel_columns:
            return
        for name, family in self._families.items():
            if LEAST_SAMPLES <= len(family) < lengths[0]:
                raise TableError(
                    f"{self.place}: expected channels of {lengths[0]} samples each, found "
                    f"{len(family)} columns {name}… . Write as many for each channel, or leave "
                    "these out"
                )
            if len(family) == lengths[0] and (gap := _gap(family)):
                raise TableError(
                    f"{self.place}: expected the columns of a channel to be numbered without a "
                    f"gap, found {gap[1]} after {gap[0]}. Write what is missing, or, where nothing "
                    "is, number the columns anew"
                )

    @cached_property
    def whole(self) -> pd.DataFrame:
        """All columns as text: of a sample submission, where none holds pixels."""
        return self.with_classes(self.header).cells

    def with_classes(self, classes: list[str]) -> "Table":
        """The same table, where these columns hold labels, however they are numbered."""
        known, families = frozenset(classes), self._families.values()
        numbered = {name for family in families for _, name in family}
        return self if known.isdisjoint(numbered) else replace(self, classes=known)

    def _parse(self, column: str) -> ndarray | None:
        """The pixels of a column of text, where it holds them. Raises TableError on other rows."""
        texts = self._all[column]
        least = LEAST_SAMPLES if self.signals else LEAST_PIXELS
        first_text = str(texts.iloc[0]) if len(texts) else ""
        if not _PIXELS.fullmatch(first_text) or len(first_text.replace(",", " ").split()) < least:
            return None
        rows = []
        for number, text in enumerate(texts, 1):
            try:
                rows.append(np.array(text.replace(",", " ").split(), np.float32))
            except ValueError as error:
                raise TableError(
                    f"{self.place}: expected numbers in each row of {column}, found "
                    f"{shown(text, 40)} in row {number}"
                ) from error
        sizes = Counter(map(len, rows))
        if len(sizes) > 1:
            usual = sizes.most_common(1)[0][0]
            first = next(row for row, one in enumerate(rows) if len(one) != usual)
            raise TableError(
                f"{self.place}: expected {usual} numbers in each row of {column}, found "
                f"{len(rows[first])} in row {first + 1}"
            )
        return np.stack(rows)

    @property
    def _is_json(self) -> bool:
        return self.path.suffix.lower() == ".json"

    @cached_property
    def _all(self) -> pd.DataFrame:
        if self._is_json:
            return _read_json(self.place, self.path)
        dialect = Dialect(
            self.encoding, self._separator, True, self.pixel_columns, missing=self.signals
        )
        try:
            return read_csv(self.path, dialect)
        except TableError as error:
            raise TableError(str(error).replace(str(self.path), str(self.place))) from error

    @cached_property
    def _separator(self) -> str:
        """The first that gives each of the first lines the same number of fields, at least two."""
        for separator in SEPARATORS:
            counts = {len(row) for row in self._first_rows(separator) if row}
            if len(counts) == 1 and counts != {1}:
                return separator
        # Another one than a comma where its header alone has several fields: the reader says more.
        fields = {one: len(next(self._first_rows(one), [])) for one in SEPARATORS}
        return max(fields, key=lambda separator: fields[separator])

    @cached_property
    def header(self) -> list[str]:
        """The names of all columns, or what else is in the first line."""
        if self._is_json:
            return list(self._all.columns)
        names: list[str] = next(self._first_rows(self._separator), [])
        return [name or f"Unnamed: {place}" for place, name in enumerate(names)]  # as pandas does

    def _first_rows(self, separator: str) -> Any:
        """Another encoding is an error only in the tables that are read whole."""
        encoding = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
        with self.path.open("rb") as binary:
            if binary.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                encoding = "utf-16"
        with self.path.open(encoding=encoding, errors="replace", newline="") as file:
            try:
                yield from islice(csv.reader(file, delimiter=separator), _LINES)
            except csv.Error as error:
                raise CompetitionError(
                    f"{self.place}: expected a CSV, found an invalid line: {error}. "
                    "Repair the file or remove it from the folder"
                ) from error


def _gap(family: list[tuple[int, str]]) -> tuple[str, str] | None:
    """Two neighbours of a numbered family between which a column is missing, or which have the
    same number. Where most numbers are not consecutive, they are something else, such as times."""
    pairs = list(pairwise(sorted(family)))
    if mode(after - before for (before, _), (after, _) in pairs) != 1:
        return None
    apart = (pair for pair in pairs if pair[1][0] - pair[0][0] != 1)
    return next(((before, after) for (_, before), (_, after) in apart), None)


def _narrow(values: ndarray) -> ndarray:
    """Whole numbers from 0 to 255 as images of 8 bits."""
    small = (
        values.astype(np.uint8) if values.size and 0 <= values.min() <= values.max() < 256 else None
    )
    return small if small is not None and np.array_equal(small, values) else values


def _read_json(place: Path, path: Path) -> pd.DataFrame:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), parse_int=str, parse_float=str)
        return _as_table(content)
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise TableError(
            f"{place}: expected a table as JSON: a list of records, or images and annotations; "
            f"found another form ({error})"
        ) from error


def _as_table(content: Any) -> pd.DataFrame:
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        content = _join_annotations(content)
    elif isinstance(content, dict):
        values = list(content.values())
        if values and all(isinstance(value, dict) for value in values):
            rows = list(dict.fromkeys(row for value in values for row in value))
            if len(rows) < len(values):
                return _as_table([{"key": key, **content[key]} for key in content])
            content = [{name: content[name].get(row) for name in content} for row in rows]
        else:
            content = [{"key": key, "value": value} for key, value in content.items()]
    names = dict.fromkeys(name for record in content for name in record)
    if not names:
        raise ValueError("no records")
    columns = {name: [_as_text(record.get(name)) for record in content] for name in names}
    return pd.DataFrame(columns, dtype=str)


def _join_annotations(content: dict[str, Any]) -> list[dict[str, Any]]:
    """A record for each image, with its categories, as COCO's files and those of FGVC have them."""
    names = {}
    for one in content.get("categories", []):
        key = _first(one, "id", *_CATEGORY_KEYS)
        names[key] = one.get("name", key)
    found: dict[str, list[str]] = defaultdict(list)
    for note in content.get("annotations", []):
        category = _first(note, *_CATEGORY_KEYS)
        several = category if isinstance(category, list) else [category]
        found[str(_first(note, *_IMAGE_KEYS))] += map(_as_text, several)
    records = []
    for image in content["images"]:
        record = {name: value for name, value in image.items() if not isinstance(value, dict)}
        if "annotations" in content:
            categories = list(dict.fromkeys(found[str(_first(image, "id", *_IMAGE_KEYS))]))
            record[CATEGORY] = "|".join(categories)
            named = [_as_text(names.get(one, one)) for one in categories]
            if named != categories:
                record[f"{CATEGORY}_name"] = "|".join(named)
        records.append(record)
    return records


def _first(record: dict[str, Any], *keys: str) -> Any:
    """The value of the first key that is there. Raises KeyError."""
    return record[next((key for key in keys if key in record), keys[0])]


def _as_text(value: Any) -> str:
    """A value as a CSV would have it; a list as numbers or words with blanks between."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, list):
        return " ".join(each if isinstance(each, str) else _as_text(each) for each in value)
    return str(value)
