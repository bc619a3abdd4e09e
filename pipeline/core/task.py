"""What is predicted for an image: one class of several, any of several labels, or numbers.

Everything that differs between these three is asked of the task: what a label is as an array, what
a row of predictions must satisfy, which labels are decided from it and how much it loses.
Predictions are always one column for each output. Tables hold labels as text.

    task     labels as an array            a row of predictions
    one_of   (rows,) class indices         probabilities that add up to 1
    any_of   (rows, classes) of bool       a probability in [0, 1] for each class
    number   (rows, numbers) of float      numbers
"""

from abc import abstractmethod
from collections.abc import Iterable
from functools import cached_property
from operator import not_
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from pydantic import AfterValidator, Field, model_validator

from pipeline.core.errors import TableError, named
from pipeline.core.record import Record
from pipeline.core.shapes import Labels, Outputs

SEPARATOR = "|"
"""Between the labels of a row, or its numbers, in the column `label` of our tables."""

SUM_OFF = 1e-4
"""How far the sum of a row's probabilities may be from 1."""

_SMALLEST = 2.0**-52
"""Probabilities are clipped to this and one minus it before the logarithm, as scikit-learn does."""

_LARGEST = 1e8
"""Of a number, since records hold scores up to 1e9."""


def _joinable(names: list[str]) -> list[str]:
    if len(set(names)) < len(names) or any(not name or SEPARATOR in name for name in names):
        raise ValueError(f"expected different names without {SEPARATOR!r}, found {names}")
    return names


Names = Annotated[list[str], Field(min_length=1), AfterValidator(_joinable)]

Kind = Literal["one_of", "any_of", "number"]


class _Task(Record):
    """The questions that a later stage may ask."""

    @property
    @abstractmethod
    def outputs(self) -> list[str]:
        """The name of each column of predictions."""

    prefix: ClassVar[str] = "p_"

    @property
    def columns(self) -> list[str]:
        """The same as columns of our tables of predictions."""
        return [f"{self.prefix}{name}" for name in self.outputs]

    @property
    def learned(self) -> list[str]:
        """The name of each output of a network: as `outputs`, but merged classes are one."""
        return self.outputs

    def learn(self, labels: Labels) -> Labels:
        """The labels as a network learns them."""
        return labels

    @abstractmethod
    def encode(self, place: Path | str, texts: Iterable[str]) -> Labels:
        """The labels of our tables as an array. Raises TableError, with `place`, for any other."""

    @abstractmethod
    def decode(self, labels: Labels) -> list[str]:
        """The text of each row's label: encode's inverse."""

    @abstractmethod
    def valid(self, values: Outputs) -> Bool[ndarray, " rows"]:
        """Which rows are predictions of this task."""

    expected: ClassVar[str]
    """What `valid` asks of a row, for messages."""

    @abstractmethod
    def decide(self, values: Outputs, cuts: list[float] | None) -> Labels:
        """The labels that predictions stand for; cuts: fitted thresholds, if any."""

    @property
    @abstractmethod
    def cut_count(self) -> int:
        """How many cuts `decide` takes; 0 where it takes none."""

    @abstractmethod
    def losses(self, values: Outputs, labels: Labels) -> Float[ndarray, " rows"]:
        """What training minimises, by row: log loss, its mean over the labels, squared error."""

    def right(self, decided: Labels, labels: Labels) -> Bool[ndarray, " rows"]:
        """Whether each row is decided as labelled, wholly."""
        return np.asarray((decided == labels).all(axis=1))

    def count(self, labels: Labels) -> dict[str, int]:
        """How many rows have each class; nothing of numbers."""
        counts: ndarray = np.asarray(labels).sum(axis=0)
        return dict(zip(self.outputs, counts.tolist(), strict=True))


