"""Stage `prepare` on a whole competition: seconds and peak memory.

Ours: pipeline.prepare.stage.run as `dvc repro` calls it, with every check, hash and the search
for duplicates, in a process of its own. Peer: the plain loop over the same zips (PIL opens and
resizes, np.stack, np.save), which checks nothing. On the real cells where
profiles/malaria-local.yaml finds them, else on drawn ones. Imports are not timed.
"""

import io
import os
import tempfile
import zipfile
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated

import typer

from benchmarks.child import peak_memory_gb, run_in_child
from benchmarks.drawn import draw_raw, read_profile
from benchmarks.timing import print_goal, print_machine, print_table, take_turns
from pipeline.core import paths
from pipeline.download.config import LocalSource
from pipeline.prepare.config import PrepareConfig

GOAL_S = 60.0
GOAL_GB = 1.0
REAL_IMAGES = 27_558
_PEER, _OURS = "plain PIL loop", "prepare"


def main(
    images: Annotated[
        int | None, typer.Option(help="Draw so many, even where there are real ones.", min=30)
    ] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Measure stage prepare."""
    print_machine()
    profile = read_profile()
    config = profile.prepare
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        raw = place / paths.RAW
        if isinstance(profile.download, LocalSource) and images is None:
            real = Path(profile.download.folder)
        else:
            real = None
        if real is not None and real.is_dir():
            raw.parent.mkdir(parents=True)
            raw.symlink_to(real.resolve())
        else:
            count = images or REAL_IMAGES
            draw_raw(raw, place / paths.HIDDEN, count - count // 5, count // 5)
        turns = {
            _PEER: lambda _: run_in_child(partial(_stack, place, config)),
            _OURS: lambda _: run_in_child(partial(_prepare, place, config)),
        }
        found = take_turns(turns, rounds)
        count = sum(len(zipfile.ZipFile(path).namelist()) for path in raw.glob("*.zip"))
    seconds = {name: [one for one, _ in each] for name, each in found.items()}
    memory = {name: [peak_gb for _, peak_gb in each] for name, each in found.items()}
    print_table(f"seconds ({count} images to {config.size_px} px)", seconds, _PEER)
    print_table("peak memory, GB", memory, _PEER)
    print_goal("prepare, seconds", median(seconds[_OURS]), below=GOAL_S)
    print_goal("prepare, peak memory in GB", median(memory[_OURS]), below=GOAL_GB)


def _prepare(place: Path, config: PrepareConfig) -> tuple[float, float]:
    from pipeline.prepare import stage as prepare

    os.chdir(place)
    started = perf_counter()
    prepare.run(config, "accuracy")
    return perf_counter() - started, peak_memory_gb(workers=0)


def _stack(place: Path, config: PrepareConfig) -> tuple[float, float]:
    import numpy as np
    from PIL import Image as Pillow

    os.chdir(place)
    started = perf_counter()
    for path in sorted(paths.RAW.glob("*.zip")):
        images = []
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                image = Pillow.open(io.BytesIO(archive.read(name))).convert("RGB")
                images.append(np.asarray(image.resize((config.size_px, config.size_px))))
        np.save(f"{path.stem}.npy", np.stack(images))
    return perf_counter() - started, peak_memory_gb(workers=0)


if __name__ == "__main__":
    typer.run(main)
