"""A measurement in a process of its own: nothing is warm, and its peak memory is its own.

The measuring process must stay small and import no torch: at its start a child counts the
memory of the process that starts it.
"""

import os
import resource
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, set_start_method
from pathlib import Path
from threading import Event, Thread
from typing import TypeVar

from pipeline.core.leader import end_with

Result = TypeVar("Result")


def run_in_child(work: Callable[[], Result]) -> Result:
    """What `work` (picklable) returns, or raises."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_run_as_started_by_hand, work).result()


def _run_as_started_by_hand(work: Callable[[], Result]) -> Result:
    # A spawned process would spawn its loader workers too, seconds an epoch for the peer; one
    # that is started by hand starts them as the system does by default.
    set_start_method(None, force=True)
    end_with(os.getppid())
    return work()


def peak_memory_gb(workers: int) -> float:
    """Peak resident memory of this process and of the workers that it had, in GB.

    workers: how many ran side by side, each counted as the largest child that has ended. Pages
    that they share count in each, those of a memory-mapped file too: an upper bound.
    """
    return _peak_gb(resource.RUSAGE_SELF) + workers * _peak_gb(resource.RUSAGE_CHILDREN)


class OwnMemory:
    """The most memory that this process held itself, in GB: without the pages of mapped files.

    The system takes those back when it wants them. Looked up twenty times a second, on Linux.
    """

    _STATUS = Path("/proc/self/status")
    _EVERY_S = 0.05

    def __init__(self) -> None:
        self.peak_gb = 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look while the block runs."""
        over = Event()
        thread = Thread(target=self._watch, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, over: Event) -> None:
        while True:
            fields = dict(line.split(":") for line in self._STATUS.read_text().splitlines())
            self.peak_gb = max(self.peak_gb, int(fields["RssAnon"].split()[0]) * 1024 / 1e9)
            if over.wait(self._EVERY_S):
                return


def _peak_gb(whose: int) -> float:
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(whose).ru_maxrss * unit_bytes / 1e9
