"""Rebuild a recorded submission from its commit, and compare it with what was submitted.

The commit is checked out beside the repository and runs there with its own code, in the
environment of its own requirements.lock. The submission's file lies in git, so it is deleted
first: what appears was made. DVC 3.67's `repro --pull` is not used: a deleted file that is no
cached output counts as pulled, and one object that the remote lacks ends the run. Fetching what
there is, and then a plain `repro`, makes the file, and anew whatever is missing.
"""

import csv
import dataclasses
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from ruamel.yaml import YAML

from pipeline.core import paths
from pipeline.core.errors import ReproduceError, examples
from pipeline.core.files import sha256_of, write_text
from pipeline.core.progress import say
from pipeline.ledger.ledger import Entry, latest
from pipeline.scoring.metrics import METRICS

DVC_YAML = Path("dvc.yaml")
DVC_LOCAL = Path(".dvc/config.local")

Against = Literal["submission", "commit", "hash"]

_PRESENT = Path(sys.executable).parent
_STDERR = 2
_MARKER = "reproduces"
_DIRTY = "-dirty"


@dataclass(frozen=True)
class Verdict:
    """What was rebuilt, and what it was compared with."""

    entry: Entry
    folder: Path | None
    """The worktree; None where it was removed."""
    rebuilt: Path | None
    """The rebuilt file in there."""
    sha256: str
    """Of the rebuilt file."""
    identical: bool
    """Byte for byte what was submitted."""
    rows: int
    """Rows in either file, by id; 0 where nothing but the hash could be compared."""
    different: int
    """Rows that differ, or that only one of the files has."""
    farthest: float | None
    """Of submitted probabilities the largest difference; None of submitted labels."""
    first: tuple[str, ...]
    """Their first few ids."""
    against: Against
    """Compared with the submitted bytes; with the commit's file, as the submitted bytes were found
    nowhere; or with the ledger's SHA-256 alone."""


def find_entry(what: str, entries: list[Entry]) -> Entry:
    """The submission of a number on Kaggle, or the last one of a file.

    what: the number; or the file's path or name, with or without .csv. Of a file, submissions that
    reached Kaggle go before those that did not.
    Raises ReproduceError, with what the ledger has, where there is none, or files of several.
    """
    known = latest(entries)
    if not known:
        raise ReproduceError(
            f"{paths.LEDGER}: expected a submission, found none. Run: python -m pipeline submit"
        )
    found = [entry for entry in known if what and entry.ref == what]
    if not found:
        found = [entry for entry in known if _is_named(entry, what)]
        found = [entry for entry in found if entry.status not in ("refused", "lost")] or found
    if not found:
        raise ReproduceError(
            f"{paths.LEDGER}: no submission {what!r}. It has: {_listed(known)}. "
            "Run: python -m pipeline reproduce NUMBER"
        )
    if len({(entry.competition, entry.file) for entry in found}) > 1:
        raise ReproduceError(
            f"{paths.LEDGER}: {what!r} may be any of: {_listed(found)}. "
            "Run: python -m pipeline reproduce NUMBER"
        )
    return max(found, key=lambda entry: entry.submitted)


def reproduce(
    entry: Entry, *, from_scratch: bool = False, keep: bool = False, folder: Path | None = None
) -> Verdict:
    """Rebuild a submission in a worktree of its commit, and compare.

    from_scratch: make everything anew, past every cache; else DVC's cache and default remote give
    what they have. keep: leave the worktree, which otherwise goes when the bytes are the same.
    folder: where the worktree is to lie; by default beside the repository, so that the relative
    paths in its parameters still lead there.
    Raises ReproduceError where the commit is not at hand, the folder is taken, or a command fails;
    the worktree is left then, and the same call goes on in it.
    """
    commit = _find_commit(entry)
    stages = _stages_up_to(entry.file, commit)
    folder = _choose_folder(entry, folder)
    with _locked(folder):
        say(f"{_called(entry)}: rebuilding it from commit {commit[:12]} in {folder}")
        _warn(entry, commit)
        _check_out(commit, folder, from_scratch)
        environment = _environment(folder)
        _choose_cache(folder, environment, from_scratch)
        if not from_scratch:
            _fetch(stages, folder, environment)
        rebuilt = folder / entry.file
        rebuilt.unlink(missing_ok=True)
        _run(["dvc", "repro", *["--force"] * from_scratch, *stages], folder, environment)
        verdict = _compare(entry, commit, folder, rebuilt)
        if not verdict.identical or keep:
            return verdict
        try:
            _run(["git", "worktree", "remove", "--force", str(folder)], Path())
        except ReproduceError:
            return verdict  # which names the folder
        return dataclasses.replace(verdict, folder=None, rebuilt=None)


