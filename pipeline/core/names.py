"""Names from outside as names of files: of a server, of an archive, of another machine's folder.

A project moves between systems (DVC's remote, a colleague's clone), so what one of them cannot
store, or takes for another file, is refused on all.
"""

import re
import unicodedata
from collections import Counter
from pathlib import Path

from pipeline.core.errors import PipelineError, require

MOST_BYTES = 240
"""In UTF-8. Systems allow 255, and a file that is being written has a longer name."""

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]|[ .]$|^$')
_TAKEN = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*\.(kaggle-)?partial", re.I | re.S)
"""Windows' devices; files that are being written, by us and by Kaggle's client."""


def is_storable(name: str) -> bool:
    """Whether a file of this name can be stored in a folder, on every system."""
    if _FORBIDDEN.search(name) or _TAKEN.fullmatch(name):
        return False
    return len(name.encode()) <= MOST_BYTES


def require_storable(
    error: type[PipelineError], place: Path | str, names: list[str], remedy: str
) -> None:
    """Raise `error` unless all names can be stored side by side in one folder."""
    same = [unicodedata.normalize("NFC", name).casefold() for name in names]
    count = Counter(same)
    flawed = [f"{name[:80]!a}" for name in names if not is_storable(name)]
    clashing = [name for name, folded in zip(names, same, strict=True) if count[folded] > 1]
    require(
        error,
        place,
        f"{len(names)} names",
        (f"names of files, of at most {MOST_BYTES} bytes and allowed everywhere", flawed, remedy),
        ("names that differ in more than case", clashing, remedy),
    )
