"""What stands in a competition's files is found by its kind, or asked for; never guessed silently."""

import json
from pathlib import Path
from typing import Any

import pytest
from drawing import Drawn
from layouts import CLASSES, OTHERS
from project import prepare_config

from pipeline.core.errors import CompetitionError, TableError
from pipeline.core.task import AnyOf, Number, OneOf
from pipeline.prepare.layout import Layout, Split, understand
from pipeline.prepare.matching import FileNames
from pipeline.scoring.metrics import METRICS

SAMPLE = "sample_submission.csv"
NO_GROUPS = {"source": "none"}


def write(raw: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).write_text(text)
    return raw


def images(*paths: str) -> dict[str, str]:
    return {path: f"image {path}" for path in paths}


def layout_of(raw: Path, metric: str = "accuracy", **changes: Any) -> Layout:
    config = prepare_config(**{"groups": NO_GROUPS} | changes)
    with understand(raw, config, METRICS[metric]) as layout:
        return layout


def error_of(raw: Path, **changes: Any) -> str:
    with pytest.raises(CompetitionError) as caught:
        layout_of(raw, **changes)
    return str(caught.value)


def files_of(split: Split) -> list[str]:
    return [picture.file if picture else "" for picture in split.pictures]


LABELS = "id,label\na,1\nb,0\nc,1\nd,0\n"
PLAIN = images(*(f"train/{name}.png" for name in "abcd"), "test/x.png", "test/y.png")
TABLES = {SAMPLE: "id,label\nx,0\ny,0\n", "train.csv": LABELS}


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (LABELS.replace(",", ";"), "utf-8"),
        (LABELS.replace(",", "\t"), "utf-8"),
        (LABELS.replace("\n", "\r\n"), "utf-8"),
        ("id,note,label\na,größer,1\nb,,0\nc,,1\nd,,0\n", "latin-1"),
        ('id,note,label\na,"two\nlines",1\nb,,0\nc,,1\nd,,0\n', "utf-8"),
        (LABELS, "utf-16"),
    ],
    ids=["semicolons", "tabs", "CRLF", "latin-1", "line breaks in quotes", "UTF-16"],
)
def test_a_table_may_be_written_otherwise(tmp_path: Path, text: str, encoding: str) -> None:
    raw = write(tmp_path, TABLES | PLAIN)
    (raw / "train.csv").write_bytes(text.encode(encoding))
    layout = layout_of(raw, encoding="latin-1" if encoding == "latin-1" else "utf-8")
    assert layout.train.image_ids == list("abcd")
    assert layout.train.labels == ["1", "0", "1", "0"]


def test_another_encoding_must_be_said(tmp_path: Path) -> None:
    raw = write(tmp_path, TABLES | PLAIN)
    (raw / "train.csv").write_bytes("id,label\na,größer\nb,0\nc,1\nd,0\n".encode("latin-1"))
    with pytest.raises(TableError, match=r"train\.csv: not a CSV file: line 2: not UTF-8"):
        layout_of(raw)


COCO = {
    "images": [{"id": 1, "file_name": "train/a.png"}, {"id": 2, "file_name": "train/b.png"}],
    "annotations": [
        {"id": 7, "image_id": 1, "category_id": 30},
        {"id": 8, "image_id": 2, "category_id": 4},
    ],
    "categories": [{"id": 4, "name": "fox"}, {"id": 30, "name": "owl"}],
}


@pytest.mark.parametrize(
    ("content", "shown", "labels", "classes"),
    [
        (COCO, "4", ["30", "4"], ["4", "30"]),
        (COCO, "owl", ["owl", "fox"], ["fox", "owl"]),
        ([{"id": "1", "label": "u"}, {"id": "2", "label": "v"}], "u", ["u", "v"], ["u", "v"]),
        ({"id": {"0": 1, "1": 2}, "label": {"0": "u", "1": "v"}}, "u", ["u", "v"], ["u", "v"]),
    ],
    ids=["categories by number", "categories by name", "records", "columns"],
)
def test_labels_come_from_json(
    tmp_path: Path, content: object, shown: str, labels: list[str], classes: list[str]
) -> None:
    raw = write(tmp_path, {SAMPLE: f"id,label\n8,{shown}\n9,{shown}\n"})
    write(raw, {"train.json": json.dumps(content)})
    names = ("a", "b") if content is COCO else ("1", "2")
    write(raw, images(*(f"train/{name}.png" for name in names), "test/8.png", "test/9.png"))
    layout = layout_of(raw)
    assert layout.train.labels == labels
    assert layout.competition.task.outputs == classes
    assert files_of(layout.train) == [f"train/{name}.png" for name in names]


