"""A raw folder is understood by the stated rule, or an error says what to set."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
from project import COMPETITIONS, needs, prepare_config
from psutil import Process
from tasks import one_of

from pipeline.core.competition import Competition, read_competition
from pipeline.core.errors import CompetitionError, TableError
from pipeline.core.record import write_record
from pipeline.core.task import AnyOf, Number, Task
from pipeline.prepare import groups as groups_module
from pipeline.prepare.layout import Layout, Split, understand
from pipeline.raw.archive import IMAGE_SUFFIXES
from pipeline.scoring.metrics import METRICS

NO_GROUPS = {"source": "none"}
BY_PATIENT = ["p1", "p1", "p2", "p2"]
TEST = "test_data.zip/test"
SAMPLE, LABELS, PATIENTS = "sampleSubmission.csv", "train_labels.csv", "patients.csv"
NAMED: dict[str, Any] = {"labels": LABELS, "groups": {"source": "file", "file": PATIENTS}}


def make_zip(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, f"image {name}")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Four labelled images of two patients, two to predict."""
    (tmp_path / "sampleSubmission.csv").write_text("id,label\nt1,0\nt0,0\n")
    (tmp_path / "train_labels.csv").write_text("id,label\na,1\nb,0\nc,1\nd,0\n")
    (tmp_path / "patients.csv").write_text("id,patient\nd,p2\nc,p2\nb,p1\na,p1\n")
    make_zip(tmp_path / "Train.zip", "train/d.png", "train/a.png", "train/b.png", "train/c.png")
    make_zip(tmp_path / "test_data.zip", "test/t0.png", "test/t1.png")
    return tmp_path


def competition_of(id_column: str, label_column: str, *classes: str) -> Competition:
    ordered = all(name.lstrip("-").isdigit() for name in classes)
    return Competition(
        id_column=id_column, label_column=label_column, task=one_of(classes, ordered)
    )


def layout_of(raw: Path, metric: str = "accuracy", **changes: Any) -> Layout:
    changes = {"groups": {"source": "file", "file": PATIENTS}} | changes
    with understand(raw, prepare_config(**changes), METRICS[metric]) as layout:
        return layout


def files_of(split: Split) -> dict[str, str]:
    """The file of each image that has one."""
    pairs = zip(split.image_ids, split.pictures, strict=True)
    return {image_id: picture.file for image_id, picture in pairs if picture}


def error_of(raw: Path, **changes: Any) -> str:
    with pytest.raises(CompetitionError) as caught:
        layout_of(raw, **changes)
    assert str(caught.value).startswith(str(raw))
    return str(caught.value)


def test_everything_is_understood_without_a_parameter(raw: Path) -> None:
    named = prepare_config(groups={"source": "file", "file": PATIENTS})
    with understand(raw, named, METRICS["accuracy"]) as layout:
        train, test = layout.train, layout.test
        assert layout.competition == competition_of("id", "label", "0", "1")
        assert train.image_ids == ["a", "b", "c", "d"]
        assert train.labels == ["1", "0", "1", "0"]
        assert train.groups == BY_PATIENT
        assert train.missing == []
        assert train.images.read(files_of(train)["d"]) == b"image train/d.png"
        assert test.image_ids == ["t1", "t0"]
        assert test.labels == test.groups == ["", ""]
        assert files_of(test) == {"t0": f"{TEST}/t0.png", "t1": f"{TEST}/t1.png"}


@pytest.mark.parametrize("name", ["SAMPLE_SUBMISSION.CSV", "my submission-sample.csv"])
def test_the_sample_submission_is_known_by_its_name(raw: Path, name: str) -> None:
    (raw / SAMPLE).rename(raw / name)
    assert layout_of(raw).sample.place == raw / name


