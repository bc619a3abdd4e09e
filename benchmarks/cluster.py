"""How far a cluster goes: trainings on 1 to 500 nodes, simulated, and what ends its speed-up.

Each node has one training at a time, and takes the next one when it is free. Before its first it
fetches the inputs, through the head's link (Ray's object store) or from a shared folder; whoever
asks first gets the whole link. Results come back through the head's link, and the head records
them: each by itself, or, as pipeline/cluster/engine.py does, all at once that are there. Before
all, DVC is asked what is out of date. A node that trains is lost after a time that is exponential,
and comes back empty after a pause; its training begins again on the next free node, with
checkpoints at its last whole epoch.

The times of training are lognormal. The seconds of the head are by default those that `python -m
benchmarks.record` gave, which measures up to 1,000 stages. The ideal is the larger of all training
shared evenly and the longest one. What the makespan would be without one of the costs says what
that one takes: the largest is the bottleneck. Not simulated: Ray's own scheduling, and nodes that
pass inputs on to each other, as Ray lets them. Nothing is measured here: the same arguments give
the same bytes.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Annotated, Any

import numpy as np
import typer

NODES = [1, 5, 20, 50, 100, 200, 500]
TASKS = [5, 50, 500, 5000]
BEGINS = 0.1
"""The share of the makespan from which a cost counts as one that has begun to limit."""

_NEVER = math.inf
_TASKS_A_NODE = 10


@dataclass(frozen=True)
class Costs:
    """What lies between a training and its record; the default of each field costs nothing."""

    input_mb: float = 0.0
    result_mb: float = 0.0
    head_mb_s: float = _NEVER
    shared_mb_s: float | None = None
    """The speed of the shared folder; None: inputs go through the head's link."""
    status: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Seconds of asking what is out of date, once: a base, for each stage of dvc.lock, and for
    each square of these."""
    record: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Seconds of a record: a base, for each stage of dvc.lock, for each result in it, and for each
    result and stage."""
    at_once: bool = True
    """Whether results that have come back are recorded together."""
    mean_life_s: float = _NEVER
    """How long a node that trains lives on average."""
    pause_s: float = 0.0
    checkpoints: bool = False


PARTS: dict[str, dict[str, Any]] = {
    "inputs": {"input_mb": 0.0},
    "results": {"result_mb": 0.0},
    "recording": {"record": Costs.record},
    "asking DVC": {"status": Costs.status},
    "lost nodes": {"mean_life_s": _NEVER},
}
"""What may be the bottleneck, and the costs without it."""

UNEVEN = "the last trainings"
NOTHING = "none"


@dataclass(frozen=True)
class Simulated:
    """A run, in seconds. busy_s: of the head. lost_s: of training that was done again."""

    makespan_s: float
    busy_s: float
    lost_s: float


class _Link:
    """Sends one after the other."""

    def __init__(self, mb_s: float) -> None:
        self._mb_s, self._free_s = mb_s, 0.0

    def send(self, now: float, mb: float) -> float:
        """When it has arrived."""
        if not mb:
            return now
        self._free_s = max(now, self._free_s) + mb / self._mb_s
        return self._free_s


