"""The fitted blend comes back from the card to the last bit, and predicts test as it did before."""

import shutil
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from blending import draw, recipe
from pictures import pack, png, rows_of
from project import PARAMS, ROOT, decoding_of, run
from tasks import any_of, number, one_of

from pipeline.core import paths
from pipeline.core.competition import Competition, ImageDecoding
from pipeline.core.errors import EnsembleError
from pipeline.core.files import write_text
from pipeline.core.record import write_record
from pipeline.core.tables import IMAGE_COLUMNS, write_predictions, write_table
from pipeline.core.task import Task
from pipeline.ensemble import stage as ensemble
from pipeline.ensemble.blend import fit
from pipeline.ensemble.config import KINDS
from pipeline.ensemble.saved import describe_fitted, read_fitted
from pipeline.params import Config, read_config
from pipeline.predict import command as predict
from pipeline.prepare.decode import decode
from pipeline.scoring.card import Fitted, FittedMean, read_card
from pipeline.scoring.metrics import METRICS
from pipeline.split.folds import make_folds
from pipeline.train.config import ModelConfig
from pipeline.train.device import deterministic
from pipeline.train.infer import load_network
from pipeline.train.models import build_model, describe, save_model
from pipeline.winner.build import render
from pipeline.winner.run import CODE, DEFAULTS, SETTINGS

SKILLS = [(1.0, 1.0), (0.8, 1.5)]
SIZE_PX = 24  # of PARAMS
TEST_IDS = [f"t{row:02}" for row in range(40)]


@pytest.mark.parametrize(
    ("kind", "classes"),
    [(kind, n) for kind in KINDS for n in (2, 3) if (kind, n) != ("rank_mean", 3)],
)
def test_a_blend_comes_back_from_json_and_gives_the_same_bits(kind: Any, classes: int) -> None:
    drawn = draw(1, SKILLS, classes=classes)
    new = draw(2, SKILLS, classes=classes).members
    metric = "roc_auc" if kind == "rank_mean" else "accuracy"
    threshold = "fitted" if classes == 2 else "none"
    chosen = recipe(kind, metric, classes, calibration="temperature", threshold=threshold)
    fitted = fit(chosen, drawn.members, drawn.labels)
    kept = Fitted.model_validate_json(describe_fitted(fitted).model_dump_json())
    back = read_fitted(Path("card.json"), kept, len(SKILLS), one_of(classes))
    assert (back.temperature, back.cuts) == (fitted.temperature, fitted.cuts)
    expected, found = fitted.apply(new), back.apply(new)
    assert np.array_equal(found.values, expected.values)
    assert np.array_equal(found.decided, expected.decided)
    by_row = [back.apply(new[:, row : row + 1]).values for row in range(40)]
    assert np.array_equal(np.concatenate(by_row), expected.values[:40])
    with pytest.raises(EnsembleError, match="card.json: blend.fitted.blend: .*Run: dvc repro"):
        read_fitted(Path("card.json"), kept, 3, one_of(classes))


@pytest.mark.parametrize(
    ("task", "threshold", "expected"),
    [
        (one_of(2), [], "expected 1 numbers for one_of with 2 outputs, found 0"),
        (one_of(3, ordered=True), 0.5, "expected 2 numbers for one_of with 3 outputs, found 1"),
        (one_of(3), 0.5, "expected no numbers for one_of with 3 outputs, found 1"),
        (any_of("a", "b"), [0.5], "expected 2 numbers for any_of with 2 outputs, found 1"),
        (number("y"), 0.5, "expected no numbers for number with 1 outputs, found 1"),
    ],
)
def test_cuts_of_another_task_are_refused(task: Task, threshold: Any, expected: str) -> None:
    mean = FittedMean(kind="weighted_mean", weights=[1.0])
    fitted = Fitted(blend=mean, temperature=None, threshold=threshold)
    with pytest.raises(EnsembleError) as caught:
        read_fitted(Path("card.json"), fitted, 1, task)
    assert str(caught.value).startswith(f"card.json: blend.fitted.threshold: {expected}. Run: dvc")