@pytest.mark.parametrize(
    ("file", "content", "changes", "message"),
    [
        (SAMPLE, "id\nt0\n", {}, "expected two columns, the id and the label, or the id and one for each class; found 1: ['id']. If this is no sample submission, set prepare.sample_submission"),
        (SAMPLE, "id,label\n", {}, "expected rows, found none. Get the file from its source again"),
        (SAMPLE, "id,label\nt0,0\nt1,0\nt1,0\n", {}, "expected each id once, found 1 of 3 rows otherwise (first: t1). Get the file from its source again"),
        (LABELS, "image,class,age\na,x,1\n", NAMED, "found 3: ['image', 'class', 'age']. Set prepare.label_column in params.yaml to the column of the labels, or prepare.labels"),
        (LABELS, "id,label\na,1\nb,1\n", {}, "expected at least two classes, found only 1. Set prepare.labels in params.yaml"),
        (LABELS, "id,label\na,1\nb,0\nb,0\nb,0\n", {}, "expected each id once, found 1 of 4 rows otherwise (first: b is 0). Keep one row an id"),
        (LABELS, "id,label\na,1\nb,0\nb,1\na,1\n", {}, "expected each id once, found 2 of 4 rows otherwise (first: b is 0 and 1, a is 1). Keep one row an id"),
        (LABELS, "id,label\na,1\nb,0\nt1,0\n", {}, "expected no id of sampleSubmission.csv, found 1 of 3 rows otherwise (first: t1). Set prepare.labels or prepare.sample_submission in params.yaml"),
        (PATIENTS, "id,patient\na,1\nb,1\na,1\nc,2\nd,2\n", {}, "expected each id once, found 1 of 5 rows otherwise (first: a). Set prepare.groups in params.yaml"),
        (PATIENTS, "id,patient\na,1\nc,1\n", {}, "expected a group for each labelled id, found 2 of 4 ids otherwise (first: b, d). Set prepare.groups in params.yaml"),
        (PATIENTS, "id,patient\na,1\nb,1\nc,1\nd,1\nz,1\ny,2\n", {}, "expected only ids of the labels or the sample submission, found 2 of 6 rows otherwise (first: y, z). Set prepare.groups in params.yaml"),
        ("blob.csv", "x" * 17_000_000, {}, "expected a CSV, found an invalid line: field larger than field limit (16777216). Repair the file or remove it from the folder"),
        (PATIENTS, "id,patient,age\na,1,9\n", NAMED, "expected two columns, the id and the group; found 3: ['id', 'patient', 'age']. Set prepare.groups.file"),
    ],
)  # fmt: skip
def test_an_invalid_table_is_refused(
    raw: Path, file: str, content: str, changes: dict[str, Any], message: str
) -> None:
    (raw / file).write_text(content)
    found = error_of(raw, **changes)
    assert found.startswith(f"{raw / file}: expected ")
    assert message in found


@pytest.mark.parametrize(
    ("files", "parameter", "message"),
    [
        ({SAMPLE: None}, "sample_submission", 'a CSV whose name contains "sample" and "submission" (where the competition has none: none); found none among: patients.csv (id, patient), train_labels.csv (id, label)'),
        ({"sample_submission_2.csv": "id,label\nt0,0\nt1,1\n"}, "sample_submission", "found 2: sampleSubmission.csv (id, label), sample_submission_2.csv (id, label)"),
        ({LABELS: "id,diagnosis\na,1\nb,0\nc,1\nd,0\n", "more.csv": "id,sex\na,1\nb,0\nc,1\nd,0\n"}, "labels", "a table with the sample submission's column id and one more that repeats, or with the categories of images; found 2: more.csv (id, sex), train_labels.csv (id, diagnosis)"),
        ({"old.csv": "id,label\na,0\nb,1\nc,1\nd,0\n"}, "labels", "found 2: old.csv (id, label), train_labels.csv (id, label)"),
        ({PATIENTS: None}, "groups.file", "(or set prepare.groups to {source: none}); found none among: no file of that kind"),
        ({"slides.csv": "slide,id\ns,a\ns,b\ns,c\ns,d\n"}, "groups.file", "found 2: patients.csv (id, patient), slides.csv (slide, id)"),
    ],
)  # fmt: skip
def test_no_candidate_or_several_are_listed_with_the_parameter_to_set(
    raw: Path, files: dict[str, str | None], parameter: str, message: str
) -> None:
    for name, text in files.items():
        if text is None:
            (raw / name).unlink()
        else:
            (raw / name).write_text(text)
    found = error_of(raw, groups={"source": "file", "file": "auto"})
    assert f"expected exactly one candidate for prepare.{parameter}, " in found
    assert found.endswith(f"{message}. Set prepare.{parameter} in params.yaml to a file's name")


