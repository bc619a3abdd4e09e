"""Classes in fewer groups than folds: only trained on, or learned as one; from the store to Kaggle."""

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import pack
from PIL import Image
from project import PARAMS
from pydantic import ValidationError
from sklearn import metrics as oracle
from tasks import any_of, number, one_of

from pipeline.check import stage as check
from pipeline.commands import noise
from pipeline.core import paths
from pipeline.core.competition import read_competition
from pipeline.core.errors import EnsembleError, FoldError
from pipeline.core.files import write_text
from pipeline.core.fold_summary import FoldSummary, OnlyTrained
from pipeline.core.record import read_record
from pipeline.core.tables import FOLD_COLUMNS, read_csv, read_table, write_table
from pipeline.core.task import OneOf, Task
from pipeline.ensemble import stage as ensemble
from pipeline.ensemble.config import ExternalMember
from pipeline.ensemble.members import PredictedImages, covered_images, read_external
from pipeline.explain import stage as explain
from pipeline.params import Config, read_config
from pipeline.predict import command as predict
from pipeline.prepare import stage as prepare
from pipeline.prepare.rare import merge_rare
from pipeline.report import stage as report
from pipeline.report.diagnosis import PredictedRows
from pipeline.report.label_noise import find_label_noise
from pipeline.scoring.card import read_card
from pipeline.scoring.metrics import METRICS, metric_for
from pipeline.split import stage as split
from pipeline.split.config import SplitConfig
from pipeline.split.folds import check_folds, make_folds
from pipeline.split.rare import find_merged, find_only_trained, rare_classes
from pipeline.train import stage as train
from pipeline.train.config import InnerEpoch
from pipeline.train.models import load_model
from pipeline.train.objective import activate


def table_of(rows: list[tuple[str, str]]) -> pd.DataFrame:
    """A training table of (label, group)."""
    ids = [f"i{row:03}" for row in range(len(rows))]
    labels, groups = zip(*rows, strict=True)
    columns = {"image_id": ids, "row_id": ids, "label": labels, "group": groups}
    columns |= {"duplicate": ids, "pixels": ids}
    return pd.DataFrame(columns)


def many(label: str, groups: int, first: int = 0) -> list[tuple[str, str]]:
    return [(label, f"g{first + n:02}") for n in range(groups)]


MIXED = table_of(
    [*many("cat", 6), *many("dog", 6), *many("owl", 2, 20), *many("emu", 2, 30), ("cat", "g20")]
)
"""Owl and emu are in two groups each, and a cat in a group of an owl."""

ANIMALS = one_of(["cat", "dog", "emu", "owl"])
MERGED = OneOf(classes=ANIMALS.classes, merged=["emu", "owl"])


# Only trained on


def test_rare_classes_and_their_whole_groups_have_no_fold() -> None:
    table = make_folds(MIXED, ANIMALS, 3, [1, 2], "train_only")
    only = table[table["fold"].isna()]
    assert list(only["image_id"]) == ["i012", "i013", "i014", "i015", "i016"] * 2
    scored = table[table["fold"].notna()]
    assert set(scored["label"]) == {"cat", "dog"}
    assert sorted(scored["fold"].unique()) == [0, 1, 2, 3, 4, 5]
    assert OnlyTrained.of(table) == OnlyTrained(classes={"emu": 2, "owl": 2}, beside=1)
    assert OnlyTrained.of(make_folds(MIXED, ANIMALS, 2, [1])) is None


def test_what_becomes_scarce_with_the_groups_that_leave_goes_too() -> None:
    """The newt has three groups, but one of them holds the only owl."""
    rows = [*many("cat", 5), *many("dog", 5), *many("newt", 3, 20), ("owl", "g20")]
    labels, groups = map(list, zip(*rows, strict=True))
    only = find_only_trained(labels, groups, 3)
    assert [label for label, each in zip(labels, only, strict=True) if each] == [
        "newt", "newt", "newt", "owl",
    ]  # fmt: skip


def test_near_duplicates_of_a_rare_image_are_not_scored_either() -> None:
    images = MIXED.assign(
        duplicate=["i012" if name == "i003" else name for name in MIXED["image_id"]]
    )
    table = make_folds(images, ANIMALS, 3, [1], "train_only").set_index("image_id")
    assert set(table.index[table["fold"].isna()]) == {
        *("i012", "i013", "i014", "i015"),  # rare
        *("i003", "i009", "i016"),  # like i012, of the group of i003, of the group of i012
    }


