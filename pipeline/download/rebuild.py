"""A competition out of a public dataset of cells: train, test, and a hidden solution.

Made for `iarunava/cell-images-for-detecting-malaria`: 27,558 PNGs in the folders `Parasitized`
and `Uninfected`, the whole tree twice. Everyone who rebuilds it from the same dataset, seed and
share gets the same bytes and so the same leaderboard: every order is that of SHA-256 hashes, and
none comes from a library's random numbers; for the split, which is scikit-learn's,
tests/test_rebuild.py has golden hashes.

The patient is the number after the `C` with which each file name begins; what follows names the
slide. The publisher's tables list 201 slides of 200 patients
(ceb.nlm.nih.gov/repositories/malaria-datasets), and the numbers give these 200.
"""

import re
from collections.abc import Iterable
from fractions import Fraction
from hashlib import sha256
from itertools import cycle
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from jaxtyping import Bool
from numpy import ndarray

from pipeline.core.errors import CompetitionError, examples, require
from pipeline.core.progress import say, track
from pipeline.core.tables import first_repeated
from pipeline.download.config import RebuildSource
from pipeline.download.drawn.files import write_images, write_tables
from pipeline.raw.archive import ImageArchive

LABELS = {"Parasitized": 1, "Uninfected": 0}
"""The label of each class folder, the last folder of an image's path."""

MOST_PARTS = 20
"""The most parts that patients are dealt into. With 160 of the 200, each of 10 parts has 48 to
51 % parasitized cells; each of 20 has up to 60 %."""

_SLIDE = re.compile(r"C([0-9]+)[A-Z0-9_]*?thin.*\.png", re.IGNORECASE | re.ASCII)
_NAMED = (
    "names that begin with the patient, as C39 in "
    "C39P4thinF_original_IMG_20150622_110115_cell_130.png"
)
_ANOTHER = (
    "Set download.dataset in params.yaml to a dataset in the layout of "
    "iarunava/cell-images-for-detecting-malaria"
)


def rebuild_competition(archive: Path, config: RebuildSource, raw: Path, hidden: Path) -> None:
    """Write the competition's files to `raw`, its solution to `hidden`; both are empty.

    archive: the dataset's zip. Images are copied byte by byte, one at a time. Ids and patients'
    names are numbers of shuffled rows and patients: they reveal nothing.
    Raises CompetitionError where folders, names or copies are not the dataset's, and on too few
    patients to split; ArchiveError on a zip that is damaged, a bomb or ambiguous.
    """
    with ImageArchive(archive) as images:
        cells = _list_cells(images)
        in_test = _choose_test(images.place, cells, config)
        train = _number("train", cells[~in_test], config.seed)
        test = _number("test", cells[in_test], config.seed)
        # Private and Public in turn over the shuffled rows of one class, then of the other.
        dealt = test.set_index("name").loc[_shuffled(test["name"], "usage", config.seed)]
        names = dealt.sort_values("label", kind="stable").index
        test["Usage"] = test["name"].map(
            dict(zip(names, cycle(("Private", "Public")), strict=False))
        )
        write_tables(raw, hidden, train[["id", "label", "patient"]], test)
        for rows, name in ((train, "train_data.zip"), (test, "test_data.zip")):
            pngs = (images.read(member) for member in rows["member"])
            write_images(raw / name, list(rows["id"]), pngs, f"packing {name}")
    train_said, test_said = (
        f"{len(rows)} images of {rows['patient'].nunique()} patients, "
        f"{rows['label'].mean():.1%} parasitized"
        for rows in (train, test)
    )
    say(f"train: {train_said}; test: {test_said}, of other patients")


