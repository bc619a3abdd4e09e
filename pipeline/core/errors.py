"""Every failure that a user or a file can cause, as one tree below PipelineError.

A message names the place, what was expected, what was found, the first
example, and the next command. The command line prints it alone and exits 1.
"""

from collections.abc import Sequence
from pathlib import Path


class PipelineError(Exception):
    """Base of every error that is reported as one sentence, without a traceback."""


class ConfigError(PipelineError):
    """params.yaml has a typo, a wrong type, or a value out of range."""


class CompetitionError(PipelineError):
    """The competition's files contradict each other or cannot be understood."""


class ArchiveError(PipelineError):
    """A zip is cut short, damaged, encrypted, a bomb, or ambiguous."""


class ImageError(PipelineError):
    """Images cannot be decoded as they should be."""


class FoldError(PipelineError):
    """Folds cannot be made, or break an invariant."""


class TrainError(PipelineError):
    """A network cannot be built, or its training cannot continue."""


class TableError(PipelineError):
    """A table or record between stages is missing, or has wrong columns, ids or values."""


class EnsembleError(PipelineError):
    """Members' predictions do not fit together."""


class MetricError(PipelineError):
    """A metric of the user's own fails."""


class SubmissionError(PipelineError):
    """A submission that Kaggle would refuse, or that was made before."""


class KaggleError(PipelineError):
    """Kaggle refused a call, or cannot be reached.

    status: the HTTP status of the answer; None where there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class LostReplyError(KaggleError):
    """A call was sent and no answer came: it is not known whether Kaggle did it."""


class GitError(PipelineError):
    """git is not installed, or refused a command."""


class ReproduceError(PipelineError):
    """A recorded submission cannot be rebuilt."""


class OutputError(PipelineError):
    """A result would replace a file that the pipeline did not make."""


class NotebookError(PipelineError):
    """A notebook cannot be made, or one of its cells fails."""


class DiskError(PipelineError):
    """No space left, or no right to write."""


def examples(items: list[str], most: int = 3) -> str:
    """The first few items, for a message: "(first: a, b, c)"."""
    return f"(first: {', '.join(items[:most])})"


def plural(number: int, one: str, many: str = "") -> str:
    """A number with its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def named(items: Sequence[object], most: int = 30) -> str:
    """All items for a message; of thousands the first few and their number."""
    if len(items) <= most:
        return str(list(items))
    return f"{str(list(items[:3]))[:-1]}, … {len(items):,} in all]"


def shown(value: object, most: int = 80) -> str:
    """The start of a value of unknown origin, for a message."""
    part = value[:most] if isinstance(value, str | bytes) else value
    try:
        return repr(part)[:most]
    except (ValueError, RecursionError):  # an integer of 5,000 digits, a list in itself
        return f"a huge {type(value).__name__}"


def short_list(items: Sequence[str], most: int = 4) -> str:
    """The first few items and how many more there are, for a message."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


Requirement = tuple[str, list[str], str]
"""What is expected, the items that are otherwise, and what to do about them."""


def require(
    error: type[PipelineError], place: Path | str, total: str, *requirements: Requirement
) -> None:
    """Raise `error` for the first requirement that is not met. total: "12 rows"."""
    for expected, broken, remedy in requirements:
        if broken:
            raise error(
                f"{place}: expected {expected}, found {len(broken)} of {total} otherwise "
                f"{examples(broken)}. {remedy}"
            )
