"""The page says what the files say, whatever the files hold, and opens in a browser without a word."""

import io
import json
import re
import resource
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import NAMES, Browser, find_browser
from PIL import Image as Pillow
from project import ROOT, environment, make_project, run
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    precision_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from pipeline.core import paths
from pipeline.core.competition import Competition
from pipeline.core.errors import TableError
from pipeline.core.record import write_record
from pipeline.core.tables import FOLD_COLUMNS, IMAGE_COLUMNS, write_predictions, write_table
from pipeline.report import stage as report
from pipeline.report.diagnosis import (
    BINS,
    count_confusion,
    measure_reliability,
    report_classes,
    trace_roc,
)
from pipeline.report.facts import read_facts
from pipeline.report.gallery import MOST, SIDE_PX, closest_calls, picture, surest_mistakes
from pipeline.report.svg import scale
from pipeline.split.folds import summarise_folds

HOSTILE = "<script>alert('x')</script>\"&{{ 7*7 }}\u202e"
NAME = "made-up"


def make_outputs(
    folder: Path,
    classes: tuple[str, ...] = ("healthy", "ill"),
    rows: int = 240,
    grouped: bool = True,
    first_id: str = "img_000",
    models: tuple[str, ...] = ("vgg", "resnet"),
    side: int = 12,
) -> Path:
    """What all stages before `report` write, of made-up predictions, with every optional section."""
    generator = np.random.default_rng(7)
    ids = [first_id, *(f"img_{row:03}" for row in range(1, rows))]
    labels = generator.integers(len(classes), size=rows)
    groups = [f"p{row % 15:02}" for row in range(rows)] if grouped else ids
    folds = np.array([row % 15 % 3 if grouped else row % 3 for row in range(rows)])
    by_model = np.stack([_guess(labels, len(classes), generator) for _ in models])
    blended = by_model.mean(axis=0).round(9)
    blended[:, -1] = 1 - blended[:, :-1].sum(axis=1)

    store = folder / paths.STORE
    store.mkdir(parents=True, exist_ok=True)
    images = generator.integers(0, 256, (rows, side, side, 3), np.uint8)
    np.save(folder / paths.TRAIN_IMAGES, images)
    train = pd.DataFrame({name: [""] * rows for name in IMAGE_COLUMNS})
    train["image_id"], train["duplicate"], train["group"] = ids, ids, groups
    train["label"] = [classes[label] for label in labels]
    write_table(folder / paths.TRAIN_TABLE, train)
    write_record(
        folder / paths.COMPETITION,
        Competition(id_column="id", label_column="label", classes=list(classes)),
    )
    table = train[["image_id", "label", "group"]].assign(repeat=0, fold=folds)[FOLD_COLUMNS]
    write_table(folder / paths.FOLDS, table)
    write_record(folder / paths.FOLDS_SUMMARY, summarise_folds(table, train, list(classes)))
    write_predictions(folder / paths.ENSEMBLE_OOF, ids, blended, list(classes))
    for model in models:
        for fold in range(3):
            _write_history(folder / paths.model_folder(model, fold) / "history.csv", model, fold)
    accuracy = round(float((blended.argmax(1) == labels).mean()), 6)
    card = _card(accuracy, rows, len(set(groups)), models, by_model, labels, folds)
    card["test"] = {"rows": 40, "labels": dict.fromkeys(classes, 40 // len(classes))}
    _write_json(folder / paths.card(NAME), card)
    halves = {"public": (20, accuracy - 0.02), "private": (20, accuracy + 0.04)}
    _write_json(
        folder / paths.LEADERBOARD,
        {
            "submission": f"submissions/{NAME}.csv",
            "valid": True,
            "solution": {
                name: {"rows": count, "accuracy": round(score, 6)}
                for name, (count, score) in halves.items()
            },
        },
    )
    _write_json(folder / paths.AUDIT, _audit(rows, classes, ids, grouped))
    return folder


def _guess(labels: np.ndarray, classes: int, generator: np.random.Generator) -> np.ndarray:
    logits = generator.normal(0, 1.2, (len(labels), classes))
    logits[np.arange(len(labels)), labels] += 2
    powers = np.exp(logits)
    probabilities: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def _write_json(path: Path, tree: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree, indent=1, ensure_ascii=False))


def _write_history(path: Path, model: str, fold: int) -> None:
    epochs = np.arange(1, 9)
    history = pd.DataFrame(
        {
            "epoch": epochs,
            "lr": 0.004 * np.cos(epochs / 6) ** 2,
            "loss": 0.2 + 0.6 / epochs + 0.02 * fold,
            "accuracy": 0.95 - 0.4 / epochs - 0.01 * fold,
        }
    )
    if model == "resnet":
        history["inner_loss"], history["inner_accuracy"] = 0.3 + 0.4 / epochs, 0.9 - 0.3 / epochs
    write_table(path, history)


def _card(
    accuracy: float,
    rows: int,
    groups: int,
    models: tuple[str, ...],
    by_model: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
) -> dict[str, Any]:
    right = by_model.argmax(axis=2) == labels
    return {
        "name": NAME,
        "out_of_fold": {
            "accuracy": accuracy,
            "interval": [accuracy - 0.04, accuracy + 0.03],
            "confidence": 0.95,
            "interval_method": "percentile bootstrap of whole groups, 200 resamples",
            "log_loss": 0.31,
            "recall": {},
            "rows": rows,
            "of_images": rows,
            "groups": groups,
        },
        "metric": {
            "name": "accuracy",
            "value": accuracy,
            "interval": [accuracy - 0.04, accuracy + 0.03],
            "greater_is_better": True,
        },
        "blend": {
            "asked": "auto",
            "chosen": "mean",
            "why": "the simplest of 2 candidates, from simple to complex, and the best",
            "models": list(models),
            "weights": [1 / len(models)] * len(models),
            "calibration": "none",
            "temperature": None,
            "threshold": None,
            "unnested": accuracy + 0.004,
            "test": "McNemar, exact",
            "candidates": [
                {
                    "blend": kind,
                    "nested": accuracy - worse,
                    "unnested": accuracy + 0.004,
                    "better_than_best_by": -worse,
                    "interval": [-worse - 0.01, 0.008],
                    "p_value": 1.0 if not worse else 0.39,
                }
                for kind, worse in (("mean", 0.0), ("stack", 0.0042))
            ],
        },
        "diversity": {
            "pairs": [
                {
                    "models": list(models[:2]),
                    "disagreement": 0.1125,
                    "error_correlation": 0.41,
                    "both_wrong": 0.05,
                }
            ]
            if len(models) > 1
            else [],
            "each_model": [
                {"model": model, "score_without": accuracy - 0.01, "adds": 0.01 - 0.015 * place}
                for place, model in enumerate(models)
            ],
        },
        "forecast": {
            "metric": "accuracy",
            "confidence": 0.9,
            "public": [accuracy - 0.07, accuracy + 0.03],
            "private": [accuracy - 0.06, accuracy + 0.02],
            "mean": accuracy + 0.003,
            "shake_up": 0.031,
            "rows": {"public": 20, "private": 20},
            "assumptions": ["test groups are new", "public are 20 of the 40 test rows"],
        },
        "members": [
            {
                "model": model,
                "fold": fold,
                "accuracy": round(float(right[place, folds == fold].mean()), 6),
                "rows": int((folds == fold).sum()),
                "sha256": {"weights.safetensors": "ab" * 32},
            }
            for place, model in enumerate(models)
            for fold in range(3)
        ]
        + [{"model": "colleague", "from_elsewhere": True, "folds": "unchecked", "sha256": {}}],
        "sha256": {"submission": "0123456789abcdef" * 4, "folds": "fe" * 32},
    }


def _audit(rows: int, classes: tuple[str, ...], ids: list[str], grouped: bool) -> dict[str, Any]:
    size = {"min": 88.0, "median": 125.0, "max": 170.0}
    split = {
        "rows": rows,
        "classes": dict.fromkeys(classes, rows // len(classes)),
        "groups": 15 if grouped else rows,
        "width": size,
        "height": size,
        "modes": {"RGB": rows},
        "other_files": [],
    }
    cluster = {
        "image_ids": ids[:2],
        "kind": "file",
        "where": "train",
        "labels": list(classes[:2]),
        "groups": ["p00", "p01"],
        "conflicting_labels": True,
        "spans_groups": True,
    }
    return {
        "train": split,
        "test": split | {"rows": 40, "classes": {}, "groups": 0},
        "excluded": [{"image_id": ids[0], "reason": "truncated"}],
        "duplicates": {
            "clusters": 1,
            "images": 2,
            "largest": 2,
            "kind": {"file": 1, "pixels": 0, "near": 0},
            "where": {"train": 1, "test": 0, "both": 0},
            "conflicting_labels": 1,
            "spans_groups": 1,
        },
        "clusters": [cluster],
        "train_test_duplicates": {
            "sentence": "These test images are also in train.",
            "pairs": [{"test": "t_001", "train": ids[2:4], "kind": "near"}],
        },
        "conflicts": {
            "rule": "keep",
            "sentence": "Training images with the same pixels and different labels stay.",
            "excluded": 0,
            "same_pixels": [{"image_ids": ids[:2], "labels": list(classes[:2])}],
            "near": [],
        },
        "corrections": {
            "file": "corrections/made-up.csv",
            "count": 1,
            "by_class": {f"{classes[0]} → {classes[1]}": 1},
            "list": [
                {"image_id": ids[0], "old": classes[0], "new": classes[1], "reason": "a ring"}
            ],
        },
        "leaks": {
            "method": "ROC AUC of 16 bins over 5 folds",
            "checks": [
                {"name": "file size", "auc": 0.71, "chance": [0.45, 0.55], "flagged": True,
                 "sentence": "The file's size predicts the label with AUC 0.71."},
                {"name": "order", "auc": 0.5, "chance": [0.45, 0.55], "flagged": False,
                 "sentence": "The order predicts the label with AUC 0.50."},
                {"name": "number", "same_as": "order"},
            ],
            "constant": ["suffix"],
        },
    }  # fmt: skip


class Page(HTMLParser):
    """What a browser would make of the page: tags, texts, and the figures in <data>."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.figures: dict[str, float] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "data":
            self.figures[str(attributes["data-figure"])] = float(str(attributes["value"]))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory has all that the stage reads."""
    make_outputs(tmp_path)
    monkeypatch.chdir(tmp_path)


def build(**changes: Any) -> Page:
    """Run the stage in the working directory, made anew with other contents if asked."""
    if changes:
        make_outputs(Path(), **changes)
    report.run(NAME)
    return Page(paths.REPORT.read_text(encoding="utf-8"))


def edit(path: Path, *keys: str | int, value: Any = None, remove: bool = False) -> None:
    """Change or remove one place in a JSON file."""
    tree = place = json.loads(path.read_text())
    for key in keys[:-1]:
        place = place[key]
    if remove:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    path.write_text(json.dumps(tree))


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, float]:
    found = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= flatten(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def drawn(classes: int, rows: int = 400) -> tuple[np.ndarray, np.ndarray, list[str]]:
    generator = np.random.default_rng(classes)
    labels = generator.integers(classes, size=rows)
    return labels, _guess(labels, classes, generator), [f"c{n}" for n in range(classes)]


@pytest.mark.parametrize("classes", [2, 4])
def test_counts_and_rates_are_scikit_learns(classes: int) -> None:
    labels, probabilities, names = drawn(classes)
    predicted = probabilities.argmax(axis=1)
    confusion = count_confusion(labels, predicted, classes)
    np.testing.assert_array_equal(confusion, confusion_matrix(labels, predicted))
    for place, each in enumerate(report_classes(confusion, probabilities, labels, names)):
        truth, said = labels == place, predicted == place
        assert (each.rows, each.predicted) == (truth.sum(), said.sum())
        assert each.sensitivity == pytest.approx(recall_score(truth, said))
        assert each.specificity == pytest.approx(recall_score(~truth, ~said))
        assert each.precision == pytest.approx(precision_score(truth, said))
        assert each.roc_auc == pytest.approx(roc_auc_score(truth, probabilities[:, place]))


def test_a_class_that_is_never_seen_or_said_has_no_rates() -> None:
    labels, predicted = np.array([0, 0, 1]), np.array([0, 1, 0])
    probabilities = np.eye(3)[predicted]
    confusion = count_confusion(labels, predicted, 3)
    third = report_classes(confusion, probabilities, labels, ["a", "b", "c"])[2]
    assert np.isnan([third.sensitivity, third.precision, third.roc_auc]).all()
    assert third.specificity == 1


@pytest.mark.parametrize("classes", [2, 4])
def test_the_reliability_diagram_is_scikit_learns(classes: int) -> None:
    labels, probabilities, names = drawn(classes)
    predicted = probabilities.argmax(axis=1)
    found = measure_reliability(probabilities, predicted, labels, names)
    chance = probabilities[:, 1] if classes == 2 else probabilities.max(axis=1)
    truth = labels == 1 if classes == 2 else labels == predicted
    share, mean = calibration_curve(truth, chance, n_bins=BINS, strategy="uniform")
    filled = [each for each in found.bins if each.rows]
    np.testing.assert_allclose([each.mean for each in filled], mean)
    np.testing.assert_allclose([each.share for each in filled], share)
    assert sum(each.rows for each in found.bins) == len(labels)
    weights = [each.rows / len(labels) for each in filled]
    assert found.error == pytest.approx(weights @ np.abs(share - mean))


def test_the_probabilities_0_and_1_fall_into_the_outer_bins() -> None:
    sure = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = measure_reliability(sure, np.array([0, 1]), np.array([0, 1]), ["a", "b"])
    assert [each.rows for each in found.bins] == [1, *[0] * (BINS - 2), 1]
    assert found.error == 0


def test_the_roc_curve_is_scikit_learns_where_rows_tie_too() -> None:
    labels, probabilities, _ = drawn(2)
    chance = probabilities[:, 1].round(1)
    found = trace_roc(chance, labels == 1)
    false, true, _ = roc_curve(labels, chance, drop_intermediate=False)
    np.testing.assert_allclose(found.false_positive_rate, false)
    np.testing.assert_allclose(found.true_positive_rate, true)
    assert found.area == pytest.approx(roc_auc_score(labels, chance))


def test_each_figure_of_the_page_is_the_one_that_dvc_gets() -> None:
    page = build()
    figures = flatten(json.loads(report.METRICS.read_text()))
    assert page.figures == figures
    names = {name.split(".")[0] for name in figures}
    assert names == {
        "out_of_fold", "leaderboard", "folds", "sensitivity", "specificity", "roc_auc",
        "expected_calibration_error", "estimated_wrong_labels",
    }  # fmt: skip


def test_the_figures_are_those_of_the_files() -> None:
    page = build()
    oof, table = pd.read_csv(paths.ENSEMBLE_OOF), pd.read_csv(paths.FOLDS)
    predicted = np.where(oof["p_ill"] > 0.5, "ill", "healthy")
    labels = table.set_index("image_id").loc[oof["image_id"], "label"].to_numpy()
    assert page.figures["out_of_fold.accuracy"] == pytest.approx(
        accuracy_score(labels, predicted), abs=1e-6
    )
    for fold in (0, 1, 2):
        own = (table["fold"] == fold).to_numpy()
        assert page.figures[f"folds.{fold}"] == pytest.approx(
            accuracy_score(labels[own], predicted[own]), abs=1e-6
        )
    counts = confusion_matrix(labels, predicted)
    told = re.findall(r"<strong>([\d,]+)</strong>", paths.REPORT.read_text())
    assert [int(count.replace(",", "")) for count in told] == counts.ravel().tolist()
    plotted = pd.read_csv(report.CONFUSION)
    np.testing.assert_array_equal(confusion_matrix(plotted["actual"], plotted["predicted"]), counts)


def test_the_same_inputs_give_the_same_bytes_in_another_process() -> None:
    build()
    files = (paths.REPORT, report.METRICS, report.CONFUSION, report.RELIABILITY)
    before = [file.read_bytes() for file in files]
    code = f"from pipeline.report import stage as report; report.run({NAME!r})"
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "TZ": f"UTC+{seed}"}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        assert [file.read_bytes() for file in files] == before


def test_the_page_says_what_became_of_the_forecast() -> None:
    text = build().text
    assert "0.9342 on 20 images, inside the forecast" in text
    assert "0.9942 on 20 images, outside the forecast" in text
    edit(paths.card(NAME), "forecast", remove=True)
    text = build().text
    assert "0.9342 on 20 images" in text
    assert "the forecast" not in text
    edit(paths.LEADERBOARD, "solution", value=None)
    assert "no solution at hand: Kaggle will tell" in build().text


def test_ids_classes_and_reasons_of_strangers_are_text_and_nothing_else() -> None:
    """An id goes into galleries, tables and attributes; a class into charts too."""
    make_outputs(Path(), classes=(HOSTILE, "ill"), first_id=HOSTILE)
    edit(paths.AUDIT, "excluded", 0, "reason", value=HOSTILE)
    edit(paths.AUDIT, "leaks", "checks", 0, "sentence", value=HOSTILE)
    edit(paths.card(NAME), "blend", "why", value=HOSTILE)
    edit(paths.card(NAME), "forecast", "assumptions", value=[HOSTILE])
    page = build()
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "iframe", "object", "link rel", "base", "form"}
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert page.text.count(HOSTILE) > 10
    assert "{{ 49 }}" not in page.text
    assert HOSTILE not in paths.REPORT.read_text()
    assert any(HOSTILE in str(each.get("alt")) for each in page.all("img"))