ROWS = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 12)), min_size=4, max_size=40)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.integers(2, 4))
def test_no_group_is_on_both_sides_and_each_class_left_has_enough(
    rows: list[tuple[str, int]], folds: int
) -> None:
    labels, groups = [label for label, _ in rows], [str(group) for _, group in rows]
    only = find_only_trained(labels, groups, folds)
    sides = pd.Series(only).groupby(groups).nunique()
    assert (sides == 1).all()
    left = [place for place, each in enumerate(only) if not each]
    known = [labels[place] for place in left], [groups[place] for place in left]
    assert not left or rare_classes(*known, folds) == []
    if not rare_classes(labels, groups, folds):
        assert not only.any()


@pytest.mark.parametrize("column", ["group", "duplicate"])
def test_a_row_whose_group_is_only_trained_on_must_not_be_scored(column: str) -> None:
    images = MIXED.assign(group=[f"own{n}" for n in range(len(MIXED))])
    table = make_folds(images, ANIMALS, 3, [1], "train_only")
    check_folds(table, images, ANIMALS)
    images.loc[images["image_id"].isin(["i000", "i012"]), column] = "shared"
    with pytest.raises(FoldError, match=r"are in two folds \(first: shared\)"):
        check_folds(table, images, ANIMALS)


def test_an_inner_split_never_takes_a_row_that_is_only_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = make_folds(MIXED, ANIMALS, 3, [1], "train_only")
    write_table(paths.FOLDS, table)
    assert read_table(paths.FOLDS, FOLD_COLUMNS)["fold"].tolist().count("") == 5
    write_text(paths.PARAMS, PARAMS)
    model = read_config(paths.PARAMS).train.models["two"]
    model = model.model_copy(update={"epoch": InnerEpoch(rule="inner", folds=2, patience=None)})
    for fold in range(3):
        scored, rows = train._rows_of_fold(fold, list(MIXED["image_id"]), ANIMALS, model)
        parts = [set(scored), set(rows.training), set(rows.inner)]
        assert sorted(row for part in parts for row in part) == list(range(len(MIXED)))
        assert {12, 13, 14, 15, 16} <= parts[1]
        assert set(MIXED["label"][rows.inner]) == {"cat", "dog"}


# What is proposed


def apply(remedy: str, images: pd.DataFrame, task: OneOf, folds: int) -> None:
    """Do what a message says with split.folds or split.rare."""
    if match := re.search(r"Set split.folds to (\d+) or less", remedy):
        make_folds(images, task, int(match[1]), [1])
    if "train_only" in remedy:
        make_folds(images, task, folds, [1], "train_only")
    if "merge" in remedy:
        labels, groups = list(images["label"]), list(images["group"])
        merged = find_merged(task, labels, groups, folds)
        make_folds(images, OneOf(classes=task.classes, merged=merged), folds, [1], "merge")


@settings(max_examples=80, deadline=None)
@given(ROWS, st.integers(3, 4))
def test_everything_that_an_error_proposes_works(rows: list[tuple[str, int]], folds: int) -> None:
    # Each image in a group of its own class: else the draw may leave a fold without a class.
    images = table_of([(label, f"{label}{group}") for label, group in rows])
    task = one_of(sorted({*images["label"], "a", "b"}))
    if set(task.classes) != set(images["label"]):
        return
    for rule in ("stop", "train_only"):
        try:
            make_folds(images, task, folds, [1], rule)
        except FoldError as error:
            apply(str(error), images, task, folds)
    try:
        find_merged(task, list(images["label"]), list(images["group"]), folds)
    except FoldError as error:
        for number_of_folds in re.findall(r"split.folds to (\d+)", str(error)):
            find_merged(task, list(images["label"]), list(images["group"]), int(number_of_folds))
        if "train_only" in str(error):
            make_folds(images, task, folds, [1], "train_only")


def test_stop_names_the_rules_that_would_help() -> None:
    with pytest.raises(FoldError) as caught:
        make_folds(MIXED, ANIMALS, 4, [1])
    assert str(caught.value) == (
        "data/store/train.csv: expected images of each class in at least 4 groups, one for each "
        "fold; found 2 of 'emu' in 2; the largest group, g00, holds 2 of 17 images. Set split.folds "
        "to 2 or less, or split.rare to train_only or merge"
    )
    with pytest.raises(FoldError) as caught:
        make_folds(MIXED, ANIMALS, 5, [1])  # emu and owl have four groups together
    assert str(caught.value).endswith("Set split.folds to 2 or less, or split.rare to train_only")