def test_pairs_in_json_are_labels_only_where_they_are_named(tmp_path: Path) -> None:
    raw = write(
        tmp_path, TABLES | PLAIN | {"names.json": '{"a": "u", "b": "v", "c": "u", "d": "v"}'}
    )
    assert layout_of(raw).train.labels == ["1", "0", "1", "0"]
    assert layout_of(raw, labels="names.json").train.labels == ["u", "v", "u", "v"]


def test_an_image_of_several_categories_has_several_labels(tmp_path: Path) -> None:
    notes = [*COCO["annotations"], {"id": 9, "image_id": 1, "category_id": 4}]
    raw = write(tmp_path, {SAMPLE: "id,label\n8,4\n9,4\n"})
    write(raw, {"train.json": json.dumps(COCO | {"annotations": notes})})
    write(raw, images("train/a.png", "train/b.png", "test/8.png", "test/9.png"))
    layout = layout_of(raw, task="any_of")
    assert layout.competition.task == AnyOf(classes=["4", "30"], separator="|", at_least_one=True)
    assert layout.train.labels == ["30|4", "4"]


BY_FOLDER = images(
    *(f"seg_train/x/{name}/{n}.jpg" for name in ("owl", "fox") for n in range(2)),
    *(f"seg_test/x/{name}/{n}.jpg" for name in ("owl", "fox") for n in range(2)),
    "seg_pred/0.jpg", "seg_pred/1.jpg",
)  # fmt: skip


def test_labels_are_folders_and_without_a_sample_the_other_images_are_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = layout_of(write(tmp_path, BY_FOLDER), sample_submission="none")
    assert layout.train.image_ids == ["fox/0", "fox/1", "owl/0", "owl/1"]
    assert layout.train.labels == ["fox", "fox", "owl", "owl"]
    assert files_of(layout.test) == ["seg_pred/0.jpg", "seg_pred/1.jpg"]
    assert layout.sample.columns == ["id", "label"]
    assert layout.sample.ids == ["0", "1"]
    said = capsys.readouterr().err
    assert "labels: the folder of each training image (2 classes; fox: 2, owl: 2)" in said
    assert "not used: 4 images in other folders" in said


def test_no_sample_is_asked_for_and_not_guessed(tmp_path: Path) -> None:
    assert "(where the competition has none: none)" in error_of(write(tmp_path, BY_FOLDER))


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ("auto", ["cat", "cat", "dog", "dog"]),
        ({"source": "name", "pattern": r"/([cd])[a-z]+\."}, ["c", "c", "d", "d"]),
    ],
)
def test_labels_are_parts_of_names(tmp_path: Path, labels: Any, found: list[str]) -> None:
    raw = write(tmp_path, {SAMPLE: "id,label\n1,0.5\n2,0.5\n"})
    write(raw, images("train/cat.0.jpg", "train/cat.1.jpg", "train/dog.0.jpg", "train/dog.1.jpg"))
    layout = layout_of(write(raw, images("test/1.jpg", "test/2.jpg")), labels=labels)
    assert layout.train.labels == found
    assert not layout.competition.task.ordered  # which of the two is 1 is asked for


def test_a_table_is_preferred_to_folders(tmp_path: Path) -> None:
    raw = write(tmp_path, {SAMPLE: "id,label\nx,u\ny,u\n", "train.csv": "id,label\na,u\nb,v\n"})
    raw = write(raw, images("train/v/a.png", "train/u/b.png", "test/x.png", "test/y.png"))
    assert layout_of(raw).train.labels == ["u", "v"]
    raw = write(raw, images("train/v/c.png", "train/u/d.png"))
    (raw / "train.csv").unlink()
    assert layout_of(raw).train.labels == ["u", "u", "v", "v"]


def test_files_are_found_in_other_spellings_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["Ü", "7", "9.JPG", "z.png"]  # the first is composed here, decomposed on the disk
    raw = write(tmp_path, {SAMPLE: "id,label\nx,0\n"})
    rows = "".join(f"{name},{n % 2}\n" for n, name in enumerate(names))
    (raw / "train.csv").write_text(f"id,label\n{rows}")
    files = ["train/U\u0308.png", "train/007.png", "train/9.jpg", "train/z.png"]
    layout = layout_of(write(raw, images(*files, "test/x.png")))
    assert files_of(layout.train) == files
    assert "3 images are spelled otherwise (first: Ü is train/U" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "ids", "fault"),
    [
        (["t/a.png", "other/a.png"], ["a"], "one image for the id a, found 2: t/a.png and other/a.png. Set prepare.train_images"),
        (["t/a.png", "t/a.jpg"], ["a"], "one image for the id a, found 2: t/a.png and t/a.jpg. Set prepare.train_images"),
        (["t/a.png"], ["a", "a.png"], "one id for the image t/a.png, found two: a and a.png. Write all ids with the suffix, or all without"),
    ],
)  # fmt: skip
def test_an_ambiguous_id_or_image_names_both(files: list[str], ids: list[str], fault: str) -> None:
    with pytest.raises(CompetitionError) as caught:
        FileNames(files, "raw", "prepare.train_images").match(ids)
    assert str(caught.value).startswith(f"raw: expected {fault}")


