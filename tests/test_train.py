"""Training: learns, repeats itself bit for bit, resumes bit for bit, and fails in one sentence."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from jaxtyping import config as jaxtyping_config
from project import ROOT, decoding_of, digests, environment
from safetensors.torch import load_file, save_file
from tasks import one_of

from pipeline.core.competition import ImageDecoding
from pipeline.core.errors import DiskError, PipelineError, TrainError
from pipeline.core.files import new_folder
from pipeline.ensemble import stage as ensemble
from pipeline.params import read_config
from pipeline.predict import command as predict_command
from pipeline.train import batches, checkpoint, stage
from pipeline.train.augment.per_image import Policy
from pipeline.train.batches import Steps
from pipeline.train.checkpoint import Checkpoint, hash_of_inputs, hold_lock
from pipeline.train.config import ModelConfig
from pipeline.train.device import choose_compute, describe_indeterminism, deterministic
from pipeline.train.fit import History, TrainingRows, fit
from pipeline.train.infer import predict
from pipeline.train.kinds import ImageKind, mean_and_std
from pipeline.train.models import (
    Classifier,
    Description,
    build_model,
    describe,
    load_model,
    save_model,
)
from pipeline.train.optim import MovingAverage, learning_rate
from pipeline.train.shortage import describe_shortage

POLICY: list[dict[str, Any]] = [
    {"op": "SquareSymmetry", "p": 1.0},
    {"op": "RandomBrightnessContrast", "p": 0.5},
]


def small(name: str = "vgg", dropout: float = 0.0, **changes: int) -> dict[str, Any]:
    """A network of our own."""
    network = {"family": "small", "name": name, "width": 8, "stages": 2, "dropout": dropout}
    return network | changes


def config_of(**changes: Any) -> ModelConfig:
    values: dict[str, Any] = {
        "network": small(dropout=0.1),
        "seed": 3,
        "epochs": 3,
        "epoch": {"rule": "last"},
        "batch_size": 16,
        "sizes_px": None,
        "optimizer": {"kind": "adamw"},
        "lr": 0.01,
        "warmup_epochs": 0.5,
        "weight_decay": 0.01,
        "l1": 0.0,
        "layer_decay": None,
        "head_lr": None,
        "freeze_epochs": 0,
        "label_smoothing": 0.0,
        "ema": 0.9,
        "clip_norm": 1.0,
        "precision": "float32",
        "compiled": False,
        "tta": True,
        "augment": POLICY,
        "engine": "albumentations",
        "mix": None,
    }
    return ModelConfig.model_validate(values | changes)


def described(config: ModelConfig, classes: list[str]) -> Description:
    return describe(
        config,
        one_of(classes),
        ImageDecoding(size_px=32, channels=3, fit="stretch", black_white=None),
        1,
    )


def drawn_cells(rows: int = 100, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Noisy grey images; those of class 1 have a bright 4 × 4 dot somewhere."""
    draw = np.random.default_rng(0)
    images = draw.integers(60, 120, (rows, size, size, 3), dtype=np.uint8)
    labels = draw.integers(2, size=rows)
    for image, label in zip(images, labels, strict=True):
        x, y = draw.integers(size - 4, size=2)
        if label:
            image[y : y + 4, x : x + 4] = 230
    return images, labels


IMAGES, LABELS = drawn_cells()
TRAINING, SCORED = np.arange(80), np.arange(80, 100)
ALL_ROWS = TrainingRows(TRAINING, np.array([], np.int64))
INNER_ROWS = TrainingRows(TRAINING[:60], TRAINING[60:])
INNER = {"rule": "inner", "folds": 4, "patience": None}
CPU = choose_compute("cpu", "float32")


def start(config: ModelConfig) -> Classifier:
    """The network before its training."""
    torch.manual_seed(config.seed)
    mean, std = mean_and_std(IMAGES, TRAINING)
    return build_model(config.network, one_of(2), decoding_of(16), list(mean), list(std))


def train(
    tmp_path: Path,
    config: ModelConfig,
    rows: TrainingRows = ALL_ROWS,
    stop_after: int | None = None,
    threads: int = 1,
    cells: tuple[np.ndarray, np.ndarray] = (IMAGES, LABELS),
) -> tuple[Classifier, History]:
    """Train on the drawn cells; Ctrl-C after so many epochs, if asked for."""
    deterministic(threads)

    def on_epoch(history: History) -> None:
        if len(history) == stop_after:
            raise KeyboardInterrupt

    compute = choose_compute("cpu", config.precision)
    resumed = Checkpoint(tmp_path / "resume")
    return fit(start(config), *cells, rows, config, compute, resumed, on_epoch)


def accuracy(model: Classifier) -> float:
    """Share of the scored cells that the network sees as what they are."""
    found = predict(model, IMAGES, SCORED, CPU, tta=True).argmax(1)
    return float((found == LABELS[SCORED]).mean())