def test_the_page_fetches_nothing_and_runs_nothing() -> None:
    page = build()
    addresses = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data")
    ]
    assert addresses
    assert all(str(address).startswith(("data:", "#")) for address in addresses)
    assert "url(" not in paths.REPORT.read_text()
    assert "default-src 'none'" in str(page.all("meta")[1]["content"])


def test_the_page_can_be_read_without_seeing_it() -> None:
    page = build()
    assert page.all("html") == [{"lang": "en"}]
    assert f"{NAME}: accuracy 0.95" in page.text
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(each["alt"] for each in page.all("img"))
    assert all(each["scope"] in ("col", "row") for each in page.all("th"))
    charts = [each for each in page.all("svg") if each.get("aria-hidden") != "true"]
    assert len(charts) >= 8
    assert all(each["role"] == "img" and each["aria-label"] for each in charts)
    names = [str(a["id"]) for _, a in page.tags if "id" in a]
    assert len(names) == len(set(names))
    links = [str(each["href"])[1:] for each in page.all("a")]
    assert set(links) == set(names)


@pytest.mark.parametrize(
    ("file", "keys", "gone"),
    [
        ("card", ["forecast"], "What the forecast takes for granted"),
        ("card", ["diversity"], "correlation of errors"),
        ("card", ["blend"], "Candidates"),
        ("card", ["blend", "candidates"], "Candidates"),
        ("card", ["blend", "weights"], "all weight"),
        ("card", ["metric"], None),
        ("card", ["sha256", "submission"], "expected: "),
        ("audit", ["conflicts"], "Conflicting labels"),
        ("audit", ["corrections"], "Corrected labels"),
        ("audit", ["leaks"], "Leaks"),
        ("audit", ["train_test_duplicates"], "also in train"),
        ("audit", ["train", "width"], "width, px"),
    ],
)
def test_a_section_that_is_not_there_yet_is_left_out(
    file: str, keys: list[str], gone: str | None
) -> None:
    path = {"card": paths.card(NAME), "audit": paths.AUDIT}[file]
    before = build()
    edit(path, *keys, remove=True)
    after = build()
    assert after.figures == before.figures
    if gone:
        assert gone in before.text
        assert gone not in after.text


