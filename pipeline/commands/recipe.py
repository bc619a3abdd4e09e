"""A whole params.yaml for a competition that nobody has trained on yet.

The recipe is a small network from scratch that this machine can train on all folds within about an
hour, judged by the malaria cells: on two cores of a CPU, one thread learns from some 360 images of
64 px a second, and twenty times as many on a GPU. Sound is seen as a spectrogram, other signals as
they are. It is where to begin, not what wins.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

SIDES_PX = (32, 48, 64, 96, 128, 160, 224)
FOLDS = 5

_IMAGES_A_SECOND = 180
"""One core learns from so many images of 64 px."""

_GPU_IN_CORES = 40
_HOUR_S = 3600
_PIXELS_A_SAMPLE = 3.5
"""A sample costs convnet1d as much as so many pixels of an image the vgg."""

_LOWEST_RATE_HZ, _FEW_BANDS_BELOW_HZ = 2000, 8000
"""Sound of fewer samples a second is seen as it is; of fewer than the second, in half the bands."""

_FEWEST_FRAMES, _WANTED_FRAMES = 16, 256
"""The width of a spectrogram; of long sounds, which have a frame each tenth of a second, more."""


@dataclass(frozen=True)
class Facts:
    """What the recipe depends on. side_px: the median of the originals' shorter sides; of signals
    their length. rate_hz: samples a second, of sound."""

    images: int
    side_px: int
    mirrored: bool
    """Whether a mirrored image is an image of the same kind, as digits are not."""
    folds: int
    rare: str
    """As split.rare."""
    cores: int
    gpu: bool
    rate_hz: int | None = None


@dataclass(frozen=True)
class _Picture:
    """A spectrogram."""

    window: int
    step: int
    bands: int
    frames: int


def write_params(
    name: str, download: dict[str, Any], prepare: dict[str, Any], metric: str, facts: Facts
) -> str:
    """The text of params.yaml. download, prepare: what those sections say beyond the recipe."""
    of_images = prepare["kind"] == "images"
    size_px = choose_size(facts) if of_images else round(_signal_as_px(facts))
    batch = 32 if facts.images < 5000 else 64
    flips = ["{op: HorizontalFlip, p: 0.5}"] if facts.mirrored else []
    operations = [
        *flips,
        "{op: Affine, scale: [0.9, 1.1], rotate: [-15, 15], p: 0.7}",
        "{op: ColorJitter, brightness: [0.8, 1.2], contrast: [0.8, 1.2], saturation: [0.8, 1.2], "
        "hue: [-0.05, 0.05], p: 0.5}",
    ]
    augment = "".join(f"\n        - {operation}" for operation in operations)
    model, network = "vgg", _vgg(size_px)
    geometry = f"""
  size_px: {size_px}
  fit: stretch
  max_side_px: 16384
  bits: null
  near_duplicate: 1.0"""
    if not of_images:
        model, network, augment, geometry = "convnet1d", _convnet1d(facts.side_px), " []", ""
    if not of_images and (picture := _picture(facts)):
        model, network = "resnet10t", _on_spectrograms(picture)
    return f"""\
# not measured yet
#
{_section("download", download)}
{_section("prepare", prepare)}{geometry}
  unreadable: stop
  unlabelled: stop
  conflicts: keep
  corrections: null

split:
  folds: {facts.folds}
  seeds: [1]
  rare: {facts.rare}

train:
  device: auto
  threads: 1
  world: 1
  sync_batch_norm: false
  members: [{model}]
  folds: {list(range(facts.folds))}
  models:
    {model}:
      network: {network}
      seed: 1
      epochs: {choose_epochs(facts, size_px)}
      epoch: {{rule: last}}
      batch_size: {batch}
      sizes_px: null
      optimizer: {{kind: adamw}}
      lr: 0.004
      warmup_epochs: 1
      weight_decay: 0.05
      l1: 0.0
      layer_decay: null
      head_lr: null
      freeze_epochs: 0
      label_smoothing: 0.05
      ema: 0.98
      clip_norm: 1.0
      precision: auto
      compiled: false
      tta: {str(facts.mirrored).lower()}
      augment:{augment}
      engine: batched
      mix: null

