"""Tasks for the tests."""

from collections.abc import Iterable

from pipeline.core.task import OneOf


def one_of(classes: int | Iterable[str], ordered: bool = False) -> OneOf:
    """One of these classes, or of so many that are called 0, 1, …"""
    names = map(str, range(classes)) if isinstance(classes, int) else classes
    return OneOf(classes=list(names), ordered=ordered)
