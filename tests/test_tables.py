"""Tables between stages: joined by id, every id checked, text never guessed at."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tasks import one_of

from pipeline.core.errors import TableError
from pipeline.core.tables import (
    FOLD_COLUMNS,
    IMAGE_COLUMNS,
    MOST_IN_CSV,
    check_ids,
    first_repeated,
    predictions_file,
    read_csv,
    read_ids,
    read_predictions,
    read_table,
    write_predictions,
    write_table,
)

IDS = ["a", "b", "c"]
CLASSES = ["no", "yes"]
VALUES = np.array([[0.25, 0.75], [1.0, 0.0], [1 / 3, 2 / 3]])


def test_predictions_come_back_by_id_whatever_the_order(tmp_path: Path) -> None:
    path = tmp_path / "oof.csv"
    write_predictions(path, IDS, VALUES, one_of(CLASSES))
    back = read_predictions(path, ["c", "a", "b"], one_of(CLASSES))
    np.testing.assert_allclose(back, VALUES[[2, 0, 1]], rtol=1e-8)


def test_many_outputs_are_no_csv_and_come_back_by_id_as_float32(tmp_path: Path) -> None:
    task = one_of(MOST_IN_CSV + 1)
    assert predictions_file(tmp_path / "oof.csv", one_of(MOST_IN_CSV)).name == "oof.csv"
    path = predictions_file(tmp_path / "oof.csv", task)
    assert path.name == "oof.safetensors"
    values = np.random.default_rng(1).dirichlet(np.ones(MOST_IN_CSV + 1), 3)
    write_predictions(path, IDS, values, task)
    written = path.read_bytes()
    assert read_ids(path) == IDS
    back = read_predictions(path, ["c", "a", "b"], task)
    np.testing.assert_array_equal(back, values[[2, 0, 1]].astype(np.float32))
    write_predictions(path, IDS, values, task)
    assert path.read_bytes() == written
    for ids, of, message in [
        (["a", "b"], task, "1 ids are not expected here (first: c)"),
        (
            IDS,
            one_of(MOST_IN_CSV + 2),
            "expected the columns ['p_0', 'p_1', 'p_2', … 202 in all], found",
        ),
    ]:
        with pytest.raises(TableError) as caught:
            read_predictions(path, ids, of)
        assert message in str(caught.value)
    path.write_bytes(written[:-7])
    with pytest.raises(TableError, match="expected a table of predictions, found a damaged file"):
        read_predictions(path, IDS, task)
    path.unlink()
    with pytest.raises(TableError, match="expected a table of predictions, found no such file"):
        read_predictions(path, IDS, task)


def test_ids_and_labels_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes("\ufeffid,label\n007,NA\n1e3,\n".encode())
    table = read_csv(path)
    assert table.to_dict("list") == {"id": ["007", "1e3"], "label": ["NA", ""]}


def test_writing_gives_the_same_bytes_and_leaves_nothing_beside(tmp_path: Path) -> None:
    table = pd.DataFrame({"image_id": IDS, "value": [1, 2, 3]})
    write_table(tmp_path / "one.csv", table)
    assert (tmp_path / "one.csv").read_bytes() == b"image_id,value\na,1\nb,2\nc,3\n"
    assert [path.name for path in tmp_path.iterdir()] == ["one.csv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_id,p_no\na,1\n", "expected the columns ['image_id', 'p_no', 'p_yes'], found"),
        ("image_id,p_no,p_yes\n", "expected rows, found none"),
        ("image_id,p_no,p_yes\na,0,1\nb,0,1\n", "1 of 3 ids are missing (first: c)"),
        ("image_id,p_no,p_yes\na,0,1\nb,0,1\nc,0,1\nd,0,1\n", "1 ids are not expected here (first: d)"),
        ("image_id,p_no,p_yes\na,0,1\na,0,1\nb,0,1\nc,0,1\n", "1 ids stand twice (first: a)"),
        ("image_id,p_no,p_yes\na,0,1\nb,0.4,0.4\nc,0,1\n", "expected probabilities in [0, 1] that add up to 1 in each row, found 1 of 3 rows with others (first: b with [0.4, 0.4])"),
        ("image_id,p_no,p_yes\na,0,1\nb,-1,2\nc,0,1\n", "(first: b with [-1.0, 2.0])"),
        ("image_id,p_no,p_yes\na,0,1\nb,nan,1\nc,0,1\n", "(first: b with [nan, 1.0])"),
        ("image_id,p_no,p_yes\na,0,1\nb,x,1\nc,0,1\n", "expected numbers as predictions"),
        ("image_id,p_no,p_yes\na,0,1,1,1\n", "not a CSV file"),
        ("", "not a CSV file: line 1: expected 1 to 100,000 columns, found 0"),
    ],
)  # fmt: skip
def test_a_bad_table_of_predictions_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "oof.csv"
    path.write_text(text)
    with pytest.raises(TableError) as caught:
        read_predictions(path, IDS, one_of(CLASSES))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_table_names_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such file. Run: dvc repro"):
        read_table(tmp_path / "oof.csv", ["image_id"])


def test_repeated_ids_are_named_once_each() -> None:
    assert first_repeated(["a", "b", "a", "c", "b", "a"]) == ["a", "b"]
    check_ids("here", ["b", "a"], ["a", "b"])


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"id,label\na,0\nb,\x001\n", "line 3: a NUL character"),
        ("id,label\na,größer\n".encode("latin-1"), "line 2: not UTF-8 (invalid start byte)"),
        (b"id,label\na,0\nb," + b"x" * 17_000_000 + b"\n", "line 3: field larger than field limit (16777216)"),
        (b'id,label\na,0\nb,"1\nc,0\nd,1\n', "line 3: unexpected end of data"),
        (b'id,label\na,"0\nb,1"\nc,0\n', "line 2: a line break inside quotes: is a quote not closed?"),
        (b'id,label\na,0\nb,"1"x\n', "line 3: ',' expected after"),
        (b"id,label,id\na,0,b\n", "line 1: expected each column name once, found 'id' twice"),
        (b"id,label\na,0\nb\n", "line 3: expected 2 fields, found 1"),
        (b"id,label\n\na,0\nb,0,1\n", "line 4: expected 2 fields, found 3"),
        (b"id" + b",label" * 100_000 + b"\n", "line 1: expected 1 to 100,000 columns, found 100,001"),
        (b"id," + b"x" * 17_000_000, "line 1: field larger than field limit (16777216)"),
        (b"\xef\xbb\xbf", "line 1: expected 1 to 100,000 columns, found 0"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)  # fmt: skip
def test_no_row_is_guessed_or_dropped(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(TableError) as caught:
        read_csv(path)
    assert str(caught.value).startswith(f"{path}: not a CSV file: {fault}")
    assert "\n" not in str(caught.value)


def test_what_spreadsheets_write_is_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(b'\xef\xbb\xbf,id,"a ""class"""\r\n0,007,"one, two"\r\n\r\n1,b, x \r\n\r\n')
    assert read_csv(path).to_dict("list") == {
        "Unnamed: 0": ["0", "1"], "id": ["007", "b"], 'a "class"': ["one, two", " x "],
    }  # fmt: skip