def test_a_spelling_that_fits_two_files_fits_none(tmp_path: Path) -> None:
    raw = write(tmp_path, {SAMPLE: "id,label\nx,0\n", "train.csv": "id,label\n7,1\nb,0\nc,1\n"})
    write(raw, images("train/007.png", "train/07.png", "train/b.png", "train/c.png", "test/x.png"))
    layout = layout_of(raw, unlabelled="leave_out")
    assert layout.train.missing == ["7"]


def test_the_same_id_in_train_and_test_is_two_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write(tmp_path, {SAMPLE: "id,label\n1,0\n3,0\n", "train.csv": "id,label\n1,1\n2,0\n"})
    write(raw, images("train/1.png", "train/2.png", "test/1.png", "test/3.png"))
    layout = layout_of(raw)
    assert (layout.train.image_ids, layout.train.row_ids) == (["train/1", "2"], ["1", "2"])
    assert (layout.test.image_ids, layout.test.row_ids) == (["1", "3"], ["1", "3"])
    assert files_of(layout.train) == ["train/1.png", "train/2.png"]
    assert files_of(layout.test) == ["test/1.png", "test/3.png"]
    assert "1 id is in train and in test, of different images" in capsys.readouterr().err


def test_a_test_id_never_takes_a_training_image(tmp_path: Path) -> None:
    raw = write(tmp_path, {SAMPLE: "id,label\n1,0\n2,0\n", "train.csv": "id,label\n1,1\n2,0\n"})
    write(raw, images("train/1.png", "train/2.png", "test/readme.txt"))
    assert "expected images" in error_of(raw)


VIEWS = """image_id,patient,side,label
5,p1,L,1
6,p1,L,1
7,p2,R,0
8,p2,R,0
"""


def test_several_images_belong_to_a_row(tmp_path: Path) -> None:
    raw = write(tmp_path, {"train.csv": VIEWS, SAMPLE: "pid,label\np9-L,0\np8-R,0\n"})
    write(raw, {"test.csv": "image_id,patient,side,pid\n1,p8,R,p8-R\n2,p9,L,p9-L\n3,p9,L,p9-L\n"})
    write(raw, images(*(f"train/{path}.png" for path in ("p1/5", "p1/6", "p2/7", "p2/8"))))
    write(raw, images(*(f"test/{path}.png" for path in ("p9/2", "p9/3", "p8/1"))))
    layout = layout_of(raw, id_column="{patient}-{side}", image_column="{patient}/{image_id}")
    assert layout.train.image_ids == ["p1-L/5", "p1-L/6", "p2-R/7", "p2-R/8"]
    assert layout.train.row_ids == layout.train.groups == ["p1-L", "p1-L", "p2-R", "p2-R"]
    assert layout.test.row_ids == ["p9-L", "p9-L", "p8-R"]
    assert files_of(layout.test) == ["test/p9/2.png", "test/p9/3.png", "test/p8/1.png"]
    by_name = layout_of(raw)  # the test table alone says which images are one row
    assert by_name.train.row_ids == ["5", "6", "7", "8"]
    assert by_name.test.row_ids == ["p9-L", "p9-L", "p8-R"]
    assert by_name.possible_groups == {}
    (raw / "train.csv").write_text(VIEWS.replace("6,p1,L,1", "6,p1,L,0"))
    found = error_of(raw, id_column="{patient}-{side}", image_column="image_id")
    assert "expected each id once, found 1 of 4 rows otherwise (first: p1-L is 1 and 0)" in found


def test_a_folder_of_images_is_a_row(tmp_path: Path) -> None:
    raw = write(tmp_path, {SAMPLE: "id,label\n03,0\n", "train.csv": "id,label\n01,1\n02,0\n"})
    paths = ("train/01/T1/1.png", "train/01/T2/1.png", "train/02/T1/1.png", "test/03/T1/1.png")
    layout = layout_of(write(raw, images(*paths)))
    assert layout.train.image_ids == ["01/T1/1", "01/T2/1", "02"]
    assert layout.train.labels == ["1", "1", "0"]


