"""A competition's files from a folder that already holds them, as Kaggle gives them.

Tables and archives are copied, with the folders that they lie in. Images and sounds in no archive
stay where they are, since a copy of them would double their disk: data/raw refers to them
(raw/linked.py), and the folder may be read-only. The solution, where the folder has one, goes where
only `check` looks: a model that has seen it scores too well, and nothing would show it.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pipeline.core.errors import CompetitionError, examples, require
from pipeline.core.names import require_storable
from pipeline.core.paths import SOLUTION
from pipeline.core.progress import say, track
from pipeline.download.config import LocalSource
from pipeline.raw.archive import check_archive
from pipeline.raw.files import RawFiles
from pipeline.raw.kinds import is_solution, kind_of, walk
from pipeline.raw.linked import LINKED, link_images

_RENAME = "Rename them there, or remove them"


def copy_competition(config: LocalSource, raw: Path, hidden: Path) -> None:
    """Take the files of config.folder into `raw`, a solution into `hidden`; both are empty.

    What is no image, sound, table or archive, hidden files and READMEs are left out, which is said.
    Each archive is read whole once.
    Raises CompetitionError where the folder is missing or another project's data/raw, has no table
    besides a solution, several solutions, or a name that not every system can store, and what
    RawFiles raises on archives.
    """
    folder = Path(config.folder)
    if not folder.is_dir():
        raise CompetitionError(
            f"{folder}: expected a folder with the competition's files, found no such folder. "
            "Set download.folder in params.yaml"
        )
    if (folder / LINKED).exists():
        raise CompetitionError(
            f"{folder}: expected the competition's files, found a project's data/raw, which only "
            f"refers to its images. Set download.folder to the folder that {folder / LINKED} names"
        )
    files = dict(wanted_files(folder))
    images = [path for path in files if kind_of(path) in ("image", "sound")]
    answers = [path for path, file in files.items() if is_answers(path, file)]
    if len(answers) > 1:
        raise CompetitionError(
            f"{folder}: expected at most one solution (a CSV with a column Usage, or named "
            f"solution….csv), found {len(answers)} {examples(answers)}. Remove the wrong ones"
        )
    copied = [path for path in files if path not in {*images, *answers}]
    _require_names(folder, copied, images)
    with RawFiles(folder, beside=raw) as tree:
        _require_tables(folder, tree)
        packed = [path for path in tree.solutions if path not in answers]
    for path in copied:
        if path.lower().endswith(".zip"):
            check_archive(files[path])
    everything = [path.relative_to(folder).as_posix() for path in sorted(folder.iterdir())]
    hidden_files = [name for name in everything if name.startswith(".")]
    if others := [*hidden_files, *tree.others]:
        say(
            f"{folder}: {len(others)} files that are no image, sound, table or archive, hidden "
            f"files and READMEs are left out {examples(others)}"
        )
    if packed:
        say(f"{folder}: solutions in archives are never read {examples(packed)}")
    for path in track(copied, f"copying {folder}", len(copied)):
        (raw / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files[path], raw / path)
    for path in answers:
        shutil.copyfile(files[path], hidden / SOLUTION.name)
    if images:
        link_images(folder, images, raw)


def wanted_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The images, sounds, tables and archives of a folder, at any depth, by their paths in it."""
    for path, file in walk(folder):
        if kind_of(path) != "other" and file.is_file():
            yield path, file


def is_answers(path: str, file: Path) -> bool:
    """Whether a file of the folder is the solution, as a CSV that `check` reads."""
    return PurePosixPath(path).suffix.lower() == ".csv" and is_solution(path, file)


def _require_names(folder: Path, copied: list[str], images: list[str]) -> None:
    """Raise CompetitionError on a name that cannot be stored, or is not in UTF-8."""
    below = defaultdict(set)
    for path in map(PurePosixPath, copied):
        for parent in path.parents:
            below[parent].add(path.relative_to(parent).parts[0])
    for parent, names in sorted(below.items()):
        require_storable(CompetitionError, folder / parent, sorted(names), _RENAME)
    foreign = [ascii(name) for name in images if name.encode(errors="ignore").decode() != name]
    total = f"{len(images)} files"
    require(CompetitionError, folder, total, ("file names in UTF-8", foreign, _RENAME))


def _require_tables(folder: Path, tree: RawFiles) -> None:
    if not (tree.tables or tree.images.members or tree.sounds):
        found = [f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir()]
        raise CompetitionError(
            f"{folder}: expected the competition's files, images, sounds or a table (CSV, TSV or "
            "JSON) that is no solution, found none among: "
            f"{', '.join(sorted(found)) or 'nothing'}. Put "
            "it there, or set download.folder in params.yaml to the right folder"
        )
