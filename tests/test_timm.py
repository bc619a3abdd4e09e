"""Any timm model: by name, with fresh weights or those of a local file, offline."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from project import decoding_of
from safetensors.torch import load_file, save_file
from tasks import one_of
from test_train import config_of, same
from timm.layers import resample_abs_pos_embed
from torch import nn

from pipeline.core.competition import ImageDecoding
from pipeline.core.errors import TrainError
from pipeline.core.files import sha256_of
from pipeline.train.device import Compute, depthwise_rate, suit_network
from pipeline.train.infer import load_network
from pipeline.train.models import build_model, describe, load_model, save_model
from pipeline.train.networks.config import SmallNetwork, TimmNetwork

SMALLEST = [
    "beitv2_base_patch16_224", "eca_botnext26ts_256", "test_byobnet", "cait_xxs24_224",
    "coat_tiny", "convit_tiny", "convmixer_768_32", "test_convnext", "cpubone_nano",
    "crossvit_tiny_240", "csatv2", "cs3darknet_focus_s", "cspnext_tiny", "davit_tiny",
    "deepseek_vit_412m", "deit_tiny_patch16_224", "densenet121", "dla46x_c", "dpn48b",
    "edgenext_xx_small", "efficientformer_l1", "efficientformerv2_s0", "test_efficientnet",
    "efficientvim_m1", "efficientvit_b0", "efficientvit_m0", "eva02_tiny_patch14_224",
    "fasternet_t0", "fastvit_t8", "focalnet_tiny_srf", "gcvit_xxtiny", "gemma4_vit_167m",
    "ghostnet_050", "hardcorenas_b", "hgnetv2_b0", "hiera_tiny_224", "sam2_hiera_tiny",
    "hrnet_w18_small", "iformer_t", "inception_next_atto", "inception_resnet_v2",
    "inception_v3", "inception_v4", "lcnetv2_small", "levit_128s", "lowformer_b0",
    "test_mambaout", "test_coatnet", "poolformerv2_s12", "gmlp_ti16_224", "lcnet_035",
    "mobilenetv5_base", "mobilevit_xxs", "mvitv2_tiny", "naflexvit_base_patch16_parfac_gap",
    "nasnetalarge", "nest_tiny_jx", "nextvit_small", "test_nfnet", "pit_ti_224",
    "pnasnet5large", "pvt_v2_b0", "qwen3_vit_88m", "rdnet_tiny", "regnetx_002",
    "repghostnet_050", "repvit_m1", "res2next50", "resnest14d", "test_resnet", "resnetv2_18",
    "rexnet_100", "selecsls42", "legacy_seresnet18", "sequencer2d_s", "shvit_s1", "skresnet18",
    "starnet_s050", "swiftformer_xs", "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window16_256", "swinv2_cr_tiny_384", "tiny_vit_5m_224",
    "tnt_s_legacy_patch16_224", "tresnet_m", "twins_svt_small", "vgg11", "visformer_tiny",
    "test_vit", "vit_tiny_r_s16_p8_224", "test_vit_relpos", "samvit_base_patch16_224",
    "vitamin_small_224", "volo_d1_224", "ese_vovnet19b_slim_dw", "legacy_xception",
    "xception41p", "xcit_nano_12_p8_384",
]  # fmt: skip
"""The smallest classifier of each of timm's modules."""

MEAN, STD = [100.0, 101.0, 102.0], [10.0, 11.0, 12.0]


def network_of(**changes: Any) -> TimmNetwork:
    values = {
        "family": "timm",
        "name": "resnet10t",
        "pretrained": False,
        "weights": None,
        "dropout": 0.0,
        "drop_path": None,
    }
    return TimmNetwork.model_validate(values | changes)


def start_of(path: Path) -> dict[str, str]:
    return {"file": str(path), "sha256": sha256_of(path)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as timm publishes it: 1,000 classes."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("timm") / "resnet10t.safetensors"
    save_file(timm.create_model("resnet10t", num_classes=1000).state_dict(), path)
    return path


def test_fresh_weights_use_the_training_rows_colours() -> None:
    model = build_model(network_of(), one_of(3), decoding_of(32), MEAN, STD)
    assert model.mean.flatten().tolist() == MEAN
    assert model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 3)


