"""Competitions of several labels and of numbers from `split` to the page, on small pictures."""

import io
import json
import re
import shutil
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from cards import make_audit
from pictures import pack
from PIL import Image
from project import PARAMS
from safetensors.torch import load_file
from sklearn.metrics import r2_score, roc_auc_score
from tasks import any_of, number

from pipeline.check import stage as check
from pipeline.commands import noise
from pipeline.core import paths
from pipeline.core.competition import Competition, ImageDecoding, write_decoding
from pipeline.core.errors import TableError
from pipeline.core.files import write_text
from pipeline.core.fold_summary import FoldSummary
from pipeline.core.record import read_record, write_record
from pipeline.core.tables import (
    IMAGE_COLUMNS,
    read_csv,
    read_predictions,
    write_table,
)
from pipeline.core.task import AnyOf, Number
from pipeline.ensemble import stage as ensemble
from pipeline.explain import stage as explain
from pipeline.notebook import look
from pipeline.notebook.show import Drawing
from pipeline.params import Config, read_config
from pipeline.predict import command as predict
from pipeline.report import stage as report
from pipeline.report.facts import read_facts
from pipeline.scoring.card import Card, read_card
from pipeline.scoring.leaderboard import read_leaderboard
from pipeline.scoring.metrics import metric_named
from pipeline.split import stage as split
from pipeline.train import stage as train
from pipeline.train.models import load_model

SIZE_PX = 16
ROWS, TESTS = 120, 40
DECODING = ImageDecoding(size_px=SIZE_PX, channels=3, fit="stretch", black_white=None)


@dataclass(frozen=True)
class Kind:
    """A competition that is drawn."""

    task: AnyOf | Number
    metric: str
    columns: list[str]
    """Of the sample submission and the solution, without the id."""
    choices: dict[str, str]
    """Other parameters than those of PARAMS."""


KINDS = {
    "labels": Kind(
        any_of("bright", "red"),
        "macro_f1",
        ["label"],
        {"blend: mean": "blend: weighted", "calibration: none": "calibration: temperature",
         "threshold: none": "threshold: fitted"},
    ),
    "flags": Kind(
        any_of("bright", "red", at_least_one=True), "samples_f1", ["red", "bright"],
        {"blend: mean": "blend: auto", "folds: 2,": "folds: 3,", "folds: [0, 1]": "folds: [0, 1, 2]"},
    ),
    "chances": Kind(any_of("bright", "red"), "macro_roc_auc", ["red", "bright"], {}),
    "a number": Kind(number("brightness"), "rmse", ["brightness"], {"blend: mean": "blend: weighted"}),
    "numbers": Kind(number("brightness", "redness"), "r2", ["redness", "brightness"], {"blend: mean": "blend: greedy"}),
}  # fmt: skip


