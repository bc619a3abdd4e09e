"""Writes a competition's files, drawn or rebuilt, in the layout of "Fighting Malaria with CNNs".

The same rows and images give the same bytes: the zips have no times, and store the PNGs without
compressing them again.
"""

import zipfile
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from pipeline.core.progress import track
from pipeline.core.tables import write_table


def write_tables(raw: Path, hidden: Path, train: pd.DataFrame, test: pd.DataFrame) -> None:
    """Write the CSVs. train: columns id, the label, the group. test: id, the label (the true one),
    Usage."""
    _, label, group = train.columns
    write_table(raw / "train_labels.csv", train[["id", label]])
    write_table(raw / "train_groups.csv", train[["id", group]])
    write_table(raw / "sample_submission.csv", test[["id"]].assign(**{label: 0}))
    write_table(hidden / "solution.csv", test[["id", label, "Usage"]])


def write_images(path: Path, ids: list[str], pngs: Iterable[bytes], what: str) -> None:
    """Zip a PNG file for each id, in order, in a folder named as the zip. what: for progress."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for image_id, png in track(zip(ids, pngs, strict=True), what, len(ids)):
            member = zipfile.ZipInfo(f"{path.stem}/{image_id}.png", (1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # Unix
            member.external_attr = 0o100644 << 16  # a plain file
            archive.writestr(member, png)