def test_each_file_can_be_named_among_several_candidates(raw: Path) -> None:
    for name, text in {
        "sample_submission_2.csv": "id,label\nt0,0\nt1,1\n",
        "old.csv": "id,label\na,0\nb,1\nc,1\nd,0\n",
        "slides.csv": "slide,id\ns,a\ns,b\ns,c\ns,d\n",
    }.items():
        (raw / name).write_text(text)
    (raw / "Train.zip").rename(raw / "bundle.zip")
    named = {"sample_submission": "sample_submission_2.csv", "labels": "old.csv"}
    groups = {"source": "file", "file": "slides.csv"}
    layout = layout_of(raw, **named, groups=groups, train_images="bundle.zip")
    assert layout.test.image_ids == ["t0", "t1"]
    assert layout.train.labels == ["0", "1", "1", "0"]
    assert layout.train.groups == ["s"] * 4
    assert layout.train.missing == []


@pytest.fixture
def by_class(raw: Path) -> Path:
    """The sample submission asks for a probability of each class, whose order is its own."""
    (raw / SAMPLE).write_text("id,sick,fit,odd\nt1,0.3,0.3,0.3\nt0,0.5,,x\n")
    (raw / LABELS).write_text("id,site,kind\na,s1,fit\nb,s1,sick\nc,s2,odd\nd,s2,fit\n")
    return raw


def test_a_column_a_class_is_understood_beside_a_groups_file(by_class: Path) -> None:
    layout = layout_of(by_class)
    assert layout.competition == competition_of("id", "kind", "fit", "odd", "sick")
    assert layout.train.labels == ["fit", "sick", "odd", "fit"]
    assert layout.train.groups == BY_PATIENT
    assert layout.test.image_ids == ["t1", "t0"]


def test_two_labels_files_for_a_column_a_class_are_listed_and_one_can_be_named(
    by_class: Path,
) -> None:
    (by_class / "more.csv").write_text("id,kind\na,odd\nb,sick\nc,fit\n")
    assert (
        "exactly one candidate for prepare.labels, a table with the sample submission's column id "
        "and a column of its 3 classes; found 2: more.csv (id, kind), train_labels.csv (id, site, kind). Set prepare.labels"
    ) in error_of(by_class)
    assert layout_of(by_class, labels=LABELS, groups=NO_GROUPS).train.labels[0] == "fit"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("id,kind\na,fit\nb,sick\nc,fit\nd,fit\n", "expected the id and a column for each class of train_labels.csv, found 1 of 3 classes otherwise (first: odd has no labelled image). Set prepare.labels or prepare.sample_submission"),
        ("id,kind\na,fit\nb,sick\nc,odd\nd,new\n", "found 1 of 4 classes otherwise (first: new has no column). Set prepare.labels"),
        ("id,x,kind\na,1,fit\nb,1,sick\nc,1,odd\nd,1,new\n", "expected a column with the 3 classes (first: sick, fit, odd) of sampleSubmission.csv, or exactly two columns, the id and the label; found 3: ['id', 'x', 'kind']. Set prepare.label_column"),
    ],
)  # fmt: skip
def test_other_classes_than_the_columns_are_refused(
    by_class: Path, labels: str, message: str
) -> None:
    (by_class / LABELS).write_text(labels)
    assert message in error_of(by_class, labels=LABELS)


def test_labels_of_a_column_a_class_may_call_the_id_otherwise(by_class: Path) -> None:
    (by_class / LABELS).write_text("image,kind\na,fit\nb,sick\nc,odd\nd,fit\n")
    layout = layout_of(by_class)
    assert layout.competition == competition_of("id", "kind", "fit", "odd", "sick")


@pytest.mark.parametrize(
    ("name", "content"),
    [("answers.csv", "id,label,Usage\nt0,1,Public\n"), ("Solution.csv", "id,label\nt0,1\n")],
)
def test_a_solution_is_never_a_candidate(raw: Path, name: str, content: str) -> None:
    (raw / name).write_text(content)
    assert layout_of(raw).train.image_ids == ["a", "b", "c", "d"]
    assert f"names {name}, which is not one" in error_of(raw, labels=name)


def test_a_foreign_encoding_matters_only_in_a_file_that_is_read(raw: Path) -> None:
    (raw / "notes.csv").write_bytes("größe,maß,id\n".encode("latin-1"))
    assert layout_of(raw).train.missing == []
    (raw / LABELS).write_bytes("id,label\na,größer\n".encode("latin-1"))
    with pytest.raises(TableError, match="not a CSV file"):
        layout_of(raw)