def same(one: Classifier, other: Classifier) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


ENGINES = pytest.mark.parametrize("engine", ["albumentations", "batched"])


@ENGINES
@pytest.mark.parametrize("name", ["vgg", "airbench", "resnet"])
def test_a_small_network_learns_the_dot(tmp_path: Path, name: str, engine: str) -> None:
    model, history = train(tmp_path, config_of(network=small(name), epochs=15, engine=engine))
    assert accuracy(model) >= 0.95
    assert history[-1]["loss"] < 0.2 < history[0]["loss"]


@ENGINES
def test_a_few_images_are_learned_to_near_zero_loss(tmp_path: Path, engine: str) -> None:
    config = config_of(network=small(), epochs=60, batch_size=8, engine=engine)
    _, history = train(tmp_path, config, TrainingRows(np.arange(8), ALL_ROWS.inner))
    assert history[-1]["loss"] < 0.02
    assert history[-1]["accuracy"] == 1.0


@ENGINES
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_two_runs_give_the_same_bits(tmp_path: Path, precision: str, engine: str) -> None:
    config = config_of(precision=precision, engine=engine)
    first, first_history = train(tmp_path / "1", config)
    second, second_history = train(tmp_path / "2", config)
    assert same(first, second)
    assert first_history == second_history


@ENGINES
def test_the_number_of_threads_is_the_parameters_and_not_the_machines(
    tmp_path: Path, engine: str
) -> None:
    config = config_of(engine=engine)
    found = []
    for number, of_machine in enumerate((1, 2)):
        torch.set_num_threads(of_machine)
        found.append(train(tmp_path / str(number), config, threads=2)[0])
    assert same(*found)
    assert torch.get_num_threads() == 2
    assert not same(found[0], train(tmp_path / "one", config, threads=1)[0])


MIXES = {
    "unmixed": None,
    "mixup": {"kind": "mixup", "alpha": 0.4, "p": 0.5},
    "cutmix": {"kind": "cutmix", "alpha": 1.0, "p": 0.5},
}


@ENGINES
@pytest.mark.parametrize(
    ("stop_after", "rule", "mix"),
    [(1, "last", "unmixed"), (2, "inner", "unmixed"), (1, "inner", "mixup"), (2, "last", "cutmix")],
)
def test_a_killed_run_goes_on_and_gives_the_bits_of_an_unbroken_one(
    tmp_path: Path, stop_after: int, rule: str, mix: str, engine: str
) -> None:
    epoch, rows = (INNER, INNER_ROWS) if rule == "inner" else ({"rule": "last"}, ALL_ROWS)
    config = config_of(engine=engine, mix=MIXES[mix], epoch=epoch)
    unbroken, unbroken_history = train(tmp_path / "unbroken", config, rows)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", config, rows, stop_after)
    resumed, resumed_history = train(tmp_path / "killed", config, rows)
    assert same(unbroken, resumed)
    assert unbroken_history == resumed_history


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """The compiler does not see through the tests' own checks of shapes (conftest.py)."""
    jaxtyping_config.update("jaxtyping_disable", True)
    torch.compiler.reset()
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
@ENGINES
def test_a_compiled_step_trains_as_the_plain_one_and_goes_on_bit_for_bit(
    tmp_path: Path, engine: str
) -> None:
    """Without dropout, whose numbers compiled code draws in another way."""
    plain, plain_history = train(tmp_path / "plain", config_of(network=small(), engine=engine))
    compiled_config = config_of(network=small(), engine=engine, compiled=True)
    compiled, compiled_history = train(tmp_path / "compiled", compiled_config)
    for before, after in zip(plain_history, compiled_history, strict=True):
        assert after == pytest.approx(before, rel=1e-4)
    assert list(compiled.state_dict()) == list(plain.state_dict())

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", compiled_config, stop_after=1)
    resumed, resumed_history = train(tmp_path / "killed", compiled_config)
    assert same(compiled, resumed)
    assert resumed_history == compiled_history


@pytest.mark.usefixtures("unchecked_shapes")
def test_each_batch_size_and_side_is_compiled_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As graphs alone, without code for them, which takes seconds each."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    sides = [8, 10, 12, 14, 16]
    config = config_of(
        network=small(stages=1), batch_size=12, epochs=5, sizes_px=sides, compiled=True,
        engine="batched",
    )  # fmt: skip
    steps = Steps(TRAINING, config)
    assert len({len(steps[step]) for step in range(len(steps))}) == 2
    _, history = train(tmp_path, config)
    assert len(history) == 5