class _Run:
    """The state of a simulation; its methods are what may happen, at a time."""

    def __init__(
        self, train_s: Sequence[float], epochs: int, nodes: int, costs: Costs, seed: int
    ) -> None:
        self._costs, self._epochs, self._train_s = costs, epochs, train_s
        self._random = np.random.default_rng(seed)
        self._events: list[tuple[float, int, Callable[..., None], tuple[int, ...]]] = []
        self._order = count()
        self._link = _Link(costs.head_mb_s)
        self._source = self._link if costs.shared_mb_s is None else _Link(costs.shared_mb_s)
        self._waiting = deque((task, 0) for task in range(len(train_s)))
        self._free = deque(range(nodes))
        self._has_inputs: set[int] = set()
        self._returned, self._recording = 0, False
        base, stage, square = costs.status
        self._now_s = base + len(train_s) * (stage + len(train_s) * square)
        self._recorded_s, self._busy_s, self._lost_s = 0.0, self._now_s, 0.0

    def run(self) -> Simulated:
        self._give()
        while self._events:
            self._now_s, _, happen, arguments = heapq.heappop(self._events)
            happen(*arguments)
        return Simulated(self._recorded_s, self._busy_s, self._lost_s)

    def _at(self, time_s: float, happen: Callable[..., None], *arguments: int) -> None:
        heapq.heappush(self._events, (time_s, next(self._order), happen, arguments))

    def _give(self) -> None:
        while self._waiting and self._free:
            self._start(*self._waiting.popleft(), self._free.popleft())

    def _start(self, task: int, done_epochs: int, node: int) -> None:
        begin_s = self._now_s
        if node not in self._has_inputs:
            self._has_inputs.add(node)
            begin_s = self._source.send(begin_s, self._costs.input_mb)
        epoch_s = self._train_s[task] / self._epochs
        end_s = begin_s + epoch_s * (self._epochs - done_epochs)
        life_s = self._costs.mean_life_s
        lost_s = self._now_s + (self._random.exponential(life_s) if life_s < _NEVER else _NEVER)
        if lost_s >= end_s:
            self._at(end_s, self._end, node)
            return
        trained_s = max(0.0, lost_s - begin_s)
        kept = int(trained_s / epoch_s) if self._costs.checkpoints else 0
        self._lost_s += trained_s - kept * epoch_s
        self._at(lost_s, self._lose, task, done_epochs + kept)
        self._at(lost_s + self._costs.pause_s, self._replace, node)

    def _end(self, node: int) -> None:
        self._at(self._link.send(self._now_s, self._costs.result_mb), self._return)
        self._free.append(node)
        self._give()

    def _lose(self, task: int, done_epochs: int) -> None:
        self._waiting.appendleft((task, done_epochs))
        self._give()

    def _replace(self, node: int) -> None:
        self._has_inputs.discard(node)
        self._free.append(node)
        self._give()

    def _return(self) -> None:
        self._returned += 1
        if not self._recording:
            self._record()

    def _record(self) -> None:
        """Record what has come back; again, when that is done, what has come since."""
        self._recorded_s, self._recording = self._now_s, self._returned > 0
        if self._recording:
            costs = self._costs
            results = self._returned if costs.at_once else 1
            base, stage, result, both = costs.record
            seconds = base + stage * len(self._train_s)
            seconds += results * (result + both * len(self._train_s))
            self._returned -= results
            self._busy_s += seconds
            self._at(self._now_s + seconds, self._record)


def simulate(
    train_s: Sequence[float], epochs: int, nodes: int, costs: Costs, seed: int
) -> Simulated:
    """All trainings, of so many seconds and epochs each, until the last one is recorded."""
    return _Run(train_s, epochs, nodes, costs, seed).run()


def shares(
    train_s: Sequence[float], epochs: int, nodes: int, costs: Costs, seed: int
) -> dict[str, float]:
    """The part of the makespan that goes without each of the costs, and without an uneven end."""
    whole = simulate(train_s, epochs, nodes, costs, seed).makespan_s
    found = {
        name: 1 - simulate(train_s, epochs, nodes, replace(costs, **none), seed).makespan_s / whole
        for name, none in PARTS.items()
    }
    bare = simulate(train_s, epochs, nodes, Costs(), seed).makespan_s
    return found | {UNEVEN: (bare - ideal_s(train_s, nodes)) / whole}


def ideal_s(train_s: Sequence[float], nodes: int) -> float:
    """No run of these trainings is shorter."""
    return max(sum(train_s) / nodes, max(train_s))


def draw(tasks: int, mean_s: float, spread: float, seed: int) -> list[float]:
    """Seconds of each training; spread: the standard deviation of their logarithm."""
    logs = np.random.default_rng(seed).normal(-(spread**2) / 2, spread, tasks)
    drawn: list[float] = (mean_s * np.exp(logs)).tolist()
    return drawn


