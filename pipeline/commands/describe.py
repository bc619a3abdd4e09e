"""Command `describe`: a network's layers, each with its shape, its cost and its receptive field."""

from pipeline.core import paths
from pipeline.core.competition import Decoding, ImageDecoding, read_competition, read_decoding
from pipeline.core.task import OneOf, Task
from pipeline.core.terminal import make_table, print_line, print_table
from pipeline.params import Config
from pipeline.train.config import Network, SmallNetwork, TimmNetwork
from pipeline.train.layers import Layer, LayerTable, Sides, list_layers
from pipeline.train.models import SMALL, build_model

COLUMNS = (
    "layer", "kind", "kernel", "stride", "padding", "dilation", "output", "parameters",
    "multiplications", "field", "jump", "offset", "share", "if dense",
)  # fmt: skip


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
    decoding = _decoding(size_px)
    zeros, ones = [0.0] * decoding.channels, [1.0] * decoding.channels
    built = build_model(network, _task(), decoding, zeros, ones)
    return list_layers(built.network, network.name, decoding)


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


def _decoding(size_px: int) -> Decoding:
    """Pictures of this size, in the competition's channels; in RGB where it is not prepared."""
    if paths.DECODING.is_file():
        return read_decoding(paths.DECODING).model_copy(update={"size_px": size_px})
    return ImageDecoding(size_px=size_px, channels=3, fit="stretch", black_white=None)


def _task() -> Task:
    """The competition's; two classes where it is not prepared."""
    if paths.COMPETITION.is_file():
        return read_competition(paths.COMPETITION).task
    return OneOf(classes=["0", "1"])


def list_cells(layer: Layer) -> list[str]:
    """A row of the table."""
    window = layer.window
    sides = (
        (window.kernel, window.stride, window.padding, window.dilation) if window else [None] * 4
    )
    return [
        layer.name or "–",
        layer.kind,
        *map(_sides, sides),
        " × ".join(map(str, layer.shape)),
        f"{layer.parameters:,}",
        f"{layer.multiplications:,}",
        *_field(layer),
        "–" if layer.dense is None else f"{layer.dense:,}",
    ]


def _field(layer: Layer) -> tuple[str, str, str, str]:
    """Field, jump, offset and share."""
    field = layer.field
    if field is None:
        return "unknown", "–", "–", "–"
    share = f"{field.share:.1%}"
    if field.jump is None:
        return "whole" if field.whole else _sides(field.size), "–", "–", share
    return (
        _sides(field.size) + ("+" if field.beyond else ""),
        _sides(field.jump),
        _sides(field.offset),
        share,
    )


def _sides(sides: Sides | tuple[float, float] | None) -> str:
    """A height and a width; one number where they are the same."""
    if sides is None:
        return "–"
    shown = [f"{side:g}" for side in sides]
    return shown[0] if shown[0] == shown[1] else "×".join(shown)


def list_totals(table: LayerTable) -> list[str]:
    """What stands below the table."""
    lines = [
        f"{table.network}, one picture of {table.size_px} px, {table.outputs} outputs: "
        f"{table.parameters:,} parameters (with those of normalisation), "
        f"{table.multiplications:,} multiplications",
    ]
    if any(each.field and each.field.beyond for each in table.layers):
        lines.append("+: the field is larger than the picture")
    if table.unknown:
        lines.append(f"fields are unknown from an operation without a rule on: {table.unknown}")
    return lines
