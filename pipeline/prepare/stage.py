"""Stage `prepare`: data/store/ and data/audit.json from data/raw/, each whole or not at all."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool
from numpy import ndarray

from pipeline.core import paths
from pipeline.core.competition import write_competition
from pipeline.core.errors import TableError
from pipeline.core.files import new_folder, write_text
from pipeline.core.progress import say
from pipeline.core.tables import IMAGE_COLUMNS, check_ids, read_table, write_table
from pipeline.prepare.audit import audit_images
from pipeline.prepare.config import PrepareConfig
from pipeline.prepare.conflicts import (
    check_conflicts,
    describe_conflicts,
    find_conflicts,
    staying,
)
from pipeline.prepare.corrections import correct_labels, describe_corrections, read_corrections
from pipeline.prepare.duplicates import find_duplicates
from pipeline.prepare.layout import Layout, understand
from pipeline.prepare.leaks import find_leaks
from pipeline.prepare.store import (
    Stored,
    check_faults,
    keep_rows,
    store_images,
    summarise_faults,
)


def run(config: PrepareConfig) -> None:
    """Write arrays, tables, audit, and what later stages need of the competition.

    Raises ImageError on images that cannot be read (check_faults), TableError on corrections
    that do not fit, CompetitionError on conflicting labels that shall stop, and what understand
    and store_images raise. Then data/store stays as it was.
    """
    layout = understand(paths.RAW, config)
    with layout.train.archive, layout.test.archive:
        with new_folder(paths.STORE) as store:
            audit, train = _fill_store(store, layout, config)
        write_text(paths.AUDIT, json.dumps(audit, indent=1, ensure_ascii=False) + "\n")
    _tell(audit, train)


def _fill_store(
    store: Path, layout: Layout, config: PrepareConfig
) -> tuple[dict[str, Any], Stored]:
    layout, corrections = _correct(layout, config)
    with warnings.catch_warnings():
        # Pillow warns of oddities in files that it reads all the same, or refuses right after.
        warnings.filterwarnings("ignore", module="PIL")
        train = store_images(layout.train, _in(store, paths.TRAIN_IMAGES), config, "train images")
        test = store_images(layout.test, _in(store, paths.TEST_IMAGES), config, "test images")
    check_faults(layout, train, test, config)
    tables = _mark_duplicates(store, train, test, config)
    conflicts = find_conflicts(tables[0])
    check_conflicts(conflicts, config.conflicts, layout.labels_file)
    stays = staying(tables[0], conflicts, config.conflicts, layout.labels_file)
    left_out = {fault.image_id for fault in train.faults} | set(tables[0]["image_id"][~stays])
    if not stays.all():
        tables = _leave_out(store, *tables, stays)
    for path, table in zip((paths.TRAIN_TABLE, paths.TEST_TABLE), tables, strict=True):
        write_table(_in(store, path), table)
    audit = audit_images(*tables, layout, train.faults)
    audit["corrections"] = corrections
    audit["conflicts"] = describe_conflicts(conflicts, config.conflicts, audit["clusters"])
    audit["leaks"] = find_leaks(tables[0], layout.train.archive, train.encodings)
    write_competition(_in(store, paths.COMPETITION), layout.competition)
    shutil.copyfile(layout.sample_submission, _in(store, paths.SAMPLE_SUBMISSION))
    _check_store(store, layout, left_out)
    return audit, train


def _correct(layout: Layout, config: PrepareConfig) -> tuple[Layout, dict[str, Any]]:
    """The layout with the labels that count, and what the audit says of the corrections."""
    if config.corrections is None:
        return layout, describe_corrections(None, None)
    path = Path(config.corrections)
    corrections = read_corrections(path)
    return correct_labels(layout, corrections, path), describe_corrections(corrections, path)


def _tell(audit: dict[str, Any], train: Stored) -> None:
    if corrected := audit["corrections"]["count"]:
        turns = ", ".join(f"{turn}: {n}" for turn, n in audit["corrections"]["by_class"].items())
        say(f"labels corrected by {audit['corrections']['file']}: {corrected} ({turns})")
    if train.faults:
        say(f"left out of train: {summarise_faults(train)}")
    if left := audit["conflicts"]["excluded"]:
        say(f"left out of train: {left} images with the same pixels and different labels")
    for check in audit["leaks"]["checks"]:
        if check.get("flagged"):
            say(check["sentence"])
    found = audit["duplicates"]
    say(
        f"{audit['train']['rows']} training and {audit['test']['rows']} test images; clusters of "
        f"duplicates: {found['clusters']} (largest: {found['largest']} images, across train and "
        f"test: {found['where']['both']}, across groups: {found['spans_groups']}, with conflicting "
        f"labels: {found['conflicting_labels']}), in {paths.AUDIT}"
    )


def _mark_duplicates(
    store: Path, train: Stored, test: Stored, config: PrepareConfig
) -> tuple[pd.DataFrame, pd.DataFrame]:
    arrays = [
        np.load(_in(store, path), mmap_mode="r") for path in (paths.TRAIN_IMAGES, paths.TEST_IMAGES)
    ]
    firsts = find_duplicates(
        arrays, [*train.fingerprints, *test.fingerprints], config.near_duplicate
    )
    images = pd.concat([train.table, test.table], ignore_index=True)
    images["duplicate"] = images["image_id"].to_numpy()[firsts]
    images = images[IMAGE_COLUMNS]
    return images.iloc[: len(train.table)], images.iloc[len(train.table) :]


def _leave_out(
    store: Path, train: pd.DataFrame, test: pd.DataFrame, stays: Bool[ndarray, " rows"]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Array and tables without the training images that do not stay.

    A cluster is then named after the first image that is left of it.
    """
    keep_rows(_in(store, paths.TRAIN_IMAGES), stays)
    train = train[stays]
    images = pd.concat([train, test], ignore_index=True)
    images["duplicate"] = images.groupby("duplicate")["image_id"].transform("first")
    return images.iloc[: len(train)], images.iloc[len(train) :]


def _check_store(store: Path, layout: Layout, left_out: set[str]) -> None:
    """Read back what was written: rows of arrays and tables, ids."""
    kept = [image_id for image_id in layout.train.image_ids if image_id not in left_out]
    for images, table, expected in (
        (paths.TRAIN_IMAGES, paths.TRAIN_TABLE, kept),
        (paths.TEST_IMAGES, paths.TEST_TABLE, layout.test.image_ids),
    ):
        ids = read_table(_in(store, table), IMAGE_COLUMNS)["image_id"].tolist()
        check_ids(table, ids, expected)
        rows = len(np.load(_in(store, images), mmap_mode="r"))
        if ids != expected or rows != len(ids):
            raise TableError(
                f"{table}: expected {len(expected)} ids in the order of the competition's and a "
                f"row of {images} for each, found {len(ids)} ids and {rows} rows"
            )


def _in(store: Path, path: Path) -> Path:
    """Where a file of data/store is while the folder is being written."""
    return store / path.name
