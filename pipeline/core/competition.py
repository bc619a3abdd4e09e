"""What every stage after `prepare` knows of the competition: its columns and its classes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import pydantic

from pipeline.core.errors import CompetitionError
from pipeline.core.files import write_text


@pydantic.dataclasses.dataclass(
    frozen=True, config=pydantic.ConfigDict(strict=True, extra="forbid")
)
class Competition:
    """What every later stage knows of the competition.

    id_column, label_column: of the sample submission. classes: as the labels file writes them,
    in the order of the probabilities: by number where all are integers, else as text.
    """

    id_column: str
    label_column: str
    classes: Annotated[list[str], pydantic.Field(min_length=2)]


def write_competition(path: Path, competition: Competition) -> None:
    """Write a Competition as JSON."""
    write_text(path, json.dumps(asdict(competition), indent=2, ensure_ascii=False) + "\n")


def read_competition(path: Path) -> Competition:
    """Read what write_competition wrote. Raises CompetitionError on anything else."""
    if not path.is_file():
        raise CompetitionError(f"{path}: no such file. Run: dvc repro prepare")
    try:
        return pydantic.TypeAdapter(Competition).validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"]) or "the file"
        raise CompetitionError(
            f"{path}: expected id_column, label_column and classes, found {place} wrong: "
            f"{first['msg']}. Run: dvc repro --force prepare"
        ) from error
