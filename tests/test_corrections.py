"""Labels change only by a reviewed file that fits them; conflicting ones follow a stated rule."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from project import PARAMS, make_project, prepare_config
from project import run as run_in
from test_prepare import (
    clean_test,
    clean_train,
    draw,
    encode,
    make_config,
    read_audit,
    write_raw,
)

from pipeline.core import paths
from pipeline.core.audit import Conflicts, Correction, Corrections, SamePixels
from pipeline.core.competition import ImageDecoding
from pipeline.core.errors import CompetitionError, PipelineError
from pipeline.core.tables import IMAGE_COLUMNS, read_table
from pipeline.prepare.decode import decode
from pipeline.prepare.stage import run

FILE = Path("corrections/some.csv")
GOOD = "a1,1,0,no parasite (A. Reviewer)"


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_corrections(*rows: str, header: str = "image_id,old,new,reason") -> None:
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text("\n".join([header, *rows]) + "\n")


def labels() -> str:
    return "".join(read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)["label"])


def error_of(**changes: Any) -> str:
    with pytest.raises(PipelineError) as caught:
        run(make_config(**changes), "accuracy")
    assert not paths.STORE.exists()
    return f"{type(caught.value).__name__}: {caught.value}"


def test_corrections_change_these_labels_alone_and_are_reported(
    capfd: pytest.CaptureFixture[str],
) -> None:
    write_raw(clean_train(), clean_test())
    run(make_config(), "accuracy")
    before = {path.name: path.read_bytes() for path in paths.STORE.iterdir()}
    assert labels() == "010101"
    assert read_audit().corrections == Corrections(file=None, count=0, by_class={}, rows=[])
    write_corrections(GOOD, "a4,0,1,a ring", "a3,1,0,debris")
    run(make_config(corrections=str(FILE)), "accuracy")
    assert labels() == "000011"
    after = {path.name: path.read_bytes() for path in paths.STORE.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"train.csv"}
    Path("old.csv").write_bytes(before["train.csv"])
    old, new = (read_table(path, IMAGE_COLUMNS) for path in (Path("old.csv"), paths.TRAIN_TABLE))
    pd.testing.assert_frame_equal(old.drop(columns="label"), new.drop(columns="label"))
    found = read_audit().corrections
    assert (found.file, found.count) == ("corrections/some.csv", 3)
    assert found.by_class == {"0 → 1": 1, "1 → 0": 2}
    assert found.rows[1] == Correction(image_id="a4", old="0", new="1", reason="a ring")
    told = "labels corrected by corrections/some.csv: 3 (0 → 1: 1, 1 → 0: 2)\n"
    assert told in capfd.readouterr().err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["zz,1,0,x", GOOD], "expected images of data/raw/labels.csv, found 1 of 2 rows otherwise (first: zz is not there). Correct the ids, or remove these rows"),
        (["t0,1,0,x"], "expected training images, found 1 of 1 rows otherwise (first: t0 is in test). No label of a test image is known or can be corrected: remove these rows"),
        (["a1,0,1,x", "a2,1,0,x", "a3,1,0,x"], "expected the label that data/raw/labels.csv gives in `old`, found 2 of 3 rows otherwise (first: '0' for a1, which is '1', '1' for a2, which is '0'). The labels have changed, or have this correction already: look at these images again, then correct the rows or remove them"),
        ([GOOD, "a2,0,0,x"], "expected another label in `new` than in `old`, found 1 of 2 rows otherwise (first: a2). Remove these rows"),
        ([GOOD, "a2,0,ill,x"], "expected one of the classes 0, 1 in `new`, found 1 of 2 rows otherwise (first: 'ill' for a2). Correct these rows"),
        ([GOOD, GOOD, "a2,0,1,x"], "expected each image once, found 1 of 3 rows otherwise (first: a1). Keep one row an image"),
        ([GOOD, "a2,0,1, "], "expected a reason in each row, found 1 of 2 rows otherwise (first: a2). Write what is seen in the image, and who looked"),
        (["a1,1,0,x", "a3,1,0,x", "a5,1,0,x"], "expected images of each class after the corrections, found none of '1'. Remove some of its rows"),
        ([], "expected rows, found none"),
    ],
)  # fmt: skip
def test_corrections_that_do_not_fit_stop(rows: list[str], message: str) -> None:
    write_raw(clean_train(), clean_test())
    write_corrections(*rows)
    assert error_of(corrections=str(FILE)) == f"TableError: corrections/some.csv: {message}"


def test_a_file_of_corrections_that_is_missing_or_has_other_columns_stops() -> None:
    write_raw(clean_train(), clean_test())
    assert error_of(corrections=str(FILE)) == (
        "TableError: corrections/some.csv: no such file, but prepare.corrections names it. Write it "
        "with the columns image_id,old,new,reason, or set prepare.corrections to null in params.yaml"
    )
    write_corrections("a1,1,0", header="image_id,old,new")
    assert error_of(corrections=str(FILE)) == (
        "TableError: corrections/some.csv: expected the columns ['image_id', 'old', 'new', "
        "'reason'], found ['image_id', 'old', 'new']"
    )


@pytest.mark.parametrize(
    "path", ["some.csv", "corrections/../x.csv", "corrections/x.txt", "/a.csv"]
)
def test_corrections_lie_where_dvc_watches(path: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"corrections/NAME.csv, found '{path}'")):
        prepare_config(corrections=path)


def conflicting() -> dict[str, bytes | None]:
    """b, c, d have the same pixels in other files; e nearly so; f and g another pair."""
    same, other = draw(16, 16), encode(draw(16, 16))
    twins = {"b": encode(same), "c": encode(same, "BMP"), "d": encode(same), "e": encode(same + 1)}
    return clean_train() | twins | {"f": other, "g": other}


LABELS = "010101" + "010" + "1" + "11"
"""The labels of a0 to a5; b, c, d; e; f and g."""

SAME = SamePixels(image_ids=["b", "c", "d"], labels=["0", "1", "0"])


def test_kept_conflicts_are_reported_and_change_nothing() -> None:
    write_raw(conflicting(), clean_test(), labels=LABELS)
    run(make_config(conflicts="keep"), "accuracy")
    assert labels() == LABELS
    assert read_audit().conflicts == Conflicts(
        rule="keep",
        sentence="Training images with the same pixels and different labels stay as they are "
        "given. Near-duplicates with different labels are only listed.",
        excluded=0,
        same_pixels=[SAME],
        near=[["b", "c", "d", "e"]],
    )


def test_excluded_conflicts_leave_training_whole_and_nothing_else_does(
    capfd: pytest.CaptureFixture[str],
) -> None:
    train = conflicting()
    write_raw(train, clean_test() | {"u": train["b"] or b""}, labels=LABELS)
    run(make_config(conflicts="exclude"), "accuracy")
    table = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
    stay = ["a0", "a1", "a2", "a3", "a4", "a5", "e", "f", "g"]
    assert list(table["image_id"]) == stay
    array = np.load(paths.TRAIN_IMAGES)
    assert paths.TRAIN_IMAGES.stat().st_size == 128 + array.nbytes
    for image_id, pixels in zip(stay, array, strict=True):
        expected = decode(
            train[image_id] or b"",
            ImageDecoding(size_px=16, channels=3, fit="stretch", black_white=None),
            100,
        ).pixels
        assert np.array_equal(pixels, expected)
    # The cluster was named after b, which is gone: e is its first now, also for test.
    assert list(table["duplicate"]) == [*stay[:7], "f", "f"]
    test = read_table(paths.TEST_TABLE, IMAGE_COLUMNS)
    assert list(test["image_id"]) == ["t2", "t0", "t1", "u"]
    assert list(test["duplicate"]) == ["t2", "t0", "t1", "e"]
    audit = read_audit()
    assert (audit.conflicts.excluded, audit.train.rows) == (3, 9)
    assert audit.conflicts.same_pixels == [SAME]
    assert "all left training" in audit.conflicts.sentence
    assert sorted(path.name for path in paths.STORE.iterdir()) == [
        "competition.json", "decoding.json", "sample_submission.csv",
        "test.csv", "test.npy", "train.csv", "train.npy",
    ]  # fmt: skip
    told = "left out of train: 3 images with the same pixels and different labels\n"
    assert told in capfd.readouterr().err


def test_conflicts_that_stop_are_all_listed() -> None:
    write_raw(conflicting(), clean_test(), labels=LABELS[:-1] + "0")
    assert error_of(conflicts="stop") == (
        "CompetitionError: data/raw/labels.csv: expected one label for images with the same pixels, "
        "found 2 clusters whose labels disagree. Correct the wrong ones (prepare.corrections), or "
        "set prepare.conflicts to exclude or keep:\n"
        "b is '0' and c is '1' and d is '0'\n"
        "f is '1' and g is '0'"
    )


@pytest.mark.parametrize("rule", ["exclude", "stop"])
def test_a_corrected_conflict_is_none(rule: str) -> None:
    write_raw(conflicting(), clean_test(), labels=LABELS)
    write_corrections("c,1,0,the same image as b and d")
    run(make_config(conflicts=rule, corrections=str(FILE)), "accuracy")
    assert labels() == LABELS.replace("010101010", "010101000")
    assert read_audit().conflicts.same_pixels == []


@pytest.mark.parametrize("rule", ["exclude", "stop"])
def test_near_duplicates_with_different_labels_are_only_listed(rule: str) -> None:
    """Two pairs of the same pixels, each of one label, and near to each other."""
    one, other = encode(image := draw(16, 16)), encode(image + 1)
    train = clean_train() | {"b": one, "c": one, "d": other, "e": other}
    write_raw(train, clean_test(), labels="0101010011")
    run(make_config(conflicts=rule), "accuracy")
    assert labels() == "0101010011"
    found = read_audit().conflicts
    assert (found.near, found.same_pixels, found.excluded) == ([["b", "c", "d", "e"]], [], 0)


def test_a_class_never_disappears_with_its_conflicts() -> None:
    same = encode(draw())
    write_raw(clean_train() | {"b": same, "c": same}, clean_test(), labels="0000001" + "0")
    assert error_of(conflicts="exclude") == (
        "CompetitionError: data/raw/labels.csv: expected images of each class without those of "
        "conflicting labels, found none of '1'. Correct labels (prepare.corrections), or set "
        "prepare.conflicts to keep"
    )


def test_many_conflicts_are_listed_up_to_twenty() -> None:
    same = [encode(draw()) for _ in range(23)]
    train: dict[str, bytes | None] = {f"p{n:02}{side}": same[n] for n in range(23) for side in "xy"}
    write_raw(train, clean_test())
    with pytest.raises(CompetitionError) as caught:
        run(make_config(conflicts="stop"), "accuracy")
    assert "found 23 clusters" in str(caught.value)
    assert str(caught.value).endswith("p19x is '0' and p19y is '1'\n… and 3 more")


@pytest.mark.slow
def test_dvc_reruns_prepare_when_corrections_or_raw_files_change(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    params, corrections = project / "params.yaml", project / "corrections" / "tiny.csv"
    table, unchanged = project / paths.TRAIN_TABLE, "Stage 'prepare' didn't change, skipping"

    def repro() -> str:
        done = run_in(project, "dvc", "repro", "prepare")
        assert done.returncode == 0, done.stdout
        return done.stdout

    assert "Running stage 'download'" in repro()
    assert unchanged in repro()
    first = read_table(table, IMAGE_COLUMNS).iloc[0]
    other = "1" if first["label"] == "0" else "0"
    row = f"image_id,old,new,reason\n{first['image_id']},{first['label']},{other}"
    corrections.write_text(f"{row},seen\n")
    params.write_text(PARAMS.replace("corrections: null", "corrections: corrections/tiny.csv"))
    assert "labels corrected by corrections/tiny.csv: 1 " in repro()
    assert read_table(table, IMAGE_COLUMNS)["label"][0] == other
    corrections.write_text(f"{row},seen twice\n")
    assert "Running stage 'prepare'" in repro()
    assert "seen twice" in (project / paths.AUDIT).read_text()
    assert unchanged in repro()
    before = (project / paths.TRAIN_IMAGES).read_bytes()
    params.write_text(PARAMS.replace("duplicates: 0.05, seed: 1", "duplicates: 0.05, seed: 2"))
    assert "Running stage 'prepare'" in repro()
    assert (project / paths.TRAIN_IMAGES).read_bytes() != before