def test_a_card_of_the_first_version_makes_a_page() -> None:
    """As commit 70bdeb3 wrote it: the blend's name alone, no metric, no diversity, no forecast."""
    card = json.loads(paths.card(NAME).read_text())
    first = {key: card[key] for key in ("name", "out_of_fold", "test", "members", "sha256")}
    first["blend"] = "mean"
    first["members"] = [member | {"weight": 1} for member in card["members"][:3]]
    paths.card(NAME).write_text(json.dumps(first))
    audit = json.loads(paths.AUDIT.read_text())
    for later in ("conflicts", "corrections", "leaks", "train_test_duplicates"):
        del audit[later]
    paths.AUDIT.write_text(json.dumps(audit))
    text = build().text
    assert "Blend: mean ." in text
    assert "One model: each image of test gets the mean over its networks" in text


def test_unknown_keys_of_a_later_card_pass() -> None:
    before = build()
    edit(paths.card(NAME), "forecast", "something_new", value=[1, {"a": 2}])
    edit(paths.card(NAME), "verdict", value={"a": 1})
    assert build().text == before.text


def test_five_classes_without_groups_make_a_page() -> None:
    page = build(classes=("a", "b", "c", "d", "e"), grouped=False, rows=300)
    assert "300 training images, 5 classes" in page.text
    assert "ROC curve" not in page.text
    assert "Hardest groups" not in page.text
    assert "probability of the predicted class" in page.text
    assert len([name for name in page.figures if name.startswith("roc_auc.")]) == 5


