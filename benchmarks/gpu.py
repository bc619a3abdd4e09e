"""Images/s on a GPU: precisions, several trainings on one, fine-tuning beside timm, whole folds.

`python -m benchmarks.gpu precision|together|finetune|folds`; benchmarks/gpu.sh calls them all. But
for `folds`, which runs the stages, ours is pipeline.train.fit.fit as stage `train` calls it, on
drawn cells that are repeated, without checkpoints, and timed after the first epoch: neither the
start nor a compilation counts. One process measures all but `together` and `folds`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from benchmarks.child import run_in_child
from benchmarks.drawn import TASK, Drawn, decoding, draw, read_profile, vary
from benchmarks.timing import print_machine
from pipeline.core import paths
from pipeline.core.shapes import Images, Labels
from pipeline.params import read_config
from pipeline.train.config import AdamWConfig, ModelConfig
from pipeline.train.networks.config import TimmNetwork

ROOT = Path(__file__).resolve().parent.parent
PROFILE = "profiles/malaria-local.yaml"
DRAWN = 200
"""Cells that are drawn, and repeated."""

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
ImagesOption = Annotated[int, typer.Option(help="Images an epoch.", min=DRAWN)]
EpochsOption = Annotated[int, typer.Option(help="The first does not count.", min=2)]
DeviceOption = Annotated[str, typer.Option()]


@app.command()
def precision(
    images: ImagesOption = 20_000, epochs: EpochsOption = 3, device: DeviceOption = "cuda"
) -> None:
    """The profile's vgg in each precision, in two sizes of batch, and compiled in bfloat16."""
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        cells = _repeated(draw(Path(folder), DRAWN, 20, 64)[0], images)
    found = ["float32", "bfloat16"] + ["float16"] * (device == "cuda")
    for batch in (64, 512):
        for name in found:
            config = _vgg(precision=name, batch_size=batch, epochs=epochs)
            _say(f"vgg, 64 px, batch {batch}, {name}", _rate(*cells, config, device))
    config = _vgg(precision="bfloat16", batch_size=64, epochs=epochs, compiled=True)
    _say("vgg, 64 px, batch 64, bfloat16, compiled", _rate(*cells, config, device))


@app.command()
def together(
    images: ImagesOption = 20_000, epochs: EpochsOption = 4, device: DeviceOption = "cuda"
) -> None:
    """1, 2 and 5 processes at once, each training the profile's vgg; the sum of their rates."""
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw(Path(folder), DRAWN, 20, 64)[0]
        for at_once in (1, 2, 5):
            work = partial(_rate_of, drawn, images, _vgg(epochs=epochs), device)
            with ThreadPoolExecutor(at_once) as pool:
                rates = list(pool.map(run_in_child, [work] * at_once))
            _say(f"vgg, 64 px, batch 64, {at_once} trainings at once, together", sum(rates))


@app.command()
def finetune(
    images: ImagesOption = 4_000,
    epochs: EpochsOption = 3,
    batch: Annotated[int, typer.Option(min=2)] = 128,
    workers: Annotated[int, typer.Option(help="The peer's loader processes.", min=1)] = 15,
    network: Annotated[list[str] | None, typer.Option(help="Of timm.")] = None,
    size: Annotated[list[int] | None, typer.Option(help="Sides in pixels.")] = None,
    device: DeviceOption = "cuda",
) -> None:
    """Networks of timm, in bfloat16, by our step with the batched engine and by timm's own loop."""
    print_machine()
    for px in size or (128, 224):
        with tempfile.TemporaryDirectory() as folder:
            drawn = draw(Path(folder), DRAWN, 20, px)[0]
            cells = _repeated(drawn, images)
            _repeat_files(drawn, images)
            for name in network or ("tf_efficientnet_lite0", "convnextv2_nano"):
                config = _of_timm(name, batch, epochs)
                ours = _rate(*cells, config, device)
                peer = _rate_of_timm(drawn, images, px, config, workers, device)
                _say(f"{name}, {px} px, batch {batch}, ours", ours)
                _say(f"{name}, {px} px, batch {batch}, timm's loop", peer)
                print(f"{name}, {px} px: ours × timm's loop: {ours / peer:.2f}", flush=True)


