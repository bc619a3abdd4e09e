"""Doubtful labels come first, by confident learning; nothing changes a label by itself."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from project import prepare_config
from sklearn.metrics import roc_auc_score
from tasks import one_of

from pipeline.commands import noise
from pipeline.core import paths
from pipeline.core.competition import Competition
from pipeline.core.errors import TableError
from pipeline.core.record import write_record
from pipeline.core.tables import IMAGE_COLUMNS, read_table, write_predictions, write_table
from pipeline.prepare.corrections import CORRECTION_COLUMNS, read_corrections
from pipeline.report.diagnosis import PredictedRows
from pipeline.report.label_noise import NOISE_COLUMNS, LabelNoise, find_label_noise


def simulate(
    seed: int, rows: int = 2000, wrong: float = 0.05, sharpness: float = 2.5, classes: int = 2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and given labels, and probabilities of networks that mostly know the true one."""
    generator = np.random.default_rng(seed)
    true = np.arange(rows) % classes
    given = true.copy()
    flipped = generator.choice(rows, round(wrong * rows), replace=False)
    given[flipped] = (true[flipped] + generator.integers(1, classes, len(flipped))) % classes
    logits = generator.normal(0, 1, (rows, classes))
    logits[np.arange(rows), true] += sharpness
    odds = np.exp(logits)
    return true, given, odds / odds.sum(axis=1, keepdims=True)


def names(count: int) -> list[str]:
    return [f"a{number:04}" for number in range(count)]


def find(
    given: np.ndarray, probabilities: np.ndarray, groups: list[str] | None = None
) -> LabelNoise:
    """The label noise; each image is its own group where there are no groups."""
    ids, classes = names(len(given)), [str(n) for n in range(probabilities.shape[1])]
    predicted = probabilities.argmax(axis=1)
    rows = PredictedRows(ids, groups or ids, one_of(classes), given, probabilities, predicted)
    return find_label_noise(rows)


