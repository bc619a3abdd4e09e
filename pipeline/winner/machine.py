"""The machine that made a result, for those who repeat it: hardware, system, versions."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from pipeline.core.machine import cores

_CPUINFO = Path("/proc/cpuinfo")
_PACKAGES = ("torch", "timm", "albumentations", "numpy", "pillow", "opencv-python-headless", "dvc")


def describe_machine() -> dict[str, str]:
    """One line for each fact, by its name; every call on one machine gives the same."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "CPU": _cpu(),
        "CPU cores": str(cores()),
        "Memory": f"{memory / 2**30:.0f} GiB",
        "GPU": _gpus(),
        "Operating system": _system(),
        "Python": platform.python_version(),
        "CUDA": torch.version.cuda or "none" if torch.cuda.is_available() else "none",
        "Packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
        + "; all of them with exact versions in requirements.txt",
    }


def _cpu() -> str:
    lines = _CPUINFO.read_text(encoding="utf-8").splitlines() if _CPUINFO.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _gpus() -> str:
    if torch.mps.is_available():
        return "Apple's MPS"
    names = [
        f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB"
        for gpu in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    ]
    return f"{len(names)} × {names[0]}" if len(set(names)) == 1 else "; ".join(names) or "none"


def _system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return f"{name}, kernel {platform.release()}, {platform.machine()}"