def test_text_stays_text_and_a_byte_order_mark_is_no_part_of_it(raw: Path) -> None:
    (raw / LABELS).write_text("id,label\n007,NA\n7,1e3\n", encoding="utf-8-sig")
    make_zip(raw / "Train.zip", "007.png", "7.png")
    layout = layout_of(raw, groups=NO_GROUPS)
    assert layout.train.image_ids == ["007", "7"]
    assert layout.train.labels == ["NA", "1e3"]
    assert files_of(layout.train) == {"007": "Train.zip/007.png", "7": "Train.zip/7.png"}
    assert layout.competition.id_column == "id"


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["10", "2", "-1", "10"], ["-1", "2", "10"]),
        (["10", "2", "x", "x"], ["10", "2", "x"]),
        (["10.5", "2.0", "-1", "2.0"], ["-1", "2.0", "10.5"]),
        (["9" * 5000, "10", "10", "10"], ["10", "9" * 5000]),
        (["PNEUMONIA", "NORMAL", "NORMAL", "NORMAL"], ["NORMAL", "PNEUMONIA"]),
    ],
)
def test_classes_are_ordered_by_number_only_if_all_are_numbers(
    raw: Path, labels: list[str], classes: list[str]
) -> None:
    rows = [f"{image_id},{label}\n" for image_id, label in zip("abcd", labels, strict=True)]
    (raw / LABELS).write_text("id,label\n" + "".join(rows))
    assert layout_of(raw).competition.task.outputs == classes


@pytest.mark.parametrize(
    ("file", "column", "rows", "found"),
    [
        *[
            (file, "id", f"a,0\nb,0\n{value},1\n", f"1 of 3 values otherwise (first: row 3: {value!r})")
            for file in (SAMPLE, LABELS, PATIENTS)
            for value in (" a", "a ", "")
        ],
        (LABELS, "label", "a,0\nb, 0\nc,1\nd,1 \n", "2 of 4 values otherwise (first: row 2: ' 0', row 4: '1 ')"),
        (PATIENTS, "patient", "a,0\nb,\nc,1\nd,\n", "2 of 4 values otherwise (first: row 2: '', row 4: '')"),
    ],
)  # fmt: skip
def test_an_empty_or_padded_value_is_shown_with_its_row(
    raw: Path, file: str, column: str, rows: str, found: str
) -> None:
    header = (raw / file).read_text().splitlines()[0]
    (raw / file).write_text(f"{header}\n{rows}")
    assert error_of(raw) == (
        f"{raw / file}: expected text without blanks around it in the column {column}, found "
        f"{found}. Repair the file at its source"
    )


@pytest.mark.parametrize(
    ("files", "changes", "classes", "groups"),
    [
        ({SAMPLE: "id,label\nt1,0.5\nt0,\n"}, {}, "01", BY_PATIENT),
        ({LABELS: "age,label,id\n9,1,a\n9,0,b\n9,1,c\n9,0,d\n"}, {}, "01", BY_PATIENT),
        ({LABELS: "id,diagnosis\na,1\nb,0\nc,1\nd,0\n"}, {"labels": LABELS}, "01", BY_PATIENT),
        ({LABELS: "image,class\na,y\nb,x\nc,y\nd,x\n", PATIENTS: "patient,image\np2,d\np2,c\np1,b\np1,a\n"}, {"labels": LABELS}, "xy", BY_PATIENT),
        ({PATIENTS: "image,patient\na,1\nb,2\nc,2\nd,1\n"}, NAMED, "01", ["1", "2", "2", "1"]),
        ({PATIENTS: "id,patient\nt0,p9\nd,p2\nc,p2\nb,p1\na,p1\n"}, {}, "01", BY_PATIENT),
        ({}, {"groups": NO_GROUPS}, "01", ["a", "b", "c", "d"]),
    ],
    ids=["placeholders may be numbers", "labels may have more columns", "named labels may have another label column", "named labels may call both columns otherwise", "named groups of other columns start with the id", "groups may know the test images", "no groups make each image its own"],
)  # fmt: skip
def test_tables_may_vary(
    raw: Path, files: dict[str, str], changes: dict[str, Any], classes: str, groups: list[str]
) -> None:
    for name, text in files.items():
        (raw / name).write_text(text)
    layout = layout_of(raw, **changes)
    assert layout.competition == competition_of("id", "label", *classes)
    assert layout.train.image_ids == ["a", "b", "c", "d"]
    assert layout.train.labels == [classes[1], classes[0]] * 2
    assert layout.train.groups == groups


