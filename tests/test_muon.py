"""Muon and growing sizes: what they do to weights and images."""

from pathlib import Path

import pytest
import timm.optim.muon
import torch
from project import PARAMS
from pydantic import ValidationError
from tasks import one_of
from test_train import (
    IMAGES,
    LABELS,
    TRAINING,
    accuracy,
    config_of,
    same,
    small,
    start,
    train,
)

from pipeline.core.errors import ConfigError, TrainError
from pipeline.params import read_config
from pipeline.train.batches import Feed, shrink, side_of_epoch
from pipeline.train.models import Classifier, check_sizes
from pipeline.train.muon import Muon, orthogonal
from pipeline.train.optim import build_optimizers

MUON = {"kind": "muon", "lr": 0.03, "momentum": 0.6}


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(16, 27), (64, 288), (40, 9)])
def test_a_step_is_made_orthogonal_as_timm_makes_it(shape: tuple[int, int]) -> None:
    matrix = drawn(*shape)
    theirs = timm.optim.muon.zeropower_via_newtonschulz(
        matrix, steps=3, coefficients=[(3.4445, -4.7750, 2.0315)] * 3, dtype=torch.float32
    )
    torch.testing.assert_close(orthogonal(matrix), theirs, rtol=1e-4, atol=1e-5)


def test_all_directions_of_a_step_are_about_as_long() -> None:
    before, after = drawn(32, 144), orthogonal(drawn(32, 144))
    assert torch.linalg.svdvals(before).min() < 0.5 * torch.linalg.svdvals(before).max()
    assert 0.5 < torch.linalg.svdvals(after).min() < torch.linalg.svdvals(after).max() < 1.3


def test_filters_keep_their_norm_and_move_by_the_rate() -> None:
    filters = torch.nn.Parameter(5 * drawn(16, 3, 3, 3))
    filters.grad = drawn(16, 3, 3, 3)
    before = filters.detach() * 4 / filters.detach().norm()
    Muon([filters], lr=0.05, momentum=0.6).step()
    moved = (filters.detach() - before).norm() / before.norm()
    assert 0.03 < moved < 0.07
    assert torch.allclose(filters.detach().norm(), torch.tensor(4.0), atol=0.2)


def test_momentum_looks_ahead_as_nesterov() -> None:
    filters = torch.nn.Parameter(drawn(8, 1, 3, 3))
    optimizer = Muon([filters], lr=0.01, momentum=0.5)
    gradients = [drawn(8, 1, 3, 3), drawn(8, 1, 3, 3).flip(0)]
    for gradient in gradients:
        filters.grad = gradient
        held = filters.detach() * 8**0.5 / filters.detach().norm()
        optimizer.step()
    velocity = gradients[1] + 0.5 * gradients[0]
    expected = orthogonal((gradients[1] + 0.5 * velocity).flatten(1)).view(8, 1, 3, 3)
    torch.testing.assert_close(filters.detach(), held - 0.01 * expected)


def test_only_filters_are_moved_by_muon_and_all_else_by_adamw() -> None:
    model = start(config_of(optimizer=MUON))
    muon, adamw = build_optimizers(model, config_of(optimizer=MUON))
    moved = [value for group in muon.param_groups for value in group["params"]]
    others = [value for group in adamw.param_groups for value in group["params"]]
    assert {value.ndim for value in moved} == {4}
    assert {value.ndim for value in others} == {1, 2}
    assert len(moved) + len(others) == len(list(model.parameters()))


def test_a_network_without_filters_is_refused() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 2))
    model = Classifier(network, one_of(2), [0.0] * 3, [1.0] * 3)
    with pytest.raises(TrainError, match=r"muon moves the filters of .* Sequential has none\. Set"):
        build_optimizers(model, config_of(optimizer=MUON))


def test_the_rate_of_muon_follows_the_schedule_of_the_other() -> None:
    config = config_of(optimizer=MUON, lr=0.01)
    muon, adamw = build_optimizers(start(config), config)
    assert muon.param_groups[0]["lr_scale"] * config.lr == pytest.approx(0.03)
    assert "lr_scale" not in adamw.param_groups[0]


def test_a_network_learns_the_dot_by_muon(tmp_path: Path) -> None:
    config = config_of(network=small(), epochs=15, engine="batched", optimizer=MUON)
    model, history = train(tmp_path, config)
    assert accuracy(model) >= 0.95
    assert history[-1]["loss"] < 0.2 < history[0]["loss"]


def test_muon_is_refused_for_weights_that_have_learned() -> None:
    network = {"family": "timm", "name": "resnet18", "pretrained": True, "weights": None,
               "dropout": 0.0, "drop_path": None}  # fmt: skip
    with pytest.raises(ValidationError, match="muon, which sets the norm of all filters anew"):
        config_of(network=network, optimizer=MUON)


@pytest.mark.parametrize("engine", ["albumentations", "batched"])
def test_each_size_has_an_equal_part_of_the_epochs(engine: str) -> None:
    config = config_of(epochs=5, sizes_px=[8, 12, 16], engine=engine)
    feed = Feed(IMAGES, LABELS, TRAINING, config, torch.device("cpu"))
    sides = [images.shape[-1] for images, _ in feed.batches(0)][:: feed.steps_per_epoch]
    assert sides == [8, 8, 12, 12, 16] == [side_of_epoch(config, epoch) for epoch in range(5)]


def test_a_smaller_image_is_the_mean_of_what_it_covers() -> None:
    images = torch.from_numpy(IMAGES[:4]).permute(0, 3, 1, 2)
    flat = torch.full((1, 3, 16, 16), 77, dtype=torch.uint8)
    assert torch.allclose(shrink(flat, 12), torch.full((1, 3, 12, 12), 77.0))
    assert torch.allclose(shrink(images, 8).mean((2, 3)), images.float().mean((2, 3)), atol=1.5)


@pytest.mark.parametrize("changes", [
    {"sizes_px": [8, 16]}, {"optimizer": MUON},
    {"sizes_px": [8, 16], "optimizer": MUON,
     "mix": {"kind": "cutmix", "alpha": 1.0, "p": 1.0}},
])  # fmt: skip
def test_a_killed_run_with_it_goes_on_bit_for_bit(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    config = config_of(epochs=4, engine="batched", **changes)
    unbroken, history = train(tmp_path / "unbroken", config)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", config, stop_after=3)
    resumed, resumed_history = train(tmp_path / "killed", config)
    assert same(unbroken, resumed)
    assert history == resumed_history


def test_a_side_that_the_network_cannot_take_is_named() -> None:
    model = start(config_of(network=small(stages=4)))
    check_sizes(model, [8, 16])
    with pytest.raises(TrainError, match="sizes_px: the network cannot take images of 4 px"):
        check_sizes(model, [4, 16])


@pytest.mark.parametrize("sizes", [[16], [48, 32], [24, 48]])
def test_sizes_that_do_not_end_at_that_of_the_images_are_refused(
    tmp_path: Path, sizes: list[int]
) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS.replace("sizes_px: null", f"sizes_px: {sizes}"))
    with pytest.raises(ConfigError, match=r"sizes_px: expected sides up to prepare\.size_px"):
        read_config(tmp_path / "params.yaml")
