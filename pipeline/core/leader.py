"""No process outlives the one that leads it, however that one ended.

A killed program cannot stop what it started: so each process watches its leader, in a thread, on
any system. The leader of a command that another command or `make` started is named in the
environment, which also passes through DVC and its shell.
"""

import os
import signal
import threading
import time

import psutil

_LEADER = "PIPELINE_LEADER"
_TURN_S = 0.5


def follow_leader() -> bool:
    """Tie this process to its leader, if it has one, and lead whatever it starts.

    In a stage of a `dvc repro` that a user typed, that is DVC. Returns whether this is a stage of
    a command of ours, which tells the user how it ended.
    """
    named = os.environ.get(_LEADER)
    in_stage = "DVC_STAGE" in os.environ
    if named is not None or in_stage:
        end_with(int(named or os.getppid()))
    os.environ[_LEADER] = str(os.getpid())
    return named is not None and in_stage


def end_with(pid: int) -> None:
    """Kill this process as soon as another one has ended: what a kill can leave half-written is
    never taken for whole."""
    threading.Thread(target=_watch, args=(pid,), daemon=True).start()


def _watch(pid: int) -> None:
    try:
        leader = psutil.Process(pid)
        while leader.is_running() and leader.status() != psutil.STATUS_ZOMBIE:
            time.sleep(_TURN_S)
    except psutil.NoSuchProcess:
        pass
    os.kill(os.getpid(), signal.SIGKILL)
