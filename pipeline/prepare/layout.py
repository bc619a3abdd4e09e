"""The raw folder as a whole: which image, label and group belong to which id.

An id belongs to the image whose file name equals it, with or without its suffix. Train and test
may lie in one archive: each of its images then belongs to either. An image without an id, or a
test id without an image, is an error that names the parameter to set.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.core.competition import Competition
from pipeline.core.errors import CompetitionError, examples, require
from pipeline.core.task import Kind
from pipeline.prepare.config import GroupsFromFile, GroupsFromName, PrepareConfig
from pipeline.prepare.groups import groups_from_file, groups_from_names
from pipeline.prepare.labels import Labelled, Sample, read_labels, read_sample
from pipeline.raw.archive import IMAGE_SUFFIXES, ImageArchive
from pipeline.raw.roles import RawFolder
from pipeline.scoring.metric import Metric


@dataclass(frozen=True)
class Split:
    """Train or test. Parallel lists, in the order of the labels file or sample submission.

    row_ids: of the rows that are predicted; a row may have several images, one after the other.
    labels: the class as written; empty in test. groups: the image_id itself where there are no
    groups, or where the group is in the name of an image that is missing; empty in test.
    members: the image of each id that has one.
    """

    archive: ImageArchive
    image_ids: list[str]
    row_ids: list[str]
    labels: list[str]
    groups: list[str]
    members: dict[str, str]

    @property
    def missing(self) -> list[str]:
        """The ids without an image; in test there are none."""
        return [image_id for image_id in self.image_ids if image_id not in self.members]


@dataclass(frozen=True)
class Layout:
    """What prepare needs to know of the raw folder."""

    competition: Competition
    train: Split
    test: Split
    sample_submission: Path
    labels_file: Path


@contextmanager
def understand(raw: Path, config: PrepareConfig, metric: Metric) -> Iterator[Layout]:
    """Find the files; match ids, labels, groups and images. The archives are open in the block.

    Raises CompetitionError on a missing or ambiguous file, what labels.py and groups.py refuse,
    images without an id, and a test id without an image (a training id without one is in
    Split.missing). Raises TableError on an invalid CSV, ArchiveError on a zip that is damaged,
    ambiguous or a bomb.
    """
    folder = RawFolder.of(raw)
    sample = read_sample(folder.sample_submission(config.sample_submission))
    labels = folder.labels(str(config.labels), sample.path, sample.columns)
    labelled = read_labels(labels, sample, _kind(config, metric), config.classes)
    competition = Competition(
        id_column=sample.columns[0],
        label_column=sample.columns[1] if len(sample.columns) == 2 else labelled.label_column,
        task=labelled.task,
    )
    with (
        ImageArchive(*folder.images(config.train_images, "train")) as train_images,
        ImageArchive(*folder.images(config.test_images, "test")) as test_images,
    ):
        members = _match_images(train_images, labelled, "train")
        test_members = _match_images(test_images, sample, "test")
        groups = labelled.image_ids
        if isinstance(config.groups, GroupsFromFile):
            id_columns = [sample.columns[0], labelled.id_column]
            file = folder.groups(config.groups.file, sample.path, labelled.path, id_columns)
            groups = groups_from_file(file, labelled, sample)
        elif isinstance(config.groups, GroupsFromName):
            pattern = config.groups.pattern
            groups = groups_from_names(train_images.place, pattern, labelled.image_ids, members)
        unknown = [""] * len(sample.image_ids)
        ids = labelled.image_ids
        train = Split(train_images, ids, ids, labelled.labels, groups, members)
        ids = sample.image_ids
        test = Split(test_images, ids, ids, unknown, unknown, test_members)
        require(
            CompetitionError,
            test_images.place,
            f"{len(test.image_ids)} ids",
            (
                f"an image for each id of {sample.path.name}",
                test.missing,
                "Get the archive from its source again, or set prepare.test_images in params.yaml",
            ),
        )
        _check_claimed(train, test, labelled.path)
        _check_claimed(test, train, sample.path)
        yield Layout(competition, train, test, sample.path, labelled.path)


def _kind(config: PrepareConfig, metric: Metric) -> Kind | None:
    """The task where the parameters decide it."""
    if config.task != "auto":
        return config.task
    return metric.tasks[0] if len(metric.tasks) == 1 and metric.tasks != ("one_of",) else None


def _match_images(
    archive: ImageArchive, table: Sample | Labelled, split: Literal["train", "test"]
) -> dict[str, str]:
    found = f"no match among {len(archive.members)} images {examples(archive.members)}"
    if not archive.members:
        others = f"{len(archive.ignored)} other files {examples(archive.ignored)}"
        found = others if archive.ignored else "nothing at all"
    members = archive.match_ids(table.image_ids)
    if not members:
        raise CompetitionError(
            f"{archive.place}: expected images ({' '.join(IMAGE_SUFFIXES)}) named like the "
            f"{len(table.image_ids)} ids of {table.path.name} {examples(table.image_ids)}, found "
            f"{found}. Set prepare.{split}_images in params.yaml to NAME.zip or NAME.zip/FOLDER"
        )
    return members


def _check_claimed(split: Split, other: Split, source: Path) -> None:
    """Raise CompetitionError on an image that no id claims."""
    archive = split.archive
    claimed = set(split.members.values())
    if other.archive.place == archive.place:
        claimed.update(other.members.values())
    unclaimed = [member for member in archive.members if member not in claimed]
    remedy = (
        "Add their ids, or set prepare.train_images or prepare.test_images in params.yaml to the "
        "right folder (NAME.zip/FOLDER)"
    )
    requirement = (f"only images of the ids in {source.name}", unclaimed, remedy)
    require(CompetitionError, archive.place, f"{len(archive.members)} images", requirement)
