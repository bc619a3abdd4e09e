"""Command `winner`: what Kaggle asks of winners, as a folder and a zip that repeat the submission.

    NAME/
      README.md entry_points.md requirements.txt directory_structure.txt LICENSE
      SETTINGS.json prepare_data.py train.py predict.py
      models/MODEL/foldK/weights.safetensors
      submissions/NAME.csv, NAME.json
      code/    the commit, as git archives it

The texts follow section B of kaggle.com/WinningModelDocumentationGuidelines; their templates are
beside this module. Everything else comes from the commit and from the networks that the card names
by their hashes, so the same commit on the same machine gives the same bytes. The competition's
data are left out. `code` is a repository of DVC without git, where `make run` trains again.
"""

import io
import shlex
import shutil
import tarfile
import zipfile
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.core import paths
from pipeline.core.errors import SubmissionError
from pipeline.core.files import new_file, new_folder, sha256_of, write_text
from pipeline.core.ours import refuse_others, remember
from pipeline.core.progress import say
from pipeline.ensemble.saved import read_blend
from pipeline.ledger.git import find_missing, git, git_bytes
from pipeline.ledger.provenance import REPRO, Obstacle, explain_obstacles, trace
from pipeline.params import Config
from pipeline.predict.command import find_weights
from pipeline.scoring.card import read_card
from pipeline.winner.machine import describe_machine
from pipeline.winner.run import CODE, DEFAULTS, SETTINGS, STEPS, WORK

LICENSE = Path("LICENSE")
ENTRY_POINTS = "entry_points.md"
STRUCTURE = "directory_structure.txt"


def run(config: Config, output: Path) -> None:
    """Write OUTPUT/NAME/ and OUTPUT/NAME.zip, each whole or not at all.

    Raises SubmissionError where the package would not repeat the submission, as _find_obstacles
    states; OutputError where other files are in its place; EnsembleError as find_weights does.
    """
    name = config.ensemble.name
    folder, zipped = output / name, output / f"{name}.zip"
    refuse_others(folder, zipped, reserved=[*paths.OWN_FILES, *config.outputs()])
    submission = paths.submission(name)
    if not submission.is_file():
        raise SubmissionError(f"{submission}: no such file. Run: dvc repro")
    if obstacles := _find_obstacles(submission):
        raise SubmissionError(
            f"{submission}: the package would not repeat it: {explain_obstacles(obstacles)}; "
            "then this command again"
        )
    card, weights = find_weights(config)
    read_blend(paths.card(name), card.blend.fitted, len(weights))
    with new_folder(folder) as partial:
        _fill(partial, config, [file for files in weights.values() for file in files])
    remember(folder)
    with new_file(zipped) as partial:
        _zip(folder, partial)
    remember(zipped)
    say(f"{zipped}: {zipped.stat().st_size / 1e6:.1f} MB, the same as {folder}/")


def _find_obstacles(submission: Path) -> list[Obstacle]:
    """Why the commit does not hold what made the submission; empty where it does."""
    found = trace(submission)
    obstacles = list(found.obstacles)
    if not found.commit:
        return obstacles
    card = submission.with_suffix(".json")
    if not card.is_file() or found.sha256 != read_card(card).sha256.submission:
        obstacles.append(Obstacle(f"{card} is not its card", REPRO))
    wanted = [submission, card, paths.PARAMS, Path("dvc.yaml"), paths.DVC_LOCK]
    wanted += [paths.REQUIREMENTS, LICENSE]
    if missing := find_missing(wanted):
        names = [str(path) for path in missing]
        force = f"git add --force {shlex.join(names)} && git commit"
        obstacles.append(Obstacle(f"no commit holds {', '.join(names)}", force))
    return obstacles


def _fill(folder: Path, config: Config, weights: list[Path]) -> None:
    name = config.ensemble.name
    unpack_commit(folder / CODE)
    write_text(folder / CODE / ".dvc" / "config.local", "[core]\n    no_scm = true\n")
    for start in list_starts(config):
        copy(start, folder / CODE / start)
    for file in weights:
        copy(file, folder / DEFAULTS.MODEL_DIR / file.relative_to("models"))
    for file in (paths.submission(name), paths.card(name)):
        copy(file, folder / DEFAULTS.SUBMISSION_DIR / file.name)
    copy(paths.REQUIREMENTS, folder / "requirements.txt")
    copy(LICENSE, folder / LICENSE.name)
    write_text(folder / SETTINGS, DEFAULTS.model_dump_json(indent=2) + "\n")
    for step in STEPS:
        write_text(folder / f"{step}.py", render("script.py", step=step))
    facts = {
        "name": name,
        "commit": git("rev-parse", "HEAD"),
        "download": config.download,
        "raw_files": {path.name: sha256_of(path) for path in sorted(paths.RAW.iterdir())},
        "networks": [file.as_posix() for file in weights],
        "device": config.train.device,
        "machine": describe_machine(),
    }
    for text in (ENTRY_POINTS, "README.md"):
        write_text(folder / text, render(text, **facts))
    write_text(folder / STRUCTURE, list_structure([*_files(folder), STRUCTURE]))


def list_starts(config: Config) -> list[Path]:
    """The files that trainings start from, which no commit needs to hold.

    Raises TrainError for one that is missing or another one, SubmissionError for one elsewhere.
    """
    networks = [config.train.models[member].network for member in config.train.members]
    found = []
    for network in networks:
        if network.weights is None:
            continue
        network.weights.check()
        file = Path(network.weights.file)
        if file.is_absolute() or ".." in file.parts:
            raise SubmissionError(
                f"{paths.PARAMS}: network.weights: {file}: expected a file in this folder, named "
                "relative to it, which the package can hold. Move it, correct its name, and run: "
                "dvc repro"
            )
        found.append(file)
    return found


def render(text: str, **facts: object) -> str:
    """A file of the package from its template, which raises on a fact that is not given."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = templates.get_template(f"{text}.j2")
    return template.render(steps=STEPS, code=CODE, work=WORK, settings=DEFAULTS, **facts)


def list_structure(files: list[str]) -> str:
    """directory_structure.txt: every folder and file, one a line."""
    folders = {f"{folder}/" for file in files for folder in Path(file).parents} - {"./"}
    return "".join(f"./{path}\n" for path in sorted({*files, *folders}))


def unpack_commit(folder: Path) -> None:
    """Write the files of the last commit. Raises SubmissionError on a link among them."""
    packed = io.BytesIO(git_bytes("archive", "--format=tar", "HEAD"))
    with tarfile.open(fileobj=packed) as archive:
        if links := [member.name for member in archive if not (member.isfile() or member.isdir())]:
            raise SubmissionError(
                f"{links[0]}: expected files in the commit, found a link, which not every "
                "system can unpack. Put a file in its place"
            )
        archive.extractall(folder, filter="data")


def _zip(folder: Path, zipped: Path) -> None:
    """Pack the files by name, without times and owners."""
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in _files(folder):
            file = folder / name
            member = zipfile.ZipInfo(f"{folder.name}/{name}", date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # Unix
            mode = 0o100755 if file.stat().st_mode & 0o100 else 0o100644
            member.external_attr = mode << 16
            archive.writestr(member, file.read_bytes(), zipfile.ZIP_DEFLATED)


def _files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def copy(source: Path, target: Path) -> None:
    """Copy a file into a folder that need not be there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
