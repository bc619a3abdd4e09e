"""folds/summary.json: size and balance of the folds. `split` writes it, the report shows it."""

from typing import TYPE_CHECKING, Self

from pipeline.core.record import Count, Figure, Record, Some

if TYPE_CHECKING:
    import pandas as pd


class OnlyTrained(Record):
    """The rows that are trained on in every fold and never scored."""

    classes: dict[str, Some]
    """The rows of each class that is never scored."""
    beside: Count
    """Rows of other classes in the same groups."""

    @classmethod
    def of(cls, folds: "pd.DataFrame") -> Self | None:
        """What a table of folds says; None where every row is scored."""
        rows = folds[folds["repeat"] == folds["repeat"].iloc[0]]
        scored = rows["fold"].astype(str).str.isdecimal()  # of a file or of make_folds
        if scored.all():
            return None
        count = rows["label"][~scored].value_counts()
        never = sorted(set(count.index) - set(rows["label"][scored]))
        return cls(
            classes={name: int(count[name]) for name in never},
            beside=int(count.drop(never).sum()),
        )

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(self.classes.values()) + self.beside

    @property
    def sentence(self) -> str:
        """What a person must know of a score."""
        names = ", ".join(f"{name} ({rows})" for name, rows in self.classes.items())
        beside = f", and {self.beside} of other classes in their groups" if self.beside else ""
        return (
            f"{self.rows} training images are in every fold's training and never scored: those of "
            f"classes in fewer groups than folds, {names}{beside}. No score here says how well "
            "these classes are predicted"
        )


class FoldBalance(Record):
    """One fold. classes: number of rows of each class. shares: the same over `rows`."""

    fold: Count
    repeat: Count
    rows: Count
    groups: Count
    classes: dict[str, Count]
    shares: dict[str, Figure]


class FoldSummary(Record):
    """All folds. groups: before clusters of duplicates joined some of them."""

    images: Count
    groups: Count
    groups_joined_by_duplicates: Count
    only_trained: OnlyTrained | None = None
    folds: list[FoldBalance]

    @property
    def grouped(self) -> bool:
        """Whether images share groups: without a groups file each is its own."""
        return self.groups < self.images
