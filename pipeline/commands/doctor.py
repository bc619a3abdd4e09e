"""What this machine has and lacks for a run from the data to Kaggle, one line per finding.

Nothing is changed. The only requests are those to DVC's default remote, one to Kaggle's host, and
those of the sign-in and of the day's limit that the caller passes.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple, cast

import requests
from packaging.requirements import InvalidRequirement, Requirement

from pipeline.core import paths
from pipeline.core.errors import PipelineError, examples, shown
from pipeline.core.machine import cores, free_memory
from pipeline.core.terminal import print_line
from pipeline.kaggle.answers import Limits
from pipeline.kaggle.credentials import Credentials, find_credentials
from pipeline.kaggle.failures import explain
from pipeline.kaggle.scrub import scrub
from pipeline.kaggle.slug import competition_slug
from pipeline.kaggle.transport import limits
from pipeline.ledger.git import NOT_INSTALLED, find_unfinished
from pipeline.ledger.git import explain as explain_git
from pipeline.params import parse_config

State = Literal["ok", "note", "problem"]
Finding = tuple[State, str]

SHOWN = ["torch", "kaggle", "dvc", "albumentations", "timm", "opencv-python-headless"]
"""The packages whose versions are printed."""

REACH_TIMEOUT_S = 5.0
REMOTE_TIMEOUT_S = 20.0
LEAST_FREE_GB = 2.0
"""A network's copies and the packed images need about as much."""


class Line(NamedTuple):
    name: str
    state: State
    text: str


def examine(
    environ: Mapping[str, str],
    home: Path,
    root: Path,
    sign_in: Callable[[], str],
    ask_limit: Callable[[str], Limits],
) -> list[Line]:
    """Everything that the pipeline needs, in the order in which a run needs it.

    root: the repository. sign_in: returns the user's name as Kaggle knows it, or raises
    PipelineError; called only with credentials and a network. ask_limit: returns the day's limit of
    a competition, or raises PipelineError; called only after it, where params.yaml names one.
    """
    credentials = find_credentials(environ, home)
    network = _examine_network(environ)
    signed_in = _examine_sign_in(credentials, network, sign_in)
    found: list[tuple[str, Finding]] = [
        ("python", _examine_python()),
        ("packages", _examine_packages(root / "requirements.lock")),
        ("device", _examine_device()),
        ("disk", _examine_disk(root)),
        ("git", _examine_git(root, environ)),
        ("dvc", _examine_dvc(root, environ)),
        ("network", network),
        *(("credentials", finding) for finding in _examine_credentials(credentials)),
        ("sign-in", signed_in),
    ]
    if credentials.used and network[0] == "ok" and signed_in[0] != "problem":
        found += [("limit", finding) for finding in _examine_limit(root, ask_limit)]
    return [Line(name, state, scrub(text, credentials.secrets)) for name, (state, text) in found]


def print_report(lines: list[Line]) -> bool:
    """Print the findings as a table on standard output. True if there is nothing to fix."""
    width = max((len(line.name) for line in lines), default=0)
    for line in lines:
        print_line(f"{line.state:<8} {line.name:<{width}}  {line.text}")
    return all(line.state != "problem" for line in lines)


def _examine_python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):  # what requirements.lock is made for
        return "ok", f"{found}, {sys.executable}"
    fix = "make clean; make PYTHON=python3.12 run"
    return "problem", f"expected Python 3.11 to 3.13, found {found}. Run: {fix}"


