"""Section `download`: where the competition's files come from."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.base import Section


class SyntheticSource(Section):
    """Drawn blood cells in the competition's exact layout, with a solution file."""

    source: Literal["synthetic"]
    train_images: Annotated[int, Field(ge=20, le=1_000_000)]
    test_images: Annotated[int, Field(ge=10, le=1_000_000)]
    patients: Annotated[int, Field(ge=4)]
    """Over train and test together; no patient is in both."""
    wrong_labels: Annotated[float, Field(ge=0, lt=0.5)]
    """Share of the training labels that are turned round."""
    duplicates: Annotated[float, Field(ge=0, lt=0.5)]
    """Share of the training images that are exact copies of another one of the same patient."""
    seed: Annotated[int, Field(ge=0)]


class LocalSource(Section):
    """A folder that already holds the competition's files."""

    source: Literal["local"]
    folder: Annotated[str, Field(min_length=1)]
    """Absolute, or relative to the repository's root."""


DownloadConfig = Annotated[SyntheticSource | LocalSource, Field(discriminator="source")]
