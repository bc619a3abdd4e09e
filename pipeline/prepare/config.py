"""Section `prepare`: which file is what, and how an image becomes a row of an array."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.core.section import Section

LEAST_BITS = 9
"""Of a 16-bit channel: 8 would be an 8-bit image."""

FileOrAuto = Annotated[str, Field(min_length=1)]
"""A file's name in data/raw, or the word `auto`: pipeline/raw/roles.py states the rule."""


class GroupsFromFile(Section):
    """Groups (patient, slide, …) from a CSV: the id column and one more."""

    source: Literal["file"]
    file: FileOrAuto


class GroupsFromName(Section):
    """Groups from the image's file name: the first capture group of a regular expression."""

    source: Literal["name"]
    pattern: str

    @field_validator("pattern")
    @classmethod
    def _one_capture_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if groups != 1:
            raise ValueError(f"expected exactly one (capture group), found {groups}")
        return pattern


class NoGroups(Section):
    """Each image is its own group; duplicates are still kept together by `split`."""

    source: Literal["none"]


class PrepareConfig(Section):
    """Layout of the competition's files, and the packed array's geometry."""

    sample_submission: FileOrAuto
    labels: FileOrAuto
    task: Literal["auto", "one_of", "any_of", "number"]
    """What is predicted for an image: one class, any of several labels, or numbers. auto: numbers
    where the metric is for numbers alone; several labels where cells are lists, or columns of 0
    and 1 have several 1 in a row; else one class."""
    classes: Annotated[list[str], Field(min_length=2)] | None
    """All classes in their order, of two the positive one last. null is by number where all labels
    are numbers, else the class that the sample submission's column is named after last, else by
    text, which stops where the order counts."""
    train_images: FileOrAuto
    """A zip, `auto`, or `bundle.zip/folder` for a folder inside a zip."""
    test_images: FileOrAuto
    groups: Annotated[GroupsFromFile | GroupsFromName | NoGroups, Field(discriminator="source")]
    size_px: Annotated[int, Field(ge=8, le=2048)]
    """Height and width of every stored image."""
    fit: Literal["stretch", "pad"]
    """`stretch` fills the square; `pad` keeps the aspect, centred on black."""
    max_side_px: Annotated[int, Field(ge=16)]
    """An image with a longer side counts as unreadable."""
    bits: Annotated[int, Field(ge=LEAST_BITS, le=16)] | None
    """How many bits of a 16-bit channel are used: 2^bits − 1 is white, and a colour image must use
    all 16. null is 16, but stops where no training image has a value in the upper half."""
    unreadable: Literal["stop", "exclude"]
    """What to do with an unreadable or missing training image; in test it always stops."""
    near_duplicate: Annotated[float, Field(ge=0, le=64)]
    """Mean absolute difference in grey levels (0 to 255) up to which two images are the same."""
    conflicts: Literal["keep", "exclude", "stop"]
    """What to do with training images of the same pixels and different labels: leave them as they
    are, leave all of them out, or stop (pipeline/prepare/conflicts.py)."""
    corrections: str | None
    """Reviewed corrections of training labels, `corrections/NAME.csv`; null for none."""

    @field_validator("corrections")
    @classmethod
    def _in_the_folder_that_dvc_watches(cls, corrections: str | None) -> str | None:
        if corrections is not None and not re.fullmatch(r"corrections/[^/\\]+\.csv", corrections):
            raise ValueError(
                f"expected null or corrections/NAME.csv, found {corrections!r}: stage prepare "
                "depends on the files of that folder alone"
            )
        return corrections
