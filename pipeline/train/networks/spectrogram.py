"""Networks of timm on the spectrograms of signals, which are made inside, on the device.

The spectrogram is a picture with as many channels as the signal; its height is frequency, low ones
first, its width is time. torch.stft would give the same frames; written out, what each unit of the
network sees can be followed through it (pipeline/train/field.py).
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.core.competition import SignalDecoding
from pipeline.core.errors import TrainError
from pipeline.train.networks.config import SpectrogramNetwork
from pipeline.train.published import build_timm
from pipeline.train.sizes import PictureSize, takes

_FLOOR = 1e-8
"""What is added to a power before its logarithm. The signals have deviation 1 here, so that it is
about the power of the rounding of a recording of 16 bits."""

_AT_ONCE = 16
"""Signals that the scales are learned from at a time."""

_MULTIPLES = (16, 14, 32)
"""Sides that are tried for a hint are multiples of these, as timm's patches and windows are."""

Picture = Float[Tensor, "batch channels bands frames"]


class Spectrogram(nn.Module):
    """The logarithm of the power in bands of frequency, frame by frame.

    A frame is a window of samples that lies wholly in the signal, weighted by Hann's; white noise
    of deviation 1 has power 1 in each of its frequencies. Each band has mean 0 and deviation 1 in
    the training rows, so that a tilt of all their spectra does not matter.
    """

    window: Tensor
    filters: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, config: SpectrogramNetwork, decoding: SignalDecoding) -> None:
        """Raises TrainError as triangles does."""
        super().__init__()
        self._step, self._most_hidden = config.step, config.bands_masked
        window = torch.hann_window(config.window, dtype=torch.float64)
        window /= window.square().sum().sqrt()
        self.register_buffer("window", window.float(), persistent=False)
        rate_hz = decoding.rate_hz if config.scale == "mel" else None
        filters = triangles(config.bands, config.window, rate_hz)
        self.register_buffer("filters", filters.float(), persistent=False)
        shape = decoding.channels, config.bands, 1
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))

    @torch.no_grad()
    def learn(self, signals: Float[Tensor, "batch channels length"]) -> None:
        """Take the mean and the deviation of each band from training signals."""
        # Overlapping frames take many times the memory of the signals.
        pictures = torch.cat([self.log_power(each) for each in torch.split(signals, _AT_ONCE)])
        std, mean = torch.std_mean(pictures, (0, 3), correction=0)
        self.mean.copy_(mean[..., None])
        self.std.copy_(torch.where(std > 0, std, 1.0)[..., None])

    def forward(self, signals: Float[Tensor, "batch channels length"]) -> Picture:
        """Standardised pictures; while it learns, with some bands hidden."""
        picture = (self.log_power(signals) - self.mean) / self.std
        return self._hide(picture) if self.training and self._most_hidden else picture

    def log_power(self, signals: Float[Tensor, "batch channels length"]) -> Picture:
        """In float32, whatever the rest of the network computes in."""
        with torch.autocast(signals.device.type, enabled=False):
            frames = signals.unfold(-1, len(self.window), self._step) * self.window
            power = torch.fft.rfft(frames).abs().square() @ self.filters
            picture: Picture = (power.transpose(-1, -2) + _FLOOR).log()
        return picture

    def _hide(self, picture: Picture) -> Picture:
        """With the mean in some neighbouring bands of each picture, the same in all channels."""
        bands = picture.shape[2]
        draws = torch.rand(2, len(picture), 1, 1, 1, device=picture.device)
        size = (draws[0] * (self._most_hidden + 1)).floor()
        first = (draws[1] * (bands - size + 1)).floor()
        band = torch.arange(bands, device=picture.device)[:, None]
        return picture.masked_fill((band >= first) & (band < first + size), 0.0)


