"""A competition's files from a folder that already holds them.

The solution, where the folder has one, goes where only `check` looks: a model that has seen it
scores too well, and nothing would show it.
"""

import shutil
from pathlib import Path

from pipeline.core.errors import CompetitionError, examples
from pipeline.core.names import require_storable
from pipeline.core.paths import SOLUTION
from pipeline.core.progress import say, track
from pipeline.download.config import LocalSource
from pipeline.raw.archive import check_archive
from pipeline.raw.roles import is_csv, is_solution, is_zip


def copy_competition(config: LocalSource, raw: Path, hidden: Path) -> None:
    """Copy the files of config.folder into `raw`, a solution into `hidden`; both are empty.

    Sub-folders, hidden files and README files are left out. Each zip is read whole once.
    Raises CompetitionError where the folder is missing, has no zip, no CSV besides a solution,
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
    files = [
        path
        for path in everything
        if path.is_file() and not path.name.upper().startswith((".", "README"))
    ]
    solutions = [path for path in files if is_csv(path) and is_solution(path)]
    if len(solutions) > 1:
        raise CompetitionError(
            f"{folder}: expected at most one solution (a CSV with a column Usage, or named "
            f"solution….csv), found {len(solutions)} "
            f"{examples([path.name for path in solutions])}. Remove the wrong ones"
        )
    competition = [path for path in files if path not in solutions]
    for kind, is_kind in {"zip": is_zip, "CSV": is_csv}.items():
        if not any(is_kind(path) for path in competition):
            names = [f"{path.name}/" if path.is_dir() else path.name for path in everything]
            listed = ", ".join(names) or "nothing"
            raise CompetitionError(
                f"{folder}: expected the competition's files, at least one zip of images and one "
                f"CSV that is no solution; found no {kind} among: {listed}. Put them "
                "there, or set download.folder in params.yaml to the right folder"
            )
    rename = "Rename them there, or remove them"
    require_storable(CompetitionError, folder, [path.name for path in competition], rename)
    if others := [path.name for path in everything if path not in files]:
        say(f"{folder}: folders, hidden files and READMEs are left out {examples(others)}")
    for path in files:
        if is_zip(path):
            check_archive(path)
    for path in track(files, f"copying {folder}", len(files)):
        place = hidden / SOLUTION.name if path in solutions else raw / path.name
        shutil.copyfile(path, place)
