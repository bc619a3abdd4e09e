"""The sheet of `new`: some images or signals for each of the most frequent labels."""

from pathlib import Path

import cv2
import numpy as np
from numpy import ndarray

from pipeline.core import paths
from pipeline.core.arrays import read_array
from pipeline.core.files import new_file
from pipeline.core.tables import IMAGE_COLUMNS, read_table

SHEET = Path("reports/sheet.png")
_ROWS, _COLUMNS, _SIDE_PX = 8, 8, 64


def draw_sheet() -> None:
    """Some images or signals for each of the most frequent labels, a line a label."""
    table = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
    images = read_array(paths.TRAIN_IMAGES, len(table))
    sheet = np.full((_ROWS * _SIDE_PX, _COLUMNS * _SIDE_PX, 3), 255, np.uint8)
    labels = list(table["label"].value_counts().index[:_ROWS])
    for row, label in enumerate(labels):
        places = np.flatnonzero(table["label"] == label)
        step = max(1, len(places) // _COLUMNS)
        for column, place in enumerate(places[::step][:_COLUMNS]):
            small = _draw_small(images[place], _SIDE_PX - 2)
            top, left = row * _SIDE_PX + 1, column * _SIDE_PX + 1
            sheet[top : top + _SIDE_PX - 2, left : left + _SIDE_PX - 2] = small
    drawn = sheet[: max(1, len(labels)) * _SIDE_PX]
    _, encoded = cv2.imencode(".png", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    with new_file(SHEET) as partial:
        partial.write_bytes(encoded.tobytes())


def _draw_small(row: ndarray, side: int) -> ndarray:
    """An image as it is, a signal's first channel as a curve."""
    if row.dtype == np.uint8:
        return cv2.resize(row, (side, side)).reshape(side, side, -1)
    samples = row[:, 0] - row[:, 0].min()
    heights = side - 2 - samples * ((side - 4) / (samples.max() or 1))
    points = np.stack([np.linspace(1, side - 2, len(row)), heights], axis=1)
    drawn = np.full((side, side, 3), 255, np.uint8)
    return cv2.polylines(drawn, [points.round().astype(np.int32)], False, (60, 60, 60))
