"""What this machine has and lacks for the whole way to Kaggle, one line a finding.

Nothing is changed, and nothing is sent but one request for Kaggle's front door and the sign-in
that the caller hands in.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import requests
from packaging.requirements import Requirement

from pipeline.core.errors import PipelineError, examples
from pipeline.kaggle.credentials import Credentials, find_credentials
from pipeline.kaggle.scrub import scrub

State = Literal["ok", "note", "problem"]

PYTHONS = ((3, 11), (3, 13))
"""The oldest and the newest that requirements.lock is made for."""

TELLING = ["torch", "kaggle", "dvc", "albumentations", "timm", "opencv-python-headless"]
"""The packages whose versions are worth a line."""

REACH_TIMEOUT_S = 5.0
LEAST_FREE_GB = 2.0
"""Below it a run may not end: a network's copies and the packed images need about that."""
LITTLE_FREE_GB = 10.0


@dataclass(frozen=True)
class Line:
    """A finding: ok, worth knowing, or to be mended, as the text says how."""

    name: str
    state: State
    text: str


def examine(
    environ: Mapping[str, str], home: Path, root: Path, sign_in: Callable[[], str]
) -> list[Line]:
    """Everything that the pipeline needs, in the order in which a run would need it.

    environ, home: of this process (its proxies are used). root: the repository. sign_in: asks
    Kaggle for the user's name, with the credentials found; raises PipelineError. It is called
    only where there are credentials and a network.
    """
    credentials = find_credentials(environ, home)
    network = _examine_network(environ)
    lines = [
        _examine_python(),
        _examine_packages(root / "requirements.lock"),
        _examine_device(),
        _examine_disk(root),
        *_examine_repository(root, environ),
        network,
        *_examine_credentials(credentials),
        _examine_sign_in(credentials, network, sign_in),
    ]
    return [Line(line.name, line.state, scrub(line.text, credentials.secrets)) for line in lines]


