"""What a machine ran out of while it trained, as a sentence with what to change.

NumPy, PyTorch and its loader processes have no common error for it, and no words of their own.
"""

import errno

import psutil
import torch

from pipeline.train.config import ModelConfig

_SAYS = (
    "DataLoader worker",  # was killed, mostly by the system for its memory
    "allocate memory",
    "failed to map segment",  # a library that is loaded only now
    "out of memory",
    "shared memory",
    "start new thread",
    "Too many open files",
    "unable to resize file",
)
_ERRNOS = (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE)


def describe_shortage(error: Exception, config: ModelConfig) -> str | None:
    """The sentence; None where the error has another cause."""
    text = str(error).strip() or type(error).__name__
    if not (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or (isinstance(error, OSError) and error.errno in _ERRNOS)
        or (isinstance(error, RuntimeError | ImportError) and any(words in text for words in _SAYS))
    ):
        return None
    lines = text.splitlines()
    reason = lines[-1 if text.startswith("Caught ") else 0].strip().rstrip(".")
    free_mb = psutil.virtual_memory().available // 2**20
    less = f"lower batch_size (now {config.batch_size})"
    if config.engine == "albumentations":
        less += ", or set engine: batched, which has no loader processes"
    return (
        f"this machine ran out of memory or another resource: {reason}. {free_mb} MiB of memory "
        f"are free: train fewer at a time (make train JOBS=1), {less}; or raise the limits that "
        "`ulimit -a` and `df /dev/shm` show. The same command goes on where it was"
    )