@pytest.mark.parametrize(
    ("shown", "labels", "classes"),
    [
        ("0", ["1.0", "0.0", "1.0", "0.0"], ["0", "1"]),
        ("3", ["10.", "2.0", "10.", "2.0"], ["2", "10"]),
        ("0.0", ["1.0", "0.0", "1.0", "0.0"], ["0.0", "1.0"]),
        ("0.5", ["1.0", "0.0", "1.0", "0.0"], ["0.0", "1.0"]),
        ("0", ["1.5", "0.0", "1.5", "0.0"], ["0.0", "1.5"]),
    ],
)
def test_labels_are_integers_where_the_sample_shows_integers(
    raw: Path, shown: str, labels: list[str], classes: list[str]
) -> None:
    (raw / SAMPLE).write_text(f"id,label\nt1,{shown}\nt0,{shown}\n")
    rows = "".join(f"{i},{label}\n" for i, label in zip("abcd", labels, strict=True))
    (raw / LABELS).write_text(f"id,label\n{rows}")
    layout = layout_of(raw)
    assert layout.competition.task == one_of(classes, ordered=True)
    assert layout.train.labels == [classes[1], classes[0]] * 2


SETS = "id,label\na,rust scab\nb,rust\nc,scab\nd,rust scab mould\n"


@pytest.mark.parametrize(
    ("sample", "labels", "changes", "task", "found"),
    [
        ("id,label\nt1,rust\nt0,rust\n", SETS, {}, AnyOf(classes=["mould", "rust", "scab"], at_least_one=True), ["rust|scab", "rust", "scab", "rust|scab|mould"]),
        ("id,label\nt1,1\nt0,1\n", "id,label\na,10 2\nb,2\nc,10\nd,\n", {"task": "any_of"}, AnyOf(classes=["2", "10"]), ["10|2", "2", "10", ""]),
        ("id,label\nt1,x\nt0,x\n", SETS, {"task": "one_of"}, one_of(["rust", "rust scab", "rust scab mould", "scab"]), ["rust scab", "rust", "scab", "rust scab mould"]),
        ("id,label\nt1,x\nt0,x\n", "id,label\na,Fat Hen\nb,Common wheat\nc,Fat Hen\nd,Common wheat\n", {}, one_of(["Common wheat", "Fat Hen"]), ["Fat Hen", "Common wheat"] * 2),
        ("id,q,r\nt1,0,0\nt0,0,0\n", "id,r,q,age\na,1,0,7\nb,0,1,7\nc,1,0,7\nd,0,1,7\n", {}, one_of(["q", "r"]), ["r", "q"] * 2),
        ("id,q,r\nt1,0,0\nt0,0,0\n", "id,r,q,age\na,1,0,7\nb,0,1,7\nc,1,0,7\nd,0,1,7\n", {"task": "any_of"}, AnyOf(classes=["q", "r"], at_least_one=True), ["r", "q"] * 2),
        ("id,q,r\nt1,0,0\nt0,0,0\n", "id,q,r\na,1,1\nb,0,1\nc,0,0\nd,0,1.0\n", {}, AnyOf(classes=["q", "r"]), ["q|r", "r", "", "r"]),
        ("id,label\nt1,50\nt0,50\n", "id,label\na,1\nb,2.5\nc,1e2\nd,-3\n", {"metric": "rmse"}, Number(names=["label"]), ["1", "2.5", "1e2", "-3"]),
        ("id,u,v\nt1,5,5\nt0,5,5\n", "id,v,u\na,1,2\nb,3,4\nc,5,6\nd,7,8\n", {"metric": "mae"}, Number(names=["u", "v"]), ["2|1", "4|3", "6|5", "8|7"]),
        ("id,label\nt1,1\nt0,1\n", "id,label\na,1\nb,2\nc,1\nd,2\n", {"task": "number"}, Number(names=["label"]), ["1", "2", "1", "2"]),
    ],
    ids=["lists", "lists asked for", "lists as classes", "classes of several words", "one-hot columns", "one-hot columns as labels", "columns of 0 and 1", "a number by the metric", "numbers by the metric", "a number asked for"],
)  # fmt: skip
def test_the_task_is_read_from_the_labels_and_the_metric(
    raw: Path, sample: str, labels: str, changes: dict[str, Any], task: Task, found: list[str]
) -> None:
    (raw / SAMPLE).write_text(sample)
    (raw / LABELS).write_text(labels)
    layout = layout_of(raw, **{"groups": NO_GROUPS} | changes)
    assert layout.competition.task == task
    assert layout.train.labels == found


