"""Where a competition can be misread without any error: it is asked, refused, or right in its values."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawing import Drawn, Layout, Row
from layouts import CLASSES, UNSEEN
from PIL import Image
from sklearn import metrics
from solving import prepared, solve

from pipeline.core import paths
from pipeline.core.competition import read_competition
from pipeline.core.errors import PipelineError
from pipeline.core.tables import read_csv
from pipeline.core.task import OneOf
from pipeline.scoring.card import read_card

GRADES = ["No DR", "Mild", "Moderate", "Severe", "Proliferative DR"]
WORDS = replace(
    CLASSES["histopathologic-cancer-detection"],
    classes=["cactus", "none"],
    tables={"train.csv": "id=id, label=label", "sample_submission.csv": "id=id, label=0.5"},
)
GRADED = replace(
    CLASSES["aptos2019-blindness-detection"],
    classes=GRADES,
    tables={"train.csv": "id=id, grade=label", "sample_submission.csv": "id=id, grade=No DR"},
)
NUMBERED = replace(
    CLASSES["cassava-leaf-disease-classification"],
    classes=["0.0", "1.0"],
    others={},
    tables={"train.csv": "id=id, label=label", "sample_submission.csv": "id=id, label=0"},
)


def refusal(layout: Layout, project: Path) -> str:
    """What the first stage that refuses a competition says."""
    with pytest.raises(PipelineError) as caught, prepared(layout, Drawn(layout), project):
        pass
    assert not (project / paths.STORE).exists()
    return str(caught.value)


@pytest.mark.parametrize("metric", ["roc_auc", "log_loss"])
def test_which_of_two_words_a_probability_is_of_is_asked(metric: str, tmp_path: Path) -> None:
    said = refusal(replace(WORDS, metric=metric), tmp_path / "project")
    assert "prepare.classes" in said
    assert "none" in said
    assert "cactus" in said


@pytest.mark.slow
@pytest.mark.parametrize("classes", [["none", "cactus"], ["cactus", "none"]])
def test_the_cards_and_the_graders_area_are_of_the_same_class(
    classes: list[str], tmp_path: Path
) -> None:
    layout, project = replace(WORDS, prepare={"classes": classes}), tmp_path / "project"
    found = solve(layout, project)  # as the grader sees it, whose second class is "none"
    assert found == float(classes[1] == "none")
    with (project / paths.ENSEMBLE_OOF).open(newline="") as file:
        rows = list(csv.DictReader(file))
    label_of = {row.fields["id"]: row.fields["label"] for row in Drawn(layout).train}
    positive = [label_of[row["image_id"]] == classes[1] for row in rows]
    by_hand = metrics.roc_auc_score(positive, [float(row[f"p_{classes[1]}"]) for row in rows])
    assert read_card(project / paths.card("tiny")).metric.value == pytest.approx(by_hand)


def test_grades_in_words_are_asked_for_their_order(tmp_path: Path) -> None:
    said = refusal(GRADED, tmp_path / "project")
    assert "prepare.classes" in said
    assert all(grade in said for grade in GRADES)


@pytest.mark.slow
def test_grades_in_words_are_scored_in_the_order_that_was_said(tmp_path: Path) -> None:
    layout = replace(GRADED, prepare={"classes": GRADES})
    assert solve(layout, tmp_path / "project") == 1.0
    task = read_competition(tmp_path / "project" / paths.COMPETITION).task
    assert task == OneOf(classes=GRADES, ordered=True)


def test_a_sample_of_fractions_does_not_fit_a_metric_of_labels(tmp_path: Path) -> None:
    layout = replace(CLASSES["aerial-cactus-identification"], metric="accuracy")
    said = refusal(layout, tmp_path / "project")
    assert "0.5" in said
    assert "accuracy" in said


@pytest.mark.slow
def test_labels_written_as_fractions_are_submitted_as_the_integers_of_the_sample(
    tmp_path: Path,
) -> None:
    assert solve(NUMBERED, tmp_path / "project", written=["0", "1"]) == 1.0


def test_a_file_of_the_classes_names_is_not_taken_for_the_labels(tmp_path: Path) -> None:
    names = {"classes.json": b'{"0.0": "sick", "1.0": "sound"}'}
    layout = replace(NUMBERED, rows=(8, 4), others=names)
    with prepared(layout, Drawn(layout), tmp_path / "project"):
        assert len(read_csv(paths.TRAIN_TABLE)) == 8


def test_a_list_of_five_classes_does_not_fit_a_metric_of_one(tmp_path: Path) -> None:
    layout = UNSEEN["humpback-whale-identification"]
    said = refusal(replace(layout, metric="accuracy"), tmp_path / "project")
    assert "accuracy" in said
    assert "map_at" in said


def test_pictures_of_12_bits_are_as_bright_as_they_are_drawn(tmp_path: Path) -> None:
    layout = replace(
        CLASSES["histopathologic-cancer-detection"], train="train/{id}.dcm", test="test/{id}.dcm",
        grey=True, rows=(8, 4),
    )  # fmt: skip
    with prepared(layout, Drawn(layout), tmp_path / "project"):
        assert np.load(paths.TRAIN_IMAGES).max() > 200


def test_an_id_in_train_and_in_test_means_the_image_of_its_side(tmp_path: Path) -> None:
    layout = replace(CLASSES["cifar-10"], rows=(20, 10))
    drawn = Drawn(layout)
    with prepared(layout, drawn, tmp_path / "project"):
        for table, images, rows in (
            (paths.TRAIN_TABLE, paths.TRAIN_IMAGES, drawn.train),
            (paths.TEST_TABLE, paths.TEST_IMAGES, drawn.test),
        ):
            colours = {row.fields["id"]: mean_colour(drawn, row) for row in rows}
            stored = np.load(images).mean(axis=(1, 2))
            for row_id, found in zip(read_csv(table)["row_id"], stored, strict=True):
                assert abs(found - colours[row_id]).max() < 3


def mean_colour(drawn: Drawn, row: Row) -> np.ndarray:
    content = drawn.files[row.images[""]["path"]]
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).mean(axis=(0, 1))


def test_a_table_of_few_values_is_not_taken_for_the_groups(tmp_path: Path) -> None:
    base = CLASSES["cassava-leaf-disease-classification"]
    layout = replace(
        base,
        rows=(24, 8),
        tables={**base.tables, "weather.csv": "image_id=id, sky=?clear|grey|rain"},
        prepare={"groups": {"source": "file", "file": "auto"}},
    )
    said = refusal(layout, tmp_path / "project")
    assert "weather.csv" in said
    assert "prepare.groups" in said


def test_classes_in_words_are_no_numbers_of_the_sample(tmp_path: Path) -> None:
    tables = {"sample_submission.csv": "id=id, label=0"}
    layout = replace(
        WORDS, tables=tables, train="train/{label}/{id}.tif", rows=(24, 8), metric="accuracy"
    )
    said = refusal(layout, tmp_path / "project")
    assert "which class has which" in said
    assert "prepare.labels" in said
    assert "ensemble.form" in said
