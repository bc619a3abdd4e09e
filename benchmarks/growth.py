"""How cost grows: seconds and peak memory with 5,000 to 200,000 images, and 64 to 224 px a side.

No peer: each line is a competition of its own (benchmarks/drawn.py, `vary`), with a quarter as
many test images again, whose files have the side that is trained on, 128 px at least.

prepare: the whole stage, from the zips to the packed array, with the search for duplicates among
distinct images and all checks. training: what stage `train` reads, hashes and counts of all
images before its first step; then a few steps of pipeline.train.fit.fit (the profile's vgg, engine
`batched`) on rows from everywhere in the whole memory-mapped array, from which an epoch over all
training images is projected. prediction: some test images, eight views each, from which that of
all is projected. Imports are not timed.

Each is a process of its own. `own` is the memory that it holds itself, of which nothing may grow
with the images but their tables; `resident` counts the pages of the mapped array too, which the
system takes back when it wants them. All files are in a temporary folder and go with it: 5 GB for
200,000 images of 64 px.
"""

import os
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from benchmarks.child import OwnMemory, peak_memory_gb, run_in_child
from benchmarks.drawn import FILE_PX, TASK, Drawn, decoding, draw, read_profile, vary
from benchmarks.prepare import GOAL_GB as GOAL_PREPARE_GB
from benchmarks.timing import print_goal, print_machine
from benchmarks.train import GOAL_GB as GOAL_TRAIN_GB
from pipeline.core import paths
from pipeline.prepare.config import PrepareConfig
from pipeline.train.config import ModelConfig

SIZES = ["5000x64", "22000x64", "200000x64", "5000x128", "22000x128", "5000x224"]
BASE_CELLS = 400
_HEADER = (
    "images", "px", "prepare, s", "own, GB", "resident", "before step 1, s", "images/s",
    "epoch, s", "own, GB", "resident", "test, s", "own, GB", "resident",
)  # fmt: skip


@dataclass(frozen=True)
class Spent:
    """What one process took."""

    seconds: float
    own_gb: float
    resident_gb: float
    before_s: float = 0.0
    """Before the first step; not in `seconds`."""


def main(
    size: Annotated[list[str] | None, typer.Option(help="Training images x pixels.")] = None,
    steps: Annotated[int, typer.Option(help="Steps trained, a batch each.", min=1)] = 30,
    predicted: Annotated[int, typer.Option(help="Test images predicted.", min=1)] = 512,
) -> None:
    """Measure prepare, training and prediction as images and pixels grow."""
    print_machine()
    print(f"{steps} steps, {predicted} test images predicted")
    print(f"| {' | '.join(_HEADER)} |\n|{'---|' * len(_HEADER)}", flush=True)
    most_prepare = most_train = 0.0
    with tempfile.TemporaryDirectory() as folder:
        base, _ = run_in_child(partial(draw, Path(folder) / "base", BASE_CELLS, 10, FILE_PX))
        for text in size or SIZES:
            images, size_px = map(int, text.split("x"))
            prepared, trained = _measure(base, images, size_px, steps, predicted)
            most_prepare = max(most_prepare, prepared.own_gb)
            most_train = max(most_train, trained.own_gb)
    print()
    print_goal("prepare, own memory in GB, at most", most_prepare, below=GOAL_PREPARE_GB)
    print_goal("training, own memory in GB, at most", most_train, below=GOAL_TRAIN_GB)


