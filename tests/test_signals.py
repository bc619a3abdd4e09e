"""Signals from the competition's files to the store and the folds."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from project import COMPETITIONS, needs, prepare_config
from pulses import (
    CHUNKS,
    CLASSES,
    FORMS,
    LENGTH,
    RECORDINGS,
    TEST_IDS,
    TESTS,
    as_table,
    draw,
    npy,
    signals_config,
    write,
)
from solving import reproduce
from solving import write as change

from pipeline.check import stage as check
from pipeline.commands import new
from pipeline.core import paths
from pipeline.core.audit import Audit
from pipeline.core.competition import SignalDecoding, read_competition, read_decoding
from pipeline.core.errors import CompetitionError, ImageError, PipelineError, TableError
from pipeline.core.record import read_record
from pipeline.core.tables import FOLD_COLUMNS, IMAGE_COLUMNS, read_csv, read_table
from pipeline.download import stage as download
from pipeline.download.config import LocalSource
from pipeline.ensemble import stage as ensemble
from pipeline.explain import command
from pipeline.explain import stage as explain
from pipeline.notebook import look
from pipeline.params import read_config
from pipeline.predict import command as predict
from pipeline.predict.images import open_rows
from pipeline.prepare.signal_files import read_signal
from pipeline.prepare.stage import run
from pipeline.report import stage as report
from pipeline.report.facts import read_facts
from pipeline.split import stage as split
from pipeline.split.config import SplitConfig
from pipeline.train import stage as train

ROWS = RECORDINGS * CHUNKS
Change = Callable[[Path], None]


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table_of(name: str) -> pd.DataFrame:
    return read_table(getattr(paths, f"{name.upper()}_TABLE"), IMAGE_COLUMNS)


def refused(**changes: Any) -> str:
    with pytest.raises(PipelineError) as caught:
        run(signals_config(**changes), "accuracy")
    assert not paths.STORE.exists()
    return str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_stored_as_it_is_row_by_row(form: str, channels: int) -> None:
    if form == "npz" and channels > 1:
        pytest.skip("drawn with one channel")
    of_train, of_test = write(Path("files"), form, channels)
    download_files()
    run(signals_config(), "accuracy")
    assert read_decoding(paths.DECODING) == SignalDecoding(length=LENGTH, channels=channels)
    for split_name, signals in (("train", of_train), ("test", of_test)):
        stored = np.load(paths.STORE / f"{split_name}.npy")
        assert stored.dtype == np.float32
        assert np.array_equal(stored, signals)
        table = table_of(split_name)
        assert set(table["width"]) == {str(LENGTH)}
        assert set(table["height"]) == {str(channels)}
    drawn = draw(channels)[0]
    assert list(table_of("train")["image_id"]) == list(drawn["id"])
    assert list(table_of("train")["label"]) == list(drawn["state"])
    assert list(table_of("train")["group"]) == list(drawn["recording"])
    assert list(table_of("test")["image_id"]) == TEST_IDS


def download_files() -> None:
    for place in (paths.RAW, paths.HIDDEN):
        place.mkdir(parents=True)
    download.run(LocalSource(source="local", folder="files"))


def test_folds_keep_the_chunks_of_a_recording_together() -> None:
    write(paths.RAW, "tables")
    config = SplitConfig(folds=3, seeds=[1], rare="stop")
    run(signals_config(), "accuracy", config)
    split.run(config)
    folds = read_table(paths.FOLDS, FOLD_COLUMNS)
    assert len(folds) == ROWS
    assert (folds.groupby("group")["fold"].nunique() == 1).all()


def test_the_rows_to_predict_are_those_of_the_test_table_where_no_sample_shows_them() -> None:
    write(paths.RAW, "tables")
    (paths.RAW / "sample_submission.csv").unlink()
    run(signals_config(sample_submission="none", label_column="state"), "accuracy")
    assert list(table_of("test")["image_id"]) == TEST_IDS


def test_equal_signals_are_duplicates_and_scaled_or_shifted_copies_are_not() -> None:
    write(paths.RAW, "arrays")
    signals = np.load(paths.RAW / "X_train.npy")
    signals[5], signals[6], signals[7] = signals[0], 2 * signals[0], np.roll(signals[0], 1, axis=0)
    np.save(paths.RAW / "X_train.npy", signals)
    test = np.load(paths.RAW / "X_test.npy")
    test[2] = signals[0].T
    np.save(paths.RAW / "X_test.npy", test)
    run(signals_config(), "accuracy")
    audit = read_record(paths.AUDIT, Audit, "prepare")
    (cluster,) = audit.clusters
    assert cluster.image_ids == ["a000", "a005", "b002"]
    assert cluster.conflicting_labels
    assert audit.train_test_duplicates.pairs[0].test == "b002"
    assert "test signals are also in train" in audit.train_test_duplicates.sentence
    assert "Training signals with the same samples" in audit.conflicts.sentence
    assert {"aspect", "width", "height"} <= set(audit.leaks.constant)
    run(signals_config(conflicts="exclude"), "accuracy")
    left = [name for name in draw()[0]["id"] if name not in ("a000", "a005")]
    assert list(table_of("train")["image_id"]) == left
    assert len(np.load(paths.TRAIN_IMAGES)) == len(left)
    with pytest.raises(CompetitionError, match="one label for signals with the same samples"):
        run(signals_config(conflicts="stop"), "accuracy")


LACKING, LARGE = "missing or NaN", "infinite, or too large for float32"
BAD = {"": LACKING, "nan": LACKING, "NA": LACKING, "inf": LARGE, "-1e39": LARGE}


@pytest.mark.parametrize("cell", BAD)
def test_a_value_that_is_none_stops_or_leaves_the_signal_out_and_never_in_test(cell: str) -> None:
    write(paths.RAW, "tables")
    for name, row_id in (("train", "a003"), ("test", "b001")):
        path = paths.RAW / f"{name}_signals.csv"
        right = path.read_text()
        line = re.search(f"^{row_id},.*", right, re.M)
        assert line
        cells = line[0].split(",")
        path.write_text(right.replace(line[0], ",".join([*cells[:4], cell, *cells[5:]])))
        if name == "train":
            assert f"1 × a value that is {BAD[cell]} (first: a003)" in refused()
            run(signals_config(unreadable="exclude"), "accuracy")
            assert len(np.load(paths.TRAIN_IMAGES)) == ROWS - 1
            assert "a003" not in set(table_of("train")["image_id"])
            path.write_text(right)
    with pytest.raises(ImageError, match="A test signal can never be left out"):
        run(signals_config(unreadable="exclude"), "accuracy")


def _shorter(raw: Path) -> None:
    np.save(raw / "train/a007.npy", np.zeros(30, np.float32))


def _square(raw: Path) -> None:
    for path in raw.glob("train/*.npy"):
        np.save(path, np.zeros((8, 8)))


def _text(raw: Path) -> None:
    (raw / "train/a007.npy").write_bytes(npy(np.array(["a", "b"])))


def _gone(raw: Path) -> None:
    (raw / "test/b002.npy").unlink()


def _more(raw: Path) -> None:
    (raw / "train/z.npy").write_bytes(npy(np.zeros(LENGTH)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_shorter, "expected signals of one length, found 72 signals of 30 to 40 samples (median 40); the first that differs is a007 (train/a007.npy) with 30 samples of 1 channel, expected 40 samples of 1 channel. Set prepare.length in params.yaml"),
        (_square, "expected signals of train, found none to read"),
        (_text, "1 of 48 signals cannot be read: 1 × an array of '<U1', expected numbers (first: a007)"),
        (_gone, "expected a signal for each id of sample_submission.csv, found 1 of 24 ids otherwise (first: b002)"),
        (_more, "expected only signals of the ids in the tables, found 1 of 73 signals otherwise (first: train/z.npy). Add their rows, or set prepare.train_signals or prepare.test_signals"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_one_clear_error(damage: Change, message: str) -> None:
    write(paths.RAW, "npy files")
    damage(paths.RAW)
    assert message in refused()


def _ambiguous(raw: Path) -> None:
    np.save(raw / "X_train.npy", np.zeros((ROWS, 9, 9)))


def _fewer(raw: Path) -> None:
    np.save(raw / "X_train.npy", np.zeros((ROWS - 1, LENGTH)))


def _two(raw: Path) -> None:
    np.save(raw / "train_2.npy", np.zeros((ROWS, LENGTH)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_ambiguous, "X_train.npy: an array of shape (9, 9): which axis is the channels?"),
        (_fewer, "expected one array with the 48 rows of train_labels.csv, found 0 among 1 (first: X_train.npy: 47 × 40)"),
        (_two, "found 2 among 2 (first: X_train.npy: 48 × 40 × 1, train_2.npy: 48 × 40). Set prepare.train_signals in params.yaml"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_one_clear_error(damage: Change, message: str) -> None:
    write(paths.RAW, "arrays")
    damage(paths.RAW)
    assert message in refused()
    if damage is _two:
        run(signals_config(train_signals="X_train.npy"), "accuracy")


def test_the_axis_of_the_channels_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    write(paths.RAW, "arrays", channels=3)
    run(signals_config(), "accuracy")
    said = capsys.readouterr().err
    assert "X_train.npy: the last axis is the channels, since it is the shorter one" in said
    assert "X_test.npy: the second axis is the channels" in said


Columns = dict[str, str | None]
"""New names of columns; None for one that is removed."""

WITHOUT_GAP = "expected the columns of a channel to be numbered without a gap, found"
SHORT = "expected channels of 40 samples each, found 39 columns ch3_… . Write as many for each"


@pytest.mark.parametrize(
    ("form", "channels", "columns", "message"),
    [
        ("tables", 3, {"ch3_39": None}, SHORT),
        ("one table", 3, {"ch3_0": None}, SHORT),
        ("tables", 1, {"x2": None}, f"{WITHOUT_GAP} x3 after x1"),
        ("one table", 1, {"x39": "x40"}, f"{WITHOUT_GAP} x40 after x38"),
        ("tables", 1, {"x39": "x038"}, f"{WITHOUT_GAP} x38 after x038"),
        ("tables", 3, {f"ch{n}_1": None for n in (1, 2, 3)}, f"{WITHOUT_GAP} ch1_2 after ch1_0"),
    ],
)  # fmt: skip
def test_columns_of_samples_that_are_missing_are_one_clear_error(
    form: str, channels: int, columns: Columns, message: str
) -> None:
    """For a table of signals alone, for one with labels too, and for one to be predicted."""
    write(paths.RAW, form, channels)
    path = paths.RAW / ("train_signals.csv" if form == "tables" else "train_labels.csv")
    change_columns(path, columns)
    assert f"{path}: {message}" in refused()
    of_test = paths.RAW / ("test_signals.csv" if form == "tables" else "test.csv")
    change_columns(of_test, columns)
    decoding = SignalDecoding(length=LENGTH, channels=channels)
    with pytest.raises(TableError, match=re.escape(f"{of_test}: {message}")):
        open_rows(of_test, decoding, "id", False).__enter__()


def change_columns(path: Path, columns: Columns) -> None:
    table = pd.read_csv(path, dtype=str)
    left = table.drop(columns=[name for name, new in columns.items() if new is None])
    named = {name: new for name, new in columns.items() if new is not None}
    left.rename(columns=named).to_csv(path, index=False)


def test_numbered_labels_beside_the_samples_are_no_channel() -> None:
    rng, labels = np.random.default_rng(1), [f"finding{place}" for place in range(9)]
    samples = [f"x{place}" for place in range(LENGTH)]
    paths.RAW.mkdir(parents=True)
    for name, columns in (
        ("train", samples + labels),
        ("test", samples),
        ("sample_submission", labels),
    ):
        values = {column: rng.integers(2, size=60) for column in columns}
        ids = [f"{name[:2]}{row}" if name == "train" else f"te{row}" for row in range(60)]
        pd.DataFrame({"id": ids} | values).to_csv(paths.RAW / f"{name}.csv", index=False)
    run(signals_config(groups={"source": "none"}), "macro_roc_auc")
    assert np.load(paths.TRAIN_IMAGES).shape == (60, LENGTH, 1)
    assert read_competition(paths.COMPETITION).task.outputs == labels


def test_samples_that_are_numbered_by_their_times_have_no_gap() -> None:
    of_train, _ = write(paths.RAW, "tables")
    for name in ("train", "test"):
        times = {f"x{place}": f"t{round(place * 1000 / 240)}" for place in range(LENGTH)}
        change_columns(paths.RAW / f"{name}_signals.csv", dict(times))
    run(signals_config(), "accuracy")
    assert np.array_equal(np.load(paths.TRAIN_IMAGES), of_train)


def test_cells_of_channels_that_have_different_lengths_are_one_clear_error() -> None:
    write(paths.RAW, "tables", 2)
    table = pd.read_csv(paths.RAW / "train_signals.csv", dtype=str)
    cells = {
        f"lead {channel}": table[[f"ch{channel}_{place}" for place in range(length)]].agg(
            " ".join, 1
        )
        for channel, length in ((1, LENGTH), (2, LENGTH - 1))
    }
    pd.DataFrame({"id": table["id"]} | cells).to_csv(paths.RAW / "train_signals.csv", index=False)
    assert (
        "train_signals.csv: expected channels of one length, found columns of 40, 39" in refused()
    )


@pytest.mark.parametrize("index", ["none", "ids", "lines"])
def test_a_table_that_pandas_wrote_with_numbers_above_is_read_as_its_values(index: str) -> None:
    of_train, of_test = write(paths.RAW, "tables")
    for name in ("train", "test"):
        path = paths.RAW / f"{name}_signals.csv"
        table = pd.read_csv(path, dtype=str)
        table = table.rename(columns={f"x{place}": str(place) for place in range(LENGTH)})
        if index == "ids":
            table = table.set_index("id")
            table.index.name = None
        table.to_csv(path, index=index != "none")
    run(signals_config(), "accuracy")
    assert np.array_equal(np.load(paths.TRAIN_IMAGES), of_train)
    assert np.array_equal(np.load(paths.TEST_IMAGES), of_test)


@pytest.mark.parametrize("start", [None, 0, 100], ids=["no index", "index", "index from 100"])
@pytest.mark.parametrize("names", ["numbers", "words"])
@pytest.mark.parametrize("shape", [(LENGTH, 3), (LENGTH, 1), (1, LENGTH)])
def test_a_signals_file_that_pandas_wrote_is_read_as_its_values(
    shape: tuple[int, int], names: str, start: int | None
) -> None:
    """Neither the line above nor the column of the index is a sample or a channel."""
    if shape[1] == 1 and names == "numbers" and start is None:
        pytest.skip("0 and then the samples: 0 is taken for the first of them")
    values = np.random.default_rng(1).normal(size=shape)
    table = pd.DataFrame(values)
    if names == "words":
        table.columns = [f"lead {place}" for place in range(shape[1])]
    if start is not None:
        table.index = table.index + start
    found = read_signal(table.to_csv(index=start is not None).encode()).pixels
    assert np.array_equal(found, (values.T if shape[0] == 1 else values).astype(np.float32))


def test_a_first_column_that_has_a_name_is_a_channel() -> None:
    found = read_signal(b"time,lead\n0,0.5\n1,0.25\n2,0.125\n").pixels
    assert found.tolist() == [[0, 0.5], [1, 0.25], [2, 0.125]]


def test_rows_of_a_table_that_nothing_asks_for_stop_or_are_left_out() -> None:
    write(paths.RAW, "tables")
    path = paths.RAW / "train_signals.csv"
    more = as_table(["z"], np.ones((1, LENGTH, 1), np.float32)).to_csv(index=False, header=False)
    path.write_text(path.read_text() + more)
    assert (
        "only signals of the ids in the tables, found 1 of 73 signals otherwise (first: z of"
        in (refused())
    )
    run(signals_config(unlabelled="leave_out"), "accuracy")
    assert len(np.load(paths.TRAIN_IMAGES)) == ROWS


def write_tables(**names: float) -> None:
    """Tables of eight signals each, all with the ids 0 to 7 and one value for all samples."""
    raw = paths.RAW
    raw.mkdir(parents=True)
    ids = [str(number) for number in range(8)]
    for name, value in names.items():
        samples = {f"s{number}": [value] * 8 for number in range(16)}
        pd.DataFrame({"id": ids} | samples).to_csv(raw / f"{name}.csv", index=False)
    labels = pd.DataFrame({"id": ids, "state": ["a", "b"] * 4})
    labels.to_csv(raw / "train_labels.csv", index=False)
    labels.assign(state="a").to_csv(raw / "sample_submission.csv", index=False)


def test_tables_with_the_same_ids_are_of_the_side_that_their_names_say() -> None:
    write_tables(X_test=2.5, X_train=1.5)
    run(signals_config(groups={"source": "none"}), "accuracy")
    assert (np.load(paths.TRAIN_IMAGES) == 1.5).all()
    assert (np.load(paths.TEST_IMAGES) == 2.5).all()


def test_no_table_is_guessed_and_no_signal_is_in_train_and_in_test() -> None:
    write_tables(filtered=1.5, raw=2.5)
    assert "found 2: filtered.csv, raw.csv" in refused(groups={"source": "none"})
    (paths.RAW / "filtered.csv").unlink()
    assert "each signal in train or in test" in refused(groups={"source": "none"})


def test_a_parameter_names_the_table_among_several() -> None:
    signals, _ = write(paths.RAW, "tables")
    other = as_table(list(draw()[0]["id"]), -signals)
    other.to_csv(paths.RAW / "filtered.csv", index=False, float_format="%.9g")
    run(signals_config(train_signals="filtered.csv"), "accuracy")
    assert np.array_equal(np.load(paths.TRAIN_IMAGES), -signals)


def test_signals_taken_for_images_are_refused_with_the_parameter_to_set() -> None:
    table, signals, _ = draw()
    write(paths.RAW, "tables")
    wide = np.concatenate([signals, signals], axis=1)
    as_table(list(table["id"]), wide).to_csv(paths.RAW / "train_signals.csv", index=False)
    with pytest.raises(CompetitionError, match=r"prepare\.kind: signals"):
        run(prepare_config(groups={"source": "none"}), "accuracy")


def test_text_in_a_column_of_samples_is_refused_by_its_line() -> None:
    write(paths.RAW, "tables")
    path = paths.RAW / "test_signals.csv"
    path.write_text(path.read_text().replace("\nb003,", "\nb003,x", 1))
    with pytest.raises(TableError, match=r"test_signals\.csv: not a CSV file"):
        run(signals_config(), "accuracy")


def test_new_begins_and_the_stages_solve_a_competition_of_signals(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From the folder alone to a submission, its page and the predictions of new signals."""
    write(Path("competitions/pulses"), "tables")
    with patch.object(new, "reproduce", reproduce):
        new.new("competitions/pulses", "tiny", None)
    begun = read_config(paths.PARAMS)
    assert begun.prepare == signals_config()
    assert paths.PARAMS.with_name("reports").joinpath("sheet.png").is_file()
    model = begun.train.models["convnet1d"].model_dump() | {"epochs": 6, "batch_size": 16}
    change(train={"folds": [0, 1], "models": {"convnet1d": model}}, split={"folds": 2})
    config = read_config(paths.PARAMS)
    split.run(config.split)
    capsys.readouterr()
    for fold in config.train.folds:
        train.run(config.train, "convnet1d", fold)
    said = capsys.readouterr().err
    assert "convnet1d fold 0: 24 signals on cpu" in said
    assert "image" not in said
    ensemble.run(config.ensemble, config.train.members, config.train.folds)
    check.run(config.ensemble.name, config.ensemble.metric)
    explain.run("convnet1d", 0)
    report.run(config.ensemble.name)
    made = read_csv(paths.submission("tiny"))
    kinds = np.arange(ROWS + TESTS) // CHUNKS % len(CLASSES)
    assert (made["state"] == [CLASSES[kind] for kind in kinds[ROWS:]]).mean() > 0.9
    assert "signals" in paths.REPORT.read_text()
    asked = made["id"][3]
    page = command.run("convnet1d", 1, [asked], None, False)
    assert asked in page.read_text()
    facts, stored = read_facts("tiny"), look.read_stored("train")
    assert look.summarise(facts)["value"]["size of the originals"] == "40 samples of 1 channel"
    assert "The 16 windows" in str(getattr(look.show_seen(facts, "convnet1d"), "html", ""))
    flipped = config.train.models["convnet1d"].model_copy(
        update={"augment": [{"op": "SignFlip", "p": 1.0}]}
    )
    drawn = look.show_augmented(flipped, "batched", stored, images=2, times=2)
    before, after, _, *others = re.findall(r'points="([^"]+)"', getattr(drawn, "svg", ""))
    assert len(others) == 3
    up, down = (
        [float(point.split(",")[1]) for point in curve.split()] for curve in (before, after)
    )
    assert [one + other for one, other in zip(up, down, strict=True)] == pytest.approx([96] * 40)
    np.save("new.npy", draw()[2])
    for source in ("competitions/pulses/test_signals.csv", "new.npy"):
        predict.run(config, Path(source), Path("new.csv"))
        assert list(read_csv(Path("new.csv"))["state"]) == list(made["state"])


@needs(COMPETITIONS / "seizure/train_signals.csv")
@pytest.mark.slow
def test_the_seizure_competition_is_stored_whole() -> None:
    paths.RAW.parent.mkdir(parents=True)
    paths.RAW.symlink_to(COMPETITIONS / "seizure")
    run(signals_config(), "accuracy")
    lines = (paths.RAW / "train_signals.csv").read_text().splitlines()
    stored = np.load(paths.TRAIN_IMAGES)
    assert stored.shape == (len(lines) - 1, 178, 1)
    of_file = {line.partition(",")[0]: line.split(",")[1:] for line in lines[1:]}
    for place, row_id in enumerate(table_of("train")["image_id"]):
        assert np.array_equal(stored[place, :, 0], np.array(of_file[row_id], np.float32))
    assert json.loads(paths.DECODING.read_text())["rows"]["kind"] == "signals"
