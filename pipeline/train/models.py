"""A network with its own normalisation: how it is built, saved and loaded.

Every network takes rows as they are stored and normalises inside, with the mean and standard
deviation of its own training rows (a pretrained network: those of its pretraining), which are
kept as buffers: a weights file alone is enough to predict.
"""

from pathlib import Path
from statistics import fmean
from typing import Annotated

import numpy as np
import pydantic
import torch
from jaxtyping import Float, Int, Num
from numpy import ndarray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pipeline.core.competition import Decoding, SignalDecoding
from pipeline.core.errors import TrainError
from pipeline.core.shapes import Labels, Packed
from pipeline.core.task import Number, Task
from pipeline.train.config import AnyModel, Precision
from pipeline.train.networks.classic import build_classic
from pipeline.train.networks.config import (
    ClassicNetwork,
    Network,
    OwnNetwork,
    ProbeNetwork,
    SignalNetwork,
    SmallNetwork,
    SpectrogramNetwork,
)
from pipeline.train.networks.signal import SignalInput, build_signal, pick_rows
from pipeline.train.networks.small import build_small
from pipeline.train.networks.spectrogram import OnSpectrogram, Spectrogram, build_spectrogram
from pipeline.train.objective import RawOutputs, activate
from pipeline.train.probe import Probe
from pipeline.train.published import build_timm
from pipeline.train.sizes import ImageSize


class Classifier(nn.Module):
    """A network with its own normalisation: rows as they are stored in, outputs out."""

    mean: Tensor
    std: Tensor
    offset: Tensor
    spread: Tensor

    def __init__(self, network: nn.Module, task: Task, mean: list[float], std: list[float]) -> None:
        """mean, std: of each channel, as the stored rows have it: images from 0 to 255."""
        super().__init__()
        self.network = network
        self.task = task
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))
        # Mean and standard deviation of numbers, whose standardised form the network learns.
        kept, numbers = isinstance(task, Number), len(task.outputs)
        self.register_buffer("offset", torch.zeros(numbers), persistent=kept)
        self.register_buffer("spread", torch.ones(numbers), persistent=kept)

    def set_scale(self, labels: Labels) -> None:
        """Take the scale of numbers from the training rows' labels; classes have none."""
        if isinstance(self.task, Number):
            spread = labels.std(axis=0)
            self.offset.copy_(torch.from_numpy(labels.mean(axis=0)))
            self.spread.copy_(torch.from_numpy(np.where(spread > 0, spread, 1.0)))

    def set_input(self, packed: Packed, rows: Int[ndarray, " rows"]) -> None:
        """Let a network for signals take its input's scales from the training rows."""
        for part in self.network.modules():
            if isinstance(part, SignalInput | Spectrogram):
                some = packed[pick_rows(rows, packed[0].size)]
                part.learn(self.normalise(torch.from_numpy(some).movedim(-1, 1)))

    @property
    def backbone(self) -> nn.Module:
        """The network, without the part that makes spectrograms for it."""
        return self.network.backbone if isinstance(self.network, OnSpectrogram) else self.network

    def activate(self, outputs: Float[Tensor, "*any learned"]) -> Float[Tensor, "*any outputs"]:
        """The predictions that outputs stand for."""
        return activate(outputs, self.task, self.offset, self.spread)

    def forward(self, rows: Num[Tensor, "batch channels *axes"]) -> RawOutputs:
        """The outputs for a batch of images, uint8 or, augmented, float32; or of signals."""
        return self.network(self.normalise(rows))  # type: ignore[no-any-return]

    def normalise(self, rows: Num[Tensor, "batch channels *axes"]) -> Tensor:
        """The rows as the network takes them."""
        shape = (1, -1, *[1] * (rows.ndim - 2))
        return (rows.float() - self.mean.view(shape)) / self.std.view(shape)