def test_a_quick_look_at_one_fold_says_that_it_is_one() -> None:
    table = pd.read_csv(paths.FOLDS)
    kept = set(table.loc[table["fold"] == 0, "image_id"])
    oof = pd.read_csv(paths.ENSEMBLE_OOF, dtype=str)
    oof = oof[oof["image_id"].isin(kept)]
    write_table(paths.ENSEMBLE_OOF, oof)
    labels = table.set_index("image_id").loc[oof["image_id"], "label"]
    right = (oof["p_ill"].astype(float) > 0.5).to_numpy() == (labels == "ill").to_numpy()
    edit(paths.card(NAME), "out_of_fold", "rows", value=len(oof))
    edit(paths.card(NAME), "out_of_fold", "accuracy", value=float(right.mean()))
    page = build()
    assert "Only 80 of 240 training images are scored: not all folds were trained." in page.text
    assert {name for name in page.figures if name.startswith("folds.")} == {"folds.0"}


def test_folds_of_another_repeat_have_no_score_of_the_rows_that_they_share() -> None:
    """Fold 0 alone was trained; the second repeat's folds hold some of its images."""
    test_a_quick_look_at_one_fold_says_that_it_is_one()
    table = pd.read_csv(paths.FOLDS, dtype=str)
    again = table.assign(repeat="1", fold=[str(3 + row % 2) for row in range(len(table))])
    write_table(paths.FOLDS, pd.concat([table, again]))
    summary = json.loads(paths.FOLDS_SUMMARY.read_text())
    summary["folds"] += [
        summary["folds"][0] | {"fold": fold, "repeat": 1, "rows": 120} for fold in (3, 4)
    ]
    paths.FOLDS_SUMMARY.write_text(json.dumps(summary))
    page = build()
    assert {name for name in page.figures if name.startswith("folds.")} == {"folds.0"}
    assert "fold repeat images" in page.text


