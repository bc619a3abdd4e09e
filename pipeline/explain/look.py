"""A network that is looked at: how much of it is shown, its layers, and a shuffled copy."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import nn

from pipeline.core.competition import SignalDecoding
from pipeline.explain.cam import shuffled
from pipeline.explain.draw import Album, canvas_for
from pipeline.explain.network import Ran, as_tensor, list_runs, stage_runs
from pipeline.explain.points import spread
from pipeline.explain.rows import Trained
from pipeline.train.layers import LayerTable, list_layers
from pipeline.train.models import Classifier
from pipeline.train.networks.spectrogram import OnSpectrogram

_OF_STATISTICS = 64
"""Rows by which the shuffled network's normalisation is set."""


@dataclass(frozen=True)
class Extent:
    """How much is shown, and how large."""

    row_px: int
    map_px: int
    channels: int
    cells: int
    """A side of the grid that is covered patch by patch; a signal has four times as many in all."""
    kernels: int
    neighbours: int
    asked: int
    """The images of test whose nearest training images are shown."""


IN_REPORT = Extent(row_px=96, map_px=40, channels=4, cells=8, kernels=64, neighbours=3, asked=4)
ALONE = Extent(row_px=288, map_px=96, channels=12, cells=16, kernels=256, neighbours=6, asked=8)


@dataclass
class Looker:
    """A network that is looked at, and its pictures so far.

    control: the same with shuffled weights; runs, table: its modules and layers, in the order in
    which they run.
    """

    trained: Trained
    extent: Extent
    control: Classifier
    runs: list[Ran]
    table: LayerTable
    album: Album = field(default_factory=Album)

    def __post_init__(self) -> None:
        extent, network = self.extent, self.trained.model.network
        spectrograms = self._spectrograms if isinstance(network, OnSpectrogram) else None
        decoding = self.trained.decoding
        self.canvas = canvas_for(decoding, extent.row_px, extent.map_px, spectrograms)

    @torch.no_grad()
    def _spectrograms(self, row: ndarray) -> Float[ndarray, "channels bands frames"]:
        model = self.trained.model
        assert isinstance(model.network, OnSpectrogram)
        pictures = model.network.picture(model.normalise(as_tensor(row[None])))
        return pictures[0].numpy()  # type: ignore[no-any-return]

    @property
    def sides(self) -> tuple[int, int]:
        """A row's height and width; a signal's height is 1."""
        height, width = (1, *self.trained.decoding.shape[:-1])[-2:]
        return height, width

    @property
    def map_runs(self) -> list[Ran]:
        """Those that may give maps."""
        return stage_runs(self.trained.model.network, self.runs)

    @property
    def cells(self) -> tuple[int, int]:
        count = self.extent.cells
        if isinstance(self.trained.decoding, SignalDecoding):
            return 1, min(self.sides[1], 4 * count)
        return count, count

    def control_of(self, layer: nn.Module) -> nn.Module:
        """The same layer of the control."""
        pairs = zip(self.trained.model.modules(), self.control.modules(), strict=True)
        return dict(pairs)[layer]


def look_at(trained: Trained, extent: Extent) -> Looker:
    """Run a network once, for its layers, and shuffle a copy of it."""
    model, scored = trained.model, trained.scored
    network = trained.description.network
    runs = list_runs(model.network, model.normalise(as_tensor(scored.images[:1])))
    few = scored.images[spread(scored.places, _OF_STATISTICS)]
    table = list_layers(model.network, network.name, trained.decoding)
    return Looker(trained, extent, shuffled(model, few), runs, table)
