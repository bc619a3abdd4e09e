"""What a notebook's cells call on Kaggle: the winner's scripts, in the folders that Kaggle has."""

import tempfile
from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import CompetitionError
from pipeline.params import Config, parse_config
from pipeline.winner.run import Settings, enter

CODE = "code"
PACKAGES = "packages"


def open_prediction(dataset: Path, competition: Path) -> Config:
    """Enter a working folder whose networks are the dataset's.

    competition: the folder of the competition's files, which is only read. Raises CompetitionError
    where a folder is missing.
    """
    return _open(dataset, competition, dataset)


def open_training(dataset: Path, competition: Path, working: Path) -> Config:
    """Enter a working folder whose networks and submission come into `working`."""
    return _open(dataset, competition, working)


def _open(dataset: Path, competition: Path, results: Path) -> Config:
    for folder in (dataset / CODE, competition):
        if not folder.is_dir():
            raise CompetitionError(
                f"{folder}: no such folder. Add the dataset and the competition as inputs of this "
                "notebook"
            )
    work = Path(tempfile.gettempdir()) / "pipeline"  # a cell may run twice
    settings = Settings(
        RAW_DATA_DIR=str(competition.resolve()),
        CLEAN_DATA_DIR=str(work / "clean"),
        MODEL_DIR=str(results.resolve() / "models"),
        CHECKPOINT_DIR=str(work / "checkpoints"),
        SUBMISSION_DIR=str(results.resolve() / "submissions"),
    )
    enter(dataset.resolve() / CODE, work / "work", settings)
    return parse_config(paths.PARAMS)
