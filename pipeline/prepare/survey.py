"""What is to be one for all signals of a competition: the rate, the channels, the length.

The parameters say it, or the first training signal has it. That another one differs shows when it
is decoded; then all of them are measured, so that the error can say what would fit.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from pipeline.core.competition import SignalDecoding
from pipeline.core.errors import CompetitionError, ImageError, plural, short_list
from pipeline.core.progress import track
from pipeline.prepare.config import SignalsConfig
from pipeline.prepare.layout import Split
from pipeline.prepare.signal_files import Measure, ShapeError, describe_rate, length_at
from pipeline.prepare.store import in_order

USUAL = 0.95
"""The share of signals that are no longer than the length that is proposed."""


@dataclass(frozen=True)
class Measured:
    """A signal as its file has it."""

    length: int
    channels: int
    rate_hz: int | None


@dataclass(frozen=True)
class Survey:
    """Some or all signals of a competition."""

    signals: list[Measured]

    @property
    def rates(self) -> Counter[int | None]:
        """How many signals have each rate, or say none."""
        return Counter(one.rate_hz for one in self.signals)

    @property
    def channels(self) -> Counter[int]:
        """How many signals have each number of channels."""
        return Counter(one.channels for one in self.signals)

    @property
    def usual_rate(self) -> int | None:
        """The most frequent one; None where no signal says any."""
        return next((rate for rate, _ in self.rates.most_common() if rate), None)

    def lengths(self, rate_hz: int | None) -> list[int]:
        """The samples of each, shortest first, where all are of this rate."""
        return sorted(length_at(one.length, one.rate_hz, rate_hz) for one in self.signals)

    def usual_length(self, rate_hz: int | None) -> int:
        """The least length that USUAL of the signals do not exceed."""
        lengths = self.lengths(rate_hz)
        return lengths[-(-len(lengths) * round(100 * USUAL) // 100) - 1]

    def describe_lengths(self, rate_hz: int | None) -> str:
        """The shortest, the median and the longest."""
        lengths, total = self.lengths(rate_hz), plural(len(self.signals), "signal")
        median = f"median {np.median(lengths):.0f}"
        return f"{total} of {lengths[0]} to {lengths[-1]} samples ({median})"

    def describe_rates(self) -> str:
        """How many signals have each rate, the most frequent first."""
        return short_list([f"{n} of {describe_rate(rate)}" for rate, n in self.rates.most_common()])

    def describe_channels(self) -> str:
        """How many signals have each number of channels."""
        every = self.channels.most_common()
        return short_list([f"{n} of {plural(count, 'channel')}" for count, n in every])


def survey(splits: Sequence[Split]) -> Survey:
    """Measure all signals, without those that cannot be read."""
    jobs = [(split, place) for split in splits for place in range(len(split.pictures))]
    measured = track(in_order(_measure, jobs), "measuring the signals", len(jobs))
    return Survey([one for one in measured if one])


def choose_decoding(train: Split, config: SignalsConfig) -> SignalDecoding:
    """How signals become rows: as the parameters say, else as the first that can be read is.

    Raises CompetitionError where none can be read.
    """
    places = range(len(train.pictures))
    first = next((one for one in map(partial(_measure_at, train), places) if one), None)
    if first is None:
        raise CompetitionError(f"{train.place}: expected signals of train, found none to read")
    rate_hz = first.rate_hz if config.rate_hz == "auto" else config.rate_hz
    length = length_at(first.length, first.rate_hz, rate_hz)
    return SignalDecoding(
        length=length if config.length == "auto" else config.length,
        channels=first.channels if config.channels == "auto" else config.channels,
        rate_hz=rate_hz,
        fitted=tuple(_fitted(config)),
    )


def describe_misfit(
    splits: Sequence[Split], config: SignalsConfig, misfit: ShapeError
) -> CompetitionError:
    """The error on the first signal that differs, with what all of them are and what to set."""
    found, place = survey(splits), splits[0].images.place
    expected, were, remedies = zip(*_differences(found, config), strict=True)
    return CompetitionError(
        f"{place}: expected signals {' and '.join(expected)}, found {'; '.join(were)}; the first "
        f"that differs is {misfit}. {'. '.join(remedies)}"
    )


def _differences(found: Survey, config: SignalsConfig) -> Iterator[tuple[str, str, str]]:
    """How signals differ that have to be alike: what was expected, what was found, what to set."""
    if config.rate_hz == "auto" and len(found.rates) > 1:
        remedy = (
            f"Set prepare.rate_hz in params.yaml to the rate that all shall have, such as "
            f"{found.usual_rate}: sound of another rate is then resampled"
        )
        if None in found.rates:
            remedy = "Write those that say no rate as files of sound, as WAV, or all as .npy"
        yield "of one rate", found.describe_rates(), remedy
    elif None in found.rates and config.rate_hz != "auto":
        remedy = f"Set prepare.rate_hz in params.yaml, now {config.rate_hz}, to auto"
        yield "that say their rate, as sound does", found.describe_rates(), remedy
    if config.channels == "auto" and len(found.channels) > 1:
        remedy = "Set prepare.channels in params.yaml to 1, which stores the mean of the channels"
        yield "of as many channels each", found.describe_channels(), remedy
    rate_hz = found.usual_rate if config.rate_hz == "auto" else config.rate_hz
    if config.length == "auto" and len(set(found.lengths(rate_hz))) > 1:
        remedy = (
            "Set prepare.length in params.yaml to the samples that each shall have, such as "
            f"{found.usual_length(rate_hz)}, which {USUAL:.0%} of them do not exceed: longer ones "
            "are then cut to their middle, shorter ones padded with zeros"
        )
        yield "of one length", found.describe_lengths(rate_hz), remedy


def _fitted(config: SignalsConfig) -> Iterator[Literal["rate", "channels", "length"]]:
    if config.rate_hz != "auto":
        yield "rate"
    if config.channels != "auto":
        yield "channels"
    if config.length != "auto":
        yield "length"


def _measure(job: tuple[Split, int]) -> Measured | None:
    return _measure_at(*job)


def _measure_at(split: Split, place: int) -> Measured | None:
    """None where the signal is missing or cannot be read."""
    if picture := split.pictures[place]:
        with suppress(ImageError):
            found, _ = picture.decode(split.images, Measure())
            return Measured(found.width, found.height, found.rate_hz)
    return None
