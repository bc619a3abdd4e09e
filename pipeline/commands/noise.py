"""Command `noise`: labels to look at again, as suggested corrections.

It changes nothing that a stage reads. The suggestions are not in corrections/, so they neither
rerun `prepare` nor look like reviewed ones; a person copies the rows that are right.
"""

from pathlib import Path

from pipeline.core import paths
from pipeline.core.competition import read_competition
from pipeline.core.errors import TableError
from pipeline.core.ours import refuse_others, remember
from pipeline.core.progress import say
from pipeline.core.tables import IMAGE_COLUMNS, read_table, write_table
from pipeline.prepare.config import PrepareConfig
from pipeline.prepare.corrections import CORRECTION_COLUMNS, read_corrections
from pipeline.report.facts import read_rows
from pipeline.report.label_noise import find_label_noise

SUGGESTIONS = Path("reports/label_noise.csv")


def run(config: PrepareConfig, top: int, output: Path) -> None:
    """Write the `top` most doubtful labels to `output`.

    Only labels that another class beats are suggested, and none that was corrected before: there
    may be fewer. Raises TableError where the out-of-fold table and the store do not belong
    together, or where `output` is a file that may contain a person's work; OutputError where the
    earlier suggestions were changed.
    """
    if output.exists() and output != SUGGESTIONS:
        raise TableError(
            f"{output}: this file exists already, and it may contain reviewed corrections. Name "
            "another one with --output, or remove it"
        )
    refuse_others(output, reserved=paths.OWN_FILES)
    task = read_competition(paths.COMPETITION).task
    train = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
    noise = find_label_noise(read_rows(train, task, cuts=None))
    images = train[["image_id", "row_id"]]
    ranking = noise.ranking.merge(images, "left")
    reviewed: list[str] = []
    if config.corrections is not None:
        reviewed = list(read_corrections(Path(config.corrections))["image_id"])
    corrected = ranking["row_id"].isin(images["row_id"][images["image_id"].isin(reviewed)])
    suggested = ranking[(ranking["margin"] < 0) & ~corrected].head(top)
    reasons = [f"out-of-fold p(label)={value:.2f}" for value in suggested["probability_of_label"]]
    rows = suggested[["row_id", "label", "suggested"]].assign(reason=reasons)
    rows = rows.merge(images, "left")  # all images of a row, since they have one label
    rows = rows[["image_id", "label", "suggested", "reason"]]
    write_table(output, rows.set_axis(CORRECTION_COLUMNS, axis=1))
    remember(output)
    say(
        f"{len(ranking)} labels: {ranking['doubtful'].sum()} contradicted by the out-of-fold "
        f"predictions; about {noise.wrong:.0f} are wrong ({noise.low:.0f} to {noise.high:.0f} over "
        "resampled groups), by an estimate that counts some hard images as wrong labels"
    )
    if noise.left_out:
        say(f"not judged, since too few groups have them: {', '.join(noise.left_out)}")
    if suggested.empty:
        say(f"no label to look at again; {output} has no rows")
        return
    row = config.kind.removesuffix("s")
    say(
        f"{output}: the first {len(suggested)}, from {suggested['group'].nunique()} groups. "
        f"{paths.REPORT} shows the most doubtful {row}s, under {row.capitalize()}s to look at. "
        f"Look at each {row}, and copy the rows whose label is wrong, each with its reason, into a "
        "file that prepare.corrections names: corrections/NAME.csv"
    )