def make_trained(classes: list[str], each: bool) -> None:
    """A competition of small pictures after `train`, in the working directory.

    The networks are random, and their test tables are their own; the out-of-fold tables are drawn.
    each: the sample submission has one column for each class.
    """
    drawn = draw(1, SKILLS, groups=30, rows_a_group=4, classes=len(classes))
    ids = [f"i{row:03}" for row in range(120)]
    write_record(
        paths.COMPETITION,
        Competition(id_column="cell", label_column="kind", task=one_of(classes, True)),
    )
    images = pd.DataFrame("4", index=range(120), columns=IMAGE_COLUMNS)
    images["image_id"] = images["row_id"] = images["duplicate"] = ids
    images["label"] = [classes[label] for label in drawn.labels]
    images["group"] = [f"p{group}" for group in drawn.groups]
    write_table(paths.TRAIN_TABLE, images)
    folds = make_folds(images, one_of(classes), 2, [1])
    write_table(paths.FOLDS, folds)
    tested = images.iloc[: len(TEST_IDS)].assign(image_id=TEST_IDS, row_id=TEST_IDS)
    write_table(paths.TEST_TABLE, tested)
    sample = pd.DataFrame({"cell": TEST_IDS})
    for column in classes[::-1] if each else ["kind"]:
        sample[column] = ""
    write_table(paths.SAMPLE_SUBMISSION, sample)
    write_table(paths.RAW / "sample_submission.csv", sample)
    files = {f"{name}.png": png(row) for row, name in enumerate(TEST_IDS)}
    pack(paths.RAW / "test.zip", files)
    decoded = [
        decode(
            file, ImageDecoding(size_px=SIZE_PX, channels=3, fit="stretch", black_white=None), 4096
        ).pixels
        for file in files.values()
    ]
    pixels = np.stack(decoded)
    np.save(paths.TRAIN_IMAGES, np.resize(pixels, (120, *pixels.shape[1:])))
    np.save(paths.TEST_IMAGES, pixels)
    write_text(paths.PARAMS, PARAMS)
    config = read_config(paths.PARAMS).train
    deterministic(config.threads)
    for place, model in enumerate(("one", "two")):
        for fold in (0, 1):
            folder = paths.model_folder(model, fold)
            scored = set(folds.loc[folds["fold"] == fold, "image_id"])
            rows = [row for row, name in enumerate(ids) if name in scored]
            own = [ids[row] for row in rows]
            write_predictions(folder / "oof.csv", own, drawn.members[place, rows], one_of(classes))
            chances = save_network(folder, config.models[model], 2 * place + fold, classes, pixels)
            write_predictions(folder / "test.csv", TEST_IDS, chances, one_of(classes))


def save_network(
    folder: Path, config: ModelConfig, seed: int, classes: list[str], pixels: np.ndarray
) -> np.ndarray:
    """A random network that finds each class in some of the pictures; its probabilities."""
    torch.manual_seed(seed)
    network = build_model(
        config.network, one_of(classes), decoding_of(SIZE_PX), [120.0] * 3, [40.0] * 3
    )
    file, decoding = (
        folder / "weights.safetensors",
        ImageDecoding(size_px=SIZE_PX, channels=3, fit="stretch", black_white=None),
    )
    description = describe(config, one_of(classes, True), decoding, 1)
    save_model(file, network, description)
    logits = np.log(load_network(file, "cpu").predict(pixels))
    middle = logits.mean(axis=0)
    weight, bias = list(network.parameters())[-2:]
    with torch.no_grad():
        sharpness = 2 / (logits - middle).std()
        weight *= sharpness
        bias.copy_(sharpness * (bias - torch.tensor(middle)))
    save_model(file, network, description)
    return load_network(file, "cpu").predict(pixels)


def blend(choices: dict[str, str]) -> Config:
    """Run the stage `ensemble` with these parameters, in the working directory."""
    known = {"metric": "accuracy", "blend": "mean", "calibration": "none", "threshold": "none"}
    text = PARAMS
    for name, value in choices.items():
        text = text.replace(f"{name}: {known[name]}", f"{name}: {value}")
    write_text(paths.PARAMS, text)
    config = read_config(paths.PARAMS)
    ensemble.run(config.ensemble, config.train.members, config.train.folds)
    return config


