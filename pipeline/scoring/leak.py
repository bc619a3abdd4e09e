"""leaks/NAME.json: what a model would score by row and by group.

Command `leak` writes it, the report shows it. The folder is in git and always there, so that DVC
sees a new record and no missing file.
"""

from pipeline.core import paths
from pipeline.core.errors import TableError
from pipeline.core.files import is_there, read_whole
from pipeline.core.record import Count, Figure, Interval, Level, Record, Some, parse_record
from pipeline.scoring.ceiling import Ceiling, NoCeiling


class SplitScore(Record):
    """The score over all rows of one way to split them."""

    score: Figure
    interval: Interval | None
    """Over resampled groups; None where too few of them have a class."""


class Leak(Record):
    """One model, trained on all folds by row and by group, and scored on the same rows."""

    model: str
    metric: str
    by_row: SplitScore
    by_group: SplitScore
    gain: SplitScore
    """How much better by row; above 0 whatever the metric."""
    confidence: Level
    rows: Some
    groups: Some
    on_both_sides: Count
    """Groups with rows in more than one fold of the split by row."""
    ceiling: Ceiling | NoCeiling
    """What the networks that were trained by group say of the labels."""
    folds_sha256: str
    train_images_sha256: str

    @property
    def sentence(self) -> str:
        """One line for people."""
        implausible = isinstance(self.ceiling, Ceiling) and bool(self.ceiling.above)
        return (
            f"by row, {self.model} would score {_shown(self.by_row)}; by group it scores "
            f"{_shown(self.by_group)}: {_shown(self.gain, '+')} better, with {self.on_both_sides} "
            f"of {self.groups} groups on both sides"
            + (". By row it is above what the labels allow" if implausible else "")
        )


def read_leak(name: str) -> Leak | None:
    """The record of a submission's competition; None where there is none.

    Raises TableError for another file in its place.
    """
    path = paths.leak(name)
    if not is_there(path):
        return None
    remedy = f"rm {path}, and: python -m pipeline leak"
    try:
        return parse_record(path, read_whole(path, remedy), Leak, "report")
    except TableError as error:  # no stage makes it again
        raise TableError(f"{str(error).rpartition(' Run: ')[0]} Run: {remedy}") from error


def _shown(each: SplitScore, sign: str = "") -> str:
    between = ""
    if each.interval:
        low, high = each.interval
        between = f" ({low:{sign}.4f} to {high:{sign}.4f})"
    return f"{each.score:{sign}.4f}{between}"