@pytest.mark.usefixtures("unchecked_shapes")
def test_without_a_compiler_the_parameter_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "/no/compiler"))
    network = small("resnet", width=9, stages=1)
    # a network of this test alone: what was compiled once is taken from PyTorch's cache
    with pytest.raises(TrainError) as caught:
        train(tmp_path, config_of(network=network, compiled=True, epochs=1, warmup_epochs=0))
    message = str(caught.value)
    assert message.startswith("compiled: true: torch.compile failed: InductorError: InvalidCxxComp")
    assert message.endswith("on a GPU also Triton). Set compiled: false")


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    first, _ = train(tmp_path / "1", config_of(epochs=1, warmup_epochs=0))
    second, _ = train(tmp_path / "2", config_of(epochs=1, warmup_epochs=0, seed=4))
    assert not same(first, second)


def test_the_chosen_epoch_has_the_lowest_inner_loss(tmp_path: Path) -> None:
    model, history = train(tmp_path, config_of(epoch=INNER, epochs=6, lr=0.1), INNER_ROWS)
    best = min(row["inner_loss"] for row in history)
    chance = predict(model, IMAGES, INNER_ROWS.inner, CPU, tta=False)
    truth = LABELS[INNER_ROWS.inner]
    loss = -np.log(np.clip(chance[np.arange(20), truth], 1e-7, 1)).mean()
    assert loss == pytest.approx(best, rel=1e-6)
    assert len(history) == 6


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixtures_teach_to_distinguish_whole_images(tmp_path: Path, kind: str) -> None:
    """Their own loss cannot come near zero: the labels are shares."""
    config = config_of(epochs=20, mix={"kind": kind, "alpha": 1.0, "p": 1.0}, engine="batched")
    model, history = train(tmp_path, config)
    assert accuracy(model) >= 0.95
    assert 0.2 < history[-1]["loss"] < history[0]["loss"]


@ENGINES
def test_only_the_training_rows_can_change_the_weights(tmp_path: Path, engine: str) -> None:
    """The scored rows' images and labels are turned to noise: not a bit changes."""
    config = config_of(engine=engine)
    first, _ = train(tmp_path / "1", config)
    images, labels = IMAGES.copy(), LABELS.copy()
    images[SCORED] = 255 - IMAGES[SCORED]
    labels[SCORED] = 1 - LABELS[SCORED]
    second, _ = train(tmp_path / "2", config, cells=(images, labels))
    assert same(first, second)
    labels[0] = 1 - LABELS[0]
    third, _ = train(tmp_path / "3", config, cells=(images, labels))
    assert not same(first, third)


def test_a_loss_that_is_no_number_is_one_sentence(tmp_path: Path) -> None:
    config = config_of(lr=10.0, clip_norm=None, warmup_epochs=0, weight_decay=1e30)
    with pytest.raises(
        TrainError, match=r"the loss is (nan|inf) in epoch \d of 3: expected a fin"
    ) as caught:
        train(tmp_path, config)
    assert "Lower lr (now 10.0), or set precision: float32" in str(caught.value)


def test_each_image_is_seen_once_an_epoch_in_another_order() -> None:
    steps = Steps(TRAINING, config_of(batch_size=32))
    assert [len(steps[step]) for step in range(len(steps))] == [27, 27, 26] * 3
    orders = [
        np.concatenate([steps[3 * epoch + place] for place in range(3)]) for epoch in range(3)
    ]
    assert all(sorted(order) == list(TRAINING) for order in orders)
    assert len({order.tobytes() for order in orders}) == 3


def test_augmentation_leaves_the_stored_images_as_they_are() -> None:
    before = IMAGES.copy()
    augmented = Policy(POLICY, (16, 16, 3)).apply(IMAGES, seed=1)
    assert (before == IMAGES).all()
    assert (augmented != before).any()


