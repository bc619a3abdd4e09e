"""What DVC knows of the stages: what dvc.lock says, what is out of date, which files are read."""

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.core import paths
from pipeline.core.errors import PipelineError, TableError
from pipeline.core.yaml import parse_yaml
from pipeline.ledger.git import git

CODE = Path("pipeline")


class LockedOut(BaseModel):
    """An output in dvc.lock."""

    path: str
    md5: str = ""


class LockedStage(BaseModel):
    """A stage in dvc.lock."""

    outs: list[LockedOut] = []


class Lock(BaseModel):
    """dvc.lock, as far as it is read here."""

    stages: dict[str, LockedStage]

    def find(self, file: Path) -> tuple[str, str]:
        """The stage that makes a file, and the file's MD5 there; "" and "" for none."""
        for name, stage in self.stages.items():
            for out in stage.outs:
                if Path(out.path) == file:
                    return name, out.md5
        return "", ""


@dataclass(frozen=True)
class Upstream:
    """A stage and those before it."""

    stale: list[str]
    """Those that DVC would run again, each with its first reason."""
    inputs: list[Path]
    """Their definition, and all files that they read and none makes, by their paths from here."""


def read_lock(content: bytes, place: str = str(paths.DVC_LOCK)) -> Lock:
    """dvc.lock. Raises TableError, with the place, where DVC did not write it so."""
    fix = f"Run: git checkout HEAD -- {paths.DVC_LOCK}, then dvc repro"
    for number, line in enumerate(content.splitlines(), start=1):
        if line.startswith(b"<<<<<<< "):
            marker = line.decode(errors="replace")
            raise TableError(f"{place}: line {number}: an unresolved merge ({marker}). {fix}")
    try:
        return Lock.model_validate(tree := parse_yaml(place, content))
    except TableError as error:
        raise TableError(f"{error}. {fix}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        found = f"{where}: {first['msg']}" if isinstance(tree, dict) else f"{tree!r}"[:80]
        raise TableError(f"{place}: expected what DVC writes, found {found}. {fix}") from error


def explain_refusal(error: Exception) -> None:
    """Raise GitError or TableError where DVC fails without a git repository, or on dvc.lock."""
    from dvc.scm import SCMError

    if isinstance(error, SCMError):
        git("rev-parse", "HEAD")
    if paths.DVC_LOCK.is_file():
        read_lock(paths.DVC_LOCK.read_bytes())


def examine_upstream(stage: str) -> Upstream:
    """What DVC says of a stage and those before it. Raises PipelineError where it cannot tell."""
    from dvc.exceptions import DvcException  # 0.2 s
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            changes: dict[str, list[Any]] = repo.status(targets=[stage], with_deps=True)
            inputs = _list_inputs(repo, repo.stage.collect(stage, with_deps=True))
    except (DvcException, sqlite3.Error, OSError) as error:
        reason = f": {error.__cause__}" if error.__cause__ else ""
        raise PipelineError(f"dvc status: {' '.join(f'{error}{reason}'.split())}") from error
    stale = [f"{name}: {_describe(found)}" for name, found in sorted(changes.items())]
    return Upstream(stale, inputs)


def _list_inputs(repo: Any, stages: list[Any]) -> list[Path]:
    made = [Path(out.fs_path) for each in repo.index.stages for out in each.outs]
    read = [Path(dep.fs_path) for each in stages for dep in each.deps if dep.protocol == "local"]
    read += [Path(each.path) for each in stages]
    always = [CODE, paths.DVC_LOCK, Path(".dvc/config"), Path(".dvcignore")]
    read += [path.absolute() for path in always if path.exists()]
    files = set[Path]()
    for path in read:
        within = repo.dvcignore.find(repo.fs, str(path)) if path.is_dir() else [path]
        files |= {Path(file) for file in within}
    return sorted(
        Path(os.path.relpath(file))
        for file in files
        if not any(file.is_relative_to(out) for out in made)
    )


def _describe(changes: list[Any]) -> str:
    """A stage's first change; DVC writes {kind: {path: how}}, or a kind alone."""
    if not isinstance(changes[0], dict):
        return str(changes[0])
    ((_, changed),) = changes[0].items()
    path, how = next(iter(changed.items()))
    return f"{path} {how if isinstance(how, str) else 'modified'}"
