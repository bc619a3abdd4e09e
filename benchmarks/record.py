"""What each result costs the head of a cluster: placing it and having DVC record it.

DVC reads and writes the whole of dvc.lock for each record, and asks every stage whether it is out
of date before any is trained. So both are measured in a clone of this repository's last commit,
with the graph of the real one and 10, 100 and 1,000 stages train@MODEL-FOLD, all of which are
recorded: one result that comes back, and ten at once, as pipeline/cluster/engine.py places and
records them. The results are files of random bytes, the models of params.yaml differ in nothing.
Seconds are those of CPU, since one thread does it all. The last lines are least squares of what
stages and results add, which `python -m benchmarks.cluster` takes.
"""

import os
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from typing import Annotated

import numpy as np
import typer
from ruamel.yaml import YAML

from benchmarks.child import run_in_child
from benchmarks.clone import call, clone, shrink, surroundings
from benchmarks.timing import print_machine
from pipeline.core import paths

STAGES = [10, 100, 1000]
AT_ONCE = [1, 10]
_FOLDS = 5
_TABLE_BYTES = 100_000


def main(
    stages: Annotated[list[int] | None, typer.Option(help="Of train, in dvc.lock.")] = None,
    result_mb: Annotated[float, typer.Option(help="Of the weights of a network.")] = 1.0,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Measure what one process does for all results, one after the other."""
    print_machine()
    counts = [count // _FOLDS * _FOLDS for count in stages or STAGES]
    records: list[tuple[int, int, float]] = []
    asked: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "clone"
        commit = clone(place)
        shrink(place, images=60, folds=_FOLDS, epochs=1)
        call(place, ["dvc", "repro", "--quiet", "split"])
        print(f"a clone of {commit}: seconds of CPU, medians of {rounds}")
        print(
            f"{'stages':>6}  {'dvc status':>10}  " + "  ".join(f"{k:>3} results" for k in AT_ONCE)
        )
        for count in counts:
            status_s, record_s = run_in_child(partial(_measure, place, count, result_mb, rounds))
            asked.append((count, status_s))
            records += [(count, k, seconds) for k, seconds in record_s.items()]
            columns = "  ".join(f"{seconds:>11.2f}" for seconds in record_s.values())
            print(f"{count:>6,}  {status_s:>10.2f}  {columns}", flush=True)
    if len(counts) > 2:
        found = _fit([(1, n, k, k * n) for n, k, _ in records], [s for *_, s in records])
        print(f"a record: {_terms(found, ['', 'stages', 'results', 'results × stages'])}")
        found = _fit([(1, n, n * n) for n, _ in asked], [s for _, s in asked])
        print(f"what is out of date: {_terms(found, ['', 'stages', 'stages²'])}")


def place_again(results: Mapping[str, Path], rounds: int) -> list[float]:
    """Seconds of CPU to place and record results by stage; in each a file has other bytes."""
    from pipeline.commands import repro
    from pipeline.core.files import new_folder

    found = []
    for number in range(rounds):
        files = {
            folder: {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
            for folder in results.values()
        }
        started = process_time()
        for folder, contents in files.items():
            last = max(contents)
            contents[last] = bytes([number]) + contents[last][1:]
            with new_folder(folder) as partial_folder:
                for name, content in contents.items():
                    (partial_folder / name).write_bytes(content)
        repro.record([*results])
        found.append(process_time() - started)
    return found


def _measure(
    place: Path, count: int, result_mb: float, rounds: int
) -> tuple[float, dict[int, float]]:
    """Seconds of CPU to ask what is out of date, and to record so many results at once."""
    os.environ |= surroundings(place)
    os.chdir(place)
    from pipeline.commands import repro

    folders = _name_models(count)
    random = np.random.default_rng(count)
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "weights.safetensors").write_bytes(random.bytes(round(result_mb * 1e6)))
        (folder / "oof.csv").write_bytes(random.bytes(_TABLE_BYTES))
    repro.record([*folders])
    started = process_time()
    stale = repro.find_stale("train") & {*folders}
    status_s = process_time() - started
    if stale:
        raise RuntimeError(f"expected all stages recorded, found {len(stale)} out of date")
    at_once = {k: dict([*folders.items()][:k]) for k in AT_ONCE if k <= count}
    return status_s, {k: median(place_again(some, rounds)) for k, some in at_once.items()}


def _name_models(count: int) -> dict[str, Path]:
    """Write params.yaml with so many trainings; their folders by stage."""
    yaml = YAML()
    tree = yaml.load(paths.PARAMS.read_text("utf-8"))
    train = tree["train"]
    model = next(iter(train["models"].values()))
    train["members"] = [f"model{number}" for number in range(count // _FOLDS)]
    train["models"] = {name: dict(model) for name in train["members"]}
    with paths.PARAMS.open("w", encoding="utf-8") as file:
        yaml.dump(tree, file)
    return {
        f"train@{name}-{fold}": paths.model_folder(name, fold)
        for name in train["members"]
        for fold in range(_FOLDS)
    }


def _fit(rows: list[tuple[int, ...]], seconds: list[float]) -> list[float]:
    """Least squares of what differs by the same factor at each size."""
    weights = 1 / np.array(seconds)
    scaled = np.array(rows) * weights[:, None]
    found: list[float] = np.linalg.lstsq(scaled, np.ones(len(rows)), rcond=None)[0].tolist()
    return found


def _terms(factors: list[float], names: list[str]) -> str:
    return " + ".join(f"{f:.2e} {name}".strip() for f, name in zip(factors, names, strict=True))


if __name__ == "__main__":
    typer.run(main)