def test_a_number_of_5000_digits_is_text(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"id,label\na,{'9' * 5000}\n")
    assert read_csv(path)["label"].tolist() == ["9" * 5000]


@pytest.mark.parametrize(
    ("columns", "rows", "fault"),
    [
        (FOLD_COLUMNS, ["a,0,g,0,1", "a,0,g,1,3", "b,0,g,x,1"], "expected whole numbers in repeat, found 'x'"),
        (FOLD_COLUMNS, ["a,0,g,0,-1"], "expected whole numbers in fold, found '-1'"),
        (FOLD_COLUMNS, ["a,0,g,0,1", "a,0,g,1,3", "a,0,g,0,2"], "1 ids stand twice (first: a)"),
        (IMAGE_COLUMNS, [f"a,a,0,g,a,f,{'9' * 5000},9,L,s,p"], "expected whole numbers in width, found '999"),
        (IMAGE_COLUMNS, ["a,a,0,g,a,f,9,9,L,s,p", "a,a,0,g,a,f,9,9,L,s,p"], "1 ids stand twice (first: a)"),
    ],
)  # fmt: skip
def test_a_damaged_table_of_images_or_folds_is_one_sentence(
    tmp_path: Path, columns: list[str], rows: list[str], fault: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_text("\n".join([",".join(columns), *rows]) + "\n")
    with pytest.raises(TableError) as caught:
        read_table(path, columns)
    assert str(caught.value).startswith(f"{path}: {fault}")
    assert len(str(caught.value)) < 500