@pytest.mark.parametrize(
    ("changes", "used"),
    [
        ({}, ["red", "green", "blue"]),
        ({"image_column": "{id}_{channel}.png", "channels": ["yellow", "red"]}, ["yellow", "red"]),
    ],
)
def test_channels_in_files_of_their_own_are_one_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], used: list[str]
) -> None:
    raw = write(tmp_path, {SAMPLE: "id,label\nx,0\n", "train.csv": "id,label\na,1\nb,0\n"})
    for name, folder in (("a", "train"), ("b", "train"), ("x", "test")):
        write(
            raw, images(*(f"{folder}/{name}_{c}.png" for c in ("blue", "green", "red", "yellow")))
        )
    layout = layout_of(raw, **changes)
    assert layout.train.image_ids == ["a", "b"]
    picture = layout.train.pictures[0]
    assert picture is not None
    assert picture.files == tuple(f"train/a_{channel}.png" for channel in used)
    assert ("not used: yellow" in capsys.readouterr().err) == (not changes)


def pixels(rows: int, first: int = 0) -> list[str]:
    return [" ".join(str((row + n) % 256) for n in range(64)) for row in range(first, first + rows)]


@pytest.mark.parametrize("form", ["columns", "one column", "JSON"])
def test_pixels_in_a_table_are_images(tmp_path: Path, form: str) -> None:
    train, test = pixels(3), pixels(2, first=9)
    labels = ["1", "0", "1"]
    raw = write(tmp_path, {SAMPLE: "ImageId,Label\n1,0\n2,0\n"})
    if form == "columns":
        names = ",".join(f"pixel{n}" for n in range(64))
        rows = [
            f"{label},{text.replace(' ', ',')}" for label, text in zip(labels, train, strict=True)
        ]
        write(raw, {"train.csv": "\n".join([f"label,{names}", *rows]) + "\n"})
        write(raw, {"test.csv": "\n".join([names, *(t.replace(" ", ",") for t in test)]) + "\n"})
    elif form == "one column":
        rows = [f"{label},{text}" for label, text in zip(labels, train, strict=True)]
        write(raw, {"train.csv": "\n".join(["label,pixels", *rows]) + "\n"})
        write(raw, {"test.csv": "\n".join(["pixels", *test]) + "\n"})
    else:
        for name, texts in (("train", train), ("test", test)):
            records = [
                {"ImageId": str(n + 1 + 5 * (name == "train")), "band": [int(v) for v in t.split()]}
                | ({"Label": labels[n]} if name == "train" else {})
                for n, t in enumerate(texts)
            ]
            write(raw, {f"{name}.json": json.dumps(records)})
    layout = layout_of(raw)
    assert layout.train.labels == labels
    assert layout.test.row_ids == ["1", "2"]
    for split, texts in ((layout.train, train), (layout.test, test)):
        arrays = [picture.array for picture in split.pictures]  # type: ignore[union-attr]
        assert [" ".join(map(str, array.ravel())) for array in arrays] == texts
        assert {array.shape for array in arrays} == {(8, 8)}
        assert {str(array.dtype) for array in arrays} == {"uint8"}


def test_a_sample_of_one_column_means_the_rows_in_order(tmp_path: Path) -> None:
    rows = "\n".join(f"{n % 2},{text}" for n, text in enumerate(pixels(4)))
    raw = write(tmp_path, {"train.csv": f"emotion,pixels\n{rows}\n"})
    write(raw, {"test.csv": "\n".join(["pixels", *pixels(2)]) + "\n"})
    layout = layout_of(write(raw, {"example_submission.csv": "emotion\n0\n0\n"}))
    assert layout.competition.id_column is None
    assert layout.test.row_ids == ["1", "2"]


def test_ragged_pixels_are_an_error_with_their_row(tmp_path: Path) -> None:
    first, second, third = pixels(3)
    raw = write(tmp_path, TABLES)
    write(raw, {"train.csv": f"label,pixels\n1,{first}\n0,{second} 7\n1,{third}\n"})
    with pytest.raises(
        TableError, match="expected 64 numbers in each row of pixels, found 65 in row 2"
    ):
        layout_of(raw)


GROUPED = "id,PatientID,site_name,age,label\n" + "".join(
    f"{name},p{n // 2},s{n},5{n},{n % 2}\n" for n, name in enumerate("abcd")
)


