"""Every failure that a user or a file can cause, as one tree.

PipelineError
├── ConfigError        params.yaml: a typo, a wrong type, a value out of range
├── CompetitionError   the competition's files: layout, columns, ids, labels, groups
├── ArchiveError       a zip: truncated, corrupt, encrypted, a bomb, ambiguous
├── ImageError         images that cannot be decoded as they should be
├── FoldError          folds that cannot be made, or that break an invariant
├── TrainError         a network, a policy or a run that cannot continue
├── TableError         a table or record between stages with wrong columns, ids or values
├── EnsembleError      predictions that do not fit together
├── SubmissionError    a submission that Kaggle would refuse, or that was made before
├── KaggleError        Kaggle refused a call, or cannot be reached
│   └── LostReplyError   it is not known whether Kaggle did it
├── GitError           git is not installed, or refused a command
├── ReproduceError     a recorded submission that cannot be rebuilt
└── DiskError          no space left, or no right to write

A message names the place, what was expected, what was found, the first
example, and the next command. The command line prints it alone and exits 1.
"""


class PipelineError(Exception):
    """Base of every error that is reported as one sentence, without a traceback."""


class ConfigError(PipelineError):
    """params.yaml does not describe a pipeline."""


class CompetitionError(PipelineError):
    """The competition's files contradict each other or cannot be understood."""


class ArchiveError(PipelineError):
    """A zip file is damaged, a bomb or ambiguous."""


class ImageError(PipelineError):
    """Images cannot be decoded as they should be."""


class FoldError(PipelineError):
    """Folds cannot be made, or break an invariant."""


class TrainError(PipelineError):
    """A network cannot be built, or its training cannot continue."""


class TableError(PipelineError):
    """A table or record between two stages is missing or has a wrong shape."""


class EnsembleError(PipelineError):
    """Members' predictions do not fit together."""


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


class DiskError(PipelineError):
    """A file could not be written."""


def examples(items: list[str], most: int = 3) -> str:
    """The first few items, for a message: "(first: a, b, c)"."""
    return f"(first: {', '.join(items[:most])})"