@pytest.fixture(scope="module")
def drawn_projects(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Competitions after `train`, by the number of classes."""
    found = {}
    for classes in (["0", "1"], ["fit", "odd", "sick"]):
        found[len(classes)] = tmp_path_factory.mktemp("trained")
        with chdir(found[len(classes)]):
            make_trained(classes, each=len(classes) > 2)
    return found


BLENDS = [
    (2, {"blend": "mean", "metric": "log_loss"}),
    (2, {"blend": "single", "metric": "accuracy"}),
    (2, {"blend": "weighted", "metric": "log_loss", "calibration": "temperature"}),
    (2, {"blend": "greedy", "metric": "accuracy", "threshold": "fitted"}),
    (2, {"blend": "rank_mean", "metric": "roc_auc"}),
    (2, {"blend": "stack", "metric": "roc_auc"}),
    (
        2,
        {
            "blend": "stack",
            "metric": "balanced_accuracy",
            "calibration": "temperature",
            "threshold": "fitted",
        },
    ),
    (3, {"blend": "stack", "metric": "log_loss"}),
    (3, {"blend": "weighted", "metric": "macro_roc_auc", "calibration": "temperature"}),
]


@pytest.mark.parametrize(("classes", "choices"), BLENDS)
def test_predict_gives_the_submission_of_the_competitions_own_test_images(
    drawn_projects: dict[int, Path],
    monkeypatch: pytest.MonkeyPatch,
    classes: int,
    choices: dict[str, str],
) -> None:
    monkeypatch.chdir(drawn_projects[classes])
    config = blend(choices)
    card = read_card(paths.card("tiny"))
    assert card.blend.chosen == choices["blend"]
    predict.run(config, paths.RAW / "test.zip", Path("out.csv"))
    found, submission = rows_of(Path("out.csv")), rows_of(paths.submission("tiny"))
    assert [row["cell"] for row in found] == [row["cell"] for row in submission] == TEST_IDS
    if METRICS[choices["metric"]].needs == "labels":
        assert card.test.holds == "labels"
        assert [row["kind"] for row in found] == [row["kind"] for row in submission]
        assert len({row["kind"] for row in found}) == 2
        return
    names = {"kind": "1"} if classes == 2 else {name: name for name in ("sick", "odd", "fit")}
    assert card.test.holds == ("probability" if classes == 2 else "probabilities")
    assert list(submission[0]) == ["cell", *names]
    for column, name in names.items():
        assert [row[f"p_{name}"] for row in found] == [row[column] for row in submission]
        assert len({row[column] for row in submission}) > 12
    counts = {label: sum(row["label"] == label for row in found) for label in card.test.labels}
    assert counts == card.test.labels


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "choices"), [BLENDS[-2]])
def test_a_winners_package_makes_a_fitted_blends_submission_byte_for_byte(
    drawn_projects: dict[int, Path], tmp_path: Path, classes: int, choices: dict[str, str]
) -> None:
    """It needs networks, submission, card and the competition's files, no tables of `train`."""
    with chdir(drawn_projects[classes]):
        blend(choices)
        for name in ("models", "submissions", "data/raw"):
            no_tables = shutil.ignore_patterns("oof.csv", "test.csv")
            shutil.copytree(name, tmp_path / name, ignore=no_tables)
        write_text(tmp_path / CODE / paths.PARAMS, paths.PARAMS.read_text())
    (tmp_path / CODE / "pipeline").symlink_to(ROOT / "pipeline")
    write_text(tmp_path / SETTINGS, DEFAULTS.model_dump_json())
    write_text(tmp_path / "predict.py", render("script.py", step="predict"))
    done = run(tmp_path, sys.executable, "predict.py")
    assert done.returncode == 0, done.stdout
    made = tmp_path / "submissions/tiny.predicted.csv"
    assert made.read_bytes() == (drawn_projects[classes] / "submissions/tiny.csv").read_bytes()
    assert f"identical to {tmp_path}/submissions/tiny.csv, byte for byte" in done.stdout
