"""Start-up: seconds from the start of a stage's process to the end of its first training step.

`python -m pipeline train MEMBER 0` in a small project that is drawn, prepared and split first,
with a few batches to train on, so that nearly all of the stage is start-up: imports, tables,
network, first batch, first step. benchmarks/first_step.py notes the times. Peer: `python -c
"import torch"`, the floor under any training. Each is a process of its own, started once before
the rounds, so that the files are in the system's cache and compiled, as they are when one stage
follows another.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from benchmarks.timing import print_goal, print_machine, print_table, take_turns
from pipeline.core import paths

GOAL_S = {"vgg, batched": 4.0, "vgg, albumentations": 4.0, "timm resnet18, batched": 7.0}
"""Our own networks, and one of timm."""

SIZE_PX = 64
_PEER = "import torch"
_RESNET18 = {
    "family": "timm", "name": "resnet18", "pretrained": False, "weights": None, "dropout": 0.0,
    "drop_path": None,
}  # fmt: skip
_CHANGES: dict[str, dict[str, Any]] = {
    "vgg, batched": {"engine": "batched"},
    "vgg, albumentations": {"engine": "albumentations"},
    "timm resnet18, batched": {"engine": "batched", "network": _RESNET18},
}
"""What differs from the profile's vgg."""


def main(rounds: Annotated[int, typer.Option(min=1)] = 5) -> None:
    """Measure what a training stage costs before its first step."""
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        _make_project(project)
        members = {name: f"model{number}" for number, name in enumerate(_CHANGES)}
        turns = {_PEER: partial(_import_torch, project)}
        turns |= {name: partial(_train, project, member) for name, member in members.items()}
        take_turns(turns, 1)
        found = take_turns(turns, rounds)
    seconds = {name: [each["first step"] for each in runs] for name, runs in found.items()}
    print_table("seconds to the first step's end", seconds, _PEER)
    _print_parts({name: found[name] for name in members})
    for name, goal in GOAL_S.items():
        print_goal(f"{name}, seconds", median(seconds[name]), below=goal)


def _make_project(project: Path) -> None:
    """160 training images in five folds: about 128 to train on, two or three batches."""
    tree = YAML().load(Path("profiles/malaria-best.yaml").read_text(encoding="utf-8"))
    tree["download"] = {
        "source": "synthetic", "kind": "cells", "train_images": 160, "test_images": 20,
        "patients": 20, "wrong_labels": 0.0, "duplicates": 0.0, "seed": 1,
    }  # fmt: skip
    tree["prepare"]["size_px"] = SIZE_PX
    vgg = tree["train"]["models"]["vgg"] | {"epochs": 1, "warmup_epochs": 0, "sizes_px": None}
    models = {f"model{number}": vgg | new for number, new in enumerate(_CHANGES.values())}
    tree["train"] |= {"models": models, "members": list(models), "folds": [0]}
    with (project / paths.PARAMS).open("w", encoding="utf-8") as file:
        YAML().dump(tree, file)
    for stage in ("download", "prepare", "split"):
        _run(project, "-m", "pipeline", stage)


def _import_torch(project: Path, _: int) -> dict[str, float]:
    started = time.monotonic()
    _run(project, "-c", "import torch")
    return {"first step": time.monotonic() - started}


def _train(project: Path, member: str, _: int) -> dict[str, float]:
    """Seconds from the start to each event, in their order."""
    started = time.monotonic()
    answer = _run(project, "-m", "benchmarks.first_step", "train", member, "0")
    ended = time.monotonic()
    events: dict[str, float] = json.loads(answer.splitlines()[-1]) | {"process ended": ended}
    return {event: at - started for event, at in events.items()}


def _print_parts(found: dict[str, list[dict[str, float]]]) -> None:
    """The time from one event to the next: the median of the rounds."""
    print(f"\n{'seconds until':<24}" + "".join(f"{name:>26}" for name in found))
    earlier = dict.fromkeys(found, 0.0)
    for event in next(iter(found.values()))[0]:
        at = {name: median(run[event] for run in runs) for name, runs in found.items()}
        cells = "".join(f"{at[name] - earlier[name]:>26.2f}" for name in found)
        print(f"{event:<24}{cells}")
        earlier = at
    print(f"{'in all':<24}" + "".join(f"{earlier[name]:>26.2f}" for name in found), flush=True)


def _run(project: Path, *arguments: str) -> str:
    """Standard output; a command that fails stops the benchmark and says why."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: exit code {done.returncode}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    typer.run(main)