class OneOf(_Task):
    """One class of two or more."""

    kind: Literal["one_of"] = "one_of"
    classes: Annotated[list[str], Field(min_length=2)]
    """As the labels file writes them, in the order of the probabilities."""
    ordered: bool = False
    """Whether their order is a scale, such as the grades of a disease."""
    merged: list[str] = Field(default_factory=list, exclude_if=not_)
    """Classes in too few groups, which a network learns as one: they share its probability in equal
    parts, and none of them is ever decided."""

    @model_validator(mode="after")
    def _two_stay(self) -> Self:
        left = set(self.classes) - set(self.merged)
        count = len(self.merged)
        if count and (count < 2 or len(left) < 2 or count + len(left) != len(self.classes)):
            raise ValueError(f"expected two or more of the classes beside two, found {self.merged}")
        return self

    @property
    def outputs(self) -> list[str]:
        return self.classes

    @property
    def learned(self) -> list[str]:
        if not self.merged:
            return self.classes
        name = "other"
        while name in self.classes:
            name += "_"
        return [*(each for each in self.classes if each not in self.merged), name]

    @cached_property
    def place_learned(self) -> Int[ndarray, " classes"]:
        """The place in `learned` of each class."""
        of = {name: place for place, name in enumerate(self.learned)}
        return np.array([of.get(name, len(of) - 1) for name in self.classes])

    @cached_property
    def share_learned(self) -> Float[ndarray, " classes"]:
        """The part that each class has of the probability of what is learned."""
        return np.asarray(1 / np.bincount(self.place_learned)[self.place_learned])

    def learn(self, labels: Labels) -> Labels:
        return np.asarray(self.place_learned[labels]) if self.merged else labels

    def encode(self, place: Path | str, texts: Iterable[str]) -> Labels:
        return _indices(place, list(texts), self.classes)

    def decode(self, labels: Labels) -> list[str]:
        return [self.classes[place] for place in labels]

    def valid(self, values: Outputs) -> Bool[ndarray, " rows"]:
        return np.asarray(_in_unit_interval(values) & (abs(values.sum(axis=1) - 1) <= SUM_OFF))

    expected: ClassVar[str] = "probabilities in [0, 1] that add up to 1"

    def decide(self, values: Outputs, cuts: list[float] | None) -> Labels:
        """cuts: of two classes the second's least probability; else the bounds between ordered
        classes of the expected place, in [0, classes - 1]."""
        if cuts is None:
            alone = self.share_learned == 1
            return np.asarray(np.where(alone, values, -1.0).argmax(axis=1))
        if len(self.classes) == 2:
            return (values[:, 1] >= cuts[0]).astype(np.int64)
        return np.asarray(np.searchsorted(cuts, expected_place(values), side="right"))

    @property
    def cut_count(self) -> int:
        return len(self.classes) - 1 if len(self.classes) == 2 or self.ordered else 0

    def losses(self, values: Outputs, labels: Labels) -> Float[ndarray, " rows"]:
        return _minus_log(values[np.arange(len(labels)), labels])

    def right(self, decided: Labels, labels: Labels) -> Bool[ndarray, " rows"]:
        return np.asarray(decided == labels)

    def count(self, labels: Labels) -> dict[str, int]:
        counts = np.bincount(labels, minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))


class AnyOf(_Task):
    """None, one or several of one or more labels."""

    kind: Literal["any_of"] = "any_of"
    classes: Names
    separator: str = " "
    """Between the labels of a row, as the competition writes them in one cell."""
    at_least_one: bool = False
    """Whether every training image has a label, so that one is decided for each image."""

    @property
    def outputs(self) -> list[str]:
        return self.classes

    def encode(self, place: Path | str, texts: Iterable[str]) -> Labels:
        sets = [text.split(SEPARATOR) if text else [] for text in texts]
        rows = np.repeat(np.arange(len(sets)), [len(names) for names in sets])
        found = _indices(place, [name for names in sets for name in names], self.classes)
        labels = np.zeros((len(sets), len(self.classes)), bool)
        labels[rows, found] = True
        return labels

    def decode(self, labels: Labels) -> list[str]:
        return [
            SEPARATOR.join(self.classes[place] for place in np.flatnonzero(row)) for row in labels
        ]

    def valid(self, values: Outputs) -> Bool[ndarray, " rows"]:
        return _in_unit_interval(values)

    expected: ClassVar[str] = "probabilities in [0, 1]"

    def decide(self, values: Outputs, cuts: list[float] | None) -> Labels:
        """cuts: each label's least probability; one half without."""
        least = np.full(values.shape[1], 0.5) if cuts is None else np.array(cuts)
        decided = np.asarray(values >= least)
        if self.at_least_one and len(none := np.flatnonzero(~decided.any(axis=1))):
            decided[none, (values - least)[none].argmax(axis=1)] = True
        return decided

    @property
    def cut_count(self) -> int:
        return len(self.classes)

    def losses(self, values: Outputs, labels: Labels) -> Float[ndarray, " rows"]:
        return np.asarray(_minus_log(np.where(labels, values, 1 - values)).mean(axis=1))