def triangles(bands: int, window: int, rate_hz: int | None) -> Float[Tensor, "frequencies bands"]:
    """The share of each frequency of a window in each band: from 0 at the middle of the band before
    up to 1 at its own, and down to 0 at the middle of the next one.

    The middles are at equal distances between 0 and half the rate: in mel, which is HTK's
    2595 · log10(1 + f / 700) for f in hertz; or, without a rate, in frequency. Raises TrainError
    for a band that no frequency falls into.
    """
    nyquist = 0.5 if rate_hz is None else rate_hz / 2
    frequencies = torch.arange(window // 2 + 1, dtype=torch.float64) * (2 * nyquist / window)
    found = _triangles(bands, frequencies, nyquist, rate_hz is not None)
    if not (found.sum(0) == 0).any():
        return found
    most = next(
        fewer
        for fewer in range(bands - 1, 0, -1)
        if (_triangles(fewer, frequencies, nyquist, rate_hz is not None).sum(0) > 0).all()
    )
    raise TrainError(
        f"network: a window of {window} samples has too few frequencies for {bands} bands: some "
        f"would be empty. Lower `bands` to {most}, or raise `window`"
    )


def _triangles(
    bands: int, frequencies: Tensor, nyquist: float, in_mel: bool
) -> Float[Tensor, "frequencies bands"]:
    places = torch.linspace(0, 1, bands + 2, dtype=torch.float64)
    # On a scale of 0 to 1, as mel's own unit does not matter: 1 + f / 700 is a power of this.
    corners = 700 * ((1 + nyquist / 700) ** places - 1) if in_mel else nyquist * places
    before, middle, after = corners[:-2], corners[1:-1], corners[2:]
    rising = (frequencies[:, None] - before) / (middle - before)
    falling = (after - frequencies[:, None]) / (after - middle)
    return torch.minimum(rising, falling).clamp(min=0)


class OnSpectrogram(nn.Module):
    """A network of timm on the spectrograms of signals."""

    def __init__(self, picture: Spectrogram, backbone: Any) -> None:
        """backbone: the network for the pictures."""
        super().__init__()
        self.picture, self.backbone = picture, backbone

    def forward(self, signals: Float[Tensor, "batch channels length"]) -> Tensor:
        """The outputs for normalised signals."""
        return self.backbone(self.picture(signals))  # type: ignore[no-any-return]

    @property
    def stages(self) -> list[str]:
        """The modules that end a stage, as timm names them: what they give are maps."""
        told = getattr(self.backbone, "feature_info", None) or []
        return [f"backbone.{each['module']}" for each in told]


@dataclass(frozen=True)
class SpectrogramSize(PictureSize):
    """Spectrograms of signals of so many samples, with this window."""

    length: int
    window: int

    def __str__(self) -> str:
        return f"spectrograms of {self.sides[0]} bands × {self.sides[1]} frames"

    def nearest(self, name: str) -> str:
        """One near it, of those that a step gives."""
        sides = [
            {each * (side // each + more) for each in _MULTIPLES for more in range(3)}
            for side in self.sides
        ]
        by_distance = sorted(
            product(*sides),
            key=lambda each: sum(abs(one - own) for one, own in zip(each, self.sides, strict=True)),
        )
        for bands, frames in by_distance:
            step = self._step_for(frames)
            if bands and step and takes(name, (bands, frames), self.channels):
                return f"set bands: {bands} and step: {step}, for {bands} bands × {frames} frames"
        return "none near it: choose one for pictures of any size, such as resnet18"

    def _step_for(self, frames: int) -> int | None:
        """The step that gives so many frames, if there is one."""
        rest = self.length - self.window
        if frames < 2 or rest < frames - 1:
            return None
        step = rest // (frames - 1)
        return step if step <= self.window and 1 + rest // step == frames else None

    def remedy(self, _: int) -> str:
        """Another network: a spectrogram is hardly ever a square of their size."""
        return "choose a network for pictures of any size"


def build_spectrogram(
    config: SpectrogramNetwork, outputs: int, decoding: SignalDecoding
) -> OnSpectrogram:
    """A network for signals decoded so.

    Raises TrainError where nobody knows their rate and the bands need it, for too short signals, or
    as triangles and build_timm do.
    """
    if config.scale == "mel" and decoding.rate_hz is None:
        raise TrainError(
            "network: `scale: mel` needs to know how many samples a second has, and no file of the "
            "competition says it. Set scale: linear"
        )
    if decoding.length < config.window:
        raise TrainError(
            f"network: a window of {config.window} samples is longer than the signals, which have "
            f"{decoding.length}: lower `window` to {decoding.length} or less"
        )
    picture = Spectrogram(config, decoding)
    frames = 1 + (decoding.length - config.window) // config.step
    size = SpectrogramSize(
        (config.bands, frames), decoding.channels, decoding.length, config.window
    )
    return OnSpectrogram(picture, build_timm(config, outputs, size))
