"""fastai's `vision_learner`, as its book teaches it, in an environment of fastai's own.

Run by benchmarks/peers.py with that environment's Python. ResNet-18 is torchvision's with fastai's
head; for our vgg, which `vision_learner` cannot cut into body and head, its Learner is what the
book takes. Its own augmentation on whole batches, its one-cycle schedule, ImageNet's normalisation.

A network of timm with a weights file is fine-tuned as the book does it: fastai's head on timm's
body, one epoch with the body frozen, the others with lower rates for earlier layers; the
normalisation is the network's own.

Prints one line of JSON: the seconds of the whole training, the accuracy on held-out images
without test-time augmentation, and the peak memory of its processes.
"""

import json
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")

from fastai.vision.all import (  # noqa: E402
    CategoryBlock,
    CrossEntropyLossFlat,
    DataBlock,
    DataLoaders,
    ImageBlock,
    Learner,
    Normalize,
    RandomSplitter,
    Resize,
    accuracy,
    aug_transforms,
    default_device,
    get_image_files,
    imagenet_stats,
    parent_label,
    set_seed,
    vision_learner,
)
from torchvision.models import resnet18  # noqa: E402

WORKERS = 2
BATCH_SIZE = 64


RATE = 3e-3
"""What the book gives `fit_one_cycle` most often."""


def main(train: Path, held: Path, network: str, size_px: int, epochs: int, seed: int) -> None:
    """Train on train/CLASS/*.png and score held/CLASS/*.png.

    network: the JSON of a `network` of params.yaml. epochs: two at least with a weights file.
    """
    described = json.loads(network)
    pretrained = bool(described.get("weights"))
    set_seed(seed)
    default_device(False)
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_items=get_image_files,
        get_y=parent_label,
        splitter=RandomSplitter(valid_pct=0.0),
        item_tfms=Resize(size_px),
        batch_tfms=[
            *aug_transforms(flip_vert=True, max_rotate=30.0, max_zoom=1.1, max_warp=0.0),
            *([] if pretrained else [Normalize.from_stats(*imagenet_stats)]),
        ],
    )
    loaders = block.dataloaders(train, bs=BATCH_SIZE, num_workers=WORKERS)
    learner = learn(loaders, described, size_px)
    started = time.perf_counter()
    with learner.no_bar(), learner.no_logging():
        if pretrained:
            learner.fine_tune(epochs - 1, freeze_epochs=1)
        else:
            learner.fit_one_cycle(epochs, RATE)
    seconds = time.perf_counter() - started
    files = get_image_files(held)
    probabilities, _ = learner.get_preds(dl=loaders.test_dl(files), inner=False)
    found = [loaders.vocab[place] for place in probabilities.argmax(1)]
    right = sum(parent_label(file) == label for file, label in zip(files, found, strict=True))
    usage = [
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    peak_gb = (usage[0] + WORKERS * usage[1]) * 1024 / 1e9
    print(json.dumps({"seconds": seconds, "accuracy": right / len(files), "peak_gb": peak_gb}))


def learn(loaders: DataLoaders, network: dict[str, Any], size_px: int) -> Learner:
    """A learner of a network with fresh weights or those of its file."""
    if network.get("weights"):
        overlay = {"file": network["weights"]["file"]}
        return vision_learner(
            loaders, network["name"], metrics=accuracy, pretrained_cfg_overlay=overlay
        )
    if network["name"] == "resnet18":
        return vision_learner(loaders, resnet18, metrics=accuracy, pretrained=False)
    from pipeline.core.competition import ImageDecoding
    from pipeline.core.task import OneOf
    from pipeline.train.models import build_model
    from pipeline.train.networks.config import SmallNetwork

    config = SmallNetwork.model_validate(network)
    task = OneOf(classes=[*loaders.vocab])
    rows = ImageDecoding(size_px=size_px, channels=3, fit="stretch", black_white=None)
    ours = build_model(config, task, rows, [0.0] * 3, [1.0] * 3).network
    return Learner(loaders, ours, loss_func=CrossEntropyLossFlat(), metrics=accuracy)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:7]))
