"""Rows of several images, and ids that are in train and in test, from the store to the page.

Drawn: a row is 1 where one of its views is bright, so that of the other views nothing can be told.
"""

import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable
from contextlib import chdir
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cards import make_audit
from pictures import pack
from PIL import Image
from project import PARAMS, prepare_config
from sklearn.metrics import log_loss, roc_auc_score
from tasks import one_of

from pipeline.check import stage as check
from pipeline.commands import noise
from pipeline.core import paths
from pipeline.core.arrays import read_array
from pipeline.core.competition import Competition, ImageDecoding, write_decoding
from pipeline.core.files import write_text
from pipeline.core.record import write_record
from pipeline.core.tables import (
    FOLD_COLUMNS,
    IMAGE_COLUMNS,
    average_rows,
    read_csv,
    read_table,
    write_table,
)
from pipeline.ensemble import stage as ensemble
from pipeline.explain import stage as explain
from pipeline.ledger.history import read_groups
from pipeline.params import Config, read_config
from pipeline.predict import command as predict
from pipeline.prepare.corrections import read_corrections
from pipeline.prepare.pictures import each_a_picture
from pipeline.raw.archive import ImageArchive
from pipeline.report import stage as report
from pipeline.report.gallery import picture
from pipeline.scoring.card import Card, read_card
from pipeline.scoring.leaderboard import read_leaderboard
from pipeline.scoring.metrics import metric_for
from pipeline.scoring.submission import write_submission
from pipeline.scoring.which_form import read_form
from pipeline.split import stage as split
from pipeline.train import stage as train
from pipeline.train.stage import _rows_of_fold

SIZE_PX = 16
ROWS, TESTS = 60, 20
TASK = one_of(2, ordered=True)
MODELS, FOLDS = ["one", "two"], [0, 1]