def test_a_network_that_takes_any_size_is_the_one_that_timm_draws() -> None:
    """Asking it for its sizes draws no random number."""
    torch.manual_seed(3)
    model = build_model(network_of(), one_of(3), decoding_of(72), MEAN, STD)
    torch.manual_seed(3)
    assert same(model.network, timm.create_model("resnet10t", num_classes=3))


@pytest.mark.parametrize(
    ("name", "size_px"),
    [("vit_tiny_patch16_224", 64), ("levit_128s", 96), ("test_coatnet", 64), ("inception_v3", 80)],
)
def test_a_network_published_for_one_size_learns_at_another_and_is_rebuilt(
    tmp_path: Path, name: str, size_px: int
) -> None:
    """Real gradients; and a weights file needs nothing beside itself."""
    network = network_of(name=name)
    torch.manual_seed(1)
    model = build_model(network, one_of(3), decoding_of(size_px), MEAN, STD)
    images = torch.randint(256, (2, 3, size_px, size_px), dtype=torch.uint8)
    model(images).square().sum().backward()
    assert all(value.grad is not None for value in model.parameters())
    decoding = ImageDecoding(size_px=size_px, channels=3, fit="stretch", black_white=None)
    description = describe(config_of(network=network), one_of(3), decoding, 1)
    save_model(tmp_path / "weights.safetensors", model, description)
    again, _ = load_model(tmp_path / "weights.safetensors")
    assert same(again, model)
    with torch.no_grad():
        assert torch.equal(again(images), model.eval()(images))


@pytest.mark.parametrize(
    ("name", "size_px", "own_px", "taken"),
    [
        ("vit_tiny_patch16_224", 100, 224, "96 or 112"),
        ("test_coatnet", 112, 160, "96 or 128"),
        ("inception_v3", 64, 299, "80"),
    ],
)
def test_a_size_that_a_network_cannot_take_brings_the_nearest_that_it_does(
    name: str, size_px: int, own_px: int, taken: str
) -> None:
    with pytest.raises(TrainError) as caught:
        build_model(network_of(name=name), one_of(3), decoding_of(size_px), MEAN, STD)
    assert str(caught.value) == (
        f"network: {name}, published for {own_px} px, cannot take images of {size_px} px; the "
        f"nearest that it takes: set prepare.size_px to {taken}"
    )


@pytest.mark.parametrize("name", ["gemma4_vit_167m_enc", "qwen3_vit_88m_enc"])
def test_what_is_no_classifier_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(TrainError) as caught:
        build_model(network_of(name=name), one_of(3), decoding_of(96), MEAN, STD)
    assert str(caught.value) == (
        f"network: timm's {name} is no classifier of images, so it cannot be trained. Choose another"
    )


def test_every_module_of_timm_has_its_smallest_network_in_the_table() -> None:
    modules = {module_of(name) for name in timm.list_models()}
    assert sorted(map(module_of, SMALLEST)) == sorted(modules)


def module_of(name: str) -> str:
    return timm.model_entrypoint(name).__module__


PLACES = range(0, len(SMALLEST), 1 if "TIMM_ALL" in os.environ else 5)
"""Of the families that are tried; all of them if TIMM_ALL is set: a minute."""


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES, ids=[SMALLEST[place] for place in PLACES])
def test_every_family_of_timm_learns_or_says_which_sizes_it_takes(place: int) -> None:
    """On the device `meta`, where shapes alone are computed; neighbours take turns in the sizes.

    build_model has tried all of them forward; those that timm fixes to a size go backward, too.
    """
    name, size_px = SMALLEST[place], (64, 96, 112)[place % 3]
    images = torch.zeros(2, 3, size_px, size_px, device="meta")
    try:
        with torch.device("meta"):
            model = build_model(network_of(name=name), one_of(3), decoding_of(size_px), MEAN, STD)
    except TrainError as error:
        assert str(error).startswith(f"network: {name}, published for ")  # noqa: PT017
        return
    if model.network.pretrained_cfg.get("fixed_input_size"):
        outputs = model(images)
        assert outputs.shape == (2, 3)
        outputs.sum().backward()


