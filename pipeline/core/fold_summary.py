"""folds/summary.json: size and balance of the folds. `split` writes it, the report shows it."""

from pipeline.core.record import Figure, Record


class FoldBalance(Record):
    """One fold. classes: number of rows of each class. shares: the same over `rows`."""

    fold: int
    repeat: int
    rows: int
    groups: int
    classes: dict[str, int]
    shares: dict[str, Figure]


class FoldSummary(Record):
    """All folds. groups: before clusters of duplicates joined some of them."""

    images: int
    groups: int
    groups_joined_by_duplicates: int
    folds: list[FoldBalance]

    @property
    def grouped(self) -> bool:
        """Whether images share groups: without a groups file each is its own."""
        return self.groups < self.images
