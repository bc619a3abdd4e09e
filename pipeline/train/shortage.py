"""What a machine ran out of while it trained, as a sentence with what to change."""

from pipeline.core.machine import free_memory, lacks_memory
from pipeline.train.config import AnyModel

_ENDED = ("killed by signal: Killed", "exited unexpectedly")
"""PyTorch's words for a loader process that has ended, by the moment at which it notices."""

_FULL = ("No space left on device", "signal: Bus error")
"""What PyTorch says where a batch has no place in shared memory."""


def describe_shortage(error: Exception, config: AnyModel) -> str | None:
    """The sentence; None where the error has another cause."""
    if not lacks_memory(error):
        return None
    text = str(error).strip() or type(error).__name__
    reason = text.splitlines()[-1 if text.startswith("Caught ") else 0].strip().rstrip(".")
    what, raised = (
        "this machine ran out of memory or another resource",
        "the limits that `ulimit -a`",
    )
    if any(words in reason for words in _ENDED):
        what = (
            "a loader process ended, killed by hand or by the system because memory ran out "
            "(unless a line above says why)"
        )
    elif any(words in reason for words in _FULL):
        what = "/dev/shm is full, through which loader processes hand over their batches"
        raised = "its size (docker run --shm-size=2g) and the limits that `ulimit -a`"
    return (
        f"{what}: {reason}. {free_memory() // 2**20} MiB of memory are free: train fewer at a time "
        f"(make train JOBS=1), {config.spare_memory}; or raise {raised} and `df /dev/shm` show. "
        "The same command goes on where it was"
    )
