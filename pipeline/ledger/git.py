"""Asking git: which commit this is, what differs from it, and what a file was at a commit."""

import subprocess
from pathlib import Path

from pipeline.core.errors import GitError


def git(*arguments: str, folder: Path = Path()) -> str:
    """What git prints, without white space around it.

    Raises GitError where git is not installed, the folder is in no repository, or git refuses.
    """
    return git_bytes(*arguments, folder=folder).decode(errors="replace").strip()


def git_bytes(*arguments: str, folder: Path = Path()) -> bytes:
    """What git prints, byte for byte. Raises GitError as `git` does."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise GitError("git: no such program. Install it") from error
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise GitError(f"git {' '.join(arguments)}: {said or f'exit code {done.returncode}'}")
    return done.stdout


def file_at(commit: str, path: Path) -> bytes | None:
    """A file's bytes at a commit, by its path from here; None where git or the file is missing."""
    try:
        return git_bytes("show", f"{commit}:./{path.as_posix()}")
    except GitError:
        return None
