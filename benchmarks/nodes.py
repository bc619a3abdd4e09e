"""Trainings on two nodes of Ray on this machine, against `make train JOBS=2` on the same cores.

What a cluster costs beside the trainings themselves: a node has one core and starts one training
at a time, as the local engine does in two slots. Both begin with a copy of the same project, a
clone of the last commit up to `split`, so that DVC has nothing to restore. Ray's own start is
counted apart: that of its nodes, and `joined the cluster`, which the command says in whole
seconds. Both nodes keep what they have fetched in one folder, since they are on one machine, so
the inputs come once a round, not once a node; it is emptied before each.

Memory is that of Ray's own processes (PSS: pages that processes share count once), looked up every
two seconds, without the trainings that they run; and the head command's peak.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from threading import Event, Thread
from time import perf_counter
from typing import Annotated, Any

import psutil
import typer

from benchmarks.child import run_in_child
from benchmarks.clone import call, clone, shrink, surroundings
from benchmarks.record import place_again
from benchmarks.timing import median_ratio, print_goal, print_machine, print_table, take_turns
from pipeline.core import paths

GOAL = 1.15
STORE_BYTES = 150 * 2**20
"""The size of each node's object store, as tests/test_cluster.py has it, but for larger inputs."""

_AGENTS_S = 10.0
"""Until each node's agents are there, too."""

_LOOK_S = 2.0
_MODEL = "vgg"
_LOCAL, _CLUSTER = "make train JOBS=2", "two nodes of one core"


