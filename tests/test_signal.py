"""Signals are augmented, trained on and predicted, beside images, by the same code."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tasks import one_of
from test_train import ALL_ROWS, CPU, SCORED, TRAINING, config_of, same
from torch import nn

from pipeline.core.competition import SignalDecoding
from pipeline.train import kinds
from pipeline.train.augment.batched import BatchedPolicy
from pipeline.train.augment.mix import mix
from pipeline.train.batches import Feed
from pipeline.train.checkpoint import Checkpoint
from pipeline.train.config import Mix, ModelConfig
from pipeline.train.device import depthwise_rate, deterministic
from pipeline.train.fit import History, fit
from pipeline.train.infer import predict, predict_batch
from pipeline.train.kinds import SignalKind, blank, kind_of, mean_and_std, shift
from pipeline.train.models import Classifier
from pipeline.train.transfer import read_steps

LENGTH, CHANNELS = 64, 2
DECODING = SignalDecoding(length=LENGTH, channels=CHANNELS)


def drawn_signals(rows: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Noise about 500 and -3; those of class 1 have a bump somewhere in the first channel."""
    draw = np.random.default_rng(0)
    signals = draw.normal([500, -3], [20, 0.1], (rows, LENGTH, CHANNELS))
    labels = draw.integers(2, size=rows)
    for signal, label in zip(signals, labels, strict=True):
        at = draw.integers(LENGTH - 8)
        signal[at : at + 8, 0] += 100 * label
    return signals.astype(np.float32), labels


SIGNALS, LABELS = drawn_signals()
BATCH = torch.from_numpy(SIGNALS).movedim(-1, 1)
POLICY = [
    {"op": "Shift", "samples": 6, "p": 1.0}, {"op": "Scale"}, {"op": "Noise"}, {"op": "TimeMask"},
]  # fmt: skip