def test_only_flagged_traces_count_as_leaks() -> None:
    text = build().text
    assert "1 trace of the files predicts the label. The file's size predicts" in text
    edit(paths.AUDIT, "leaks", "checks", 0, "flagged", value=False)
    assert "Nothing about the files themselves predicts the label." in build().text


def test_doubtful_labels_are_marked_and_stand_once() -> None:
    """30 of 240 labels are turned: sure mistakes, and more doubtful labels than these show."""
    folds, train = pd.read_csv(paths.FOLDS), pd.read_csv(paths.TRAIN_TABLE)
    oof = pd.read_csv(paths.ENSEMBLE_OOF)
    sure = (oof["p_ill"] - 0.5).abs().sort_values().index[-30:]
    turned = folds["label"].copy()
    turned[sure] = turned[sure].map({"ill": "healthy", "healthy": "ill"})
    write_table(paths.FOLDS, folds.assign(label=turned))
    write_table(paths.TRAIN_TABLE, train.assign(label=turned))
    right = (oof["p_ill"] > 0.5) == (turned == "ill")
    edit(paths.card(NAME), "out_of_fold", "accuracy", value=float(right.mean()))
    page = build()
    start, more, end = (
        page.text.index(title) for title in ("Surest mistakes", "More doubtful", "Closest calls")
    )
    ranks = [int(rank) for rank in re.findall(r"doubtful #(\d+)", page.text[start:end])]
    assert len(set(ranks)) == len(ranks) > MOST
    later = [int(rank) for rank in re.findall(r"doubtful #(\d+)", page.text[more:end])]
    assert later == sorted(later)
    assert 25 <= page.figures["estimated_wrong_labels"] <= 40