def draw(rows: int, views: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The views of each row, one after the other, and the rows' labels; half of the rows are 1."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(rows) % 2)
    bright = np.zeros((rows, views), bool)
    bright[np.arange(rows), generator.integers(views, size=rows)] = labels == 1
    grey = 90 + 80 * bright.reshape(-1, 1, 1, 1)
    pixels = generator.normal(grey, 25, (rows * views, SIZE_PX, SIZE_PX, 3))
    return pixels.clip(0, 255).astype(np.uint8), labels


def make_store(views: int) -> Config:
    """What `download` and `prepare` leave, in the working directory: ids 1, 2, … in both splits."""
    text = PARAMS.replace("size_px: 24", f"size_px: {SIZE_PX}").replace(
        "epochs: 2\n", "epochs: 12\n"
    )
    write_text(paths.PARAMS, text.replace("metric: accuracy", "metric: log_loss"))
    write_record(paths.COMPETITION, Competition(id_column="id", label_column="label", task=TASK))
    write_decoding(
        paths.DECODING, ImageDecoding(size_px=SIZE_PX, channels=3, fit="stretch", black_white=None)
    )
    ids = {}
    for table, array, rows, seed in (
        (paths.TRAIN_TABLE, paths.TRAIN_IMAGES, ROWS, 1),
        (paths.TEST_TABLE, paths.TEST_IMAGES, TESTS, 2),
    ):
        pixels, labels = draw(rows, views, seed)
        row_ids = [str(row + 1) for row in range(rows) for _ in range(views)]
        names = [
            f"{row}/{'ab'[place % 2]}" if views > 1 else row for place, row in enumerate(row_ids)
        ]
        is_train = table == paths.TRAIN_TABLE
        ids[table] = [f"train/{name}" for name in names] if is_train else names
        images = pd.DataFrame("16", index=range(len(pixels)), columns=IMAGE_COLUMNS)
        images["image_id"] = images["duplicate"] = ids[table]
        images["row_id"] = images["group"] = row_ids
        images["label"] = [str(label) for label in np.repeat(labels, views)]
        if not is_train:
            images["label"] = images["group"] = ""
        write_table(table, images)
        np.save(array, pixels)
    sample = [str(row + 1) for row in range(TESTS)][::-1]
    write_table(paths.SAMPLE_SUBMISSION, pd.DataFrame({"id": sample, "label": "0.5"}))
    usage = ["Public" if row % 2 else "Private" for row in range(TESTS)]
    truth = {"id": sample[::-1], "label": labels.astype(str), "Usage": usage}
    write_table(paths.SOLUTION, pd.DataFrame(truth))
    write_record(paths.AUDIT, make_audit(ROWS * views, ("0", "1"), ids[paths.TRAIN_TABLE], False))
    paths.RAW.mkdir()
    pack(paths.RAW / "test.zip", {f"{n}.png": png(p) for n, p in zip(names, pixels, strict=True)})
    return read_config(paths.PARAMS)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The folder of a competition of so many views a row after stage `report`; each is run once."""
    folders: dict[int, Path] = {}

    def find(views: int) -> Path:
        if views not in folders:
            folders[views] = tmp_path_factory.mktemp(f"views{views}")
            with chdir(folders[views]):
                config = make_store(views)
                split.run(config.split)
                for model in MODELS:
                    for fold in FOLDS:
                        train.run(config.train, model, fold)
                ensemble.run(config.ensemble, MODELS, FOLDS)
                check.run("tiny", config.ensemble.metric)
                for model in MODELS:
                    explain.run(model, FOLDS[0])
                report.run("tiny")
        return folders[views]

    return find


@pytest.fixture
def views(
    request: pytest.FixtureRequest, made: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> int:
    monkeypatch.chdir(made(request.param))
    return int(request.param)


EACH = pytest.mark.parametrize("views", [1, 2], indirect=True)
TWO = pytest.mark.parametrize("views", [2], indirect=True)


def the_card() -> Card:
    return read_card(paths.card("tiny"))


def row_of(image_id: str) -> str:
    """`12` of `train/12/b`, `12/b` or `12`."""
    return image_id.removeprefix("train/").partition("/")[0]


def by_image(model: str, table: str) -> "pd.Series[float]":
    """A model's probabilities by image id: the mean of the networks that predict it."""
    folders = [paths.model_folder(model, fold) for fold in FOLDS]
    tables = pd.concat([read_csv(folder / table) for folder in folders])
    return tables["p_1"].astype(float).groupby(tables["image_id"]).mean()


def by_row(table: str) -> "pd.Series[float]":
    """The mean of both models by row id, computed by hand."""
    each = [by_image(model, table) for model in MODELS]
    means = [one.groupby(one.index.map(row_of)).mean() for one in each]
    return sum(means) / len(means)


def truth() -> "pd.Series[int]":
    labels = draw(ROWS, 1, 1)[1]
    return pd.Series(labels, index=[str(row + 1) for row in range(ROWS)])


@EACH
def test_the_submission_has_the_mean_of_each_rows_images_in_the_samples_order(views: int) -> None:
    submission = read_csv(paths.submission("tiny"))
    assert list(submission["id"]) == [str(row) for row in range(TESTS, 0, -1)]
    expected = by_row("test.csv").loc[submission["id"]]
    np.testing.assert_allclose(submission["label"].astype(float), expected, rtol=1e-6)
    assert len(by_image("one", "test.csv")) == TESTS * views
    assert the_card().test.rows == TESTS
    assert sum(the_card().test.labels.values()) == TESTS


@EACH
def test_the_score_is_of_rows(views: int) -> None:
    table = read_csv(paths.ENSEMBLE_OOF).set_index("image_id")
    assert sorted(table.index, key=int) == [str(row + 1) for row in range(ROWS)]
    found, expected = table["p_1"].astype(float), by_row("oof.csv")
    np.testing.assert_allclose(found, expected.loc[found.index], rtol=1e-6)
    card, labels = the_card(), truth().loc[expected.index]
    assert card.metric.value == pytest.approx(log_loss(labels, expected), abs=1e-5)
    known = card.out_of_fold
    assert (known.rows, known.of_images, known.groups) == (ROWS, ROWS, ROWS)
    assert known.accuracy == pytest.approx(((expected > 0.5) == labels).mean(), abs=1e-6)
    assert [network.rows for network in card.networks] == [ROWS / 2] * 4
    solution = read_leaderboard(paths.LEADERBOARD, "log_loss").solution
    assert (solution.public.rows, solution.private.rows) == (TESTS / 2, TESTS / 2)
    assert read_csv(paths.FOLDS).shape == (ROWS * views, len(FOLD_COLUMNS))


@TWO
def test_two_views_tell_what_one_cannot(views: int) -> None:
    rows, images = by_row("oof.csv"), by_image("one", "oof.csv")
    assert roc_auc_score(truth().loc[rows.index], rows) > 0.95
    assert roc_auc_score(truth().loc[images.index.map(row_of)], images) < 0.85
    folds = read_csv(paths.FOLDS)
    assert (folds.groupby(folds["image_id"].map(row_of))["fold"].nunique() == 1).all()
    assert (folds.groupby(folds["image_id"].map(row_of)).size() == views).all()


@TWO
def test_an_inner_split_keeps_the_images_of_a_row_together(views: int) -> None:
    config = read_config(paths.PARAMS).train.models["two"]
    row_ids = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)["row_id"]
    ids = list(read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)["image_id"])
    scored, rows = _rows_of_fold(0, ids, TASK, config)
    parts = [set(row_ids.iloc[places]) for places in (scored, rows.training, rows.inner)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == ROWS
    assert len(scored) + len(rows.training) + len(rows.inner) == ROWS * views


@EACH
def test_networks_alone_repeat_the_submission_to_the_bit(views: int, tmp_path: Path) -> None:
    """As a winner's package does, from the images and no table."""
    config = read_config(paths.PARAMS)
    form = read_form(paths.SAMPLE_SUBMISSION, metric_for("log_loss", TASK), TASK)
    with ImageArchive(paths.RAW / "test.zip") as archive:
        rows = [row_of(member.removesuffix(".png")) for member in archive.members]
        found = predict.score(
            predict.load_ensemble(config),
            archive,
            each_a_picture(archive.members),
            rows,
            config.prepare,
        )
    assert len(rows) == TESTS * views
    again, prediction = tmp_path / "again.csv", found.prediction
    write_submission(again, form, found.image_ids, prediction.values, prediction.decided)
    assert again.read_bytes() == paths.submission("tiny").read_bytes()


@EACH
def test_the_page_counts_rows_and_shows_the_first_image_of_each(views: int) -> None:
    page = paths.REPORT.read_text()
    words = re.sub(r"base64,[^\"]*", "", page.split("<style>")[0] + page.split("</style>")[1])
    for wrong in ("nan", "NaN", "None", "inf<"):
        assert wrong not in words, wrong
    counted = "60 training images" if views == 1 else "60 training rows with 120 images"
    assert counted in page
    assert ("Of each row the first image is shown." in page) == (views == 2)
    ids = list(read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)["image_id"])
    images = read_array(paths.TRAIN_IMAGES, len(ids))
    galleries = page.split('<section id="sees">')[0]
    assert galleries.count("<img src=") >= 24
    for shown in galleries.split('<img src="')[1:]:
        image_id = shown.partition('alt="')[2].partition(":")[0]
        assert image_id == f"train/{row_of(image_id)}" + ("/a" if views == 2 else "")
        assert shown.startswith(escape(str(picture(np.asarray(images[ids.index(image_id)])))))
    assert set(json.loads(paths.FIGURES.read_text())["folds"]) == {"0", "1"}


