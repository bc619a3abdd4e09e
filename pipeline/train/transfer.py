"""The place of the stored rows while the batched engine trains, and the way to the device.

On the CPU the memory-mapped array is read in place. A GPU gets the training rows once, as uint8,
where they take less than half of its free memory: 22,063 images of 128 px are 1.1 GB. Where they
take more, a thread reads ahead, and the images of each step are sent from pinned memory.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int, Num
from numpy import ndarray
from torch import Tensor

from pipeline.core.shapes import Packed

Residence = Literal["in place", "resident", "streamed"]
StepRows = Int[ndarray, " batch"]
"""The row numbers of a step."""
StepImages = Num[Tensor, "batch *axes channels"]

_AHEAD = 4
"""Steps that the thread has ready."""
_CHUNK = 1024
"""Images that are uploaded at a time."""
_LARGEST_THRESHOLD_BYTES = 2**25
"""glibc's DEFAULT_MMAP_THRESHOLD_MAX."""


def choose_residence(wanted_bytes: int, device: torch.device) -> Residence:
    """The best place for images of so many bytes."""
    match device.type:
        case "cpu":
            return "in place"
        case "cuda":
            free = torch.cuda.mem_get_info(device)[0]
        case _:
            free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return "resident" if wanted_bytes < free / 2 else "streamed"


def read_steps(
    images: Packed,
    steps: Iterable[StepRows],
    rows: Int[ndarray, " training"],
    device: torch.device,
    residence: Residence,
) -> Iterator[StepImages]:
    """The images of each step on the device. rows: all that the steps can name, once each."""
    match residence:
        case "in place":
            return (torch.from_numpy(images[step]) for step in steps)
        case "resident":
            return _read_resident(images, steps, rows, device)
        case "streamed":
            return _read_streamed(images, steps, device)


def send(array: ndarray, device: torch.device) -> Tensor:
    """The array on the device; the CPU does not wait for its arrival."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def keep_freed_memory() -> None:
    """Have the C library keep what a step frees for the next, instead of giving it back.

    glibc gives back blocks above a threshold, which rises to the largest one that was freed, so
    each step would pay for fresh pages. Freeing one large block that nobody writes to raises it:
    from 1,587 page faults for a batch of 64 images of 64 px to none, and half the time. It changes
    nothing with other C libraries.
    """
    torch.empty(_LARGEST_THRESHOLD_BYTES - 2**16, dtype=torch.uint8)


def _read_resident(
    images: Packed, steps: Iterable[StepRows], rows: Int[ndarray, " training"], device: torch.device
) -> Iterator[StepImages]:
    dtype = torch.from_numpy(images[rows[:1]]).dtype
    resident = torch.empty((len(rows), *images.shape[1:]), dtype=dtype, device=device)
    for start in range(0, len(rows), _CHUNK):
        chunk = torch.from_numpy(images[rows[start : start + _CHUNK]])
        resident[start : start + _CHUNK].copy_(chunk)
    position = np.zeros(len(images), np.int64)
    position[rows] = np.arange(len(rows))
    for step in steps:
        yield resident.index_select(0, send(position[step], device))


def _read_streamed(
    images: Packed, steps: Iterable[StepRows], device: torch.device
) -> Iterator[StepImages]:
    def read(step: StepRows) -> StepImages:
        batch = torch.from_numpy(images[step])
        return batch.pin_memory() if device.type == "cuda" else batch

    left = iter(steps)
    with ThreadPoolExecutor(1) as thread:
        ready = deque(thread.submit(read, step) for step in islice(left, _AHEAD))
        while ready:
            batch = ready.popleft().result()
            ready.extend(thread.submit(read, step) for step in islice(left, 1))
            yield batch.to(device, non_blocking=True)
