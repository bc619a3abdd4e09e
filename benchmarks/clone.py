"""A temporary clone of this repository's last commit, small, with the graph of the real one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.core import paths


def clone(place: Path) -> str:
    """Clone into `place`, with this environment; the commit, in a line."""
    subprocess.run(["git", "clone", "--quiet", ".", place], check=True)
    (place / ".venv").symlink_to(sys.prefix)
    return call(place, ["git", "log", "-1", "--format=%h %s"]).strip()


def shrink(place: Path, images: int, folds: int, epochs: int, size_px: int = 32) -> None:
    """The synthetic profile, small; only the sizes differ, so that the graph stays the same."""
    yaml = YAML()
    tree: dict[str, Any] = yaml.load((place / "profiles/synthetic.yaml").read_text("utf-8"))
    tree["download"] |= {"train_images": images, "test_images": images // 2, "patients": 24}
    tree["prepare"]["size_px"] = size_px
    tree["train"]["folds"] = list(range(folds))
    for model in tree["train"]["models"].values():
        model |= {"epochs": epochs, "warmup_epochs": 0}
    tree["ensemble"]["resamples"] = 100
    with (place / paths.PARAMS).open("w", encoding="utf-8") as file:
        yaml.dump(tree, file)


def surroundings(place: Path) -> dict[str, str]:
    """The environment of a command in a clone."""
    return os.environ | {
        "PATH": f"{place / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(place.parent / "site"),  # else it leaves a folder in /var/tmp
    }


def call(place: Path, command: list[str]) -> str:
    """Standard output; a command that fails stops the benchmark and has said why."""
    done = subprocess.run(
        command, cwd=place, env=surroundings(place), check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout
