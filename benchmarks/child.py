"""A measurement in a process of its own: nothing is warm, and its peak memory is its own.

The measuring process must stay small itself and import no torch: at its start a child counts
the memory of the process that starts it.
"""

import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Result = TypeVar("Result")


def run_in_child(work: Callable[[], Result], workers: int) -> tuple[Result, float]:
    """What `work` (picklable) returns, and the peak resident memory in GB, its workers' included.

    workers: how many processes `work` starts side by side; each counts as the largest of them.
    Pages that they share count in each: an upper bound.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, work, workers).result()


def _measure(work: Callable[[], Result], workers: int) -> tuple[Result, float]:
    result = work()
    peaks = [_peak_gb(resource.RUSAGE_SELF), workers * _peak_gb(resource.RUSAGE_CHILDREN)]
    return result, sum(peaks)


def _peak_gb(whose: int) -> float:
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(whose).ru_maxrss * unit_bytes / 1e9
