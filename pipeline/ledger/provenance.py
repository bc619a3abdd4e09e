"""From what a submission was made, so that it can be rebuilt: commit, parameters, card."""

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.core import paths
from pipeline.core.files import sha256_of


@dataclass(frozen=True)
class Provenance:
    """What the ledger records of a file; texts, "" where nothing is known."""

    sha256: str
    commit: str
    dvc_lock: str
    params: str
    metric: str
    """The one that the card's figures are by."""
    cross_validated: str
    forecast_low: str
    forecast_high: str
    obstacles: list[str]
    """Why the file could not be rebuilt from the commit; empty where it can."""


def trace(file: Path) -> Provenance:
    """Look up where a submission came from, in the repository's root."""
    sha256 = sha256_of(file)
    obstacles = []
    commit = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", f":!{paths.LEDGER}")
    if not commit:
        obstacles.append("this is no git repository with a commit")
    elif changed:
        commit += "-dirty"
        first = changed.splitlines()[0].split(maxsplit=1)[1]
        obstacles.append(
            f"{len(changed.splitlines())} files differ from the commit (first: {first})"
        )
    if not _is_locked(file):
        obstacles.append(f"{file} is not what {paths.DVC_LOCK} describes")
    card = _card_of(file, sha256)
    score = card.get("metric", {})
    low, high = card.get("forecast", {}).get("public", ("", ""))
    return Provenance(
        sha256=sha256,
        commit=commit,
        dvc_lock=_sha256_or_nothing(paths.DVC_LOCK),
        params=_sha256_or_nothing(paths.PARAMS),
        metric=str(score.get("name", "")),
        cross_validated=str(score.get("value", "")),
        forecast_low=str(low),
        forecast_high=str(high),
        obstacles=obstacles,
    )


def _card_of(file: Path, sha256: str) -> dict[str, Any]:
    """The card beside the file, where it is this file's."""
    card = file.with_suffix(".json")
    if not card.is_file():
        return {}
    content: dict[str, Any] = json.loads(card.read_text(encoding="utf-8"))
    return content if content["sha256"]["submission"] == sha256 else {}


def _is_locked(file: Path) -> bool:
    """Whether dvc.lock holds the file as a stage's output, with these bytes."""
    if not paths.DVC_LOCK.is_file():
        return False
    lock = YAML(typ="safe", pure=True).load(paths.DVC_LOCK.read_text(encoding="utf-8"))
    md5 = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    outs = [out for stage in lock["stages"].values() for out in stage.get("outs", [])]
    return any(Path(out["path"]) == file and out["md5"] == md5 for out in outs)


def _sha256_or_nothing(path: Path) -> str:
    return sha256_of(path) if path.is_file() else ""


def _git(*arguments: str) -> str:
    """git's answer; "" where it has none, or is not installed."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
