"""Rebuilding a recorded submission from its commit, beside the repository.

The commit is checked out into a worktree and runs there with its own code, in the environment of
its own requirements.lock. The submission's file is in git, so it is deleted first: the file that
appears was made. DVC 3.67's `repro --pull` counts a deleted file that is no cached output as
pulled, and stops at one object that the remote lacks; so a fetch comes before a plain `repro`.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import GitError, ReproduceError
from pipeline.core.files import sha256_of, write_text
from pipeline.core.progress import say
from pipeline.ledger.git import file_at, git
from pipeline.ledger.isolation import environment_for_code, introduce, present_repository
from pipeline.ledger.ledger import Entry, latest
from pipeline.ledger.stages import read_lock
from pipeline.ledger.verdict import Verdict, compare

_PRESENT = Path(sys.executable).parent
_STDERR = 2


def find_entry(what: str, entries: list[Entry]) -> Entry:
    """The submission with a number on Kaggle, or the last one of a file.

    what: the number; or the file's path or name, with or without .csv. Among a file's submissions,
    those that reached Kaggle come before those that did not.
    Raises ReproduceError, with what the ledger has, where there is none, or the name fits several
    files.
    """
    known = latest(entries)
    found = [entry for entry in known if what and entry.ref == what]
    found = found or [entry for entry in known if _is_named(entry, what)]
    found = [entry for entry in found if entry.status not in ("refused", "lost")] or found
    if len({(entry.competition, entry.file) for entry in found}) != 1:
        problem = f"{what!r} may be any of" if found else f"no submission {what!r}. The last are"
        last = [f"{entry.ref or 'no number'} {entry.file}" for entry in (found or known)[-10:]]
        raise ReproduceError(
            f"{paths.LEDGER}: {problem}: {', '.join(last) or 'none'}. "
            "Run: python -m pipeline reproduce NUMBER"
        )
    return max(found, key=lambda entry: entry.submitted)


def reproduce(
    entry: Entry,
    *,
    confirm: Callable[[str], bool],
    from_scratch: bool = False,
    keep: bool = False,
    kaggle: bool = False,
    folder: Path | None = None,
) -> Verdict:
    """Rebuild a submission in a worktree of its commit, and compare.

    confirm: asks the user a question, about a commit that is by somebody else or in no branch.
    from_scratch: make everything anew and use no cache; otherwise what DVC's cache and default
    remote have is used. keep: leave the worktree, which otherwise is removed when the bytes are the
    same. kaggle: let the commit's code use the credentials for Kaggle. folder: where the worktree
    is made; by default beside the repository, so that relative paths in its parameters still lead
    to the same files.
    Raises ReproduceError where the commit is missing or declined, the folder is in use, or a
    command fails; the worktree is left then, and the same call continues in it.
    """
    commit = _find_commit(entry)
    stages = _find_stages(entry.file, commit)
    folder = _choose_folder(entry, folder)
    say(f"{entry.title}: rebuilding it from commit {commit[:12]} in {folder}")
    if entry.commit != entry.base_commit:
        say("it was made with changes that no commit holds, so the bytes may differ")
    if (doubt := introduce(commit)) and not confirm(
        f"The commit {doubt}, and its code will run with all your rights. Rebuild it?"
    ):
        raise ReproduceError(f"{entry.title}: not rebuilt")
    _check_out(commit, folder, from_scratch)
    with environment_for_code(kaggle) as environment:
        environment["PATH"] = os.pathsep.join(
            [str(_find_programs(folder, environment)), environment["PATH"]]
        )
        _choose_cache(folder, from_scratch)
        if not from_scratch:
            _fetch(stages, commit)
        rebuilt = folder / entry.file
        rebuilt.unlink(missing_ok=True)
        hint = "" if kaggle else ". Where it asks Kaggle for the data again, it needs --kaggle"
        _run(["dvc", "repro", *["--force"] * from_scratch, *stages], folder, environment, hint)
    verdict = compare(entry, rebuilt)
    if verdict.identical and not keep:
        with contextlib.suppress(GitError):  # the verdict then says where the file is
            git("worktree", "remove", "--force", str(folder))
            verdict = replace(verdict, rebuilt=None)
    return verdict


def _is_named(entry: Entry, what: str) -> bool:
    path = Path(entry.file)
    names = {path.as_posix(), path.name}
    names |= {name.removesuffix(".csv") for name in names}
    return bool(what) and Path(os.path.relpath(what)).as_posix() in names


def _find_commit(entry: Entry) -> str:
    """The full hash of the entry's commit."""
    if not entry.base_commit:
        raise ReproduceError(
            f"{paths.LEDGER}: {entry.title} was submitted from no commit: it cannot be "
            "rebuilt. Before the next one, run: git add --all && git commit, then dvc repro"
        )
    is_shallow = git("rev-parse", "--is-shallow-repository") == "true"
    try:
        wanted = ["--end-of-options", f"{entry.base_commit}^{{commit}}"]
        return git("rev-parse", "--verify", "--quiet", *wanted)
    except GitError as error:
        whole = f"git fetch {'--unshallow' if is_shallow else '--all'}"
        raise ReproduceError(
            f"{paths.LEDGER}: {entry.title} was made from commit {entry.base_commit}, which is not "
            f"in this repository. Run: {whole}, or git fetch origin {entry.base_commit}"
        ) from error


