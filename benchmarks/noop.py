"""A pipeline in which nothing is out of date: seconds of `dvc repro` and `make run`.

In a temporary clone of this repository's last commit, built once with tiny parameters and all
five folds, so that the graph is the real one. Peer: `dvc --version`, the floor under any DVC
command; `dvc status` stands beside it. A clone that is not up to date stops the benchmark.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated

import typer

from benchmarks.clone import call, clone, shrink
from benchmarks.timing import print_goal, print_machine, print_table, take_turns

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
        place = Path(folder) / "clone"
        commit = clone(place)
        shrink(place, images, folds, epochs=1)
        print(f"building a clone of {commit} once, {images} images, {folds} folds …", flush=True)
        call(place, ["dvc", "repro", "--quiet"])
        if _UP_TO_DATE not in (found := call(place, COMMANDS["dvc repro"])):
            raise RuntimeError(f"dvc repro: expected all {_UP_TO_DATE} after a build: {found}")
        found_s = take_turns({name: _timed(place, name) for name in COMMANDS}, rounds)
    print_table("nothing to do, seconds", found_s, _PEER)
    for name, goal in GOALS_S.items():
        print_goal(f"{name}, seconds", median(found_s[name]), below=goal)


def _timed(place: Path, name: str) -> Callable[[int], float]:
    def run(_: int) -> float:
        started = perf_counter()
        call(place, COMMANDS[name])
        return perf_counter() - started

    return run


if __name__ == "__main__":
    typer.run(main)
