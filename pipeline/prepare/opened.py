"""An image whose header is read and whose pixels are not: what each reader of a format returns."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Num
from numpy import ndarray

MIN_SIDE_PX = 2
"""A side of 1 px has no content: it is a tracking pixel or a failed crop."""

SEVERAL_FRAMES = "the first of several frames or pages"

Values = Num[ndarray, "..."]
"""Rows and columns, upright, of one grey value, of RGB, or of RGB and 16-bit opacity."""

BlackWhite = tuple[float, float]
"""The values that become 0 and 255; what lies beyond is clipped."""


@dataclass(frozen=True)
class Opened:
    """How an image is to be shown, and the function that decodes it.

    mode: Pillow's, followed by ";16" where a colour channel has 16 bits; or the type of an array's
    numbers, followed by its number of channels; or DICOM's kind of picture and its bits. encoding:
    how the file was written (Decoded.encoding). notes: what is done to the image and is not to be
    done silently. deep: its values are to be scaled by the range of the training images.
    black_white: the range that the file itself says. inverted: its largest value is black.
    load: raises ImageError where the file is damaged.
    """

    mode: str
    encoding: str
    load: Callable[[], Values]
    notes: tuple[str, ...] = ()
    deep: bool = False
    black_white: BlackWhite | None = None
    inverted: bool = False


def side_fault(height: int, width: int, max_side_px: int) -> str | None:
    """Why an image of this size is refused before anything is decoded."""
    if min(height, width) < MIN_SIDE_PX:
        return f"a side below {MIN_SIDE_PX} px"
    if max(height, width) > max_side_px:
        return f"a side above {max_side_px} px (prepare.max_side_px)"
    return None