@pytest.mark.parametrize("task", [any_of("a", "b"), number("age")])
@pytest.mark.parametrize("rule", ["train_only", "merge"])
def test_a_rule_for_classes_is_refused_for_other_labels(task: Task, rule: str) -> None:
    images = table_of(
        [("1" if isinstance(task, type(number("x"))) else "a", f"g{n}") for n in range(9)]
    )
    with pytest.raises(FoldError) as caught:
        make_folds(images, task, 3, [1], rule)  # type: ignore[arg-type]
    assert str(caught.value) == (
        f"params.yaml: split.rare: {rule} is for one class an image, found a task of kind "
        f"{task.kind}, where no label has to be in every fold. Set split.rare to stop"
    )
    make_folds(images, task, 3, [1])


# Merged


def config(rare: str, folds: int = 3) -> SplitConfig:
    return SplitConfig.model_validate({"folds": folds, "seeds": [1], "rare": rare})


def test_classes_in_too_few_groups_are_merged_and_no_other() -> None:
    task = merge_rare(MIXED, ANIMALS, METRICS["accuracy"], config("merge"))
    assert task == MERGED
    for rule, folds in (("merge", 2), ("stop", 3), ("train_only", 3)):
        assert merge_rare(MIXED, ANIMALS, METRICS["accuracy"], config(rule, folds)) == ANIMALS
    assert "merged" not in ANIMALS.model_dump_json()
    assert OneOf.model_validate_json(MERGED.model_dump_json()) == MERGED


def test_a_merged_class_that_cannot_be_scored_is_refused_with_what_helps() -> None:
    with pytest.raises(FoldError) as caught:
        merge_rare(MIXED, ANIMALS, METRICS["accuracy"], config("merge", 5))
    assert str(caught.value) == (
        "data/store/train.csv: split.rare: merge: expected the classes in fewer than 5 groups to be "
        "in 5 or more together, one for each fold, and two other classes; found 2 (emu, owl) in 4, "
        "and 2 others. Set split.folds to 4, or split.rare to train_only"
    )
    graded = OneOf(classes=ANIMALS.classes, ordered=True)
    with pytest.raises(FoldError, match="quadratic_kappa depends on the order of the classes"):
        merge_rare(MIXED, graded, METRICS["quadratic_kappa"], config("merge"))


def test_folds_of_merged_classes_have_the_merged_class_in_each_and_keep_the_labels() -> None:
    table = make_folds(MIXED, MERGED, 3, [1], "merge")
    assert list(table["label"]) == list(MIXED["label"])
    for _, rows in table.groupby("fold"):
        assert {"cat", "dog"} < set(rows["label"])
    assert table["fold"].notna().all()


@pytest.mark.parametrize(("task", "rule"), [(MERGED, "stop"), (ANIMALS, "merge")])
def test_a_store_of_another_rule_is_to_be_prepared_again(task: OneOf, rule: str) -> None:
    with pytest.raises(FoldError, match="Run: dvc repro prepare$"):
        make_folds(MIXED, task, 3, [1], rule)  # type: ignore[arg-type]


def test_merged_classes_share_one_output_in_equal_parts_and_are_never_decided() -> None:
    assert MERGED.learned == ["cat", "dog", "other"]
    assert MERGED.learn(np.array([0, 1, 2, 3])).tolist() == [0, 1, 2, 2]
    logits = torch.tensor([[0.0, 1.0, 5.0], [3.0, 0.0, 0.0]])
    values = activate(logits, MERGED, torch.zeros(4), torch.ones(4)).double().numpy()
    whole = logits.double().softmax(-1).numpy()
    np.testing.assert_allclose(values[:, :2], whole[:, :2], rtol=1e-6)
    np.testing.assert_allclose(values[:, 2:], whole[:, [2, 2]] / 2, rtol=1e-6)
    assert MERGED.valid(values).all()
    assert MERGED.decode(MERGED.decide(values, None)) == ["dog", "cat"]
    assert ANIMALS.decode(ANIMALS.decide(values, None)) == ["emu", "cat"]


def test_the_merged_class_has_a_name_of_its_own_and_leaves_two_others() -> None:
    task = OneOf(classes=["other", "other_", "a", "b"], merged=["a", "b"])
    assert task.learned == ["other", "other_", "other__"]
    for merged in (["a"], ["a", "x"], ["other", "a", "b"]):
        with pytest.raises(ValidationError, match="two or more of the classes beside two"):
            OneOf(classes=task.classes, merged=merged)


