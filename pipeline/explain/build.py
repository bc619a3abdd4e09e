"""Everything that is shown of one network, as a record and its pictures."""

import numpy as np
import torch
from numpy import ndarray
from torch import nn

from pipeline.core.competition import SignalDecoding
from pipeline.core.task import describe_label
from pipeline.explain.cam import (
    Map,
    feature_maps,
    grad_cam,
    occlude,
    on_grid,
    rank_correlation,
)
from pipeline.explain.look import Looker
from pipeline.explain.network import (
    MapModule,
    as_tensor,
    field_box,
    find_maps,
    first_layer,
    hidden_features,
    last_layer,
    named_map,
)
from pipeline.explain.points import MOST, cosines, embed, project, shared_groups, spread
from pipeline.explain.rows import Predicted, Trained, choose_rows, explained_output
from pipeline.scoring.seen import (
    Explanation,
    FirstWeights,
    Heat,
    LayerMaps,
    LayerTexts,
    MapLayer,
    NearestRows,
    Neighbour,
    Pictures,
    PointMap,
    SharedGroups,
    ShownRow,
)
from pipeline.train.layer_texts import COLUMNS, list_cells, list_totals
from pipeline.train.networks.config import ProbeNetwork, SpectrogramNetwork


def explain(
    look: Looker,
    wanted: list[tuple[Predicted, int]] | None = None,
    layer: str | None = None,
    tsne: bool = False,
) -> tuple[Explanation, Pictures]:
    """The record of a network, and its pictures.

    wanted: rows to show instead of the chosen ones. layer: the module whose maps are shown instead
    of the last ones of each size. tsne: instead of PCA. Raises TrainError for a module without
    maps.
    """
    trained, scored = look.trained, look.trained.scored
    dims = len(trained.decoding.shape) - 1
    if layer is None:
        maps = find_maps(look.map_runs, look.table, dims)
    else:
        maps = [named_map(look.map_runs, look.table, dims, layer)]
    wanted = wanted or [(scored, row) for row in choose_rows(scored, trained.task)]
    final = last_layer(look.runs)
    points, shared = _scatter(look, final, tsne)
    searched = spread(trained.known)
    record = Explanation(
        model=trained.member,
        fold=trained.fold,
        network=trained.description.network.name,
        kind=trained.decoding.kind,
        weights_sha256=trained.weights_sha256,
        cells=look.cells,
        grouped=trained.grouped,
        layers=LayerTexts(
            columns=list(COLUMNS),
            rows=[list_cells(each) for each in look.table.layers],
            notes=list_totals(look.table),
        ),
        first=_first_weights(look),
        maps=[
            MapLayer(layer=each.name, channels=each.channels, sides=each.sides, field=each.field)
            for each in maps
        ],
        left_out=_left_out(trained, maps),
        rows=[_show(look, at, *each, maps) for at, each in enumerate(wanted)],
        points=points,
        shared=shared,
        searched=len(searched),
        nearest=_nearest(look, final, searched),
    )
    return record, look.album.pictures


def _left_out(trained: Trained, maps: list[MapModule]) -> list[str]:
    network, said = trained.description.network, []
    if not maps:
        said.append(
            f"{network.name} has no maps whose units stay at their place (a transformer mixes "
            "all places, a linear model has no layers): feature maps, receptive fields and "
            "Grad-CAM are left out. Occlusion looks only at what comes out, and is shown."
        )
    if isinstance(network, ProbeNetwork):
        said.append(
            f"{network.name} is a probe: its layers stay as they were published, and its "
            "classifier reads several of them at once. Grad-CAM shows what it reads from the last "
            "one alone."
        )
    if isinstance(network, SpectrogramNetwork):
        said.append(
            f"{network.name} looks at spectrograms, which are drawn in place of signals, low bands "
            "below: what it shows at each time is the mean over all bands, and its first windows, "
            "which lie over bands and time, are left out."
        )
    return said


def _first_weights(look: Looker) -> FirstWeights | None:
    channels, *axes = look.trained.decoding.shape[-1], *look.trained.decoding.shape[:-1]
    first = first_layer(look.runs, (channels, *axes))
    if first is None:
        return None
    values = first.weight.detach().numpy()
    kernels = values.ndim > 2
    if not kernels:
        values = values.reshape(len(values), channels, *axes)
    learned, curves = look.trained.task.learned, isinstance(look.trained.decoding, SignalDecoding)
    return FirstWeights(
        layer=first.name,
        kind="kernels" if kernels else "pixels",
        count=len(values),
        names=list(learned) if not kernels and len(values) == len(learned) else [],
        curves=_name_curves(channels, values.shape[1]) if curves else [],
        picture=look.album.add("first", look.canvas.weights(values[: look.extent.kernels])),
    )


def _name_curves(channels: int, inputs: int) -> list[str]:
    """What a network for signals is given: the channels, then their differences."""
    own = [f"channel {channel}" for channel in range(channels)] if channels > 1 else ["the signal"]
    orders = "", " (differences)", " (second differences)"
    return [f"{name}{order}" for order in orders for name in own][:inputs]


