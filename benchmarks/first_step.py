"""Stage `train` as the command line starts it, with a clock beside it: for benchmarks/startup.py.

Nothing of the stage is changed: three functions are wrapped to note when they begin and end, and
the first step has ended when the second batch is asked for. What is imported here, the stage
would import.
Prints one line of JSON: by name of each event, `time.monotonic()` at it.
"""

import time

EVENTS = {"python": time.monotonic()}

import json  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402, F401

EVENTS["torch imported"] = time.monotonic()

from pipeline import __main__ as command_line  # noqa: E402
from pipeline.train import stage as train  # noqa: E402
from pipeline.train.batches import Feed  # noqa: E402

EVENTS["rest imported"] = time.monotonic()


def note(event: str) -> None:
    """The first time that it happens."""
    EVENTS.setdefault(event, time.monotonic())


def note_around(function: Callable[..., Any], before: str, after: str) -> Callable[..., Any]:
    """The same function, its begin and its end noted."""

    def noted(*arguments: Any, **named: Any) -> Any:
        note(before)
        result = function(*arguments, **named)
        note(after)
        return result

    return noted


def note_batches(batches: Callable[..., Any]) -> Callable[..., Any]:
    """The same generator; that it yields, and that it goes on, is noted."""

    def noted(*arguments: Any) -> Any:
        for batch in batches(*arguments):
            note("first batch")
            yield batch
            note("first step")

    return noted


def main() -> int:
    """Run the command line with the clock; its exit code."""
    train.build_model = note_around(train.build_model, "data read", "network built")
    train.fit = note_around(train.fit, "training begun", "trained")
    Feed.batches = note_batches(Feed.batches)  # type: ignore[method-assign]
    try:
        return command_line.main()
    finally:
        note("predicted and written")
        print(json.dumps(EVENTS))


if __name__ == "__main__":
    sys.exit(main())