@dataclass
class Watched:
    """The most memory in MB: the command's own, and Ray's by place and kind of process."""

    command_mb: float = 0.0
    ray_mb: dict[str, Counter[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """What one run of the command took. joined_s: of them, until it was in the cluster."""

    seconds: float
    joined_s: float
    fetched_mb: float
    returned_mb: float
    watched: Watched


class Nodes:
    """Two nodes of one core each, and a head that trains nothing."""

    def __init__(self, folder: Path) -> None:
        os.environ |= {"RAY_TMPDIR": str(folder), "TMPDIR": str(folder)}
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        self.fetched = folder / f"kaggle-pipeline-{os.getuid()}"
        self.places: dict[int, str] = {}
        """Where each raylet is, by its process."""
        from ray.cluster_utils import Cluster  # reads RAY_TMPDIR

        started = perf_counter()
        store: dict[str, Any] = {"object_store_memory": STORE_BYTES}
        head = {"num_cpus": 0, "include_dashboard": False} | store
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._note("head")
        for name in ("node 1", "node 2"):
            self._cluster.add_node(num_cpus=1, **store)
            self._note(name)
        self.start_s = perf_counter() - started
        self.address: str = self._cluster.address

    def _note(self, name: str) -> None:
        for process in psutil.Process().children():
            if "raylet" in process.name():
                self.places.setdefault(process.pid, name)

    def close(self) -> None:
        self._cluster.shutdown()

    def memory_mb(self) -> dict[str, Counter[str]]:
        """What Ray's own processes have at this moment."""
        found = {name: Counter[str]() for name in self.places.values()}
        for child in psutil.Process().children():
            self._add(child, "head", found)
        return found

    def _add(self, process: psutil.Process, place: str, found: dict[str, Counter[str]]) -> None:
        try:
            words = process.cmdline()
            if not words or "pipeline" in words:  # what Ray runs, and who asks it to
                return
            place = self.places.get(process.pid, place)
            found[place][_kind(words)] += process.memory_full_info().pss / 1e6
            for child in process.children():
                self._add(child, place, found)
        except psutil.NoSuchProcess:
            return


def main(
    images: Annotated[int, typer.Option(help="Training images to draw.", min=60)] = 1600,
    epochs: Annotated[int, typer.Option(help="Epochs of each training.", min=1)] = 6,
    folds: Annotated[int, typer.Option(help="How many of five folds are trained.", max=5)] = 4,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Measure a cluster of this machine's cores beside the same cores without one."""
    print_machine()
    with tempfile.TemporaryDirectory(prefix="nodes") as name:  # short, for the names of sockets
        folder = Path(name)
        base = folder / "base"
        commit = clone(base)
        shrink(base, images, folds, epochs, size_px=48)
        print(f"a clone of {commit}: {folds} trainings, {images} images × {epochs}", flush=True)
        call(base, ["dvc", "repro", "--quiet", "split"])
        nodes = Nodes(folder)
        try:
            time.sleep(_AGENTS_S)
            idle_mb = nodes.memory_mb()
            found = take_turns(
                {
                    _LOCAL: partial(_train, folder, folds, None),
                    _CLUSTER: partial(_train, folder, folds, nodes),
                },
                rounds,
            )
        finally:
            nodes.close()
        record_s = run_in_child(partial(_record, base, folder / "last"))
    _report(found, nodes.start_s, idle_mb, record_s)


def _train(folder: Path, folds: int, nodes: Nodes | None, _: int) -> Trained:
    """Train all folds in a new copy of the project, which stays as `last`."""
    last = folder / "last"
    shutil.rmtree(last, ignore_errors=True)
    shutil.copytree(folder / "base", last, symlinks=True)
    options = ["2"]
    if nodes is not None:
        shutil.rmtree(nodes.fetched, ignore_errors=True)
        options = ["--cluster", nodes.address]
    watched = Watched()
    started = perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "jobs", *options], cwd=last, env=surroundings(last),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process, _watch(process.pid, nodes, watched):  # fmt: skip
        said = process.stdout.read() if process.stdout else ""
    seconds = perf_counter() - started
    if process.returncode or f"{folds} of {folds} to train" not in said:
        raise RuntimeError(f"expected {folds} trainings, found: {said}")
    joined = re.search(r"joined the cluster .*, (\d+) s", said)
    return Trained(
        seconds,
        float(joined[1]) if joined else 0.0,
        _size_mb(nodes.fetched / "files") if nodes else 0.0,
        _size_mb(last / "models"),
        watched,
    )


@contextmanager
def _watch(command: int, nodes: Nodes | None, watched: Watched) -> Iterator[None]:
    """Look at memory while the block runs; not while the local engine trains, which has no Ray."""
    over = Event()

    def look() -> None:
        while not over.wait(_LOOK_S):
            try:
                status = Path(f"/proc/{command}/status").read_text()
            except OSError:
                return
            if peak := re.search(r"VmHWM:\s+(\d+)", status):
                watched.command_mb = int(peak[1]) * 1024 / 1e6
            for place, kinds in (nodes.memory_mb() if nodes else {}).items():
                if kinds.total() > watched.ray_mb.get(place, Counter()).total():
                    watched.ray_mb[place] = kinds

    thread = Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _record(base: Path, last: Path) -> float:
    """Seconds of CPU to place and record one result in a project that has the others recorded."""
    os.environ |= surroundings(base)
    os.chdir(last)
    return median(place_again({f"train@{_MODEL}-0": paths.model_folder(_MODEL, 0)}, rounds=3))


def _report(
    found: dict[str, list[Trained]],
    start_s: float,
    idle_mb: dict[str, Counter[str]],
    record_s: float,
) -> None:
    totals = {name: [one.seconds for one in runs] for name, runs in found.items()}
    without = "the same without joining"
    runs = found[_CLUSTER]
    totals[without] = [one.seconds - one.joined_s for one in runs]
    print_table("seconds", totals, _LOCAL)
    print(f"start of Ray: {start_s:.1f} s for head and nodes, {runs[-1].joined_s:.0f} s to join")
    print(f"inputs fetched: {runs[-1].fetched_mb:.1f} MB a node; ", end="")
    print(f"networks and tables back: {runs[-1].returned_mb:.1f} MB")
    command, local = (
        max(one.watched.command_mb for one in found[name]) for name in (_CLUSTER, _LOCAL)
    )
    print(f"peak memory of the command: {command:.0f} MB; of the local engine's: {local:.0f} MB")
    print(f"placing and recording one result: {record_s:.2f} s of CPU")
    for place in idle_mb:
        _print_memory(f"Ray's own memory, {place}, idle", idle_mb[place])
        _print_memory(f"Ray's own memory, {place}, training", runs[-1].watched.ray_mb[place])
    ratio = median_ratio(totals, without, _LOCAL)
    print_goal("two nodes, × the time of the local engine, Ray's start apart", ratio, below=GOAL)


def _print_memory(what: str, kinds: Counter[str]) -> None:
    parts = ", ".join(f"{kind} {mb:.0f}" for kind, mb in sorted(kinds.items()))
    print(f"{what}: {kinds.total():.0f} MB ({parts})")


def _kind(words: list[str]) -> str:
    """What a process of Ray's is, by its command line."""
    if words[0].startswith("ray::"):
        return "workers"
    name = Path(words[0]).name
    return name if name in ("raylet", "gcs_server") else "agents"


def _size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    typer.run(main)
