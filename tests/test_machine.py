"""What a process may use, in drawn trees of /proc and /sys/fs/cgroup."""

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
from project import PARAMS, ROOT, environment

from pipeline.core import machine

GIB = 2**30
UNLIMITED = str(2**63 - 4096)

Machine = namedtuple("Machine", "available")


@pytest.fixture(autouse=True)
def _a_large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Machine(256 * GIB))


def draw(system: Path, groups: str, files: dict[str, str]) -> Path:
    """A tree with the lines of /proc/self/cgroup, and files below /sys/fs/cgroup."""
    for name, text in {
        "proc/self/cgroup": groups,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }.items():
        (system / name).parent.mkdir(parents=True, exist_ok=True)
        (system / name).write_text(f"{text}\n")
    return system


V1 = "4:memory:/docker/ab\n3:cpuset:/docker/ab\n1:cpu,cpuacct:/docker/ab\n0::/docker/ab"


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/", {}, 64),
        ("0::/", {"cpu.max": "max 100000"}, 64),
        ("0::/", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "250000 100000"}, 2),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "9900000 100000"}, 64),
        ("0::/a.slice/b.scope", {"a.slice/b.scope/cpu.max": "max 100000", "a.slice/cpu.max": "300000 100000"}, 3),
        ("0::/a.slice/b.scope", {"a.slice/b.scope/cpu.max": "400000 100000", "a.slice/cpu.max": "max 100000"}, 4),
        ("0::/kubepods/pod1/c", {"cpu.max": "500000 100000"}, 5),
        ("0::/../other", {"cpu.max": "600000 100000"}, 6),
        ("1:name=systemd:/x:y\n0::/x:y", {"unified/x:y/cpu.max": "700000 100000"}, 7),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 2),
        (V1, {"cpu/docker/ab/cpu.cfs_quota_us": "30000", "cpu/docker/ab/cpu.cfs_period_us": "10000"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        (V1, {"memory/cpu.cfs_quota_us": "100000", "memory/cpu.cfs_period_us": "100000"}, 64),
    ],
)  # fmt: skip
def test_a_quota_of_any_group_above_limits_the_cores(
    tmp_path: Path, groups: str, files: dict[str, str], cores: int
) -> None:
    assert machine.cores(draw(tmp_path, groups, files)) == cores


def test_fewer_cores_by_affinity_than_by_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert machine.cores(draw(tmp_path, "0::/", {"cpu.max": "800000 100000"})) == 2


STAT = "anon 1000\ninactive_file_other 7\ninactive_file 1073741824\nactive_file 5"
V1_STAT = "cache 7\ninactive_file 5\ntotal_cache 9\ntotal_inactive_file 1073741824"


@pytest.mark.parametrize(
    ("groups", "files", "gib"),
    [
        ("0::/", {}, 256),
        ("0::/", {"memory.max": "max", "memory.current": str(9 * GIB)}, 256),
        ("0::/", {"memory.max": str(8 * GIB), "memory.current": str(3 * GIB)}, 5),
        ("0::/", {"memory.max": str(8 * GIB), "memory.current": str(3 * GIB), "memory.stat": STAT}, 6),
        ("0::/", {"memory.max": str(8 * GIB), "memory.current": str(9 * GIB)}, 0),
        ("0::/", {"memory.max": "max", "memory.high": str(4 * GIB), "memory.current": str(GIB)}, 3),
        ("0::/", {"memory.max": str(900 * GIB), "memory.current": "0"}, 256),
        ("0::/a/b", {"a/b/memory.max": str(9 * GIB), "a/b/memory.current": "0", "a/memory.max": str(8 * GIB), "a/memory.current": str(7 * GIB)}, 1),
        (V1, {"memory/memory.limit_in_bytes": UNLIMITED, "memory/memory.usage_in_bytes": "0"}, 256),
        (V1, {"memory/memory.limit_in_bytes": str(8 * GIB), "memory/memory.usage_in_bytes": str(5 * GIB), "memory/memory.stat": V1_STAT}, 4),
        (V1, {"memory/docker/ab/memory.limit_in_bytes": str(2 * GIB), "memory/docker/ab/memory.usage_in_bytes": "0"}, 2),
    ],
)  # fmt: skip
def test_a_limit_of_any_group_above_limits_the_memory(
    tmp_path: Path, groups: str, files: dict[str, str], gib: int
) -> None:
    assert machine.free_memory(draw(tmp_path, groups, files)) == gib * GIB


def test_without_control_groups_the_machine_is_the_limit(tmp_path: Path) -> None:
    assert machine.cores(tmp_path) == 64
    assert machine.free_memory(tmp_path) == 256 * GIB


def test_this_machine_has_a_core_and_memory() -> None:
    assert machine.cores() >= 1
    assert machine.free_memory() > 0


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 40 bytes"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ImportError("No module named torch"), False),
    ],
)  # fmt: skip
def test_a_lack_of_memory_is_told_from_a_mistake(error: Exception, lacks: bool) -> None:
    assert machine.lacks_memory(error) == lacks


def test_a_limit_on_memory_that_is_too_low_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS)
    done = subprocess.run(
        ["sh", "-c", f"ulimit -v 700000; {sys.executable} -m pipeline train one 0"],
        cwd=tmp_path, env={**environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("MemoryError: not enough memory: ")
    assert line.endswith("or raise the limit (ulimit -v, the container's)")