@pytest.mark.parametrize(
    ("sample", "labels", "changes", "message"),
    [
        ("id,label\nt1,5\nt0,5\n", "id,label\na,1\nb,two\nc,3\nd,4\n", {"metric": "rmse"}, "could not convert string to float: 'two'. Set prepare.task in params.yaml"),
        ("id,q,r\nt1,0,0\nt0,0,0\n", "id,q,r\na,1,2\nb,0,1\nc,0,0\nd,0,1\n", {}, "expected 0 or 1 in the column of each class, found 1 of 2 columns otherwise (first: r of row 1: '2'). Set prepare.task"),
        ("id,q,r\nt1,0,0\nt0,0,0\n", "id,q,r\na,1,1\nb,0,1\nc,0,1\nd,0,1\n", {"task": "one_of"}, "expected one class for each image, as prepare.task is one_of, found 2 in row 1. Set prepare.task in params.yaml to any_of"),
        ("id,label\nt1,x\nt0,x\n", "id,label\na,x y x\nb,x\nc,y\nd,y\n", {"task": "any_of"}, "expected each class of an image once, found 1 of 4 rows otherwise (first: 'x y x')"),
        ("id,q|r,s\nt1,0,0\nt0,0,0\n", "id,q|r,s\na,1,0\nb,0,1\nc,1,0\nd,0,1\n", {}, "expected classes without '|' in their names, found 1 of 2 classes otherwise (first: q|r)"),
    ],
)  # fmt: skip
def test_labels_of_another_task_are_refused_by_name(
    raw: Path, sample: str, labels: str, changes: dict[str, Any], message: str
) -> None:
    (raw / SAMPLE).write_text(sample)
    (raw / LABELS).write_text(labels)
    assert message in error_of(raw, **{"groups": NO_GROUPS} | changes)


def test_a_class_written_in_two_ways_is_refused(raw: Path) -> None:
    (raw / LABELS).write_text("id,label\na,1\nb,0\nc,1.0\nd,0\n")
    assert "expected each class written in one way, found 1 and 1.0." in error_of(raw)


def test_of_two_classes_the_one_that_the_samples_column_names_is_positive(raw: Path) -> None:
    (raw / SAMPLE).write_text("id,bud\nt1,0.5\nt0,0.5\n")
    (raw / LABELS).write_text("id,kind\na,bud\nb,cactus\nc,bud\nd,cactus\n")
    found = layout_of(raw, labels=LABELS).competition
    assert found.task == one_of(["cactus", "bud"], ordered=True)


def test_the_parameters_say_the_order_of_classes(raw: Path) -> None:
    (raw / LABELS).write_text("id,label\na,None\nb,Mild\nc,Severe\nd,Mild\n")
    found = layout_of(raw).competition
    assert found.task == one_of(["Mild", "None", "Severe"])
    order = ["None", "Mild", "Severe"]
    found = layout_of(raw, classes=order).competition
    assert found.task == one_of(order, ordered=True)
    assert error_of(raw, classes=["None", "Mild"]).endswith(
        "expected the classes of prepare.classes, ['None', 'Mild'], found ['Mild', 'None', "
        "'Severe']. Correct prepare.classes in params.yaml, or set it to null"
    )


def test_a_pattern_that_backtracks_for_ever_is_stopped(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups_module, "_MATCH_S", 0.5)
    name = "a" * 60
    make_zip(raw / "Train.zip", f"{name}.png", "b.png")
    (raw / LABELS).write_text(f"id,label\n{name},1\nb,0\n")
    with pytest.raises(CompetitionError) as caught:
        layout_of(raw, groups={"source": "name", "pattern": "((?:a|a)*)$"})
    assert str(caught.value).startswith(
        "params.yaml: prepare.groups.pattern: expected a pattern that finds the group in 2 names "
    )


def test_groups_come_from_the_file_name_or_else_from_the_path(raw: Path) -> None:
    make_zip(raw / "Train.zip", "P9/P1_a.png", "P9/P1_b.png", "P9/P2_c.png", "P9/P2_d.png")
    (raw / LABELS).write_text("id,label\nP1_a,0\nP1_b,1\nP2_c,0\nP2_d,1\nP3_e,1\n")
    groups = {"source": "name", "pattern": r"^P(\d+)_.*\.png$"}
    layout = layout_of(raw, groups=groups)
    assert layout.train.missing == ["P3_e"]
    assert layout.train.groups == ["1", "1", "2", "2", "P3_e"]