def test_columns_that_look_like_groups_are_named_and_can_be_used(tmp_path: Path) -> None:
    others = [f"{n % 2},{n % 4}.5,{'abc '[n % 4].strip()}" for n in range(8)]
    rows = "".join(f"{n},p{n // 2},s{n % 3},{n},{others[n]},{n % 2}\n" for n in range(8))
    columns = "id,PatientID,site_name,age,Group,site_mm,case_note,label"
    raw = write(tmp_path, TABLES | {"train.csv": f"{columns}\n{rows}"})
    write(raw, images(*(f"train/{n}.png" for n in range(8)), "test/x.png", "test/y.png"))
    layout = layout_of(raw)
    assert layout.possible_groups == {"PatientID": 4, "site_name": 3}
    layout = layout_of(raw, groups={"source": "column", "column": "PatientID"})
    assert layout.train.groups == ["p0", "p0", "p1", "p1", "p2", "p2", "p3", "p3"]
    assert layout.possible_groups == {"site_name": 3}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("human-protein-atlas-image-classification", ["with ' ' between them (prepare.task: one_of", "96 images, all that begin with its name, in train.zip"]),
        ("rsna-breast-cancer-detection", ["the id is the column image_id", "test.csv: the images are named by the column image_id"]),
        ("digit-recognizer", ["the label is the column label", "no column names the rows", "test: 32 images of 28 x 28 pixels"]),
        ("siim-isic-melanoma-classification", ["not used: 1 table (first: test.csv)", "not used: 128 images in other folders: test (32), train (96)"]),
    ],
)  # fmt: skip
def test_each_decision_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, expected: list[str]
) -> None:
    raw = Drawn(OTHERS.get(name) or CLASSES[name]).write(tmp_path / "raw")
    tables = layout_of(raw).roles
    said = capsys.readouterr().err
    assert [text for text in expected if said.count(text) != 1] == []
    lines = said.splitlines()
    assert len(set(lines)) == len(lines)
    assert [table for table in tables if said.count(f"{table}: {tables[table]}") != 1] == []


def test_rows_that_all_lack_a_label_are_an_error(tmp_path: Path) -> None:
    raw = write(tmp_path, TABLES | PLAIN | {"train.csv": "id,label\na,\nb,\nc,\nd,\n"})
    for task in ("number", "one_of"):
        found = error_of(raw, unlabelled="leave_out", task=task)
        assert "expected rows with a label in label, found none in 4 rows" in found


def test_without_a_sample_the_images_that_no_row_names_are_predicted(tmp_path: Path) -> None:
    raw = write(tmp_path, {"train.csv": LABELS} | images(*(f"all/{name}.png" for name in "abcdxy")))
    layout = layout_of(raw, sample_submission="none")
    assert (layout.train.image_ids, layout.test.image_ids) == (list("abcd"), ["x", "y"])


def test_classes_of_several_words_that_have_columns_are_no_lists(tmp_path: Path) -> None:
    classes = ["red fox", "red owl", "grey fox", "grey owl", "fox", "owl"]
    rows = "".join(f"{n},{name}\n" for n, name in enumerate(classes))
    raw = write(tmp_path, {"train.csv": f"id,kind\n{rows}"})
    write(raw, {SAMPLE: f"id,{','.join(classes)}\nx,0,0,0,0,0,0\n", "test/x.png": "x"})
    write(raw, images(*(f"train/{n}.png" for n in range(6))))
    assert layout_of(raw).competition.task == OneOf(classes=sorted(classes))


def test_a_column_without_a_name_is_no_obstacle(tmp_path: Path) -> None:
    raw = write(tmp_path, TABLES | PLAIN)
    (raw / "train.csv").write_text(",id,kind\n0,a,x\n1,b,y\n2,c,x\n3,d,y\n")
    (raw / SAMPLE).write_text("id,x,y\nx,0,0\ny,0,0\n")
    assert layout_of(raw).train.labels == ["x", "y", "x", "y"]


def test_a_groups_file_of_few_groups_is_no_guess(tmp_path: Path) -> None:
    raw = write(tmp_path, TABLES | PLAIN | {"more.csv": "id,sex\na,m\nb,f\nc,m\nd,f\n"})
    found = error_of(raw, groups={"source": "file", "file": "auto"})
    assert "it might hold the groups, but sex has 2 different values, and a guess needs 10" in found
    named = layout_of(raw, groups={"source": "file", "file": "more.csv"})
    assert named.train.groups == ["m", "f", "m", "f"]


def test_rows_without_a_label_and_images_without_a_row_stop_or_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write(tmp_path, TABLES | PLAIN | images("train/e.png"))
    assert "(first: train/e.png). Add their rows" in error_of(raw)
    assert "or leave them out: prepare.unlabelled: leave_out" in error_of(raw)
    assert layout_of(raw, unlabelled="leave_out").train.image_ids == list("abcd")
    assert "left out: 1 image without a row (first: train/e.png)" in capsys.readouterr().err
    (raw / "train.csv").write_text(LABELS.replace("c,1", "c,"))
    assert "(first: row 3: '')" in error_of(raw)
    layout = layout_of(raw, unlabelled="leave_out")
    assert layout.train.image_ids == ["a", "b", "d"]
    assert "left out: 1 row without a label (first: c)" in capsys.readouterr().err


