"""The part of the machine that this process may use."""

import os


def cores() -> int:
    """CPU cores that this process may run on: on Linux less than the machine has, in a container
    or under `taskset`."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
