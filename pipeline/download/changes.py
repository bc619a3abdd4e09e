"""Whether a local folder still holds the files that `download` took from it.

DVC watches what dvc.yaml names, which cannot be a folder that params.yaml names. So what is there
is compared with the manifest, by hash; `.resume/local.json` remembers the hashes of files whose
size and time are still the same, so that as a rule none is read.
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import PipelineError, examples
from pipeline.core.files import sha256_of
from pipeline.core.progress import track
from pipeline.core.record import Count, Record, read_record, write_record
from pipeline.download.config import DownloadConfig, LocalSource
from pipeline.download.local import is_answers, wanted_files
from pipeline.download.manifest import MANIFEST, Manifest
from pipeline.raw.linked import LINKED, Linked

SEEN = paths.RESUME / "local.json"


class SeenFile(Record):
    """A file as it was when its hash was taken. modified_ns: its time, in nanoseconds."""

    path: str
    bytes: Count
    modified_ns: int
    sha256: str


class SeenFolder(Record):
    """.resume/local.json."""

    folder: str
    files: list[SeenFile]


@dataclass(frozen=True)
class Look:
    """The size and the time of each file of a folder, at one moment."""

    folder: str
    files: dict[str, tuple[int, int]]


def look(config: DownloadConfig) -> Look | None:
    """What is to be seen of a local folder without reading its files."""
    if not isinstance(config, LocalSource) or not Path(config.folder).is_dir():
        return None
    stats = {path: file.stat() for path, file in wanted_files(Path(config.folder))}
    files = {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}
    return Look(config.folder, files)


def remember(looked: Look, hashes: dict[str, str]) -> None:
    """Note the hashes of files, which had what `looked` says before they were read."""
    files = [
        SeenFile(path=path, bytes=size, modified_ns=modified, sha256=hashes[path])
        for path, (size, modified) in looked.files.items()
        if path in hashes
    ]
    write_record(SEEN, SeenFolder(folder=looked.folder, files=files))


def taken_hashes(looked: Look) -> dict[str, str]:
    """The hash of each file that `download` took, by its path in the local folder.

    Raises TableError where the manifest, or the record of linked images, is missing or invalid.
    """
    manifest = read_record(paths.HIDDEN / MANIFEST, Manifest, "download")
    hashes = {file.name: file.sha256 for file in manifest.raw}
    if hashes.pop(LINKED, None):
        linked = read_record(paths.RAW / LINKED, Linked, "download")
        hashes |= {image.path: image.sha256 for image in linked.images}
    for answers in manifest.hidden:
        folder = Path(looked.folder)
        own = [path for path in looked.files if is_answers(path, folder / path)]
        hashes |= dict.fromkeys(own or [answers.name], answers.sha256)
    return hashes


def find_changes(config: DownloadConfig) -> str:
    """What differs in a local folder from what was taken from it; "" where nothing does.

    Also "" where nothing was taken from it yet, or it is gone: data/raw has what it had.
    """
    looked = look(config)
    if looked is None or not (paths.HIDDEN / MANIFEST).is_file():
        return ""
    try:
        if read_record(paths.HIDDEN / MANIFEST, Manifest, "download").source != config:
            return ""  # DVC sees that params.yaml has changed
        taken = taken_hashes(looked)
    except PipelineError:
        return ""  # a damaged output, which DVC makes again
    now = _hash(looked)
    kinds = {
        "changed": [path for path in now if path in taken and now[path] != taken[path]],
        "new": [path for path in now if path not in taken],
        "gone": [path for path in taken if path not in now],
    }
    found = [f"{len(some)} {kind} {examples(some)}" for kind, some in kinds.items() if some]
    return f"{looked.folder}: {', '.join(found)} since `download` took its files" if found else ""


def _hash(looked: Look) -> dict[str, str]:
    """The hash of each file, from the record where size and time are as they were."""
    known: dict[str, SeenFile] = {}
    try:
        seen = read_record(SEEN, SeenFolder, "download")
        known = {file.path: file for file in seen.files} if seen.folder == looked.folder else {}
    except PipelineError:
        pass  # none yet, or from another version: all is read again
    hashes = {
        path: known[path].sha256
        for path, stat in looked.files.items()
        if path in known and (known[path].bytes, known[path].modified_ns) == stat
    }
    if unknown := [path for path in looked.files if path not in hashes]:
        for path in track(unknown, f"comparing {looked.folder}", len(unknown)):
            hashes[path] = sha256_of(Path(looked.folder) / path)
        remember(looked, hashes)
    return hashes
