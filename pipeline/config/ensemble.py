"""Section `ensemble`: how the members' predictions become one submission."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.base import Section


class EnsembleConfig(Section):
    """The blend, the submission's name, and the interval's level."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
    """submissions/NAME.csv and its card submissions/NAME.json."""
    blend: Literal["mean"]
    """Unweighted mean of the probabilities over models and folds."""
    confidence: Annotated[float, Field(gt=0, lt=1)]
    """Level of the interval around the out-of-fold accuracy."""
    resamples: Annotated[int, Field(ge=100, le=1_000_000)]
    """Bootstrap resamples of whole groups."""
    seed: Annotated[int, Field(ge=0)]