def test_many_columns_of_fractions_are_numbers(tmp_path: Path) -> None:
    raw = write(tmp_path, PLAIN | {SAMPLE: "id,u,v\nx,0,0\ny,0,0\n"})
    write(raw, {"train.csv": "id,u,v\na,0.5,1\nb,0.25,0\nc,0,1\nd,1,0\n"})
    assert layout_of(raw, metric="rmse").competition.task == Number(names=["u", "v"])


def test_a_picture_is_taken_rather_than_the_array_it_was_made_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write(tmp_path, TABLES)
    write(raw, images(*(f"{kind}/train/{n}.{suffix}" for n in "abcd"
                        for kind, suffix in (("jpeg", "jpg"), ("dicom", "dcm")))))  # fmt: skip
    write(raw, images("jpeg/test/x.jpg", "jpeg/test/y.jpg", "dicom/test/x.dcm", "dicom/test/y.dcm"))
    assert files_of(layout_of(raw).train) == [f"jpeg/train/{name}.jpg" for name in "abcd"]
    assert "not used: 6 images in other folders: dicom/test (2), dicom/train (4)" in (
        capsys.readouterr().err
    )


def test_two_folders_with_the_same_names_are_asked_about(tmp_path: Path) -> None:
    raw = write(tmp_path, TABLES | PLAIN | images(*(f"train_256/{name}.png" for name in "abcd")))
    assert "expected one image for the id a, found 2: train/a.png and train_256/a.png" in (
        error_of(raw)
    )
    layout = layout_of(raw, train_images="train_256")
    assert files_of(layout.train) == [f"train_256/{name}.png" for name in "abcd"]


def test_numbered_classes_of_a_sample_are_no_pixels(tmp_path: Path) -> None:
    names = [f"kind_{n}" for n in range(70)]
    sample = f"id,{','.join(names)}\nx,{','.join(['0.1'] * 70)}\n"
    rows = "".join(f"{n},{name}\n" for n, name in enumerate(names))
    raw = write(tmp_path, {SAMPLE: sample, "labels.csv": f"id,breed\n{rows}"})
    write(raw, images(*(f"train/{n}.png" for n in range(70)), "test/x.png"))
    assert layout_of(raw).competition.task.outputs == sorted(names)


IDS = "abcd"
ORGANS = images(*(f"train/{name}/{n}.png" for name in ("lung", "testis") for n in range(3)))
TRAINS = images(*(f"images/{name}/{n}.png" for name in ("bus", "train") for n in range(3)))
DEEP = images(*(f"train/{path}/{n}.png" for path in ("animal/cat", "animal/dog", "plant/oak")
                for n in range(2)))  # fmt: skip


@pytest.mark.parametrize(
    ("files", "shown", "changes", "classes"),
    [
        (ORGANS, "lung", {}, ["lung", "testis"]),
        (TRAINS, "bus", {"train_images": "images"}, ["bus", "train"]),
        (DEEP, "oak", {}, ["cat", "dog", "oak"]),
        (DEEP, "plant", {}, ["animal", "plant"]),
    ],
    ids=["begins like test", "called train", "folders in folders", "the upper folders"],
)
def test_a_class_is_a_folder_whatever_it_is_called(
    tmp_path: Path, files: dict[str, str], shown: str, changes: dict[str, Any], classes: list[str]
) -> None:
    raw = write(tmp_path, files | images("test/x.png") | {SAMPLE: f"id,label\nx,{shown}\n"})
    layout = layout_of(raw, **changes)
    assert layout.competition.task.outputs == classes
    assert sorted(files_of(layout.train)) == sorted(files)
    assert all(
        label in file
        for label, file in zip(layout.train.labels, files_of(layout.train), strict=True)
    )


def test_a_mask_beside_an_image_is_no_image_of_its_class(tmp_path: Path) -> None:
    raw = write(tmp_path, ORGANS | images("test/x.png") | {SAMPLE: "id,label\nx,lung\n"})
    write(raw, images(*(path.replace(".png", "_mask.png") for path in ORGANS)))
    assert "found 6 of 13 images otherwise (first: train/lung/0_mask.png" in error_of(raw)
    assert len(layout_of(raw, unlabelled="leave_out").train.image_ids) == len(ORGANS)


@pytest.mark.parametrize("name", ["id", "image_id"])
def test_a_column_of_files_is_believed_rather_than_a_number_that_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    raw = write(tmp_path, {SAMPLE: f"{name},label\n4,u\n5,u\n"})
    write(raw, {"train.csv": f"{name},file,label\n0,2.png,u\n1,0.png,v\n2,3.png,u\n3,1.png,v\n"})
    write(raw, {"test.csv": f"{name},file\n5,4.png\n4,5.png\n"})
    write(raw, images(*(f"train/{n}.png" for n in range(4)), "test/4.png", "test/5.png"))
    layout = layout_of(raw)
    assert layout.train.row_ids == ["0", "1", "2", "3"]
    assert files_of(layout.train) == [f"train/{n}.png" for n in (2, 0, 3, 1)]
    assert (layout.test.row_ids, files_of(layout.test)) == (
        ["4", "5"],
        ["test/5.png", "test/4.png"],
    )
    assert "the images are named by the column file" in capsys.readouterr().err


