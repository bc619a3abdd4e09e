"""What a submission was made from, so that it can be rebuilt: commit, parameters, card."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.core import paths
from pipeline.core.errors import GitError
from pipeline.core.files import sha256_of
from pipeline.ledger.git import git
from pipeline.ledger.ledger import DIRTY
from pipeline.scoring.card import Card, read_card


@dataclass(frozen=True)
class Provenance:
    """What a submission was made from; texts are "" where nothing is known."""

    sha256: str
    commit: str
    """The last commit, with DIRTY where files of the working tree differ from it."""
    dvc_lock: str
    """SHA-256 of dvc.lock."""
    params: str
    """SHA-256 of params.yaml."""
    card: Card | None
    """The card beside the file; None where there is none, or it describes another file."""
    obstacles: list[str]
    """Why the file could not be rebuilt from the commit; empty where it can be."""


def trace(file: Path) -> Provenance:
    """What a file was made from, by the repository's root. Raises TableError on a bad card."""
    sha256 = sha256_of(file)
    commit, obstacles = _find_commit()
    path = file.with_suffix(".json")
    card = read_card(path) if path.is_file() else None
    if not _is_locked(file):
        obstacles.append(f"{file} is not what {paths.DVC_LOCK} describes")
    return Provenance(
        sha256=sha256,
        commit=commit,
        dvc_lock=sha256_of(paths.DVC_LOCK) if paths.DVC_LOCK.is_file() else "",
        params=sha256_of(paths.PARAMS) if paths.PARAMS.is_file() else "",
        card=card if card and card.sha256.submission == sha256 else None,
        obstacles=obstacles,
    )


def _find_commit() -> tuple[str, list[str]]:
    """The last commit, and why it does not hold the working tree."""
    try:
        commit = git("rev-parse", "HEAD")
        status = git(
            "status", "--porcelain", "--untracked-files=no", "--", ".", f":!{paths.LEDGER}"
        )
    except GitError:
        return "", ["this is no git repository with a commit"]
    if not status:
        return commit, []
    first, *others = [line.split(maxsplit=1)[1] for line in status.splitlines()]
    return commit + DIRTY, [f"{1 + len(others)} files differ from the commit (first: {first})"]


def _is_locked(file: Path) -> bool:
    """Whether dvc.lock has the file as a stage's output, with these bytes."""
    if not paths.DVC_LOCK.is_file():
        return False
    lock = YAML(typ="safe", pure=True).load(paths.DVC_LOCK.read_text(encoding="utf-8"))
    md5 = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    outs = [out for stage in lock["stages"].values() for out in stage.get("outs", [])]
    return any(Path(out["path"]) == file and out["md5"] == md5 for out in outs)
