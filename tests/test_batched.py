"""The batched engine: each operation does what its arguments say, as albumentations does."""

import inspect
import subprocess
import sys
from typing import Any

import albumentations
import cv2
import numpy as np
import pytest
import torch
from project import ROOT
from pydantic import ValidationError
from ruamel.yaml import YAML
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.core.errors import TrainError
from pipeline.train.augment import signal
from pipeline.train.augment.batched import OPERATIONS, BatchedPolicy
from pipeline.train.augment.mix import mix
from pipeline.train.augment.names import operations
from pipeline.train.augment.per_image import Policy
from pipeline.train.batches import Feed
from pipeline.train.config import Mix, ModelConfig
from pipeline.train.transfer import choose_residence, read_steps

SIDE = 32
SAMPLES = 800
CHANCE = 1e-4
"""That a test of equal distributions fails by chance, if its seed were not fixed."""


def drawn_image() -> np.ndarray:
    """Coloured slopes in a round picture, and a red spot: no symmetry, all hues but few greys."""
    y, x = np.mgrid[:SIDE, :SIDE]
    image = np.stack([90 + 3 * x, 60 + 2 * y, 140 - 1.5 * x + y], axis=2)
    image[(x - 11) ** 2 + (y - 14) ** 2 < 9] = [210, 60, 50]
    image[(x - 15.5) ** 2 + (y - 15.5) ** 2 > 190] *= 0.15
    return image.clip(0, 255).astype(np.uint8)


IMAGE = drawn_image()