def test_names_without_suffix_that_differ_from_ids_that_fit_are_asked_about(tmp_path: Path) -> None:
    raw = write(tmp_path, {SAMPLE: "id,label\n4,u\n", "train.csv": "id,image_name,label\n0,1,u\n1,0,v\n"})  # fmt: skip
    write(raw, images("train/0.png", "train/1.png", "test/4.png"))
    assert "found several that differ: the ids, image_name" in error_of(raw)
    assert files_of(layout_of(raw, image_column="id").train) == ["train/0.png", "train/1.png"]
    layout = layout_of(raw, image_column="image_name")
    assert files_of(layout.train) == ["train/1.png", "train/0.png"]
    assert files_of(layout.test) == ["test/4.png"]


@pytest.mark.parametrize("column", ["id", "row"])
def test_the_files_of_a_test_table_are_believed_whatever_its_id_is_called(
    tmp_path: Path, column: str
) -> None:
    raw = write(tmp_path, {SAMPLE: "id,label\n4,u\n5,u\n", "train.csv": "id,label\na,u\nb,v\n"})
    write(raw, {"test.csv": f"{column},file\n5,4.png\n4,5.png\n"})
    write(raw, images("train/a.png", "train/b.png", "test/4.png", "test/5.png"))
    assert files_of(layout_of(raw).test) == ["test/5.png", "test/4.png"]


def test_two_columns_of_files_are_asked_about(tmp_path: Path) -> None:
    rows = "".join(f"{n},l{n}.png,r{n}.png,{n % 2}\n" for n in range(4))
    raw = write(tmp_path, {SAMPLE: "id,label\nx,0\n", "train.csv": f"id,left,right,label\n{rows}"})
    write(raw, images(*(f"train/{side}{n}.png" for side in "lr" for n in range(4)), "test/x.png"))
    found = error_of(raw)
    assert (
        "found several that differ: left, right. Set prepare.image_column in params.yaml" in found
    )
    layout = layout_of(raw, image_column="right", unlabelled="leave_out")
    assert files_of(layout.train) == [f"train/r{n}.png" for n in range(4)]


SHOPS = {
    SAMPLE: "shop,label\n8,0\n9,0\n",
    "train.csv": "shop,label\n0,1\n1,0\n",
    "photos.csv": "photo,shop\n0,1\n1,1\n2,0\n3,0\n",
    "test_photos.csv": "photo,shop\n8,9\n9,8\n",
} | images(*(f"train/{n}.png" for n in range(4)), "test/8.png", "test/9.png")


def test_ids_whose_images_another_table_lists_are_no_names_of_files(tmp_path: Path) -> None:
    raw = write(tmp_path, SHOPS)
    found = error_of(raw)
    assert "photos.csv has the images of each shop in its column photo" in found
    write(raw, {"both.csv": "photo,shop,label\n0,1,0\n1,1,0\n2,0,1\n3,0,1\n"})
    layout = layout_of(raw, labels="both.csv", id_column="shop", image_column="photo")
    assert layout.train.image_ids == ["1/0", "1/1", "0/2", "0/3"]
    assert (layout.test.row_ids, files_of(layout.test)) == (
        ["8", "9"],
        ["test/9.png", "test/8.png"],
    )


def test_folders_are_no_classes_where_a_table_has_other_labels(tmp_path: Path) -> None:
    names = [f"part_{1 + n // 4}/{n}.png" for n in range(8)]
    rows = "".join(f"{n},{'uv'[n % 2]},5\n" for n in range(8))
    raw = write(tmp_path, {"meta.csv": f"image,dx,age\n{rows}"} | images(*names, "test/x.png"))
    found = error_of(raw, sample_submission="none")
    assert "it may have the labels, in dx" in found
    layout = layout_of(raw, sample_submission="none", label_column="dx")
    assert layout.train.labels == ["u", "v"] * 4
    layout = layout_of(raw, sample_submission="none", labels={"source": "folder"})
    assert layout.competition.task.outputs == ["part_1", "part_2"]


def test_without_a_sample_the_ids_are_those_of_a_table_of_the_test_images(tmp_path: Path) -> None:
    rows = "".join(f"{n},train_data/{name}.png,{n % 2}\n" for n, name in enumerate(IDS))
    raw = write(tmp_path, {"train.csv": f",file_name,label\n{rows}", "test.csv": "id\nnew/y.png\nnew/x.png\n"})  # fmt: skip
    write(raw, images(*(f"train_data/{name}.png" for name in IDS), "new/x.png", "new/y.png"))
    layout = layout_of(raw, sample_submission="none")
    assert layout.sample.ids == ["new/y.png", "new/x.png"]
    assert files_of(layout.test) == ["new/y.png", "new/x.png"]


