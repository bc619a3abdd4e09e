"""What a notebook looks at: the competition's rows, tables of the result, and the mistakes.

Each function is one short cell: it takes what the stages wrote, and returns a pandas table, a
drawing or a page.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from markupsafe import Markup
from numpy import ndarray
from torch import Tensor

from pipeline.commands import describe
from pipeline.core import paths
from pipeline.core.arrays import read_array
from pipeline.core.errors import TrainError, plural
from pipeline.core.tables import IMAGE_COLUMNS, read_csv, read_table
from pipeline.ledger.git import git
from pipeline.notebook.show import Drawing, Page, charts, pictures
from pipeline.params import Config
from pipeline.prepare.stage import describe_task
from pipeline.report.facts import ReportFacts
from pipeline.report.gallery import Tile, picture, show_galleries
from pipeline.report.page import draw, render_seen
from pipeline.report.seen import read_seen
from pipeline.scoring.card import Forecast
from pipeline.train import layer_texts
from pipeline.train.augment.batched import BatchedPolicy
from pipeline.train.batches import make_policy
from pipeline.train.config import ModelConfig

MOST_PICTURES = 16
"""Pictures of a kind: one of pure noise has 37 kB."""

MOST_ROWS = 50
"""Rows of a table."""


@dataclass(frozen=True)
class ShownImages:
    """The images or signals of train or test as `prepare` stored them, and their table."""

    images: ndarray
    table: pd.DataFrame

    def tile(self, row: int, *caption: str) -> tuple[Markup | str, list[str]]:
        """A row's picture with a caption, for `pictures`."""
        return picture(np.asarray(self.images[row])), list(caption)


def read_stored(split: str) -> ShownImages:
    """split: train or test. Raises TableError where `prepare` has not run."""
    table = read_table(paths.STORE / f"{split}.csv", IMAGE_COLUMNS)
    return ShownImages(read_array(paths.STORE / f"{split}.npy", len(table)), table)


def summarise(facts: ReportFacts) -> pd.DataFrame:
    """The competition in a few lines."""
    audit, card = facts.audit, facts.card
    lines = {
        "task": describe_task(facts.rows.task),
        "metric": card.metric.name,
        f"training {facts.row}s": f"{audit.train.rows:,}",
        f"test {facts.row}s": f"{audit.test.rows:,}",
        "groups": f"{audit.train.groups:,}",
        "size of the originals": _size(facts),
    }
    return _column(lines, "value")


def _size(facts: ReportFacts) -> str:
    width, height = facts.audit.train.width.median, facts.audit.train.height.median
    if facts.row == "image":
        return f"{width:g} × {height:g} px"
    return f"{width:g} samples of {plural(int(height), 'channel')}"


def count_classes(facts: ReportFacts) -> pd.DataFrame:
    """The training rows of each class, and their share; the most frequent classes first."""
    name = f"{facts.row}s"
    counts = pd.Series(facts.audit.train.classes, name=name, dtype=int).to_frame()
    counts["share"] = (counts[name] / facts.audit.train.rows).map("{:.1%}".format)
    return counts.sort_values(name, ascending=False, kind="stable").head(MOST_ROWS)


