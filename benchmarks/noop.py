"""A pipeline in which nothing is out of date: seconds of `dvc repro` and `make run`.

In a temporary clone of this repository's last commit, built once with tiny parameters and all
five folds, so that the graph is the real one. Peer: `dvc --version`, the floor under any DVC
command; `dvc status` stands beside it. A clone that is not up to date stops the benchmark.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated

import typer
from ruamel.yaml import YAML

from benchmarks.timing import print_goal, print_machine, print_table, take_turns
from pipeline.core import paths

COMMANDS = {
    "dvc --version": ["dvc", "--version"],
    "dvc status": ["dvc", "status"],
    "dvc repro": ["dvc", "repro"],
    # -o: a clone's requirements.lock is always newer than the environment, which is shared.
    "make run": ["make", "-o", ".venv/.installed", "run"],
}
GOALS_S = {"dvc repro": 3.0, "make run": 5.0}
_PEER = "dvc --version"
_UP_TO_DATE = "up to date"


def main(
    images: Annotated[int, typer.Option(help="Training images to draw.", min=60)] = 120,
    folds: Annotated[int, typer.Option(help="How many of the folds are trained.", min=1)] = 5,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Measure the commands that have nothing to do."""
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        commit = _clone(clone)
        _shrink(clone / paths.PARAMS, images, folds)
        print(f"building a clone of {commit} once, {images} images, {folds} folds …", flush=True)
        _run(clone, ["dvc", "repro", "--quiet"])
        if _UP_TO_DATE not in (found := _run(clone, COMMANDS["dvc repro"])):
            raise RuntimeError(f"dvc repro: expected all {_UP_TO_DATE} after a build: {found}")
        found_s = take_turns({name: _timed(clone, name) for name in COMMANDS}, rounds)
    print_table("nothing to do, seconds", found_s, _PEER)
    for name, goal in GOALS_S.items():
        print_goal(f"{name}, seconds", median(found_s[name]), below=goal)


def _clone(clone: Path) -> str:
    subprocess.run(["git", "clone", "--quiet", ".", clone], check=True)
    (clone / ".venv").symlink_to(sys.prefix)
    return _run(clone, ["git", "log", "-1", "--format=%h %s"]).strip()


def _shrink(params: Path, images: int, folds: int) -> None:
    """The synthetic profile, small; only the sizes differ, so that the graph stays the same."""
    yaml = YAML()
    tree = yaml.load((params.parent / "profiles/synthetic.yaml").read_text(encoding="utf-8"))
    tree["download"] |= {"train_images": images, "test_images": images // 2, "patients": 24}
    tree["prepare"]["size_px"] = 32
    tree["train"]["folds"] = list(range(folds))
    for model in tree["train"]["models"].values():
        model |= {"epochs": 1, "warmup_epochs": 0}
    tree["ensemble"]["resamples"] = 100
    with params.open("w", encoding="utf-8") as file:
        yaml.dump(tree, file)


def _timed(clone: Path, name: str) -> Callable[[int], float]:
    def run(_: int) -> float:
        started = perf_counter()
        _run(clone, COMMANDS[name])
        return perf_counter() - started

    return run


def _run(clone: Path, command: list[str]) -> str:
    """Standard output; a command that fails stops the benchmark and has said why."""
    environment = os.environ | {
        "PATH": f"{clone / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(clone.parent / "site"),  # else it leaves a folder in /var/tmp
    }
    done = subprocess.run(
        command, cwd=clone, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


if __name__ == "__main__":
    typer.run(main)