@pytest.fixture(autouse=True)
def _for_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of any family stands for one of signals."""
    monkeypatch.setattr("pipeline.train.config.is_for_signals", lambda _: True)


def signals_config(**changes: Any) -> ModelConfig:
    return config_of(**({"engine": "batched", "augment": POLICY} | changes))


def start(config: ModelConfig) -> Classifier:
    torch.manual_seed(config.seed)
    mean, std = mean_and_std(SIGNALS, TRAINING)
    network = nn.Sequential(
        nn.Conv1d(CHANNELS, 8, 9, padding=4), nn.BatchNorm1d(8), nn.ReLU(),
        nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip
    return Classifier(network, one_of(2), list(mean), list(std))


def train(
    folder: Path, config: ModelConfig, stop_after: int | None = None
) -> tuple[Classifier, History]:
    deterministic(1)

    def on_epoch(history: History) -> None:
        if len(history) == stop_after:
            raise KeyboardInterrupt

    model = start(config)
    return fit(model, SIGNALS, LABELS, ALL_ROWS, config, CPU, Checkpoint(folder), on_epoch)


def apply(name: str, seed: int = 1, **arguments: Any) -> np.ndarray:
    item = {"op": name, "p": 1.0, **arguments}
    return BatchedPolicy([item]).apply(BATCH, seed).numpy()


def test_a_network_learns_the_bump(tmp_path: Path) -> None:
    model, history = train(tmp_path, signals_config(epochs=20))
    assert history[-1]["loss"] < history[0]["loss"]
    found = predict(model, SIGNALS, SCORED, CPU, tta=True)
    assert (found.argmax(1) == LABELS[SCORED]).mean() >= 0.95


def test_a_killed_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    config = signals_config(mix={"kind": "cutmix", "alpha": 1.0, "p": 0.3})
    model, _ = train(tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", config, stop_after=2)
    assert same(train(tmp_path / "killed", config)[0], model)


def test_each_channel_is_normalised_by_its_own_mean_and_deviation() -> None:
    mean, std = mean_and_std(SIGNALS, TRAINING)
    known = SIGNALS[TRAINING].astype(np.float64)
    np.testing.assert_allclose(mean, known.mean((0, 1)))
    np.testing.assert_allclose(std, known.std((0, 1)))
    many = np.arange(80).repeat(40)  # more than are read at once
    np.testing.assert_allclose(mean_and_std(SIGNALS, many), [mean, std])
    normal = start(signals_config()).normalise(BATCH[TRAINING])
    np.testing.assert_allclose(normal.mean((0, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(normal.std((0, 2), correction=0), 1, rtol=1e-4)
    still = np.full((4, 8, 1), 3, np.float32)
    assert [list(each) for each in mean_and_std(still, np.arange(4))] == [[3.0], [1.0]]


def test_of_long_signals_fewer_are_read_at_once() -> None:
    read = []

    class Watched(np.ndarray):
        def __getitem__(self, key: Any) -> Any:
            read.append(np.size(key))
            return super().__getitem__(key)

    with patch.object(kinds, "_VALUES_AT_ONCE", 3 * LENGTH * CHANNELS):
        found = mean_and_std(SIGNALS.view(Watched), TRAINING)
    np.testing.assert_allclose(found, mean_and_std(SIGNALS, TRAINING))
    assert max(read) == 3


@pytest.mark.parametrize("samples", [0, 5, -7])
def test_a_shift_mirrors_the_signal_at_its_ends(samples: int) -> None:
    shifted = apply("Shift", samples=[samples, samples])
    padded = np.pad(BATCH.numpy(), ((0, 0), (0, 0), (7, 7)), mode="reflect")
    np.testing.assert_array_equal(shifted, padded[..., 7 - samples : 7 - samples + LENGTH])


def test_shifts_are_drawn_to_both_sides_and_for_each_signal() -> None:
    batch = torch.arange(100.0).expand(400, 1, 100)
    moved = BatchedPolicy([{"op": "Shift", "samples": 3, "p": 1.0}]).apply(batch, 1)[:, 0, 50]
    assert set(moved.tolist()) == {47.0, 48.0, 49.0, 50.0, 51.0, 52.0, 53.0}


def spread(signals: np.ndarray) -> np.ndarray:
    return signals.std(2) / BATCH.numpy().std(2)


@pytest.mark.parametrize(("name", "arguments", "low", "high"), [
    ("Scale", {"factor": 0.3}, 0.7, 1.3), ("Scale", {"factor": [2, 3]}, 2, 3), ("SignFlip", {}, 1, 1),
])  # fmt: skip
def test_an_amplitude_changes_about_the_channels_mean(
    name: str, arguments: dict[str, Any], low: float, high: float
) -> None:
    found = apply(name, **arguments)
    np.testing.assert_allclose(found.mean(2), BATCH.mean(2), rtol=1e-4)
    assert low - 1e-3 <= spread(found).min() <= spread(found).max() <= high + 1e-3
    assert np.ptp(spread(found)) >= 0.7 * (high - low)
    np.testing.assert_allclose(*spread(found).T, rtol=1e-3)  # the same for all channels
    signs = np.sign((found - found.mean(2, keepdims=True)) * (BATCH - BATCH.mean(2, True)).numpy())
    assert np.median(signs) == (-1 if name == "SignFlip" else 1)


def test_noise_is_measured_by_the_deviation_of_each_signals_channel() -> None:
    noise = apply("Noise", std=[0.5, 0.5]) - BATCH.numpy()
    shares = noise.std(2) / BATCH.numpy().std(2)
    np.testing.assert_allclose(shares.mean(0), 0.5, rtol=0.05)
    assert abs(np.corrcoef(noise[:, 0].ravel(), noise[:, 1].ravel())[0, 1]) < 0.05


def test_a_mask_is_one_window_in_which_each_channel_is_its_mean() -> None:
    found = apply("TimeMask", length=[0.25, 0.5])
    changed = (found != BATCH.numpy()).any(1)
    lengths = changed.sum(1)
    assert 16 <= lengths.min() < 20 < 28 < lengths.max() <= 32
    assert (np.abs(np.diff(changed.astype(int), axis=1)).sum(1) <= 2).all()
    means = np.broadcast_to(BATCH.mean(2, keepdim=True).numpy(), found.shape)
    at = np.broadcast_to(changed[:, None], found.shape)
    np.testing.assert_allclose(found[at], means[at], rtol=1e-6)
    assert changed.any(0).all()


@pytest.mark.parametrize("name", ["Shift", "Scale", "SignFlip", "Noise", "TimeMask"])
def test_an_operation_draws_by_its_seed_and_p_leaves_signals_out(name: str) -> None:
    before = BATCH.clone()
    first, second, other = (apply(name, seed, p=0.5) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    kept = np.isclose(first, BATCH, rtol=1e-6).all((1, 2)).mean()
    assert 0.3 < kept < 0.7
    assert np.array_equal(apply(name, p=0.0), BATCH)
    assert torch.equal(BATCH, before)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_mix_has_the_shares_of_its_label_and_a_cutmix_is_a_window(kind: Any) -> None:
    levels = torch.arange(64.0)[:, None, None].expand(64, 2, 50)
    mixed, targets = mix(levels, torch.eye(64), Mix(kind=kind, alpha=1.0, p=1.0), 0)
    np.testing.assert_allclose(mixed.mean(2)[:, 0], targets @ torch.arange(64.0), rtol=1e-4)
    assert ((targets > 0).sum(1) == 2).sum() > 40
    if kind == "cutmix":
        foreign = (mixed != levels).numpy()
        assert (foreign[:, 0] == foreign[:, 1]).all()
        assert (np.abs(np.diff(foreign[:, 0].astype(int), axis=1)).sum(1) <= 2).all()


def test_test_time_augmentation_is_the_mean_over_small_shifts() -> None:
    assert isinstance(kind_of(SIGNALS), SignalKind)
    views = kind_of(BATCH).views(BATCH)
    assert torch.equal(views[0], BATCH)
    for view, samples in zip(views, (0, -4, -2, 2, 4), strict=True):
        assert torch.equal(view, shift(BATCH, torch.full((len(BATCH),), samples)))
    model = start(signals_config()).eval()
    alone = [predict_batch(model, view.movedim(1, -1).numpy(), CPU, tta=False) for view in views]
    both = predict_batch(model, SIGNALS, CPU, tta=True)
    np.testing.assert_allclose(both, np.mean(alone, axis=0), rtol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_signal_shorter_than_a_shift_is_mirrored_again_and_again(length: int) -> None:
    signal = torch.arange(float(length))
    padded = np.pad(signal.numpy(), (12, 12), mode="reflect" if length > 1 else "edge")
    for samples in (-12, 9):
        moved = shift(signal[None, None], torch.tensor([samples]))
        np.testing.assert_array_equal(moved[0, 0], padded[12 - samples : 12 - samples + length])


@pytest.mark.parametrize("residence", ["resident", "streamed"])
def test_the_signals_are_the_same_wherever_they_lie(residence: Any) -> None:
    steps = [np.array([70, 3]), np.array([5, 6, 7])]
    taken = read_steps(SIGNALS, iter(steps), TRAINING, torch.device("cpu"), residence)
    for step, found in zip(steps, taken, strict=True):
        np.testing.assert_array_equal(found, SIGNALS[step])


def test_the_feed_gives_float32_with_the_channels_first() -> None:
    feed = Feed(SIGNALS, LABELS, TRAINING, signals_config(augment=[]), torch.device("cpu"))
    signals, targets = next(feed.batches(0))
    assert signals.dtype == torch.float32
    assert signals.shape == (len(targets), CHANNELS, LENGTH)
    assert any(torch.equal(signals[0], each) for each in BATCH[TRAINING])


def test_a_blank_row_is_as_a_network_takes_it() -> None:
    assert blank(DECODING).shape == (1, CHANNELS, LENGTH)
    assert depthwise_rate(start(signals_config()), DECODING) == 0


@pytest.mark.parametrize(("changes", "said"), [
    ({"engine": "albumentations"}, "expected `engine: batched` for signals, found albumentations"),
    ({"sizes_px": [8]}, "expected `sizes_px: null` for signals, found [8]"),
    ({"augment": [{"op": "D4"}]}, "augment: item 0: D4 is for images, and the network is for signals; known: Noise, Scale, Shift, SignFlip, TimeMask"),
    ({"augment": [{"op": "shift"}]}, "augment: item 0: signals have no operation 'shift'; close names: Shift"),
    ({"augment": [{"op": "Shift", "sample": 3}]}, "augment: item 0: Shift: signals have no argument 'sample'; close names: samples"),
])  # fmt: skip
def test_what_is_for_images_is_refused_in_one_sentence(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        signals_config(**changes)
    assert said in str(caught.value)


def test_an_operation_on_signals_is_refused_for_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(
        ValidationError, match="Shift is for signals, and the network is for images"
    ):
        config_of(augment=[{"op": "Shift"}], engine="batched")