FORM = "expected images of (16, 16, 3) uint8 to keep their form, found "
NORMALIZE: dict[str, Any] = {"op": "Normalize"}
FLIP: dict[str, Any] = {"op": "HorizontalFlip", "p": 0.5}
PAD = {"op": "PadIfNeeded", "min_height": 20, "min_width": 20, "p": 1.0}
CROP = {"op": "RandomCrop", "height": 16, "width": 16, "p": 1.0}


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([{"op": "HorizontalFlip", "p": 2.0}], "augment: HorizontalFlip: "),
        ([CROP | {"height": 8, "width": 8}], f"augment: RandomCrop: {FORM}(8, 8, 3) uint8. Networks"),
        ([{"op": "ToFloat", "p": 1.0}], f"augment: ToFloat: {FORM}(16, 16, 3) float32. Networks normalise"),
        *(([FLIP, NORMALIZE | {"p": p}, FLIP], f"augment: Normalize: {FORM}(16, 16, 3) float32") for p in (0.001, 0.3)),
        *(([NORMALIZE | {"p": p}], f"augment: Normalize: {FORM}(16, 16, 3) float32") for p in (0.001, 0.3, 1.0)),
        ([{"op": "ToTensorV2", "p": 0.01}], f"augment: ToTensorV2: {FORM}(3, 16, 16) torch.uint8"),
        ([{"op": "RandomScale", "p": 0.1, "scale_limit": 0.5}], f"augment: RandomScale: {FORM}("),
        ([PAD | {"p": 0.1}], f"augment: PadIfNeeded: {FORM}(20, 20, 3) uint8"),
        ([PAD, CROP | {"p": 0.9}], f"augment: PadIfNeeded: {FORM}(20, 20, 3) uint8"),
        ([{"op": "FromFloat", "p": 0.1}], f"augment: FromFloat: {FORM}(16, 16, 3) float16"),
        ([CROP | {"height": 32, "p": 0.01}], "augment: RandomCrop fails on an image of (16, 16, 3) uint8: CropSizeError: "),
    ],
)  # fmt: skip
def test_a_policy_that_can_change_an_images_form_is_named(
    items: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(TrainError) as caught:
        Policy(items, (16, 16, 3))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "items",
    [
        [PAD, CROP],
        [PAD | {"p": 0.5}, CROP],
        [{"op": "RandomScale", "p": 0.5}, {"op": "Resize", "height": 16, "width": 16}],
        [{"op": "ToFloat"}, FLIP, {"op": "FromFloat", "dtype": "uint8"}],
        [NORMALIZE | {"p": 0.0}],
    ],
)
def test_a_policy_may_change_the_form_in_between(items: list[dict[str, Any]]) -> None:
    assert Policy(items, (16, 16, 3)).apply(IMAGES, 1).shape == IMAGES.shape