def test_weights_of_another_size_bring_their_positions_resampled(tmp_path: Path) -> None:
    torch.manual_seed(5)
    published = timm.create_model("vit_tiny_patch16_224", num_classes=1000).state_dict()
    path = tmp_path / "vit.safetensors"
    save_file(published, path)
    network = network_of(name="vit_tiny_patch16_224", weights=start_of(path))
    model = build_model(network, one_of(3), decoding_of(96), MEAN, STD)
    found = model.network.state_dict()
    resampled = resample_abs_pos_embed(published["pos_embed"], [6, 6], num_prefix_tokens=1)
    assert found["pos_embed"].shape == (1, 37, 192)
    assert torch.equal(found["pos_embed"], resampled)
    others = [name for name in published if name != "pos_embed" and not name.startswith("head.")]
    assert len(others) == len(published) - 3
    assert all(torch.equal(found[name], published[name]) for name in others)
    torch.manual_seed(7)
    fresh = build_model(network_of(name=network.name), one_of(3), decoding_of(96), MEAN, STD)
    torch.manual_seed(7)
    again = build_model(network, one_of(3), decoding_of(96), MEAN, STD)
    assert torch.equal(again.network.head.weight, fresh.network.head.weight)


def test_weights_that_cannot_be_adapted_name_the_size_that_they_are_for(tmp_path: Path) -> None:
    path = tmp_path / "mlp.safetensors"
    save_file(timm.create_model("resmlp_12_224").state_dict(), path)
    with pytest.raises(TrainError) as caught:
        build_model(
            network_of(name="resmlp_12_224", weights=start_of(path)),
            one_of(3),
            decoding_of(96),
            MEAN,
            STD,
        )
    assert f"{path} is not of this network: it has other shapes for " in str(caught.value)
    assert str(caught.value).endswith(
        "Published weights are for images of 224 px: set prepare.size_px to 224"
    )


def test_published_weights_of_one_size_alone_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    published = timm.create_model("resmlp_12_224").state_dict()
    monkeypatch.setattr(
        "timm.models._builder.load_state_dict_from_hf", lambda *_, **__: dict(published)
    )
    network = network_of(name="resmlp_12_224", pretrained=True)
    with pytest.raises(TrainError) as caught:
        build_model(network, one_of(3), decoding_of(96), MEAN, STD)
    assert str(caught.value) == (
        "network: resmlp_12_224: its published weights are for images of 224 px and do not fit "
        "images of 96 px: set prepare.size_px to 224, or `pretrained: false`"
    )


def test_pretrained_positions_are_resampled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    published = timm.create_model("vit_tiny_patch16_224").state_dict()
    monkeypatch.setattr(
        "timm.models._builder.load_state_dict_from_hf", lambda *_, **__: dict(published)
    )
    network = network_of(name="vit_tiny_patch16_224", pretrained=True)
    found = build_model(network, one_of(3), decoding_of(96), MEAN, STD).network.state_dict()
    resampled = resample_abs_pos_embed(published["pos_embed"], [6, 6], num_prefix_tokens=1)
    assert torch.equal(found["pos_embed"], resampled)
    assert torch.equal(found["patch_embed.proj.weight"], published["patch_embed.proj.weight"])


