"""Batches for training: shuffled, augmented, in loader workers, the same in every run.

The steps of the whole training are numbered through; a batch depends on its number and the
model's seed alone. So a run that was killed goes on with the batches that it would have had,
and the workers start once, not once an epoch.
"""

import os
import signal
import sys
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.config.train import ModelConfig
from pipeline.shapes import Images, Labels
from pipeline.train.augment import Policy, single_threaded


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """Item i is the batch of step i: images (batch, height, width, 3) uint8 and labels int64."""

    def __init__(
        self,
        images: Images,
        labels: Labels,
        rows: Int[ndarray, " training"],
        config: ModelConfig,
        policy: Policy,
    ) -> None:
        """images, labels: all that are stored, memory-mapped; rows: those to train on."""
        self._images = images
        self._labels = labels
        self._rows = rows
        self._config = config
        self._policy = policy
        self._shuffled: tuple[int, list[ndarray]] = (-1, [])
        self.steps_per_epoch = -(-len(rows) // config.batch_size)
        """Batches of nearly equal size, none above batch_size; no image is left out."""

    def __len__(self) -> int:
        return self._config.epochs * self.steps_per_epoch

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        epoch, place = divmod(step, self.steps_per_epoch)
        rows = self._order(epoch)[place]
        augmented = self._policy.apply(self._images[rows], _seed(self._config.seed, 1, step))
        return torch.from_numpy(augmented), torch.from_numpy(self._labels[rows])

    def _order(self, epoch: int) -> list[ndarray]:
        if self._shuffled[0] != epoch:
            shuffle = np.random.default_rng(_seed(self._config.seed, 0, epoch))
            order = np.array_split(shuffle.permutation(self._rows), self.steps_per_epoch)
            self._shuffled = (epoch, order)
        return self._shuffled[1]


def load(
    batches: Batches, first_step: int, workers: int, pin: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches from `first_step` to the end, in order, prepared by `workers` processes."""
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(first_step, len(batches)),
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_start_worker if workers else None,
    )
    return iter(loader)


def worker_count(device: torch.device) -> int:
    """Loader processes: one beside a network on the CPU, up to eight beside a GPU."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return 1 if device.type == "cpu" else max(1, min(8, cores - 1))


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to report
    single_threaded()


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
