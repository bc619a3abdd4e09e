"""Rebuilding a recorded submission from its commit, beside the repository.

The commit is checked out into a worktree and runs there with its own code, in the environment of
its own requirements.lock. The submission's file is in git, so it is deleted first: the file that
appears was made. DVC 3.67's `repro --pull` counts a deleted file that is no cached output as
pulled, and stops at one object that the remote lacks; so `dvc fetch` comes before a plain `repro`.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import GitError, ReproduceError
from pipeline.core.files import sha256_of, write_text
from pipeline.core.progress import say
from pipeline.ledger.git import git
from pipeline.ledger.ledger import Entry, latest
from pipeline.ledger.verdict import Verdict, compare

DVC_LOCAL = Path(".dvc/config.local")

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
    entry: Entry, *, from_scratch: bool = False, keep: bool = False, folder: Path | None = None
) -> Verdict:
    """Rebuild a submission in a worktree of its commit, and compare.

    from_scratch: make everything anew and use no cache; otherwise what DVC's cache and default
    remote have is used. keep: leave the worktree, which otherwise is removed when the bytes are the
    same. folder: where the worktree is made; by default beside the repository, so that relative
    paths in its parameters still lead to the same files.
    Raises ReproduceError where the commit is missing, the folder is in use, or a command fails; the
    worktree is left then, and the same call continues in it.
    """
    commit = _find_commit(entry)
    stages = _find_stages(entry.file, commit)
    folder = _choose_folder(entry, folder)
    say(f"{entry.title}: rebuilding it from commit {commit[:12]} in {folder}")
    if entry.commit != entry.base_commit:
        say("it was made with changes that no commit holds, so the bytes may differ")
    _check_out(commit, folder, from_scratch)
    programs = _find_programs(folder)
    _choose_cache(folder, programs, from_scratch)
    if not from_scratch:
        _fetch(stages, folder, programs)
    rebuilt = folder / entry.file
    rebuilt.unlink(missing_ok=True)
    _run(["dvc", "repro", *["--force"] * from_scratch, *stages], folder, programs)
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
    try:
        return git("rev-parse", "--verify", "--quiet", f"{entry.base_commit}^{{commit}}")
    except GitError as error:
        raise ReproduceError(
            f"{paths.LEDGER}: {entry.title} was made from commit {entry.base_commit}, which is not "
            f"in this repository. Run: git fetch --all, or git fetch origin {entry.base_commit}"
        ) from error


def _find_stages(file: str, commit: str) -> list[str]:
    """All stages of the commit's dvc.yaml, in its order, up to the one that makes the file.

    All, since a commit's stage may need files that it does not name.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

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


def _find_programs(folder: Path) -> Path:
    """The programs of the commit's environment, which is installed where it is another one."""
    wanted = folder / paths.REQUIREMENTS
    if not wanted.is_file():
        say(f"{paths.REQUIREMENTS}: the commit has none: the present environment is used")
        return _PRESENT
    if paths.REQUIREMENTS.is_file() and sha256_of(wanted) == sha256_of(paths.REQUIREMENTS):
        return _PRESENT
    say(f"{paths.REQUIREMENTS}: the commit's is another one: its environment is installed")
    _run(["make", ".venv/.installed"], folder, _PRESENT)
    return folder / ".venv" / "bin"


def _choose_cache(folder: Path, programs: Path, from_scratch: bool) -> None:
    """Use this repository's cache, or an empty one: set in a file that git ignores."""
    if DVC_LOCAL.is_file():
        shutil.copy(DVC_LOCAL, folder / DVC_LOCAL)  # it may hold the remotes' credentials
    cache = ".dvc/cache"
    if not from_scratch:
        cache = _run(["dvc", "cache", "dir"], Path(), _PRESENT, subprocess.PIPE)
    _run(["dvc", "cache", "dir", "--local", cache], folder, programs)


def _fetch(stages: list[str], folder: Path, programs: Path) -> None:
    """Copy what the default remote has of the stages' files into the cache; there may be none."""
    if not _run(["dvc", "config", "core.remote"], folder, programs, subprocess.PIPE):
        return
    try:
        _run(["dvc", "fetch", *stages], folder, programs)
    except ReproduceError:
        say("not everything could be fetched (see above): what is missing is made anew")


def _run(command: list[str], folder: Path, programs: Path, stdout: int = _STDERR) -> str:
    """Run a command; what it prints goes to standard error, or with subprocess.PIPE is returned.

    programs: the folder put first in PATH. The command receives Ctrl-C too; it is left to end by
    itself first. Raises ReproduceError, FileNotFoundError where the program is not installed.
    """
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=stdout) as process:
        try:
            printed, _ = process.communicate()
        except KeyboardInterrupt:
            process.wait()
            raise
    if process.returncode:
        raise ReproduceError(
            f"{folder.absolute()}: {' '.join(command)}: exit code {process.returncode}, for the "
            "reason that it gives above. The folder is kept: fix the cause and run the same "
            "command again, which continues there"
        )
    return (printed or b"").decode().strip()