@pytest.mark.parametrize(
    ("place", "changes", "message"),
    [
        ("nowhere", {}, "no such folder. Run: dvc repro download"),
        ("", {"labels": "labels.csv"}, "prepare.labels names labels.csv, which is not one of the files to choose from: patients.csv (id, patient), train_labels.csv (id, label). Set prepare.labels"),
        ("", {"groups": {"source": "name", "pattern": "/([ab]?)\\.png"}}, "expected a group in each image's name or path by the pattern /([ab]?)\\.png, found 2 of 4 names otherwise (first: Train.zip/train/c.png, Train.zip/train/d.png). Set prepare.groups.pat"),
        ("", {"groups": {"source": "name", "pattern": "x|(trein)"}}, "4 of 4 names"),
    ],
)  # fmt: skip
def test_a_parameter_that_fits_nothing_is_refused(
    raw: Path, place: str, changes: dict[str, Any], message: str
) -> None:
    assert message in error_of(raw / place, **changes)


def test_train_and_test_lie_in_folders_of_one_zip(raw: Path) -> None:
    for name in ("Train.zip", "test_data.zip"):
        (raw / name).unlink()
    make_zip(raw / "all.zip", *(f"x/train/{i}.png" for i in "abcd"), "x/test/t0.jpg", "x/test/t1.p",
             "x/test/t1.jpg")  # fmt: skip
    layout = layout_of(raw, train_images="all.zip/x/train", test_images="all.zip/x/test/")
    assert files_of(layout.train)["a"] == "all.zip/x/train/a.png"
    assert files_of(layout.test) == {"t0": "all.zip/x/test/t0.jpg", "t1": "all.zip/x/test/t1.jpg"}
    assert layout.test.ignored == ["all.zip/x/test/t1.p"]
    message = error_of(raw, train_images="all.zip/train", test_images="all.zip/x/test")
    assert message.endswith(
        "prepare.train_images names all.zip/train, which holds no image; folders with images: "
        "all.zip/x/test, all.zip/x/train. Set prepare.train_images in params.yaml to one of them, "
        "or to auto"
    )


def test_train_and_test_images_may_be_mixed_in_one_archive(raw: Path) -> None:
    names = [f"{image_id}.png" for image_id in ("a", "t0", "b", "c", "t1", "d")]
    both = {"train_images": "all.zip", "test_images": "all.zip"}
    make_zip(raw / "all.zip", *names)
    layout = layout_of(raw, **both)
    assert (len(files_of(layout.train)), len(files_of(layout.test))) == (4, 2)
    make_zip(raw / "all.zip", *names, "z.png")
    fault = "all.zip: expected only images of the ids in the tables, found 1 of 7"
    assert fault in error_of(raw, **both)


@pytest.mark.parametrize(
    ("archive", "names", "found", "parameter"),
    [
        ("Train.zip", ["img_a.png", "img_b.png"], "4 ids of train_labels.csv (first: a, b, c), found no match among 2 images (first: Train.zip/img_a.png, Train.zip/img_b.png)", "train_images"),
        ("test_data.zip", ["a.doc", "b.doc"], "2 ids of sampleSubmission.csv (first: t1, t0), found 2 other files (first: test_data.zip/a.doc, test_data.zip/b.doc)", "test_images"),
        ("test_data.zip", [], "2 ids of sampleSubmission.csv (first: t1, t0), found nothing at all", "test_images"),
    ],
)  # fmt: skip
def test_an_archive_of_which_no_image_fits_shows_both_kinds_of_names(
    raw: Path, archive: str, names: list[str], found: str, parameter: str
) -> None:
    make_zip(raw / archive, *names)
    assert error_of(raw) == (
        f"{raw}: expected images ({' '.join(IMAGE_SUFFIXES)}) named like the "
        f"{found}. Set prepare.{parameter} in params.yaml to their folder or archive, or "
        "prepare.image_column to what names them"
    )


@pytest.mark.parametrize(
    ("archive", "names", "fault"),
    [
        ("Train.zip", "a b c d x/stray", "expected only images of the ids in the tables, found 1 of 7 images otherwise (first: Train.zip/x/stray.png). Add their rows, or set prepare."),
        ("Train.zip", "a b c d test/t0", "expected one image for the id t0, found 2: Train.zip/test/t0.png and test_data.zip/test/t0.png. Set prepare.test_images in params.yaml to the right folder"),
        ("test_data.zip", "t0 t1 train/a", "expected one image for the id a, found 2: Train.zip/train/a.png and test_data.zip/train/a.png. Set prepare.train_images"),
        ("test_data.zip", "t0", "expected an image for each id of sampleSubmission.csv, found 1 of 2 ids otherwise (first: t1). Get the archive from its source again, or set prepare.test_images"),
    ],
)  # fmt: skip
def test_an_image_without_id_and_a_test_id_without_image_are_refused(
    raw: Path, archive: str, names: str, fault: str
) -> None:
    make_zip(raw / archive, *(f"{name}.png" for name in names.split()))
    assert fault in error_of(raw)


