"""Stage `report`: reports/index.html, and its figures for `dvc metrics` and `dvc plots`."""

import json

import numpy as np
import pandas as pd

from pipeline.core import paths
from pipeline.core.arrays import read_array
from pipeline.core.files import write_text
from pipeline.core.progress import say
from pipeline.core.tables import IMAGE_COLUMNS, read_table, write_table
from pipeline.core.task import OneOf
from pipeline.core.terminal import printable
from pipeline.report.facts import list_figures, read_facts
from pipeline.report.gallery import show_galleries
from pipeline.report.page import render_page
from pipeline.report.seen import read_seen


def run(name: str) -> None:
    """Write the page and its figures for submissions/NAME.csv.

    Raises TableError where a file of another stage is missing or does not belong to the others.
    """
    facts = read_facts(name)
    image_ids = list(read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)["image_id"])
    images = read_array(paths.TRAIN_IMAGES, len(image_ids))
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    page = render_page(facts, show_galleries(facts, images, row_of), *read_seen(facts.card))
    write_text(paths.REPORT, page)
    write_text(paths.FIGURES, json.dumps(list_figures(facts), indent=2) + "\n")
    rows, task = facts.rows, facts.rows.task
    confusion = pd.DataFrame({"actual": [], "predicted": []})
    if isinstance(task, OneOf):
        names = np.array(list(map(_harmless, task.classes)), dtype=object)
        confusion = pd.DataFrame({"actual": names[rows.labels], "predicted": names[rows.decided]})
    write_table(paths.CONFUSION, confusion)
    filled = [each for each in facts.reliability.bins if each.rows] if facts.reliability else []
    reliability = pd.DataFrame(
        {
            "probability": [round(each.mean, 6) for each in filled],
            "share": [round(each.share, 6) for each in filled],
            "rows": [each.rows for each in filled],
        }
    )
    write_table(paths.RELIABILITY, reliability)
    size_mb = len(page.encode()) / 1e6
    say(f"{paths.REPORT}: open it in a browser ({size_mb:.1f} MB, nothing is fetched)")


def _harmless(name: str) -> str:
    """A class's name for `dvc plots`, which copies it into a script as it is: without tags."""
    return printable(name).translate({ord("<"): "‹", ord(">"): "›"})