def show_classes(train: ShownImages, most: int = MOST_PICTURES) -> Drawing:
    """The first images of each label; of more labels than places, some of all."""
    ordered = train.table.sort_values("label", kind="stable")
    labels = ordered["label"].nunique()
    firsts = ordered.groupby("label", sort=False).head(max(1, most // labels)).index
    chosen = firsts[:: -(-len(firsts) // most)]
    table = train.table
    return pictures(train.tile(at, table["label"][at], table["image_id"][at]) for at in chosen)


def list_folds(facts: ReportFacts) -> pd.DataFrame:
    """The size and the classes of each fold."""
    rows = [
        {"fold": each.fold, f"{facts.row}s": each.rows, "groups": each.groups}
        | dict(list(each.classes.items())[:MOST_ROWS])
        for each in facts.folds.folds
    ]
    return pd.DataFrame(rows).set_index("fold")


def count_duplicates(facts: ReportFacts) -> pd.DataFrame:
    """What was found double."""
    found = facts.audit.duplicates
    lines = {
        f"clusters of equal or nearly equal {facts.row}s": found.clusters,
        f"{facts.row}s in them": found.images,
        "clusters across train and test": found.where.get("both", 0),
        "clusters with more than one label": found.conflicting_labels,
        "clusters that join groups, and so stay in one fold": found.spans_groups,
    }
    return _column(lines, "found")


def show_duplicates(facts: ReportFacts, *splits: ShownImages, clusters: int = 4) -> Drawing | str:
    """The first clusters, up to four images of each."""
    known = {
        image_id: (split, row) for split in splits for row, image_id in
        enumerate(split.table["image_id"])
    }  # fmt: skip
    tiles = []
    for number, cluster in enumerate(facts.audit.clusters[:clusters], 1):
        for image_id in [each for each in cluster.image_ids if each in known][:4]:
            split, row = known[image_id]
            label = split.table["label"][row] or "test"
            tiles.append(split.tile(row, f"{number}: {cluster.kind}", label, image_id))
    return pictures(tiles) if tiles else f"No {facts.row} is there twice."


def show_augmented(
    model: ModelConfig, engine: str, train: ShownImages, images: int = 4, times: int = 3
) -> Drawing | str:
    """The first images or signals, each before and after a model's own augmentation.

    engine: either one for images, `batched` for signals.
    """
    if not isinstance(model, ModelConfig):
        return "This model sees its rows as they are: nothing is augmented."
    before = np.array(train.images[:images])
    try:
        with warnings.catch_warnings(action="ignore"):  # of libraries that would draw in a notebook
            policy = make_policy(model.model_copy(update={"engine": engine}), before.shape[1:])
    except (KeyError, TrainError) as error:
        return f"The engine {engine} does not have all of these operations: {error}"
    after = []
    for seed in range(times):
        if isinstance(policy, BatchedPolicy):
            batch = policy.apply(torch.from_numpy(before).movedim(-1, 1), seed).movedim(1, -1)
            after.append(_as_stored(batch, before.dtype))
        else:
            after.append(policy.apply(before, seed))
    tiles = [
        (picture(view), ["before" if time == 0 else f"after, {time}"])
        for row in range(len(before))
        for time, view in enumerate([before[row], *(each[row] for each in after)])
    ]
    return pictures(tiles, columns=2 * (times + 1))


def _as_stored(batch: Tensor, dtype: np.dtype[Any]) -> ndarray:
    return (batch.round().clamp(0, 255).byte() if dtype == np.uint8 else batch).numpy()


def list_network(config: Config, model: str) -> pd.DataFrame:
    """A network's layers, as `python -m pipeline describe MODEL` lists them."""
    layers = describe.describe(config, model).layers
    cells = map(layer_texts.list_cells, layers)
    return pd.DataFrame(cells, columns=list(layer_texts.COLUMNS)).set_index("layer")


def show_curves(facts: ReportFacts, model: str) -> Drawing:
    """The history of a model's folds, a chart for each of its columns."""
    return charts(*draw(facts)["curves"][model])


def show_score(facts: ReportFacts) -> Drawing:
    """The out-of-fold score with its interval and the forecasts, beside the score of each fold."""
    drawn = draw(facts)
    return charts(drawn["intervals"], drawn["folds"])


def show_probabilities(facts: ReportFacts) -> Drawing | str:
    """Whether the probabilities are calibrated, and the ROC curve of two classes; or of numbers
    the predictions against the labels."""
    drawn = draw(facts)
    known = [drawn[name] for name in ("reliability", "counts", "roc") if name in drawn]
    return charts(*(known or drawn["numbers"]))


def list_confusion(facts: ReportFacts) -> pd.DataFrame:
    """The rows by given and predicted class; of many classes the pairs that are confused most; of
    other tasks each class against the rest."""
    if facts.confusion is not None:
        names = facts.rows.task.outputs
        table = pd.DataFrame(facts.confusion, index=names, columns=names)
        return table.rename_axis(index="given", columns="predicted")
    return pd.DataFrame(facts.confused or facts.shown_classes)


def show_mistakes(
    facts: ReportFacts, train: ShownImages, most: int = MOST_PICTURES
) -> Drawing | str:
    """The mistakes that the networks are surest of."""
    row_of = {image_id: row for row, image_id in enumerate(train.table["image_id"])}
    tiles = show_galleries(facts, train.images, row_of)["mistakes"][:most]
    return pictures(map(_mistake, tiles)) if tiles else "There is no mistake."


def _mistake(tile: Tile) -> tuple[Markup | str, list[str]]:
    sure = tile.probability_of_predicted
    says = f"says {tile.predicted}" + ("" if sure is None else f" {sure:.2f}")
    return tile.picture, [f"is {tile.given}", says, tile.image_id]


def show_seen(facts: ReportFacts, model: str) -> Page | str:
    """What one network of a model sees, as the report shows it."""
    found, left = read_seen(facts.card)
    for each in found:
        if each.record.model == model:
            return Page(render_seen(each, large=False))
    fold = dict(left)[model]
    return f"There is no place left. It is shown by: python -m pipeline explain {model} {fold}"


def forecast(facts: ReportFacts) -> pd.DataFrame | str:
    """What the public and the private leaderboard are expected to show."""
    found = facts.card.forecast
    if not isinstance(found, Forecast):
        return f"There is no forecast: {found.why}."
    halves = {"public": (found.rows.public, found.public), "private": (found.rows.private,
                                                                       found.private)}  # fmt: skip
    rows = [
        {"leaderboard": name, "rows": rows, "expected": f"{found.mean:.4f}",
         f"{found.confidence:.0%} interval": f"{low:.4f} to {high:.4f}"}
        for name, (rows, (low, high)) in halves.items()
    ]  # fmt: skip
    return pd.DataFrame(rows).set_index("leaderboard")


def first_rows(submission: Path, most: int = 5) -> pd.DataFrame:
    """The start of a submission, as text."""
    return read_csv(submission).head(most)


def commit_of(submission: Path) -> str:
    """The commit that a submission is in; a notebook that is committed later names the same."""
    found = git("log", "-1", "--format=%H", "--", submission.as_posix())
    return found or f"{submission} is in no commit"


def _column(lines: Mapping[str, object], name: str) -> pd.DataFrame:
    return pd.Series(lines, name=name, dtype=object).to_frame()
