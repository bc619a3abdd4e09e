"""Batches for training: shuffled, augmented, on the device, the same in every run.

The steps of the whole training are numbered consecutively; a batch depends on its number and the
model's seed alone. So a run that was killed goes on with the batches that it would have had,
and the workers that prepare them start once, not once an epoch.

The model's `engine` augments: albumentations in worker processes, or whole batches on the device.
Both see the same rows in the same order. Where several processes train one network, each has its
part of every batch.
"""

import multiprocessing.queues
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from numpy import ndarray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from pipeline.core.errors import TrainError
from pipeline.core.leader import end_with
from pipeline.core.machine import cores
from pipeline.core.progress import say
from pipeline.core.shapes import Images, Labels, Packed
from pipeline.train.augment.batched import BatchedPolicy
from pipeline.train.augment.mix import mix
from pipeline.train.config import ModelConfig
from pipeline.train.objective import Targets
from pipeline.train.transfer import choose_residence, keep_freed_memory, read_steps, send
from pipeline.train.world import ALONE, World

if TYPE_CHECKING:
    from pipeline.train.augment.per_image import Policy

Batch = tuple[Num[Tensor, "batch channels ..."], Targets]
"""Images of 0 to 255, or signals, and their targets; where they are mixed, each class's share."""


class Feed:
    """The batches of a whole training, on the device."""

    def __init__(
        self,
        images: Packed,
        labels: Labels,
        rows: Int[ndarray, " training"],
        config: ModelConfig,
        device: torch.device,
        world: World = ALONE,
    ) -> None:
        """images, labels: all that are stored, memory-mapped; rows: those to train on.

        Raises TrainError as make_policy does.
        """
        self._images = images
        self._labels = labels
        self._rows = rows
        self._config = config
        self._device = device
        self._world = world
        self._steps = Steps(rows, config, world)
        self.steps_per_epoch = self._steps.per_epoch
        self._policy = make_policy(config, images.shape[1:])

    def __len__(self) -> int:
        return len(self._steps)

    def size_of(self, step: int) -> int:
        """The number of images of a step, of all processes."""
        return self._steps.size_of(step)

    def batches(self, first_step: int) -> Iterator[Batch]:
        """The batches from `first_step` to the end, in order."""
        if isinstance(self._policy, BatchedPolicy):
            found = self._on_device(self._policy, first_step)
        else:
            found = self._by_workers(self._policy, first_step)
        for step, (images, targets) in enumerate(found, first_step):
            yield self._finish(images, targets, step)

    @torch.no_grad()
    def _finish(
        self, images: Num[Tensor, "batch channels *axes"], targets: Targets, step: int
    ) -> Batch:
        """Mix and shrink augmented images, as the model's parameters say."""
        config, epoch = self._config, step // self.steps_per_epoch
        if config.mix is not None:
            if targets.ndim == 1:
                classes = torch.arange(int(self._labels.max()) + 1, device=self._device)
                targets = (targets[:, None] == classes).float()
            images, targets = mix(images, targets, config.mix, self._steps.own_seed(2, step))
        side = side_of_epoch(config, epoch)
        if side is not None and side < images.shape[-1]:
            images = shrink(images, side)
        return images, targets

    def _on_device(self, policy: BatchedPolicy, first_step: int) -> Iterator[Batch]:
        if self._device.type == "cpu":
            keep_freed_memory()
        residence = choose_residence(self._images[0].nbytes * len(self._rows), self._device)
        steps = (self._steps[step] for step in range(first_step, len(self)))
        found = read_steps(self._images, steps, self._rows, self._device, residence)
        for step, stored in enumerate(found, first_step):
            augmented = policy.apply(stored.movedim(-1, 1), self._steps.own_seed(1, step))
            yield augmented, send(self._labels[self._steps[step]], self._device)

    def _by_workers(self, policy: "Policy", first_step: int) -> Iterator[Batch]:
        pin, workers = self._device.type == "cuda", worker_count(self._device, self._world.size)
        batches = Batches(self._images, self._labels, self._steps, policy.apply)
        for images, labels in load(batches, first_step, workers, pin):
            images = images.to(self._device, non_blocking=True)
            yield images.movedim(-1, 1), labels.to(self._device, non_blocking=True)


def shrink(
    images: Num[Tensor, "batch channels side side"], side: int
) -> Float[Tensor, "batch channels to to"]:
    """Images of a smaller side, each pixel the mean of those that it covers."""
    return functional.interpolate(
        images.float(), (side, side), mode="bilinear", antialias=True, align_corners=False
    )


