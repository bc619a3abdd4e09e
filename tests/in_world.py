"""What processes that train one network do in tests/test_world.py: each of them imports this."""

import atexit
import os
import pickle
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from project import PARAMS, decoding_of
from ruamel.yaml import YAML
from tasks import one_of
from torch import Tensor, nn

from pipeline.core.competition import SignalDecoding
from pipeline.core.errors import FoldError
from pipeline.train.checkpoint import Checkpoint
from pipeline.train.config import ModelConfig, is_for_signals
from pipeline.train.device import choose_compute, deterministic
from pipeline.train.fit import History, TrainingRows, fit
from pipeline.train.infer import predict
from pipeline.train.models import build_model
from pipeline.train.normalise import synchronise
from pipeline.train.world import World

MODEL = YAML(typ="safe").load(PARAMS)["train"]["models"]["one"]
_DRAW = np.random.default_rng(0)
IMAGES = _DRAW.integers(60, 250, (91, 32, 32, 3), dtype=np.uint8)
LABELS = _DRAW.integers(2, size=91)
IMAGES[LABELS == 1, :16] //= 2
TRAINING, INNER, SCORED = np.arange(60), np.arange(60, 80), np.arange(70, 91)

CUT = {"mix": {"kind": "cutmix", "alpha": 1.0, "p": 0.5}}
CHOSEN = {"epoch": {"rule": "inner", "folds": 4, "patience": None}}
LENET = {
    "network": {
        "family": "classic", "name": "lenet5", "activation": "tanh", "pool": "average",
        "batch_norm": False,
    },
    "augment": [], "batch_size": 5, "lr": 1e-3,
}  # fmt: skip

SIGNALS = IMAGES.reshape(91, 1024, 3)[:, :, :1].astype(np.float32)
OF_SIGNALS = SignalDecoding(length=1024, channels=1, rate_hz=8000)
SOUND = {
    "network": {
        "family": "spectrogram", "name": "test_resnet", "pretrained": False, "weights": None,
        "dropout": 0.0, "drop_path": None, "window": 64, "step": 32, "bands": 16, "scale": "mel",
        "bands_masked": 4,
    },
    "augment": [], "engine": "batched",
}  # fmt: skip


def config_of(**changes: Any) -> ModelConfig:
    return ModelConfig.model_validate(MODEL | changes)


def work_there(work: Callable[..., Any], arguments: Any, folder: Path, world: World) -> None:
    """Write what `work` returns in this process."""
    deterministic(1)
    world.join(torch.device("cpu"))
    (folder / str(world.rank)).write_bytes(pickle.dumps(work(*arguments, world)))


class Norms(nn.Module):
    """A layer of each kind, PyTorch's and timm's, with an activation in it."""

    def __init__(self) -> None:
        from timm.layers import BatchNormAct2d

        super().__init__()
        self.plain = nn.BatchNorm2d(3, momentum=0.3)
        self.cumulative = nn.BatchNorm2d(3, momentum=None, affine=False)
        self.acting = BatchNormAct2d(3)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.acting(self.cumulative(self.plain(images).sin()).cos())
        return found


def normalise(world: World) -> tuple[Tensor, list[Tensor], dict[str, Tensor], Tensor]:
    """Outputs, gradients and buffers of layers that have seen parts of a batch of 20, twice."""
    torch.manual_seed(1)
    images, weights = torch.randn(20, 3, 4, 4) * 3 + 1, torch.randn(20, 3, 4, 4)
    norms, part = Norms(), world.part(np.arange(20))
    if world.size > 1:
        synchronise(norms, world)
    for _ in range(2):
        norms.zero_grad()
        output = norms(images[part])
        loss = (output * weights[part]).sum() / len(part)
        world.weigh(loss, len(part), len(images)).backward()
        world.combine(norms)
    gradients = [each.grad for each in norms.parameters() if each.grad is not None]
    buffers = {name: value for name, value in norms.state_dict().items() if "running" in name}
    return output.detach(), gradients, buffers, norms.eval()(images).detach()


def learn(
    folder: Path, changes: dict[str, Any], sync: bool, killed_after: int | None, world: World
) -> Any:
    """The state and the history of a network that these processes train, and its predictions."""
    config = config_of(**changes)
    torch.manual_seed(config.seed)
    images, decoding = (
        (SIGNALS, OF_SIGNALS) if is_for_signals(config) else (IMAGES, decoding_of(32))
    )
    mean, std = [128.0] * decoding.channels, [60.0] * decoding.channels
    model = build_model(config.network, one_of(2), decoding, mean, std)

    def on_epoch(history: History) -> None:
        if len(history) == killed_after:
            os.kill(os.getpid(), signal.SIGKILL)

    rows, checkpoint = TrainingRows(TRAINING, INNER), Checkpoint(folder / "resume")
    compute = choose_compute("cpu", "float32")
    model, history = fit(
        model, images, LABELS, rows, config, compute, checkpoint, on_epoch, world, sync
    )
    return model.state_dict(), history, predict(model, images, SCORED, compute, True, world)


def learn_in_turns(folder: Path, world: World) -> dict[str, Any]:
    """Twice the same, and in another way."""
    return {
        "one": learn(folder / "one", CUT, False, None, world),
        "again": learn(folder / "again", CUT, False, None, world),
        "synced": learn(folder / "synced", CHOSEN, True, None, world),
        "sound": learn(folder / "sound", SOUND, True, None, world),
    }


def fail_later(world: World) -> None:
    """One process fails in its own way, the others wait for it in a sum."""
    if world.rank == 1:
        raise FoldError("fold 7: no rows")
    world.add(torch.zeros(1))


def fail_slowly(world: World) -> None:
    """The one that fails takes longer to end than the one that loses it."""
    if world.rank == 1:
        atexit.register(time.sleep, 2)
        raise FoldError("fold 7: no rows")
    world.add(torch.zeros(1))


def fail_as_others_lose_it(world: World) -> None:
    """Both end at the same moment, the one that fails writes its error first."""
    if world.rank == 1:
        raise FoldError("fold 7: no rows")
    time.sleep(0.05)
    raise RuntimeError("Connection closed by peer")


def break_down(_: World) -> None:
    raise KeyError("a mistake of ours")
