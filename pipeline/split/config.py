"""Section `split`: how the training images are dealt into folds."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.core.section import Section

Rule = Literal["stop", "train_only", "merge"]
"""split/rare.py says what they do."""


class SplitConfig(Section):
    """Stratified group folds, repeated once for each seed."""

    folds: Annotated[int, Field(ge=2, le=100)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=20)]
    """One whole partition for each: repeat r has the folds r * folds … (r + 1) * folds - 1."""

    rare: Rule
    """What to do with classes in fewer groups than there are folds: stop; train on their rows in
    every fold and score none; or learn them all as one class, which is never decided and whose
    probability they share in equal parts. Of several labels and of numbers only `stop`."""

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError(f"expected distinct seeds, found {seeds}")
        return seeds