@ENGINES
def test_an_operation_that_changes_the_form_later_stops_the_training_with_one_sentence(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no probe has shown, in a worker process or on the device."""
    engines = {
        "albumentations": ("albumentations.HorizontalFlip.apply", lambda _, image, **__: image / 2),
        "batched": ("pipeline.train.augment.damage.GaussianBlur.apply", lambda *_: torch.zeros(1)),
    }
    jaxtyping_config.update("jaxtyping_disable", True)
    monkeypatch.setattr("pipeline.train.augment.per_image._probe", lambda *_: None)
    monkeypatch.setattr(*engines[engine])
    items = [FLIP] if engine == "albumentations" else [{"op": "GaussianBlur"}]
    try:
        with pytest.raises(TrainError) as caught:
            train(tmp_path, config_of(engine=engine, augment=items))
    finally:
        jaxtyping_config.update("jaxtyping_disable", False)
    message = str(caught.value)
    assert message.startswith("augment: ")
    assert ("found (16, 16, 3) float64" in message) or ("found torch.float32 of (1,)" in message)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("rows", "batch_size", "sizes"),
    [
        (5, 2, [3, 2]), (3, 2, [3]), (4, 2, [2, 2]), (2, 2, [2]), (4, 3, [2, 2]), (7, 3, [3, 2, 2]),
        (65, 64, [33, 32]), (129, 64, [43, 43, 43]), (1, 2, [1]),
    ],
)  # fmt: skip
def test_no_image_is_alone_in_its_batch(rows: int, batch_size: int, sizes: list[int]) -> None:
    steps = Steps(np.arange(rows), config_of(batch_size=batch_size))
    assert [len(steps[step]) for step in range(steps.per_epoch)] == sizes


@ENGINES
def test_an_odd_image_over_trains_where_the_last_features_are_one_pixel(
    tmp_path: Path, engine: str
) -> None:
    """Batch normalisation raises where a channel has one value in all."""
    config = config_of(network=TIMM, batch_size=2, engine=engine, epochs=1, warmup_epochs=0)
    train(tmp_path, config, TrainingRows(np.arange(5), ALL_ROWS.inner))


@ENGINES
@pytest.mark.parametrize("images", [2, 3])
def test_two_or_three_images_train_where_the_last_features_are_one_pixel(
    tmp_path: Path, engine: str, images: int
) -> None:
    config = config_of(network=TIMM, batch_size=2, engine=engine, mix=MIXES["mixup"])
    _, history = train(tmp_path, config, TrainingRows(np.arange(images), ALL_ROWS.inner))
    assert len(history) == 3


@pytest.mark.parametrize("images", [0, 1])
def test_fewer_than_two_images_to_train_on_are_one_sentence(images: int) -> None:
    with pytest.raises(TrainError) as caught:
        TrainingRows(np.arange(images), ALL_ROWS.inner)
    assert str(caught.value) == (
        f"expected at least 2 rows to train on, found {images}: batch normalisation has no "
        "variance of one. Add some, or raise split.folds (and `folds` of `epoch: {rule: inner}`)"
        ", which leaves more to train on"
    )


def test_the_eight_symmetries_are_all_different_and_undo_each_other() -> None:
    image = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).view(2, 3, 4, 4)
    views = ImageKind().views(image)
    assert torch.equal(views[0], image)
    assert len({view.numpy().tobytes() for view in views}) == 8
    for view in views:
        assert any(torch.equal(image, back) for back in ImageKind().views(view))


def test_tta_makes_a_prediction_that_no_symmetry_changes() -> None:
    torch.manual_seed(0)
    model = build_model(config_of().network, one_of(2), decoding_of(16), [90.0] * 3, [20.0] * 3)
    turned = np.ascontiguousarray(np.rot90(IMAGES, axes=(1, 2))[:, :, ::-1])
    straight = predict(model, IMAGES, SCORED, CPU, tta=True)
    np.testing.assert_allclose(predict(model, turned, SCORED, CPU, tta=True), straight, atol=1e-6)
    assert abs(predict(model, turned, SCORED, CPU, tta=False) - straight).max() > 1e-4
    np.testing.assert_allclose(straight.sum(1), 1)


def test_mean_and_deviation_are_numpys() -> None:
    mean, std = mean_and_std(IMAGES, TRAINING)
    pixels = IMAGES[TRAINING].reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(mean, pixels.mean(0))
    np.testing.assert_allclose(std, pixels.std(0))


def test_the_rate_warms_up_to_the_peak_and_ends_near_zero() -> None:
    config = config_of(epochs=10, warmup_epochs=2.0, lr=0.5)
    rates = [learning_rate(config, step, 20) for step in range(200)]
    assert rates[0] == pytest.approx(0.5 / 41)
    assert max(rates) == rates[40] == 0.5
    assert rates[:41] == sorted(rates[:41])
    assert rates[40:] == sorted(rates[40:], reverse=True)
    assert rates[120] == pytest.approx(0.25)
    assert 0 < rates[-1] < 1e-3


def test_the_moving_average_is_that_of_the_weights() -> None:
    model, average = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(average.weight, 0.0)
    torch.nn.init.constant_(model.weight, 1.0)
    moving = MovingAverage(model, average, 0.5)
    moving.update(1000)
    moving.update(1000)
    assert average.weight.item() == 0.75
    moving.update(0)  # a young average forgets its start: its decay is 1 / 10
    assert average.weight.item() == pytest.approx(0.1 * 0.75 + 0.9)


def test_no_average_means_the_last_weights() -> None:
    model, average = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    model(torch.randn(8, 2) + 3)
    MovingAverage(model, average, 0.0).update(1)
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), average.state_dict().values(), strict=True)
    )


def test_a_weights_file_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    """The library's own metadata comes in a random order where it has several keys."""
    config = config_of()
    model = build_model(config.network, one_of(2), decoding_of(16), [0.0] * 3, [1.0] * 3)
    for number in range(8):
        save_model(tmp_path / str(number), model, described(config, ["0", "1"]))
    assert len({(tmp_path / str(number)).read_bytes() for number in range(8)}) == 1


def test_too_many_stages_for_the_image_are_refused() -> None:
    network = config_of(network=small(stages=5)).network
    with pytest.raises(
        TrainError, match=r"5 stages leave nothing of an image of 16 px.*size_px to 32"
    ):
        build_model(network, one_of(2), decoding_of(16), [0.0] * 3, [1.0] * 3)
    assert build_model(network, one_of(2), decoding_of(32), [0.0] * 3, [1.0] * 3)(
        torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    ).shape == (2, 2)


def test_a_device_that_is_not_there_is_named() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(TrainError, match=r"cuda is not available here \(available: cpu"):
            choose_compute("cuda", "auto")
    with pytest.raises(TrainError, match="float16 needs a GPU"):
        choose_compute("cpu", "float16")


def test_an_operation_that_a_gpu_cannot_repeat_is_named() -> None:
    deterministic(1)
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))  # the same check as on a GPU
    assert describe_indeterminism(caught.value) == (
        "put_ in this network gives other bits in each run on a GPU. Choose another network, or "
        "set train.device: cpu"
    )
    assert describe_indeterminism(RuntimeError("of another kind")) is None


def flip(content: bytearray, place: int) -> bytearray:
    content[place % len(content)] ^= 1 << place % 8
    return content


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Classifier]:
    """The folder of a run killed after two of three epochs, and the network of an unbroken one."""
    folder = tmp_path_factory.mktemp("killed")
    config = config_of(engine="batched")
    with pytest.raises(KeyboardInterrupt):
        train(folder, config, stop_after=2)
    return folder, train(folder / "unbroken", config)[0]


