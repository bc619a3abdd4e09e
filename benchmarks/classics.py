"""The classics on one fold of a prepared project, and what a switch changes: benchmarks.classics

`python -m benchmarks.classics --project FOLDER` prints the rows of two tables of docs/NETWORKS.md,
each as soon as it is there. All networks train alike: AdamW, the augmentation of profile
malaria-best in batches, fold 0, one seed, no test-time augmentation. The cheapest come first.
"""

import os
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from benchmarks.drawn import read_profile
from benchmarks.timing import print_machine
from pipeline.train.config import AdamWConfig, ModelConfig
from pipeline.train.networks.config import Network
from pipeline.train.networks.named import NAMED

CLASSICS = ("linear", "lenet5", "alexnet", "airbench", "vgg", "resnet18", "vgg11")
TURNS: dict[str, tuple[str, Any]] = {
    "maximum for average": ("pool", "max"),
    "ReLU for tanh": ("activation", "relu"),
    "batch normalisation": ("batch_norm", True),
}
"""Each is lenet5 as published with one switch turned."""


def main(
    project: Annotated[Path, typer.Option(help="A folder after make run.")] = Path(),
    epochs: Annotated[int, typer.Option(help="Of each training.", min=2)] = 3,
    only: Annotated[list[str] | None, typer.Option(help="Some of the rows.")] = None,
) -> None:
    """Print one row for each network, and one for each switch of lenet5."""
    config = read_profile().train.models["vgg"]
    assert isinstance(config, ModelConfig)
    changes = {"optimizer": AdamWConfig(kind="adamw"), "lr": 0.001, "epochs": epochs, "tta": False}
    config = config.model_copy(update=changes)
    os.chdir(project)
    print_machine()
    print("| network | parameters | multiplications | field | accuracy | seconds |", flush=True)
    turned = {
        what: NAMED["lenet5"].model_copy(update={switch: value})
        for what, (switch, value) in TURNS.items()
    }
    for name, network in ({name: NAMED[name] for name in CLASSICS} | turned).items():
        if not only or name in only:
            print_row(name, network, config)


def print_row(name: str, network: Network, config: ModelConfig) -> None:
    """Train a network, and print what it costs and how good it is."""
    from pipeline.core import paths
    from pipeline.core.competition import read_competition, read_decoding
    from pipeline.train.layers import list_layers
    from pipeline.train.models import build_model

    task, decoding = read_competition(paths.COMPETITION).task, read_decoding(paths.DECODING)
    zeros, ones = [0.0] * decoding.channels, [1.0] * decoding.channels
    table = list_layers(build_model(network, task, decoding, zeros, ones).network, name, decoding)
    fields = [layer.field for layer in table.layers if layer.kind == "convolution" and layer.field]
    side = fields[-1].size[0] if fields else "–"
    accuracy, seconds = train(config.model_copy(update={"network": network}))
    print(
        f"| {name} | {table.parameters:,} | {table.multiplications:,} | {side} | {accuracy:.4f} | "
        f"{seconds:.0f} |",
        flush=True,
    )


def train(config: ModelConfig) -> tuple[float, float]:
    """The accuracy on fold 0 of a network that was trained on the others, and the time it took."""
    import numpy as np
    import torch

    from pipeline.core import paths
    from pipeline.core.arrays import read_array
    from pipeline.core.competition import read_competition, read_decoding
    from pipeline.core.tables import FOLD_COLUMNS, IMAGE_COLUMNS, read_table
    from pipeline.train.checkpoint import Checkpoint
    from pipeline.train.device import choose_compute, deterministic, suit_network
    from pipeline.train.fit import TrainingRows, fit
    from pipeline.train.infer import predict
    from pipeline.train.kinds import mean_and_std
    from pipeline.train.models import build_model

    task, decoding = read_competition(paths.COMPETITION).task, read_decoding(paths.DECODING)
    table, folds = (
        read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS),
        read_table(paths.FOLDS, FOLD_COLUMNS).drop_duplicates("image_id"),
    )
    fold = folds.set_index("image_id")["fold"].loc[table["image_id"]].to_numpy()
    labels = task.encode(paths.TRAIN_TABLE, table["label"])
    images = read_array(paths.TRAIN_IMAGES, len(table))
    rows = TrainingRows(np.flatnonzero(fold != "0"), inner=np.array([], np.int64))
    scored = np.flatnonzero(fold == "0")
    deterministic(1)
    torch.manual_seed(config.seed)
    mean, std = mean_and_std(images, rows.training)
    model = build_model(config.network, task, decoding, list(mean), list(std))
    compute = choose_compute("auto", config.precision)
    compute = suit_network(compute, config.precision, model, decoding)
    with tempfile.TemporaryDirectory() as folder:
        started = perf_counter()
        checkpoint = Checkpoint(Path(folder))
        model, _ = fit(model, images, labels, rows, config, compute, checkpoint, lambda _: None)
        seconds = perf_counter() - started
    found = predict(model, images, scored, compute, tta=False)
    return float(task.right(task.decide(found, None), labels[scored]).mean()), seconds


if __name__ == "__main__":
    typer.run(main)
