"""Several processes of one machine that train one network together.

Each takes its part of every batch, and has the same weights as the others after each step: the
gradients of losses that are weighted by the number of images in each part are summed in one order,
in which they lie in one vector. So the same number of processes gives the same bits, also after a
resumption. PyTorch's DistributedDataParallel arranges its sums anew after the first step of each
process, from three processes on in another order than that of a training that was not interrupted.
"""

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.core import errors
from pipeline.core.errors import PipelineError, TrainError
from pipeline.core.leader import end_with
from pipeline.train.device import choose_compute

Item = TypeVar("Item")

_GRACE_S = 2
"""How long processes have to end after Ctrl-C: those that still import PyTorch do not hear it."""


@dataclass(frozen=True)
class World:
    """The processes that train a network, as one of them sees it."""

    size: int
    rank: int

    @property
    def leads(self) -> bool:
        """Whether this one writes the files and says how it gets on."""
        return self.rank == 0

    def join(self, device: torch.device) -> None:
        """Meet the others; on GPUs each takes the one of its rank."""
        if self.size == 1:
            return
        if device.type == "cuda":
            torch.cuda.set_device(self.rank)
            os.environ.setdefault("NCCL_ALGO", "Ring")  # one order of sums
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    def part(self, rows: Int[ndarray, " batch"]) -> Int[ndarray, " part"]:
        """This one's part of a batch; the parts follow each other, the larger ones first."""
        return np.array_split(rows, self.size)[self.rank]

    def weigh(self, loss: Float[Tensor, ""], images: int, batch: int) -> Float[Tensor, ""]:
        """The mean loss of this one's part, so that the mean over processes is that of the batch.

        images, batch: how many are in the part and in the batch.
        """
        return loss if self.size == 1 else loss * (images * self.size / batch)

    @torch.no_grad()
    def combine(self, network: nn.Module) -> None:
        """Replace gradients, and what batch normalisation has seen, by their means over all."""
        if self.size == 1:
            return
        values = [each.grad for each in network.parameters() if each.grad is not None]
        values += [
            seen
            for layer in network.modules()
            if isinstance(layer, _BatchNorm) and layer.training
            for seen in (layer.running_mean, layer.running_var)
            if seen is not None
        ]
        vector = torch.cat([each.flatten() for each in values])
        dist.all_reduce(vector)
        vector /= self.size
        means = torch.split(vector, [each.numel() for each in values])
        for value, mean in zip(values, means, strict=True):
            value.copy_(mean.view_as(value))

    def add(self, numbers: Float[Tensor, " numbers"]) -> Float[Tensor, " numbers"]:
        """Their sums over all processes."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def share_out(self, items: list[Item], work: Callable[[list[Item]], list[Any]]) -> list[Any]:
        """What `work` makes of all items, in their order: each process does every so many-th."""
        if self.size == 1:
            return work(items)
        parts: list[list[Any]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, work(items[self.rank :: self.size]))
        return [parts[number % self.size][number // self.size] for number in range(len(items))]


ALONE = World(1, 0)

_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""The signals on which PyTorch's launcher ends the processes, but for those that are ignored here:
`nohup` and a script's background do that."""


def launch(work: Callable[..., None], device: str, size: int, *arguments: Any) -> None:
    """Call `work(*arguments, world)` in `size` processes of PyTorch's elastic launcher.

    device: as train.device. Raises the PipelineError of the process that ended first, and
    TrainError where one is killed or there are not enough GPUs; KeyboardInterrupt after Ctrl-C.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _check_gpus(choose_compute(device, "float32").device, size)
    with tempfile.TemporaryDirectory() as logs:
        others_write = dict.fromkeys(range(1, size), Std.ALL)
        handlers = {each: signal.getsignal(each) for each in _HANDLED}
        heard = [each.name for each in _HANDLED if handlers[each] is not signal.SIG_IGN]
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=size, run_id="train", max_restarts=0,
            rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1",
            logs_specs=DefaultLogsSpecs(logs, redirects=others_write), shutdown_timeout=_GRACE_S,
            signals_to_handle=",".join(heard),
        )  # fmt: skip
        logging.disable(logging.CRITICAL)  # the launcher's own words, which errors here say better
        try:
            with _interrupts_for_this_process():
                elastic_launch(config, _enter)(work, *arguments)
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from error
            raise SystemExit(128 + error.sigval) from error
        except ChildFailedError as error:
            raise _reason(error.get_first_failure()[1], Path(logs)) from error
        finally:
            logging.disable(logging.NOTSET)
            for number, handler in handlers.items():  # the launcher leaves its own
                signal.signal(number, handler)


@contextmanager
def _interrupts_for_this_process() -> Iterator[None]:
    """Ctrl-C reaches this process, by a thread, and not those that it starts until they ask for it:
    each would print a traceback while it imports PyTorch."""
    resource_tracker.ensure_running()  # its start would unblock it here
    over = Event()
    Thread(target=over.wait, daemon=True).start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        over.set()


def _enter(work: Callable[..., None], *arguments: Any) -> None:
    """The life of one process."""
    launcher = multiprocessing.parent_process()  # os.getppid() is another one's if it has ended
    end_with(launcher.pid if launcher and launcher.pid else os.getppid())
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for network in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(network, "lo0" if sys.platform == "darwin" else "lo")
    world = World(int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"]))
    work(*arguments, world)
    # Not after an error: the others notice when this one has written it and ends, and NCCL's would
    # wait for them, who wait for this one.
    if dist.is_initialized():
        dist.destroy_process_group()


def _check_gpus(device: torch.device, size: int) -> None:
    """Raise TrainError where there is no GPU for each process."""
    if device.type == "cpu":
        return
    found = torch.cuda.device_count() if device.type == "cuda" else 1
    if found < size:
        raise TrainError(
            f"train.world: {size} needs {size} GPUs of CUDA for one network, found {found} "
            f"({device.type}). Set train.world: 1, or train.device: cpu"
        )


def _reason(ended: Any, logs: Path) -> Exception:
    """The error of the process that failed first.

    Others lose it in the middle of a sum, and may end before it. ended: the first that PyTorch's
    launcher found so. logs: where each has written its error.
    """
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    written = sorted(logs.rglob("error.json"), key=lambda each: each.stat().st_mtime_ns)
    messages: list[Any] = []
    for file in written:
        with suppress(ValueError):  # of a process that was ended while it wrote
            messages.append(ProcessFailure(0, 0, 1, str(file)).message)
    for message in messages:
        kind, _, text = message["message"].partition(": ")
        if kind in vars(errors):
            error: PipelineError = vars(errors)[kind](text)
            return error
    if messages and ended.exitcode >= 0:
        return RuntimeError(messages[0]["extraInfo"]["py_callstack"])
    return TrainError(
        f"process {ended.local_rank} of the training ended: {ended.message}. It may have been "
        "killed because memory ran out. The same command goes on where it was"
    )