@pytest.mark.parametrize(
    "damage",
    [
        *(partial(flip, place=place) for place in (0, 40, 5_000, 31_013, -700, -1)),
        lambda content: content[:-1],
        lambda content: content[:20],
        lambda _: b"",
        lambda _: b"nonsense",
        lambda content: content + b"x",
    ],
)
def test_a_damaged_checkpoint_is_said_and_gives_the_bytes_of_an_unbroken_run(
    killed: tuple[Path, Classifier],
    tmp_path: Path,
    damage: Callable[[bytearray], bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "resume/checkpoint.pt"
    shutil.copytree(killed[0] / "resume", file.parent)
    file.write_bytes(damage(bytearray(file.read_bytes())))
    found, _ = train(tmp_path, config_of(engine="batched"))
    assert same(found, killed[1])
    said = f"{file}: damaged (another SHA-256): the training starts from its beginning\n"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("lost", ["model", "average", "optimizers", "history", "best"])
def test_a_checkpoint_without_a_part_is_one_sentence(tmp_path: Path, lost: str) -> None:
    checkpoint = Checkpoint(tmp_path / "resume")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, config_of(engine="batched"), stop_after=1)
    state = checkpoint.load(torch.device("cpu"))
    assert state is not None
    del state[lost]
    checkpoint.save(state)
    with pytest.raises(TrainError) as caught:
        train(tmp_path, config_of(engine="batched"))
    assert str(caught.value) == (
        f"{checkpoint.folder}: expected a state of this training, found another one (KeyError: "
        f"'{lost}'). Delete the folder to start from the beginning"
    )


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No process may write beyond so many bytes of a file, as with `ulimit -f`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoint, device = Checkpoint(tmp_path), torch.device("cpu")
    checkpoint.save({"weights": torch.zeros(9)})
    with largest_file(10_000), pytest.raises(DiskError, match="larger than this system allows"):
        checkpoint.save({"weights": torch.zeros(9_000)})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert len((checkpoint.load(device) or {})["weights"]) == 9


def test_weights_that_do_not_fit_on_the_disk_are_a_disk_error(tmp_path: Path) -> None:
    config = config_of()
    model = build_model(config.network, one_of(2), decoding_of(16), [0.0] * 3, [1.0] * 3)
    with (
        largest_file(10_000),
        pytest.raises(DiskError, match="larger than this system allows"),
        new_folder(tmp_path / "fold0") as folder,
    ):
        save_model(folder / "weights.safetensors", model, described(config, ["0", "1"]))
    assert not list(tmp_path.iterdir())


def no_shared_memory() -> AbstractContextManager[None]:
    return largest_file(4_000)


@contextmanager
def in_each_worker(then: Callable[[], None]) -> Iterator[None]:
    original = batches._start_worker

    def start(number: int) -> None:
        original(number)
        then()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "_start_worker", start)
        yield


def no_more_open_files() -> AbstractContextManager[None]:
    return in_each_worker(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)))


