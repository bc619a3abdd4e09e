"""Competitions drawn small from a table of layouts: file names, columns, ids and labels of real ones.

The hue of a disc is the class, a square of a hue each of several labels, brightness a number; in grey
pictures the brightness of disc and ground is the class. So a tiny network learns all of it in seconds.
"""

import colorsys
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from PIL import Image

COLOURS = ("red", "green", "blue")


def _nothing(_n: int) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Layout:
    """A competition's folder.

    Paths and ids are templates. In both: {n} and {n1} count a split's rows from 0 or 1, {k} those
    of a class, {word} is the class's among `words`, and what `fields` makes of n. In ids {h9}, {d9}
    and {z9} are nine hexadecimal digits, digits, and digits with leading zeros; in paths {id},
    {label} and {part}, one of `parts`.

    A table is `column=source, …` of the rows of train, or of test where its name says so. A source
    is a field; `flag`, `pixels`, `text` (the pixels as one), `band` (75 × 75 numbers); `random`;
    `?a|b` for any of them; or else the cell itself. The column `*` stands for one of each class, and
    `x[1-64]` for 64. Where `part` or `image` is a source, it has a row for each image.
    """

    metric: str
    bar: float
    """What the submission reaches at least; of an error at most."""
    ids: str | tuple[str, str]
    """Of train and test, where they differ."""
    train: str
    test: str
    tables: dict[str, str | Callable[["Drawn"], Any]]
    classes: Sequence[str] = ()
    """Or the names of the numbers."""
    kind: Literal["one_of", "any_of", "number"] = "one_of"
    sets: Sequence[str] = ()
    """Of any_of, where not every set is possible."""
    span: tuple[float, float, int] = (0, 1, 3)
    """Of numbers: the least, the greatest, and how many decimals."""
    rows: tuple[int, int] = (96, 32)
    parts: Sequence[str] = ("",)
    words: Sequence[str] = ()
    fields: Callable[[int], dict[str, Any]] = _nothing
    grey: bool = False
    side: int = 28
    packed: dict[str, str] = field(default_factory=dict)
    """Archives, each with the beginning of the paths inside; "" is everything in one."""
    others: dict[str, bytes] = field(default_factory=dict)
    """Files that do not matter, a picture where empty; with braces in the path one for each row."""
    prepare: dict[str, Any] = field(default_factory=dict)
    """What a person has to say in params.yaml."""
    epochs: int = 8
    seed: int = 1
    """Decides the network's first weights."""

    @property
    def sample(self) -> str:
        return next(
            (name for name in self.tables if re.search("(?i)submission|benchmark", name)), ""
        )


@dataclass
class Row:
    """What is predicted, with its pictures."""

    truth: np.ndarray
    fields: dict[str, Any]
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    """For each part its own fields."""


