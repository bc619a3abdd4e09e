"""Commands side by side, none of which outlives the program that started them."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline.core.progress import say

_TURN_S = 0.2
_GRACE_S = 20.0
"""How long a command may clean up after Ctrl-C; then it is killed."""


class Signals:
    """Signals that end a program, which are only noted when they come, and raised by `wait`: so
    they cannot interrupt between a start and its entry in a list."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a script's background
                self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def wait(self) -> None:
        """Wait a little. Raises KeyboardInterrupt or SystemExit after a signal."""
        time.sleep(_TURN_S)
        if self.received:
            number = self.received.pop()
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received.append(number)


class Processes:
    """Commands at work. Each leads a process group, so that a signal reaches its children too."""

    def __init__(self) -> None:
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        """By name."""
        self.signals = Signals()

    def __enter__(self) -> "Processes":
        self.signals.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._stop()
        finally:
            self.signals.__exit__()

    def start(
        self,
        name: str,
        command: list[str],
        own: Mapping[str, str],
        log: Path | None,
        folder: Path | None = None,
    ) -> None:
        """Start a command with `own` in its environment, in a folder, by default ours; without a
        log it shares our output."""
        with log.open("wb") if log else contextlib.nullcontext() as output:
            self.running[name] = subprocess.Popen(
                command,
                env={**os.environ, **own},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait(self) -> dict[str, int]:
        """Wait a little; the exit codes of those that have ended since.

        Raises KeyboardInterrupt or SystemExit after a signal.
        """
        self.signals.wait()
        ended = {}
        for name, process in list(self.running.items()):
            if process.poll() is not None:
                _signal(process.pid, signal.SIGKILL)  # children that it left behind
                ended[name] = process.returncode
                del self.running[name]
        return ended

    def _stop(self) -> None:
        """Send Ctrl-C to each group; after the grace, or a second signal, kill it."""
        if not self.running:
            return
        for number in (signal.SIGINT, signal.SIGKILL):
            groups = [process.pid for process in self.running.values() if _signal(process.pid, 0)]
            for group in groups:
                _signal(group, number)
            if number == signal.SIGINT:
                with contextlib.suppress(OSError, SystemExit):  # nobody reads standard error
                    say(f"stopping {', '.join(self.running)}")
            deadline = time.monotonic() + _GRACE_S
            while any(_signal(group, 0) for group in groups) and time.monotonic() < deadline:
                for process in self.running.values():
                    process.poll()
                if self.signals.received and number == signal.SIGINT:
                    break
                time.sleep(_TURN_S / 2)


def _signal(group: int, number: int) -> bool:
    """Send a signal; whether the group had a process to receive it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False