def report(verdict: Verdict) -> str:
    """The verdict in sentences."""
    entry = verdict.entry
    start = f"{_called(entry)}: rebuilt from commit {entry.commit.removesuffix(_DIRTY)[:12]}"
    left = f" It lies in {verdict.rebuilt}." if verdict.rebuilt else ""
    what = "labels" if verdict.farthest is None else "rows of probabilities"
    if verdict.identical:
        return (
            f"{start}, byte for byte what was submitted: {verdict.rows} {what}, "
            f"SHA-256 {verdict.sha256[:16]}.{left}"
        )
    rows = f"all {verdict.rows} {what} are the same"
    if verdict.different:
        ids = examples(list(verdict.first))
        rows = f"{verdict.different} of {verdict.rows} {what} differ {ids}"
        if verdict.farthest is not None:
            rows += f", by at most {verdict.farthest:.2g}"
    lost = (
        f"{start}, not the bytes that were submitted: SHA-256 {verdict.sha256[:16]}, the ledger "
        f"has {entry.sha256[:16]}. What was submitted is neither in the folder nor in git"
    )
    match verdict.against:
        case "hash":
            text = f"{lost}: no row could be compared."
        case "commit":
            text = f"{lost}. Against the file that the commit holds, {rows}."
        case "submission" if verdict.different and verdict.farthest is not None:
            text = f"{start}, but {rows}."
        case "submission" if verdict.different:
            text = (
                f"{start}, but {rows}. Its accuracy can differ by at most "
                f"{_share(verdict.different, verdict.rows)}, on half of the test images by at most "
                f"{_share(2 * verdict.different, verdict.rows)}."
            )
        case "submission":
            text = (
                f"{start}, other bytes, but {rows}, and so is the score: the order, the header, "
                "quotes or line ends differ."
            )
    if entry.commit.endswith(_DIRTY):
        text += " It was made with changes that no commit holds."
    return text + left


def _called(entry: Entry) -> str:
    return f"{entry.file} (submission {entry.ref})" if entry.ref else entry.file


def _share(part: int, whole: int) -> str:
    """At most 1, rounded up: it is a bound."""
    return f"{min(1.0, -(-part * 10_000 // whole) / 10_000):.4f}"


def _is_named(entry: Entry, what: str) -> bool:
    path = Path(entry.file)
    names = {path.as_posix(), path.name}
    names |= {name.removesuffix(".csv") for name in names}
    return bool(what) and Path(os.path.relpath(what)).as_posix() in names


def _listed(entries: list[Entry], most: int = 10) -> str:
    newest = sorted(entries, key=lambda entry: entry.submitted, reverse=True)
    texts = [f"{entry.ref or 'no number'} {entry.file}" for entry in newest[:most]]
    more = [f"{len(newest) - most} earlier ones"] if len(newest) > most else []
    return ", ".join(texts + more)


