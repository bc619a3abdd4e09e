"""What a downloaded folder holds and where it came from, so that a change shows.

No time stamps: the same files from the same source give the same bytes.
"""

import json
from pathlib import Path

from pipeline.core.files import sha256_of, write_text

NAME = "MANIFEST.json"


def write_manifest(folder: Path, source: dict[str, object]) -> None:
    """Write MANIFEST.json: the source, and each file's name, bytes and SHA-256, by name."""
    files = [
        {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(folder.iterdir())
        if path.name != NAME
    ]
    manifest = {"source": source, "files": files}
    write_text(folder / NAME, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