def build_model(
    config: Network,
    task: Task,
    decoding: Decoding,
    mean: list[float],
    std: list[float],
) -> Classifier:
    """A network for rows decoded so, with fresh (or timm's pretrained, or a file's) weights.

    mean, std: of the training rows' channels; a network that starts from pretrained weights keeps
    its own, and their mean where grey is all that it sees.
    Raises TrainError for a network of the other kind of rows, for rows that are too small, or as
    build_timm does.
    """
    outputs, channels = len(task.learned), decoding.channels
    if isinstance(decoding, SignalDecoding):
        match config:
            case SignalNetwork():
                return Classifier(build_signal(config, outputs, decoding), task, mean, std)
            case SpectrogramNetwork():
                return Classifier(build_spectrogram(config, outputs, decoding), task, mean, std)
        raise TrainError(
            f"network {config.name} is for images, and the competition has signals. Choose "
            "one of family signal, such as convnet1d, or take it with family: spectrogram"
        )
    match config:
        case SignalNetwork() | SpectrogramNetwork():
            raise TrainError(
                f"network {config.name} is for signals, and the competition has images. Choose "
                "one of another family, such as vgg of family small"
            )
        case SmallNetwork():
            return Classifier(build_small(config, outputs, decoding), task, mean, std)
        case ClassicNetwork():
            return Classifier(build_classic(config, outputs, decoding), task, mean, std)
    timm_network = config.backbone if isinstance(config, ProbeNetwork) else config
    size = ImageSize((decoding.size_px, decoding.size_px), channels)
    published = build_timm(timm_network, outputs, size)
    if config.pretrained or config.weights is not None:
        mean = _for_channels(published.pretrained_cfg["mean"], channels)
        std = _for_channels(published.pretrained_cfg["std"], channels)
    if isinstance(config, ProbeNetwork):
        published = Probe(published, config, outputs, decoding)
    return Classifier(published, task, mean, std)


def _for_channels(published: tuple[float, ...], channels: int) -> list[float]:
    """timm's shares of each colour as grey levels; their mean for grey."""
    levels = [255 * value for value in published]
    return levels if len(levels) == channels else [fmean(levels)] * channels


@torch.no_grad()
def check_sizes(model: Classifier, sizes_px: list[int] | None) -> None:
    """Raise TrainError for the first side of `sizes_px` that the network cannot take."""
    was_training = model.training
    for side in sorted(set(sizes_px or [])):
        try:
            model.eval()(torch.zeros(1, model.mean.numel(), side, side))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise TrainError(
                f"sizes_px: the network cannot take images of {side} px: {error}. Set larger ones, "
                "or sizes_px: null"
            ) from error
    model.train(was_training)


class Description(pydantic.BaseModel):
    """What a weights file says, in its metadata: all that predictions depend on beside tensors."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)

    network: Network
    task: Task
    decoding: Decoding
    precision: Precision
    """As params.yaml asked for it; `auto` is the fastest of the machine that predicts."""
    tta: bool
    threads: Annotated[int, pydantic.Field(ge=1)]
    """Of the CPU."""


def describe(config: AnyModel, task: Task, decoding: Decoding, threads: int) -> Description:
    """The description of a network that is trained so."""
    return Description(
        network=config.network,
        task=task,
        decoding=decoding,
        precision=config.precision,
        tta=config.tta,
        threads=threads,
    )


def save_model(path: Path, model: Classifier, description: Description) -> None:
    """Write weights as safetensors (never a pickle: a downloaded model must not run code).

    The file's metadata holds the description under one key: the library writes several keys in
    another order each time.
    """
    tensors = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    # Not the library's save_file, which raises its own error where the disk is full.
    path.write_bytes(save(tensors, {"model": description.model_dump_json()}))


def load_model(path: Path) -> tuple[Classifier, Description]:
    """Rebuild the network of a file that save_model wrote, ready to predict, and what it says.

    Nothing else is needed: no params.yaml, no network, no pretrained weights.
    Raises TrainError for a file that is missing, no safetensors, or not of this pipeline.
    """
    if not path.is_file():
        raise TrainError(f"{path}: no such file. Run: dvc repro")
    expected = f"{path}: expected a network of this pipeline, found"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        tensors = load_file(path)
    except SafetensorError as error:
        raise TrainError(f"{expected} no safetensors file: {error}. Run: dvc repro") from error
    try:
        description = Description.model_validate_json(metadata.get("model", ""))
    except pydantic.ValidationError as error:
        kind = "another network's weights" if "model" not in metadata else "an unknown description"
        raise TrainError(
            f"{expected} {kind} (metadata: {', '.join(sorted(metadata)) or 'none'}). "
            "Train it again: dvc repro"
        ) from error
    network = description.network
    if not isinstance(network, OwnNetwork):  # its weights are in the file
        network = network.model_copy(update={"pretrained": False, "weights": None})
    decoding = description.decoding
    zeros, ones = [0.0] * decoding.channels, [1.0] * decoding.channels
    model = build_model(network, description.task, decoding, zeros, ones)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise TrainError(f"{expected} tensors that are not of {network.name}: {reason}") from error
    return model.eval(), description