# Scores


def drawn(rows: int, seed: int, labels: list[int]) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    values = generator.dirichlet(np.ones(4), rows)
    return values, generator.choice(labels, rows)


@pytest.mark.parametrize("optional", [{"never_scored": ["emu"]}, {}])
def test_a_mean_over_the_classes_is_over_those_with_rows(optional: dict[str, list[str]]) -> None:
    """Emu (2) has no row: never scored, or merged and absent."""
    values, labels = drawn(200, 1, [0, 1, 3])
    task = ANIMALS if optional else MERGED
    decided = values.argmax(axis=1)
    macro = {
        "macro_f1": oracle.f1_score(labels, decided, labels=[0, 1, 3], average="macro"),
        "balanced_accuracy": np.mean(oracle.recall_score(labels, decided, labels=[0, 1, 3], average=None)),
        "macro_roc_auc": np.mean([oracle.roc_auc_score(labels == c, values[:, c]) for c in (0, 1, 3)]),
    }  # fmt: skip
    for name, expected in macro.items():
        metric = metric_for(name, task, **optional)
        assert metric.score(values, decided, labels) == pytest.approx(expected, abs=1e-12)
        with pytest.raises(EnsembleError, match="expected rows of each class"):
            metric_for(name, ANIMALS).score(values, decided, labels)
        with pytest.raises(EnsembleError, match="expected rows of each class"):
            metric.score(values[labels > 0], decided[labels > 0], labels[labels > 0])


def test_a_mean_over_merged_classes_counts_each_as_kaggle_does() -> None:
    values, labels = drawn(200, 2, [0, 1, 2, 3])
    decided = MERGED.decide(values, None)
    found = metric_for("macro_f1", MERGED).score(values, decided, labels)
    assert found == pytest.approx(
        oracle.f1_score(labels, decided, average="macro", zero_division=0)
    )


def test_labels_of_merged_classes_and_of_classes_without_rows_are_not_judged() -> None:
    values, labels = drawn(120, 3, [0, 1, 2])
    values[:, :2] += np.eye(4)[labels][:, :2]
    values /= values.sum(axis=1, keepdims=True)
    ids = [f"i{row:03}" for row in range(120)]
    rows = PredictedRows(ids, ids, MERGED, labels, values, MERGED.decide(values, None))
    found = find_label_noise(rows)
    assert found.left_out == ["emu", "owl"]
    assert set(found.ranking["label"]) == set(found.ranking["suggested"]) == {"cat", "dog"}
    assert len(found.ranking) == (labels < 2).sum()
    assert found.wrong < 40


# From the files to the submission

COLOURS = {
    "red": (220, 40, 40), "green": (40, 220, 40), "blue": (40, 40, 220),
    "cyan": (40, 220, 220), "pink": (220, 40, 220), "grey": (130, 130, 130),
}  # fmt: skip
COUNTS = {"red": 30, "green": 30, "blue": 30, "cyan": 2, "pink": 1, "grey": 2}
RARE = ["cyan", "grey", "pink"]
TESTS = 24


@dataclass(frozen=True)
class Made:
    """A competition after stage `report`, in its folder."""

    folder: Path
    config: Config
    labels: dict[str, str]
    """Of the training images."""
    said: str


def draw_files(raw: Path, columns: list[str]) -> dict[str, str]:
    """A competition of colours as it comes from Kaggle, with the columns of the sample submission."""
    generator = np.random.default_rng(4)

    def picture(colour: str) -> bytes:
        noise_of = generator.normal(0, 30, (16, 16, 3))
        file = io.BytesIO()
        Image.fromarray((noise_of + COLOURS[colour]).clip(0, 255).astype(np.uint8)).save(
            file, "PNG"
        )
        return file.getvalue()

    labels = [name for name, count in COUNTS.items() for _ in range(count)]
    ids = [f"i{place:03}" for place in generator.permutation(len(labels))]
    files = {f"{i}.png": picture(name) for i, name in zip(ids, labels, strict=True)}
    # A red image and a cyan one are the same file: at least one label is wrong, and they are one group.
    files[f"{ids[0]}.png"] = files[f"{ids[labels.index('cyan')]}.png"]
    tests = {f"t{n:02}": list(COLOURS)[n % len(COLOURS)] for n in range(TESTS)}
    raw.mkdir(parents=True)
    pack(raw / "train.zip", files)
    pack(raw / "test.zip", {f"{i}.png": picture(name) for i, name in tests.items()})
    pd.DataFrame({"id": ids, "label": labels}).to_csv(raw / "train.csv", index=False)
    sample = pd.DataFrame(
        {"id": list(tests), **dict.fromkeys(columns, "red" if columns == ["label"] else 0)}
    )
    sample.to_csv(raw / "sample_submission.csv", index=False)
    return dict(zip(ids, labels, strict=True))


