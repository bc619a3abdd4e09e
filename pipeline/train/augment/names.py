"""The operations of both engines and their arguments, by name, without the engines' libraries.

So that a wrong name in params.yaml is said by every command, and not by the first training.
operations.json lists, for each operation of albumentations, the arguments that it has there and in
the batched engine; null for one that holds other operations. Those on signals stand there as of an
engine of their own. tests/test_batched.py compares it with all three.
"""

import json
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

Arguments = dict[str, list[str]]
"""By engine; an engine without the operation is left out."""


@cache
def operations() -> dict[str, Arguments | None]:
    """What operations.json says."""
    text = Path(__file__).with_name("operations.json").read_text(encoding="utf-8")
    known: dict[str, Arguments | None] = json.loads(text)
    return known


def find_fault(item: dict[str, Any], engine: str) -> str | None:
    """What is wrong with the names in an item of `augment`, or None.

    engine: the model's, or `signals` for a network of signals.
    """
    name, known = item["op"], operations()
    lacks = "signals have no" if engine == "signals" else f"the {engine} engine has no"
    own = [other for other, arguments in known.items() if arguments and engine in arguments]
    if name not in known:
        return f"{lacks} operation {name!r}; {_propose(name, own)}"
    by_engine = known[name]
    if by_engine is None:
        return (
            f"{name} holds other operations, and `augment` is one list of operations: write those "
            "of it one after the other, each with its own `p`"
        )
    if (engine == "signals") != ("signals" in by_engine):
        ours, theirs = ("signals", "images") if engine == "signals" else ("images", "signals")
        return f"{name} is for {theirs}, and the network is for {ours}; {_propose(name, own)}"
    if engine not in by_engine:
        return f"{lacks} operation {name!r} (it has {', '.join(own)}): set engine: albumentations"
    for argument in item.keys() - {"op"} - set(by_engine[engine]):
        fault = f"{name}: {lacks} argument {argument!r}"
        if argument in by_engine.get("albumentations", []):
            has = ", ".join(by_engine[engine])
            return f"{fault} (it has {has}): set engine: albumentations"
        return f"{fault}; {_propose(argument, by_engine[engine])}"
    return None


def _propose(name: str, known: list[str]) -> str:
    if close := get_close_matches(name, known, n=3):
        return f"close names: {', '.join(close)}"
    if len(known) > 20:
        return f"none of its {len(known)} names is close"
    return f"known: {', '.join(known)}"