def _list_cells(images: ImageArchive) -> pd.DataFrame:
    """One row an image, by name. Slides of a number are one patient, since a half would leak."""
    if images.ignored:
        others = f"{len(images.ignored)} {examples(images.ignored)}"
        say(f"{images.place}: files that are no images: {others}")
    table = pd.DataFrame({"member": sorted(images.members)})
    paths = [PurePosixPath(member.replace("\\", "/")) for member in table["member"]]
    table["name"], table["folder"] = [p.name for p in paths], [p.parent.name for p in paths]
    folders = set(table["folder"])
    if folders != set(LABELS):
        others_first = sorted(folders, key=lambda folder: (folder in LABELS, folder))
        found = [folder or "none at all" for folder in others_first]
        raise CompetitionError(
            f"{images.place}: expected images in the folders {' and '.join(LABELS)}, and in no "
            f"other, found {f'{len(found)} {examples(found)}' if found else 'no image'}. {_ANOTHER}"
        )
    cells = table.drop_duplicates(["name", "folder"]).sort_values("name", kind="stable")
    names = list(cells["name"])
    slides = {name: _SLIDE.fullmatch(name) for name in names}
    unknown = [name for name, slide in slides.items() if not slide]
    named = (_NAMED, unknown, _ANOTHER)
    once = ("each name in one class", first_repeated(names), _ANOTHER)
    require(CompetitionError, images.place, f"{len(slides)} names", named, once)
    _check_copies(images, table)
    cells["label"] = cells["folder"].map(LABELS)
    cells["patient"] = [f"C{slide[1].lstrip('0')}" for slide in slides.values() if slide]
    return cells[["name", "label", "patient", "member"]].reset_index(drop=True)


def _check_copies(images: ImageArchive, table: pd.DataFrame) -> None:
    """Raise CompetitionError unless members of one class and name are equal; report the copies."""
    table = table.assign(original=table.groupby(["name", "folder"])["member"].transform("first"))
    copies = table[table["member"] != table["original"]]
    pairs = zip(copies["original"], copies["member"], strict=True)
    unequal = [
        f"{original} and {copy}"
        for original, copy in track(pairs, "comparing copies", len(copies))
        if images.read(original) != images.read(copy)
    ]
    requirement = ("images of one class and name to be copies", unequal, _ANOTHER)
    require(CompetitionError, images.place, f"{len(copies)} copies", requirement)
    if len(copies):
        say(
            f"{images.place}: {len(copies)} of {len(table)} images are copies of the same "
            f"class, name and bytes {examples(list(copies['member']))}: left out"
        )


def _choose_test(place: str, cells: pd.DataFrame, config: RebuildSource) -> Bool[ndarray, " rows"]:
    """Which rows are in test: whole patients, balanced over the classes.

    StratifiedGroupKFold deals the least balanced patient into part 0 whatever the seed; so the
    seed also says which parts are test.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # 1.3 s: only for those who rebuild

    share = Fraction(config.test_share).limit_denominator(MOST_PARTS)
    parts = share.denominator
    for folder, label in LABELS.items():
        patients = cells["patient"][cells["label"] == label].nunique()
        if patients < parts:
            raise CompetitionError(
                f"{place}: expected images of at least {parts} patients in {folder}, one for each "
                f"part that download.test_share {config.test_share} deals them into, found "
                f"{patients}. Set download.test_share in params.yaml to 0.5, which needs 2, or "
                "download.dataset to one with more patients"
            )
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=config.seed)
    dealt = [rows for _, rows in splitter.split(cells, cells["label"], cells["patient"])]
    in_test = np.zeros(len(cells), bool)
    for part in _shuffled(map(str, range(parts)), "parts", config.seed)[: share.numerator]:
        in_test[dealt[int(part)]] = True
    for split, labels in (("train", cells["label"][~in_test]), ("test", cells["label"][in_test])):
        if absent := [folder for folder, label in LABELS.items() if label not in set(labels)]:
            raise CompetitionError(
                f"{place}: expected images of both classes in {split}, found {len(labels)} and "
                f"none in {absent[0]}, since patients stay whole. Set download.seed in params.yaml "
                "to another, or download.dataset to one with more patients"
            )
    return in_test


def _number(split: str, cells: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The rows shuffled and numbered, as are the patients."""
    rows = cells.set_index("name").loc[_shuffled(cells["name"], "rows", seed)].reset_index()
    rows["id"] = [f"{split}_{row:05}" for row in range(len(rows))]
    patients = _shuffled(set(cells["patient"]), "patients", seed)
    numbers = {patient: number for number, patient in enumerate(patients)}
    rows["patient"] = [f"patient_{numbers[patient]:03}" for patient in rows["patient"]]
    return rows


def _shuffled(items: Iterable[str], what: str, seed: int) -> list[str]:
    """Sorted by their hashes, which depend on no class, patient or library version."""
    return sorted(items, key=lambda item: sha256(f"{what} {seed} {item}".encode()).digest())