def make(
    folder: Path, rare: str, metric: str, columns: list[str], say: pytest.CaptureFixture[str]
) -> Made:
    labels = draw_files(paths.RAW, columns)
    text = PARAMS
    for old, new in {
        "size_px: 24": "size_px: 16", "epochs: 2\n": "epochs: 12\n", "rare: stop": f"rare: {rare}",
        "folds: 2, seeds": "folds: 3, seeds", "folds: [0, 1]": "folds: [0, 1, 2]",
        "metric: accuracy": f"metric: {metric}", "{source: file, file: auto}": "{source: none}",
        "lr: 0.01": "lr: 0.02", "engine: albumentations": "engine: batched",
    }.items():  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    write_text(paths.PARAMS, text)
    config = read_config(paths.PARAMS)
    prepare.run(config.prepare, metric, config.split)
    split.run(config.split)
    for member in config.train.members:
        for fold in config.train.folds:
            train.run(config.train, member, fold)
    ensemble.run(config.ensemble, config.train.members, config.train.folds)
    check.run("tiny", metric)
    for member in config.train.members:
        explain.run(member, config.train.folds[0])
    report.run("tiny")
    captured = say.readouterr()
    return Made(folder, config, labels, captured.out + captured.err)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    with chdir(tmp_path):
        yield tmp_path


