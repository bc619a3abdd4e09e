"""Command `describe`: a network's layers, each with its shape, its cost and its receptive field."""

from pipeline.core import paths
from pipeline.core.competition import read_competition
from pipeline.core.task import OneOf, Task
from pipeline.core.terminal import make_table, print_line, print_table
from pipeline.params import Config
from pipeline.train.config import Network, SmallNetwork, TimmNetwork
from pipeline.train.layer_texts import COLUMNS, list_cells, list_totals
from pipeline.train.layers import LayerTable, list_layers
from pipeline.train.models import SMALL, build_model


def run(config: Config, model: str, size_px: int | None, as_json: bool) -> None:
    """Print the table of a network, or the same as JSON.

    model: a key of train.models, or a name of a network. Raises TrainError for one that cannot be
    built for this size.
    """
    table = describe(config, model, size_px or config.prepare.size_px)
    if as_json:
        for line in table.model_dump_json(indent=2).splitlines():
            print_line(line)
        return
    print_table(make_table(COLUMNS, map(list_cells, table.layers)), width=200)
    for line in list_totals(table):
        print_line(line)


def describe(config: Config, model: str, size_px: int) -> LayerTable:
    """The table of a network with fresh weights, on which nothing in it depends."""
    network = _network_of(config, model)
    built = build_model(network, _task(), size_px, [0.0] * 3, [1.0] * 3)
    return list_layers(built.network, network.name, size_px)


def _network_of(config: Config, model: str) -> Network:
    if model in config.train.models:
        network: Network = config.train.models[model].network
        if isinstance(network, SmallNetwork):
            return network
        return network.model_copy(update={"pretrained": False, "weights": None})
    if model in SMALL:  # as all profiles have them
        return SmallNetwork.model_validate(
            {"family": "small", "name": model, "width": 16, "stages": 4, "dropout": 0.1}
        )
    return TimmNetwork(
        family="timm", name=model, pretrained=False, weights=None, dropout=0.0, drop_path=None
    )


def _task() -> Task:
    """The competition's; two classes where it is not prepared."""
    if paths.COMPETITION.is_file():
        return read_competition(paths.COMPETITION).task
    return OneOf(classes=["0", "1"])
