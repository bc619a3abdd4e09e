"""Command `noise`: labels to look at again, as suggested corrections and as a gallery.

It changes nothing that a stage reads. The suggestions lie outside corrections/, so that they
neither rerun `prepare` nor pass for reviewed; a person carries over the rows that are right.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.commands.contact_sheet import Picture, draw_gallery
from pipeline.core import paths
from pipeline.core.competition import read_competition
from pipeline.core.errors import TableError, examples
from pipeline.core.files import new_file
from pipeline.core.progress import say
from pipeline.core.tables import (
    IMAGE_COLUMNS,
    class_indices,
    read_csv,
    read_predictions,
    read_table,
    write_table,
)
from pipeline.prepare.config import PrepareConfig
from pipeline.prepare.corrections import CORRECTION_COLUMNS, read_corrections
from pipeline.report.label_noise import estimate_label_noise, rank_label_noise

SUGGESTIONS = Path("reports/label_noise.csv")
GALLERY = Path("reports/label_noise.png")

_COLUMNS = 10
_RESAMPLES = 200
_SEED = 0


def run(config: PrepareConfig, top: int, output: Path) -> None:
    """Write the `top` most doubtful labels to `output`, and draw them.

    Only labels that another class beats are suggested, and none that was corrected before: there
    may be fewer. Raises TableError
    where the out-of-fold table and the store do not belong together, or where `output` is a
    file that may hold a person's work.
    """
    if output.exists() and output != SUGGESTIONS:
        raise TableError(
            f"{output}: there is such a file already, and it may hold reviewed corrections. Name "
            "another with --output, or remove it"
        )
    classes = read_competition(paths.COMPETITION).classes
    train = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
    image_ids = list(read_csv(paths.ENSEMBLE_OOF)["image_id"])
    probabilities = read_predictions(paths.ENSEMBLE_OOF, image_ids, classes)
    scored = _rows_of(train, image_ids)
    labels = class_indices(paths.TRAIN_TABLE, scored["label"], classes)
    groups = list(scored["group"])
    ranking = rank_label_noise(image_ids, labels, probabilities, groups, classes)
    estimate = estimate_label_noise(labels, probabilities, groups, classes, _RESAMPLES, _SEED)
    reviewed = ranking["image_id"].isin(_corrected(config))
    suggested = ranking[(ranking["margin"] < 0) & ~reviewed].head(top)
    write_table(output, _as_corrections(suggested))
    say(
        f"{len(image_ids)} labels: {ranking['doubtful'].sum()} contradicted by the out-of-fold "
        f"predictions, {estimate.wrong:.0f} estimated to be wrong ({estimate.low:.0f} to "
        f"{estimate.high:.0f} over resampled groups), hard images among them"
    )
    if suggested.empty:
        GALLERY.unlink(missing_ok=True)
        say(f"no label to look at again; {output} is empty")
        return
    _draw(train, suggested)
    say(
        f"the first {len(suggested)}, of {suggested['group'].nunique()} groups: {output}, drawn in "
        f"{GALLERY}. Look at each, and put the rows whose label is wrong, each with its reason, "
        "into a file that prepare.corrections names: corrections/NAME.csv"
    )


def _rows_of(train: pd.DataFrame, image_ids: list[str]) -> pd.DataFrame:
    known = train.set_index("image_id")
    if unknown := [image_id for image_id in image_ids if image_id not in known.index]:
        raise TableError(
            f"{paths.ENSEMBLE_OOF}: expected images of {paths.TRAIN_TABLE}, found {len(unknown)} "
            f"of {len(image_ids)} others {examples(unknown)}. Run: dvc repro"
        )
    return known.loc[image_ids]


def _corrected(config: PrepareConfig) -> list[str]:
    if config.corrections is None:
        return []
    return list(read_corrections(Path(config.corrections))["image_id"])


def _as_corrections(suggested: pd.DataFrame) -> pd.DataFrame:
    reasons = [f"out-of-fold p(label)={value:.2f}" for value in suggested["probability_of_label"]]
    columns = suggested[["image_id", "label", "suggested"]]
    return columns.assign(reason=reasons).set_axis(CORRECTION_COLUMNS, axis=1)


def _draw(train: pd.DataFrame, suggested: pd.DataFrame) -> None:
    images = np.load(paths.TRAIN_IMAGES, mmap_mode="r")
    row_of = {image_id: row for row, image_id in enumerate(train["image_id"])}
    pictures = [
        Picture(
            np.asarray(images[row_of[row["image_id"]]]),
            [
                row["image_id"],
                f"{row['label']} -> {row['suggested']}",
                f"p(label) {row['probability_of_label']:.2f}",
            ],
        )
        for row in suggested.to_dict("records")
    ]
    with new_file(GALLERY) as partial:
        partial.write_bytes(draw_gallery(pictures, _COLUMNS))
