"""Command `describe`: a network's layers, each with its shape, its cost and its receptive field."""

from pipeline.core import paths
from pipeline.core.competition import (
    Decoding,
    ImageDecoding,
    SignalDecoding,
    read_competition,
    read_decoding,
)
from pipeline.core.task import OneOf, Task
from pipeline.core.terminal import make_table, print_line, print_table
from pipeline.params import Config
from pipeline.prepare.config import ImagesConfig
from pipeline.train.layer_texts import COLUMNS, list_cells, list_totals
from pipeline.train.layers import LayerTable, list_layers
from pipeline.train.models import build_model
from pipeline.train.networks.config import Network, OfSignals, OwnNetwork, TimmNetwork
from pipeline.train.networks.named import NAMED

_LENGTH, _RATE_HZ, _SIDE_PX = 4096, 16_000, 224
"""The length and the rate of signals and the side of images, where nothing says it."""


def run(config: Config, model: str, size_px: int | None, length: int | None, as_json: bool) -> None:
    """Print the table of a network, or the same as JSON.

    model: a key of train.models, or a name of a network. Raises TrainError for one that cannot be
    built for this size.
    """
    table = describe(config, model, size_px, length)
    if as_json:
        for line in table.model_dump_json(indent=2).splitlines():
            print_line(line)
        return
    print_table(make_table(COLUMNS, map(list_cells, table.layers)), width=200)
    for line in list_totals(table):
        print_line(line)


def describe(
    config: Config, model: str, size_px: int | None = None, length: int | None = None
) -> LayerTable:
    """The table of a network with fresh weights, on which nothing in it depends."""
    network = _network_of(config, model)
    if isinstance(network, OfSignals):
        decoding: Decoding = _signals(length)
    else:
        own_px = config.prepare.size_px if isinstance(config.prepare, ImagesConfig) else _SIDE_PX
        decoding = _images(size_px or own_px)
    zeros, ones = [0.0] * decoding.channels, [1.0] * decoding.channels
    built = build_model(network, _task(), decoding, zeros, ones)
    return list_layers(built.network, network.name, decoding)


def _network_of(config: Config, model: str) -> Network:
    if model in config.train.models:
        network: Network = config.train.models[model].network
        if isinstance(network, OwnNetwork):
            return network
        return network.model_copy(update={"pretrained": False, "weights": None})
    if model in NAMED:
        return NAMED[model]
    return TimmNetwork(
        family="timm", name=model, pretrained=False, weights=None, dropout=0.0, drop_path=None
    )


def _stored() -> Decoding | None:
    return read_decoding(paths.DECODING) if paths.DECODING.is_file() else None


def _images(size_px: int) -> ImageDecoding:
    """Pictures of this size, in the competition's channels; in RGB where it has none."""
    stored = _stored()
    channels = stored.channels if isinstance(stored, ImageDecoding) else 3
    return ImageDecoding(size_px=size_px, channels=channels, fit="stretch", black_white=None)


def _signals(length: int | None) -> SignalDecoding:
    """Signals of this length, or the competition's, in its channels; in one where it has none."""
    stored = _stored()
    if not isinstance(stored, SignalDecoding):
        stored = SignalDecoding(length=_LENGTH, channels=1, rate_hz=_RATE_HZ)
    return stored.model_copy(update={"length": length}) if length else stored


def _task() -> Task:
    """The competition's; two classes where it is not prepared."""
    if paths.COMPETITION.is_file():
        return read_competition(paths.COMPETITION).task
    return OneOf(classes=["0", "1"])