@pytest.mark.parametrize("name", ["resnet10t", "lcnet_050", "test_vit"])
@torch.no_grad()
def test_a_pretrained_network_sees_grey_in_one_channel_as_it_sees_it_in_three(
    tmp_path: Path, name: str
) -> None:
    """Its mean and deviation are the averages of the three channels', which differ little."""
    torch.manual_seed(3)
    path, size_px = tmp_path / "start.safetensors", 160 if name == "test_vit" else 64
    save_file(timm.create_model(name, num_classes=40).state_dict(), path)
    network = network_of(name=name, weights=start_of(path))
    grey = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8)
    grey = grey.repeat_interleave(size_px // 8, 2).repeat_interleave(size_px // 8, 3)
    three = build_model(network, one_of(40), decoding_of(size_px), MEAN, STD).eval()
    one = build_model(network, one_of(40), decoding_of(size_px, 1), MEAN[:1], STD[:1]).eval()
    torch.testing.assert_close(one.mean.flatten(), three.mean.mean()[None])
    torch.testing.assert_close(one.std.flatten(), three.std.mean()[None])
    outputs, expected = one(grey), three(grey.expand(-1, 3, -1, -1))
    together = torch.stack([outputs.flatten(), expected.flatten()])
    assert torch.corrcoef(together)[0, 1] > 0.99


def test_a_fresh_network_of_one_channel_is_saved_and_read_again(tmp_path: Path) -> None:
    config = config_of(network=network_of())
    decoding = decoding_of(32, 1)
    model = build_model(config.network, one_of(3), decoding, [90.0], [20.0])
    save_model(tmp_path / "w.safetensors", model, describe(config, one_of(3), decoding, 1))
    loaded, description = load_model(tmp_path / "w.safetensors")
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    assert torch.equal(loaded(images), model.eval()(images))
    assert description.decoding == decoding
    assert loaded.mean.flatten().tolist() == [90.0]


def test_the_depthwise_rate_is_what_is_counted_by_hand() -> None:
    """8 × 8 positions: 4 channels of 3 × 3 × 3, a depthwise 3 × 3, a grouped and a dense 1 × 1."""
    layers = [
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 4, 1, groups=2),
        nn.Flatten(),
        nn.Linear(64 * 4, 2),
    ]
    multiplications = 64 * (4 * 27 + 4 * 9 + 4 * 2) + 256 * 2
    assert depthwise_rate(nn.Sequential(*layers), decoding_of(8)) == 64 * 4 / multiplications
    assert depthwise_rate(nn.Sequential(layers[0], layers[2]), decoding_of(8)) == 0


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("resnet18", torch.bfloat16),
        ("resnet10t", torch.bfloat16),
        ("convnext_atto", torch.bfloat16),
        ("resnext26ts", torch.bfloat16),
        ("tf_efficientnet_lite0", torch.float32),
        ("lcnet_100", torch.float32),
        ("mobilenetv4_conv_small", torch.float32),
        ("mobilenetv2_100", torch.float32),
    ],
)
@pytest.mark.parametrize("size_px", [64, 96])
def test_auto_is_float32_on_a_cpu_for_networks_of_depthwise_layers(
    name: str, dtype: torch.dtype, size_px: int
) -> None:
    network = timm.create_model(name, num_classes=2)
    cpu = Compute(torch.device("cpu"), torch.bfloat16)
    assert suit_network(cpu, "auto", network, decoding_of(size_px)).dtype == dtype
    assert network.training
    assert suit_network(cpu, "bfloat16", network, decoding_of(size_px)) == cpu
    gpu = Compute(torch.device("cuda"), torch.bfloat16)
    assert suit_network(gpu, "auto", network, decoding_of(size_px)) == gpu


