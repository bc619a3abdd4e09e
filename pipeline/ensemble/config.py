"""Section `ensemble`: how the members' predictions become one submission."""

from typing import TYPE_CHECKING, Annotated, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from pipeline.core import paths
from pipeline.core.errors import EnsembleError
from pipeline.core.section import NAMES_A_FILE, Section
from pipeline.scoring.names import Asked

if TYPE_CHECKING:
    from pipeline.scoring.plan import Choices

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80), NAMES_A_FILE]

Kind = Literal["mean", "single", "rank_mean", "weighted", "greedy", "stack"]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""Sorted from simple to complex: nothing fitted; one of the models chosen; two numbers fitted; one
weight per model; the same, chosen by the metric; one coefficient per model and class."""


class ExternalMember(Section):
    """A model from elsewhere: its out-of-fold and its test predictions.

    Both are CSV files with image_id and one column p_CLASS for each class. The out-of-fold file
    has every training image once, predicted by a model that was trained without the image's fold.
    Several images of a row have a line each, as in the tables of our networks.
    """

    name: Name
    oof: Annotated[str, Field(min_length=1)]
    """Path of the out-of-fold predictions; may carry a column `fold` after image_id."""
    test: Annotated[str, Field(min_length=1)]
    """Path of the predictions of the test images."""
    folds: Literal["checked", "unchecked"]
    """checked: the column `fold` is required, and must equal one repeat of folds/folds.csv.
    unchecked: it may be missing; then nothing shows that its models never saw the images that
    they predict, and the card says so."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Hash of both files, as `cat OOF TEST | sha256sum` prints it. DVC does not track the files,
    but records this hash, and so which tables were blended."""


class ForecastConfig(Section):
    """Part `forecast`: how the scores on the leaderboards are forecast."""

    confidence: Annotated[float, Field(gt=0, lt=1)]
    """Share of the intervals that should contain the score."""
    resamples: Annotated[int, Field(ge=200, le=100_000)]
    """Number of simulated competitions."""
    seed: Annotated[int, Field(ge=0)]
    public_share: Annotated[float, Field(gt=0, lt=1)]
    """Share of the test rows that are public; Kaggle does not tell it for every competition.
    Fighting Malaria with CNNs: 0.5."""


class EnsembleConfig(Section):
    """The metric, the blend, the submission's name, and the level of intervals and tests."""

    name: Name
    """submissions/NAME.csv and its card submissions/NAME.json."""
    metric: str
    """The competition's, one of pipeline/scoring/metrics.py, or NAME:FUNCTION of metrics/NAME.py
    (scoring/own.py): what blends are chosen by, what is reported, and whether labels or
    probabilities are submitted (scoring/forms.py has the rule). roc_auc and f1 are for two
    classes, the second being the positive one."""
    form: Asked = "auto"
    """What a row of the submission holds; auto is what the sample submission and the metric ask
    for. It need not stand in params.yaml."""
    blend: Literal["auto", Kind]
    """mean: of the models' probabilities. single: the best model alone. rank_mean: of their ranks
    (roc_auc only). weighted: the weighted mean of the smallest log loss. greedy: models added one
    by one, with replacement. stack: logistic regression on their logits. auto: the first of these
    that is not significantly worse than the best of them; needs three trained folds."""
    calibration: Literal["none", "temperature"]
    """temperature: the blend's probabilities are sharpened or flattened by one fitted number."""
    threshold: Literal["none", "fitted"]
    """fitted: with two classes, the probability from which the second is predicted is the one
    that scores best, instead of one half."""
    greedy_rounds: Annotated[int, Field(ge=1, le=1000)]
    """How many models greedy adds: its weights are multiples of about one over this."""
    stack_l2: Annotated[float, Field(gt=0)]
    """Strength of stack's penalty: half of this times the sum of the squared coefficients is added
    to the sum over rows of the log loss."""
    external: list[ExternalMember]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    """Level of the intervals; one minus it is the level of the tests that auto decides by."""
    resamples: Annotated[int, Field(ge=100, le=1_000_000)]
    """Bootstrap resamples of whole groups."""
    seed: Annotated[int, Field(ge=0)]
    forecast: ForecastConfig

    @field_validator("name")
    @classmethod
    def _not_the_ledger(cls, name: str) -> str:
        if name.lower() == paths.LEDGER.stem:
            raise ValueError(f"{paths.LEDGER} holds what was submitted: expected another name")
        return name

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str) -> str:
        from pipeline.scoring.metrics import metric_named  # with NumPy 0.2 s: not for --help

        try:
            metric_named(metric)
        except EnsembleError as error:
            raise ValueError(str(error)) from error
        return metric

    @property
    def choices(self) -> "Choices":
        """Those that not every task allows."""
        from pipeline.scoring.plan import Choices

        return Choices(self.form, self.blend, self.calibration, self.threshold)

    @field_validator("external")
    @classmethod
    def _distinct(cls, external: list[ExternalMember]) -> list[ExternalMember]:
        names = [member.name for member in external]
        if len(set(names)) != len(names):
            raise ValueError(f"expected distinct names, found {names}")
        return external

    @model_validator(mode="after")
    def _choices_fit_the_metric(self) -> Self:
        from pipeline.scoring.metrics import METRICS, metric_named

        metric = metric_named(self.metric)
        if self.threshold == "fitted" and metric.needs == "predictions":
            raise ValueError(
                f"threshold: {self.metric} scores predictions, which no threshold changes: "
                "expected none"
            )
        if self.blend == "rank_mean" and not metric.scores_order:
            fit = " or ".join(name for name, metric in METRICS.items() if metric.scores_order)
            raise ValueError(
                f"blend: rank_mean keeps only the order: expected the metric {fit}, "
                f"found {self.metric}"
            )
        return self