ensemble:
  name: {name}
  metric: {metric}
  blend: mean
  calibration: none
  threshold: none
  greedy_rounds: 50
  stack_l2: 1.0
  external: []
  confidence: 0.95
  resamples: 2000
  seed: 1
  forecast: {{confidence: 0.9, resamples: 2000, seed: 1, public_share: 0.5}}
"""


def _vgg(size_px: int) -> str:
    stages = 4 if size_px < 96 else 5
    return f"{{family: small, name: vgg, width: 16, stages: {stages}, dropout: 0.1}}"


def _convnet1d(length: int) -> str:
    """As many stages as leave a few samples of the shortest signal, at most five."""
    stages = max(1, min(5, int(math.log2(max(length, 8))) - 2))
    return (
        f"{{family: signal, name: convnet1d, width: 16, stages: {stages}, step: 2, kernel: 7, "
        "activation: relu, pool: max, batch_norm: true, dropout: 0.1, "
        "differences: 0, amplitude: linear}"
    )


def _picture(facts: Facts) -> _Picture | None:
    """How sound is seen; None of other signals, and of what is too short or too slow for it."""
    if facts.rate_hz is None or facts.rate_hz < _LOWEST_RATE_HZ:
        return None
    hundredth, tenth = facts.rate_hz // 100, facts.rate_hz // 10
    step = min(max(hundredth, -(-facts.side_px // _WANTED_FRAMES)), tenth)
    window = 2 ** math.ceil(math.log2(max(facts.rate_hz / 45, step)))  # 22 to 44 ms
    frames = 1 + (facts.side_px - window) // step
    bands = 64 if facts.rate_hz >= _FEW_BANDS_BELOW_HZ else 32
    return _Picture(window, step, bands, frames) if frames >= _FEWEST_FRAMES else None


def _on_spectrograms(picture: _Picture) -> str:
    return (
        "{family: spectrogram, name: resnet10t, pretrained: false, weights: null, dropout: 0.1, "
        f"drop_path: null,\n        window: {picture.window}, step: {picture.step}, "
        f"bands: {picture.bands}, scale: mel, bands_masked: {picture.bands // 8}}}"
    )


def _signal_as_px(facts: Facts) -> float:
    """The side of an image that costs as much as a signal."""
    if picture := _picture(facts):
        return math.sqrt(picture.bands * picture.frames)
    return math.sqrt(_PIXELS_A_SAMPLE * facts.side_px)


def choose_size(facts: Facts) -> int:
    """The largest side, not above the originals', with which most of the epochs fit in an hour."""
    fitting = [side for side in SIDES_PX if side <= max(facts.side_px, SIDES_PX[0])]
    epochs = 0.75 * _wanted_epochs(facts)
    affordable = [side for side in fitting if _seconds(facts, side, epochs) <= _HOUR_S]
    return max(affordable, default=SIDES_PX[0])


def choose_epochs(facts: Facts, size_px: int) -> int:
    """Many where there are few images, and no more than an hour allows, but at least 6."""
    allowed = int(_HOUR_S / _seconds(facts, size_px, 1.0))
    return max(6, min(_wanted_epochs(facts), allowed))


def _wanted_epochs(facts: Facts) -> int:
    return round(10 + 400_000 / (facts.images + 20_000))


def _seconds(facts: Facts, size_px: int, epochs: float) -> float:
    """How long the trainings of all folds take."""
    workers = _GPU_IN_CORES if facts.gpu else facts.cores
    seen = facts.images * (facts.folds - 1) * epochs
    return seen * (size_px / 64) ** 2 / (_IMAGES_A_SECOND * workers)


def _section(name: str, values: dict[str, Any]) -> str:
    """JSON is YAML, too."""
    lines = [f"  {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join([f"{name}:", *lines])
