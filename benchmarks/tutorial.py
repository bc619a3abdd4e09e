"""The peer: the loop that PyTorch's tutorials teach and most public notebooks run.

After "Transfer learning for computer vision" and "Training a classifier" of pytorch.org: an
ImageFolder of files, torchvision's transforms on PIL images, two workers that start anew each
epoch, float32, contiguous tensors, AdamW at a constant rate.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

BATCH_SIZE = 64
WORKERS = 2


def load(folder: Path, size_px: int, training: bool) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches of folder/CLASS/*.png, augmented and shuffled for training.

    The augmentation is that of profiles/malaria-local.yaml in torchvision's operations, resized
    first, the cheaper order; the square's quarter turns are left out, in the peer's favour.
    """
    augment = [
        transforms.RandomHorizontalFlip(),
        transforms.RandomVerticalFlip(),
        transforms.RandomApply([transforms.RandomAffine(degrees=30, scale=(0.9, 1.1))], p=0.7),
        transforms.RandomApply([transforms.ColorJitter(0.2, 0.2, 0.2, 0.05)], p=0.7),
    ]
    transform = transforms.Compose(
        [
            transforms.Resize((size_px, size_px)),
            *(augment if training else []),
            transforms.ToTensor(),
            transforms.Normalize([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
        ]
    )
    images = datasets.ImageFolder(str(folder), transform)
    return DataLoader(images, batch_size=BATCH_SIZE, shuffle=training, num_workers=WORKERS)


def train(
    network: nn.Module,
    loader: DataLoader[tuple[Tensor, Tensor]],
    epochs: int,
    lr: float,
    device: torch.device,
) -> None:
    """Train in place, with the running loss and accuracy that such loops print."""
    network.to(device)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
    for epoch in range(epochs):
        running_loss, correct, seen = 0.0, 0, 0
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            logits = network(images)
            loss = functional.cross_entropy(logits, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            running_loss += loss.item() * len(labels)
            correct += int((logits.argmax(1) == labels).sum())
            seen += len(labels)
        print(f"  tutorial: epoch {epoch + 1}: loss {running_loss / seen:.4f}, "
              f"accuracy {correct / seen:.4f}", flush=True)  # fmt: skip


@torch.no_grad()
def accuracy(
    network: nn.Module, loader: DataLoader[tuple[Tensor, Tensor]], device: torch.device
) -> float:
    """Share of the loader's images that are classified right."""
    network.eval()
    correct, seen = 0, 0
    for images, labels in loader:
        correct += int((network(images.to(device)).argmax(1).cpu() == labels).sum())
        seen += len(labels)
    return correct / seen
