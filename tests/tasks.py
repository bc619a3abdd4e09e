"""Tasks for the tests, and labels and predictions drawn for them."""

from collections.abc import Iterable

import numpy as np
from numpy import ndarray

from pipeline.core.task import AnyOf, Number, OneOf


def one_of(classes: int | Iterable[str], ordered: bool = False) -> OneOf:
    """One of these classes, or of so many that are called 0, 1, …"""
    names = map(str, range(classes)) if isinstance(classes, int) else classes
    return OneOf(classes=list(names), ordered=ordered)


def any_of(*classes: str, at_least_one: bool = False, separator: str = " ") -> AnyOf:
    """Any of these labels."""
    return AnyOf(classes=list(classes), at_least_one=at_least_one, separator=separator)


def number(*names: str) -> Number:
    """Numbers of these names."""
    return Number(names=list(names))


OTHERS: dict[str, AnyOf | Number] = {
    "several labels": any_of("cat", "dog", "owl"),
    "numbers": number("age", "size"),
}
"""One task of each kind but one_of."""


def draw_members(
    task: AnyOf | Number, seed: int, spreads: Iterable[float] = (1.0, 1.5, 2.5), rows: int = 200
) -> tuple[ndarray, ndarray]:
    """Models' predictions, the smaller the spread the better; and the labels.

    Each label holds in another share of the rows; the models are too sure of them.
    """
    generator = np.random.default_rng(seed)
    outputs = len(task.outputs)
    if isinstance(task, Number):
        truth = generator.normal(50, 10, (rows, outputs))
        noise = [spread * generator.normal(0, 4, truth.shape) for spread in spreads]
        return np.stack([truth + each for each in noise]), truth
    labels = generator.random((rows, outputs)) < np.linspace(0.2, 0.5, outputs)
    logits = [
        2 * labels - 1.5 + spread * generator.normal(0, 1, labels.shape) for spread in spreads
    ]
    return 1 / (1 + np.exp(-2 * np.stack(logits))), labels
