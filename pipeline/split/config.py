"""Section `split`: how the training images are dealt into folds."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.core.section import Section


class SplitConfig(Section):
    """Stratified group folds, repeated once for each seed."""

    folds: Annotated[int, Field(ge=2, le=100)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=20)]
    """One whole partition for each: repeat r has the folds r * folds … (r + 1) * folds - 1."""

    rare: Literal["stop", "train_only", "merge"]
    """What to do with a class in fewer groups than there are folds: its rows are trained on in
    every fold and never scored, or all such classes become one, `other`, never submitted."""

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError(f"expected distinct seeds, found {seeds}")
        return seeds
