"""What stages leave for later ones as JSON: typed, frozen, in exactly one shape.

The stage that makes a record builds the type, every reader gets the type back: no module reads
such a file by string keys.
"""

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pipeline.core.errors import TableError, shown
from pipeline.core.files import read_whole, write_text


def _round(value: object) -> object:
    return round(value, 6) if isinstance(value, float) else value


Real = Annotated[float, Field(ge=-1e9, le=1e9)]
"""A number with all its digits."""

Figure = Annotated[Real, BeforeValidator(_round)]
"""A number for people: six digits after the point."""

Level = Annotated[Real, Field(gt=0, lt=1)]
"""A probability that is neither 0 nor 1."""

Count = Annotated[int, Field(ge=0, le=2**53)]
"""A count, or the number of a fold."""

Some = Annotated[Count, Field(ge=1)]
"""A count that is not 0."""

Interval = tuple[Figure, Figure]
"""Lower and upper end."""


class Record(BaseModel):
    """A JSON file that a stage writes, or a part of one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


R = TypeVar("R", bound=Record)


def write_record(path: Path, record: Record) -> None:
    """Write a record as JSON, whole or not at all."""
    write_text(path, record.model_dump_json(indent=2) + "\n")


def read_record(path: Path, kind: type[R], stage: str) -> R:
    """The record that a stage wrote.

    Raises TableError where the file is missing, no JSON, or in another shape.
    """
    return parse_record(path, read_whole(path, f"dvc repro {stage}"), kind, stage)


def parse_record(place: Path | str, text: bytes, kind: type[R], stage: str) -> R:
    """The record in a file's bytes; place: what an error names."""
    try:
        return kind.model_validate_json(text, strict=True)  # 80 is a count, "80" is not
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"] if not _is_type(step))
        fault = f"{first['msg']}, found {shown(first['input'])}"
        if first["type"] == "value_error":  # of a validator, whose text says what was found
            fault = str(first["ctx"]["error"])
        raise TableError(
            f"{place}: {f'{where}: ' if where else ''}{fault}. Run: dvc repro --force {stage}"
        ) from error


def _is_type(step: int | str) -> bool:
    """Whether a step of an error's path is one type of a union, and no key of the file."""
    names = [kind.__name__ for kind in Record.__subclasses__()]
    return isinstance(step, str) and any(step == n or step.endswith(f", {n}]") for n in names)
