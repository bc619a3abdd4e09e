"""Part `ensemble.forecast`: how the scores on the leaderboards are forecast."""

from typing import Annotated

from pydantic import Field

from pipeline.core.section import Section


class ForecastConfig(Section):
    """The interval's level, and the public share, which Kaggle does not tell."""

    confidence: Annotated[float, Field(gt=0, lt=1)]
    """Share of the intervals that should contain the score."""
    resamples: Annotated[int, Field(ge=200, le=100_000)]
    """How many competitions are drawn."""
    seed: Annotated[int, Field(ge=0)]
    public_share: Annotated[float, Field(gt=0, lt=1)]
    """Share of the test rows that are public. Fighting Malaria with CNNs: 0.5."""
