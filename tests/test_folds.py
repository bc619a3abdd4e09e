"""Folds: a partition that leaks neither a patient nor a near-duplicate."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tasks import any_of, number, one_of

from pipeline.core.errors import FoldError
from pipeline.core.task import Number, Task
from pipeline.split.folds import assign_folds, check_folds, join_groups, make_folds, summarise_folds

CLASSES = ["0", "1"]


def images_of(labels: list[int], groups: list[str], duplicates: dict[int, int]) -> pd.DataFrame:
    """A training table; duplicates: row -> the row that it equals."""
    ids = [f"train_{row:04}" for row in range(len(labels))]
    cluster = [ids[duplicates.get(row, row)] for row in range(len(ids))]
    return pd.DataFrame(
        {
            "image_id": ids,
            "row_id": ids,
            "label": [CLASSES[label] for label in labels],
            "group": groups,
            "duplicate": cluster,
            "pixels": cluster,
        }
    )


def drawn_images(seed: int, groups: int = 60) -> pd.DataFrame:
    """600 images of groups of unequal size and balance, with some duplicates across groups."""
    draw = np.random.default_rng(seed)
    group = draw.integers(groups, size=600)
    rate = draw.beta(2, 2, size=groups)
    labels = (draw.random(600) < rate[group]).astype(int)
    names = [f"patient_{number:02}" for number in group]
    return images_of(labels.tolist(), names, {100: 3, 200: 150, 599: 0})


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), folds=st.integers(2, 7))
def test_no_patient_and_no_duplicate_is_in_two_folds(seed: int, folds: int) -> None:
    images = drawn_images(seed)
    table = make_folds(images, one_of(CLASSES), folds, [seed])
    joined = table.merge(images, on="image_id", suffixes=("_joined", ""))
    for column in ("group", "duplicate", "group_joined"):
        assert (joined.groupby(column)["fold"].nunique() == 1).all()


def test_each_image_is_scored_once_in_each_repeat_and_folds_number_on() -> None:
    table = make_folds(drawn_images(1), one_of(CLASSES), 4, [5, 6, 7])
    assert sorted(table["fold"].unique()) == list(range(12))
    for repeat, part in table.groupby("repeat"):
        assert part["image_id"].is_unique
        assert len(part) == 600
        assert set(part["fold"]) == set(range(4 * repeat, 4 * repeat + 4))


def test_folds_are_stratified() -> None:
    spreads = []
    for seed in range(10):
        table = make_folds(drawn_images(seed, groups=200), one_of(CLASSES), 5, [seed])
        rates = (table["label"] == "1").groupby(table["fold"]).mean()
        spreads.append(rates.max() - rates.min())
    assert np.mean(spreads) < 0.03  # scikit-learn 1.7, which does not stratify here, has 0.1


def test_the_same_seed_gives_the_same_folds_and_another_gives_others() -> None:
    images = drawn_images(1)
    first = make_folds(images, one_of(CLASSES), 5, [1])
    assert first.equals(make_folds(images, one_of(CLASSES), 5, [1]))
    assert (first["fold"] != make_folds(images, one_of(CLASSES), 5, [2])["fold"]).any()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 12)), min_size=1, max_size=30
    )
)  # fmt: skip
def test_joined_groups_are_the_connected_components(rows: list[tuple[int, int]]) -> None:
    groups, clusters = (np.array(column) for column in zip(*rows, strict=True))
    reached = np.equal.outer(groups, groups) | np.equal.outer(clusters, clusters)
    for _ in rows:
        reached = reached @ reached
    joined = join_groups([f"g{g}" for g in groups], [f"c{c}" for c in clusters])
    same = np.equal.outer(np.array(joined), np.array(joined))
    assert (same == reached).all()


def test_a_joined_group_has_the_name_of_its_first_member() -> None:
    assert join_groups(["b", "a", "c"], ["x", "x", "y"]) == ["a", "a", "c"]


def test_a_class_with_fewer_groups_than_folds_is_refused() -> None:
    labels = ["no", "no", "no", "yes", "yes", "yes"]
    with pytest.raises(FoldError) as caught:
        assign_folds(one_of(["no", "yes"]), labels, ["a", "b", "c", "d", "d", "e"], 3, 1)
    assert str(caught.value) == (
        "class 'yes' has 3 images in 2 groups, fewer than the 3 parts that each need one: set epoch "
        "of a model to {rule: inner, folds: 2, patience: null}, or to {rule: last}, in params.yaml"
    )


def joined(patients: int, near: int = 0, equal: int = 0) -> pd.DataFrame:
    """Four images of each of 12 or fewer patients; the first ones of so many patients are alike."""
    rows = [(patient, number) for patient in range(patients) for number in range(4)]
    ids = [f"i{patient}_{number}" for patient, number in rows]

    def alike(most: int) -> list[str]:
        first = [number < 2 and patient < most for patient, number in rows]
        return ["i0_0" if is_alike else own for is_alike, own in zip(first, ids, strict=True)]

    columns = {"image_id": ids, "duplicate": alike(max(near, equal)), "pixels": alike(equal)}
    labels = [CLASSES[number % 2] for _, number in rows]
    groups = [f"p{patient:02}" for patient, _ in rows]
    return pd.DataFrame({**columns, "row_id": ids, "label": labels, "group": groups})


@pytest.mark.parametrize(
    ("images", "reason", "remedy"),
    [
        (joined(3), "found 6 of '0' in 3; the largest group, p00, holds 4 of 12 images.", "Set split.folds to 3 or less"),
        (joined(12, near=12), "found 24 of '0' in 1; the largest group, p00, holds 48 of 48 images, since nearly equal (prepare.near_duplicate) images join 12 groups, most of them the 24 images like i0_0: are they blank?", "Set prepare.near_duplicate to 0, and split.folds to 5 or less"),
        (joined(12, near=10), "holds 40 of 48 images, since nearly equal (prepare.near_duplicate) images join 10 groups", "Set split.folds to 3 or less"),
        (joined(12, equal=12), "since equal images join 12 groups", "Set prepare.groups to {source: none}, and split.folds to 5 or less"),
        (joined(1), "the largest group, p00, holds 4 of 4 images.", "Set prepare.groups to {source: none}, and split.folds to 2 or less"),
        (joined(1)[:2], "the largest group, p00, holds 2 of 2 images.", "No parameter helps: more different images of that class are needed"),
    ],
)  # fmt: skip
def test_too_few_groups_are_explained_by_what_joins_them_with_a_remedy_that_helps(
    images: pd.DataFrame, reason: str, remedy: str
) -> None:
    with pytest.raises(FoldError) as caught:
        make_folds(images, one_of(CLASSES), 5, [1])
    assert reason in str(caught.value)
    assert str(caught.value).endswith(f" {remedy}")


def break_folds(change: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    images = drawn_images(1)
    table = make_folds(images, one_of(CLASSES), 5, [1])
    match change:
        case "patient":
            place = table.index[0]
            table.loc[place, "fold"] = (table.loc[place, "fold"] + 1) % 5
        case "row":  # two images of one row, without other groups
            images["group"] = images["row_id"] = [f"r{place // 2}" for place in range(600)]
            table = images.assign(repeat=0, fold=[place % 5 for place in range(600)])
        case "duplicate":
            elsewhere = table.loc[table["fold"] != table["fold"].iloc[0], "image_id"].iloc[0]
            images.loc[images["image_id"] == elsewhere, "duplicate"] = "train_0000"
            table["group"] = table["image_id"]
            images["group"] = images["image_id"]
        case "missing":
            table = table.iloc[1:]
        case "class":
            table.loc[table["fold"] == 2, "label"] = "0"
    return table, images


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("patient", "1 of 60 groups are in two folds (first: patient_"),
        ("row", "300 of 300 groups are in two folds (first: r0, r1, r10)"),
        ("duplicate", "clusters of duplicates are in two folds (first: train_0000)"),
        ("missing", "1 images without a fold (first: train_0000). Run: dvc repro split"),
        (
            "class",
            "and none of class '1': change split.seeds, or lower split.folds if it is above 2",
        ),
    ],
)
def test_a_broken_invariant_is_found(change: str, message: str) -> None:
    table, images = break_folds(change)
    with pytest.raises(FoldError) as caught:
        check_folds(table, images, one_of(CLASSES))
    assert message in str(caught.value)


@pytest.mark.parametrize("column", ["group", "label"])
def test_the_images_of_a_row_have_one_group_and_one_label(column: str) -> None:
    images = drawn_images(1)
    rows = [f"r{place // 2}" for place in range(600)]
    images["row_id"] = rows
    images["group"] = rows if column == "label" else images["group"]
    images["label"] = "0" if column == "group" else images["label"]
    images.loc[[0, 1], column] = ["0", "1"]
    with pytest.raises(FoldError) as caught:
        make_folds(images, one_of(CLASSES), 5, [1])
    assert str(caught.value).startswith(
        f"data/store/train.csv: expected one {column} for all images of a row, found "
    )
    assert "of 300 rows otherwise (first: r0, r" in str(caught.value)


def test_the_summary_counts_what_is_there() -> None:
    images = drawn_images(1)
    table = make_folds(images, one_of(CLASSES), 5, [1])
    summary = summarise_folds(table, images, one_of(CLASSES))
    assert (summary.images, summary.groups, summary.grouped) == (600, 60, True)
    assert summary.groups_joined_by_duplicates == 60 - table["group"].nunique() > 0
    assert sum(fold.rows for fold in summary.folds) == 600
    assert sum(fold.classes["1"] for fold in summary.folds) == (images["label"] == "1").sum()
    assert all(sum(fold.shares.values()) == pytest.approx(1, abs=1e-5) for fold in summary.folds)


# Several labels, and numbers

LABELS = any_of("rare", "often", "half")


def labelled(task: Task, seed: int, groups: int) -> pd.DataFrame:
    """600 images of groups of unequal size, whose labels depend on the group."""
    generator = np.random.default_rng(seed)
    group = np.sort(generator.choice(groups, p=generator.dirichlet(np.full(groups, 5.0)), size=600))
    images = images_of([0] * 600, [f"p{name:03}" for name in group], {5: 3, 599: 0})
    if isinstance(task, Number):
        labels = generator.normal(size=groups)[group, None] + generator.normal(size=(600, 1))
    else:
        rates = generator.beta([0.5, 2, 4], [9.5, 2, 4], (groups, 3))[group]
        labels = generator.random((600, 3)) < rates
    return images.assign(label=task.decode(labels))


@pytest.mark.parametrize("task", [LABELS, number("age")])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), folds=st.integers(2, 7))
def test_groups_stay_whole_whatever_is_predicted(task: Task, seed: int, folds: int) -> None:
    images = labelled(task, seed, groups=60)
    table = make_folds(images, task, folds, [seed])
    assert set(table["fold"]) == set(range(folds))
    joined = table.merge(images, on="image_id", suffixes=("_joined", ""))
    for column in ("group", "duplicate", "group_joined"):
        assert (joined.groupby(column)["fold"].nunique() == 1).all()
    assert table.equals(make_folds(images, task, folds, [seed]))
    if task is LABELS:
        shares = pd.DataFrame([each.shares for each in summarise_folds(table, images, task).folds])
        assert set(shares) == {"rare", "often", "half"}


def test_each_labels_share_is_spread_over_the_folds() -> None:
    """Far better than by chance, which gives 0.075 of "half"."""
    spreads, sizes = [], []
    for seed in range(10):
        images = labelled(LABELS, seed, groups=200)
        folds = summarise_folds(make_folds(images, LABELS, 5, [seed]), images, LABELS).folds
        shares = pd.DataFrame([fold.shares for fold in folds])
        spreads.append(shares.max() - shares.min())
        sizes.append(max(fold.rows for fold in folds) - min(fold.rows for fold in folds))
    assert (pd.DataFrame(spreads).mean() < 0.03).all()
    assert np.mean(sizes) < 12


def test_numbers_are_spread_over_the_folds() -> None:
    """Their means differ by 0.4 by chance."""
    task, spreads = number("age"), []
    for seed in range(10):
        images = labelled(task, seed, groups=200)
        table = make_folds(images, task, 5, [seed])
        means = table["label"].astype(float).groupby(table["fold"]).mean()
        spreads.append(means.max() - means.min())
    assert np.mean(spreads) < 0.15
    assert summarise_folds(table, images, task).folds[0].classes == {}


@pytest.mark.parametrize("task", [LABELS, number("age")])
def test_fewer_groups_than_folds_are_refused_whatever_is_predicted(task: Task) -> None:
    images = labelled(task, 1, groups=4)  # two of them share a duplicate
    with pytest.raises(FoldError) as caught:
        make_folds(images, task, 4, [1])
    expected = (
        "data/store/train.csv: expected images in at least 4 groups, one for each fold; found"
    )
    assert str(caught.value).startswith(f"{expected} 600 in 3; the largest group, p00")
    assert str(caught.value).endswith("are they blank? Set split.folds to 3 or less")
    with pytest.raises(FoldError) as caught:
        assign_folds(task, list(images["label"]), ["a", "b"] * 300, 4, 1)
    assert str(caught.value) == (
        "2 groups are fewer than the 4 parts that each need one: set epoch of a model to "
        "{rule: inner, folds: 2, patience: null}, or to {rule: last}, in params.yaml"
    )
    assert set(make_folds(images, task, 3, [1])["fold"]) == {0, 1, 2}


def test_an_image_without_labels_and_a_label_without_images_are_no_fault() -> None:
    task = any_of("a", "never")
    images = labelled(LABELS, 1, groups=60).assign(label=["a", ""] * 300)
    table = make_folds(images, task, 3, [1])
    summary = summarise_folds(table, images, task).folds
    assert [fold.classes["never"] for fold in summary] == [0, 0, 0]
    assert sum(fold.classes["a"] for fold in summary) == 300
