"""The part of the machine that this process may use: in a container less than the machine has.

psutil and `os` know a process's CPU affinity, but not the quotas of control groups, by which
Docker, Kubernetes and systemd limit what is in them. Each group up to the root can set one, in
files of cgroup v1 or v2.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

_UNLIMITED = 2**60
"""cgroup v1 has no word for it: a number of bytes near 2**63."""

_SHORTAGES = (
    "DataLoader worker (pid",  # was killed, mostly by the system for its memory
    "Too many open files",
    "Unable to allocate",  # NumPy, in a loader process
    "allocate memory",
    "failed to map segment",  # a library that is loaded only now
    "out of memory",
    "STATUS_ALLOC_FAILED",  # of cuBLAS and cuDNN
    "shared memory",
    "start new thread",
    "unable to resize file",
)
_SHORTAGE_NUMBERS = (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE)


def cores(system: Path = Path("/")) -> int:
    """CPU cores that this process may keep busy: of half a core too few rather than too many.

    system: where /proc and /sys are.
    """
    affinity = hasattr(os, "sched_getaffinity")
    usable = float(len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1)
    for group in _groups(system, "cpu"):
        quota, period = group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"
        match _numbers(group / "cpu.max") or [*_numbers(quota), *_numbers(period)]:
            case [microseconds, out_of] if microseconds > 0:
                usable = min(usable, microseconds / out_of)
    return max(1, int(usable))


def free_memory(system: Path = Path("/")) -> int:
    """Bytes of memory that programs can still have. What a group has only as copies of files on
    the disk counts as free, as in psutil's figure for the machine."""
    free: int = psutil.virtual_memory().available
    for group in _groups(system, "memory"):
        for limit, used, copies in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.high", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            match [*_numbers(group / limit), *_numbers(group / used)]:
                case [most, in_use] if most < _UNLIMITED:
                    cached = sum(_numbers(group / "memory.stat", f"{copies} "))
                    free = min(free, most - in_use + cached)
    return max(0, free)


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that the system gave no more memory, threads or files.

    NumPy, PyTorch and its loader processes have no common error for it, and no words of their own.
    """
    if isinstance(error, OSError):
        return error.errno in _SHORTAGE_NUMBERS
    said = isinstance(error, RuntimeError | ImportError)
    return isinstance(error, MemoryError) or (
        said and any(words in str(error) for words in _SHORTAGES)
    )


def _groups(system: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's control groups, from its own up to the root.

    In a container the path may be the host's: then only the root's folder is there, and it is the
    container's own.
    """
    try:
        lines = (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            mounts = [controllers, controller]
        elif not controllers:  # cgroup v2, alone or beside v1
            mounts = [".", "unified"]
        else:
            continue
        parts = [part for part in Path(path).parts if part not in ("/", "..")]
        for mount in mounts:
            top = system / "sys/fs/cgroup" / mount
            for depth in range(len(parts), -1, -1):
                yield top.joinpath(*parts[:depth])


def _numbers(file: Path, start: str = "") -> list[int]:
    """The numbers in the first line that starts so; "max" is none. None without such a line."""
    with contextlib.suppress(OSError):
        for line in file.read_text(encoding="ascii").splitlines():
            if line.startswith(start):
                words = line.removeprefix(start).split()
                return [int(word) for word in words if word.lstrip("-").isdigit()]
    return []
