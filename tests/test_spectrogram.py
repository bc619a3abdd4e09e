"""Networks on spectrograms: the picture is its definition, and all that a network can do works."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from project import decoding_of
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from tasks import one_of
from test_train import ALL_ROWS, CPU, SCORED, TRAINING, config_of, same

from pipeline.core.competition import SignalDecoding
from pipeline.core.errors import TrainError
from pipeline.core.files import sha256_of
from pipeline.train.checkpoint import Checkpoint
from pipeline.train.config import ModelConfig, is_for_signals
from pipeline.train.device import Compute, deterministic, suit_network
from pipeline.train.fit import History, fit
from pipeline.train.infer import predict
from pipeline.train.kinds import mean_and_std
from pipeline.train.models import Classifier, build_model, describe, load_model, save_model
from pipeline.train.networks.config import SpectrogramNetwork
from pipeline.train.networks.spectrogram import Spectrogram, triangles
from pipeline.train.optim import build_optimizers

LENGTH, RATE_HZ, WINDOW, STEP, BANDS = 512, 4000, 64, 16, 16
FRAMES = 1 + (LENGTH - WINDOW) // STEP
DECODING = SignalDecoding(length=LENGTH, channels=1, rate_hz=RATE_HZ)
MUON = {"kind": "muon", "lr": 0.03, "momentum": 0.6}


def spectrogram(**changes: Any) -> dict[str, Any]:
    return {
        "family": "spectrogram", "name": "test_resnet", "pretrained": False, "weights": None,
        "dropout": 0.0, "drop_path": None, "window": WINDOW, "step": STEP, "bands": BANDS,
        "scale": "mel", "bands_masked": 0,
    } | changes  # fmt: skip


def network_of(**changes: Any) -> SpectrogramNetwork:
    return SpectrogramNetwork.model_validate(spectrogram(**changes))


def sound_config(network: dict[str, Any] | None = None, **changes: Any) -> ModelConfig:
    values = {"network": network or spectrogram(), "engine": "batched", "augment": [], "tta": False}
    return config_of(**(values | changes))


def chirps(rows: int = 100, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Tones in noise about a level of 70; those of class 1 rise, the others fall."""
    draw = np.random.default_rng(0)
    labels = draw.integers(2, size=rows)
    rising = np.linspace(draw.uniform(0.05, 0.1, rows), draw.uniform(0.2, 0.4, rows), LENGTH).T
    tone = np.sin(2 * np.pi * np.where(labels[:, None], rising, rising[:, ::-1]).cumsum(1))
    noise = draw.normal(0, 0.5, (rows, LENGTH, channels))
    return (70 + 3 * (tone[..., None] + noise)).astype(np.float32), labels


SOUNDS, LABELS = chirps()


def start(config: ModelConfig) -> Classifier:
    torch.manual_seed(config.seed)
    mean, std = mean_and_std(SOUNDS, TRAINING)
    return build_model(config.network, one_of(2), DECODING, list(mean), list(std))


def train(
    folder: Path, config: ModelConfig, stop_after: int | None = None
) -> tuple[Classifier, History]:
    deterministic(1)

    def on_epoch(history: History) -> None:
        if len(history) == stop_after:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(folder / "state")
    return fit(start(config), SOUNDS, LABELS, ALL_ROWS, config, CPU, checkpoint, on_epoch)


def picture_of(decoding: SignalDecoding = DECODING, **changes: Any) -> Spectrogram:
    return Spectrogram(network_of(**changes), decoding)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as timm publishes it: 1,000 classes, pictures of three channels."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("timm") / "test_resnet.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=1000).state_dict(), path)
    return path


def from_file(path: Path) -> dict[str, Any]:
    return spectrogram(weights={"file": str(path), "sha256": sha256_of(path)})