@pytest.mark.slow
def test_rare_classes_are_trained_on_and_never_scored(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make(here, "train_only", "macro_f1", ["label"], capsys)
    unscored = {name for name, label in made.labels.items() if label in RARE}
    (twin,) = set(read_table(paths.FOLDS, FOLD_COLUMNS).query("fold == ''")["image_id"]) - unscored
    assert made.labels[twin] == "red"
    known = OnlyTrained(classes={"cyan": 2, "grey": 2, "pink": 1}, beside=1)
    assert read_record(paths.FOLDS_SUMMARY, FoldSummary, "split").only_trained == known

    scored = set(made.labels) - unscored - {twin}
    assert set(read_csv(paths.ENSEMBLE_OOF)["image_id"]) == scored
    for fold in range(3):
        own = set(read_csv(paths.model_folder("one", fold) / "oof.csv")["image_id"])
        assert own < scored
        live = read_csv(paths.live_table("one", fold))
        assert f"one fold {fold}: {len(made.labels) - len(own)} images on" in made.said
        assert len(live) == 12

    card = read_card(paths.card("tiny"))
    assert card.out_of_fold.only_trained == known
    assert (card.out_of_fold.rows, card.out_of_fold.of_images) == (len(scored), len(made.labels))
    assert card.out_of_fold.not_trained == 0
    assert {name for name, found in card.out_of_fold.recall.items() if found is None} == set(RARE)
    assert card.metric.value > 0.9  # of the three classes that are scored
    assert card.metric.interval is not None
    sentence = (
        "6 training images are in every fold's training and never scored: those of classes in fewer "
        "groups than folds, cyan (2), grey (2), pink (1), and 1 of other classes in their groups. No "
        "score here says how well these classes are predicted"
    )
    assert made.said.count(sentence) == 2  # split and ensemble
    page = paths.REPORT.read_text().replace("&#39;", "'")
    assert sentence in page
    assert "not all folds were trained" not in page
    noise.run(made.config.prepare, 10, Path("noise.csv"))
    assert "not judged, since too few groups have them: cyan, grey, pink" in capsys.readouterr().err

    # A model from elsewhere may have the rows that are never scored, or not.
    folds = read_table(paths.FOLDS, FOLD_COLUMNS)[["image_id", "fold"]]
    columns = [f"p_{name}" for name in read_competition(paths.COMPETITION).task.outputs]
    theirs = folds.assign(**dict.fromkeys(columns, 1 / 6))
    write_table(Path("test.csv"), pd.DataFrame({"image_id": [f"t{n:02}" for n in range(TESTS)], **dict.fromkeys(columns, 1 / 6)}))  # fmt: skip
    task, whole = read_competition(paths.COMPETITION).task, read_table(paths.FOLDS, FOLD_COLUMNS)
    tests = [f"t{n:02}" for n in range(TESTS)]
    whole["row_id"] = whole["image_id"]
    images = PredictedImages(covered_images(whole, [0, 1, 2]), tests, whole, task, tests)
    for name, table in {"all": theirs, "scored": theirs[theirs["fold"] != ""]}.items():
        write_table(Path(f"{name}.csv"), table)
        content = Path(f"{name}.csv").read_bytes() + Path("test.csv").read_bytes()
        external = ExternalMember(
            name=name, oof=f"{name}.csv", test="test.csv", folds="checked",
            sha256=hashlib.sha256(content).hexdigest(),
        )  # fmt: skip
        assert len(read_external(external, images).out_of_fold) == len(scored)


@pytest.mark.slow
def test_rare_classes_are_learned_as_one_and_share_its_probability(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make(here, "merge", "log_loss", list(COLOURS), capsys)
    task = read_competition(paths.COMPETITION).task
    assert isinstance(task, OneOf)
    assert task.merged == sorted(RARE, key=task.classes.index)
    assert "learned as one, other, and never decided: cyan (2 images), grey (2 images)" in made.said
    assert set(read_csv(paths.TRAIN_TABLE)["label"]) == set(COLOURS)  # nothing is lost

    submission = read_csv(paths.submission("tiny"))
    assert list(submission.columns) == ["id", *COLOURS]
    numbers = submission[list(COLOURS)].astype(float)
    np.testing.assert_allclose(numbers["cyan"], numbers["pink"], rtol=1e-5)
    np.testing.assert_allclose(numbers["cyan"], numbers["grey"], rtol=1e-5)
    np.testing.assert_allclose(numbers.sum(axis=1), 1, atol=1e-5)
    truth = np.array([n % 6 for n in range(TESTS)])
    assert (numbers.to_numpy()[truth < 3].argmax(axis=1) == truth[truth < 3]).mean() > 0.9
    model, description = load_model(paths.model_folder("one", 0) / "weights.safetensors")
    assert description.task == task
    assert model.network.head[1].out_features == 4

    card = read_card(paths.card("tiny"))
    found = read_csv(paths.ENSEMBLE_OOF)
    assert set(found["image_id"]) == set(made.labels)
    truth = np.array([task.classes.index(made.labels[name]) for name in found["image_id"]])
    values = found[task.columns].to_numpy(float)
    expected = -np.log(values[np.arange(len(truth)), truth]).mean()  # Kaggle's, by true labels
    assert card.metric.value == pytest.approx(expected, abs=1e-5)
    assert {card.out_of_fold.recall[name] for name in RARE} == {0.0}
    decided = task.decide(values, None)
    assert card.out_of_fold.accuracy == pytest.approx((decided == truth).mean(), abs=1e-6)
    assert not set(task.decode(decided)) & set(RARE)
    assert "3 classes in fewer groups than folds are learned as one" in paths.REPORT.read_text()

    images = {
        f"t{n:02}.png": png_of for n, png_of in enumerate(pictures_in(paths.RAW / "test.zip"))
    }
    pack(Path("new.zip"), images)
    predict.run(made.config, Path("new.zip"), Path("new.csv"))
    again = read_csv(Path("new.csv"))
    assert list(again["p_cyan"]) == list(submission["cyan"])
    assert list(again["p_red"]) == list(submission["red"])

    # The same networks where labels are submitted, scored as Kaggle would.
    sample = pd.DataFrame({"id": submission["id"], "label": "red"})
    write_table(paths.SAMPLE_SUBMISSION, sample)
    asked = made.config.ensemble.model_copy(update={"metric": "macro_f1", "blend": "auto"})
    ensemble.run(asked, ["one", "two"], [0, 1, 2])
    card = read_card(paths.card("tiny"))
    assert not set(read_csv(paths.submission("tiny"))["label"]) & set(RARE)
    assert "stack" not in {each.blend for each in card.blend.candidates}
    assert 0.4 < card.metric.value <= 0.5  # three of six classes are never right
    with pytest.raises(EnsembleError, match="stack fits each class, and too few groups have cyan"):
        ensemble.run(asked.model_copy(update={"blend": "stack"}), ["one", "two"], [0, 1, 2])


def pictures_in(path: Path) -> list[bytes]:
    with zipfile.ZipFile(path) as file:
        return [file.read(name) for name in sorted(file.namelist())]
