"""What a metric is: a score by name, and everything that other modules need to know about it.

A metric is split into what is done once for given predictions and a scorer of weighted groups of
rows, so that a bootstrap, which is nothing but integer weights, counts and sorts once and not 2,000
times.
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from pipeline.core.errors import EnsembleError
from pipeline.core.shapes import Labels, Outputs
from pipeline.core.task import Kind

CLASSES: tuple[Kind, ...] = ("one_of", "any_of")

Units = Int[ndarray, " rows"]
"""For each row the number, in [0, units), of what counts as a whole: its group."""

Weights = Float[ndarray, " units"]
"""How often each unit counts; a bootstrap's are integers."""

Scorer = Callable[[Weights], float]
"""The score of fixed predictions over weighted units; NaN where it is not defined on them."""


@dataclass(frozen=True)
class Rows:
    """What is scored. Arrays as core/task.py has them."""

    values: Outputs
    decided: Labels
    """Of one_of the class decided for each row, which need not be the most probable one."""
    labels: Labels
    units: Units
    optional: tuple[int, ...] = ()
    """As of the metric."""

    @cached_property
    def entries(self) -> tuple["Entries", "Entries", "Entries"]:
        """The classes that rows have, that are decided for them, and that are both."""
        found: list[tuple[ndarray, ...]]
        if self.labels.ndim == 1:
            rows, hits = np.arange(len(self.labels)), np.flatnonzero(self.labels == self.decided)
            found = [(rows, self.labels), (rows, self.decided), (hits, self.labels[hits])]
        else:
            both = self.labels & self.decided
            found = [np.nonzero(table) for table in (self.labels, self.decided, both)]
        classes = self.values.shape[1]
        had, decided, right = (Entries.count(self.units[r], c, classes) for (r, c) in found)
        return had, decided, right


@dataclass(frozen=True)
class Entries:
    """How many rows of a unit have a class: the pairs that appear, since most do not."""

    units: Units
    of_class: Int[ndarray, " pairs"]
    rows: Int[ndarray, " pairs"]
    classes: int

    @classmethod
    def count(cls, units: Units, of_class: ndarray, classes: int) -> "Entries":
        pairs, rows = np.unique(units * classes + of_class, return_counts=True)
        return cls(pairs // classes, pairs % classes, rows, classes)

    def weigh(self, weights: Weights) -> Float[ndarray, " classes"]:
        """The rows of each class, weighted."""
        weighted = self.rows * weights[self.units]
        return np.bincount(self.of_class, weights=weighted, minlength=self.classes)


@dataclass(frozen=True)
class ClassCounts:
    """How many rows have each class (last axis), are decided as it, and both."""

    had: Float[ndarray, "*n classes"]
    decided: Float[ndarray, "*n classes"]
    right: Float[ndarray, "*n classes"]
    exclusive: bool
    """Whether a row has exactly one class."""
    distance: Float[ndarray, "*n"]
    """The sum over rows of the squared distance of decided and labelled place, if exclusive."""
    optional: tuple[int, ...] = ()
    """As of the metric."""


@dataclass(frozen=True)
class Metric:
    """A score of rows, higher or lower the better."""

    name: str
    tasks: tuple[Kind, ...]
    build: Callable[[Rows], Scorer]
    _: KW_ONLY
    needs: Literal["labels", "predictions"]
    """What is scored: the decided labels, which a threshold changes, or the predictions."""
    greater_is_better: bool = True
    two_classes: bool = False
    """Whether it is for two classes only; the second is then the positive one."""
    uses_order: bool = False
    """Whether another order of the classes changes it: which of two is positive, which are near."""
    lowest: float = 0.0
    highest: float = 1.0
    scores_order: bool = False
    """Whether only the order of the rows by each column counts, so that ranks do too."""
    is_mean_of_rows: bool = False
    """Whether it is the mean over rows of right (1) or wrong (0), so that tests for counts fit."""
    best: int = 0
    """How many classes a submission lists for a row, the most probable first; 0: no such list."""
    optional: tuple[int, ...] = ()
    """The places of classes that a mean over the classes leaves out where they have no row, since
    too few groups have them; without a row of any other class it is not defined."""
    of_counts: Callable[[ClassCounts], Float[ndarray, "*n"]] | None = None
    """The same as a function of any number of counts at once, where it is one."""

    def scorer(
        self,
        values: Outputs,
        decided: Labels,
        labels: Labels,
        units: Units | None = None,
    ) -> Scorer:
        """The score as a function of the units' weights; None: every row counts by itself."""
        units = np.arange(len(labels)) if units is None else units
        return self.build(Rows(values, decided, labels, units, self.optional))

    def score(self, values: Outputs, decided: Labels, labels: Labels) -> float:
        """The score of all rows, each counted once.

        Raises EnsembleError where it is not defined: no rows, a class without rows.
        """
        if not len(labels):
            raise EnsembleError(f"{self.name}: expected rows to score, found none")
        one = np.zeros(len(labels), np.int64)
        score = self.scorer(values, decided, labels, one)(np.ones(1))
        if np.isnan(score):
            has = f"not defined on these {len(labels)} rows"
            if labels.dtype.kind != "f":
                rows = Rows(values, decided, labels, one).entries[0].weigh(np.ones(1))
                has += (
                    f": expected rows of each class, found {rows.astype(int).tolist()} (in the "
                    "order of the classes)"
                )
            raise EnsembleError(f"{self.name}: {has}")
        return score

    def gain(self, score: float) -> float:
        """The score turned so that more is better."""
        return score if self.greater_is_better else -score
