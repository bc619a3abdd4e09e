"""What a submission was made from, so that it can be rebuilt: commit, parameters, card.

It can be rebuilt where the working tree is the commit, the commit holds everything that the stages
read and no stage makes, and dvc.lock describes the stages as they are there.
"""

import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipeline.core import paths
from pipeline.core.errors import ConfigError, GitError, PipelineError, examples
from pipeline.core.files import sha256_of
from pipeline.download.changes import find_changes
from pipeline.ledger.git import find_changed, find_ignored, find_missing, find_unfinished, git
from pipeline.ledger.ledger import DIRTY
from pipeline.ledger.stages import examine_upstream, read_lock
from pipeline.params import named_inputs, read_config
from pipeline.scoring.card import Card, read_card

REPRO = "dvc repro"
OWN_REPRO = "python -m pipeline repro"
"""Which sees what DVC does not: a change of a local folder."""

COMMIT = "git add --all && git commit"


@dataclass(frozen=True)
class Obstacle:
    """Why a file could not be rebuilt from the commit, and the command that changes it."""

    reason: str
    remedy: str = ""

    @classmethod
    def of(cls, error: PipelineError) -> Self:
        """What kept git or DVC from an answer."""
        reason, _, remedy = str(error).partition(". Run: ")
        return cls(reason, remedy)


@dataclass(frozen=True)
class Provenance:
    """What a submission was made from; texts are "" where nothing is known."""

    sha256: str
    commit: str
    """The last commit, with DIRTY where it does not hold all files as they are here."""
    dvc_lock: str
    """SHA-256 of dvc.lock."""
    params: str
    """SHA-256 of params.yaml."""
    card: Card | None
    """The card beside the file; None where there is none, or it describes another file."""
    obstacles: list[Obstacle]
    """Empty where the file can be rebuilt."""


def trace(file: Path) -> Provenance:
    """What a file was made from, by the repository's root. Raises TableError on a bad card."""
    sha256 = sha256_of(file)
    path = file.with_suffix(".json")
    card = read_card(path) if path.is_file() else None
    commit, obstacles = _examine(file)
    return Provenance(
        sha256=sha256,
        commit=commit,
        dvc_lock=sha256_of(paths.DVC_LOCK) if paths.DVC_LOCK.is_file() else "",
        params=sha256_of(paths.PARAMS) if paths.PARAMS.is_file() else "",
        card=card if card and card.sha256.submission == sha256 else None,
        obstacles=obstacles,
    )


def explain_obstacles(obstacles: list[Obstacle]) -> str:
    """All reasons, then all commands: the commit comes last, to hold what the others did."""
    remedies = dict.fromkeys(each.remedy for each in obstacles if each.remedy)
    commands = ", then ".join(sorted(remedies, key=lambda remedy: "git commit" in remedy))
    reasons = "; ".join(each.reason for each in obstacles)
    return f"{reasons}. Run: {commands}" if commands else reasons


def _examine(file: Path) -> tuple[str, list[Obstacle]]:
    """The last commit, and all that keeps it from being what made the file."""
    try:
        commit = git("rev-parse", "HEAD")
    except GitError as error:
        return "", [Obstacle.of(error)]
    inputs, unmade = _examine_stages(file)
    named, mistaken = _examine_named()
    try:
        unheld = _examine_tree(sorted({*inputs, *named}))
        unkept = _examine_commit()
    except GitError as error:
        unheld, unkept = [Obstacle.of(error)], []
    return commit + DIRTY * bool(unheld), [*unheld, *unkept, *mistaken, *unmade]


def _examine_stages(file: Path) -> tuple[list[Path], list[Obstacle]]:
    """What the file's stages read, and why they did not make the file as they are now."""
    unmade = Obstacle(f"{file} is not what {paths.DVC_LOCK} describes", REPRO)
    if not paths.DVC_LOCK.is_file():
        return [], [unmade]
    try:
        stage, md5 = read_lock(paths.DVC_LOCK.read_bytes()).find(file)
        if not stage:
            return [], [unmade]
        upstream = examine_upstream(stage)
    except PipelineError as error:
        return [], [Obstacle.of(error)]
    if md5 != hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest():
        return upstream.inputs, [unmade]
    if stale := upstream.stale:
        reason = f"{len(stale)} stages are out of date {examples(stale)}"
        return upstream.inputs, [Obstacle(reason, REPRO)]
    return upstream.inputs, []


def _examine_named() -> tuple[list[Path], list[Obstacle]]:
    """The files that params.yaml names and git must hold; why others are not what it says, and
    what of a local folder is not what `download` took."""
    try:
        config = read_config(paths.PARAMS)
    except ConfigError as error:
        return [], [Obstacle(str(error).splitlines()[0])]
    named, changes = named_inputs(config), find_changes(config.download)
    mistaken = [
        f"{file} is {'not what its SHA-256 says' if file.is_file() else 'missing'}"
        for file, pin in named.items()
        if not file.is_file() or (pin and sha256_of(file) != pin)
    ]
    unpinned = [file for file, pin in named.items() if file.is_file() and not pin]
    obstacles = [Obstacle(f"{paths.PARAMS}: {each}") for each in mistaken]
    return unpinned, [*obstacles, *([Obstacle(changes, OWN_REPRO)] if changes else [])]


def _examine_tree(inputs: list[Path]) -> list[Obstacle]:
    """What of the working tree is not in the commit. Raises GitError."""
    obstacles = []
    if changed := find_changed(paths.LEDGER):
        reason = f"{len(changed)} files differ from the commit {examples(changed)}"
        obstacles.append(Obstacle(reason, COMMIT))
    missing, root = find_missing(inputs), Path().resolve()
    if away := [file for file in missing if file.resolve() != root / file]:
        ends = [f"{file}, in truth {file.resolve()}" for file in away]
        reason = f"{len(away)} inputs are links or outside the repository {examples(ends)}"
        obstacles.append(Obstacle(f"{reason}: put the files themselves into it", COMMIT))
    if new := [file for file in missing if file not in away]:
        ignored = find_ignored(new)
        force = f"git add --force {shlex.join(map(str, ignored[:3]))} && git commit"
        reason = f"{len(new)} inputs are in no commit {examples([*map(str, new)])}"
        obstacles.append(Obstacle(reason, force if ignored else COMMIT))
    return obstacles


def _examine_commit() -> list[Obstacle]:
    """Why git may not keep the commit, or is about to replace it. Raises GitError."""
    if unfinished := find_unfinished(Path(git("rev-parse", "--absolute-git-dir"))):
        goes_on = COMMIT if unfinished == "merge" else f"git {unfinished} --continue"
        return [Obstacle(f"a {unfinished} is not finished", goes_on)]
    refs = ("refs/heads", "refs/remotes", "refs/tags")
    if not git("for-each-ref", "--count=1", "--contains", "HEAD", *refs):
        return [Obstacle("the commit is in no branch, so git may delete it", "git switch -c NAME")]
    return []
