"""The card: everything that is known about a submission, in the JSON file beside it.

Stage `ensemble` writes it (core/record.py); every other module reads it through `read_card`, so
that only this module defines its shape. Figures for people are rounded to six digits; `Fitted`
keeps every digit, since `predict` and a winner's package repeat the submission from it.
"""

import base64
import hashlib
import zlib
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Bool
from numpy import ndarray
from pydantic import AfterValidator, Field, model_validator

from pipeline.core.errors import EnsembleError
from pipeline.core.fold_summary import OnlyTrained
from pipeline.core.record import (
    Count,
    Figure,
    Interval,
    Level,
    Real,
    Record,
    Some,
    parse_record,
    read_record,
)
from pipeline.core.task import Task
from pipeline.scoring.ceiling import Ceiling, NoCeiling
from pipeline.scoring.metrics import metric_named
from pipeline.scoring.names import Holds


class OutOfFold(Record):
    """How good the nested out-of-fold prediction is, whatever the competition's metric is."""

    accuracy: Figure | None
    """Of several labels the share of rows whose every label is right; None of numbers."""
    interval: Interval | None
    """The accuracy's, over resampled groups."""
    confidence: Level
    interval_method: str
    log_loss: Figure | None
    """None of numbers."""
    recall: dict[str, Figure | None]
    """The recall by class; None for a class without rows."""
    rows: Count
    of_images: Count
    """Rows of the whole training set."""
    groups: Count
    only_trained: OnlyTrained | None = None
    """The rows that no fold scores."""

    @property
    def not_trained(self) -> int:
        """Rows that other folds than the trained ones score."""
        return self.of_images - self.rows - (self.only_trained.rows if self.only_trained else 0)


def _known(metric: str) -> str:
    try:
        metric_named(metric)
    except EnsembleError as error:
        raise ValueError(str(error)) from error
    return metric


class Score(Record):
    """The competition's metric on the nested out-of-fold prediction."""

    name: Annotated[str, AfterValidator(_known)]
    value: Figure
    interval: Interval | None
    """None where too few groups have a class."""


class Gain(Record):
    """What averaging the folds' networks is expected to change in the score."""

    mean: Figure
    spread: Figure
    """Standard deviation of that expectation."""
    disagreement: Figure
    """Mean share of test images on which one fold's networks disagree with the mean of all."""
    folds: Count


class Drift(Record):
    """How well train and test can be distinguished, compared with training groups alone."""

    auc: Figure
    """0.5: not at all."""
    band: Interval
    """The AUC of some training groups against the others: 5 to 95 % of the splits."""
    p: Figure
    """Share of the splits, this one included, with at least that AUC."""
    splits: Count
    strongest: list[str]
    """The three features whose means differ most, in standard deviations."""
    weighted: bool
    """Whether the training groups were weighted by how much they look like test."""


class Rise(Record):
    """How much higher the error on test is than out of fold, by one estimate without labels."""

    by: Figure
    band: Interval
    """The same of some training groups against the others: 5 to 95 % of the splits."""

    @property
    def beyond(self) -> float:
        """The part that other groups do not explain; below 0 inside the band."""
        return self.by - self.band[1]


class Shift(Record):
    """Whether the networks take test for another population than the training rows."""

    error: Figure
    """Out of fold: the share of wrong labels; of numbers the squared error over the variance."""
    rises: dict[str, Rise]
    """Those by confidence, threshold (ATC), decided labels, disagreement: each beyond the mean of
    the training groups. The last is what the folds prove at least, mostly below 0."""
    p: Figure
    """Share of the splits, this one included, with at least as large a rise, by any estimate."""
    splits: Count
    is_other: bool
    """Whether the intervals are longer, since chance gives such a rise in at most one of 100."""
    falls: tuple[Figure, Figure] | None
    """The change of the score to expect, and the one that one in twenty exceeds; None if not."""

    @property
    def strongest(self) -> str:
        """The estimate that is farthest beyond its band."""
        return max(self.rises, key=lambda name: self.rises[name].beyond)

    def sentence(self, metric: str) -> str:
        """What is found, in one line."""
        by = self.strongest
        rise, (low, high) = self.rises[by].by, self.rises[by].band
        measured = f"error {rise:+.3f} by {by}, among training groups {low:+.3f} to {high:+.3f}"
        if self.falls is None:
            return f"For the networks test is no other population ({measured}, p {self.p:.2f})"
        expected, most = self.falls
        return (
            f"For the networks test is another population ({measured}): expect the "
            f"{metric.replace('_', ' ')} to change by {expected:+.3f}, or by {most:+.3f} and more "
            "in one of 20 such cases"
        )


