"""Part `ensemble.forecast`: how sure the forecast of the leaderboards is to be."""

from typing import Annotated

from pydantic import Field

from pipeline.core.section import Section


class ForecastConfig(Section):
    """The interval's level, and what Kaggle does not tell."""

    confidence: Annotated[float, Field(gt=0, lt=1)]
    """Share of the forecasts that are to hold the score."""
    resamples: Annotated[int, Field(ge=200, le=100_000)]
    """Competitions that are drawn."""
    seed: Annotated[int, Field(ge=0)]
    public_share: Annotated[float, Field(gt=0, lt=1)]
    """Of the test rows. Fighting Malaria with CNNs: 0.5."""