def paper_joint(given: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confident joint and its calibration, image by image as the paper writes it (eq. 1 to 3)."""
    classes = range(probabilities.shape[1])
    threshold = [
        np.mean([p[j] for p, y in zip(probabilities, given, strict=True) if y == j])
        for j in classes
    ]
    joint = np.zeros((len(classes), len(classes)))
    for p, y in zip(probabilities, given, strict=True):
        above = [j for j in classes if p[j] >= threshold[j]]
        if above:
            joint[y, max(above, key=lambda j: p[j])] += 1
    calibrated = np.array([joint[j] / joint[j].sum() * (given == j).sum() for j in classes])
    return joint, calibrated


def test_the_estimate_is_the_one_computed_by_hand() -> None:
    """Thresholds 0.6 and 0.7; of four images each, two count as given, one not, one as nothing."""
    of_one = np.array([0.1, 0.2, 0.8, 0.5, 0.9, 0.95, 0.35, 0.6])
    given = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    found = find(given, np.stack([1 - of_one, of_one], axis=1))
    assert found.wrong == pytest.approx(8 / 3)
    doubtful = found.ranking["doubtful"]
    assert list(found.ranking.loc[doubtful, "image_id"]) == ["a0002", "a0006"]


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_estimate_is_that_of_the_paper(classes: int) -> None:
    _, given, probabilities = simulate(3, rows=300, classes=classes, sharpness=1.5)
    found = find(given, probabilities)
    joint, calibrated = paper_joint(given, probabilities)
    assert found.wrong == pytest.approx(calibrated.sum() - np.trace(calibrated))
    assert found.ranking["doubtful"].sum() == joint.sum() - np.trace(joint)


@pytest.mark.parametrize(("seed", "classes"), [(0, 2), (1, 2), (2, 4)])
def test_wrong_labels_come_first(seed: int, classes: int) -> None:
    """100 of 2,000 are wrong. By chance, 5 of the first 100 would be."""
    true, given, probabilities = simulate(seed, classes=classes)
    table = find(given, probabilities).ranking
    wrong = (true != given)[table["image_id"].str[1:].astype(int)]
    at = {k: int(wrong[:k].sum()) for k in (20, 50, 100, 200)}
    assert at[20] >= 19
    assert at[50] >= 40
    assert at[100] >= 60
    assert at[200] >= 80
    assert roc_auc_score(wrong, -table["margin"]) > 0.95
    right = true[table["image_id"].str[1:].astype(int)].astype(str)
    assert (table["suggested"] == right)[wrong].mean() > 0.9


def test_the_estimate_is_near_for_sharp_networks_and_too_high_for_blunt_ones() -> None:
    _, given, probabilities = simulate(4, sharpness=6.0)
    sharp = find(given, probabilities)
    assert sharp.wrong == pytest.approx(100, abs=15)
    assert sharp.low < sharp.wrong < sharp.high
    _, given, probabilities = simulate(4, sharpness=1.5)
    assert find(given, probabilities).wrong > 150


def test_whole_groups_are_resampled() -> None:
    """All contradictions are in one patient: without it there are none."""
    _, given, probabilities = simulate(5, rows=400, wrong=0.0, sharpness=9.0)
    probabilities[:40] = probabilities[:40, ::-1]
    by_patient = ["P0"] * 40 + [f"P{row // 40}" for row in range(40, 400)]
    found = find(given, probabilities, by_patient)
    alone = find(given, probabilities)
    assert found.wrong == alone.wrong == pytest.approx(40, abs=2)
    assert found.low == pytest.approx(0, abs=1)
    assert found.high > 90
    assert 25 < alone.low < alone.high < 55


def test_a_class_that_the_networks_underrate_is_not_doubted_as_a_whole() -> None:
    """None of its images has a probability above 0.42: by 0.5, each would be called wrong."""
    of_one = np.where(np.arange(200) % 4 == 0, 0.4, 0.1) + np.linspace(0, 0.02, 200)
    of_one[[1, 5]] = 0.05
    probabilities = np.stack([1 - of_one, of_one], axis=1)
    given = (np.arange(200) % 4 == 0).astype(int)
    given[[1, 5]] = 1
    table = find(given, probabilities).ranking
    assert list(table["image_id"][:2]) == ["a0001", "a0005"]
    assert list(table.loc[table["doubtful"], "image_id"]) == ["a0001", "a0005"]


def test_the_table_has_all_images_once_ranked_and_the_same_twice() -> None:
    _, given, probabilities = simulate(6, rows=200)
    found, again = find(given, probabilities), find(given, probabilities)
    table = found.ranking
    assert list(table.columns) == NOISE_COLUMNS
    assert list(table["rank"]) == list(range(1, 201))
    assert sorted(table["image_id"]) == names(200)
    assert table["margin"].is_monotonic_increasing
    assert (table["label"] != table["suggested"]).all()
    first = table.iloc[0]
    row = int(first["image_id"][1:])
    assert first["probability_of_label"] == probabilities[row, given[row]]
    pd.testing.assert_frame_equal(table, again.ranking)
    assert (found.wrong, found.low, found.high) == (again.wrong, again.low, again.high)


def test_a_class_without_images_is_an_error() -> None:
    with pytest.raises(TableError) as caught:
        find(np.array([0]), np.array([[0.4, 0.6]]))
    assert str(caught.value) == (
        "label noise: expected out-of-fold images of each of 2 classes, found none of '1'. "
        "Train more folds (train.folds in params.yaml)"
    )


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A store of 60 images and their out-of-fold table, in another order; the given labels."""
    monkeypatch.chdir(tmp_path)
    _, given, probabilities = simulate(7, rows=60, wrong=0.1, sharpness=5.0)
    ids = names(60)
    table = pd.DataFrame(dict.fromkeys(IMAGE_COLUMNS, ids))
    table["width"] = table["height"] = "4"
    table["label"] = given.astype(str)
    table["group"] = [f"P{row // 6}" for row in range(60)]
    write_table(paths.TRAIN_TABLE, table)
    write_record(
        paths.COMPETITION,
        Competition(id_column="id", label_column="label", task=one_of(2, True)),
    )
    write_predictions(paths.ENSEMBLE_OOF, ids[::-1], probabilities[::-1], one_of(2))
    return given


def test_suggestions_are_corrections_to_review(
    store: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    noise.run(prepare_config(), 4, noise.SUGGESTIONS)
    suggested = read_corrections(noise.SUGGESTIONS)
    assert list(suggested.columns) == CORRECTION_COLUMNS
    assert len(suggested) == 4
    for row in suggested.to_dict("records"):
        assert row["old"] == str(store[int(row["image_id"][1:])])
        assert row["new"] == str(1 - int(row["old"]))
        assert row["reason"].startswith("out-of-fold p(label)=0.")
    said = capfd.readouterr().err
    assert "60 labels: 6 contradicted by the out-of-fold predictions; about " in said
    assert "counts some hard images as wrong labels" in said
    assert re.search(r"reports/label_noise.csv: the first 4, from \d groups", said)
    assert "reports/index.html shows the most doubtful images, under Images to look at" in said
    assert list(read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)["label"]) == list(store.astype(str))


@pytest.mark.usefixtures("store")
def test_what_was_corrected_before_is_not_suggested_again() -> None:
    noise.run(prepare_config(), 6, noise.SUGGESTIONS)
    (first, *others) = read_corrections(noise.SUGGESTIONS).to_dict("records")
    Path("corrections").mkdir()
    write_table(Path("corrections/seen.csv"), pd.DataFrame([first]))
    noise.run(prepare_config(corrections="corrections/seen.csv"), 5, noise.SUGGESTIONS)
    assert read_corrections(noise.SUGGESTIONS).to_dict("records") == others


@pytest.mark.usefixtures("store")
def test_reviewed_corrections_and_a_table_of_another_store_stop_it() -> None:
    path = Path("corrections/mine.csv")
    noise.run(prepare_config(), 2, path)
    before = path.read_bytes()
    with pytest.raises(TableError) as caught:
        noise.run(prepare_config(), 3, path)
    assert str(caught.value) == (
        "corrections/mine.csv: this file exists already, and it may contain reviewed corrections. "
        "Name another one with --output, or remove it"
    )
    assert path.read_bytes() == before
    write_predictions(paths.ENSEMBLE_OOF, ["a0001", "zzz"], np.full((2, 2), 0.5), one_of(2))
    with pytest.raises(TableError) as caught:
        noise.run(prepare_config(), 2, noise.SUGGESTIONS)
    assert str(caught.value) == (
        "ensemble/oof.csv: expected images of data/store/train.csv, found 1 of 2 others "
        "(first: zzz). Run: dvc repro ensemble"
    )


def test_where_nothing_is_doubtful_nothing_is_suggested(
    store: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    noise.run(prepare_config(), 2, noise.SUGGESTIONS)
    sure = np.eye(2)[store]
    write_predictions(paths.ENSEMBLE_OOF, names(60), sure, one_of(2))
    noise.run(prepare_config(), 2, noise.SUGGESTIONS)
    assert noise.SUGGESTIONS.read_text() == "image_id,old,new,reason\n"
    assert (
        "no label to look at again; reports/label_noise.csv has no rows" in capfd.readouterr().err
    )
