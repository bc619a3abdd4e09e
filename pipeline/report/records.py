"""What the stages left as JSON, as types.

A card or an audit that was made before a section existed lacks it: such a section is None or
empty here, and the page leaves it out. A section that is there in another shape is an error, not
a gap. Keys that the page does not show are not named here, and pass.
"""

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pipeline.core.errors import TableError

Interval = tuple[float, float]


class Record(BaseModel):
    """A part of a JSON file; unknown keys pass."""

    model_config = ConfigDict(frozen=True, extra="ignore")


R = TypeVar("R", bound=Record)


class OutOfFold(Record):
    """The score of the out-of-fold rows."""

    accuracy: float
    interval: Interval
    confidence: float
    interval_method: str = ""
    log_loss: float
    rows: int
    of_images: int
    groups: int


class MetricValue(Record):
    """The competition's metric on the out-of-fold rows."""

    name: str
    value: float
    interval: Interval


class Candidate(Record):
    """One way of blending, nested and not."""

    blend: str
    nested: float
    unnested: float
    better_than_best_by: float
    interval: Interval
    p_value: float


class Blend(Record):
    """Which blend was taken and why."""

    chosen: str
    why: str = ""
    models: list[str] = []
    weights: list[float] | None = None
    calibration: str | None = None
    temperature: float | None = None
    threshold: float | None = None
    unnested: float | None = None
    test: str = ""
    candidates: list[Candidate] = []


class Pair(Record):
    """How two models differ."""

    models: tuple[str, str]
    disagreement: float
    error_correlation: float | None
    both_wrong: float


class Contribution(Record):
    """What a model adds to the others, in the metric's units; above 0 is better with it."""

    model: str
    score_without: float
    adds: float


class Diversity(Record):
    """How different the models are."""

    pairs: list[Pair] = []
    each_model: list[Contribution] = []


class Member(Record):
    """A model on a fold, or a model from elsewhere, which has neither fold nor accuracy."""

    model: str
    fold: int | None = None
    accuracy: float | None = None
    rows: int | None = None
    from_elsewhere: bool = False
    folds: str = ""
    sha256: dict[str, str] = {}


class Forecast(Record):
    """The public and the private score, before any submission."""

    metric: str
    confidence: float
    public: Interval
    private: Interval
    mean: float
    shake_up: float
    rows: dict[str, int]
    assumptions: list[str] = []


class TestLabels(Record):
    """How often the submission gives each class, or finds it most probable."""

    rows: int
    holds: str = "labels"
    labels: dict[str, int]


def _named(blend: Any) -> Any:
    """Cards of the first version have the blend's name alone."""
    return {"chosen": blend} if isinstance(blend, str) else blend


class Card(Record):
    """submissions/NAME.json."""

    name: str
    out_of_fold: OutOfFold
    test: TestLabels
    members: list[Member]
    sha256: dict[str, str]
    metric: MetricValue | None = None
    blend: Annotated[Blend, BeforeValidator(_named)] | None = None
    diversity: Diversity = Diversity()
    forecast: Forecast | None = None

    @property
    def score(self) -> MetricValue:
        """The competition's metric; a card that names none is scored by accuracy."""
        oof = self.out_of_fold
        return self.metric or MetricValue(
            name="accuracy", value=oof.accuracy, interval=oof.interval
        )


class Leaderboard(Record):
    """reports/leaderboard.json. solution: of each half the rows, and scores by their names."""

    submission: str
    solution: dict[str, dict[str, Any]] | None


class Spread(Record):
    """Of a size in pixels."""

    min: float
    median: float
    max: float


class Images(Record):
    """A split, as it came."""

    rows: int
    classes: dict[str, int]
    groups: int
    width: Spread | None = None
    height: Spread | None = None
    modes: dict[str, int] = {}
    other_files: list[str] = []


class Excluded(Record):
    """A training image without a row."""

    image_id: str
    reason: str


class Duplicates(Record):
    """How many images are the same as others."""

    clusters: int
    images: int
    largest: int
    kind: dict[str, int]
    where: dict[str, int]
    conflicting_labels: int
    spans_groups: int


class Cluster(Record):
    """Images that are the same or nearly so."""

    image_ids: list[str]
    kind: str
    where: str
    labels: list[str]
    groups: list[str]


class Correction(Record):
    """A label that a person changed."""

    image_id: str
    old: str
    new: str
    reason: str


class Corrections(Record):
    """Labels that a person changed."""

    file: str | None = None
    count: int
    by_class: dict[str, int]
    rows: list[Correction] = Field(alias="list")


class SamePixels(Record):
    """Images with the same pixels and different labels; labels run along."""

    image_ids: list[str]
    labels: list[str]


class Conflicts(Record):
    """What the rule for conflicting labels met."""

    rule: str
    sentence: str
    excluded: int
    same_pixels: list[SamePixels]
    near: list[list[str]]


class LeakCheck(Record):
    """Whether something that is no picture content predicts the label."""

    name: str
    same_as: str | None = None
    auc: float | None = None
    chance: Interval | None = None
    flagged: bool = False
    sentence: str = ""


class Leaks(Record):
    """All such checks."""

    method: str
    checks: list[LeakCheck]
    constant: list[str] = []


class TwinPair(Record):
    """A test image that is also in train."""

    test: str
    train: list[str]
    kind: str


class Twins(Record):
    """Test images that are also in train."""

    sentence: str
    pairs: list[TwinPair]


class Audit(Record):
    """data/audit.json."""

    train: Images
    test: Images
    excluded: list[Excluded]
    duplicates: Duplicates
    clusters: list[Cluster]
    corrections: Corrections | None = None
    conflicts: Conflicts | None = None
    leaks: Leaks | None = None
    train_test_duplicates: Twins | None = None


class Fold(Record):
    """Of one fold: repeat, size and balance."""

    fold: int
    repeat: int
    rows: int
    groups: int
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


def read_record(path: Path, kind: type[R], stage: str) -> R:
    """Read the JSON file that a stage wrote.

    Raises TableError where it is missing, no JSON, or a section has another shape.
    """
    if not path.is_file():
        raise TableError(f"{path}: no such file. Run: dvc repro {stage}")
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        found = repr(first["input"])[:80]
        raise TableError(
            f"{path}: {f'{place}: ' if place else ''}{first['msg']}, found {found}. "
            f"Run: dvc repro --force {stage}"
        ) from error
