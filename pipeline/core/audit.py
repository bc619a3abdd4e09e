"""data/audit.json: what is broken, doubled or leaking in the images.

Stage `prepare` writes it; the report shows it, and the ledger explains scores with it.
"""

from typing import Literal

from pipeline.core.record import Count, Figure, Interval, Real, Record

Sameness = Literal["file", "pixels", "near"]
"""Equal files, else equal stored pixels or samples, else pixels that nearly are."""

Where = Literal["train", "test", "both"]
"""Which of the splits hold the images of a cluster."""


class SizeRange(Record):
    """A size of the originals, in pixels."""

    min: Real
    median: Real
    max: Real


class SplitAudit(Record):
    """The images of train or test that are stored; in test there are no classes and groups.

    modes: as each reader names them (prepare/opened.py). notes: what was done to how many images,
    such as that only the first page is read. other_files: what the archive holds beside images.
    """

    rows: Count
    classes: dict[str, Count]
    groups: Count
    width: SizeRange
    height: SizeRange
    modes: dict[str, Count]
    notes: dict[str, Count]
    other_files: list[str]


class FoundRange(Record):
    """Black and white as found in the training images with more than 8 bits. images: of them."""

    black: float
    white: float
    images: Count
    sentence: str


class FoundChannels(Record):
    """How many channels are stored, as found in all images. colour: of how many is not grey."""

    channels: Literal[1, 3]
    colour: Count
    sentence: str


class Unreadable(Record):
    """An image that has no row since it cannot be read, and why."""

    image_id: str
    reason: str


class Cluster(Record):
    """Images that are the same or nearly so; labels and groups are those of its train images."""

    image_ids: list[str]
    kind: Sameness
    where: Where
    labels: list[str]
    groups: list[str]

    @property
    def conflicting_labels(self) -> bool:
        """Whether at least one label must be wrong."""
        return len(self.labels) > 1

    @property
    def spans_groups(self) -> bool:
        """Whether it joins groups, which `split` then keeps in one fold."""
        return len(self.groups) > 1


class DuplicateCounts(Record):
    """How many clusters there are. largest: number of images in one."""

    clusters: Count
    images: Count
    largest: Count
    kind: dict[Sameness, Count]
    where: dict[Where, Count]
    conflicting_labels: Count
    spans_groups: Count


class TwinPair(Record):
    """A test image and the training images of its cluster; kind: that of the most alike one."""

    test: str
    train: list[str]
    kind: Sameness


class Twins(Record):
    """Test images that are also in train."""

    sentence: str
    pairs: list[TwinPair]


class Correction(Record):
    """A training label that a person changed."""

    image_id: str
    old: str
    new: str
    reason: str


class Corrections(Record):
    """All training labels that a person changed, counted for each `old → new` in by_class."""

    file: str | None
    count: Count
    by_class: dict[str, Count]
    rows: list[Correction]


class SamePixels(Record):
    """Training images with the same pixels and different labels; parallel lists."""

    image_ids: list[str]
    labels: list[str]


class Conflicts(Record):
    """What `prepare.conflicts` did with conflicting labels.

    excluded: number of images that left training. near: ids of near-duplicates with different
    labels, which are only listed.
    """

    rule: Literal["keep", "exclude", "stop"]
    sentence: str
    excluded: Count
    same_pixels: list[SamePixels]
    near: list[list[str]]


class LeakCheck(Record):
    """Whether one trace, which is no picture content, predicts the label.

    same_as: the trace that already says the same; then nothing else is given. chance: the lowest
    and highest AUC over permuted labels.
    """

    name: str
    same_as: str | None = None
    auc: Figure | None = None
    chance: Interval | None = None
    flagged: bool = False
    sentence: str = ""


class Leaks(Record):
    """All checks. constant: the traces that are the same for all images."""

    method: str
    checks: list[LeakCheck]
    constant: list[str]


class Audit(Record):
    train: SplitAudit
    test: SplitAudit
    found_range: FoundRange | None
    found_channels: FoundChannels | None
    """None where `prepare.channels` says it."""
    possible_groups: dict[str, Count]
    """Columns of the labels file that may say which images belong together, and are not used, with
    how many values each has."""
    excluded: list[Unreadable]
    corrections: Corrections
    conflicts: Conflicts
    duplicates: DuplicateCounts
    clusters: list[Cluster]
    train_test_duplicates: Twins
    leaks: Leaks
