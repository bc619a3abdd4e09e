"""Command `explain MODEL FOLD`: what one network sees, larger, as a page of its own."""

from pathlib import Path

import torch

from pipeline.core import paths
from pipeline.core.files import write_text
from pipeline.core.progress import say
from pipeline.explain.build import explain
from pipeline.explain.look import ALONE, look_at
from pipeline.explain.rows import find_row, read_trained
from pipeline.report.page import render_seen
from pipeline.report.seen import show


def run(member: str, fold: int, image_ids: list[str], layer: str | None, tsne: bool) -> Path:
    """Write the page, and return its path.

    image_ids: of the fold or of test; without any, those that stage `explain` chooses. layer: the
    module whose maps are shown. Raises TableError or TrainError where one of them is unknown.
    """
    torch.set_num_threads(1)
    trained = read_trained(member, fold)
    wanted = [find_row(trained, image_id) for image_id in dict.fromkeys(image_ids)]
    record, pictures = explain(look_at(trained, ALONE), wanted, layer, tsne)
    page = paths.explained_page(member, fold)
    write_text(page, render_seen(show(record, pictures)))
    say(f"{page}: open it in a browser ({page.stat().st_size / 1e6:.1f} MB, nothing is fetched)")
    return page