def _show(look: Looker, number: int, rows: Predicted, row: int, maps: list[MapModule]) -> ShownRow:
    """number: of the row among those that are shown."""
    trained, task, name = look.trained, look.trained.task, f"row{number}"
    pixels = np.asarray(rows.images[rows.places[row]])
    learned, place = explained_output(task, rows, row)
    seen = [_layer_maps(look, f"{name}_maps{at}", pixels, each) for at, each in enumerate(maps)]
    cams: list[Map] = []
    if maps:
        layer = maps[-1].module
        both = (trained.model, layer), (look.control, look.control_of(layer))
        cams = [grad_cam(model, each, pixels, learned) for model, each in both]
    falls = [occlude(each, pixels, place, look.cells) for each in (trained.model, look.control)]
    label, right = None, None
    if rows.labels is not None:
        one = slice(row, row + 1)
        label = describe_label(task, rows.labels[row])
        right = bool(task.right(rows.decided[one], rows.labels[one])[0])
    return ShownRow(
        image_id=rows.image_ids[row],
        group=rows.groups[row] if rows.groups else "",
        given=label,
        predicted=describe_label(task, rows.decided[row]),
        right=right,
        explained=task.outputs[place],
        value=float(rows.values[row, place]),
        picture=look.album.add(name, look.canvas.plain(pixels, [each.box for each in seen])),
        maps=seen,
        cam=_heat(look, f"{name}_cam", pixels, *cams) if cams else None,
        occlusion=_heat(look, f"{name}_occlusion", pixels, *falls),
        agreement=rank_correlation(on_grid(cams[0], look.cells), falls[0]) if cams else None,
    )


def _layer_maps(look: Looker, name: str, pixels: ndarray, layer: MapModule) -> LayerMaps:
    with torch.no_grad():
        found = feature_maps(look.trained.model, layer.module, as_tensor(pixels[None]))[1][0]
    # Of a spectrogram the mean over its bands.
    values = found.reshape(len(found), -1, *layer.sides).mean(1).double().numpy()
    strongest = np.argsort(-values.mean((1, 2)), kind="stable")[: look.extent.channels]
    down, right = np.unravel_index(values[strongest[0]].argmax(), layer.sides)
    unit = int(down), int(right)
    return LayerMaps(
        layer=layer.name,
        channels=strongest.tolist(),
        picture=look.album.add(name, look.canvas.strip(values[strongest])),
        unit=unit,
        box=field_box(layer.field, unit, look.sides) if layer.field else None,
    )


def _heat(look: Looker, name: str, pixels: ndarray, found: Map, control: Map) -> Heat:
    grids = on_grid(found, look.cells), on_grid(control, look.cells)
    return Heat(
        picture=look.album.add(name, look.canvas.heated(pixels, found)),
        shuffled=look.album.add(f"{name}_shuffled", look.canvas.heated(pixels, control)),
        correlation=rank_correlation(*grids),
    )


def _scatter(look: Looker, final: nn.Module, tsne: bool) -> tuple[PointMap, SharedGroups | None]:
    trained, scored = look.trained, look.trained.scored
    assert scored.labels is not None
    rows = spread(np.arange(len(scored.places)), MOST)
    features = hidden_features(trained.model, final, scored.images, scored.places[rows])
    places, kept = project(features)
    if tsne:
        places = embed(features)
    labels = trained.label_names(rows)
    groups = [scored.groups[row] for row in rows] if trained.grouped else []
    points = PointMap(
        method="t-SNE" if tsne else "PCA",
        kept=None if tsne else kept,
        of_rows=len(scored.places),
        x=[_short(each) for each in places[:, 0]],
        y=[_short(each) for each in places[:, 1]],
        labels=labels,
        wrong=trained.wrong(rows),
        groups=groups,
    )
    return points, shared_groups(features, labels, groups) if groups else None


def _short(value: float) -> float:
    """Four digits: a tenth of a pixel of any chart."""
    return float(f"{value:.4g}")


def _nearest(look: Looker, final: nn.Module, searched: ndarray) -> list[NearestRows]:
    trained, extent, album = look.trained, look.extent, look.album
    test, train = trained.test, trained.scored.images
    asked = spread(np.arange(len(test.places)), extent.asked)
    near = cosines(
        hidden_features(trained.model, final, test.images, test.places[asked]),
        hidden_features(trained.model, final, train, searched),
    )
    found = []
    for number, row in enumerate(asked.tolist()):
        order = torch.argsort(near[number], descending=True, stable=True)[: extent.neighbours]
        neighbours = [
            Neighbour(
                image_id=trained.image_ids[searched[at]],
                label=describe_label(trained.task, trained.labels[searched[at]]),
                cosine=float(near[number, at]),
                picture=album.add(f"test{number}_{place}", look.canvas.plain(train[searched[at]])),
            )
            for place, at in enumerate(order.tolist())
        ]
        found.append(
            NearestRows(
                image_id=test.image_ids[row],
                predicted=describe_label(trained.task, test.decided[row]),
                picture=album.add(f"test{number}", look.canvas.plain(test.images[row])),
                neighbours=neighbours,
            )
        )
    return found