class Drawn:
    """A competition's files, and what it hides."""

    def __init__(self, layout: Layout, seed: int = 1) -> None:
        self.layout = layout
        self.rng = np.random.default_rng(seed)
        self._taken: set[str] = set()
        self.files: dict[str, bytes] = {}
        self.train, self.test = self._rows(0), self._rows(1)
        for path, content in layout.others.items():
            rows = self._of(path) if "{" in path else [Row(np.zeros(1), {})]
            for row in rows:
                name = path.format(**row.fields)
                self.files[name] = content or self._file(name, row.truth)
        self.tables = {name: self._table(name) for name in layout.tables}
        for name, table in self.tables.items():
            is_table = isinstance(table, pd.DataFrame)
            text = json.dumps(table.to_dict("records") if is_table else table, default=_plain)
            self.files[name] = (
                table.to_csv(index=False) if is_table and name.endswith(".csv") else text
            ).encode()

    @property
    def truth(self) -> np.ndarray:
        """Of the test rows: class indices, flags or numbers."""
        return np.array([row.truth for row in self.test])

    def write(self, folder: Path) -> Path:
        """The folder as a competitor has it."""
        files = dict(self.files)
        for archive, start in self.layout.packed.items():
            inside = {name: files.pop(name) for name in list(files) if name.startswith(start)}
            files[archive] = pack(archive, inside)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    def _of(self, name: str) -> list[Row]:
        return self.test if re.search("(?i)test|submission|benchmark", name) else self.train

    def _rows(self, split: int) -> list[Row]:
        layout = self.layout
        count = layout.rows[split]
        each = max(len(layout.classes), 1)
        order = np.arange(count) % each  # every class in train, and as often as the others
        rows = []
        for n, place in enumerate(self.rng.permutation(order) if split else order):
            here = n + split * layout.rows[0]
            fields = {"n": n, "n1": n + 1, "k": n // each, **layout.fields(here)}
            truth, light = self._truth(int(place))
            if layout.kind == "one_of":
                fields |= {
                    "label": layout.classes[place],
                    "word": (layout.words or [""] * each)[place],
                }
            elif layout.kind == "any_of":
                names = [name for name, holds in zip(layout.classes, truth, strict=True) if holds]
                fields["label"] = " ".join(names)
            else:
                fields["label"] = f"{truth[0]:g}"
            ids = layout.ids if isinstance(layout.ids, str) else layout.ids[split]
            fields["id"] = self._name(ids, fields)
            row = Row(truth, fields)
            pixels = self._picture(truth, light)
            for number, part in enumerate(layout.parts):
                image = 10**8 + 7919 * (here * len(layout.parts) + number)
                path = (layout.train, layout.test)[split].format(part=part, image=image, **fields)
                row.images[part] = {"part": part, "image": image, "path": path, "pixels": pixels}
                if path:
                    self.files[path] = self._file(path, truth, light, part)
            rows.append(row)
        return [rows[place] for place in self.rng.permutation(count)]

    def _name(self, template: str, fields: dict[str, Any]) -> str:
        digits = {"h": "0123456789abcdef", "d": "123456789", "z": "0123456789"}

        def draw(match: re.Match[str]) -> str:
            return "".join(self.rng.choice(list(digits[match[1]]), int(match[2])))

        while (name := re.sub(r"\{([hdz])(\d+)\}", draw, template).format(**fields)) in self._taken:
            assert re.search(r"\{[hdz]\d+\}", template), f"{template}: {name} twice"
        if re.search(r"\{[hdz]\d+\}", template):
            self._taken.add(name)
        return name

    def _truth(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        """And the light of red, green and blue."""
        layout, light = self.layout, self.rng.random(3)
        if layout.kind == "one_of":
            return np.array(place), light
        if layout.kind == "any_of":
            chosen = list(self.rng.choice(layout.sets).split()) if layout.sets else []
            return np.array(
                [
                    name in chosen if layout.sets else self.rng.random() < 0.35
                    for name in layout.classes
                ]
            ), light
        least, greatest, digits = layout.span
        light[1:] = light[0] if layout.grey or len(layout.classes) == 1 else light[1:]
        numbers = [least + (greatest - least) * light[n % 3] for n in range(len(layout.classes))]
        return np.round(numbers, digits), light

    def _file(
        self, path: str, truth: np.ndarray, light: np.ndarray | None = None, part: str = ""
    ) -> bytes:
        """A picture, encoded as the path's suffix says; a part named like a colour is that channel."""
        pixels = self._picture(truth, self.rng.random(3) if light is None else light)
        if part in COLOURS:
            pixels = pixels[..., COLOURS.index(part)]
        elif self.layout.grey or part:
            pixels = pixels.mean(axis=2).astype(np.uint8)
        out, suffix = io.BytesIO(), Path(path).suffix.lower()
        if suffix == ".npy":  # six planes of a spectrum
            noise = self.rng.normal(0, 1, (6, 27, 26)) + pixels.mean() / 32
            np.save(out, noise.astype(np.float16))
        elif suffix == ".dcm":
            write_dicom(out, pixels.astype(np.uint16) * 16)
        elif suffix in (".png", ".tif", ".bmp"):
            Image.fromarray(pixels).save(out, {".tif": "TIFF"}.get(suffix, suffix[1:]))
        else:
            Image.fromarray(pixels).save(out, "JPEG", quality=95, subsampling=0)
        return out.getvalue()

    def _picture(self, truth: np.ndarray, light: np.ndarray) -> np.ndarray:
        side, count = self.layout.side, len(self.layout.classes)
        if self.layout.kind == "number":
            pixels = np.ones((side, side, 3)) * (40 + 170 * light)
        elif self.layout.kind == "any_of":
            pixels = np.full((side, side, 3), 110.0)
            across = int(np.ceil(count**0.5))
            size = side // across
            for place in np.flatnonzero(truth):
                top, left = size * (place // across), size * (place % across)
                pixels[top : top + size, left : left + size] = colour(place, count)
        else:
            across = int(np.ceil(count**0.5))
            levels = np.linspace(20, 235, max(across, 2))
            disc, ground = levels[truth % across], levels[truth // across]
            if not self.layout.grey:
                disc, ground = colour(int(truth), count), 110.0
            pixels = np.ones((side, side, 3)) * ground
            y, x = np.mgrid[:side, :side] - side * self.rng.uniform(0.4, 0.6, 2)[:, None, None]
            pixels[y**2 + x**2 < (side * self.rng.uniform(0.3, 0.45)) ** 2] = disc
        return (pixels + self.rng.normal(0, 8, pixels.shape)).clip(0, 255).astype(np.uint8)

    def _table(self, name: str) -> Any:
        spec = self.layout.tables[name]
        if callable(spec):
            return spec(self)
        columns: dict[str, list[Any]] = {}
        pairs = [pair.split("=", 1) for pair in spec.split(", ")]
        each = bool({"part", "image"} & {source for _, source in pairs})
        images = [
            (row, image)
            for row in self._of(name)
            for image in (row.images.values() if each else list(row.images.values())[:1])
        ]
        for column, source in pairs:
            names = list(self.layout.classes) if column == "*" else [column]
            if match := re.fullmatch(r"(.*)\[(\d+)-(\d+)\]", column):
                names = [f"{match[1]}{n}" for n in range(int(match[2]), int(match[3]) + 1)]
            cells = [
                [self._cell(source, row, image, n) for n in range(len(names))]
                for row, image in images
            ]
            columns |= {each: [row[n] for row in cells] for n, each in enumerate(names)}
        return pd.DataFrame(columns)

    def _cell(self, source: str, row: Row, image: dict[str, Any], n: int) -> Any:
        pixels = image["pixels"][..., 0].ravel()
        if source == "flag" and self.layout.kind == "number":
            return row.truth[n] if self.layout.span[2] else int(row.truth[n])
        if source == "flag":
            return int(row.truth == n) if self.layout.kind == "one_of" else int(row.truth[n])
        if source == "pixels":
            return int(pixels[n])
        if source == "text":
            return " ".join(map(str, pixels))
        if source == "band":
            return (self.rng.normal(-25, 3, 75 * 75) + pixels.mean() / 12).round(4).tolist()
        if source == "random":
            return round(float(self.rng.random()), 6)
        if source.startswith("?"):
            return str(self.rng.choice(source[1:].split("|")))
        return image.get(source, row.fields.get(source, source))


def colour(place: int, count: int) -> np.ndarray:
    """A hue each; of many classes points of a grid of colours."""
    if count <= 20:
        return 235 * np.array(colorsys.hsv_to_rgb(place / count, 0.95, 1.0))
    side = int(np.ceil(count ** (1 / 3)))
    return 15 + 225 * np.array(np.unravel_index(place, (side, side, side))) / (side - 1)


def write_dicom(out: io.BytesIO, pixels: np.ndarray) -> None:
    """12 bits in 16."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    image = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    image.PhotometricInterpretation, image.SamplesPerPixel = "MONOCHROME2", 1
    image.Rows, image.Columns = pixels.shape
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PixelRepresentation = 0
    image.PixelData = pixels.tobytes()
    image.save_as(out, enforce_file_format=True)


def pack(archive: str, files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    if archive.endswith(".zip"):
        with zipfile.ZipFile(out, "w") as packed:
            for name, content in files.items():
                packed.writestr(name, content)
    elif archive.endswith(".7z"):
        import py7zr

        with py7zr.SevenZipFile(out, "w", filters=[{"id": py7zr.FILTER_COPY}]) as packed:
            for name, content in files.items():
                packed.writestr(content, name)
    else:
        with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as packed:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                packed.addfile(member, io.BytesIO(content))
    return out.getvalue()


def _plain(value: Any) -> Any:
    """NumPy's numbers as JSON's."""
    return value.item()