def test_only_training_ids_may_lack_their_image_and_ids_may_have_suffixes(raw: Path) -> None:
    make_zip(raw / "Train.zip", "a.png", "c.png")
    (raw / SAMPLE).write_text("id,label\nt1.png,0\nt0.png,0\n")
    layout = layout_of(raw, groups=NO_GROUPS)
    assert layout.train.missing == ["b", "d"]
    assert list(files_of(layout.train)) == ["a", "c"]
    assert len(layout.train.groups) == len(layout.train.labels) == 4
    assert files_of(layout.test) == {"t0.png": f"{TEST}/t0.png", "t1.png": f"{TEST}/t1.png"}


@pytest.mark.parametrize("member", ["t0.png", "no.image"])
def test_an_error_leaves_no_archive_open(raw: Path, member: str) -> None:
    make_zip(raw / "test_data.zip", member)
    with pytest.raises(CompetitionError) as caught:
        layout_of(raw)
    assert not [file.path for file in Process().open_files() if Path(file.path).parent == raw]
    assert caught.tb is not None  # keeps what was opened from the garbage collector


def test_a_competition_comes_back_as_written(tmp_path: Path) -> None:
    competition = competition_of("id", "größe", "NA", "007", "1")
    write_record(tmp_path / "store" / "competition.json", competition)
    assert read_competition(tmp_path / "store" / "competition.json") == competition
    with pytest.raises(TableError, match=r"no such file\. Run: dvc repro prepare"):
        read_competition(tmp_path / "competition.json")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("{", "Invalid JSON"),
        ("\udcff", "Invalid JSON"),
        ("[]", "Input should be an object"),
        ('{"id_column": "id", "classes": ["0", "1"]}', "label_column: Field required"),
        (
            '{"id_column": "id", "label_column": "l", "task": {"kind": "two", "classes": ["0", "1"]}}',
            "task: ",
        ),
        (
            '{"id_column": "id", "label_column": "l", "task": {"kind": "one_of", "classes": ["0", 1]}}',
            "task.one_of.classes.1: ",
        ),
        (
            '{"id_column": "id", "label_column": "l", "task": {"kind": "one_of", "classes": ["0"]}}',
            "task.one_of.classes: ",
        ),
        (
            '{"id_column": "id", "label_column": "l", "task": {"kind": "any_of", "classes": []}}',
            "task.any_of.classes: ",
        ),
        (
            '{"id_column": "id", "label_column": "l", "task": {"kind": "number", "names": ["y"]}, "x": 1}',
            "x: ",
        ),
    ],
)
def test_a_broken_competition_file_names_the_place(
    tmp_path: Path, content: str, place: str
) -> None:
    path = tmp_path / "competition.json"
    path.write_text(content, errors="surrogateescape")
    with pytest.raises(TableError) as caught:
        read_competition(path)
    assert str(caught.value).startswith(f"{path}: {place}")
    assert str(caught.value).endswith("Run: dvc repro --force prepare")


@pytest.mark.parametrize(
    ("name", "competition", "images"),
    [
        pytest.param(
            "malaria", competition_of("id", "label", "0", "1"), 27_558,
            marks=needs(COMPETITIONS / "malaria"),
        ),
        pytest.param(
            "chest-xray", competition_of("image", "diagnosis", "NORMAL", "PNEUMONIA"), 5_840,
            marks=needs(COMPETITIONS / "chest-xray"),
        ),
    ],
)  # fmt: skip
def test_real_competitions_are_understood_without_a_parameter(
    name: str, competition: Competition, images: int
) -> None:
    layout = layout_of(COMPETITIONS / name, groups={"source": "file", "file": "auto"})
    assert layout.competition == competition
    assert layout.test.image_ids == layout.sample.ids
    assert layout.train.missing == layout.test.missing == []
    assert len(files_of(layout.train)) + len(files_of(layout.test)) == images
    assert len(set(layout.train.groups)) < len(layout.train.image_ids)