class CorrectRows(Record):
    """Which out-of-fold rows are right, by sorted row id: about 100 bytes per 1,000 rows.

    With it, two cards can be compared on the same rows, years apart.
    """

    rows: Count
    ids_sha256: str
    bits: str

    @model_validator(mode="after")
    def _a_bit_for_each_row(self) -> "CorrectRows":
        if self.rows and len(self._packed()) != -(-self.rows // 8):
            raise ValueError(f"expected a bit for each of {self.rows} rows")
        return self

    def _packed(self) -> bytes:
        """Never longer than it has to be, whatever it was made to unpack to."""
        try:
            return zlib.decompressobj().decompress(base64.b64decode(self.bits), self.rows // 8 + 2)
        except zlib.error as error:
            raise ValueError(str(error)) from error

    @classmethod
    def pack(cls, row_ids: list[str], correct: Bool[ndarray, " rows"]) -> "CorrectRows":
        """row_ids: in any order. correct: parallel to them."""
        order = sorted(range(len(row_ids)), key=row_ids.__getitem__)
        packed = zlib.compress(np.packbits(correct[order]).tobytes(), 9)
        return cls(
            rows=len(row_ids),
            ids_sha256=_sha256([row_ids[place] for place in order]),
            bits=base64.b64encode(packed).decode(),
        )

    def unpack(self, row_ids: list[str]) -> Bool[ndarray, " rows"] | None:
        """What was packed, by sorted row id; None where other rows were packed."""
        if self.ids_sha256 != _sha256(sorted(row_ids)):
            return None
        bits = np.unpackbits(np.frombuffer(self._packed(), np.uint8), count=len(row_ids))
        return bits.astype(np.bool_)


Spread = Annotated[Figure, Field(ge=0)]
"""A standard deviation."""


class Halves(Record):
    """How many test rows are public and private."""

    public: Some
    private: Some

    @property
    def both(self) -> int:
        """All test rows that count."""
        return self.public + self.private


class Quantiles(Record):
    """The scores at the forecast's levels."""

    public: list[Figure]
    private: list[Figure]


class Forecast(Record):
    """The public and the private score, before any submission, by the card's metric."""

    confidence: Level
    public: Interval
    private: Interval
    mean: Figure
    """The score to expect."""
    sd: tuple[Spread, Spread]
    """Standard deviations of the public and the private score."""
    correlation: Annotated[Figure, Field(ge=-1, le=1)]
    """Correlation of the public and the private score."""
    shake_up: Figure
    """Standard deviation of public minus private."""
    rows: Halves
    levels: list[Level]
    quantiles: Quantiles
    gain: Gain
    drift: Drift | None
    shift: Shift | None = None
    """None where the networks cannot be asked, or were not."""
    correct: CorrectRows | None
    """None of numbers."""
    assumptions: list[str]

    @model_validator(mode="after")
    def _a_score_for_each_level(self) -> "Forecast":
        counts = {len(self.levels), len(self.quantiles.public), len(self.quantiles.private)}
        if len(counts) > 1 or not self.levels:
            raise ValueError("expected as many quantiles of each half as levels")
        return self


class NoForecast(Record):
    """Why there is none: a test set of one image, a class in too few groups."""

    why: str


class TestLabels(Record):
    """How often the submission gives each class, or finds it most probable."""

    rows: Some
    holds: Holds
    labels: dict[str, Count]
    """Empty of numbers."""


class FittedMean(Record):
    """A weighted mean of the models' probabilities; weights in the order of the models."""

    kind: Literal["weighted_mean"]
    weights: list[Real]


class FittedLogistic(Record):
    """Logistic regression on the models' logits, or on the mean of their ranks."""

    kind: Literal["logistic"]
    features: Literal["logits", "ranks"]
    known: list[str]
    """For ranks, the doubles of each model in base64; empty for logits."""
    coefficients: list[list[Real]]
    """One row per output, in the order of the models and of the classes in each."""
    intercepts: list[Real]


class Fitted(Record):
    """What was fitted, to the last digit. None: no temperature, no threshold."""

    blend: Annotated[FittedMean | FittedLogistic, Field(discriminator="kind")]
    temperature: Real | None
    threshold: Real | list[Real] | None
    """The second of two classes' least probability; or as many numbers as core/task.py's `decide`
    takes."""

    @property
    def cuts(self) -> list[float] | None:
        """The threshold as core/task.py's `decide` takes it."""
        cuts = self.threshold
        return cuts if cuts is None or isinstance(cuts, list) else [cuts]

    def check_cuts(self, card: Path, task: Task) -> None:
        """Raise EnsembleError, which names the card, where the threshold is for another task."""
        if (cuts := self.cuts) is not None and len(cuts) != task.cut_count:
            raise EnsembleError(
                f"{card}: blend.fitted.threshold: expected {task.cut_count or 'no'} numbers for "
                f"{task.kind} with {len(task.outputs)} outputs, found {len(cuts)}. "
                "Run: dvc repro --force ensemble"
            )


class Candidate(Record):
    """One way of blending, compared with the best one."""

    blend: str
    nested: Figure
    unnested: Figure
    """The score on the very rows that it was fitted on."""
    better_than_best_by: Figure
    interval: Interval | None
    """The difference's, over resampled groups; None where too few of them have a class."""
    p_value: Figure | None


class Blend(Record):
    """Which blend was chosen, among which candidates, and why."""

    asked: str
    chosen: str
    why: str
    models: list[str]
    calibration: str
    unnested: Figure
    """The best unnested score: what would be announced without nested folds."""
    test: str
    """The test that gives the candidates' p-values."""
    fitted: Fitted
    candidates: list[Candidate]
    chosen_without_fold: dict[str, str]
    """The blend that the other folds choose, by fold."""

    @model_validator(mode="after")
    def _a_weight_for_each_model(self) -> "Blend":
        blend = self.fitted.blend
        if isinstance(blend, FittedMean) and len(blend.weights) != len(self.models):
            raise ValueError(f"expected {len(self.models)} weights, as many as models")
        return self


class Pair(Record):
    """How two models differ, as shares of the rows."""

    models: tuple[str, str]
    disagreement: Figure
    """Other labels decided."""
    error_correlation: Figure | None
    """Pearson's, of their errors as 0 and 1, or of numbers' errors; None where one never varies."""
    both_wrong: Figure


class Contribution(Record):
    """What a model adds to the others, in the metric's units."""

    model: str
    score_without: Figure
    adds: Figure
    """Above 0: the score is better with the model."""


class Diversity(Record):
    """How different the models are, and what each adds."""

    pairs: list[Pair]
    each_model: list[Contribution]


class Network(Record):
    """One model trained without one fold, and how good it is on that fold."""

    model: str
    fold: Count
    accuracy: Figure | None
    """None of numbers."""
    rows: Count
    sha256: dict[str, str]
    """The hashes by file name in models/MODEL/foldK/."""


class ExternalModel(Record):
    """A model from elsewhere: two tables of predictions."""

    model: str
    folds: Literal["checked", "unchecked"]
    sha256: dict[str, str]


class Hashes(Record):
    """SHA-256 of the submission and of what it was made from."""

    submission: str
    folds: str
    train_images: str
    test_images: str


class Card(Record):
    """submissions/NAME.json."""

    name: str
    metric: Score
    out_of_fold: OutOfFold
    forecast: Forecast | NoForecast
    test: TestLabels
    blend: Blend
    diversity: Diversity
    networks: list[Network]
    external: list[ExternalModel]
    sha256: Hashes
    ceiling: Ceiling | NoCeiling = NoCeiling(why="the card is older than its estimate")
    """What networks trained here say of the labels; models from elsewhere are compared with it."""

    @property
    def other_population(self) -> str | None:
        """What is to be said where the networks take test for another population."""
        shift = self.forecast.shift if isinstance(self.forecast, Forecast) else None
        return shift.sentence(self.metric.name) if shift is not None and shift.is_other else None

    @property
    def expected(self) -> Forecast:
        """The forecast of a card that has one; ledger/history.py hands on no other card."""
        assert isinstance(self.forecast, Forecast)
        return self.forecast


def read_card(path: Path) -> Card:
    """The card in a file. Raises TableError where it is missing or in another shape."""
    return read_record(path, Card, "ensemble")


def parse_card(place: Path | str, text: bytes) -> Card:
    """The card in a file's bytes, as git may keep it. Raises TableError, which names the place."""
    return parse_record(place, text, Card, "ensemble")


def _sha256(row_ids: list[str]) -> str:
    return hashlib.sha256("\n".join(row_ids).encode()).hexdigest()
