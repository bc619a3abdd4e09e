"""What the tests build on: small parameters, and a throw-away copy of this repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from filelock import FileLock

from pipeline.core.competition import ImageDecoding
from pipeline.prepare.config import ImagesConfig

ROOT = Path(__file__).resolve().parent.parent
COMPETITIONS = ROOT / "competitions"
"""Real data, not in git."""

COPIED = [
    "pipeline", "profiles", "corrections", "leaks", "metrics", "dvc.yaml", "Makefile",
    ".dvcignore", ".gitignore", ".gitattributes",
]  # fmt: skip

PARAMS = """\
# a test
download:
  {source: synthetic, kind: cells, train_images: 80, test_images: 24, patients: 16, wrong_labels: 0.05,
   duplicates: 0.05, seed: 1}
prepare:
  {kind: images, sample_submission: auto, labels: auto, task: auto, classes: null, train_images: auto, test_images: auto,
   groups: {source: file, file: auto}, size_px: 24, fit: stretch, max_side_px: 4096, bits: null,
   unreadable: stop, unlabelled: stop, near_duplicate: 2.0, conflicts: keep, corrections: null}
split: {folds: 2, seeds: [1], rare: stop}
train:
  device: cpu
  threads: 1
  world: 1
  sync_batch_norm: false
  members: [one, two]
  folds: [0, 1]
  models:
    one: &model
      network: {family: small, name: vgg, width: 4, stages: 2, dropout: 0.1}
      seed: 1
      epochs: 2
      epoch: {rule: last}
      batch_size: 16
      sizes_px: null
      optimizer: {kind: adamw}
      lr: 0.01
      warmup_epochs: 0.5
      weight_decay: 0.01
      l1: 0.0
      layer_decay: null
      head_lr: null
      freeze_epochs: 0
      label_smoothing: 0.05
      ema: 0.9
      clip_norm: 1.0
      precision: float32
      compiled: false
      tta: true
      augment: [{op: SquareSymmetry, p: 1.0}]
      engine: batched
      mix: null
    two: {<<: *model, seed: 2, engine: albumentations, epoch: {rule: inner, folds: 2, patience: null}}
ensemble:
  {name: tiny, metric: accuracy, blend: mean, calibration: none, threshold: none,
   greedy_rounds: 20, stack_l2: 1.0, external: [], confidence: 0.95, resamples: 200, seed: 1,
   forecast: {confidence: 0.9, resamples: 200, seed: 1, public_share: 0.5}}
"""

TRAINED_PARAMS = (
    PARAMS.replace("epochs: 2\n", "epochs: 20\n")
    .replace("calibration: none", "calibration: temperature")
    .replace("threshold: none", "threshold: fitted")
)
"""Those of `trained_project`: its networks find both classes, and everything of a blend is fitted."""

FIRST_RUN = ".resume/first_run.txt"
"""What `make run` said in `trained_project`."""


def decoding_of(size_px: int, channels: Literal[1, 3] = 3) -> ImageDecoding:
    """Images of 8 bits, stretched to a square of this side."""
    return ImageDecoding(size_px=size_px, channels=channels, fit="stretch", black_white=None)


def needs(place: Path) -> pytest.MarkDecorator:
    """Skip a test, with the way to the data, where a file or folder of COMPETITIONS is missing."""
    reason = f"{place.relative_to(ROOT)} is missing: docs/DATA.md says how to get it"
    return pytest.mark.skipif(not place.exists(), reason=reason)


def prepare_config(**changes: Any) -> ImagesConfig:
    """A section `prepare` that understands every file by itself."""
    choices: dict[str, Any] = {
        "kind": "images",
        "sample_submission": "auto",
        "labels": "auto",
        "task": "auto",
        "classes": None,
        "train_images": "auto",
        "test_images": "auto",
        "groups": {"source": "file", "file": "groups.csv"},
        "size_px": 32,
        "fit": "stretch",
        "max_side_px": 4096,
        "bits": None,
        "unreadable": "stop",
        "unlabelled": "stop",
        "near_duplicate": 1.0,
        "conflicts": "keep",
        "corrections": None,
    }
    return ImagesConfig(**(choices | changes))


def local_params(folder: str) -> str:
    """PARAMS with the competition's files in a folder."""
    start, end = PARAMS.index("download:"), PARAMS.index("prepare:")
    source = f"download: {{source: local, folder: {folder}}}\n"
    return PARAMS[:start] + source + PARAMS[end:]


def environment() -> dict[str, str]:
    """This Python first in PATH, what DVC needs, and no trace of a `make` around the tests."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    outside_make = {name: text for name, text in os.environ.items() if not name.startswith("MAKE")}
    return {**outside_make, "PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONWARNINGS": "default"}


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a project; its standard error goes into stdout, as on a terminal."""
    return subprocess.run(
        command, cwd=folder, env=environment(), text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def stage(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m pipeline …` in a project."""
    return run(folder, sys.executable, "-m", "pipeline", *arguments)


def processes_with(mark: str) -> dict[int, str]:
    """The command lines, by number, of all processes that inherited a mark in their environment."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found


def make_project(folder: Path, params: str = PARAMS) -> Path:
    """Copy this repository's working tree into `folder`, with its own params.yaml, git and DVC."""
    folder.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    shutil.rmtree(folder / "profiles")
    (folder / "profiles").mkdir()
    (folder / "params.yaml").write_text(params)
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc")
    shutil.copy(ROOT / ".dvc" / ".gitignore", folder / ".dvc")
    for command in (
        ("git", "init", "--quiet"),
        ("git", "config", "user.email", "test@example.org"),
        ("git", "config", "user.name", "test"),
    ):
        assert run(folder, *command).returncode == 0
    commit_all(folder, "start")
    return folder


def commit_all(folder: Path, message: str) -> None:
    """Commit everything that git does not ignore."""
    for command in (("add", "--all"), ("commit", "--quiet", "--message", message)):
        done = run(folder, "git", *command)
        assert done.returncode == 0, done.stdout


def trained_project(factory: pytest.TempPathFactory) -> Path:
    """A project after its first `make run` and a commit, made once for all tests of a session.

    Processes of pytest-xdist share it: read it, and change copies only (`copy_project`). DVC locks
    a project even to read it, so that it needs a copy, too.
    """
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # the folder of all processes of this session
    trained = shared / "trained"
    with FileLock(f"{trained}.lock"):
        if not trained.is_dir():
            _train_project(factory.mktemp("training") / "project").rename(trained)
    return trained


def _train_project(folder: Path) -> Path:
    make_project(folder, TRAINED_PARAMS)
    for name in ("LICENSE", "requirements.lock", "README.md"):
        shutil.copy(ROOT / name, folder)
    commit_all(folder, "before the first run")
    done = run(folder, "make", "-o", ".venv/.installed", "run")
    assert done.returncode == 0, done.stdout
    (folder / FIRST_RUN).write_text(done.stdout)
    commit_all(folder, "run")
    return folder


def copy_project(project: Path, folder: Path) -> Path:
    """Copy a project with its git, its DVC cache and everything that its stages made."""
    return shutil.copytree(project, folder, symlinks=True)


def digests(folder: Path, *patterns: str) -> dict[str, bytes]:
    """The bytes of every file that matches, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for pattern in patterns
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    }