@contextmanager
def a_batch_that_cannot_be_sent() -> Iterator[None]:
    """A thread of the worker sends batches: Python only prints its errors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches.Batches, "__getitem__", lambda *_: Lock())
        yield


def a_killed_worker() -> AbstractContextManager[None]:
    return in_each_worker(lambda: os.kill(os.getpid(), signal.SIGKILL))


@contextmanager
def too_little_memory() -> Iterator[None]:
    def fail(*_: Any) -> None:
        np.empty(2**50)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Policy, "apply", fail)
        yield


LACK = "this machine ran out of memory or another resource: "
KILLED = "a loader process ended, killed by hand or by the system because memory ran out "
FULL = "/dev/shm is full, through which loader processes hand over their batches: "


@pytest.mark.parametrize(
    ("lack", "what", "reason"),
    [
        (no_shared_memory, LACK, "RuntimeError: unable to resize file "),
        (no_more_open_files, LACK, "RuntimeError: unable to open shared memory object"),
        (a_batch_that_cannot_be_sent, KILLED, "DataLoader worker (pid"),
        (a_killed_worker, KILLED, "DataLoader worker (pid"),
        (too_little_memory, LACK, "Unable to allocate 8.00 PiB for an array"),
    ],
)
def test_what_a_machine_lacks_ends_a_training_with_what_to_change(
    tmp_path: Path, lack: Callable[[], AbstractContextManager[None]], what: str, reason: str
) -> None:
    config = config_of(batch_size=64)
    started = time.monotonic()
    with lack(), pytest.raises((RuntimeError, MemoryError, OSError)) as caught:
        train(tmp_path, config)
    assert time.monotonic() - started < 30
    sentence = describe_shortage(caught.value, config)
    assert sentence is not None
    assert sentence.startswith(what)
    assert reason in sentence
    assert "lower batch_size (now 64), or set engine: batched, which has no loader" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the documentation",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_a_gpus_words_for_too_little_memory_are_a_shortage(text: str) -> None:
    sentence = describe_shortage(RuntimeError(text), config_of(batch_size=64))
    assert sentence is not None
    assert text.splitlines()[0].rstrip(".") in sentence
    assert "lower batch_size (now 64)" in sentence


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a bug"),
        RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nRuntimeError: a bug"),
        ImportError("no module"),
        OSError(errno.EIO, "Input/output error"),
        RuntimeError(),
    ],
)
def test_another_error_is_no_shortage(error: Exception) -> None:
    assert describe_shortage(error, config_of()) is None


PRIVATE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
"""A shell that may mount a /dev/shm of its own, which only it and its processes see."""


def may_mount() -> bool:
    mount = [*PRIVATE, "mount -t tmpfs tmpfs /dev/shm"]
    return bool(shutil.which("unshare")) and not subprocess.run(mount, check=False).returncode


@pytest.mark.slow
@pytest.mark.parametrize("full_kib", [20, 85, 88, 100])
def test_a_full_dev_shm_ends_the_command_with_one_sentence(
    trained: Path, tmp_path: Path, full_kib: int
) -> None:
    """Where a batch has no place, and where the loader's own locks have none."""
    if not may_mount():
        pytest.skip("this system lets no user mount a /dev/shm of his own")
    for name in ("data", "folds", "params.yaml"):
        (tmp_path / name).symlink_to(trained / name)
    command = (
        "mount -t tmpfs -o size=100k tmpfs /dev/shm; "
        f"head -c {full_kib}k /dev/zero > /dev/shm/full; {sys.executable} -m pipeline train two 0"
    )
    done = subprocess.run(
        [*PRIVATE, command], cwd=tmp_path, env={**environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"TrainError: params.yaml: train.models.two (fold 0): {FULL}")
    assert "set engine: batched" in last


@pytest.mark.slow
def test_a_killed_loader_process_ends_the_command_with_one_sentence(
    trained: Path, tmp_path: Path
) -> None:
    for name in ("data", "folds", "params.yaml"):
        (tmp_path / name).symlink_to(trained / name)
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "train", "two", "0"], cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    ) as command:  # fmt: skip
        assert command.stderr is not None
        assert command.stderr.readline().startswith("two fold 0: ")  # it starts nothing else now
        loaders: list[psutil.Process] = []
        while not loaders and command.poll() is None:
            loaders = psutil.Process(command.pid).children()
        loaders[0].kill()
        said = command.communicate(timeout=100)[1]
    assert command.returncode == 1
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith(f"TrainError: params.yaml: train.models.two (fold 0): {KILLED}")


def test_the_same_training_runs_once_and_the_second_names_the_first(tmp_path: Path) -> None:
    lock = tmp_path / ".resume/one-fold0.lock"
    code = (
        "import sys, time, pathlib\n"
        "from pipeline.train.checkpoint import hold_lock\n"
        "with hold_lock(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True); time.sleep(600)\n"
    )
    command = [sys.executable, "-c", code, str(lock)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        for _ in range(2):
            with pytest.raises(TrainError) as caught, hold_lock(lock):
                pass
            assert str(caught.value) == (
                f"the same training already runs, as process {first.pid} says in {lock}. Wait for "
                "it, or end it; then run the same command again"
            )
        first.kill()
    with hold_lock(lock):
        assert lock.read_text() == str(os.getpid())
    assert not lock.exists()


def test_the_checkpoints_key_changes_with_parameters_files_and_the_code_of_the_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = Path(checkpoint.__file__).parent
    shutil.copytree(code, tmp_path / "train", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(checkpoint, "__file__", str(tmp_path / "train/checkpoint.py"))
    inputs = tmp_path / "folds.csv"
    inputs.write_text("a")
    key = hash_of_inputs("p", [inputs])

    compiled = tmp_path / "train/augment/__pycache__/mix.cpython-311.pyc"
    compiled.parent.mkdir()
    compiled.write_text("an import makes it")
    assert hash_of_inputs("p", [inputs]) == key

    changed = {hash_of_inputs("q", [inputs])}
    for path in (inputs, tmp_path / "train/fit.py", tmp_path / "train/augment/mix.py"):
        before = path.read_text()
        path.write_text(before + "#")
        changed.add(hash_of_inputs("p", [inputs]))
        path.write_text(before)
    assert len(changed | {key}) == 5
    assert hash_of_inputs("p", [inputs]) == key


VGG = {"family": "small", "name": "vgg", "width": 4, "stages": 3, "dropout": 0.1}
TIMM = {
    "family": "timm",
    "name": "test_resnet",
    "pretrained": False,
    "weights": None,
    "dropout": 0.1,
    "drop_path": None,
}


@pytest.mark.parametrize("network", [VGG, VGG | {"name": "resnet", "stages": 2}, TIMM])
def test_a_network_comes_back_from_its_file_with_its_classes_and_the_same_bits(
    tmp_path: Path, network: dict[str, Any]
) -> None:
    config = config_of(network=network)
    model = build_model(
        config.network, one_of(3), decoding_of(32), [100.0, 110.0, 120.0], [50.0, 60.0, 70.0]
    )
    model(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8))  # moves the running means
    save_model(tmp_path / "kept.safetensors", model, described(config, ["a", "b", "007"]))
    again, description = load_model(tmp_path / "kept.safetensors")
    assert description == described(config, ["a", "b", "007"])
    assert not again.training
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(again(images), model.eval()(images))


@pytest.mark.parametrize(
    "start", [{"pretrained": True}, {"weights": {"file": "gone.safetensors", "sha256": "0" * 64}}]
)
def test_a_network_that_began_from_fetched_weights_needs_none_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: dict[str, Any]
) -> None:
    model = build_model(
        config_of(network=TIMM).network, one_of(2), decoding_of(32), [0.0] * 3, [1.0] * 3
    )
    description = described(config_of(network=TIMM | start), ["0", "1"])
    save_model(tmp_path / "kept.safetensors", model, description)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    load_model(tmp_path / "kept.safetensors")