@pytest.mark.parametrize(
    ("precision", "dtype"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_a_weights_file_predicts_in_the_precision_that_suits_its_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, precision: str, dtype: torch.dtype
) -> None:
    monkeypatch.setattr("pipeline.train.device._fastest_dtype", lambda _: torch.bfloat16)
    config = config_of(network=network_of(name="lcnet_035"), precision=precision)
    decoding = ImageDecoding(size_px=32, channels=3, fit="stretch", black_white=None)
    model = build_model(config.network, one_of(3), decoding_of(32), MEAN, STD)
    save_model(tmp_path / "kept.safetensors", model, describe(config, one_of(3), decoding, 1))
    assert load_network(tmp_path / "kept.safetensors", "cpu").compute.dtype == dtype


@pytest.mark.parametrize("name", ["vgg", "resnet"])
def test_auto_stays_bfloat16_for_the_networks_of_our_own(name: str) -> None:
    small = SmallNetwork.model_validate(
        {"family": "small", "name": name, "width": 16, "stages": 4, "dropout": 0.1}
    )
    model = build_model(small, one_of(2), decoding_of(64), MEAN, STD)
    cpu = Compute(torch.device("cpu"), torch.bfloat16)
    assert suit_network(cpu, "auto", model, decoding_of(64)) == cpu


def test_a_weights_file_fills_the_backbone_and_brings_its_own_colours(weights: Path) -> None:
    torch.manual_seed(1)
    model = build_model(
        network_of(weights=start_of(weights)), one_of(3), decoding_of(32), MEAN, STD
    )
    torch.manual_seed(5)
    published = timm.create_model("resnet10t", num_classes=1000).state_dict()
    loaded = model.network.state_dict()
    backbone = [name for name in published if not name.startswith("fc.")]
    assert all(torch.equal(loaded[name], published[name]) for name in backbone)
    assert loaded["fc.weight"].shape[0] == 3
    assert model.mean.flatten().tolist() == pytest.approx([255 * v for v in (0.485, 0.456, 0.406)])
    assert model.std.flatten().tolist() == pytest.approx([255 * v for v in (0.229, 0.224, 0.225)])


def test_an_unknown_name_brings_close_ones() -> None:
    with pytest.raises(TrainError, match=r"timm has no model 'resnet10'; close names: resnet1"):
        build_model(network_of(name="resnet10"), one_of(2), decoding_of(32), MEAN, STD)


def test_a_weights_file_that_is_not_there_is_named() -> None:
    start = {"file": "nowhere.safetensors", "sha256": "0" * 64}
    with pytest.raises(TrainError) as caught:
        build_model(network_of(weights=start), one_of(2), decoding_of(32), MEAN, STD)
    assert str(caught.value) == (
        "network.weights: nowhere.safetensors: no such file. Put there the one with sha256 "
        + "0" * 64
    )


def test_another_file_at_the_same_path_is_refused_with_both_hashes(
    weights: Path, tmp_path: Path
) -> None:
    path = tmp_path / "start.safetensors"
    shutil.copy(weights, path)
    network = network_of(weights=start_of(path))
    build_model(network, one_of(2), decoding_of(32), MEAN, STD)
    expected = sha256_of(path)
    save_file({name: 2 * value for name, value in load_file(path).items()}, path)
    with pytest.raises(TrainError) as caught:
        build_model(network, one_of(2), decoding_of(32), MEAN, STD)
    assert str(caught.value) == (
        f"network.weights: {path}: expected the file with sha256 {expected}, found one with "
        f"{sha256_of(path)}. Put the first one back; or, to train from this one, write its sha256 "
        "into params.yaml, and run: dvc repro"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "it has no tensor for 1 of 86 (first: conv1.0.weight)"),
        ("unknown", "it has unknown tensors for 1 of 86 (first: something)"),
        ("shape", "it has other shapes for 1 of 86 (first: conv1.0.weight)"),
    ],
)
def test_weights_of_another_network_are_refused(
    weights: Path, tmp_path: Path, change: str, message: str
) -> None:
    """timm itself only logs them, and trains on from random ones."""
    tensors = load_file(weights)
    match change:
        case "missing":
            del tensors["conv1.0.weight"]
        case "unknown":
            tensors["something"] = torch.zeros(2)
        case "shape":
            tensors["conv1.0.weight"] = torch.zeros(2)
    path = tmp_path / "other.safetensors"
    save_file(tensors, path)
    with pytest.raises(TrainError) as caught:
        build_model(network_of(weights=start_of(path)), one_of(2), decoding_of(32), MEAN, STD)
    assert f"{path} is not of this network: {message}" in str(caught.value)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(TrainError, match="is no safetensors file"):
        build_model(network_of(weights=start_of(path)), one_of(2), decoding_of(32), MEAN, STD)


def test_pretrained_without_a_network_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(TrainError) as caught:
        build_model(
            network_of(name="resnet18", pretrained=True), one_of(2), decoding_of(32), MEAN, STD
        )
    assert "resnet18: its pretrained weights cannot be downloaded" in str(caught.value)
    assert "set `pretrained: false`, or `weights` to a local .safetensors file" in str(caught.value)