def draw(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy pictures, and how bright and how red they are, each about from -1 to 1."""
    generator = np.random.default_rng(seed)
    light = generator.uniform(-1, 1, (rows, 2))
    pixels = generator.normal(110, 20, (rows, SIZE_PX, SIZE_PX, 3)) + 35 * light[:, :1, None, None]
    pixels[..., 0] += 45 * light[:, 1, None, None]
    return pixels.clip(0, 255).astype(np.uint8), light


def labels_of(task: AnyOf | Number, light: np.ndarray) -> np.ndarray:
    if isinstance(task, Number):
        return (1000 + 50 * light[:, : len(task.names)]).round(2)
    labels = light > [0.2, 0.0]
    labels[~labels.any(axis=1), 0] |= task.at_least_one
    return labels


def cells(kind: Kind, labels: np.ndarray) -> dict[str, list[str]]:
    """The columns of a solution."""
    if kind.columns == ["label"]:
        return {"label": [text.replace("|", " ") for text in kind.task.decode(labels)]}
    each = {name: labels[:, place] for place, name in enumerate(kind.task.outputs)}
    return {name: [f"{float(value):g}" for value in each[name]] for name in kind.columns}


def make_store(kind: Kind) -> Config:
    """What `download` and `prepare` leave, in the working directory."""
    task, ids, test_ids = kind.task, names("i", ROWS), names("t", TESTS)
    images, light = draw(ROWS, 1)
    tests, of_test = draw(TESTS, 2)
    text = PARAMS.replace("size_px: 24", f"size_px: {SIZE_PX}").replace(
        "epochs: 2\n", "epochs: 10\n"
    )
    for old, new in {**kind.choices, "metric: accuracy": f"metric: {kind.metric}"}.items():
        assert old in text
        text = text.replace(old, new)
    write_text(paths.PARAMS, text)
    write_record(
        paths.COMPETITION, Competition(id_column="id", label_column=kind.columns[0], task=task)
    )
    write_decoding(paths.DECODING, DECODING)
    table = pd.DataFrame("16", index=range(ROWS), columns=IMAGE_COLUMNS)
    table["image_id"] = table["row_id"] = table["duplicate"] = ids
    table["group"] = [f"p{row // 4:02}" for row in range(ROWS)]
    table["label"] = task.decode(labels_of(task, light))
    write_table(paths.TRAIN_TABLE, table)
    of_tests = table.iloc[:TESTS].assign(
        image_id=test_ids, row_id=test_ids, duplicate=test_ids, label="", group=""
    )
    write_table(paths.TEST_TABLE, of_tests)
    np.save(paths.TRAIN_IMAGES, images)
    np.save(paths.TEST_IMAGES, tests)
    truth = cells(kind, labels_of(task, of_test))
    write_table(
        paths.SAMPLE_SUBMISSION, pd.DataFrame({"id": test_ids, **dict.fromkeys(truth, "0")})
    )
    usage = ["Public" if row % 2 else "Private" for row in range(TESTS)]
    write_table(paths.SOLUTION, pd.DataFrame({"id": test_ids, **truth, "Usage": usage}))
    write_record(paths.AUDIT, make_audit(ROWS, ("a", "b"), ids, grouped=True))
    paths.RAW.mkdir()
    pack(paths.RAW / "test.zip", {f"{n}.png": png(p) for n, p in zip(test_ids, tests, strict=True)})
    return read_config(paths.PARAMS)


def names(letter: str, count: int) -> list[str]:
    return [f"{letter}{row:03}" for row in range(count)]


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True)
class Project:
    """A competition after stage `report`, in the working directory."""

    name: str
    config: Config

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    @property
    def card(self) -> Card:
        return read_card(paths.card("tiny"))

    @property
    def truth(self) -> np.ndarray:
        return labels_of(self.kind.task, draw(ROWS, 1)[1])


def run_all(config: Config) -> None:
    split.run(config.split)
    for member in config.train.members:
        for fold in config.train.folds:
            train.run(config.train, member, fold)
    ensemble.run(config.ensemble, config.train.members, config.train.folds)
    check.run("tiny", config.ensemble.metric)
    for member in config.train.members:
        explain.run(member, config.train.folds[0])
    report.run("tiny")


@pytest.fixture(scope="module")
def get(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Config]]:
    """A competition after all stages; each is run once."""
    made: dict[str, tuple[Path, Config]] = {}

    def find(name: str) -> tuple[Path, Config]:
        if name not in made:
            folder = tmp_path_factory.mktemp(name.replace(" ", "_"))
            with chdir(folder):
                config = make_store(KINDS[name])
                run_all(config)
            made[name] = folder, config
        return made[name]

    return find


@pytest.fixture
def project(
    request: pytest.FixtureRequest,
    get: Callable[[str], tuple[Path, Config]],
    monkeypatch: pytest.MonkeyPatch,
) -> Project:
    folder, config = get(request.param)
    monkeypatch.chdir(folder)
    return Project(request.param, config)


EACH = pytest.mark.parametrize("project", KINDS, indirect=True)
TWO = pytest.mark.parametrize("project", ["labels", "a number"], indirect=True)


@EACH
def test_tiny_networks_learn_it(project: Project) -> None:
    """What they say of images that they have not seen."""
    ids = list(read_csv(paths.ENSEMBLE_OOF)["image_id"])
    found = read_predictions(paths.ENSEMBLE_OOF, ids, project.kind.task)
    rows = [int(name[1:]) for name in ids]
    if isinstance(project.kind.task, Number):
        assert r2_score(project.truth[rows], found) > 0.8
    else:
        assert roc_auc_score(project.truth[rows], found) > 0.95


@EACH
def test_the_card_says_what_is_known_of_such_labels(project: Project) -> None:
    card, task = project.card, project.kind.task
    assert card.metric.name == project.kind.metric
    assert card.metric.interval[0] < card.metric.value < card.metric.interval[1]
    assert card.test.rows == TESTS
    assert card.test.holds == {"a number": "numbers"}.get(project.name, project.name)
    if isinstance(task, Number):
        known = card.out_of_fold
        assert (known.accuracy, known.interval, known.log_loss, known.recall) == (
            None,
            None,
            None,
            {},
        )
        assert card.forecast.correct is None
        assert card.test.labels == {}
        assert {network.accuracy for network in card.networks} == {None}
    else:
        assert set(card.out_of_fold.recall) == set(card.test.labels) == {"bright", "red"}
        assert (card.out_of_fold.accuracy or 0) > 0.6
        assert card.forecast.correct is not None
    if project.name == "labels":
        assert len(card.blend.fitted.cuts or []) == 2


@EACH
def test_the_score_by_the_solution_is_near_the_forecast(project: Project) -> None:
    """The test images are drawn as the training images are."""
    solution = read_leaderboard(paths.LEADERBOARD, project.kind.metric).solution
    assert solution is not None
    for half in (solution.public, solution.private):
        assert list(half.scores) == [project.kind.metric]
        assert half.rows == TESTS / 2
    scale = 50.0 if project.kind.metric == "rmse" else 1.0
    found = solution.public.scores[project.kind.metric]
    assert abs(found - project.card.metric.value) < 0.25 * scale
    metric = metric_named(project.kind.metric)
    assert found > 0.7 if metric.greater_is_better else found < 15


@EACH
def test_the_page_is_whole(project: Project) -> None:
    page = paths.REPORT.read_text()
    assert page.rstrip().endswith("</html>")
    words = re.sub(r"base64,[^\"]*", "", page.split("<style>")[0] + page.split("</style>")[1])
    for wrong in ("nan", "NaN", "None", "inf<", "[]"):
        assert wrong not in words, wrong
    for name in project.kind.task.outputs:
        assert name in page
    figures = json.loads(paths.FIGURES.read_text())
    assert figures["out_of_fold"] == {project.kind.metric: project.card.metric.value}
    assert len(figures["folds"]) == project.config.split.folds
    if isinstance(project.kind.task, Number):
        assert "predicted against given" in page
        assert "Largest losses" in page
        assert "Each model in the blend" in page
        assert "accuracy is lower" not in page
        assert "both wrong" not in page
        assert "expected_calibration_error" not in figures
    else:
        assert set(figures["sensitivity"]) == {"bright", "red"}
        assert read_csv(paths.RELIABILITY)["rows"].astype(int).sum() == 2 * ROWS
    assert read_csv(paths.CONFUSION).empty


@EACH
def test_each_cell_of_a_notebook_shows_something(project: Project) -> None:
    facts, images = read_facts("tiny"), look.read_stored("train")
    member = project.config.train.members[0]
    model = project.config.train.models[member]
    drawings = [
        look.show_classes(images),
        look.show_augmented(model, model.engine, images),
        look.show_curves(facts, member),
        look.show_score(facts),
        look.show_probabilities(facts),
        look.show_mistakes(facts, images),
    ]
    for drawing in drawings:
        assert isinstance(drawing, Drawing)
        assert "nan" not in ElementTree.fromstring(drawing.svg).attrib["viewBox"]
    tables = [look.summarise(facts), look.list_folds(facts), look.count_duplicates(facts)]
    tables.append(look.list_network(project.config, member))
    if not isinstance(project.kind.task, Number):
        tables += [look.count_classes(facts), look.list_confusion(facts)]
    assert not any(table.empty for table in tables)
    assert isinstance(look.forecast(facts), pd.DataFrame | str)


@EACH
def test_folds_are_counted_by_label(project: Project) -> None:
    summary = read_record(paths.FOLDS_SUMMARY, FoldSummary, "split")
    counts = pd.DataFrame([fold.classes for fold in summary.folds]).sum().to_dict()
    is_number = isinstance(project.kind.task, Number)
    assert counts == ({} if is_number else project.kind.task.count(project.truth))


@EACH
def test_predict_gives_the_submission_of_the_competitions_own_test_images(
    project: Project,
) -> None:
    predict.run(project.config, paths.RAW / "test.zip", Path("out.csv"))
    found, submission = read_csv(Path("out.csv")), read_csv(paths.submission("tiny"))
    assert list(found["id"]) == list(submission["id"])
    task, letter = project.kind.task, "y" if isinstance(project.kind.task, Number) else "p"
    values = [f"{letter}_{name}" for name in task.outputs]
    assert list(found.columns)[1:3] == values[:2] or len(values) == 1
    if project.name == "labels":
        assert list(found["label"]) == list(submission["label"])
        assert len(set(submission["label"])) > 2
    elif project.name == "flags":
        flags = pd.DataFrame({n: found["label"].str.contains(n) for n in task.outputs}).astype(int)
        assert flags.astype(str).equals(submission[task.outputs])
        assert (flags.sum(axis=1) > 0).all()
    else:
        for name, column in zip(task.outputs, values, strict=True):
            assert list(found[column]) == list(submission[name])


@TWO
def test_a_training_gives_the_same_bytes_twice_and_the_weights_tell_all(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree("data", tmp_path / "data")
    shutil.copytree("folds", tmp_path / "folds")
    before = paths.model_folder("two", 1).absolute()
    monkeypatch.chdir(tmp_path)
    train.run(project.config.train, "two", 1)
    for name in ("weights.safetensors", "oof.csv", "test.csv", "history.csv"):
        made = paths.model_folder("two", 1) / name
        assert made.read_bytes() == (before / name).read_bytes()
    model, description = load_model(before / "weights.safetensors")
    assert (description.task, description.decoding) == (project.kind.task, DECODING)
    scale = {"offset", "spread"} & set(load_file(before / "weights.safetensors"))
    history = read_csv(before / "history.csv")
    if isinstance(project.kind.task, Number):
        rows = read_csv(paths.FOLDS)["fold"] == "0"  # an inner split is not trained on
        assert abs(float(model.offset) - project.truth[rows].mean()) < 5
        assert 20 < float(model.spread) < 40
        assert scale == {"offset", "spread"}
        assert not {"accuracy", "inner_accuracy"} & set(history)
    else:
        assert not scale
        assert {"accuracy", "inner_accuracy"} <= set(history)
    assert torch.isfinite(model(torch.zeros(1, 3, SIZE_PX, SIZE_PX))).all()


@TWO
@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_mixed_images_have_mixed_labels(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mix: str
) -> None:
    shutil.copytree("data", tmp_path / "data")
    shutil.copytree("folds", tmp_path / "folds")
    monkeypatch.chdir(tmp_path)
    text = PARAMS.replace("mix: null", f"mix: {{kind: {mix}, alpha: 0.4, p: 1.0}}")
    write_text(paths.PARAMS, text.replace("epochs: 2\n", "epochs: 10\n"))
    train.run(read_config(paths.PARAMS).train, "one", 0)
    folder = paths.model_folder("one", 0)
    table = read_csv(folder / "oof.csv")
    found = read_predictions(folder / "oof.csv", list(table["image_id"]), project.kind.task)
    truth = project.truth[[int(name[1:]) for name in table["image_id"]]]
    if isinstance(project.kind.task, Number):
        assert r2_score(truth, found) > 0.3
    else:
        assert roc_auc_score(truth, found) > 0.85


@TWO
def test_label_noise_is_for_one_class(project: Project) -> None:
    with pytest.raises(TableError, match="^label noise: is for one class an image, and these"):
        noise.run(project.config.prepare, 10, Path("noise.csv"))