def test_a_file_that_is_no_network_of_this_pipeline_is_refused_by_name(tmp_path: Path) -> None:
    config, path = config_of(network=VGG), tmp_path / "some.safetensors"
    description = described(config, ["0", "1"])
    save_model(
        path,
        build_model(config.network, one_of(2), decoding_of(16), [0.0] * 3, [1.0] * 3),
        description,
    )
    whole, tensors = path.read_bytes(), load_file(path)
    expected = f"{path}: expected a network of this pipeline, found "

    def refused() -> str:
        with pytest.raises(TrainError) as caught:
            load_model(path)
        return str(caught.value)

    path.unlink()
    assert refused() == f"{path}: no such file. Run: dvc repro"
    for content in (b"no weights at all", whole[:-10]):
        path.write_bytes(content)
        assert refused().startswith(f"{expected}no safetensors file: ")
    save_file(tensors, path, {"format": "pt"})
    assert refused() == (
        f"{expected}another network's weights (metadata: format). Train it again: dvc repro"
    )
    wider = description.model_dump() | {"network": VGG | {"width": 8}}
    older = {"network": VGG, "classes": ["0", "1"]}
    for other, message in (
        ({}, "an unknown description (metadata: model)"),
        (older, "an unknown description (metadata: model)"),
        (wider | {"more": 1}, "an unknown description (metadata: model)"),
        (wider, "tensors that are not of vgg: "),
    ):
        save_file(tensors, path, {"model": json.dumps(other)})
        assert refused().startswith(f"{expected}{message}")


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "gone": lambda _: None,
    "empty": lambda _: b"",
    "cut": lambda whole: whole[: len(whole) // 2],
    "random": lambda whole: np.random.default_rng(0).bytes(len(whole)),
}
STORE = [f"data/store/{name}" for name in ("train.npy", "test.npy", "train.csv", "test.csv")]
TABLES = [*STORE, "data/store/competition.json", "folds/folds.csv"]
READ = {
    "train": [*TABLES, "data/store/decoding.json"],
    "ensemble": [
        *TABLES,
        *(f"models/two/fold1/{name}" for name in ("weights.safetensors", "oof.csv", "test.csv")),
        "data/store/sample_submission.csv",
    ],
    "predict": ["models/two/fold1/weights.safetensors", "submissions/tiny.json"],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", READ)
def test_a_damaged_file_is_named_by_what_reads_it(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("data/store", "folds", "models", "submissions"):
        shutil.copytree(trained / name, name)
    shutil.copy(trained / "params.yaml", "params.yaml")
    (tmp_path / "new").mkdir()
    config = read_config(Path("params.yaml"))
    run: dict[str, Callable[[], None]] = {
        "train": lambda: stage.run(config.train, "one", 0),
        "ensemble": lambda: ensemble.run(config.ensemble, ["one", "two"], [0, 1]),
        "predict": lambda: predict_command.run(config, tmp_path / "new", tmp_path / "new.csv"),
    }
    outputs = digests(tmp_path, "models/**/*.*", "submissions/*")
    for name in READ[command]:
        file, whole = Path(name), Path(name).read_bytes()
        for damage, change in DAMAGES.items():
            damaged = change(whole)
            file.unlink() if damaged is None else file.write_bytes(damaged)
            with pytest.raises(PipelineError) as caught:
                run[command]()
            named = name, name.replace(".csv", ".npy")  # a table with too few rows for its array
            assert any(each in str(caught.value) for each in named), (damage, str(caught.value))
        file.write_bytes(whole)
    assert digests(tmp_path, "models/**/*.*", "submissions/*") == outputs
