"""The work of a node: the stage `train` of one model and fold, in a folder of its own.

Ray sends this module to the nodes as it is, since the pipeline comes to them with each order: so
it imports the standard library alone. What a node has fetched, it keeps by its SHA-256.
"""

import fcntl
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "timm", "albumentations", "opencv-python-headless", "numpy", "scikit-learn")
"""Those that decide the bits of a network."""

_FROM_REMOTE = """
import sys
from dvc.config import Config
from dvc.fs import get_cloud_fs

config = Config(".dvc")
system, options, path = get_cloud_fs(config, name=config["core"]["remote"])
files = system(**options)
md5, to = sys.argv[1:]
files.get_file(files.join(path, "files", "md5", md5[:2], md5[2:]), to)
"""

_TURN_S = 0.5
_KEPT_S = 7 * 24 * 3600
"""How long a node keeps files that no training has used."""


@dataclass(frozen=True)
class TrainingOrder:
    """A training, and all that it needs by the SHA-256 of its bytes."""

    name: str
    arguments: list[str]
    """What follows `python -m pipeline`."""
    output: str
    """The folder that it makes, relative to the repository's root like all paths here."""
    live: str
    """Its table of progress."""
    lock: str
    """The file that a process holds while it trains."""
    threads: int
    code: str
    """A tar archive of the commit's code."""
    inputs: dict[str, str]
    """The SHA-256 of each file by its path."""
    shared: str | None
    """A folder that every node sees, for inputs and half-trained networks."""
    remote: dict[str, str]
    """The MD5, by SHA-256, of inputs that are in DVC's default remote, to which a node needs access
    of its own; inputs with its `.dvc/config`."""

    @property
    def key(self) -> str:
        """The same for all trainings of the same code, parameters and data."""
        needed = repr((self.code, sorted(self.inputs.items())))
        return hashlib.sha256(needed.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Outcome:
    """What a training has left."""

    node: str
    exit_code: int
    log: bytes
    files: dict[str, bytes] = field(default_factory=dict)
    """Its output, by name; none where it failed."""


@dataclass(frozen=True)
class NodeFacts:
    """A node as a training sees it."""

    versions: dict[str, str]
    """The version of each of LIBRARIES; "" for one that is missing."""
    instructions: str
    """The vector instructions that PyTorch uses on its CPU."""


def describe_node() -> NodeFacts:
    """Libraries and CPU of the node that runs this."""
    versions = {name: _version(name) for name in LIBRARIES}
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    asked = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    return NodeFacts(versions, asked.stdout.strip())


def train(
    order: TrainingOrder, blobs: dict[str, Any], get: Callable[[Any], bytes], tell: Any
) -> Outcome:
    """Run an order.

    blobs: what `get` turns into a file's bytes, by SHA-256; none where they are in the shared
    folder. tell(name, node, table): called when the training begins and after each epoch.
    """
    node = os.uname().nodename
    tell(order.name, node, "")
    try:
        folder = _workspace(order, blobs, get)
        _wait_for_an_earlier_one(folder / order.lock)
        code = _run(order, folder, lambda table: tell(order.name, node, table))
        log = (folder / "log").read_bytes()
        if code:
            return Outcome(node, code, log)
        files = {path.name: path.read_bytes() for path in (folder / order.output).iterdir()}
        shutil.rmtree(folder)
        return Outcome(node, 0, log, files)
    except OSError as error:
        return Outcome(node, 1, f"{type(error).__name__}: {error}\n".encode())


def _workspace(order: TrainingOrder, blobs: dict[str, Any], get: Callable[[Any], bytes]) -> Path:
    """The order's folder, with code and inputs. A killed training's is used again."""
    scratch = Path(tempfile.gettempdir()) / f"kaggle-pipeline-{os.getuid()}"
    scratch.mkdir(mode=0o700, exist_ok=True)
    facts = scratch.lstat()
    if scratch.is_symlink() or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise OSError(f"{scratch}: expected a folder that this user alone may read")
    kept = scratch / "files"
    kept.mkdir(exist_ok=True)
    _prune(scratch)
    folder = scratch / order.key / order.name
    folder.mkdir(parents=True, exist_ok=True)

    def fetch(sha256: str, partial: Path) -> None:
        if sha256 in order.remote:
            _copy_from_remote(folder, order.remote[sha256], partial)
        elif sha256 in blobs:
            partial.write_bytes(get(blobs[sha256]))
        else:
            shutil.copyfile(Path(str(order.shared)) / "files" / sha256, partial)

    code = _keep(kept, order.code, fetch).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(code)) as archive:
        archive.extractall(folder, filter="data")
    for path, sha256 in order.inputs.items():
        link = folder / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(_keep(kept, sha256, fetch))
    if order.shared is not None:
        resume = Path(order.shared) / "resume" / order.key
        resume.mkdir(parents=True, exist_ok=True)
        if not (folder / ".resume").exists():
            (folder / ".resume").symlink_to(resume)
    return folder


def _keep(kept: Path, sha256: str, fetch: Callable[[str, Path], None]) -> Path:
    """A file by its SHA-256, in the node's own folder; `fetch` writes one that is not there."""
    path = kept / sha256
    if not path.exists() or _sha256_of(path) != sha256:
        partial = kept / f"{sha256}.{os.getpid()}.partial"
        try:
            fetch(sha256, partial)
            if _sha256_of(partial) != sha256:
                raise OSError(f"a file came with another SHA-256 than {sha256}")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    os.utime(path)
    return path


def _copy_from_remote(folder: Path, md5: str, to: Path) -> None:
    """Copy a file from the default remote of a folder's `.dvc/config`, with this node's access."""
    asked = subprocess.run(
        [sys.executable, "-c", _FROM_REMOTE, md5, str(to)], cwd=folder,
        env=os.environ | {"DVC_NO_ANALYTICS": "1"}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise OSError(
            f"DVC's remote gave this node no file {md5}: {reason}. Each node needs access of its "
            "own to the remote (docs/CLUSTER.md)"
        )


def _wait_for_an_earlier_one(lock: Path) -> None:
    """A node that is lost leaves its training for a moment: two must not write one checkpoint."""
    for _ in range(60):
        if not lock.exists():
            return
        with lock.open("a+") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                time.sleep(_TURN_S)


def _run(order: TrainingOrder, folder: Path, tell: Callable[[str], None]) -> int:
    """Train in the folder; the exit code. The process ends with this one, however that ends, and
    with the node's raylet, which started this one: Ray has given the training to another node."""
    own = {"OMP_NUM_THREADS": str(order.threads), "PIPELINE_LEADER": str(os.getpid())}
    raylet, shown = os.getppid(), ""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *order.arguments],
            cwd=folder, env=os.environ | own, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        try:
            while process.poll() is None:
                time.sleep(_TURN_S)
                if os.getppid() != raylet:  # Ray takes what this process returns, and must not
                    os.killpg(process.pid, signal.SIGKILL)
                    os._exit(1)
                live = folder / order.live
                if live.exists() and (table := live.read_text(encoding="utf-8")) != shown:
                    tell(shown := table)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode


def _prune(scratch: Path) -> None:
    """Remove what has not been used for long."""
    old = time.time() - _KEPT_S
    for path in [*scratch.glob("files/*"), *scratch.glob("*/*/log")]:
        try:
            if path.stat().st_mtime < old:
                shutil.rmtree(path.parent) if path.name == "log" else path.unlink()
        except OSError:
            continue


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
