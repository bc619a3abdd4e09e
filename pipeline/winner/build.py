"""Command `winner`: what Kaggle asks of winners, as a folder and a zip that repeat the submission.

    NAME/
      README.md entry_points.md requirements.txt directory_structure.txt LICENSE
      SETTINGS.json prepare_data.py train.py predict.py
      models/MODEL/foldK/weights.safetensors
      submissions/NAME.csv, NAME.json
      code/    the commit, as git archives it

It is made of committed files and of networks that the card names, by their hashes, so the same
commit on the same machine gives the same bytes. The competition's data are left out. `code` is a
repository of DVC without git, where `make run` trains anew.
"""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.core import paths
from pipeline.core.errors import SubmissionError, examples
from pipeline.core.files import new_file, new_folder, write_text
from pipeline.core.progress import say
from pipeline.ensemble.saved import read_fitted
from pipeline.ledger.provenance import trace
from pipeline.params import Config
from pipeline.predict.command import find_weights
from pipeline.winner.machine import describe_machine
from pipeline.winner.run import CODE, DEFAULTS, SETTINGS
from pipeline.winner.texts import (
    PURPOSES,
    Facts,
    write_entry_points,
    write_readme,
    write_script,
    write_settings,
    write_structure,
)

LICENSE = Path("LICENSE")
ENTRY_POINTS = "entry_points.md"
MANIFEST = paths.RAW / "MANIFEST.json"


def run(config: Config, output: Path) -> None:
    """Write OUTPUT/NAME/ and OUTPUT/NAME.zip, each whole or not at all.

    Raises SubmissionError where the package would not repeat the submission, as _find_obstacles
    states, or where another folder stands in its place; EnsembleError as find_weights does.
    """
    name = config.ensemble.name
    folder, zipped = output / name, output / f"{name}.zip"
    _check_place(folder, zipped)
    submission = paths.submission(name)
    if not submission.is_file():
        raise SubmissionError(f"{submission}: no such file. Run: dvc repro")
    if obstacles := _find_obstacles(submission):
        raise SubmissionError(
            f"{submission}: the package would not repeat it: {'; '.join(obstacles)}. "
            "Run: dvc repro, then git add --all, git commit, and this command again"
        )
    card, weights = find_weights(config)
    read_fitted(paths.card(name), card.blend.fitted, len(weights))
    with new_folder(folder) as partial:
        _fill(partial, config, [file for files in weights.values() for file in files])
    with new_file(zipped) as partial:
        _zip(folder, partial)
    say(f"{zipped}: {zipped.stat().st_size / 1e6:.1f} MB, the same as {folder}/")


def _check_place(folder: Path, zipped: Path) -> None:
    is_package = (folder / ENTRY_POINTS).is_file()
    for place in (folder, zipped):
        if place.exists() and not is_package:
            raise SubmissionError(
                f"{place}: expected nothing or an earlier package, found something else there. "
                "Name another place: --output FOLDER"
            )


def _find_obstacles(submission: Path) -> list[str]:
    """Why the commit does not hold what made the submission; empty where it does."""
    found = trace(submission)
    obstacles = list(found.obstacles)
    if not found.commit:
        return obstacles
    card = submission.with_suffix(".json")
    if not card.is_file() or found.sha256 != _recorded_sha256(card):
        obstacles.append(f"{card} is not its card")
    wanted = [submission, card, paths.PARAMS, Path("dvc.yaml"), paths.DVC_LOCK]
    wanted += [paths.REQUIREMENTS, LICENSE]
    committed = set(_git("ls-files", "--", *map(str, wanted)).decode().splitlines())
    if missing := [str(path) for path in wanted if str(path) not in committed]:
        obstacles.append(f"no commit holds {', '.join(missing)}")
    if unknown := _git("ls-files", "--others", "--exclude-standard", "--", "pipeline").decode():
        files = unknown.splitlines()
        obstacles.append(f"{len(files)} files of the code are in no commit {examples(files)}")
    if changed := _code_since_locked():
        obstacles.append(
            f"{len(changed)} files of the code are not those that {paths.DVC_LOCK} records "
            f"{examples(changed)}"
        )
    return obstacles


def _recorded_sha256(card: Path) -> str:
    recorded: str = json.loads(card.read_text(encoding="utf-8"))["sha256"]["submission"]
    return recorded


def _code_since_locked() -> list[str]:
    """The modules that a stage ran with, and that have changed or gone since."""
    if not paths.DVC_LOCK.is_file():
        return []  # which trace tells
    lock = YAML(typ="safe", pure=True).load(paths.DVC_LOCK.read_text(encoding="utf-8"))
    locked = {
        Path(dep["path"]): dep["md5"]
        for stage in lock["stages"].values()
        for dep in stage.get("deps", [])
        if dep["path"].endswith(".py")
    }
    return sorted(
        str(path) for path, md5 in locked.items() if not path.is_file() or _md5(path) != md5
    )


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _fill(folder: Path, config: Config, weights: list[Path]) -> None:
    name = config.ensemble.name
    commit = _git("rev-parse", "HEAD").decode().strip()
    _unpack_commit(folder / CODE)
    write_text(folder / CODE / ".dvc" / "config.local", "[core]\n    no_scm = true\n")
    for file in weights:
        _copy(file, folder / DEFAULTS.MODEL_DIR / file.relative_to("models"))
    for file in (paths.submission(name), paths.card(name)):
        _copy(file, folder / DEFAULTS.SUBMISSION_DIR / file.name)
    _copy(paths.REQUIREMENTS, folder / "requirements.txt")
    _copy(LICENSE, folder / LICENSE.name)
    write_text(folder / SETTINGS, write_settings())
    for step in PURPOSES:
        write_text(folder / f"{step}.py", write_script(step))
    write_text(folder / ENTRY_POINTS, write_entry_points(name))
    facts = Facts(
        name=name,
        commit=commit,
        competition=config.download,
        raw_files=_raw_files(),
        networks=[file.as_posix() for file in weights],
        device=config.train.device,
        machine=describe_machine(),
    )
    write_text(folder / "README.md", write_readme(facts))
    structure = "directory_structure.txt"
    write_text(folder / structure, write_structure([*_files(folder), structure]))


def _raw_files() -> list[dict[str, str | int]]:
    if not MANIFEST.is_file():
        raise SubmissionError(
            f"{MANIFEST}: no such file, and the package is to tell which data were used. "
            "Run: dvc repro download, or dvc checkout"
        )
    files: list[dict[str, str | int]] = json.loads(MANIFEST.read_text(encoding="utf-8"))["files"]
    return files


def _unpack_commit(folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", "HEAD"))) as archive:
        for member in archive:
            path = folder / member.name
            if member.isdir():
                continue
            content = archive.extractfile(member) if member.isfile() else None
            if content is None:
                raise SubmissionError(
                    f"{member.name}: expected files in the commit, found a link, which not every "
                    "system can unpack. Put a file in its place"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read())
            path.chmod(0o755 if member.mode & 0o100 else 0o644)


def _zip(folder: Path, zipped: Path) -> None:
    """In the order of the names, without times and owners."""
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in _files(folder):
            file = folder / name
            member = zipfile.ZipInfo(f"{folder.name}/{name}", date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # Unix
            mode = 0o100755 if file.stat().st_mode & 0o100 else 0o100644
            member.external_attr = mode << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            member.file_size = file.stat().st_size  # above 2 GiB the format is another
            with file.open("rb") as content, archive.open(member, "w") as packed:
                shutil.copyfileobj(content, packed, 2**20)


def _files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise SubmissionError(f"git {' '.join(arguments)}: {said or 'failed'}")
    return done.stdout