def print_report(lines: list[Line]) -> bool:
    """Print the findings as a table on standard output. True where nothing is to be mended."""
    named = max((len(line.name) for line in lines), default=0)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    last = ""
    for line in lines:
        head = f"{line.state:<8} {line.name if line.name != last else '':<{named}}  "
        print(
            textwrap.fill(
                line.text,
                max(width, 2 * len(head)),
                initial_indent=head,
                subsequent_indent=" " * len(head),
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
        last = line.name
    return all(line.state != "problem" for line in lines)


def _examine_python() -> Line:
    found = ".".join(str(number) for number in sys.version_info[:3])
    oldest, newest = PYTHONS
    if oldest <= sys.version_info[:2] <= newest:
        return Line("python", "ok", f"{found}, {sys.executable}")
    supported = " to ".join(".".join(map(str, one)) for one in PYTHONS)
    return Line(
        "python",
        "problem",
        f"{found}, where {supported} is supported. Run: make clean; make PYTHON=python3.12 run",
    )


def _examine_packages(lock: Path) -> Line:
    """Compare what is installed with what is locked for this machine."""
    here = ", ".join(f"{name} {_installed(name) or 'missing'}" for name in TELLING)
    if not lock.is_file():
        return Line("packages", "note", f"{here}; no {lock.name} to compare with. Run: make lock")
    missing, differing = [], []
    for locked in _locked(lock):
        found = _installed(locked.name)
        if found is None:
            missing.append(str(locked.name))
        elif not locked.specifier.contains(found):
            differing.append(f"{locked.name}{locked.specifier}, found {found}")
    mend = f"Run: {sys.executable} -m pip install --require-hashes -r {lock.name}"
    if missing:
        return Line(
            "packages",
            "problem",
            f"{here}; {len(missing)} of {lock.name} missing {examples(missing)}. {mend}",
        )
    if differing:
        return Line(
            "packages",
            "note",
            f"{here}; {len(differing)} not as in {lock.name} (first: {'; '.join(differing[:3])}). "
            f"{mend}",
        )
    return Line("packages", "ok", f"{here}; all as in {lock.name}")


def _locked(lock: Path) -> Iterator[Requirement]:
    """The lock file's requirements that count on this machine."""
    for line in lock.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith((" ", "#", "-")):
            requirement = Requirement(line.removesuffix("\\").strip())
            if requirement.marker is None or requirement.marker.evaluate():
                yield requirement


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _examine_device() -> Line:
    """What `device: auto` and `precision: auto` choose, and whether it computes."""
    with warnings.catch_warnings(record=True) as said:  # an old driver is only warned of
        warnings.simplefilter("always")
        try:
            import torch

            from pipeline.train.device import choose_compute

            compute = choose_compute("auto", "auto")
            torch.ones(16, 16, device=compute.device, dtype=compute.dtype).mm(
                torch.ones(16, 16, device=compute.device, dtype=compute.dtype)
            ).sum().item()
        except (ImportError, OSError, RuntimeError) as error:
            return Line("device", "problem", f"PyTorch does not compute: {_first_line(str(error))}")
    cores = f"{_cores()} CPU cores"
    precision = str(compute.dtype).removeprefix("torch.")
    if compute.device.type == "cuda":
        gpu = torch.cuda.get_device_properties(compute.device)
        memory = f"{gpu.total_memory / 2**30:.0f} GiB"
        return Line("device", "ok", f"{gpu.name}, {memory}, {precision}; {cores}")
    if compute.device.type == "mps":
        return Line("device", "ok", f"Apple's MPS, {precision}; {cores}")
    in_hardware = "bfloat16 in hardware" if precision == "bfloat16" else "no bfloat16 in hardware"
    text = f"no GPU; {cores}, {precision} ({in_hardware})"
    if warned := [one for one in said if one.category is UserWarning]:
        return Line(
            "device", "note", f"{text}. PyTorch says: {_first_line(str(warned[0].message))}"
        )
    if shutil.which("nvidia-smi"):
        unseen = f"nvidia-smi is here, but PyTorch {torch.__version__} sees no GPU"
        return Line("device", "note", f"{text}. {unseen}. Run: nvidia-smi")
    return Line("device", "ok", text)


def _cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _examine_disk(root: Path) -> Line:
    try:
        with tempfile.TemporaryFile(dir=root) as probe:
            probe.write(b"probe")
            probe.flush()
        free_gb = shutil.disk_usage(root).free / 1e9
    except OSError as error:
        return Line("disk", "problem", f"{root}: nothing can be written there ({error.strerror})")
    text = f"{free_gb:.1f} GB free in {root}"
    if free_gb < LEAST_FREE_GB:
        return Line(
            "disk",
            "problem",
            f"{text}, and a run needs {LEAST_FREE_GB:.0f}. Make room; of DVC's cache: "
            "dvc gc --workspace",
        )
    if free_gb < LITTLE_FREE_GB:
        return Line("disk", "note", f"{text}: little for images at hand and networks to come")
    return Line("disk", "ok", text)


def _examine_repository(root: Path, environ: Mapping[str, str]) -> list[Line]:
    """Git and DVC, without which no score can be rebuilt."""

    def ask(*command: str) -> tuple[bool, str]:
        try:
            done = subprocess.run(
                command,
                cwd=root,
                env={**environ, "DVC_NO_ANALYTICS": "1", "LC_ALL": "C"},
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            return False, f"{command[0]}: {error.strerror}"
        return done.returncode == 0, (done.stdout if done.returncode == 0 else done.stderr).rstrip()

    return [_examine_git(ask), _examine_dvc(ask)]


def _examine_git(ask: Callable[..., tuple[bool, str]]) -> Line:
    found, text = ask("git", "rev-parse", "--show-toplevel")
    if not found:
        start = "git init && git add --all && git commit -m start"
        return Line("git", "problem", f"{_first_line(text)}. Where there is none, run: {start}")
    committed, commit = ask("git", "rev-parse", "--short", "HEAD")
    if not committed:
        mend = "git add --all && git commit -m start"
        return Line("git", "note", f"no commit yet. Run: {mend}")
    _, status = ask("git", "status", "--porcelain")
    if changed := [line[3:] for line in status.splitlines()]:
        return Line(
            "git",
            "note",
            f"commit {commit}, {len(changed)} files not committed {examples(changed)}: a score "
            "that is sent now cannot be rebuilt from a commit. Run: git status",
        )
    return Line("git", "ok", f"commit {commit}, nothing uncommitted")


def _examine_dvc(ask: Callable[..., tuple[bool, str]]) -> Line:
    dvc = (sys.executable, "-m", "dvc")
    found, text = ask(*dvc, "root")
    if not found:
        return Line("dvc", "problem", f"{_first_line(text)}. Where it is not set up, run: dvc init")
    found, text = ask(*dvc, "remote", "list")
    if not found:
        return Line("dvc", "problem", f"{_first_line(text)}. Look at .dvc/config")
    if not text:
        return Line(
            "dvc",
            "note",
            "no remote: the networks are kept on this disk alone, and without them a later "
            "reproduce must train anew. Run: dvc remote add --default NAME URL",
        )
    remotes = "; ".join(" ".join(line.split()) for line in text.splitlines())
    if "(default)" not in text:
        return Line(
            "dvc",
            "note",
            f"remote {remotes}, and none is the default, to which dvc push goes. "
            f"Run: dvc remote default {text.split()[0]}",
        )
    return Line("dvc", "ok", f"remote {remotes}")


def _first_line(text: str) -> str:
    """The line that tells what is wrong: git's and DVC's errors are marked, after warnings."""
    lines = text.strip().splitlines() or ["no word of why"]
    marked = [line for line in lines if line.startswith(("fatal: ", "ERROR: "))]
    return (marked or lines)[0].rstrip(".")


def _examine_network(environ: Mapping[str, str]) -> Line:
    """Any answer of the API's host will do, through the proxies that the client would use."""
    is_local = environ.get("KAGGLE_API_ENVIRONMENT") == "LOCALHOST"
    host = "http://localhost" if is_local else "https://api.kaggle.com"
    proxy = requests.utils.select_proxy(host, requests.utils.get_environ_proxies(host))
    way = host
    if proxy:  # with a scheme, so that a password in it is known for one
        way += f", through the proxy {proxy if '://' in proxy else f'http://{proxy}'}"
    try:
        answer = requests.head(host, timeout=REACH_TIMEOUT_S, allow_redirects=False)
    except OSError as error:
        return Line("network", "problem", f"{way}: {_why_not_reached(error)}")
    return Line("network", "ok", f"{way} answers ({answer.status_code})")


def _why_not_reached(error: OSError) -> str:
    told = repr(error)  # requests wraps urllib3's causes, and names them there alone
    match error:
        case requests.exceptions.SSLError():
            return (
                "its certificate is not trusted. Where a proxy inspects TLS, run: "
                "export REQUESTS_CA_BUNDLE=FILE, with the proxy's certificates"
            )
        case requests.exceptions.ProxyError() if "Tunnel connection failed" in told:
            status = told.partition("Tunnel connection failed: ")[2][:3]
            return f"the proxy refuses ({status}). Ask whoever runs it to let this host through"
        case requests.exceptions.ProxyError() | requests.exceptions.InvalidProxyURL():
            return "the proxy cannot be reached. Mend or unset https_proxy and http_proxy"
        case requests.Timeout():
            return (
                f"no answer in {REACH_TIMEOUT_S:.0f} s. Is there a firewall, or a proxy to be "
                "named in https_proxy?"
            )
        case requests.ConnectionError() if "NameResolutionError" in told:
            return "its name is not found (DNS). Is this machine on the network?"
        case requests.ConnectionError():
            return "no connection. Is this machine on the network?"
        case requests.RequestException():
            why = _first_line(str(error))
            return f"the request cannot be made ({why}). Look at https_proxy and http_proxy"
        case _:  # a plain OSError: a file of certificates that is not there
            return f"{error}. Look at REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE"


def _examine_credentials(credentials: Credentials) -> list[Line]:
    lines = [Line("credentials", "problem", problem) for problem in credentials.problems]
    lines += [Line("credentials", "note", note) for note in credentials.notes]
    if credentials.route == "none":
        return lines
    what = {"token": "a token", "key": "the key", "oauth": "OAuth"}[credentials.route]
    whose = f" of {credentials.user}" if credentials.user else ""
    return [Line("credentials", "ok", f"{what}{whose}, from {credentials.origin}"), *lines]


def _examine_sign_in(credentials: Credentials, network: Line, sign_in: Callable[[], str]) -> Line:
    if credentials.route == "none":
        return Line("sign-in", "note", "not tried without credentials")
    if network.state != "ok":
        return Line("sign-in", "note", "not tried without a network")
    try:
        user = sign_in()
    except (PipelineError, OSError) as error:
        return Line("sign-in", "problem", str(error) or type(error).__name__)
    if user and credentials.user not in ("", user):
        return Line("sign-in", "note", f"Kaggle knows you as {user}, not as {credentials.user}")
    return Line("sign-in", "ok", f"Kaggle knows you as {user}" if user else "Kaggle lets you in")
