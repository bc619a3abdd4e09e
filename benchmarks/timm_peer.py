"""timm's own loader, augmentation, optimizer, schedule and weight average.

The parts that its training script is made of; the script itself is not in the package. On a CPU
float32 and contiguous, as the script's defaults are; on a GPU with its prefetcher, as by default,
and with its options for bfloat16 and channels_last. Its default recipe is SGD for 300 epochs of
ImageNet, the first five of them to warm up, which reaches nothing in a few: here are ours instead,
AdamW, its rate, weight average, smoothing and clipping, with the cosine moved on after each update.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from timm.data import create_dataset, create_loader
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import nn

BATCH_SIZE = 64
WORKERS = 2


def train(
    network: nn.Module,
    folder: Path,
    size_px: int,
    epochs: int,
    lr: float,
    device: str = "cpu",
    batch_size: int = BATCH_SIZE,
    workers: int = WORKERS,
    on_epoch: Callable[[], None] = lambda: None,
) -> nn.Module:
    """Train on folder/CLASS/*.png; the averaged network. on_epoch is called after each epoch."""
    place = torch.device(device)
    is_gpu = place.type == "cuda"
    layout = torch.channels_last if is_gpu else torch.contiguous_format
    network.train().to(place, memory_format=layout)
    loader = create_loader(
        create_dataset("", str(folder)),
        input_size=(3, size_px, size_px),
        batch_size=batch_size,
        is_training=True,
        use_prefetcher=is_gpu,
        scale=(0.8, 1.0),
        hflip=0.5,
        vflip=0.5,
        color_jitter=0.2,
        num_workers=workers,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        persistent_workers=True,
        device=place,
    )
    optimizer = create_optimizer_v2(network, opt="adamw", lr=lr, weight_decay=0.05)
    scheduler, _ = create_scheduler_v2(
        optimizer,
        num_epochs=epochs,
        warmup_epochs=0,
        step_on_epochs=False,
        updates_per_epoch=len(loader),
    )
    average = ModelEmaV3(network, decay=0.99, use_warmup=True)
    loss_function = nn.CrossEntropyLoss(label_smoothing=0.05)
    step = 0
    for _ in range(epochs):
        for images, labels in loader:
            images = images.contiguous(memory_format=layout)
            with torch.autocast(place.type, torch.bfloat16, enabled=is_gpu):
                loss = loss_function(network(images), labels)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            average.update(network, step=step)
            scheduler.step_update(step)
        if is_gpu:
            torch.cuda.synchronize(place)
        on_epoch()
    module: nn.Module = average.module
    return module
