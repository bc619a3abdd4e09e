"""Stage `prepare`: data/store/ from data/raw/, whole or not at all."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import paths
from pipeline.competition import write_competition
from pipeline.config.prepare import PrepareConfig
from pipeline.errors import TableError
from pipeline.files import new_folder, write_text
from pipeline.prepare.audit import audit_images
from pipeline.prepare.duplicates import find_duplicates
from pipeline.prepare.layout import Layout, understand
from pipeline.prepare.store import Stored, check_faults, store_images, summarise_faults
from pipeline.progress import say
from pipeline.tables import IMAGE_COLUMNS, check_ids, read_table, write_table


def run(config: PrepareConfig) -> None:
    """Write arrays, tables, audit, and what later stages need of the competition.

    Raises ImageError on images that cannot be read (check_faults), and what understand and
    store_images raise. Then data/store stays as it was.
    """
    layout = understand(paths.RAW, config)
    with layout.train.archive, layout.test.archive, new_folder(paths.STORE) as store:
        _fill_store(store, layout, config)


def _fill_store(store: Path, layout: Layout, config: PrepareConfig) -> None:
    with warnings.catch_warnings():
        # Pillow warns of oddities in files that it reads all the same, or refuses right after.
        warnings.filterwarnings("ignore", module="PIL")
        train = store_images(layout.train, _in(store, paths.TRAIN_IMAGES), config, "train images")
        test = store_images(layout.test, _in(store, paths.TEST_IMAGES), config, "test images")
    check_faults(layout, train, test, config)
    tables = _mark_duplicates(store, train, test, config)
    for path, table in zip((paths.TRAIN_TABLE, paths.TEST_TABLE), tables, strict=True):
        write_table(_in(store, path), table)
    audit = audit_images(*tables, layout, train.faults)
    write_text(_in(store, paths.AUDIT), json.dumps(audit, indent=1, ensure_ascii=False) + "\n")
    write_competition(_in(store, paths.COMPETITION), layout.competition)
    shutil.copyfile(layout.sample_submission, _in(store, paths.SAMPLE_SUBMISSION))
    _check_store(store, layout, train)
    if train.faults:
        say(f"left out of train: {summarise_faults(train)}")
    found = audit["duplicates"]
    say(
        f"{len(tables[0])} training and {len(tables[1])} test images; clusters of duplicates: "
        f"{found['clusters']} (largest: {found['largest']} images, across train and test: "
        f"{found['where']['both']}, across groups: {found['spans_groups']}, with conflicting "
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


def _check_store(store: Path, layout: Layout, train: Stored) -> None:
    """Read back what was written: rows of arrays and tables, ids."""
    excluded = {fault.image_id for fault in train.faults}
    kept = [image_id for image_id in layout.train.image_ids if image_id not in excluded]
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