@app.command()
def folds(
    images: Annotated[int, typer.Option(min=100)] = 22_063,
    test_images: Annotated[int, typer.Option(min=50)] = 5_495,
    device: DeviceOption = "cuda",
) -> None:
    """The five folds of profile malaria-local as five processes; drawn cells where it has none."""
    print_machine()
    real = read_config(ROOT / PROFILE).download.folder  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        shutil.copytree(ROOT / "pipeline", place / "pipeline")
        params = (ROOT / PROFILE).read_text().replace("device: auto", f"device: {device}")
        if (ROOT / real / "train_data.zip").is_file():
            print("the real cells")
            (place / "competitions").symlink_to((ROOT / "competitions").resolve())
        else:
            print(f"{images} drawn cells and {test_images} to predict")
            drawn = draw(place / "drawn", DRAWN, 20, 128)[0]
            vary(drawn, place / real, place / "hidden", images, test_images, 64)
        (place / "params.yaml").write_text(params)
        member = read_config(place / "params.yaml").train.members[0]
        for stage in ("download", "prepare", "split"):
            print(f"{stage}: {_stage(place, stage):.1f} s", flush=True)
        started = perf_counter()
        with ThreadPoolExecutor(5) as pool:
            each = list(pool.map(lambda fold: _stage(place, "train", member, str(fold)), range(5)))
        print(f"five folds at once, start to end: {perf_counter() - started:.1f} s")
        print(f"each process, start to end: {', '.join(f'{seconds:.1f}' for seconds in each)} s")
        live = [pd.read_csv(place / paths.live_table(member, fold)) for fold in range(5)]
        trained = ", ".join(f"{table['seconds'].sum():.1f}" for table in live)
        scores = ", ".join(f"{table['out_of_fold_accuracy'].iloc[-1]:.4f}" for table in live)
        print(f"training in each, without its start: {trained} s")
        _say("the last epochs of all five, together",
             sum(table["images_per_s"].iloc[-1] for table in live))  # fmt: skip
        print(f"out-of-fold accuracy of each: {scores}", flush=True)


def _stage(place: Path, *command: str) -> float:
    """The seconds that a stage takes, from the start of its process to its end."""
    started = perf_counter()
    arguments = [sys.executable, "-m", "pipeline", *command]
    done = subprocess.run(
        arguments, cwd=place, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stdout}")
    return perf_counter() - started


def _vgg(**changes: Any) -> ModelConfig:
    return read_profile().train.models["vgg"].model_copy(update=changes)


def _of_timm(name: str, batch: int, epochs: int) -> ModelConfig:
    """A network of timm, trained by AdamW as its peer is."""
    network = TimmNetwork(
        family="timm", name=name, pretrained=False, weights=None, dropout=0.0, drop_path=None
    )
    return _vgg(network=network, optimizer=AdamWConfig(kind="adamw"), lr=0.0005, sizes_px=None,
                batch_size=batch, epochs=epochs, precision="bfloat16")  # fmt: skip


def _say(what: str, rate: float) -> None:
    print(f"{what}: {rate:,.0f} images/s", flush=True)


def _repeated(drawn: Drawn, images: int) -> tuple[Images, Labels]:
    rows = np.arange(images) % DRAWN
    return drawn.images()[rows], drawn.labels()[rows]


def _repeat_files(drawn: Drawn, images: int) -> None:
    """Links to the drawn PNG files, so that the peer has as many."""
    files = sorted(drawn.png.glob("*/*.png"))
    for number in range(len(files), images):
        file = files[number % len(files)]
        (file.parent / f"{number}.png").hardlink_to(file)


def _rate_of(drawn: Drawn, images: int, config: ModelConfig, device: str) -> float:
    return _rate(*_repeated(drawn, images), config, device)


def _rate(images: Images, labels: Labels, config: ModelConfig, device: str) -> float:
    import torch

    from pipeline.train.checkpoint import Checkpoint
    from pipeline.train.device import choose_compute, deterministic
    from pipeline.train.fit import TrainingRows, fit
    from pipeline.train.kinds import mean_and_std
    from pipeline.train.models import build_model

    class Unsaved(Checkpoint):
        def save(self, state: dict[str, Any]) -> None:
            """Nothing."""

    deterministic(1)
    torch.manual_seed(config.seed)
    rows = TrainingRows(np.arange(len(labels)), inner=np.array([], np.int64))
    mean, std = mean_and_std(images, rows.training)
    model = build_model(config.network, TASK, decoding(images.shape[1]), list(mean), list(std))
    compute = choose_compute(device, config.precision)

    def work(on_epoch: Callable[[], None]) -> None:
        fit(model, images, labels, rows, config, compute, Unsaved(Path(os.devnull) / "none"),
            lambda _: on_epoch())  # fmt: skip

    return _after_the_first(work, len(labels))


def _rate_of_timm(
    drawn: Drawn, images: int, px: int, config: ModelConfig, workers: int, device: str
) -> float:
    import torch

    from benchmarks import timm_peer
    from pipeline.train.models import build_model

    torch.use_deterministic_algorithms(False)  # timm's script asks for none
    network = build_model(config.network, TASK, decoding(px), [0.0] * 3, [1.0] * 3).network
    return _after_the_first(
        lambda on_epoch: timm_peer.train(
            network, drawn.png, px, config.epochs, config.lr, device, config.batch_size, workers,
            on_epoch,
        ),
        images,
    )  # fmt: skip


def _after_the_first(work: Callable[[Callable[[], None]], Any], images: int) -> float:
    """Images/s from the end of the first epoch to that of the last."""
    ends: list[float] = []
    work(lambda: ends.append(perf_counter()))
    return (len(ends) - 1) * images / (ends[-1] - ends[0])


if __name__ == "__main__":
    app()
