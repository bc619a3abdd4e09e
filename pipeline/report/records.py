"""The records of `prepare`, `split` and `check` that the page shows."""

from typing import Any, Literal

from pydantic import Field

from pipeline.core.record import Figure, Interval, Record

Same = Literal["file", "pixels", "near"]


class SizeRange(Record):
    """Sizes in pixels."""

    min: float
    median: float
    max: float


class SplitAudit(Record):
    """The train or test images, as the competition provides them."""

    rows: int
    classes: dict[str, int]
    groups: int
    width: SizeRange
    height: SizeRange
    modes: dict[str, int]
    other_files: list[str]


class Excluded(Record):
    """A training image that cannot be read."""

    image_id: str
    reason: str


class DuplicateCounts(Record):
    """How many images are equal or nearly equal to others."""

    clusters: int
    images: int
    largest: int
    kind: dict[Same, int]
    where: dict[Literal["train", "test", "both"], int]
    conflicting_labels: int
    spans_groups: int


class Cluster(Record):
    """Images that are equal or nearly equal."""

    image_ids: list[str]
    kind: Same
    where: Literal["train", "test", "both"]
    labels: list[str]
    groups: list[str]
    conflicting_labels: bool
    spans_groups: bool


class TwinPair(Record):
    """A test image that is also in train."""

    test: str
    train: list[str]
    kind: Same


class Twins(Record):
    """Test images that are also in train."""

    sentence: str
    pairs: list[TwinPair]


class Correction(Record):
    """A label that a person changed."""

    image_id: str
    old: str
    new: str
    reason: str


class Corrections(Record):
    """Labels that a person changed; file: None where there are none."""

    file: str | None
    count: int
    by_class: dict[str, int]
    rows: list[Correction] = Field(alias="list")


class SamePixels(Record):
    """Images with the same pixels and different labels; the lists are parallel."""

    image_ids: list[str]
    labels: list[str]


class Conflicts(Record):
    """The rule for conflicting labels, and what it applied to."""

    rule: str
    sentence: str
    excluded: int
    same_pixels: list[SamePixels]
    near: list[list[str]]


class LeakCheck(Record):
    """Whether a property of the files predicts the label.

    One that equals an earlier property has its name in `same_as` and no figures.
    """

    name: str
    same_as: str | None = None
    auc: Figure | None = None
    chance: Interval | None = None
    flagged: bool = False
    sentence: str = ""


class Leaks(Record):
    """All such checks; constant: properties that are the same for all images."""

    method: str
    checks: list[LeakCheck]
    constant: list[str]


class Audit(Record):
    """data/audit.json."""

    train: SplitAudit
    test: SplitAudit
    excluded: list[Excluded]
    duplicates: DuplicateCounts
    clusters: list[Cluster]
    train_test_duplicates: Twins
    corrections: Corrections
    conflicts: Conflicts
    leaks: Leaks


class Fold(Record):
    """A fold's repeat, size and balance."""

    fold: int
    repeat: int
    rows: int
    groups: int
    classes: dict[str, int]
    shares: dict[str, float]


class Folds(Record):
    """folds/summary.json."""

    images: int
    groups: int
    groups_joined_by_duplicates: int
    folds: list[Fold]

    @property
    def grouped(self) -> bool:
        """Whether images share groups: without a groups file each is its own."""
        return self.groups < self.images


class Leaderboard(Record):
    """reports/leaderboard.json; solution: the rows and the scores of each half, by name."""

    submission: str
    valid: bool
    holds: str
    labels: dict[str, int]
    expected: dict[str, Any]
    solution: dict[str, dict[str, float]] | None
