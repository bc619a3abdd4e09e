"""The audit names what leaks, says what it may mean, and nothing makes use of it."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow
from project import ROOT
from sklearn.metrics import roc_auc_score
from test_dvc import STAGES, names_in, true_imports
from test_prepare import (
    clean_test,
    clean_train,
    encode,
    make_config,
    read_audit,
    write_csv,
    write_raw,
)

from pipeline.core import paths
from pipeline.core.audit import LeakCheck, TwinPair
from pipeline.core.competition import ImageDecoding
from pipeline.prepare import leaks
from pipeline.prepare.decode import decode
from pipeline.prepare.stage import run

GENERATOR = np.random.default_rng(11)
START = GENERATOR.bit_generator.state


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    GENERATOR.bit_generator.state = START  # the same in any order of the tests


def draw(height: int = 20, width: int = 30) -> np.ndarray:
    return GENERATOR.integers(0, 250, (height, width, 3), dtype=np.uint8)


def sklearn_auc(
    bins: np.ndarray, labels: np.ndarray, folds: np.ndarray, classes: int
) -> np.ndarray:
    """The same rule row by row, and scikit-learn's area under the curve of each fold."""
    table = pd.DataFrame({"bin": bins, "label": labels, "fold": folds})
    found = []
    for label in range(classes):
        areas, pairs = [], []
        for fold, scored in table.groupby("fold"):
            others = table[table["fold"] != fold]
            is_class = (others["label"] == label).astype(float)
            sums = is_class.groupby(others["bin"]).agg(["sum", "count"])
            sums = sums.reindex(range(bins.max() + 1), fill_value=0)
            share = (sums["sum"] + is_class.mean()) / (sums["count"] + 1)
            truth = scored["label"] == label
            if 0 < truth.sum() < len(truth):
                areas.append(roc_auc_score(truth, share[scored["bin"]].round(12)))
                pairs.append(truth.sum() * (~truth).sum())
        found.append(np.average(areas, weights=pairs) if areas else 0.5)
    return np.array(found)


@pytest.mark.parametrize(("rows", "classes", "count"), [(400, 2, 5), (300, 4, 31), (60, 3, 2)])
def test_the_figure_is_scikit_learns_area_of_the_rule(rows: int, classes: int, count: int) -> None:
    labels = GENERATOR.integers(0, classes, rows)
    bins = (labels + GENERATOR.integers(0, count, rows)) % count
    folds = leaks.deal_folds(GENERATOR.integers(0, 25, rows))
    expected = sklearn_auc(bins, labels, folds, classes)
    assert leaks.scorer(bins, folds, classes)(labels) == pytest.approx(expected, abs=1e-9)


def test_a_class_that_meets_no_other_in_a_fold_says_nothing() -> None:
    folds = np.repeat(np.arange(5), 20)
    labels = (folds == 0).astype(int)
    assert leaks.scorer(labels, folds, 2)(labels).tolist() == [0.5, 0.5]


def test_folds_keep_groups_whole_and_are_even() -> None:
    groups = GENERATOR.integers(0, 60, 3000)
    folds = leaks.deal_folds(groups)
    assert pd.Series(folds).groupby(groups).nunique().max() == 1
    assert set(folds) == set(range(5))
    assert np.bincount(folds).min() > 450


def test_numbers_are_cut_at_quantiles_and_their_frequent_values_stand_alone() -> None:
    numbers = np.concatenate([np.full(300, 224.0), np.linspace(100, 400, 300), np.full(9, np.nan)])
    often, spread, unknown = np.split(leaks.cut_numbers(numbers), [300, 600])
    assert len(set(often)) == len(set(unknown)) == 1
    assert not set(often) & {*spread, *unknown}
    assert not set(spread) & set(unknown)
    assert (np.diff(spread) >= 0).all()
    assert leaks.cut_numbers(np.full(5, np.nan)).tolist() == [0] * 5
    assert leaks.cut_numbers(np.arange(2000.0)).max() + 1 <= 31


def checks_of(
    images: dict[str, bytes], labels: str, groups: list[str], order: Any = None, times: Any = None
) -> tuple[dict[str, LeakCheck], list[str]]:
    """The checks of a competition whose archive has the images in `order`, and what is constant."""
    write_raw({}, clean_test())
    with zipfile.ZipFile(paths.RAW / "train.zip", "w") as archive:
        for name in order or images:
            at = (times or {}).get(name, (1980, 1, 1, 0, 0, 0))
            archive.writestr(zipfile.ZipInfo(f"train/{name}.png", at), images[name])
    write_csv("labels.csv", "label", dict(zip(images, labels, strict=True)))
    write_csv("groups.csv", "patient", dict(zip(images, groups, strict=True)))
    run(make_config(size_px=8, near_duplicate=0.0), "accuracy")
    found = read_audit().leaks
    return {check.name: check for check in found.checks}, found.constant


def flagged(checks: dict[str, LeakCheck]) -> set[str]:
    return {name for name, check in checks.items() if check.flagged}


