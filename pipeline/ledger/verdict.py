"""Comparing a rebuilt submission with the submitted one."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import examples
from pipeline.ledger.history import Answers, find_differences, parse_answers, submitted_bytes
from pipeline.ledger.ledger import Entry
from pipeline.scoring.metrics import find_metric


@dataclass(frozen=True)
class Verdict:
    """What was rebuilt, and how it differs from what was submitted."""

    entry: Entry
    rebuilt: Path | None
    """The rebuilt file; None where it was removed with its worktree."""
    sha256: str
    """The rebuilt file's."""
    rows: int
    """Rows in either file, by id; 0 where the submitted file is lost, so only hashes compare."""
    different: list[str]
    """The ids of rows that differ, or that only one of the files has."""
    farthest: float | None
    """The largest difference of two submitted probabilities; None for anything else."""

    @property
    def identical(self) -> bool:
        """Byte for byte what was submitted."""
        return self.sha256 == self.entry.scored_sha256


def compare(entry: Entry, rebuilt: Path) -> Verdict:
    """Compare a rebuilt file with the submitted one, row by row where it is not lost."""
    content = rebuilt.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    submitted = content if sha256 == entry.scored_sha256 else submitted_bytes(entry)
    if submitted is None:
        return Verdict(entry, rebuilt, sha256, 0, [], None)
    wanted, found = parse_answers(submitted), parse_answers(content)
    metric, different = find_metric(entry.metric), find_differences(wanted, found)
    compares_numbers = metric is not None and metric.needs == "predictions"
    farthest = _find_farthest(wanted, found) if compares_numbers else None
    return Verdict(entry, rebuilt, sha256, len(wanted | found), different, farthest)


def report(verdict: Verdict) -> str:
    """The verdict in sentences."""
    entry, rows, different = verdict.entry, verdict.rows, verdict.different
    if verdict.identical:
        found = f"byte for byte what was submitted: {rows} rows, SHA-256 {verdict.sha256[:16]}."
    elif not rows:
        found = (
            f"not the bytes that were submitted: SHA-256 {verdict.sha256[:16]}, the ledger has "
            f"{entry.scored_sha256[:16]}. The submitted file is neither in the folder nor in the "
            "commit."
        )
    elif not different:
        found = f"other bytes, but all {rows} rows say the same, so the score is the same."
    else:
        found = f"but {len(different)} of {rows} rows differ {examples(different)}"
        found += "" if verdict.farthest is None else f", by at most {verdict.farthest:.2g}"
        if (metric := find_metric(entry.metric)) and metric.is_mean_of_rows:
            found += f": {metric.name} moves by at most {len(different) / rows:.4f}"
        found += "."
    if entry.commit != entry.base_commit:
        found += " It was made with changes that no commit holds."
    found += f" It is {verdict.rebuilt}." if verdict.rebuilt else ""
    return f"{entry.title}: rebuilt from commit {entry.base_commit[:12]}, {found}"


def _find_farthest(wanted: Answers, found: Answers) -> float | None:
    """The largest difference of two numbers; None where the files have other rows or columns."""
    try:
        return max(
            abs(float(one) - float(other))
            for name in wanted | found
            for one, other in zip(wanted[name], found[name], strict=True)
        )
    except (KeyError, ValueError):
        return None
