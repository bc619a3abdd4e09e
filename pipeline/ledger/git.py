"""Asking git: which commit this is, what differs from it, and what a file was at a commit."""

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.core.errors import GitError

TIMEOUT_S = 300.0
"""No call takes so long, except on a file system that does not answer."""

NOT_INSTALLED = "git is not installed. Install it, on Debian with: apt install git"

_UNFINISHED = {
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
}
"""What git keeps in its folder until such a command is finished."""

_FROM_SCRATCH = ["-c", "core.fsmonitor=false", "-c", "core.splitIndex=false"]
_REGULAR = {"100644", "100755"}
_LINK = "120000"


def git(*arguments: str, folder: Path = Path()) -> str:
    """What git prints, without white space around it.

    Raises GitError where git is not installed, the folder is in no repository, or git refuses or
    does not answer.
    """
    return git_bytes(*arguments, folder=folder).decode(errors="replace").strip()


def git_bytes(*arguments: str, folder: Path = Path(), index: Path | None = None) -> bytes:
    """What git prints, byte for byte. Raises GitError as `git` does.

    index: a file that git uses in place of its own index, and of all that it knows of files.
    """
    environment = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    environment |= {"GIT_INDEX_FILE": str(index)} if index else {}
    try:
        done = subprocess.run(
            ["git", *(_FROM_SCRATCH if index else []), *arguments], cwd=folder, env=environment,
            capture_output=True, check=False, timeout=TIMEOUT_S,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise GitError(NOT_INSTALLED) from error
    except subprocess.TimeoutExpired as error:
        raise GitError(f"git {arguments[0]}: no answer within {TIMEOUT_S:g} s") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace") or f"exit code {done.returncode}"
        raise GitError(explain(said, folder) or f"git {' '.join(arguments)}: {_one_line(said)}")
    return done.stdout


def explain(said: str, folder: Path) -> str:
    """What git's error means and what to do; "" where its own words are the best there are."""
    place = folder.absolute()
    if "detected dubious ownership" in said:
        allow = _one_line(said.rpartition("call:")[2])
        return f"{place}: belongs to another user. If you trust it, run: {allow}"
    if "not a git repository (or any" in said:
        start = "git init && git add --all && git commit -m start"
        return f"{place}: is no git repository (a downloaded zip is none). Run: {start}"
    if "ambiguous argument 'HEAD'" in said:
        return f"{place}: no commit yet. Run: git add --all && git commit -m start"
    return ""


def file_at(commit: str, path: Path) -> bytes | None:
    """A file's bytes at a commit, by its path from here; None where git or the file is missing."""
    try:
        return git_bytes("show", f"{commit}:./{path.as_posix()}")
    except GitError:
        return None


def find_changed(*but: Path) -> list[str]:
    """The files of the last commit that are otherwise here, except `but`. Raises GitError.

    Through an index of its own: that of the repository can hide files (assume-unchanged).
    """
    status = ["status", "--porcelain", "-z", "--no-renames", "--untracked-files=no"]
    status += ["--ignore-submodules=untracked", "--", ".", *(f":!{path}" for path in but)]
    with TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        git_bytes("read-tree", "HEAD", index=index)
        lines = git_bytes(*status, index=index).split(b"\0")
    return [os.fsdecode(line[3:]) for line in lines if line]


def find_missing(files: list[Path]) -> list[Path]:
    """Those of the files, by their paths from here, that the last commit does not hold.

    It holds a link only if it also holds the file that the link leads to. Raises GitError.
    """
    regular, links = set[Path](), set[Path]()
    for line in git_bytes("ls-tree", "-r", "-z", "HEAD").split(b"\0"):
        facts, _, name = os.fsdecode(line).partition("\t")
        mode = facts.partition(" ")[0]
        (regular if mode in _REGULAR else links if mode == _LINK else set()).add(Path(name))
    root = Path().resolve()

    def holds(file: Path) -> bool:
        end = file.resolve()
        if end == root / file:
            return file in regular
        leads = any(step in links for step in (file, *file.parents))
        return leads and end.is_relative_to(root) and end.relative_to(root) in regular

    return [file for file in files if not holds(file)]


def find_ignored(files: list[Path]) -> list[Path]:
    """Those of the files that `git add --all` leaves out."""
    try:
        found = git("-c", "core.quotePath=false", "check-ignore", "--", *map(str, files))
    except GitError:  # none, or a path that git refuses
        return []
    return [Path(name) for name in found.splitlines()]


def find_unfinished(git_folder: Path) -> str:
    """The command that waits for its end (merge, rebase, …), by git's own folder; "" for none."""
    return next((what for name, what in _UNFINISHED.items() if (git_folder / name).exists()), "")


def _one_line(text: str) -> str:
    return " ".join(text.split())