def _find_stages(file: str, commit: str) -> list[str]:
    """All stages of the commit's dvc.yaml, in its order, up to the one that makes the file.

    All, since a commit's stage may need files that it does not name.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    if locked := file_at(commit, paths.DVC_LOCK):
        read_lock(locked, f"{commit[:12]}:{paths.DVC_LOCK}")
    try:
        with Repo(rev=commit) as repo:
            stages = [stage for stage in repo.index.stages if stage.path_in_repo == "dvc.yaml"]
    except DvcException as error:
        raise ReproduceError(f"dvc.yaml: DVC cannot read that of {commit[:12]}: {error}") from error
    for place, stage in enumerate(stages, start=1):
        if file in [out.def_path for out in stage.outs]:
            return [each.name for each in stages[:place]]
    raise ReproduceError(
        f"dvc.yaml: expected a stage of commit {commit[:12]} that makes {file}, found none. "
        f"See: git show {commit[:12]}:{paths.PARAMS}"
    )


def _choose_folder(entry: Entry, folder: Path | None) -> Path:
    root = Path().resolve()
    if folder is None:
        return root.parent / f"{root.name}-reproduce-{entry.ref or entry.sha256[:12]}"
    if folder.resolve().is_relative_to(root):
        raise ReproduceError(
            f"{folder}: is inside the repository, where git and DVC would find it. "
            "Name a folder outside"
        )
    return folder.resolve()


def _check_out(commit: str, folder: Path, from_scratch: bool) -> None:
    """Make the worktree; or clean the one that an earlier call left, except its environment.

    Half-trained networks stay there too, unless from_scratch, so that a killed call can continue.
    The data in competitions/, which git ignores, are linked in.
    """
    if not (folder.exists() or folder.is_symlink()):
        # Without hooks: DVC's would check out data. --force: the folder was deleted by hand.
        add = ["-c", f"core.hooksPath={os.devnull}", "worktree", "add", "--force", "--detach"]
        git(*add, str(folder), commit)
        write_text(_marker(folder), commit)
    elif _is_left_over(folder, commit):
        git("reset", "--quiet", "--hard", commit, folder=folder)
        kept = ["/.venv"] if from_scratch else ["/.venv", f"/{paths.RESUME}"]
        git("clean", "-ffdxq", *(f"--exclude={name}" for name in kept), folder=folder)
    else:
        raise ReproduceError(
            f"{folder}: expected no such folder, found one that is no rebuild of commit "
            f"{commit[:12]}. Name another one: --folder FOLDER; or, if it is a worktree that "
            f"may be deleted: git worktree remove --force {folder}"
        )
    data = Path("competitions").resolve()
    if data.is_dir() and not (folder / "competitions").exists():
        (folder / "competitions").symlink_to(data)


def _marker(folder: Path) -> Path:
    """A file in git's own folder of the worktree, deleted with it: the commit it was made for."""
    return Path(git("rev-parse", "--absolute-git-dir", folder=folder)) / "reproduces"


def _is_left_over(folder: Path, commit: str) -> bool:
    """Whether an earlier call made the folder for that commit, and it is still checked out."""
    if not (folder / ".git").is_file() or not _marker(folder).is_file():
        return False
    marked = _marker(folder).read_text(encoding="utf-8")
    return marked == commit == git("rev-parse", "HEAD", folder=folder)


def _find_programs(folder: Path, environment: dict[str, str]) -> Path:
    """The programs of the commit's environment, which is installed where it is another one."""
    wanted = folder / paths.REQUIREMENTS
    if not wanted.is_file():
        say(f"{paths.REQUIREMENTS}: the commit has none: the present environment is used")
        return _PRESENT
    if paths.REQUIREMENTS.is_file() and sha256_of(wanted) == sha256_of(paths.REQUIREMENTS):
        return _PRESENT
    say(f"{paths.REQUIREMENTS}: the commit's is another one: its environment is installed")
    present = {**environment, "PATH": f"{_PRESENT}{os.pathsep}{environment['PATH']}"}
    _run(["make", ".venv/.installed"], folder, present)
    return folder / ".venv" / "bin"


def _choose_cache(folder: Path, from_scratch: bool) -> None:
    """Use this repository's cache, or an empty one: set in a file that git ignores."""
    from dvc.config import Config

    chosen = {"dir": str((folder / ".dvc" / "cache").absolute())}
    if not from_scratch:
        present = present_repository()
        chosen = {**present.config["cache"], "dir": present.cache.local_cache_dir}
    with Config(str(folder / ".dvc"), validate=False).edit("local") as local:
        local["cache"] = chosen


def _fetch(stages: list[str], commit: str) -> None:
    """Copy what the default remote has of the stages' files into the cache; there may be none."""
    from dvc.exceptions import DvcException

    with present_repository() as repo:
        if not repo.config["core"].get("remote"):
            return
        try:
            repo.fetch(stages, revs=[commit], workspace=False)
        except (DvcException, OSError) as error:
            say(f"not everything could be fetched, what is missing is made anew: {error}")


def _run(command: list[str], folder: Path, environment: dict[str, str], hint: str = "") -> None:
    """Run a command; what it prints goes to standard error.

    It receives Ctrl-C too, and is left to end by itself first. hint: ends the message.
    Raises ReproduceError, FileNotFoundError where the program is not installed.
    """
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=_STDERR) as process:
        try:
            process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise
    if process.returncode:
        raise ReproduceError(
            f"{folder.absolute()}: {' '.join(command)}: exit code {process.returncode}, for the "
            "reason that it gives above. The folder is kept: fix the cause and run the same "
            f"command again, which continues there{hint}"
        )
