"""Section `prepare`: which file is what, and how an image or a signal becomes a row of an array."""

import codecs
import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from pipeline.core.section import Section

MOST_SAMPLES = 2**26
"""The most that a signal may have, all channels together: 25 minutes of one at 44.1 kHz."""

MOST_RATE_HZ = 1_000_000
"""A damaged header says more. Resampling needs a filter that is twenty times as long."""

FileOrAuto = Annotated[str, Field(min_length=1)]
"""A file's name in data/raw, or the word `auto`: pipeline/prepare/roles.py states the rule."""


def _is_encoding(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError as error:
        raise ValueError(f"expected a name such as latin-1, found {name!r}") from error


class GroupsFromFile(Section):
    """Groups (patient, slide, …) from a CSV: the id column and one more."""

    source: Literal["file"]
    file: FileOrAuto


class GroupsFromColumn(Section):
    """Groups from a column of the labels file."""

    source: Literal["column"]
    column: Annotated[str, Field(min_length=1)]


def _has_one_capture_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from error
    if groups != 1:
        raise ValueError(f"expected exactly one (capture group), found {groups}")
    return pattern


Pattern = Annotated[str, AfterValidator(_has_one_capture_group)]
"""A regular expression that is searched in an image's path, `folder/name.suffix`."""


class GroupsFromName(Section):
    """Groups from the image's path: the first capture group of a regular expression."""

    source: Literal["name"]
    pattern: Pattern


class NoGroups(Section):
    """Each image is its own group; duplicates are still kept together by `split`."""

    source: Literal["none"]


class LabelsFromFolder(Section):
    """The label is the name of the folder that an image is in; there is no labels file."""

    source: Literal["folder"]


class LabelsFromName(Section):
    """The label is in the image's path: the first capture group of a regular expression."""

    source: Literal["name"]
    pattern: Pattern


def _are_channels(value: object) -> object:
    named = isinstance(value, list) and 1 <= len(value) <= 3
    if not (named or value == "auto" or (type(value) is int and value in (1, 3))):
        raise ValueError(f"expected auto, 1, 3 or a list of one to three names, found {value!r}")
    return value


Channels = Annotated[Literal["auto", 1, 3] | list[str], BeforeValidator(_are_channels)]


def _auto_or_at_most(most: int) -> BeforeValidator:
    def check(value: object) -> object:
        if value != "auto" and not (type(value) is int and 1 <= value <= most):
            raise ValueError(f"expected auto, or a whole number from 1 to {most}, found {value!r}")
        return value

    return BeforeValidator(check)


Groups = GroupsFromFile | GroupsFromColumn | GroupsFromName | NoGroups


class _Shared(Section):
    """What is said of the files of images and of signals alike.

    Fields with the default `auto` need not stand in params.yaml: what they say is found in the
    competition's files, and said.
    """

    row: ClassVar[Literal["image", "signal"]]
    content: ClassVar[Literal["pixels", "samples"]]
    """What a row is, and what it is made of, in words."""

    sample_submission: FileOrAuto = "auto"
    labels: FileOrAuto | LabelsFromFolder | LabelsFromName = "auto"
    label_column: FileOrAuto = "auto"
    """Of the labels file; `auto` is the sample submission's, or the one that holds its classes."""
    id_column: FileOrAuto = "auto"
    """Of the labels file; `auto` is the sample submission's, or the one that names the images."""
    encoding: Annotated[str, AfterValidator(_is_encoding)] = "utf-8"
    """Of the competition's tables."""
    task: Literal["auto", "one_of", "any_of", "number"] = "auto"
    """What is predicted for a row: one class, any of several labels, or numbers. auto: numbers
    where the metric is for numbers alone; several labels where cells are lists, or columns of 0
    and 1 have several 1 in a row; else one class."""
    classes: Annotated[list[str], Field(min_length=2)] | None = None
    """All classes in their order, of two the positive one last. null is by number where all labels
    are numbers, else the class that the sample submission's column is named after last, else by
    text, which stops where the order counts."""
    groups: Annotated[Groups, Field(discriminator="source")]
    unreadable: Literal["stop", "exclude"]
    """What to do with an unreadable or missing training image or signal; in test it always
    stops."""
    unlabelled: Literal["stop", "leave_out"]
    """What to do with files that no row of a table names, and training rows without a label."""
    conflicts: Literal["keep", "exclude", "stop"]
    """What to do with training rows of the same pixels or samples and different labels: leave them
    as they are, leave all of them out, or stop (pipeline/prepare/conflicts.py)."""
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


class ImagesConfig(_Shared):
    """Rows are images."""

    row = "image"
    content = "pixels"
    kind: Literal["images"]
    image_column: FileOrAuto = "auto"
    """A column with the images' names or paths, with or without suffix; or a template of them such
    as `{patient_id}/{image_id}.dcm`, of columns in braces, where {channel} stands for any text."""
    channels: Channels = "auto"
    """Of the stored images: 1, grey, or 3, RGB; `auto` is 1 where all images of train and test are
    grey, else 3. Or what {channel} of image_column may be, as red, green and blue."""
    train_images: FileOrAuto = "auto"
    """An archive, a folder, or a folder in either: `bundle.zip/folder`."""
    test_images: FileOrAuto = "auto"
    size_px: Annotated[int, Field(ge=8, le=2048)]
    """Height and width of every stored image."""
    fit: Literal["stretch", "pad"]
    """`stretch` fills the square; `pad` keeps the aspect, centred on black."""
    max_side_px: Annotated[int, Field(ge=16)]
    """An image with a longer side counts as unreadable."""
    bits: Annotated[int, Field(ge=8, le=16)] | None = None
    """Of images with more than 8 bits: 0 is black and 2^bits − 1 is white. null finds the range in
    the training images, and says it (pipeline/prepare/levels.py)."""
    near_duplicate: Annotated[float, Field(ge=0, le=64)]
    """Mean absolute difference in grey levels (0 to 255) up to which two images are the same."""

    @property
    def channel_names(self) -> list[str]:
        """What {channel} of image_column may be; nothing where it is not said."""
        return self.channels if isinstance(self.channels, list) else []

    def files_of(self, split: Literal["train", "test"]) -> str:
        """Where a split's files are, or auto."""
        return self.train_images if split == "train" else self.test_images


class SignalsConfig(_Shared):
    """Rows are signals: samples of one or more channels, all of one length. They are stored as they
    are, but for what the three last fields say."""

    row = "signal"
    content = "samples"
    image_column: ClassVar[str] = "auto"
    near_duplicate: ClassVar[float] = 0.0
    """Only equal samples are the same: a scaled or shifted copy may be another recording."""
    kind: Literal["signals"]
    train_signals: FileOrAuto = "auto"
    """A table or an array of all signals, or an archive or a folder with a file for each."""
    test_signals: FileOrAuto = "auto"
    rate_hz: Annotated[Literal["auto"] | int, _auto_or_at_most(MOST_RATE_HZ)] = "auto"
    """Samples a second, to which sound of another rate is resampled; `auto` wants one rate in all
    files of train and test, or none in all."""
    channels: Literal["auto", 1] = "auto"
    """1 stores the mean of a signal's channels; `auto` wants as many in all signals."""
    length: Annotated[Literal["auto"] | int, _auto_or_at_most(MOST_SAMPLES)] = "auto"
    """Samples of each stored signal: longer ones are cut to their middle, shorter ones get as many
    zeros at both ends. `auto` wants one length."""

    def files_of(self, split: Literal["train", "test"]) -> str:
        """Where a split's signals are, or auto."""
        return self.train_signals if split == "train" else self.test_signals


PrepareConfig = ImagesConfig | SignalsConfig