def main(
    train_s: Annotated[float, typer.Option(help="Seconds of a training, on average.")] = 360.0,
    spread: Annotated[float, typer.Option(help="Of the logarithm of these.")] = 0.1,
    epochs: Annotated[int, typer.Option(help="Of each, for checkpoints.", min=1)] = 12,
    input_mb: Annotated[float, typer.Option(help="What a node fetches once.")] = 345.0,
    result_mb: Annotated[float, typer.Option(help="Network and tables of a training.")] = 1.2,
    head_mb_s: Annotated[float, typer.Option(help="The head's link.")] = 118.0,
    shared_mb_s: Annotated[
        float | None, typer.Option(help="A shared folder's link, for the inputs.")
    ] = None,
    life_h: Annotated[
        float | None, typer.Option(help="Hours that a node lives on average; by default ever.")
    ] = None,
    pause_s: Annotated[float, typer.Option(help="Until a lost node is replaced.")] = 300.0,
    checkpoints: Annotated[bool, typer.Option(help="On a shared folder.")] = False,
    status: Annotated[
        tuple[float, float, float],
        typer.Option(help="Seconds of asking DVC: a base, for each stage, each of these squared."),
    ] = (0.35, 0.0169, 7.9e-5),
    record: Annotated[
        tuple[float, float, float, float],
        typer.Option(
            help="Seconds of a record: a base, for each stage, each result, each of both."
        ),
    ] = (0.22, 0.0241, 0.0421, 2.5e-5),
    seed: Annotated[int, typer.Option(min=0)] = 1,
) -> None:
    """Print how long trainings take on a cluster, and from what size something limits them."""
    costs = Costs(
        input_mb=input_mb, result_mb=result_mb, head_mb_s=head_mb_s, shared_mb_s=shared_mb_s,
        status=status, record=record,
        mean_life_s=_NEVER if life_h is None else life_h * 3600, pause_s=pause_s,
        checkpoints=checkpoints,
    )  # fmt: skip
    print(
        "| trainings | nodes | ideal, s | makespan, s | × ideal | head busy | trained in vain "
        "| bottleneck | × ideal, each recorded by itself |"
    )
    print(f"|{'---|' * 9}")
    for tasks, nodes in _sizes():
        drawn = draw(tasks, train_s, spread, seed)
        _print_row(drawn, epochs, nodes, costs, seed)
    print(f"\nWith {_TASKS_A_NODE} trainings a node:")
    for at_once in (True, False):
        asked = replace(costs, at_once=at_once)
        for name, nodes in _begin(train_s, spread, epochs, asked, seed).items():
            how = "together" if at_once else "each by itself"
            print(f"- results recorded {how}: {name} takes {BEGINS:.0%} from {nodes} nodes on")


def _sizes() -> Iterator[tuple[int, int]]:
    return ((tasks, nodes) for tasks in TASKS for nodes in (5, 50, 500) if nodes <= tasks)


def _print_row(train_s: list[float], epochs: int, nodes: int, costs: Costs, seed: int) -> None:
    ideal = ideal_s(train_s, nodes)
    found = simulate(train_s, epochs, nodes, costs, seed)
    single = simulate(train_s, epochs, nodes, replace(costs, at_once=False), seed)
    parts = shares(train_s, epochs, nodes, costs, seed)
    name = max(parts, key=lambda part: parts[part])
    bottleneck = f"{name}, {parts[name]:.0%}" if parts[name] >= 0.01 else NOTHING
    columns = [
        f"{len(train_s):,}", f"{nodes}", f"{ideal:,.0f}", f"{found.makespan_s:,.0f}",
        f"{found.makespan_s / ideal:.2f}", f"{found.busy_s / found.makespan_s:.0%}",
        f"{found.lost_s / sum(train_s):.1%}", bottleneck, f"{single.makespan_s / ideal:.2f}",
    ]  # fmt: skip
    print(f"| {' | '.join(columns)} |", flush=True)


def _begin(mean_s: float, spread: float, epochs: int, costs: Costs, seed: int) -> dict[str, int]:
    """The number of nodes from which each part takes BEGINS of the makespan; those that do."""
    found: dict[str, int] = {}
    for nodes in NODES:
        drawn = draw(nodes * _TASKS_A_NODE, mean_s, spread, seed)
        for name, part in shares(drawn, epochs, nodes, costs, seed).items():
            if part >= BEGINS:
                found.setdefault(name, nodes)
    return found


if __name__ == "__main__":
    typer.run(main)