def side_of_epoch(config: ModelConfig, epoch: int) -> int | None:
    """The side of the training images, counting epochs from 0; None is that of the stored ones."""
    if config.sizes_px is None:
        return None
    return config.sizes_px[epoch * len(config.sizes_px) // config.epochs]


def make_policy(config: ModelConfig, shape: tuple[int, ...]) -> "BatchedPolicy | Policy":
    """The model's augmentation of stored rows of that shape, by its engine.

    Raises TrainError for values that the engine refuses, and operations that change the images'
    size or type.
    """
    if config.engine == "batched":
        return BatchedPolicy(config.augment)
    from pipeline.train.augment.per_image import Policy  # 2.8 s: only for those who use it

    return Policy(config.augment, shape)


class Steps:
    """Item i is the rows of step i, of them this process's part."""

    def __init__(
        self, rows: Int[ndarray, " training"], config: ModelConfig, world: World = ALONE
    ) -> None:
        """rows: those to train on, each once an epoch."""
        self._rows = rows
        self._config = config
        self._world = world
        self._shuffled: tuple[int, list[ndarray]] = (-1, [])
        self.per_epoch = min(
            -(-len(rows) // config.batch_size), max(1, len(rows) // (2 * world.size))
        )
        """Batches of nearly equal size, none above batch_size; no image is left out, and none is
        alone in a part, where batch normalisation has no variance: with batches of two, one has
        three."""

    def __len__(self) -> int:
        return self._config.epochs * self.per_epoch

    def __getitem__(self, step: int) -> Int[ndarray, " batch"]:
        epoch, position = divmod(step, self.per_epoch)
        if self._shuffled[0] != epoch:
            order = np.random.default_rng(self.seed(0, epoch)).permutation(self._rows)
            self._shuffled = (epoch, np.array_split(order, self.per_epoch))
        return self._world.part(self._shuffled[1][position])

    def size_of(self, step: int) -> int:
        """The number of rows of a step, of all processes."""
        smallest, larger = divmod(len(self._rows), self.per_epoch)
        return smallest + (step % self.per_epoch < larger)

    def seed(self, purpose: int, number: int) -> int:
        """The seed of an epoch's or a part's random numbers, another one for each purpose."""
        parts = (self._config.seed, purpose, number)
        return int(np.random.SeedSequence(parts).generate_state(1)[0])

    def own_seed(self, purpose: int, step: int) -> int:
        """The seed of this process's part of a step."""
        return self.seed(purpose, step * self._world.size + self._world.rank)


@dataclass(frozen=True)
class Batches(Dataset[tuple[Tensor, Tensor]]):
    """Item i is the batch of step i: images (batch, height, width, channels) uint8 and targets."""

    images: Packed
    labels: Labels
    steps: Steps
    augment: Callable[[Images, int], Images]
    """A new array of a batch's images; the same seed gives the same bytes."""

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        rows = self.steps[step]
        augmented = self.augment(self.images[rows], self.steps.own_seed(1, step))
        found = torch.from_numpy(augmented), torch.from_numpy(self.labels[rows])
        for tensor in found:
            tensor.share_memory_()  # type: ignore[no-untyped-call]  # here an error is raised in the main process
        return found


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
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # else its start would change the numbers of dropout
    )
    # The main process reports Ctrl-C: workers inherit this mask from their first moment.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        found = _start(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield from found
    except TrainError as error:  # PyTorch puts the worker's traceback before the sentence
        raise TrainError(str(error).rpartition("TrainError: ")[2].strip()) from error


def _start(loader: DataLoader[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The iterator, with its processes. Raises RuntimeError where /dev/shm has no place for it."""
    hook = sys.unraisablehook
    try:
        return iter(loader)
    except OSError as error:
        # PyTorch's half-made iterator prints a traceback when it is deleted: here, unheard.
        sys.unraisablehook = lambda _: None
        traceback.clear_frames(error.__traceback__)
        raise RuntimeError(f"no shared memory for loader processes: {error}") from error
    finally:
        sys.unraisablehook = hook


def worker_count(device: torch.device, trainings: int = 1) -> int:
    """Loader processes: one beside a network on the CPU, up to eight beside a GPU.

    trainings: processes like this one on this machine.
    """
    return 1 if device.type == "cpu" else max(1, min(8, cores() // trainings - 1))


def _start_worker(_: int) -> None:
    from pipeline.train.augment.per_image import single_threaded

    end_with(os.getppid())
    single_threaded()
    # An error in a batch is raised in the main process. What is left for this hook is the thread
    # that hands over batches, when the main process ends in the middle of one, as after Ctrl-C.
    sys.excepthook = lambda *_: None
    # Where that thread cannot hand over a batch, Python drops it, and the main process would wait
    # for it for ever. That a worker ends is noticed.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_worker)  # type: ignore[attr-defined]


def _end_worker(error: Exception, _: object) -> None:
    say(f"a loader process ends: {error}")
    os._exit(1)