def test_a_fitted_threshold_decides_the_classes_of_the_page() -> None:
    edit(paths.card(NAME), "blend", "threshold", value=0.2)
    page = build()
    oof = pd.read_csv(paths.ENSEMBLE_OOF)
    labels = pd.read_csv(paths.FOLDS).set_index("image_id").loc[oof["image_id"], "label"]
    assert page.figures["sensitivity.ill"] == pytest.approx(
        recall_score(labels == "ill", oof["p_ill"] >= 0.2), abs=1e-6
    )
    assert "from a probability of 0.200 on, as in the submission" in page.text


def test_another_metric_is_the_pages_figure() -> None:
    metric = {"name": "roc_auc", "value": 0.987654, "interval": [0.97, 0.99]}
    edit(paths.card(NAME), "metric", value=metric)
    page = build()
    assert page.figures["out_of_fold.roc_auc"] == 0.987654
    assert "roc auc" in page.text
    oof = pd.read_csv(paths.ENSEMBLE_OOF)
    table = pd.read_csv(paths.FOLDS)
    own = (table["fold"] == 1).to_numpy()
    assert page.figures["folds.1"] == pytest.approx(
        roc_auc_score(table["label"][own] == "ill", oof["p_ill"][own]), abs=1e-6
    )
    # The halves were scored by accuracy, in another run: no figure of this metric.
    assert not [name for name in page.figures if name.startswith("leaderboard")]
    assert "Labels submitted" in page.text
    edit(paths.LEADERBOARD, "solution", "public", value={"rows": 20, "roc_auc": 0.975})
    edit(paths.card(NAME), "test", "holds", value="probability")
    page = build()
    assert page.figures["leaderboard.public"] == 0.975
    assert "Probabilities submitted; most probable" in page.text


def test_the_galleries_show_the_surest_mistakes_and_the_closest_calls() -> None:
    rows = read_facts(NAME).rows
    names = np.array(rows.image_ids)
    wrong = rows.predicted != rows.labels
    sureness = rows.probabilities.max(axis=1)
    mistakes = surest_mistakes(rows)
    assert set(mistakes) == set(np.flatnonzero(wrong))
    assert (np.diff(sureness[mistakes]) <= 0).all()
    closest = closest_calls(rows, None)
    assert (np.diff(np.abs(rows.probabilities[closest, 1] - 0.5)) >= 0).all()
    at_a_fifth = closest_calls(rows, 0.2)
    assert (np.diff(np.abs(rows.probabilities[at_a_fifth, 1] - 0.2)) >= 0).all()
    shown = [str(each["alt"]).split(":")[0] for each in build().all("img")]
    expected = [*names[mistakes[:MOST]], *names[closest[:MOST]]]
    assert shown[: len(mistakes[:MOST])] == expected[: len(mistakes[:MOST])]
    assert shown[-MOST:] == expected[-MOST:]


def test_equally_sure_images_stand_by_id() -> None:
    """Whatever order the table has, the same images are shown."""
    oof = pd.read_csv(paths.ENSEMBLE_OOF, dtype=str)
    oof["p_healthy"], oof["p_ill"] = "0.4", "0.6"
    labels = pd.read_csv(paths.FOLDS)["label"]
    edit(paths.card(NAME), "out_of_fold", "accuracy", value=float((labels == "ill").mean()))
    write_table(paths.ENSEMBLE_OOF, oof)
    rows = read_facts(NAME).rows
    places = surest_mistakes(rows), closest_calls(rows, None)
    forward = [[rows.image_ids[place] for place in each] for each in places]
    write_table(paths.ENSEMBLE_OOF, oof.iloc[::-1])
    rows = read_facts(NAME).rows
    places = surest_mistakes(rows), closest_calls(rows, None)
    assert [[rows.image_ids[place] for place in each] for each in places] == forward


def test_a_picture_is_the_stored_image() -> None:
    images = np.load(paths.TRAIN_IMAGES)
    decoded = Pillow.open(io.BytesIO(b64decode(picture(images[3]).split(",")[1])))
    np.testing.assert_array_equal(np.asarray(decoded), images[3])
    page = build()
    shown = {str(each["alt"]).split(":")[0]: each["src"] for each in page.all("img")}
    for name, source in shown.items():
        assert source == picture(images[int(name[4:])])


def test_grey_images_and_large_ones_and_signals_have_pictures() -> None:
    generator = np.random.default_rng(0)
    grey = picture(generator.integers(0, 256, (20, 30, 1), np.uint8))
    assert grey.startswith("data:image/png;base64,")
    large = picture(generator.integers(0, 256, (300, 400, 3), np.uint8))
    assert 72 * len(large) < 3_000_000
    assert (
        len(large) < len(picture(generator.integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8))) * 1.1
    )
    assert "<polyline" in picture(generator.normal(size=178))
    assert "<polyline" in picture(np.zeros((178, 1), np.float32))
    assert len(picture(generator.normal(size=(100_000, 1)))) < 5_000


