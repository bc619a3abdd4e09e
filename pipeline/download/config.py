"""Section `download`: where the competition's files come from."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.core.errors import KaggleError
from pipeline.core.section import Section
from pipeline.kaggle.slug import competition_slug


def _has_slug(competition: str) -> str:
    try:
        competition_slug(competition)
    except KaggleError as error:
        raise ValueError(str(error).removeprefix("competition: ")) from None
    return competition


class _Drawn(Section):
    """Drawn images in a competition's layout, with a solution file."""

    source: Literal["synthetic"]
    train_images: Annotated[int, Field(ge=20, le=1_000_000)]
    test_images: Annotated[int, Field(ge=10, le=1_000_000)]
    duplicates: Annotated[float, Field(ge=0, lt=0.5)]
    """Share of the training images that are exact copies of another one of the same group."""
    seed: Annotated[int, Field(ge=0)]


class DrawnCells(_Drawn):
    """Blood cells, with or without a parasite, as in "Fighting Malaria with CNNs"."""

    kind: Literal["cells"]
    patients: Annotated[int, Field(ge=4)]
    """Over train and test together; no patient is in both."""
    wrong_labels: Annotated[float, Field(ge=0, lt=0.5)]
    """Share of the training labels that are replaced by the other class."""

    @property
    def groups(self) -> tuple[str, int]:
        """What they are called, and how many there are."""
        return "patients", self.patients


class DrawnNuclei(_Drawn):
    """Patches of stained tissue, 24 × 24 pixels, and the area of the nucleus in their middle."""

    kind: Literal["nuclei"]
    slides: Annotated[int, Field(ge=4)]
    """Over train and test together, each with a stain of its own; no slide is in both."""

    @property
    def groups(self) -> tuple[str, int]:
        """What they are called, and how many there are."""
        return "slides", self.slides


class LocalSource(Section):
    """A folder that already holds the competition's files."""

    source: Literal["local"]
    folder: Annotated[str, Field(min_length=1)]
    """Absolute, or relative to the repository's root."""


class RebuildSource(Section):
    """A public Kaggle dataset of cells in class folders, made into a competition."""

    source: Literal["rebuild"]
    dataset: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+/[A-Za-z0-9_-]+$")]
    """Owner and slug, as in its URL: kaggle.com/datasets/OWNER/SLUG."""
    test_share: Annotated[float, Field(ge=0.05, le=0.5)]
    """Approximate share of the images in test, since patients stay whole.

    They are dealt into at most 20 nearly equal parts: 0.2 is one of 5, 0.3 is three of 10.
    """
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class KaggleSource(Section):
    """A competition on Kaggle, through the official client."""

    source: Literal["kaggle"]
    competition: Annotated[str, AfterValidator(_has_slug)]
    """Its slug, or its URL."""


DownloadConfig = Annotated[
    Annotated[DrawnCells | DrawnNuclei, Field(discriminator="kind")]
    | LocalSource
    | RebuildSource
    | KaggleSource,
    Field(discriminator="source"),
]
