"""Command `notebook`: the result as a notebook, to hand in or to publish."""

from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import SubmissionError
from pipeline.core.files import write_text
from pipeline.core.ours import refuse_others, remember
from pipeline.core.progress import say
from pipeline.notebook.cells import execute, to_text, write_cells
from pipeline.params import Config
from pipeline.report.facts import read_facts

NOTEBOOKS = Path("notebooks")

AUGMENTED = 4
"""Images that are shown augmented, over all models."""


def run(config: Config) -> None:
    """Write notebooks/NAME.ipynb, executed, whole or not at all.

    Raises SubmissionError before there is a submission, OutputError where another file has its
    name, TableError as read_facts does, and NotebookError for a cell that fails.
    """
    name = config.ensemble.name
    file = NOTEBOOKS / f"{name}.ipynb"
    refuse_others(file, reserved=[*paths.OWN_FILES, *config.outputs()])
    require_submission(name)
    read_facts(name)  # what is damaged is said before a kernel starts
    engines = {
        member: getattr(config.train.models[member], "engine", None)
        for member in config.train.members
    }
    augmented = max(1, AUGMENTED // len(engines))
    notebook = write_cells("local.md.j2", name=name, engines=engines, augmented=augmented)
    say(f"{file}: running its cells")
    execute(notebook, Path())
    text = to_text(notebook)
    refuse_others(file)  # what came while it ran
    write_text(file, text)
    remember(file)
    say(f"{file}: {len(text.encode()) / 1e6:.1f} MB, open it in Jupyter")


def publish(config: Config, user: str | None, competition: str | None, trains: bool) -> None:
    """Write notebooks/NAME-kaggle/, or NAME-kaggle-train/, for Kaggle's client.

    Raises KaggleError where the user or the competition is not known, SubmissionError before there
    is a submission to predict again, and as kaggle.run does.
    """
    from pipeline.ledger.commands import slug
    from pipeline.notebook import kaggle  # with PyTorch

    name = config.ensemble.name
    if not trains:
        require_submission(name)
    folder = NOTEBOOKS / (f"{name}-kaggle-train" if trains else f"{name}-kaggle")
    known = kaggle.find_user(user), slug(config.download, competition)
    kaggle.run(config, folder, *known, trains)


def require_submission(name: str) -> None:
    """Raise SubmissionError where nothing was made yet."""
    for file in (paths.submission(name), paths.card(name)):
        if not file.is_file():
            raise SubmissionError(f"{file}: no such file. Run: make run")