def batch_of(images: np.ndarray) -> torch.Tensor:
    """Stored images as the feed gives them to a policy."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def augmented(items: list[dict[str, Any]], copies: int = SAMPLES, seed: int = 2) -> np.ndarray:
    """IMAGE augmented by the batched engine: (copies, 3, SIDE, SIDE)."""
    images = batch_of(np.repeat(IMAGE[None], copies, axis=0))
    return BatchedPolicy(items).apply(images, seed).numpy()


def by_albumentations(items: list[dict[str, Any]], copies: int = SAMPLES) -> np.ndarray:
    """The same by the other engine."""
    images = np.repeat(IMAGE[None], copies, axis=0)
    return Policy(items, (SIDE, SIDE, 3)).apply(images, 1).transpose(0, 3, 1, 2).astype(np.float32)


def op(name: str, **arguments: Any) -> dict[str, Any]:
    return {"op": name, **arguments}


def profile_model(name: str) -> dict[str, Any]:
    """The model `vgg` of a profile."""
    text = (ROOT / "profiles" / f"{name}.yaml").read_text()
    model: dict[str, Any] = YAML(typ="safe").load(text)["train"]["models"]["vgg"]
    return model


def profile_policy(name: str) -> list[dict[str, Any]]:
    policy: list[dict[str, Any]] = profile_model(name)["augment"]
    return policy


RANDOM: list[list[dict[str, Any]]] = [
    [op("HorizontalFlip")],
    [op("VerticalFlip", p=0.3)],
    [op("Transpose")],
    [op("RandomRotate90")],
    [op("D4")],
    [op("SquareSymmetry", p=0.5)],
    [op("Affine", scale=[0.7, 1.3], rotate=[-40, 70], p=1.0)],
    [op("Affine", scale={"x": [0.8, 1.0], "y": [0.5, 2.0]}, rotate=[10, 30])],
    [op("Affine", scale=[0.5, 2.0], keep_ratio=True, p=1.0)],
    [op("Affine", translate_percent=[-0.2, 0.1], shear=[-20, 10], p=0.7)],
    [op("Affine", translate_percent={"x": [-0.1, 0.3], "y": 0}, shear={"x": [-30, 20], "y": 5}, p=1.0)],
    [op("ColorJitter")],
    [op("ColorJitter", brightness=0.3, contrast=0.5, saturation=0.9, hue=0.1, p=1.0)],
    [op("ColorJitter", brightness=[1, 1], contrast=[0.5, 0.7], saturation=[0, 0.5], hue=[-0.5, 0.5], p=1.0)],
    [op("RandomBrightnessContrast")],
    [op("RandomBrightnessContrast", brightness_limit=0.5, contrast_limit=[-0.5, 0.1])],
    [op("GaussianBlur")],
    [op("GaussianBlur", blur_limit=[3, 9], sigma_limit=2.0, p=1.0)],
    [op("GaussNoise")],
    [op("GaussNoise", std_range=[0.05, 0.1], mean_range=[-0.1, 0.2], per_channel=False, p=1.0)],
    [op("CoarseDropout")],
    [op("CoarseDropout", num_holes_range=[2, 5], hole_height_range=[0.1, 0.2], hole_width_range=[0.1, 0.4], fill=[10, 200, 30], p=1.0)],
    profile_policy("malaria-best"),
    profile_policy("chest-xray"),
]  # fmt: skip


def names(items: list[dict[str, Any]]) -> str:
    return "-".join(item["op"] for item in items)


RULERS = {
    "brightness": 2.0, "deviation": 1.0, "red": 2.0, "green": 2.0, "blue": 2.0, "saturation": 0.02,
    "hue": 0.01, "spot_x": 0.15, "spot_y": 0.15, "steps": 0.6, "black": 0.01,
}  # fmt: skip
"""By how much each summary may differ: albumentations rounds down to whole grey levels and hues
after each part of an operation, and clips there."""


def summaries(images: np.ndarray) -> dict[str, np.ndarray]:
    """Properties of each image that can be seen, each as one number."""
    red, green, blue = (images[:, channel].mean((1, 2)) for channel in range(3))
    most, least = images.max(1), images.min(1)
    redness = np.clip(images[:, 0] - images[:, 1] - 0.7 * images[:, 2], 0, None) ** 2 + 1e-3
    y, x = np.mgrid[:SIDE, :SIDE]
    whole = redness.sum((1, 2))
    return {
        "brightness": images.mean((1, 2, 3)),
        "deviation": images.std((1, 2, 3)),
        "red": red,
        "green": green,
        "blue": blue,
        "saturation": (most - least).mean((1, 2)) / np.maximum(most.mean((1, 2)), 1),
        "hue": np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue) / (2 * np.pi),
        "spot_x": (redness * x).sum((1, 2)) / whole,
        "spot_y": (redness * y).sum((1, 2)) / whole,
        "steps": np.abs(np.diff(images, axis=3)).mean((1, 2, 3)),
        "black": (most < 0.5).mean((1, 2)),
    }


@pytest.mark.parametrize("items", RANDOM, ids=names)
def test_a_policy_has_albumentations_distribution_of_every_summary(
    items: list[dict[str, Any]],
) -> None:
    """Two one-sided Kolmogorov–Smirnov tests a summary, each shifted by its ruler."""
    ours, theirs = summaries(augmented(items)), summaries(by_albumentations(items))
    for name, ruler in RULERS.items():
        above = stats.ks_2samp(ours[name], theirs[name] + ruler, alternative="less")
        below = stats.ks_2samp(ours[name], theirs[name] - ruler, alternative="greater")
        assert min(above.pvalue, below.pvalue) > CHANCE, (name, above, below)


FIXED: list[dict[str, Any]] = [
    op("HorizontalFlip", p=1.0),
    op("VerticalFlip", p=1.0),
    op("Transpose", p=1.0),
    op("Affine", p=1.0),
    op("Affine", scale=0.8, rotate=30, shear={"x": 20, "y": 0}, p=1.0),
    op("Affine", scale={"x": 1.2, "y": 1}, rotate=-100, shear={"x": 1, "y": -10}, p=1.0),
    op("Affine", shear=15, translate_percent=0.11, p=1.0),
    op("ColorJitter", brightness=[0.7, 0.7], contrast=0, saturation=0, hue=0, p=1.0),
    op("ColorJitter", brightness=0, contrast=[1.3, 1.3], saturation=0, hue=0, p=1.0),
    op("ColorJitter", brightness=0, contrast=0, saturation=[1.5, 1.5], hue=0, p=1.0),
    op("ColorJitter", brightness=[0.7, 0.7], contrast=[0.6, 0.6], saturation=[1.3, 1.3], hue=0, p=1.0),
    op("RandomBrightnessContrast", brightness_limit=[0.1, 0.1], contrast_limit=[-0.3, -0.3], p=1.0),
    op("GaussianBlur", sigma_limit=[1.3, 1.3], p=1.0),
    op("GaussianBlur", sigma_limit=[20, 20], p=1.0),
    op("GaussianBlur", sigma_limit=[3, 3], blur_limit=[4, 4], p=1.0),
]  # fmt: skip


@pytest.mark.parametrize("item", FIXED, ids=str)
def test_without_chance_an_operation_gives_albumentations_pixels(item: dict[str, Any]) -> None:
    """To three grey levels of rounding, one on average."""
    off = np.abs(augmented([item], 2) - by_albumentations([item], 1))
    assert off.max() <= 3
    assert off.mean() <= 1


def test_a_hue_turns_as_in_opencv_on_every_colour() -> None:
    """At full precision: OpenCV's own float32 HSV."""
    colours = np.random.default_rng(0).integers(0, 256, (60, SIDE, SIDE, 3), dtype=np.uint8)
    colours[:, ::3] //= 16
    colours[:, 5, :, :] = colours[:, 5, :, :1]
    for turn in (-0.5, -0.4, -1 / 3, -0.1, 0.0997, 1 / 6, 0.25, 0.5):
        item = op("ColorJitter", brightness=0, contrast=0, saturation=0, hue=[turn, turn], p=1.0)
        turned = BatchedPolicy([item]).apply(batch_of(colours), 0).numpy()
        for image, ours in zip(colours, turned, strict=True):
            hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
            hsv[..., 0] = (hsv[..., 0] + 2 * np.floor(180 * turn)) % 360
            expected = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255
            np.testing.assert_allclose(ours.transpose(1, 2, 0), expected, atol=0.02)