def _find_commit(entry: Entry) -> str:
    """Its full hash."""
    if _ask("rev-parse", "--show-prefix") != b"\n":
        raise ReproduceError(
            f"{Path().absolute()}: expected the root of a git repository. "
            "Run it in the clone whose ledger has the submission"
        )
    commit = entry.commit.removesuffix(_DIRTY)
    if not commit:
        raise ReproduceError(
            f"{paths.LEDGER}: {_called(entry)} was submitted from no commit: it cannot be "
            "rebuilt. Before the next one, run: git commit -a, then dvc repro"
        )
    found = _ask("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    if not found:
        raise ReproduceError(
            f"{paths.LEDGER}: {_called(entry)} was made from commit {commit}, which is not in this "
            f"repository. Run: git fetch --all, or git fetch origin {commit}"
        )
    return found.decode().strip()


def _choose_folder(entry: Entry, folder: Path | None) -> Path:
    root = Path().resolve()
    if folder is None:
        return root.parent / f"{root.name}-reproduce-{entry.ref or entry.sha256[:12]}"
    if folder.resolve().is_relative_to(root):
        raise ReproduceError(
            f"{folder}: lies inside the repository, where git and DVC would find it. "
            "Name a folder outside"
        )
    return folder.resolve()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time rebuild in a folder."""
    lock = FileLock(_git_folder("--git-common-dir") / f"reproduce-{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ReproduceError(
            f"{folder}: another process is rebuilding in it. Wait for it"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _check_out(commit: str, folder: Path, from_scratch: bool) -> None:
    """Make the worktree; or clean the one that an earlier call left, but for its environment.

    Half-trained networks stay there too, unless from_scratch, so that a killed call goes on.
    """
    if folder.exists() or folder.is_symlink():
        if not _is_left_over(folder, commit):
            raise ReproduceError(
                f"{folder}: expected no such folder, found one that is no rebuild of commit "
                f"{commit[:12]}. Name another one: --folder FOLDER; or, if it is a worktree that "
                f"may go: git worktree remove --force {folder}"
            )
        _run(["git", "reset", "--quiet", "--hard", commit], folder)
        kept = ["/.venv"] if from_scratch else ["/.venv", f"/{paths.RESUME}"]
        _run(["git", "clean", "-ffdxq", *(f"--exclude={name}" for name in kept)], folder)
        return
    # Without hooks: DVC's would check out data. --force: where our folder was deleted by hand.
    quiet = ["git", "-c", f"core.hooksPath={os.devnull}", "worktree", "add", "--quiet"]
    _run([*quiet, "--force", "--detach", str(folder), commit], Path())
    write_text(_marker(folder), f"{commit}\n")


def _is_left_over(folder: Path, commit: str) -> bool:
    """Whether an earlier call made the folder for that commit, and it still stands there."""
    if not (folder / ".git").is_file():
        return False
    marker, head = _marker(folder), _ask("rev-parse", "HEAD", folder=folder) or b""
    return (
        marker.is_relative_to(_git_folder("--git-common-dir"))
        and marker.is_file()
        and marker.read_text() == head.decode() == f"{commit}\n"
    )


def _marker(folder: Path) -> Path:
    """In git's own folder of the worktree; goes with it."""
    return _git_folder("--git-dir", folder) / _MARKER


def _git_folder(which: str, folder: Path = Path()) -> Path:
    answer = _ask("rev-parse", which, folder=folder) or b""
    return (folder / answer.decode().strip()).resolve()


def _warn(entry: Entry, commit: str) -> None:
    """Say beforehand why the bytes may differ."""
    if entry.commit.endswith(_DIRTY):
        say(
            f"{_called(entry)}: was made with changes that no commit holds; going on from the "
            "commit alone: the bytes may differ"
        )
    for path, recorded in ((paths.PARAMS, entry.params), (paths.DVC_LOCK, entry.dvc_lock)):
        committed = _ask("show", f"{commit}:{path}")
        if recorded != ("" if committed is None else hashlib.sha256(committed).hexdigest()):
            say(f"{path}: the commit's is not the one that the ledger records")


def _stages_up_to(file: str, commit: str) -> list[str]:
    """The stages of the commit's dvc.yaml, in its order, up to the one that makes the file.

    Naming that one alone would leave out what it needs and does not name.
    """
    stages = _read_yaml(commit, DVC_YAML).get("stages", {})
    params = _read_yaml(commit, paths.PARAMS)
    made = []
    for place, stage in enumerate(stages.values(), start=1):
        for out in stage.get("outs", []):
            made.append(_filled(out if isinstance(out, str) else next(iter(out)), params))
            if made[-1] == file:
                return list(stages)[:place]
    similar = [out for out in made if Path(out).suffix == Path(file).suffix]
    raise ReproduceError(
        f"{DVC_YAML}: expected a stage of commit {commit[:12]} that makes {file}, found those that "
        f"make {', '.join(similar) or 'no such file'}. See: git show {commit[:12]}:{paths.PARAMS}"
    )


def _read_yaml(commit: str, path: Path) -> dict[str, Any]:
    content = _ask("show", f"{commit}:{path}") or b""
    return YAML(typ="safe", pure=True).load(content.decode()) or {}


def _filled(text: str, params: dict[str, Any]) -> str:
    """DVC's ${section.field} replaced by the parameter; left as it is where there is none."""

    def value(found: re.Match[str]) -> str:
        node: Any = params
        for key in found[1].split("."):
            node = node.get(key) if isinstance(node, dict) else None
        return found[0] if node is None else str(node)

    return re.sub(r"\$\{([\w.]+)\}", value, text)


def _environment(folder: Path) -> dict[str, str]:
    """Variables with the commit's environment first in PATH; it is installed where it is new."""
    wanted = folder / paths.REQUIREMENTS
    if not wanted.is_file():
        say(f"{paths.REQUIREMENTS}: the commit has none: the present environment is used")
        return _with_first_in_path(_PRESENT)
    if paths.REQUIREMENTS.is_file() and sha256_of(wanted) == sha256_of(paths.REQUIREMENTS):
        return _with_first_in_path(_PRESENT)
    say(f"{paths.REQUIREMENTS}: the commit's is another one: its environment is installed")
    _run(["make", ".venv/.installed"], folder, _with_first_in_path(_PRESENT))
    return _with_first_in_path(folder / ".venv" / "bin")


def _with_first_in_path(programs: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}


def _choose_cache(folder: Path, environment: dict[str, str], from_scratch: bool) -> None:
    """This repository's cache; or an empty one. In a file that git ignores."""
    if DVC_LOCAL.is_file():
        shutil.copy(DVC_LOCAL, folder / DVC_LOCAL)  # it may hold the remotes' credentials
    cache = ".dvc/cache"
    if not from_scratch:
        cache = _answer(["dvc", "cache", "dir"], Path(), _with_first_in_path(_PRESENT))
    _run(["dvc", "cache", "dir", "--local", cache], folder, environment)


def _fetch(stages: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Bring what the default remote has of them into the cache, if there is a remote."""
    if not _answer(["dvc", "config", "core.remote"], folder, environment):
        return
    try:
        _run(["dvc", "fetch", *stages], folder, environment)
    except ReproduceError:
        say("not everything could be fetched (see above): what is missing is made anew")


def _compare(entry: Entry, commit: str, folder: Path, rebuilt: Path) -> Verdict:
    content = rebuilt.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    against: Against = "submission"
    expected = content if sha256 == entry.sha256 else _find_submitted(entry, commit)
    if expected is None:
        against, expected = "commit", _ask("show", f"{commit}:{entry.file}")
    if expected is None:
        against, expected = "hash", b""
    wanted, found = _rows(expected), _rows(content)
    ids = [] if against == "hash" else list(wanted | found)
    different = [name for name in ids if wanted.get(name) != found.get(name)]
    return Verdict(
        entry=entry,
        folder=folder,
        rebuilt=rebuilt,
        sha256=sha256,
        identical=sha256 == entry.sha256,
        rows=len(ids),
        different=len(different),
        first=tuple(different[:3]),
        farthest=_farthest(wanted, found) if _holds_probabilities(entry) else None,
        against=against,
    )


def _holds_probabilities(entry: Entry) -> bool:
    return entry.metric in METRICS and METRICS[entry.metric].needs == "probabilities"


def _farthest(wanted: dict[str, tuple[str, ...]], found: dict[str, tuple[str, ...]]) -> float:
    """The largest difference of two numbers of one id and column; 1 where a row has no pair."""
    if wanted.keys() != found.keys():
        return 1.0
    pairs = [
        (float(one), float(other))
        for name, row in wanted.items()
        for one, other in zip(row, found[name], strict=True)
    ]
    return max((abs(one - other) for one, other in pairs), default=0.0)


def _find_submitted(entry: Entry, commit: str) -> bytes | None:
    """The submitted bytes, from the folder, the commit, or any other; None where they are lost."""
    present = Path(entry.file)
    if present.is_file() and sha256_of(present) == entry.sha256:
        return present.read_bytes()
    history = _ask("log", "--all", "--reflog", "--full-history", "--format=%H", "--", entry.file)
    for holder in [commit, *(history or b"").decode().split()]:
        content = _ask("show", f"{holder}:{entry.file}")
        if content is not None and hashlib.sha256(content).hexdigest() == entry.sha256:
            return content
    return None


def _rows(content: bytes) -> dict[str, tuple[str, ...]]:
    """What follows each id of a CSV."""
    text = content.decode("utf-8-sig", errors="replace")
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    return {row[0]: tuple(row[1:]) for row in rows[1:]}


def _run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    """Run a command, all that it says on standard error as it comes.

    On Ctrl-C, which it hears too, it comes to its own end first. Raises ReproduceError.
    """
    with _start(command, folder, environment, stdout=_STDERR) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise
    if code:
        raise _failed(command, folder, code)


def _answer(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """What a command prints; "" where it prints nothing. Raises ReproduceError."""
    with _start(command, folder, environment, stdout=subprocess.PIPE) as process:
        printed, _ = process.communicate()
    if process.returncode:
        raise _failed(command, folder, process.returncode)
    return printed.decode().strip()


def _start(
    command: list[str], folder: Path, environment: dict[str, str] | None, stdout: int
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=stdout)
    except FileNotFoundError as error:
        raise ReproduceError(
            f"{folder.absolute()}: {' '.join(command)}: no program {command[0]} in PATH. Install it"
        ) from error


def _failed(command: list[str], folder: Path, code: int) -> ReproduceError:
    return ReproduceError(
        f"{folder.absolute()}: {' '.join(command)}: exit code {code}, for the reason that it gives "
        "above. The folder is kept: mend it and run the same command again, which goes on there"
    )


def _ask(*arguments: str, folder: Path = Path()) -> bytes | None:
    """git's answer; None where it has none, or is not installed."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