def _examine_packages(lock: Path) -> Finding:
    """Compare what is installed with what is locked for this machine."""
    here = ", ".join(f"{name} {_installed(name) or 'missing'}" for name in SHOWN)
    if not lock.is_file():
        return "note", f"{here}; no {lock.name} to compare with. Run: make lock"
    state: State = "ok"
    wrong = []
    for line in lock.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line or line.startswith((" ", "#", "-")):
            continue
        text = line.removesuffix("\\").strip()
        try:
            locked = Requirement(text)
        except InvalidRequirement:
            fault = f"{lock.name}: expected a requirement, found {shown(text)}"
            return "problem", f"{here}; {fault}. Run: git checkout -- {lock.name}"
        if locked.marker and not locked.marker.evaluate():  # for another machine
            continue
        found = _installed(locked.name)
        if found is None or not locked.specifier.contains(found):
            wrong.append(f"{locked.name}{locked.specifier}, found {found or 'none'}")
            state = "problem" if found is None or state == "problem" else "note"
    if not wrong:
        return state, f"{here}; all as in {lock.name}"
    fix = f"Run: {sys.executable} -m pip install --require-hashes -r {lock.name}"
    return state, f"{here}; {len(wrong)} not as in {lock.name} {examples(wrong)}. {fix}"


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _examine_device() -> Finding:
    """What `device: auto` and `precision: auto` choose, and whether it computes."""
    try:
        import torch

        from pipeline.train.device import choose_compute

        compute = choose_compute("auto", "auto")
        ones = torch.ones(16, 16, device=compute.device, dtype=compute.dtype)
        ones.mm(ones).sum().item()
    except (ImportError, OSError, RuntimeError) as error:
        return "problem", f"PyTorch does not compute: {_first_line(str(error))}"
    precision = str(compute.dtype).removeprefix("torch.")
    processor = f"{cores()} CPU cores, {free_memory() / 2**30:.0f} GiB of memory free"
    if compute.device.type == "cuda":
        gpu = torch.cuda.get_device_properties(compute.device)
        return "ok", f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, {precision}; {processor}"
    if compute.device.type == "mps":
        return "ok", f"Apple's MPS, {precision}; {processor}"
    text = f"no GPU; {processor}, {precision}"
    if shutil.which("nvidia-smi"):
        unseen = f"nvidia-smi is installed, but PyTorch {torch.__version__} sees no GPU"
        return "note", f"{text}. {unseen}. Run: nvidia-smi"
    return "ok", text


def _examine_disk(root: Path) -> Finding:
    if not os.access(root, os.W_OK):
        return "problem", f"{root}: cannot be written to. Run: ls -ld {root}"
    free_gb = shutil.disk_usage(root).free / 1e9
    text = f"{free_gb:.1f} GB free in {root}"
    if free_gb < LEAST_FREE_GB:
        fix = "Delete files; those of DVC's cache with: dvc gc --workspace"
        return "problem", f"{text}, and a run needs {LEAST_FREE_GB:.0f}. {fix}"
    return "ok", text


def _examine_git(root: Path, environ: Mapping[str, str]) -> Finding:
    found, status = _ask(root, environ, "git", "status", "--porcelain")
    if not found:
        if shutil.which("git", path=environ.get("PATH")) is None:
            return "problem", NOT_INSTALLED
        return "problem", explain_git(status, root) or f"{_first_line(status)}. Run: git status"
    committed, commit = _ask(root, environ, "git", "rev-list", "--abbrev-commit", "-1", "HEAD")
    if not committed:
        return "note", explain_git(commit, root) or _first_line(commit)
    _, git_folder = _ask(root, environ, "git", "rev-parse", "--absolute-git-dir")
    if unfinished := find_unfinished(Path(git_folder)):
        return "note", f"commit {commit}, a {unfinished} is not finished. Run: git status"
    if changed := [line[3:] for line in status.splitlines()]:
        return "note", (
            f"commit {commit}, files not committed: {len(changed)} {examples(changed)}; a score "
            "that is sent now cannot be reproduced from a commit. Run: git status"
        )
    return "ok", f"commit {commit}, nothing uncommitted"


def _examine_dvc(root: Path, environ: Mapping[str, str]) -> Finding:
    if not (root / ".dvc").is_dir():
        return "problem", "DVC is not set up here. Run: dvc init"
    found, text = _ask(root, environ, sys.executable, "-m", "dvc", "remote", "list")
    if not found:
        return "problem", f"{_first_line(text)}. Check .dvc/config"
    if "(default)" not in text:
        return "note", (
            "no default remote: the networks are on this disk only, and without them a later "
            "reproduce must train again. Run: dvc remote add --default NAME URL"
        )
    return _examine_remote(root, environ)