def test_rows_of_one_id_have_the_images_that_another_column_names(tmp_path: Path) -> None:
    rows = "".join(f"{n // 2:02}_{n % 2},{n // 2:02},{n // 4}\n" for n in range(8))
    raw = write(tmp_path, {SAMPLE: "patient,0,1\n09,0,0\n", "train.csv": f"image,patient,label\n{rows}"})  # fmt: skip
    write(raw, images(*(f"train/{n // 2:02}_{n % 2}.png" for n in range(8)), "test/09_0.png", "test/09_1.png"))  # fmt: skip
    layout = layout_of(raw, "log_loss")
    assert layout.train.row_ids == [f"{n // 2:02}" for n in range(8)]
    assert files_of(layout.train) == [f"train/{n // 2:02}_{n % 2}.png" for n in range(8)]
    assert layout.test.row_ids == ["09", "09"]


@pytest.mark.parametrize(
    ("image", "note"),
    [("image_id", "category_id"), ("image_id", "label_id"), ("imageId", "labelId")],
)
def test_categories_of_json_have_several_names(tmp_path: Path, image: str, note: str) -> None:
    content = {
        "images": [{image: n} for n in (1, 2)],
        "annotations": [{image: n, note: [n, 7] if note == "labelId" else n} for n in (1, 2)],
        "categories": [{"category_id": 1}, {"category_id": 2}],
    }
    raw = write(tmp_path, {SAMPLE: "id,predicted\n8,1\n", "train.json": json.dumps(content)})
    layout = layout_of(write(raw, images("train/1.png", "train/2.png", "test/8.png")))
    assert layout.train.labels == (["1|7", "2|7"] if note == "labelId" else ["1", "2"])


def test_json_may_have_a_record_for_each_name(tmp_path: Path) -> None:
    content = {f"{name}.png": {"label": "uv"[n % 2]} for n, name in enumerate(IDS)}
    raw = write(
        tmp_path, PLAIN | {SAMPLE: "id,label\nx,u\ny,u\n", "meta.json": json.dumps(content)}
    )
    layout = layout_of(raw)
    assert layout.train.labels == ["u", "v", "u", "v"]
    assert files_of(layout.train) == [f"train/{name}.png" for name in IDS]


@pytest.mark.parametrize("column", ["EncodedPixels", "rle_mask", "PredictionString"])
def test_masks_and_boxes_are_no_labels(tmp_path: Path, column: str) -> None:
    rows = "".join(f"{name},{n} 1 9 {n}\n" for n, name in enumerate(IDS))
    raw = write(tmp_path, PLAIN | {SAMPLE: f"id,{column}\nx,1 1\n", "train.csv": f"id,{column}\n{rows}"})  # fmt: skip
    assert f"found masks or boxes in the column {column}" in error_of(raw)


def test_the_advice_of_a_missing_label_works(tmp_path: Path) -> None:
    raw = write(tmp_path, TABLES | PLAIN | {"train.csv": LABELS.replace("c,1", "c,")})
    assert "prepare.unlabelled: leave_out" in error_of(raw)
    assert layout_of(raw, unlabelled="leave_out").train.labels == ["1", "0", "0"]


def test_the_column_of_the_labels_says_which_table_has_them(tmp_path: Path) -> None:
    rows = "".join(f"{name},s,{n % 2}\n" for n, name in enumerate(IDS))
    raw = write(tmp_path, PLAIN | {SAMPLE: "id,predictions\nx,1\ny,1\n", "train.csv": f"id,species,one\n{rows}"})  # fmt: skip
    assert "prepare.label_column" in error_of(raw)
    assert layout_of(raw, label_column="one").train.labels == ["0", "1", "0", "1"]


def test_columns_and_cells_without_a_name_break_nothing(tmp_path: Path) -> None:
    rows = "".join(
        f"{n},{'' if n == 1 else 'p' + name},{name},{n % 2}\n" for n, name in enumerate(IDS)
    )
    raw = write(tmp_path, PLAIN | {SAMPLE: "Id,label\n1,0\n2,0\n", "train.csv": f",photo,name,label\n{rows}"})  # fmt: skip
    write(raw, {"test.csv": ",Id,name\n0,1,x\n1,2,y\n"})
    layout = layout_of(raw)
    assert files_of(layout.train) == [f"train/{name}.png" for name in IDS]
    assert files_of(layout.test) == ["test/x.png", "test/y.png"]