def _measure(
    base: Drawn, images: int, size_px: int, steps: int, predicted: int
) -> tuple[Spent, Spent]:
    """Print one line; what prepare and training took."""
    profile = read_profile()
    in_test = images // 4
    predicted = min(predicted, in_test)
    config = profile.train.models["vgg"]
    config = config.model_copy(update={"epochs": 1, "warmup_epochs": 0, "engine": "batched"})
    steps = min(steps, images // config.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        raw, hidden = place / paths.RAW, place / paths.HIDDEN
        run_in_child(partial(vary, base, raw, hidden, images, in_test, max(FILE_PX, size_px)))
        section = profile.prepare.model_copy(update={"size_px": size_px})
        prepared = run_in_child(partial(_prepare, place, section))
        trained = run_in_child(partial(_train, place, config, profile.train.device, steps))
        tested = run_in_child(partial(_predict, place, config, profile.train.device, predicted))
    rate = steps * config.batch_size / trained.seconds
    columns = [
        f"{images:,}",
        f"{size_px}",
        f"{prepared.seconds:.1f}",
        *_memory(prepared),
        f"{trained.before_s:.1f}",
        f"{rate:.0f}",
        f"{images / rate:.0f}",
        *_memory(trained),
        f"{tested.seconds * in_test / predicted:.0f}",
        *_memory(tested),
    ]
    print(f"| {' | '.join(columns)} |", flush=True)
    return prepared, trained


def _memory(spent: Spent) -> list[str]:
    return [f"{spent.own_gb:.2f}", f"{spent.resident_gb:.2f}"]


def _prepare(place: Path, config: PrepareConfig) -> Spent:
    from pipeline.prepare import stage as prepare

    os.chdir(place)
    own = OwnMemory()
    with own.watched():
        started = perf_counter()
        prepare.run(config, "accuracy")
        seconds = perf_counter() - started
    return Spent(seconds, own.peak_gb, peak_memory_gb(workers=0))


def _train(place: Path, config: ModelConfig, device: str, steps: int) -> Spent:
    import numpy as np
    import torch

    from pipeline.core.competition import read_competition
    from pipeline.core.files import sha256_of
    from pipeline.core.tables import IMAGE_COLUMNS, read_table
    from pipeline.train.checkpoint import Checkpoint
    from pipeline.train.device import choose_compute, deterministic
    from pipeline.train.fit import TrainingRows, fit
    from pipeline.train.kinds import mean_and_std
    from pipeline.train.models import build_model

    os.chdir(place)
    deterministic(os.cpu_count() or 1)
    torch.manual_seed(config.seed)
    compute = choose_compute(device, config.precision)
    own = OwnMemory()
    with own.watched():
        started = perf_counter()
        task = read_competition(paths.COMPETITION).task
        table = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
        labels = task.encode(paths.TRAIN_TABLE, table["label"])
        images = np.load(paths.TRAIN_IMAGES, mmap_mode="r")
        every = np.arange(len(labels))
        mean, std = mean_and_std(images, every)
        sha256_of(paths.TRAIN_IMAGES)
        model = build_model(config.network, task, decoding(images.shape[1]), list(mean), list(std))
        before_s = perf_counter() - started
        some = np.random.default_rng(0).permutation(every)[: steps * config.batch_size]
        rows = TrainingRows(some, inner=np.array([], np.int64))
        checkpoint = Checkpoint(place / "resume")
        started = perf_counter()
        fit(model, images, labels, rows, config, compute, checkpoint, lambda _: None)
        seconds = perf_counter() - started
    return Spent(seconds, own.peak_gb, peak_memory_gb(workers=0), before_s)


def _predict(place: Path, config: ModelConfig, device: str, count: int) -> Spent:
    import numpy as np
    import torch

    from pipeline.train.device import choose_compute, deterministic
    from pipeline.train.infer import predict
    from pipeline.train.models import build_model

    deterministic(os.cpu_count() or 1)
    compute = choose_compute(device, config.precision)
    images = np.load(place / paths.TEST_IMAGES, mmap_mode="r")
    model = build_model(config.network, TASK, decoding(images.shape[1]), [128.0] * 3, [64.0] * 3)
    model = model.to(compute.device).to(memory_format=torch.channels_last)
    own = OwnMemory()
    with own.watched():
        started = perf_counter()
        predict(model, images, np.arange(count), compute, tta=True)
        seconds = perf_counter() - started
    return Spent(seconds, own.peak_gb, peak_memory_gb(workers=0))


if __name__ == "__main__":
    typer.run(main)
