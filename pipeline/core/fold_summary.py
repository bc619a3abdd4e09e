"""folds/summary.json: size and balance of the folds. `split` writes it, the report shows it."""

from pipeline.core.record import Count, Figure, Record


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
    folds: list[FoldBalance]

    @property
    def grouped(self) -> bool:
        """Whether images share groups: without a groups file each is its own."""
        return self.groups < self.images