class Number(_Task):
    """One or more numbers."""

    kind: Literal["number"] = "number"
    names: Names

    prefix: ClassVar[str] = "y_"

    @property
    def outputs(self) -> list[str]:
        return self.names

    def encode(self, place: Path | str, texts: Iterable[str]) -> Labels:
        rows = [text.split(SEPARATOR) for text in texts]
        try:
            labels = np.array(rows, np.float64).reshape(len(rows), len(self.names))
        except ValueError as error:
            raise TableError(f"{place}: expected {self.expected} as labels: {error}") from error
        if len(wrong := np.flatnonzero(~self.valid(labels))):
            found = SEPARATOR.join(rows[wrong[0]])
            raise TableError(f"{place}: expected {self.expected} as labels, found {found!r}")
        return labels

    def decode(self, labels: Labels) -> list[str]:
        return [SEPARATOR.join(map(repr, row)) for row in labels.tolist()]

    def valid(self, values: Outputs) -> Bool[ndarray, " rows"]:
        return np.asarray((np.abs(values) <= _LARGEST).all(axis=1))

    expected: ClassVar[str] = f"numbers from {-_LARGEST:g} to {_LARGEST:g}"

    def decide(self, values: Outputs, cuts: list[float] | None) -> Labels:  # noqa: ARG002
        """The numbers themselves."""
        return values

    @property
    def cut_count(self) -> int:
        return 0

    def losses(self, values: Outputs, labels: Labels) -> Float[ndarray, " rows"]:
        return np.asarray(((values - labels) ** 2).mean(axis=1))

    def count(self, labels: Labels) -> dict[str, int]:  # noqa: ARG002
        return {}


Task = Annotated[OneOf | AnyOf | Number, Field(discriminator="kind")]


def describe_label(task: Task, label: Any) -> str:
    """A label for people: numbers with four digits, no label as a dash."""
    if isinstance(task, Number):
        return ", ".join(f"{value:.4g}" for value in label)
    return task.decode(np.array([label]))[0].replace(SEPARATOR, ", ") or "–"


def expected_place(values: Outputs) -> Float[ndarray, " rows"]:
    """The mean of the classes' places, weighted by their probabilities."""
    total: Any = np.zeros(len(values))
    for place, column in enumerate(values.T):  # one after the other: a row's bits are its own
        total = total + place * column
    return np.asarray(total)


def _indices(place: Path | str, names: list[str], classes: list[str]) -> Labels:
    index_of = {name: index for index, name in enumerate(classes)}
    if unknown := sorted(set(names) - set(classes)):
        raise TableError(
            f"{place}: expected labels of the training images, {named(classes)}, found "
            f"{unknown[0]!r}"
        )
    return np.array([index_of[name] for name in names], np.int64)


def _in_unit_interval(values: Outputs) -> Bool[ndarray, " rows"]:
    return np.asarray(((values >= 0) & (values <= 1)).all(axis=1))


def _minus_log(likelihood: ndarray) -> ndarray:
    return np.asarray(-np.log(np.clip(likelihood, _SMALLEST, 1 - _SMALLEST)))
