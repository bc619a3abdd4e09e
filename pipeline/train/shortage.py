"""What a machine ran out of while it trained, as a sentence with what to change."""

from pipeline.core.machine import free_memory, lacks_memory
from pipeline.train.config import AnyModel


def describe_shortage(error: Exception, config: AnyModel) -> str | None:
    """The sentence; None where the error has another cause."""
    if not lacks_memory(error):
        return None
    text = str(error).strip() or type(error).__name__
    reason = text.splitlines()[-1 if text.startswith("Caught ") else 0].strip().rstrip(".")
    return (
        f"this machine ran out of memory or another resource: {reason}. {free_memory() // 2**20} "
        "MiB of memory are free: train fewer at a time (make train JOBS=1), "
        f"{config.spare_memory}; or raise the limits that `ulimit -a` and `df /dev/shm` show. The "
        "same command goes on where it was"
    )