@pytest.mark.parametrize(("bands", "window", "rate_hz"), [
    (16, 64, 4000), (64, 400, 16_000), (128, 1024, 32_000), (9, 33, 8000), (5, 64, None),
])  # fmt: skip
def test_a_band_is_a_triangle_between_the_middles_of_its_neighbours(
    bands: int, window: int, rate_hz: int | None
) -> None:
    """HTK's formula for mel, written down once more, frequency by frequency."""
    top = (rate_hz or 1) / 2
    if rate_hz is None:
        corners = np.linspace(0, top, bands + 2)
    else:
        mel = np.linspace(0, 2595 * np.log10(1 + top / 700), bands + 2)
        corners = 700 * (10 ** (mel / 2595) - 1)
    expected = np.zeros((window // 2 + 1, bands))
    for number, frequency in enumerate(np.arange(window // 2 + 1) * (rate_hz or 1) / window):
        for band in range(bands):
            before, middle, after = corners[band : band + 3]
            if before < frequency <= middle:
                expected[number, band] = (frequency - before) / (middle - before)
            elif middle < frequency < after:
                expected[number, band] = (after - frequency) / (after - middle)
    np.testing.assert_allclose(triangles(bands, window, rate_hz), expected, atol=1e-9)


@pytest.mark.parametrize("window", [64, 45])
def test_a_picture_is_the_logarithm_of_the_power_that_stft_gives(window: int) -> None:
    torch.manual_seed(1)
    signals = torch.randn(3, 2, LENGTH)
    picture = picture_of(DECODING.model_copy(update={"channels": 2}), window=window, scale="linear")
    hann = torch.hann_window(window)
    spectrum = torch.stft(
        signals.flatten(0, 1), window, STEP, window=hann, center=False, return_complex=True
    )
    power = spectrum.abs().square() / hann.square().sum()
    bands = torch.einsum("fb,cft->cbt", triangles(BANDS, window, None).float(), power)
    expected = (bands + 1e-8).log().view(3, 2, BANDS, -1)
    torch.testing.assert_close(picture(signals), expected, rtol=1e-4, atol=1e-4)
    assert float(power.mean()) == pytest.approx(1, abs=0.1)


def test_a_tone_is_bright_in_its_band_and_in_its_time() -> None:
    signal = torch.zeros(1, 1, LENGTH)
    signal[..., 256:384] = torch.sin(2 * torch.pi * 1000 / RATE_HZ * torch.arange(128))
    picture = picture_of(scale="linear")(signal)[0, 0]
    band, frame = divmod(int(picture.argmax()), FRAMES)
    assert band in (7, 8)  # 1,000 of 2,000 Hz are half of 16 bands
    assert 256 <= frame * STEP < frame * STEP + WINDOW <= 384


def test_each_band_is_standardised_on_the_training_rows_alone() -> None:
    sounds, _ = chirps(channels=2)
    sounds[80:] *= 100
    mean, std = mean_and_std(sounds, TRAINING)
    decoding = DECODING.model_copy(update={"channels": 2})
    model = build_model(network_of(), one_of(2), decoding, list(mean), list(std))
    model.set_input(sounds, TRAINING)
    picture: Any = model.network.picture
    known = picture(model.normalise(torch.from_numpy(sounds[TRAINING]).movedim(-1, 1)))
    assert known.shape == (80, 2, BANDS, FRAMES)
    torch.testing.assert_close(known.mean((0, 3)), torch.zeros(2, BANDS), atol=1e-3, rtol=0)
    torch.testing.assert_close(known.std((0, 3)), torch.ones(2, BANDS), atol=1e-3, rtol=0)
    assert picture.learn(torch.zeros(4, 2, LENGTH)) is None
    assert (picture(torch.zeros(1, 2, LENGTH)) == 0).all()  # silence has no deviation


def test_a_picture_is_float32_and_the_same_twice_whatever_the_network_computes_in() -> None:
    picture, signals = picture_of(), torch.randn(4, 1, LENGTH)
    expected = picture(signals)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            found = picture(signals)
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)


def test_training_hides_a_run_of_bands_and_predicting_none() -> None:
    picture = picture_of(bands_masked=5)
    signals = torch.randn(300, 1, LENGTH)
    whole = picture.eval()(signals)
    torch.manual_seed(1)
    masked = picture.train()(signals)
    hidden = (masked != whole).any(3)[:, 0]
    assert (masked[:, 0][hidden] == 0).all()
    assert set(hidden.sum(1).tolist()) == {0, 1, 2, 3, 4, 5}
    assert (hidden.int().diff(dim=1).abs().sum(1) <= 2).all()
    assert hidden.any(0).all()
    torch.manual_seed(1)
    assert torch.equal(picture(signals), masked)
    assert torch.equal(picture_of().train()(signals), whole)


def test_chirps_are_told_apart_and_the_file_alone_predicts_the_same_bits(tmp_path: Path) -> None:
    config = sound_config(spectrogram(bands_masked=4, dropout=0.1), optimizer=MUON, epochs=12)
    model, history = train(tmp_path, config)
    assert history[-1]["loss"] < history[0]["loss"]
    found = predict(model, SOUNDS, SCORED, CPU, tta=True)
    assert (found.argmax(1) == LABELS[SCORED]).mean() >= 0.9
    save_model(tmp_path / "kept.safetensors", model, describe(config, one_of(2), DECODING, 1))
    loaded, description = load_model(tmp_path / "kept.safetensors")
    assert description.network == config.network
    assert {"network.picture.mean", "network.picture.std"} <= set(
        load_file(tmp_path / "kept.safetensors")
    )
    loaded = loaded.to(memory_format=torch.channels_last)
    assert np.array_equal(predict(loaded, SOUNDS, SCORED, CPU, tta=True), found)


@pytest.mark.parametrize("changes", [
    {"network": spectrogram(bands_masked=4, dropout=0.2), "optimizer": MUON},
    {"precision": "bfloat16", "mix": {"kind": "cutmix", "alpha": 1.0, "p": 0.5},
     "augment": [{"op": "Shift"}, {"op": "TimeMask"}]},
])  # fmt: skip
def test_a_killed_training_ends_in_the_same_bits(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = sound_config(**changes)
    assert is_for_signals(config)
    unbroken, _ = train(tmp_path / "unbroken", config)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", config, stop_after=2)
    assert same(train(tmp_path / "killed", config)[0], unbroken)


def test_published_weights_meet_pictures_of_as_many_channels_as_the_signal(weights: Path) -> None:
    network = network_of(**from_file(weights))
    published = load_file(weights)
    for channels in (1, 2, 3):
        decoding = DECODING.model_copy(update={"channels": channels})
        model = build_model(network, one_of(3), decoding, [0.0] * channels, [1.0] * channels)
        found = model.backbone.state_dict()
        assert found["conv1.0.weight"].shape[1] == channels
        assert torch.equal(found["layer1.0.conv1.weight"], published["layer1.0.conv1.weight"])
        assert found["fc.weight"].shape[0] == 3
        if channels == 1:
            grey = published["conv1.0.weight"].sum(1, keepdim=True)
            torch.testing.assert_close(found["conv1.0.weight"], grey)


def test_a_frozen_body_each_layers_rate_and_the_classifiers_are_those_of_timm(
    weights: Path, tmp_path: Path
) -> None:
    config = sound_config(
        from_file(weights), freeze_epochs=2, head_lr=0.02, layer_decay=0.5, ema=0.0, epochs=4
    )
    groups = build_optimizers(start(config), config)[0].param_groups
    assert sorted({group["lr_scale"] for group in groups}) == [0.5**n for n in (5, 4, 3, 2, 1)] + [
        2
    ]
    before = start(config).state_dict()
    saved = Checkpoint(tmp_path / "state")
    for stop_after, body_moves in ((2, False), (3, True)):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, config, stop_after=stop_after)
        state = saved.load(torch.device("cpu"))
        assert state is not None
        moved = {name for name, value in state["model"].items() if (value != before[name]).any()}
        body = {name for name in before if ".backbone." in name and ".fc." not in name}
        assert {"network.backbone.fc.weight", "network.backbone.fc.bias"} <= moved
        assert moved & body == (body if body_moves else set())
    resumed, _ = train(tmp_path, config)
    assert same(resumed, train(tmp_path / "unbroken", config)[0])


@pytest.mark.slow
@pytest.mark.unchecked
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
def test_a_compiled_step_learns_as_the_plain_one(tmp_path: Path) -> None:
    _, history = train(tmp_path / "plain", sound_config())
    _, compiled = train(tmp_path / "compiled", sound_config(compiled=True))
    for before, after in zip(history, compiled, strict=True):
        assert after == pytest.approx(before, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "dtype"), [("resnet10t", torch.bfloat16), ("lcnet_050", torch.float32)]
)
def test_auto_is_bfloat16_for_dense_backbones_alone(name: str, dtype: torch.dtype) -> None:
    decoding = SignalDecoding(length=16_000, channels=1, rate_hz=16_000)
    network = network_of(name=name, window=400, step=160, bands=64)
    model = build_model(network, one_of(2), decoding, [0.0], [1.0])
    cpu = Compute(torch.device("cpu"), torch.bfloat16)
    assert suit_network(cpu, "auto", model, decoding).dtype == dtype


SECOND = SignalDecoding(length=16_000, channels=1, rate_hz=16_000)


@pytest.mark.parametrize(("changes", "decoding", "said"), [
    ({}, DECODING.model_copy(update={"rate_hz": None}),
     "network: `scale: mel` needs to know how many samples a second has, and no file of the "
     "competition says it. Set scale: linear"),
    ({"window": 600}, DECODING,
     "network: a window of 600 samples is longer than the signals, which have 512: lower `window` "
     "to 512 or less"),
    ({"bands": 128, "window": 400, "step": 160}, SECOND,
     "network: a window of 400 samples has too few frequencies for 128 bands: some would be empty. "
     "Lower `bands` to 89, or raise `window`"),
    ({"scale": "linear", "bands": 80}, DECODING,
     "network: a window of 64 samples has too few frequencies for 80 bands: some would be empty. "
     "Lower `bands` to 62, or raise `window`"),
    ({"name": "vit_tiny_patch16_224", "window": 400, "step": 160, "bands": 64}, SECOND,
     "network: vit_tiny_patch16_224, published for 224 px, cannot take spectrograms of 64 bands × "
     "98 frames; the nearest that it takes: set bands: 64 and step: 164, for 64 bands × 96 frames"),
    pytest.param({"name": "inception_v3", "window": 400, "step": 160, "bands": 64}, SECOND,
     "network: inception_v3, published for 299 px, cannot take spectrograms of 64 bands × 98 "
     "frames; the nearest that it takes: set bands: 80 and step: 160, for 80 bands × 98 frames",
     marks=pytest.mark.slow),
    ({"name": "resnet10"}, DECODING, "network: timm has no model 'resnet10'; close names: "),
])  # fmt: skip
def test_what_cannot_be_built_is_one_sentence_with_what_to_set(
    changes: dict[str, Any], decoding: SignalDecoding, said: str
) -> None:
    with pytest.raises(TrainError) as caught:
        build_model(network_of(**changes), one_of(2), decoding, [0.0], [1.0])
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("name", [
    "vit_tiny_patch16_224", pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_picture_whose_sides_a_transformer_takes_is_learned_from(name: str) -> None:
    bands = 64 if name.startswith("vit") else 56
    network = network_of(name=name, window=400, step=164 if bands == 64 else 140, bands=bands)
    model = build_model(network, one_of(2), SECOND, [0.0], [1.0])
    model(torch.randn(2, 1, 16_000)).square().sum().backward()
    assert all(value.grad is not None for value in model.parameters())


@pytest.mark.parametrize(("changes", "said"), [
    ({"step": 65}, "expected a step of at most the window, 64 samples, else some are in no frame, found 65"),
    ({"bands_masked": 16}, "expected bands_masked below bands, found 16 of 16"),
    ({"pretrained": True, "weights": {"file": "a", "sha256": "0" * 64}}, "found both"),
])  # fmt: skip
def test_parameters_that_do_not_fit_each_other_are_refused(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        network_of(**changes)


def test_images_are_refused_and_muon_for_weights_that_have_learned(weights: Path) -> None:
    with pytest.raises(TrainError, match="test_resnet is for signals, and the competition has im"):
        build_model(network_of(), one_of(2), decoding_of(32), [0.0] * 3, [1.0] * 3)
    with pytest.raises(ValidationError, match="for weights that have learned, found muon"):
        sound_config(from_file(weights), optimizer=MUON)
    with pytest.raises(ValidationError, match="expected `engine: batched` for signals"):
        sound_config(engine="albumentations")
