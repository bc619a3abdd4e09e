"""A competition's files from a folder that already holds them, as Kaggle gives them.

The solution, where the folder has one, goes where only `check` looks: a model that has seen it
scores too well, and nothing would show it. A sub-folder of images becomes a zip of its name, stored
as it is: DVC copies and compares one file in a quarter of the time.
"""

import shutil
import zipfile
from pathlib import Path, PurePosixPath

from pipeline.core.errors import CompetitionError, examples
from pipeline.core.names import require_storable
from pipeline.core.paths import SOLUTION
from pipeline.core.progress import say, track
from pipeline.download.config import LocalSource
from pipeline.raw.archive import IMAGE_SUFFIXES, check_archive, open_archive, read_member
from pipeline.raw.roles import is_csv, is_solution, is_zip

_RENAME = "Rename them there, or remove them"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can have: the same files give the same bytes."""


def copy_competition(config: LocalSource, raw: Path, hidden: Path) -> None:
    """Copy the files of config.folder into `raw`, a solution into `hidden`; both are empty.

    Sub-folders with images become zips. Where there is no CSV, those inside the zips are copied
    beside them. Other sub-folders, hidden files and README files are left out, which is said. Each
    zip is read whole once.
    Raises CompetitionError where the folder is missing, has no images, no CSV besides a solution,
    several solutions, or a name that not every system can store; ArchiveError on a zip that is
    damaged, a bomb or ambiguous.
    """
    folder = Path(config.folder)
    if not folder.is_dir():
        raise CompetitionError(
            f"{folder}: expected a folder with the competition's files, found no such folder. "
            "Set download.folder in params.yaml"
        )
    everything = sorted(folder.iterdir())
    wanted = [path for path in everything if not path.name.upper().startswith((".", "README"))]
    files = [path for path in wanted if path.is_file()]
    folders = [path for path in wanted if path.is_dir() and _holds_images(path)]
    solutions = [path for path in files if is_csv(path) and is_solution(path)]
    if len(solutions) > 1:
        raise CompetitionError(
            f"{folder}: expected at most one solution (a CSV with a column Usage, or named "
            f"solution….csv), found {len(solutions)} "
            f"{examples([path.name for path in solutions])}. Remove the wrong ones"
        )
    competition = [path for path in files if path not in solutions]
    zips = [path for path in competition if is_zip(path)]
    for path in zips:
        check_archive(path)
    tables = [] if any(is_csv(path) for path in competition) else _find_tables(zips)
    found = {"zip or folder of images": bool(zips or folders), "CSV": bool(tables)}
    found["CSV"] |= any(is_csv(path) for path in competition)
    for kind, is_there in found.items():
        if not is_there:
            names = [f"{path.name}/" if path.is_dir() else path.name for path in everything]
            raise CompetitionError(
                f"{folder}: expected the competition's files, at least one zip or folder of images "
                f"and one CSV that is no solution; found no {kind} among: "
                f"{', '.join(names) or 'nothing'}. Put them there, or set download.folder in "
                "params.yaml to the right folder"
            )
    stored = [path.name for path in competition] + [f"{path.name}.zip" for path in folders]
    stored += [PurePosixPath(member).name for _, member in tables]
    require_storable(CompetitionError, folder, stored, _RENAME)
    if others := [path.name for path in everything if path not in files and path not in folders]:
        say(f"{folder}: other folders, hidden files and READMEs are left out {examples(others)}")
    for path in track(files, f"copying {folder}", len(files)):
        place = hidden / SOLUTION.name if path in solutions else raw / path.name
        shutil.copyfile(path, place)
    for path in folders:
        _pack(path, raw / f"{path.name}.zip")
    for path, member in tables:
        with open_archive(path) as archive:
            content = read_member(path, archive, archive.getinfo(member))
        (raw / PurePosixPath(member).name).write_bytes(content)


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.rglob("*"))


def _find_tables(zips: list[Path]) -> list[tuple[Path, str]]:
    """The CSVs inside zips: as in the one zip of a whole competition."""
    found = []
    for path in zips:
        with open_archive(path) as archive:
            found += [(path, name) for name in archive.namelist() if is_csv(Path(name))]
    return found


def _pack(folder: Path, place: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with zipfile.ZipFile(place, "w") as archive:
        for path in track(files, f"packing {folder}", len(files)):
            member = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix(), _LONG_AGO)
            with archive.open(member, "w", force_zip64=True) as out, path.open("rb") as file:
                shutil.copyfileobj(file, out)