@EACH
@pytest.mark.usefixtures("views")
def test_two_submissions_can_be_compared_on_the_same_rows() -> None:
    groups = read_groups(paths.FOLDS)
    assert sorted(groups, key=int) == [str(row + 1) for row in range(ROWS)]
    correct = the_card().expected.correct
    assert correct is not None
    right = correct.unpack(list(groups))
    assert right is not None
    expected = by_row("oof.csv").sort_index()
    assert right.tolist() == ((expected > 0.5) == truth().loc[expected.index]).tolist()


def copy_here(folder: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, to, dirs_exist_ok=True)
    monkeypatch.chdir(to)


@TWO
def test_suggested_corrections_are_of_all_images_of_a_row(
    views: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_here(Path.cwd(), tmp_path, monkeypatch)
    images = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
    rows = images["row_id"].isin(["7", "8"])
    other = {"0": "1", "1": "0"}
    write_table(
        paths.TRAIN_TABLE,
        images.assign(label=images["label"].mask(rows, images["label"].map(other))),
    )
    noise.run(prepare_config(), 2, noise.SUGGESTIONS)
    suggested = read_corrections(noise.SUGGESTIONS)
    assert sorted(suggested["image_id"]) == ["train/7/a", "train/7/b", "train/8/a", "train/8/b"]
    assert (
        suggested["image_id"].map(row_of)
        == np.repeat(suggested["image_id"].map(row_of)[::views], views).to_numpy()
    ).all()
    Path("corrections").mkdir()
    write_table(Path("corrections/seen.csv"), suggested[suggested["image_id"] == "train/7/b"])
    noise.run(prepare_config(corrections="corrections/seen.csv"), 1, noise.SUGGESTIONS)
    assert set(read_corrections(noise.SUGGESTIONS)["image_id"]) == {"train/8/a", "train/8/b"}


@TWO
def test_a_model_from_elsewhere_comes_by_image_and_is_averaged_as_ours(
    views: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_here(Path.cwd(), tmp_path, monkeypatch)
    before = read_csv(paths.submission("tiny"))["label"].astype(float)
    score = the_card().metric.value
    fold_of = read_csv(paths.FOLDS).set_index("image_id")["fold"]
    content = b""
    for name in ("oof", "test"):
        values = by_image("two", f"{name}.csv")
        assert len(values) == {"oof": ROWS, "test": TESTS}[name] * views
        table = pd.DataFrame({"image_id": values.index, "p_0": 1 - values, "p_1": values})
        if name == "oof":
            table.insert(1, "fold", fold_of.loc[values.index])
        write_table(Path(f"mate/{name}.csv"), table)
        content += Path(f"mate/{name}.csv").read_bytes()
    mate = {
        "name": "mate", "oof": "mate/oof.csv", "test": "mate/test.csv", "folds": "checked",
        "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    config = read_config(paths.PARAMS).ensemble.model_dump() | {"external": [mate]}
    ensemble.run(type(read_config(paths.PARAMS).ensemble).model_validate(config), ["one"], FOLDS)
    after = read_csv(paths.submission("tiny"))["label"].astype(float)
    np.testing.assert_allclose(after, before, rtol=1e-6)
    assert the_card().metric.value == pytest.approx(score, abs=1e-6)


def test_the_mean_is_by_row_and_a_row_of_one_image_keeps_its_bits() -> None:
    values = np.random.default_rng(1).normal(size=(6, 2))
    values[0] = -0.0, 1e-300
    assert average_rows(list("abcdef"), values).tobytes() == values.tobytes()
    found = average_rows(list("bababc"), values)
    expected = [values[[0, 2, 4]].mean(axis=0), values[[1, 3]].mean(axis=0), values[5]]
    np.testing.assert_allclose(found, expected, rtol=1e-15)
