"""Drift is a difference between train and test beyond that between any two sets of patients."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import EnsembleError, TableError
from pipeline.ensemble.forecast import drift
from pipeline.ensemble.forecast.drift import measure_drift, pool_rows
from pipeline.scoring.card import Drift

PATIENTS, ROWS = 30, 12


def images(rng: np.random.Generator, patients: int, brighter: float = 0.0) -> Any:
    """Patients with a stain of their own, which differs far more than the cells of one patient."""
    stain = rng.normal(120, 25, (patients, 1, 1, 1, 3)) + brighter
    noise = rng.normal(0, 6, (patients, ROWS, 8, 8, 3))
    return np.clip(stain + noise, 0, 255).astype(np.uint8).reshape(-1, 8, 8, 3)


def measure(folder: Path, train: Any, test: Any, splits: int = 19, **columns: Any) -> Drift:
    return measure_both(folder, train, test, splits, **columns)[0]


def measure_both(
    folder: Path, train: Any, test: Any, splits: int = 19, **columns: Any
) -> tuple[Drift, dict[str, float]]:
    np.save(folder / "train.npy", train)
    np.save(folder / "test.npy", test)
    tables = [
        pd.DataFrame(
            {"image_id": [str(n) for n in range(len(rows))]}
            | {name: list(values[place])[: len(rows)] for name, values in columns.items()}
        )
        for place, rows in enumerate((train, test))
    ]
    groups = [f"P{row // ROWS:03}" for row in range(len(train))]
    found = measure_drift(folder / "train.npy", folder / "test.npy", *tables, groups, splits, 1)
    assert found is not None
    return found


def test_too_few_groups_are_not_measured(tmp_path: Path) -> None:
    rows = pd.DataFrame(index=range(50))
    groups = [str(row % 5) for row in range(50)]
    assert measure_drift(tmp_path / "a.npy", tmp_path / "b.npy", rows, rows, groups, 19, 1) is None


@pytest.mark.parametrize(
    ("train", "test"), [(48, 6), (18, 200)], ids=["few test rows", "few training groups"]
)
def test_chance_may_put_all_rows_of_a_split_into_one_fold(
    tmp_path: Path, train: int, test: int
) -> None:
    """Of 60 splits some do, and are dealt again: a classifier needs rows of both."""
    rng = np.random.default_rng(0)
    tables = []
    for name, rows in (("train", train), ("test", test)):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(rows, 20, 1)).astype(np.float32))
        tables.append(pd.DataFrame(index=range(rows)))
    places = tmp_path / "train.npy", tmp_path / "test.npy"
    found = measure_drift(*places, *tables, list(map(str, range(train))), 60, 3)
    assert found is not None
    assert not found[0].weighted
    few = tables[1].head(5)
    assert measure_drift(*places, tables[0], few, list(map(str, range(train))), 60, 3) is None


@pytest.mark.parametrize(("rows", "measured"), [(20_000, False), (2_300, True)])
def test_a_group_that_has_nearly_all_rows_is_measured_where_six_others_are_drawn(
    tmp_path: Path, rows: int, measured: bool
) -> None:
    """Of 2,000 drawn rows it may be the only group, and then nothing can be held back."""
    rng = np.random.default_rng(1)
    groups = ["large"] * rows + [f"small {number}" for number in range(20)]
    tables = []
    for name, count in (("train", len(groups)), ("test", 300)):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(count, 4, 1)).astype(np.float32))
        tables.append(pd.DataFrame(index=range(count)))
    places = tmp_path / "train.npy", tmp_path / "test.npy"
    found = measure_drift(*places, *tables, groups, 19, 1)
    assert (found is not None) == measured
    if found is not None:
        assert set(found[1]) == set(groups)
        assert np.isfinite(list(found[1].values())).all()
        assert not found[0].weighted


def test_other_patients_alone_are_no_drift(tmp_path: Path) -> None:
    """Without the band, an AUC above 0.6 would be called drift in 3 or more of 8 draws."""
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        found.append(measure(tmp_path, images(rng, PATIENTS), images(rng, 10)))
    assert sum(each.weighted for each in found) <= 1
    assert sum(each.auc > 0.6 for each in found) >= 3


def test_another_light_is_drift_and_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    found = measure(tmp_path, images(rng, PATIENTS), images(rng, 10, brighter=70))
    assert found.weighted
    assert found.p == 1 / 20
    assert found.auc > 0.9 > found.band[1]
    assert all("channel" in name for name in found.strongest)


def test_weights_favour_the_groups_that_look_like_test(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    train = np.concatenate([images(rng, PATIENTS // 2), images(rng, PATIENTS // 2, brighter=50)])
    _, weight_of = measure_both(tmp_path, train, images(rng, 10, brighter=50))
    weights = np.array([weight_of[f"P{patient:03}"] for patient in range(PATIENTS)])
    assert weights[PATIENTS // 2 :].mean() > 2 * weights[: PATIENTS // 2].mean()
    assert weights.mean() == pytest.approx(1)
    assert weights.min() > 0


def test_a_training_patient_is_never_recognised_by_its_other_rows() -> None:
    """Each patient has a mark: known from its other rows, it would distinguish all of train."""
    marks = np.repeat(np.eye(12), 20, axis=0)
    patients = np.repeat(np.arange(12), 20)
    nothing = np.zeros((80, 12))
    auc, odds = drift._distinguish(marks, nothing, patients, np.random.default_rng(1))
    assert auc < 0.7
    assert odds.min() > 0.5


def test_original_sizes_count_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    train, test = images(rng, PATIENTS), images(rng, 10)
    sizes = [str(size) for size in rng.integers(60, 70, len(train))]
    found = measure(tmp_path, train, test, width=(sizes, sizes), height=("8" * 360, "8" * 360))
    assert found.auc < 1
    found = measure(tmp_path, train, test, width=(["60"] * 360, ["90"] * 360))
    assert found.strongest[0] == "width"
    assert found.auc == 1.0


def test_the_same_seed_gives_the_same_drift(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    train, test = images(rng, PATIENTS), images(rng, 10)
    assert measure_both(tmp_path, train, test) == measure_both(tmp_path, train, test)


def test_pooled_features_are_numpys(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 256, (5, 9, 7, 3)).astype(np.uint8)
    np.save(tmp_path / "rows.npy", rows)
    names, values = pool_rows(tmp_path / "rows.npy", pd.DataFrame(index=range(5)), np.array([4, 1]))
    table = dict(zip(names, values.T, strict=True))
    for channel in range(3):
        own = rows[[4, 1], ..., channel].astype(float)
        flat = own.reshape(2, -1)
        steps = (
            np.abs(np.diff(own, axis=1)).mean(axis=(1, 2))
            + np.abs(np.diff(own, axis=2)).mean(axis=(1, 2))
        ) / 2
        np.testing.assert_allclose(table[f"mean of channel {channel}"], flat.mean(axis=1))
        np.testing.assert_allclose(table[f"spread of channel {channel}"], flat.std(axis=1))
        np.testing.assert_allclose(table[f"sharpness of channel {channel}"], steps, rtol=1e-5)
        median = np.quantile(flat, 0.5, axis=1, method="nearest")
        np.testing.assert_allclose(table[f"quantile 0.5 of channel {channel}"], median)


def test_signals_are_rows_as_well(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    found = measure(tmp_path, rng.normal(0, 1, (360, 178)), rng.normal(0, 3, (120, 178)))
    assert found.weighted
    assert found.auc > 0.95


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    np.save(tmp_path / "rows.npy", images(rng, 2))
    with pytest.raises(TableError, match=r"rows.npy: expected the 5 rows of its table, found 24"):
        pool_rows(tmp_path / "rows.npy", pd.DataFrame(index=range(5)), np.array([0]))
    with pytest.raises(EnsembleError, match=r"drift: expected the features \['mean of channel 0'"):
        measure(tmp_path, images(rng, 8), images(rng, 2)[..., :1])