def named(encoded: list[bytes], names: list[str] | None = None) -> dict[str, bytes]:
    """Names whose numbers and order tell nothing."""
    numbers = GENERATOR.permutation(np.arange(10_000, 10_000 + len(encoded)))
    return dict(zip(names or [f"x{number}" for number in numbers], encoded, strict=True))


def drawn(shapes: list[tuple[int, int]]) -> list[bytes]:
    return [encode(draw(*shape)) for shape in shapes]


def scattered(count: int) -> str:
    return "".join(GENERATOR.permutation(list("01" * (count // 2))))


def singles(count: int) -> list[str]:
    return [f"P{number}" for number in range(count)]


def test_what_tells_nothing_is_not_flagged() -> None:
    shapes = [tuple(GENERATOR.integers(8, 12, 2)) for _ in range(300)]
    checks, constant = checks_of(named(drawn(shapes)), scattered(300), singles(300))
    assert flagged(checks) == set()
    assert {"width", "height", "aspect", "file_size", "order", "number"} <= set(checks)
    assert constant == ["mode", "encoding", "name", "time"]
    assert all(check.auc is None or check.auc < 0.65 for check in checks.values())


def test_each_leak_is_flagged_by_its_name(capfd: pytest.CaptureFixture[str]) -> None:
    labels = scattered(200)
    wide = drawn([(10, 12 if label == "1" else 10) for label in labels])
    checks, _ = checks_of(named(wide), labels, singles(200))
    assert flagged(checks) == {"width"}
    assert "height" not in checks
    assert {name: check.same_as for name, check in checks.items() if check.same_as} == {
        "aspect": "width", "file_size": "width", "place": "order",
    }  # fmt: skip
    assert checks["width"].auc == 1.0
    low, high = checks["width"].chance or (0, 0)
    assert 0.3 < low < 0.5 < high < 0.7
    sentence = (
        f"The width of the original predicts the label with AUC 1.00, by chance with {low:.2f} to "
        f"{high:.2f}: a leak only if it does not come from the thing itself. The things may differ "
        "in size; it is a leak where the classes were photographed or cropped in different ways. "
        "All images are resized, so that a network sees no size, but blur, and with prepare.fit: "
        "pad the shape."
    )
    assert checks["width"].sentence == sentence
    assert f"{sentence}\n" in capfd.readouterr().err


def test_names_and_order_that_tell_the_class_are_flagged() -> None:
    labels = "0" * 100 + "1" * 100
    names = [f"{'healthy' if label == '0' else 'ill'}_{n}" for n, label in enumerate(labels)]
    checks, _ = checks_of(named(drawn([(8, 8)] * 200), names), labels, singles(200))
    assert {"name", "order"} <= flagged(checks)
    assert checks["number"] == LeakCheck(name="number", same_as="order")
    assert checks["place"] == LeakCheck(name="place", same_as="order")
    expected = "a network sees what differs between such series: device, place, light."
    assert expected in checks["order"].sentence


def test_the_place_in_the_archive_is_another_trace_than_the_order_of_the_labels() -> None:
    labels = scattered(200)
    images = named(drawn([(8, 8)] * 200))
    by_class = sorted(images, key=dict(zip(images, labels, strict=True)).__getitem__)
    checks, _ = checks_of(images, labels, singles(200), order=by_class)
    assert flagged(checks) & {"place", "order", "number"} == {"place"}


def test_the_time_in_the_archive_is_a_trace() -> None:
    labels = scattered(200)
    images = named(drawn([(8, 8)] * 200))
    times = {
        name: (2020, 1, 1 + int(label), int(GENERATOR.integers(24)), 0, 0)
        for name, label in zip(images, labels, strict=True)
    }
    checks, _ = checks_of(images, labels, singles(200), times=times)
    assert flagged(checks) == {"time"}
    assert (checks["time"].auc or 0) > 0.95


def jpeg(quality: int, **extra: Any) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(draw(8, 8)).save(file, "JPEG", quality=quality, **extra)
    return file.getvalue()


def test_the_program_that_saved_the_files_is_a_trace() -> None:
    labels = scattered(120)
    files = [jpeg(90 if label == "1" else 85) for label in labels]
    checks, _ = checks_of(named(files), labels, singles(120))
    assert checks["encoding"].auc == 1.0
    assert "encoding" in flagged(checks)
    grey = [encode(draw(8, 8)[..., 0] if label == "1" else draw(8, 8)) for label in labels]
    checks, _ = checks_of(named(grey), labels, singles(120))
    assert "mode" in flagged(checks)


def test_the_encoding_tells_format_quality_and_metadata() -> None:
    exif = Pillow.Exif()
    exif[0x0110] = "camera"
    files = [encode(draw(4, 4)), jpeg(90), jpeg(50), jpeg(90, exif=exif)]
    png, fine, coarse, tagged = (
        decode(
            f, ImageDecoding(size_px=8, channels=3, fit="stretch", black_white=None), 100
        ).encoding.split()
        for f in files
    )
    assert (png, fine[0]) == (["PNG"], "JPEG")
    assert int(coarse[1]) > int(fine[1])
    assert set(tagged) - set(fine) >= {"exif"}


def test_what_distinguishes_patients_only_predicts_no_classes() -> None:
    """Each patient has their own camera and their own diagnosis; by image it looks like a leak."""
    rates, widths = GENERATOR.permutation(np.arange(20) % 2), GENERATOR.permutation(20)
    patients = np.repeat(np.arange(20), 20)
    shapes = [(8, 20 + int(widths[patient])) for patient in patients]
    labels = "".join(str(rates[patient]) for patient in patients)
    images = named(drawn(shapes))
    by_patient, _ = checks_of(images, labels, [f"P{patient}" for patient in patients])
    assert flagged(by_patient) == set()
    by_image, _ = checks_of(images, labels, singles(400))
    assert (by_image["width"].auc or 0) > 0.9
    assert "width" in flagged(by_image)
    assert "that keep groups together" in read_audit().leaks.method


def test_chance_with_groups_is_wider_than_without() -> None:
    labels = np.repeat(GENERATOR.permutation(np.arange(30) % 2), 20)
    grouped = np.repeat(np.arange(30), 20)
    spread = []
    for groups in (grouped, np.arange(600)):
        permuted = leaks._permute(labels, groups)
        assert all(np.bincount(one).tolist() == [300, 300] for one in permuted)
        folds = leaks.deal_folds(groups)
        aucs = [leaks.scorer(grouped % 16, folds, 2)(one)[1] for one in permuted]
        spread.append(np.std(aucs))
    assert spread[0] > 2 * spread[1]


def test_one_class_of_several_that_leaks_is_named() -> None:
    labels = "".join(GENERATOR.permutation(list("01234567" * 40)))
    wide = drawn([(8, 12 if label == "7" else 10 + int(GENERATOR.integers(2))) for label in labels])
    checks, _ = checks_of(named(wide), labels, singles(320))
    assert (checks["width"].auc or 1) < 0.65
    assert "width" in flagged(checks)
    assert " ('7' with 1.00)" in checks["width"].sentence


def test_too_few_groups_to_split_are_not_kept_together() -> None:
    labels = scattered(80)
    wide = drawn([(8, 12 if label == "1" else 10) for label in labels])
    checks, _ = checks_of(named(wide), labels, ["one"] * 40 + ["two"] * 40)
    assert "width" in flagged(checks)
    assert "groups" not in read_audit().leaks.method


def test_each_pair_across_train_and_test_is_named() -> None:
    film, shadow = draw(16, 16), draw(16, 16)
    train = clean_train() | {
        "b": encode(film), "c": encode(film, "BMP"), "d": encode(shadow),
    }  # fmt: skip
    test = clean_test() | {
        "u": encode(film), "v": encode(film[..., :], "TIFF"), "w": encode(shadow + 1),
    }  # fmt: skip
    write_raw(train, test)
    run(make_config(), "accuracy")
    found = read_audit().train_test_duplicates
    assert found.pairs == [
        TwinPair(test="u", train=["b", "c"], kind="file"),
        TwinPair(test="v", train=["b", "c"], kind="pixels"),
        TwinPair(test="w", train=["d"], kind="near"),
    ]
    assert found.sentence == (
        "These test images are also in train. Their labels are copied nowhere: each is predicted "
        "like any other test image, by networks that have seen its copy with the label it was "
        "given there."
    )


def test_what_is_stored_of_test_holds_no_label_of_its_copies() -> None:
    """A training image's other label changes its own table alone, not what is known of its copy."""
    same = encode(draw())
    train = clean_train() | {"b": same}
    write_raw(train, clean_test() | {"u": same})
    stored, audits = [], []
    for labels in ("0101011", "0101010"):
        write_csv("labels.csv", "label", dict(zip(train, labels, strict=True)))
        run(make_config(), "accuracy")
        stored.append({path.name: path.read_bytes() for path in paths.STORE.iterdir()})
        audits.append(read_audit())
    assert {name for name in stored[0] if stored[0][name] != stored[1][name]} == {"train.csv"}
    twins = audits[0].train_test_duplicates
    assert [pair.test for pair in twins.pairs] == ["u"]
    assert twins == audits[1].train_test_duplicates
    assert audits[0].test == audits[1].test


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"download", "prepare", "report"}))
def test_no_stage_makes_use_of_the_audit_or_of_copies_in_test(stage: str) -> None:
    """Only `split` reads the column `duplicate`, of train, to keep copies in one fold."""
    assert "AUDIT" in names_in(ROOT / "pipeline" / "prepare" / "stage.py")
    assert "duplicate" in names_in(ROOT / "pipeline" / "split" / "folds.py")
    declared = {"pipeline/core/audit.py", "pipeline/core/paths.py", "pipeline/core/tables.py"}
    for file in sorted(set(true_imports(stage)) - declared):
        used = names_in(ROOT / file)
        assert not used & {"AUDIT", "audit.json", "train_test_duplicates"}, file
        assert "duplicate" not in used or file == "pipeline/split/folds.py"
        assert "TEST_TABLE" not in used or not file.startswith("pipeline/split/")