def test_holes_have_the_number_the_sides_and_the_colour_that_are_asked_for() -> None:
    item = op(
        "CoarseDropout", num_holes_range=[1, 1], hole_height_range=[0.25, 0.5],
        hole_width_range=[0.125, 0.125], fill=[1, 2, 3], p=1.0,
    )  # fmt: skip
    seen = set()
    for image in augmented([item], 300):
        hole = (image == np.array([1, 2, 3])[:, None, None]).all(0)
        height, width = hole.any(1).sum(), hole.any(0).sum()
        assert hole.sum() == height * width  # a rectangle
        assert (image == IMAGE.transpose(2, 0, 1))[:, ~hole].all()
        assert width == SIDE // 8
        seen.add(int(height))
    assert seen == set(range(SIDE // 4, SIDE // 2))


def test_noise_is_drawn_anew_for_each_image_and_seed() -> None:
    item = op("GaussNoise", std_range=[0.1, 0.1], p=1.0)
    images = [*augmented([item], 2, seed=1), *augmented([item], 2, seed=2)]
    assert len({image.tobytes() for image in images}) == 4


def symmetries(image: np.ndarray) -> list[np.ndarray]:
    """The eight symmetries of a (3, side, side) image."""
    turned = [np.rot90(image, turns, (1, 2)) for turns in range(4)]
    return [*turned, *(view[:, :, ::-1] for view in turned)]


@pytest.mark.parametrize("side", [2, 31, 50, 64])
@pytest.mark.parametrize("sampled", [False, True], ids=["picked", "sampled"])
def test_flips_and_turns_are_exact(side: int, sampled: bool) -> None:
    """To the bit where they stand alone, after rounding beside an Affine."""
    image = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    items = [op("SquareSymmetry"), op("HorizontalFlip"), op("RandomRotate90", p=0.5)]
    items += [op("Affine", rotate=30, p=0.0)] if sampled else []
    found = BatchedPolicy(items).apply(batch_of(np.repeat(image[None], 400, axis=0)), 0)
    exact = [view.astype(np.float32) for view in symmetries(image.transpose(2, 0, 1))]
    values = (found.round() if sampled else found).numpy()
    counts = [sum((value == view).all() for value in values) for view in exact]
    assert sum(counts) == 400 or side == 2
    assert stats.chisquare(counts).pvalue > CHANCE or side == 2
    np.testing.assert_allclose(found.numpy(), values, atol=1e-2)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_symmetries_in_a_row_are_applied_in_their_order(count: int) -> None:
    items = [op("Transpose", p=1.0), op("HorizontalFlip", p=1.0), op("Transpose", p=1.0)][:count]
    expected = IMAGE.transpose(2, 0, 1)
    for step in ("Transpose", "HorizontalFlip", "Transpose")[:count]:
        expected = expected.transpose(0, 2, 1) if step == "Transpose" else expected[:, :, ::-1]
    assert (augmented(items, 1)[0] == expected).all()


def test_maps_in_a_row_are_one_map() -> None:
    """A turn and its opposite lose nothing, not even the corners."""
    items = [
        op("Affine", rotate=40, p=1.0),
        op("VerticalFlip", p=1.0),
        op("Affine", rotate=40, p=1.0),
    ]
    expected = IMAGE.transpose(2, 0, 1)[:, ::-1]
    np.testing.assert_allclose(augmented(items, 1)[0], expected, atol=1e-2)
    shifts = [op("Affine", translate_percent=share, p=1.0) for share in (0.6, -0.6)]
    np.testing.assert_allclose(augmented(shifts, 1)[0], IMAGE.transpose(2, 0, 1), atol=1e-2)


EVERYTHING = [items for items in RANDOM if len(items) == 1] + [
    [each for items in RANDOM for each in items]
]


@pytest.mark.parametrize("items", EVERYTHING, ids=lambda items: names(items)[:60])
def test_a_seed_gives_the_same_bytes_on_any_number_of_threads(items: list[dict[str, Any]]) -> None:
    images = batch_of(
        np.random.default_rng(2).integers(0, 256, (33, SIDE, SIDE, 3), dtype=np.uint8)
    )
    policy = BatchedPolicy(items)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        first = policy.apply(images, 5)
        torch.set_num_threads(2)
        second = BatchedPolicy(items).apply(images, 5)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(first, second)
    assert torch.equal(first, policy.apply(images.contiguous(), 5))
    assert not torch.equal(first, policy.apply(images, 6))
    assert first.dtype == torch.float32
    assert first.shape == images.shape
    assert first.min() >= 0
    assert first.max() <= 255 + 1e-3


def test_each_image_of_a_batch_draws_its_own() -> None:
    items = profile_policy("malaria-best")
    for item in items:
        item["p"] = 1.0
    assert len({image.tobytes() for image in augmented(items, 64)}) == 64


def test_without_operations_the_images_stay() -> None:
    assert (augmented([], 3) == IMAGE.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_p_leaves_out_stays(name: str) -> None:
    off = augmented([op(name, p=0.0)], 2) - IMAGE.transpose(2, 0, 1)
    assert np.abs(off).max() < 1e-2


@pytest.mark.parametrize("name", OPERATIONS)
def test_arguments_and_defaults_are_albumentations(name: str) -> None:
    theirs = inspect.signature(getattr(albumentations, name)).parameters
    ours = OPERATIONS[name]
    assert set(ours.model_fields) == set(operations()[name]["batched"]) <= set(theirs)
    assert ours(**{field: theirs[field].default for field in ours.model_fields}) == ours()


def test_each_operation_of_albumentations_is_known_with_its_arguments() -> None:
    abstract = {"BasicTransform", "DualTransform", "ImageOnlyTransform", "Transform3D"}
    theirs: dict[str, list[str] | None] = {}
    for name, found in vars(albumentations).items():
        if isinstance(found, type) and issubclass(found, albumentations.BaseCompose):
            theirs[name] = None
        elif isinstance(found, type) and issubclass(found, albumentations.BasicTransform):
            theirs[name] = list(inspect.signature(found).parameters)
    ours = {
        name: known and known["albumentations"]
        for name, known in operations().items()
        if not known or "signals" not in known
    }
    assert ours == {name: theirs[name] for name in theirs.keys() - abstract - {"BaseCompose"}}
    batched = {name for name, known in operations().items() if known and "batched" in known}
    assert batched == OPERATIONS.keys()
    signals = {name: known["signals"] for name, known in operations().items() if name not in theirs}
    fields = {name: [*[*each.model_fields][1:], "p"] for name, each in signal.OPERATIONS.items()}
    assert signals == fields


ON_GREY = [
    *(
        op(name, p=0.7)
        for name in OPERATIONS
        if name not in ("Affine", "ColorJitter", "GaussNoise")
    ),
    op("Affine", rotate=[-30, 30], p=0.7),
    op("GaussNoise", per_channel=False),
    op("ColorJitter", hue=0.0, p=1.0),
    op("ColorJitter", p=1.0),
    op("CoarseDropout", fill=[10, 10, 10], p=1.0),
]


@pytest.mark.parametrize("item", ON_GREY, ids=str)
def test_grey_in_one_channel_becomes_what_three_equal_channels_become(item: dict[str, Any]) -> None:
    grey = np.repeat(IMAGE[None, ..., :1], 40, axis=0)
    one = BatchedPolicy([item]).apply(batch_of(grey), 3)
    three = BatchedPolicy([item]).apply(batch_of(np.repeat(grey, 3, axis=3)), 3)
    assert one.shape == (40, 1, SIDE, SIDE)
    assert not torch.equal(one, batch_of(grey))
    torch.testing.assert_close(one.expand_as(three), three, rtol=0, atol=1e-3)


@pytest.mark.parametrize("item", [
    op("SquareSymmetry"), op("Affine", rotate=[-20, 20]), op("GaussianBlur"), op("GaussNoise"),
    op("RandomBrightnessContrast"), op("CoarseDropout"), op("ColorJitter", hue=0.0),
], ids=str)  # fmt: skip
def test_albumentations_keeps_grey_in_one_channel(item: dict[str, Any]) -> None:
    grey = np.repeat(IMAGE[None, ..., :1], 4, axis=0)
    changed = Policy([item | {"p": 1.0}], grey.shape[1:]).apply(grey, 1)
    assert changed.shape == grey.shape
    assert not np.array_equal(changed, grey)


@pytest.mark.parametrize("name", ["ISONoise", "ChannelDropout"])
def test_an_operation_that_refuses_grey_is_named_before_the_first_epoch(name: str) -> None:
    Policy([op(name, p=0.1)], (SIDE, SIDE, 3))
    with pytest.raises(
        TrainError, match=rf"augment: {name} fails .*\(32, 32, 1\).* set prepare.channels: 3$"
    ):
        Policy([op(name, p=0.1)], (SIDE, SIDE, 1))


REFUSED = [
    (op("GridDistortion"), "the batched engine has no operation 'GridDistortion' (it has Affine, CoarseDropout, ColorJitter, D4, GaussNoise, GaussianBlur, HorizontalFlip, RandomBrightnessContrast, RandomRotate90, SquareSymmetry, Transpose, VerticalFlip)"),
    (op("Affine", border_mode=4), "Affine: the batched engine has no argument 'border_mode' (it has scale, translate_percent, rotate, shear, keep_ratio, p)"),
    (op("GaussNoise", noise_scale_factor=0.5), "GaussNoise: the batched engine has no argument 'noise_scale_factor' (it has std_range, mean_range, per_channel, p)"),
]  # fmt: skip


@pytest.mark.parametrize(("item", "message"), REFUSED, ids=str)
def test_what_this_engine_lacks_is_refused_with_what_it_has_and_the_name_of_the_other(
    item: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        config_of(augment=[op("HorizontalFlip"), item])
    assert f"augment: item 1: {message}: set engine: albumentations" in str(caught.value)


MISTAKES = [
    (op("HorizontalFlip", p=2.0), "HorizontalFlip: p: expected less than or equal to 1, found 2.0"),
    (op("HorizontalFlip", p="1"), "HorizontalFlip: p: expected a valid number, found '1'"),
    (op("Affine", rotate="x"), "Affine: rotate: expected a number or [low, high], found 'x'"),
    (op("Affine", rotate=[1, 2, 3]), "Affine: rotate: expected a number or [low, high], found (1, 2, 3)"),
    (op("Affine", rotate=[30, 10]), "Affine: rotate: expected low ≤ high, found [30, 10]"),
    (op("Affine", scale={"x": 1}), "Affine: scale: expected the keys x and y, found x"),
    (op("Affine", scale=[0, 1]), "Affine: scale: expected low ≤ high, 0.01 or more, found [0, 1]"),
    (op("Affine", scale={"x": [1, 2], "y": 1}, keep_ratio=True), "Affine: keep_ratio: expected one range for both axes, found ((1, 2), (1, 1))"),
    (op("ColorJitter", hue=0.7), "ColorJitter: hue: expected low ≤ high, from -0.5 to 0.5, found [-0.7, 0.7]"),
    (op("ColorJitter", brightness=[1.2, 0.8]), "ColorJitter: brightness: expected low ≤ high, 0 or more, found [1.2, 0.8]"),
    (op("GaussianBlur", blur_limit=[1.5, 3]), "GaussianBlur: blur_limit: expected a valid integer, found 1.5"),
    (op("GaussNoise", std_range=0.2), "GaussNoise: std_range: expected [low, high], found 0.2"),
    (op("CoarseDropout", hole_height_range=[4, 9]), "CoarseDropout: hole_height_range: expected low ≤ high, from 0 to 0.99, found [4, 9]"),
    (op("CoarseDropout", num_holes_range=[0, 2]), "CoarseDropout: num_holes_range: expected low ≤ high, 1 or more, found [0, 2]"),
    (op("CoarseDropout", fill="random"), "CoarseDropout: fill: expected a valid tuple, found 'random'"),
    (op("CoarseDropout", fill=300), "CoarseDropout: fill: expected less than or equal to 255, found 300"),
]  # fmt: skip


@pytest.mark.parametrize(("item", "message"), MISTAKES, ids=str)
def test_a_wrong_value_is_named(item: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainError) as caught:
        BatchedPolicy([item])
    assert str(caught.value) == f"augment: {message}"


def mix_of(**changes: Any) -> Mix:
    return Mix.model_validate({"kind": "mixup", "alpha": 0.4, "p": 1.0} | changes)


def test_a_mixup_has_the_shares_of_its_label() -> None:
    levels = np.arange(64, dtype=np.uint8) * 4
    images = batch_of(np.broadcast_to(levels[:, None, None, None], (64, 8, 8, 3)).copy())
    mixed, targets = mix(images, torch.eye(64), mix_of(), 0)
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    expected = targets @ torch.from_numpy(levels).float()
    np.testing.assert_allclose(mixed, expected.view(-1, 1, 1, 1).expand(64, 3, 8, 8), atol=1e-3)
    assert ((targets > 0).sum(1) == 2).sum() > 50


def test_a_cutmix_has_the_shares_of_its_label_to_the_pixel() -> None:
    levels = np.arange(64, dtype=np.uint8)
    images = batch_of(np.broadcast_to(levels[:, None, None, None], (64, 24, 24, 3)).copy())
    mixed, targets = mix(images, torch.eye(64), mix_of(kind="cutmix", alpha=1.0), 0)
    for image, target in zip(mixed, targets, strict=True):
        counts = np.bincount(image[0].long().flatten(), minlength=64)
        np.testing.assert_allclose(target, counts / 24**2, atol=1e-6)
        assert (image[0] == image[1]).all()
        others = np.argwhere(image[0].numpy() != np.bincount(counts).argmax())
        assert len(others) > 0
    assert ((targets > 0).sum(1) == 2).sum() > 40


def own_shares(config: Mix, batch: int) -> np.ndarray:
    """The share that each image of some batches keeps of itself."""
    images = torch.zeros((batch, 3, 16, 16))
    own = torch.cat(
        [mix(images, torch.eye(batch), config, seed)[1].diagonal() for seed in range(8)]
    )
    return own.numpy()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_a_mixups_shares_are_drawn_from_beta(alpha: float) -> None:
    shares = own_shares(mix_of(alpha=alpha), 250)
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > CHANCE


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_an_image_is_mixed_with_chance_p(kind: str) -> None:
    shares = own_shares(mix_of(kind=kind, alpha=4.0, p=0.3), 250)
    assert stats.binomtest(int((shares < 1).sum()), len(shares), 0.3 * 0.99).pvalue > CHANCE
    assert (own_shares(mix_of(kind=kind, p=0.0), 20) == 1).all()


def test_a_cutmix_box_is_as_large_as_drawn_and_lies_anywhere() -> None:
    images = torch.arange(200.0).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    mixed, targets = mix(images, torch.eye(200), mix_of(kind="cutmix", alpha=1.0), 3)
    foreign = (mixed[:, 0] != images[:, 0]).float()
    assert foreign.mean(0).min() > 0.1
    rows, columns = foreign.amax(2).sum(1), foreign.amax(1).sum(1)
    np.testing.assert_array_equal(foreign.sum((1, 2)), rows * columns)
    assert targets.diagonal().mean() == pytest.approx(1 - float(foreign.mean()), abs=1e-4)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_mix_draws_by_its_seed_and_leaves_its_arguments(kind: str) -> None:
    images = batch_of(np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8))
    before, targets = images.clone(), torch.eye(16)
    first, second, other = (mix(images, targets, mix_of(kind=kind), seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], other[0])
    assert torch.equal(images, before)
    assert torch.equal(targets, torch.eye(16))


def config_of(**changes: Any) -> ModelConfig:
    values = profile_model("synthetic") | {"epochs": 3, "batch_size": 16, "engine": "batched"}
    return ModelConfig.model_validate(values | changes)


STORED = np.random.default_rng(3).integers(0, 256, (90, SIDE, SIDE, 3), dtype=np.uint8)
STORED[:, 0, 0, 0] = np.arange(90)
CLASSES = np.arange(90) % 3
TRAINING = np.arange(5, 85)


def feed_of(**changes: Any) -> Feed:
    return Feed(STORED, CLASSES, TRAINING, config_of(**changes), torch.device("cpu"))


def test_both_engines_see_the_same_images_in_the_same_order() -> None:
    feeds = [feed_of(engine=engine, augment=[]) for engine in ("batched", "albumentations")]
    assert len(feeds[0]) == len(feeds[1]) == 15
    for (images, labels), (others, other_labels) in zip(
        feeds[0].batches(4), feeds[1].batches(4), strict=True
    ):
        assert torch.equal(images, others.float())
        assert torch.equal(labels, other_labels)
        assert (images[:, 0, 0, 0].long() % 3 == labels).all()


@pytest.mark.parametrize("engine", ["batched", "albumentations"])
def test_a_batch_depends_on_its_number_alone(engine: str) -> None:
    feed = feed_of(engine=engine, mix={"kind": "cutmix", "alpha": 1.0, "p": 0.5})
    whole, later = list(feed.batches(0)), list(feed.batches(9))
    assert len(whole) == 15
    for batch, again in zip(whole[9:], later, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(batch, again, strict=True))
    assert not torch.equal(whole[0][0], whole[1][0])


@pytest.mark.parametrize("engine", ["batched", "albumentations"])
def test_mixtures_have_a_share_for_each_class(engine: str) -> None:
    feed = feed_of(engine=engine, mix={"kind": "mixup", "alpha": 1.0, "p": 1.0})
    seen = set()
    for images, targets in feed.batches(10):
        assert targets.shape == (len(images), 3)
        np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
        seen |= {round(float(share), 5) for share in targets.amax(1) if share < 1}
    assert len(seen) > 32  # each step draws anew


class Called(TorchDispatchMode):
    """The names of the operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_nothing_waits_for_what_the_device_has_computed(kind: str) -> None:
    """No operator is called that reads values back, or whose result's shape depends on values."""
    waits = {"_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "equal"}
    everything = [each for items in RANDOM for each in items]
    feed = feed_of(augment=everything, mix={"kind": kind, "alpha": 1.0, "p": 0.5})
    with Called() as called:
        next(feed.batches(0))
    assert "grid_sampler_2d" in called.names
    assert not called.names & waits


@pytest.mark.parametrize("residence", ["resident", "streamed"])
def test_the_images_are_the_same_wherever_they_lie(residence: Any) -> None:
    device = torch.device("cpu")
    draw = np.random.default_rng(0)
    steps = [draw.permutation(TRAINING)[:size] for size in (7, 1, 16, 16, 3, 80, 2)]
    taken = read_steps(STORED, iter(steps), TRAINING, device, residence)
    for step, images in zip(steps, taken, strict=True):
        np.testing.assert_array_equal(images, STORED[step])


def test_an_error_of_the_reading_thread_is_raised() -> None:
    taken = read_steps(
        STORED, iter([TRAINING, np.array([99])]), TRAINING, torch.device("cpu"), "streamed"
    )
    next(taken)
    with pytest.raises(IndexError, match="index 99 is out of bounds"):
        next(taken)


def test_images_are_resident_where_they_take_less_than_half_of_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 2000))
    cuda = torch.device("cuda")
    assert [choose_residence(size, cuda) for size in (499, 500)] == ["resident", "streamed"]
    assert choose_residence(10**15, torch.device("cpu")) == "in place"


def test_the_batched_engine_starts_without_albumentations() -> None:
    code = """
import sys
import numpy as np, torch
import pipeline.train.stage
from pipeline.train.config import ModelConfig
from pipeline.train.batches import Feed
config = ModelConfig.model_validate_json(sys.argv[1])
images = np.zeros((8, 16, 16, 3), np.uint8)
feed = Feed(images, np.arange(8) % 2, np.arange(8), config, torch.device("cpu"))
next(feed.batches(0))
sys.exit(' '.join(set(sys.modules) & {"albumentations", "cv2", "timm"}))
"""
    command = [sys.executable, "-c", code, config_of().model_dump_json()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