def test_a_signals_page_has_curves_in_the_place_of_pictures() -> None:
    rows = len(np.load(paths.TRAIN_IMAGES))
    np.save(paths.TRAIN_IMAGES, np.random.default_rng(1).normal(size=(rows, 178)))
    page = build()
    assert not page.all("img")
    assert len([each for each in page.all("svg") if each["class"] == "chart signal"]) >= MOST


@pytest.mark.parametrize(
    "values", [[0.9681], [0.0], [0.9, 0.91], [-3.0, 12.5], [1e-6, 4e-3], [np.nan, 2.0], []]
)
def test_an_axis_holds_its_values_at_round_ticks(values: list[float]) -> None:
    axis = scale(values, "x")
    known = [value for value in values if np.isfinite(value)]
    assert all(axis.low - 1e-9 <= value <= axis.high + 1e-9 for value in known)
    assert 2 <= len(axis.ticks) <= 12
    texts = [axis.text(tick) for tick in axis.ticks]
    assert len(set(texts)) == len(texts)


def test_no_chart_draws_a_place_that_is_no_number() -> None:
    """A fold whose curve has a gap, a single epoch, bins without images."""
    history = Path("models/vgg/fold0/history.csv")
    table = pd.read_csv(history, dtype=str)
    table.loc[2, "loss"] = "nan"
    write_table(history, table)
    write_table(Path("models/vgg/fold1/history.csv"), table.head(1))
    page = build()
    assert "nan" not in page.text.lower().split()
    drawn = [value for tag, a in page.tags for name, value in a.items()
             if name in ("points", "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "width", "height")]  # fmt: skip
    assert len(drawn) > 200
    assert not [value for value in drawn if "nan" in str(value) or "inf" in str(value)]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (paths.COMPETITION, "data/store/competition.json: no such file. Run: dvc repro prepare"),
        (paths.card(NAME), "submissions/made-up.json: no such file. Run: dvc repro ensemble"),
        (paths.LEADERBOARD, "reports/leaderboard.json: no such file. Run: dvc repro check"),
        (paths.FOLDS_SUMMARY, "folds/summary.json: no such file. Run: dvc repro split"),
        (paths.AUDIT, "data/audit.json: no such file. Run: dvc repro prepare"),
        (paths.ENSEMBLE_OOF, "ensemble/oof.csv: no such file. Run: dvc repro"),
        (Path("models/vgg/fold1/history.csv"), "models/vgg/fold1/history.csv: no such file"),
    ],
)
def test_a_missing_file_is_named_with_the_command_that_makes_it(
    missing: Path, message: str
) -> None:
    missing.unlink()
    with pytest.raises(Exception, match=re.escape(message)):
        report.run(NAME)
    assert not paths.REPORT.exists()


def test_a_section_of_another_shape_is_an_error_and_no_gap() -> None:
    edit(paths.card(NAME), "forecast", "public", value="0.9 to 0.95")
    with pytest.raises(TableError) as caught:
        report.run(NAME)
    assert str(caught.value) == (
        "submissions/made-up.json: forecast.public: Input should be a valid array, "
        "found '0.9 to 0.95'. Run: dvc repro --force ensemble"
    )
    paths.AUDIT.write_text("{")
    with pytest.raises(TableError, match=r"audit.json: Invalid JSON: .*--force prepare"):
        read_facts_without_forecast()


def read_facts_without_forecast() -> None:
    edit(paths.card(NAME), "forecast", remove=True)
    read_facts(NAME)


def test_files_of_different_runs_are_refused() -> None:
    edit(paths.card(NAME), "out_of_fold", "accuracy", value=0.5)
    with pytest.raises(TableError, match=r"expected the accuracy of ensemble/oof.csv, 0\.9\d+ on "
                       r"240 rows, found 0.500000 on 240: they are of different runs"):  # fmt: skip
        report.run(NAME)
    make_outputs(Path(), rows=239)
    np.save(paths.TRAIN_IMAGES, np.zeros((240, 8, 8, 3), np.uint8))
    with pytest.raises(TableError, match=r"train.npy: expected the 239 rows of .* found 240"):
        report.run(NAME)
    oof = pd.read_csv(paths.ENSEMBLE_OOF, dtype=str)
    oof.loc[5, "image_id"] = "stranger"
    write_table(paths.ENSEMBLE_OOF, oof)
    with pytest.raises(TableError, match=r"found 1 of 239 others \(first: stranger\)"):
        report.run(NAME)


def test_a_history_that_is_none_is_named() -> None:
    history = Path("models/vgg/fold1/history.csv")
    history.write_text("step,loss\n1,0.5\n")
    with pytest.raises(TableError, match=r"fold1/history.csv: expected a column epoch, found "
                       r"\['step', 'loss'\]. Run: dvc repro --force train@vgg-1"):  # fmt: skip
        report.run(NAME)
    history.write_text("epoch,loss\n1,low\n")
    with pytest.raises(TableError, match=r"fold1/history.csv: expected numbers: .*low"):
        report.run(NAME)


