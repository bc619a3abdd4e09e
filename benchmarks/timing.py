"""Taking turns, the machine's name, and the tables that every benchmark prints."""

import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TypeVar

Figures = TypeVar("Figures")


def take_turns(
    contestants: Mapping[str, Callable[[int], Figures]], rounds: int
) -> dict[str, list[Figures]]:
    """Each contestant once a round, in their order; they are called with the round's number."""
    found: dict[str, list[Figures]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, run in contestants.items():
            found[name].append(run(number))
    return found


def print_machine() -> None:
    """The first line of every benchmark."""
    print(f"{os.cpu_count()} cores, {_cpu_name()}, torch {version('torch')}", flush=True)


def print_table(what: str, figures: dict[str, list[float]], peer: str) -> None:
    """Minimum, median and maximum over the rounds, and each median as a multiple of the peer's."""
    width = max(len(name) for name in [what, *figures])
    print(f"\n{what:<{width}}  {'min':>9}  {'median':>9}  {'max':>9}  {'× peer':>7}")
    for name, values in figures.items():
        columns = [min(values), median(values), max(values)]
        numbers = "  ".join(f"{value:>9,.{_decimals(value)}f}" for value in columns)
        print(f"{name:<{width}}  {numbers}  {median_ratio(figures, name, peer):>7.2f}", flush=True)


def median_ratio(figures: dict[str, list[float]], name: str, peer: str) -> float:
    """One contestant's median as a multiple of the peer's."""
    return median(figures[name]) / median(figures[peer])


def print_goal(
    what: str, found: float, *, least: float | None = None, below: float | None = None
) -> None:
    """One line: what was to be reached, and whether it was."""
    if least is not None:
        wanted, met = f"≥ {least:g}", found >= least
    elif below is not None:
        wanted, met = f"< {below:g}", found < below
    else:
        raise ValueError(f"{what}: expected a goal, `least` or `below`")
    print(f"{'met   ' if met else 'MISSED'}  {what}: {found:.2f} (goal {wanted})", flush=True)


def _decimals(value: float) -> int:
    return 0 if value >= 100 else 2 if value >= 1 else 4


def _cpu_name() -> str:
    names = Path("/proc/cpuinfo")
    if names.is_file():
        for line in names.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
