"""Tables between stages: joined by id, every id checked, text never guessed at."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tasks import one_of

from pipeline.core.errors import TableError
from pipeline.core.tables import (
    check_ids,
    first_repeated,
    read_csv,
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
        ("", "not a CSV file"),
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
