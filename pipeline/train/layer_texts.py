"""The table of a network's layers as texts, for a terminal and for the report."""

from pipeline.train.layers import Layer, LayerTable, Sides

COLUMNS = (
    "layer", "kind", "kernel", "stride", "padding", "dilation", "output", "parameters",
    "multiplications", "field", "jump", "offset", "share", "if dense",
)  # fmt: skip


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


def _sides(sides: Sides | tuple[float, ...] | None) -> str:
    """A height and a width; one number where they are the same, or of a signal."""
    if sides is None:
        return "–"
    shown = [f"{side:g}" for side in sides]
    return shown[0] if len(set(shown)) == 1 else "×".join(shown)


def list_totals(table: LayerTable) -> list[str]:
    """What stands below the table."""
    one = f"signal of {table.length} samples" if table.length else f"picture of {table.size_px} px"
    lines = [
        f"{table.network}, one {one}, {table.outputs} outputs: "
        f"{table.parameters:,} parameters (with those of normalisation), "
        f"{table.multiplications:,} multiplications",
    ]
    if any(each.field and each.field.beyond for each in table.layers):
        lines.append(f"+: the field is larger than the {'signal' if table.length else 'picture'}")
    if table.unknown:
        lines.append(f"fields are unknown from an operation without a rule on: {table.unknown}")
    return lines