def _examine_remote(root: Path, environ: Mapping[str, str]) -> Finding:
    """Whether the default remote answers, in a process that ends where it does not."""
    code = "from pipeline.commands.sync import examine; examine()"
    own = {**environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    found, text = _ask(root, own, sys.executable, "-c", code, timeout_s=REMOTE_TIMEOUT_S)
    if not found:
        reason = (text.splitlines() or ["no reason given"])[-1].rstrip(".")
        return "problem", f"the default remote was not examined: {reason}. Run: dvc status --cloud"
    state, _, text = text.partition(" ")
    return cast(State, state), text


def _ask(
    root: Path, environ: Mapping[str, str], *command: str, timeout_s: float | None = None
) -> tuple[bool, str]:
    """Whether a command succeeds in `root`, and its output, or its errors if it fails."""
    environ = {**environ, "DVC_NO_ANALYTICS": "1", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, cwd=root, env=environ, capture_output=True, text=True, check=True,
            stdin=subprocess.DEVNULL, timeout=timeout_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False, f"no answer within {timeout_s:g} s"
    except subprocess.CalledProcessError as error:
        return False, str(error.stderr).rstrip()
    except OSError as error:
        return False, f"{command[0]}: {error.strerror}"
    return True, done.stdout.rstrip()


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[0].rstrip(".")


def _examine_network(environ: Mapping[str, str]) -> Finding:
    """Whether the API's host answers at all, through the proxies that the client would use."""
    is_local = environ.get("KAGGLE_API_ENVIRONMENT") == "LOCALHOST"
    host = "http://localhost" if is_local else "https://api.kaggle.com"
    proxy = requests.utils.select_proxy(host, requests.utils.get_environ_proxies(host))
    route = host
    if proxy:  # with a scheme, so that `scrub` recognises a password in it
        route += f", through the proxy {proxy if '://' in proxy else f'http://{proxy}'}"
    try:
        with limits(REACH_TIMEOUT_S, most_file_bytes=0):
            answer = requests.head(host, allow_redirects=False)
    except Exception as error:  # explain raises what neither an answer nor the network causes
        return "problem", f"{route}: {explain(error, '').sentence}"
    return "ok", f"{route} answers ({answer.status_code})"


def _examine_credentials(credentials: Credentials) -> list[Finding]:
    found: list[Finding] = []
    if used := credentials.used:
        whose = f" of {used.user}" if used.user else ""
        found.append(("ok", f"{used.kind}{whose}, from {used.origin}"))
    found += [("problem", problem) for problem in credentials.problems]
    return found + [("note", note) for note in credentials.notes]


def _examine_sign_in(
    credentials: Credentials, network: Finding, sign_in: Callable[[], str]
) -> Finding:
    if credentials.used is None:
        return "note", "not tried without credentials"
    if network[0] != "ok":
        return "note", "not tried without a network"
    try:
        user = sign_in()
    except (PipelineError, OSError) as error:
        return "problem", str(error) or type(error).__name__
    if user and credentials.used.user not in ("", user):
        return "note", f"Kaggle knows you as {user}, not as {credentials.used.user}"
    return "ok", f"Kaggle knows you as {user}" if user else "Kaggle lets you in"


def _examine_limit(root: Path, ask_limit: Callable[[str], Limits]) -> Iterator[Finding]:
    """The day's submissions; nothing where params.yaml names no competition of Kaggle."""
    if not (root / paths.PARAMS).is_file():
        return
    try:
        config = parse_config(root / paths.PARAMS).download
        if config.source != "kaggle":
            return
        slug = competition_slug(config.competition)
        limits = ask_limit(slug)
    except (PipelineError, OSError) as error:
        yield "note", (str(error).splitlines() or [type(error).__name__])[0]
    else:
        yield "note" if limits.refusal else "ok", f"{slug}: {limits.refusal or limits.text}"