def test_a_long_list_is_cut_and_says_so() -> None:
    excluded = [{"image_id": f"broken_{n}", "reason": "truncated"} for n in range(60)]
    edit(paths.AUDIT, "excluded", value=excluded)
    text = build().text
    assert "The first 50 of 60 training images that cannot be read" in text
    assert "broken_49" in text
    assert "broken_50" not in text


def test_the_stage_starts_without_heavy_libraries() -> None:
    heavy = "torch timm albumentations cv2 sklearn scipy matplotlib"
    code = (
        "import sys, pipeline.report.stage\n"
        f"sys.exit(' '.join(set(sys.modules) & set({heavy.split()!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""


@pytest.mark.slow
def test_dvc_metrics_and_plots_show_the_figures_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path / "project")
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("name: tiny", f"name: {NAME}"))
    make_outputs(project)
    monkeypatch.chdir(project)
    page = build()
    shown = subprocess.run(
        ["dvc", "metrics", "show", "--json"], capture_output=True, text=True, check=True,
        env=environment(),
    ).stdout  # fmt: skip
    files = json.loads(shown)[""]["data"]
    assert flatten(files[str(report.METRICS)]["data"]) == page.figures
    solution = files[str(paths.LEADERBOARD)]["data"]["solution"]
    assert solution["public"]["accuracy"] == page.figures["leaderboard.public"]
    done = run(project, "dvc", "plots", "show", "reports/confusion.csv", "reports/reliability.csv")
    assert done.returncode == 0, done.stdout
    drawn = (project / "dvc_plots/index.html").read_text()
    assert '"actual": "healthy"' in drawn
    assert '"share":' in drawn


@pytest.mark.slow
def test_a_competition_of_22000_images_takes_less_than_ten_seconds_and_five_megabytes() -> None:
    make_outputs(Path(), rows=22_000, side=64)
    code = f"from pipeline.report import stage as report; report.run({NAME!r})"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = environment() | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Seconds of the processor: other programs of the machine do not count.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10
    assert paths.REPORT.stat().st_size < 5_000_000


LUMINANCE = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const behind = (element) => {
    let layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    let colour = [255, 255, 255];
    for (const [r, g, b, a] of layers.reverse())
      colour = [r, g, b].map((value, i) => value * a / 255 + colour[i] * (1 - a / 255));
    return colour;
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const poor = [];
  for (const details of document.querySelectorAll("details")) details.open = true;
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own) continue;
    const style = getComputedStyle(element);
    const ink = rgba(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const [one, other] = [light(ink), light(behind(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < 4.5) poor.push(element.textContent.trim().slice(0, 40) + " " + ratio.toFixed(2));
  }
  return poor;
})()
"""
"""Texts whose contrast with what is behind them is below 4.5 to 1 (WCAG 2.2, 1.4.3)."""

OVERLAPS = """
[...document.querySelectorAll("svg.chart")].flatMap(chart => {
  const boxes = [...chart.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
  return boxes.flatMap(([one, a], i) => boxes.slice(i + 1)
    .filter(([, b]) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)
    .map(([other]) => one + " | " + other));
})
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip(
            f"no browser in PATH: none of {', '.join(NAMES)}. On Debian: apt install chromium"
        )
    opened = Browser(program, tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


CONTENTS: dict[str, dict[str, Any]] = {
    "two classes": {},
    "five classes, no groups": {
        "classes": ("a", "b", "c", "d", "a class with quite a long name"),
        "grouped": False,
    },
    "hostile": {"classes": (HOSTILE * 3, "ill"), "first_id": HOSTILE * 20},
    "one model": {"models": ("vgg",)},
}


@pytest.mark.slow
@pytest.mark.parametrize("content", CONTENTS)
def test_a_browser_shows_the_page_without_a_word_at_any_width(
    browser: Browser, content: str
) -> None:
    build(**({"rows": 240} | CONTENTS[content]))
    for width, dark in ((1200, False), (1200, True), (768, False), (360, False)):
        browser.open(paths.REPORT, width, dark)
        assert browser.complaints() == []
        assert browser.requests() == [paths.REPORT.resolve().as_uri()]
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        pictures = browser.evaluate("[...document.images].map(each => each.naturalWidth)")
        assert len(pictures) > MOST
        assert all(pictures)
        assert browser.evaluate(
            "[...document.querySelectorAll('svg')].every(e => e.getBoundingClientRect().width > 60)"
        )
        assert browser.evaluate(OVERLAPS) == []
        assert browser.evaluate(LUMINANCE) == []
        assert browser.evaluate("document.documentElement.scrollWidth") <= width  # details open


@pytest.mark.slow
def test_what_a_browser_would_complain_of_is_seen(browser: Browser, tmp_path: Path) -> None:
    """The checks above can fail."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<style>p { color: #999; background: #fff; width: 500px }</style><p>pale</p>"
        "<img src='http://127.0.0.1:9/x.png' alt='x'>"
    )
    browser.open(page, 360)
    assert browser.complaints()
    assert len(browser.requests()) == 2
    assert browser.evaluate("document.images[0].naturalWidth") == 0
    assert browser.evaluate("document.documentElement.scrollWidth") > 360
    assert len(browser.evaluate(LUMINANCE)) == 1
