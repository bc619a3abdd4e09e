"""Stage `prepare`: data/store/ and data/audit.json from data/raw/, each whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.core import paths
from pipeline.core.arrays import read_array
from pipeline.core.audit import Audit, FoundRange
from pipeline.core.competition import ImageDecoding, write_decoding
from pipeline.core.errors import TableError, plural, short_list
from pipeline.core.files import new_folder
from pipeline.core.progress import say
from pipeline.core.record import write_record
from pipeline.core.tables import IMAGE_COLUMNS, check_ids, read_table, write_table
from pipeline.core.task import AnyOf, OneOf, Task
from pipeline.prepare.audit import count_clusters, describe_split, find_clusters, find_twins
from pipeline.prepare.config import ImagesConfig, PrepareConfig, SignalsConfig
from pipeline.prepare.conflicts import apply_rule, describe_conflicts, find_conflicts
from pipeline.prepare.corrections import correct_labels
from pipeline.prepare.decode import Decoder, ImageDecoder
from pipeline.prepare.duplicates import find_duplicates
from pipeline.prepare.layout import Layout, Split, understand
from pipeline.prepare.leaks import find_leaks
from pipeline.prepare.rare import merge_rare
from pipeline.prepare.signal_files import ShapeError, SignalDecoder
from pipeline.prepare.store import (
    check_readable,
    describe_unreadable,
    find_channels,
    keep_one_channel,
    keep_rows,
    range_of_images,
    store_rows,
)
from pipeline.prepare.survey import choose_decoding, describe_misfit
from pipeline.scoring.metrics import metric_named
from pipeline.scoring.plan import Choices, plan, try_metric
from pipeline.split.config import SplitConfig
from pipeline.split.rare import require_rule


def run(
    config: PrepareConfig,
    metric_name: str,
    split: SplitConfig | None = None,
    choices: Choices | None = None,
) -> None:
    """Write arrays, tables, audit, and what later stages need of the competition.

    metric_name, choices: of section ensemble; compared with the task and the sample submission
    before anything is trained. split: what decides which classes are merged; None merges none.
    Raises SubmissionError or EnsembleError where they do not fit, ImageError on images that cannot
    be read, TableError on corrections that do not fit, CompetitionError on conflicting labels with
    `conflicts: stop`, FoldError on classes that cannot be merged, and what understand and
    store_rows raise. Then data/store stays as it was.
    """
    with (
        understand(paths.RAW, config, metric_named(metric_name)) as layout,
        new_folder(paths.STORE) as store,
    ):
        task = layout.competition.task
        sample = layout.sample
        metric, _ = plan(metric_name, choices or Choices(), sample.place, task, sample.table)
        if split:
            require_rule(split.rare, task)
        write_table(store / paths.SAMPLE_SUBMISSION.name, sample.table)
        train_array, test_array = store / paths.TRAIN_IMAGES.name, store / paths.TEST_IMAGES.name
        layout, corrections = correct_labels(
            layout, Path(config.corrections) if config.corrections else None
        )
        try_metric(metric, task, task.encode(layout.labels_file, layout.train.labels))

        decoder, found_range = _choose_decoder(layout.train, config)
        with _misfits_explained(layout, config):
            stored = store_rows(layout.train, train_array, decoder, f"train {config.row}s")
            stored_test = store_rows(layout.test, test_array, decoder, f"test {config.row}s")
        check_readable(layout, stored, stored_test, config)
        decoding, found_channels = decoder.decoding, None
        if isinstance(config, ImagesConfig) and config.channels == "auto":
            found_channels = find_channels(stored, stored_test)
            decoding = decoding.model_copy(update={"channels": found_channels.channels})
            if found_channels.channels == 1:
                keep_one_channel(train_array, len(stored.table))
                keep_one_channel(test_array, len(stored_test.table))

        images = pd.concat([stored.table, stored_test.table], ignore_index=True)
        firsts = find_duplicates(
            [
                read_array(train_array, len(stored.table)),
                read_array(test_array, len(stored_test.table)),
            ],
            [*stored.fingerprints, *stored_test.fingerprints],
            config.near_duplicate,
        )
        images["duplicate"] = images["image_id"].to_numpy()[firsts]

        conflicts = find_conflicts(stored.table)
        stays = apply_rule(stored.table, conflicts, config, layout.labels_file, task)
        if not stays.all():
            keep_rows(train_array, stays)
            images = images[np.append(stays, [True] * len(stored_test.table))]
            # A cluster is named after the first image that is left of it.
            images["duplicate"] = images.groupby("duplicate")["image_id"].transform("first")
        train = images[: stays.sum()][IMAGE_COLUMNS]
        test = images[stays.sum() :][IMAGE_COLUMNS]

        write_table(store / paths.TRAIN_TABLE.name, train)
        write_table(store / paths.TEST_TABLE.name, test)
        competition = layout.competition
        if split:
            merged = merge_rare(train, task, metric, split)
            competition = competition.model_copy(update={"task": merged})
        write_record(store / paths.COMPETITION.name, competition)
        write_decoding(store / paths.DECODING.name, decoding)

        clusters = find_clusters(train, test)
        audit = Audit(
            train=describe_split(train, stored.notes, layout.train.ignored, task),
            test=describe_split(test, stored_test.notes, layout.test.ignored, None),
            found_range=found_range,
            found_channels=found_channels,
            possible_groups=layout.possible_groups,
            excluded=stored.unreadable,
            corrections=corrections,
            conflicts=describe_conflicts(conflicts, config, clusters),
            duplicates=count_clusters(clusters),
            clusters=clusters,
            train_test_duplicates=find_twins(train, test, config.row),
            leaks=find_leaks(train, task, layout.train.images, stored.encodings, config.row),
        )
        left_out = {image.image_id for image in stored.unreadable}
        left_out |= set(stored.table["image_id"][~stays])
        kept = [image_id for image_id in layout.train.image_ids if image_id not in left_out]
        _check_written(store, paths.TRAIN_IMAGES, paths.TRAIN_TABLE, kept, task)
        _check_written(store, paths.TEST_IMAGES, paths.TEST_TABLE, layout.test.image_ids, None)
    write_record(paths.AUDIT, audit)
    if stored.unreadable:
        say(f"left out of train: {describe_unreadable(stored, config.row)}")
    _tell(audit, task, config)


def _choose_decoder(train: Split, config: PrepareConfig) -> tuple[Decoder, FoundRange | None]:
    """The range of more than 8 bits is the parameters', or is found in the training images; a
    signal's rate and shape, too, are the parameters', or those of the first training signal.

    The channels are those to begin with: whether all images are grey shows when they are stored.
    """
    if isinstance(config, SignalsConfig):
        return SignalDecoder(choose_decoding(train, config)), None
    found, black_white = None, None
    if config.bits:
        black_white = 0.0, 2.0**config.bits - 1
    elif found := range_of_images(train, config, "range of train images"):
        black_white = found.black, found.white
    decoding = ImageDecoding(
        size_px=config.size_px,
        channels=1 if config.channels == 1 else 3,
        fit=config.fit,
        black_white=black_white,
    )
    return ImageDecoder(decoding, config.max_side_px), found


@contextmanager
def _misfits_explained(layout: Layout, config: PrepareConfig) -> Iterator[None]:
    try:
        yield
    except ShapeError as error:
        assert isinstance(config, SignalsConfig)
        raise describe_misfit([layout.train, layout.test], config, error) from error


def _check_written(
    store: Path, images: Path, table: Path, image_ids: list[str], task: Task | None
) -> None:
    """What later stages rely on, read from the disk. Raises TableError where it does not hold."""
    written = read_table(store / table.name, IMAGE_COLUMNS)
    check_ids(table, list(written["image_id"]), image_ids)
    read_array(store / images.name, len(image_ids))
    if task:
        task.encode(table, written["label"])
    post_conditions = {
        "the ids in the competition's order": list(written["image_id"]) == image_ids,
        "no labels in test": task is not None or set(written["label"]) == {""},
    }
    for expected, holds in post_conditions.items():
        if not holds:
            raise TableError(f"{table}: expected {expected}, found otherwise")


def describe_task(task: Task) -> str:
    """The task in a few words."""
    match task:
        case OneOf(ordered=ordered):
            return f"one of {len(task.outputs)} classes{', in their order' if ordered else ''}"
        case AnyOf():
            return f"{plural(len(task.outputs), 'label')}, any of which may hold"
        case _:
            return plural(len(task.outputs), "number")


def _tell(audit: Audit, task: Task, config: PrepareConfig) -> None:
    row = config.row
    for name, values in audit.possible_groups.items():
        say(
            f"not used: column {name} with {values} values: if these belong together, such as "
            f"patients, set prepare.groups to {{source: column, column: {name}}}"
        )
    for found in (audit.found_range, audit.found_channels):
        if found:
            say(found.sentence)
    for name, split in (("train", audit.train), ("test", audit.test)):
        for note, images in split.notes.items():
            say(f"{name}: {images} of {split.rows} {row}s: {note}")
    say(f"task: {describe_task(task)}: {short_list(task.outputs, most=10)}")
    if audit.corrections.count:
        turns = ", ".join(f"{turn}: {count}" for turn, count in audit.corrections.by_class.items())
        say(f"labels corrected by {audit.corrections.file}: {audit.corrections.count} ({turns})")
    if left := audit.conflicts.excluded:
        what = f"{config.row}s with the same {config.content}"
        say(f"left out of train: {left} {what} and different labels")
    for check in audit.leaks.checks:
        if check.flagged:
            say(check.sentence)
    same = audit.duplicates
    say(
        f"{audit.train.rows} training and {audit.test.rows} test {row}s; clusters of duplicates: "
        f"{same.clusters} (largest: {same.largest} {row}s, across train and test: "
        f"{same.where['both']}, across groups: {same.spans_groups}, with conflicting labels: "
        f"{same.conflicting_labels}), in {paths.AUDIT}"
    )
