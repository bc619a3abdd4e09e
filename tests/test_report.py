"""The page says what the files say, whatever they contain, and a browser shows it without errors."""

import io
import json
import re
import resource
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import NAMES, Browser, find_browser
from cards import make_audit, make_card, make_explanation, make_leaderboard
from dvc_render import VegaRenderer
from PIL import Image as Pillow
from project import ROOT, environment, make_project, run
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score, roc_auc_score
from tasks import one_of

from pipeline.core import paths
from pipeline.core.competition import Competition, ImageDecoding, SignalDecoding, write_decoding
from pipeline.core.errors import TableError
from pipeline.core.record import write_record
from pipeline.core.tables import (
    FOLD_COLUMNS,
    IMAGE_COLUMNS,
    predictions_file,
    write_predictions,
    write_table,
)
from pipeline.report import seen
from pipeline.report import stage as report
from pipeline.report.facts import read_facts
from pipeline.report.gallery import MOST, closest_decisions, confident_mistakes, picture
from pipeline.scoring.card import Card, FittedLogistic, read_card
from pipeline.scoring.seen import SEEN
from pipeline.split.folds import summarise_folds

HOSTILE = "<script>alert('x')</script>\"&{{ 7*7 }}\u202e"
NAME = "made-up"
SEEN_VGG = paths.explained("vgg") / SEEN


def make_outputs(
    folder: Path,
    classes: tuple[str, ...] = ("healthy", "ill"),
    rows: int = 240,
    grouped: bool = True,
    first_id: str = "img_000",
    models: tuple[str, ...] = ("vgg", "resnet"),
    side: int = 12,
) -> Path:
    """The outputs of all stages before `report`, with made-up predictions in every section."""
    generator = np.random.default_rng(7)
    ids = [first_id, *(f"img_{row:03}" for row in range(1, rows))]
    labels = generator.integers(len(classes), size=rows)
    groups = [f"p{row % 15:02}" for row in range(rows)] if grouped else ids
    folds = np.array([row % 15 % 3 if grouped else row % 3 for row in range(rows)])
    powers = []
    for _ in models:  # mostly right
        logits = generator.normal(0, 1.2, (rows, len(classes)))
        logits[np.arange(rows), labels] += 2
        powers.append(np.exp(logits))
    by_model = np.stack([each / each.sum(axis=1, keepdims=True) for each in powers])
    blended = by_model.mean(axis=0).round(9)
    blended[:, -1] = 1 - blended[:, :-1].sum(axis=1)

    images = generator.integers(0, 256, (rows, side, side, 3), np.uint8)
    train = pd.DataFrame({name: [""] * rows for name in IMAGE_COLUMNS})
    train["width"] = train["height"] = "4"
    train["image_id"] = train["row_id"] = train["duplicate"] = ids
    train["group"] = groups
    train["label"] = [classes[label] for label in labels]
    write_table(folder / paths.TRAIN_TABLE, train)
    np.save(folder / paths.TRAIN_IMAGES, images)
    rgb = ImageDecoding(size_px=side, channels=3, fit="stretch", black_white=None)
    write_decoding(folder / paths.DECODING, rgb)
    write_record(
        folder / paths.COMPETITION,
        Competition(id_column="id", label_column="label", task=one_of(classes, True)),
    )
    table = train[["image_id", "label", "group"]].assign(repeat=0, fold=folds)[FOLD_COLUMNS]
    write_table(folder / paths.FOLDS, table)
    write_record(folder / paths.FOLDS_SUMMARY, summarise_folds(table, train, one_of(classes)))
    task = one_of(classes)
    write_predictions(predictions_file(folder / paths.ENSEMBLE_OOF, task), ids, blended, task)
    for model in models:
        for fold in range(3):
            epochs = np.arange(1, 9)
            history = pd.DataFrame({"epoch": epochs, "lr": 0.004 * np.cos(epochs / 6) ** 2})
            history["loss"] = 0.2 + 0.6 / epochs + 0.02 * fold
            history["accuracy"] = 0.95 - 0.4 / epochs - 0.01 * fold
            if model == "resnet":
                history["inner_loss"] = 0.3 + 0.4 / epochs
                history["inner_accuracy"] = 0.9 - 0.3 / epochs
            write_table(folder / paths.model_folder(model, fold) / "history.csv", history)
        record, pictures = make_explanation(model, "ab" * 32)
        write_record(folder / paths.explained(model) / SEEN, record)
        for name, content in pictures.items():
            (folder / paths.explained(model) / name).write_bytes(content)
    accuracy = round(float((blended.argmax(1) == labels).mean()), 6)
    made = full_card(accuracy, models, classes, rows, len(set(groups)))
    write_record(folder / paths.card(NAME), made)
    board = make_leaderboard(made, accuracy - 0.02, accuracy + 0.04)
    write_record(folder / paths.LEADERBOARD, board)
    write_record(folder / paths.AUDIT, make_audit(rows, classes, ids, grouped))
    return folder


def full_card(
    score: float,
    models: tuple[str, ...],
    classes: tuple[str, ...] = ("healthy", "ill"),
    rows: int = 240,
    groups: int = 15,
    **changes: Any,
) -> Card:
    """A mean of models that were trained on three folds each, with something in every section."""
    interval = (score - 0.04, score + 0.03)
    candidates = [
        {
            "blend": kind, "nested": score - worse, "unnested": score + 0.004,
            "better_than_best_by": -worse, "interval": (-worse - 0.01, 0.008), "p_value": p_value,
        }
        for kind, worse, p_value in (("mean", 0.0, 1.0), ("stack", 0.0042, 0.39))
    ]  # fmt: skip
    pair = {"models": models[:2], "disagreement": 0.1125, "error_correlation": 0.41}
    diversity = {
        "pairs": [pair | {"both_wrong": 0.05}],
        "each_model": [
            {"model": model, "score_without": score - 0.01, "adds": 0.01 - 0.015 * place}
            for place, model in enumerate(models)
        ],
    }
    network = {"accuracy": 0.9, "rows": 80, "sha256": {"weights.safetensors": "ab" * 32}}
    sections: dict[str, Any] = {
        "metric": {"value": score, "interval": interval},
        "out_of_fold": {
            "accuracy": score, "interval": interval, "rows": rows, "of_images": rows,
            "groups": groups,
        },
        "forecast": {
            "mean": score + 0.003, "public": (score - 0.07, score + 0.03),
            "private": (score - 0.06, score + 0.02), "assumptions": ["test groups are new"],
        },
        "blend": {
            "asked": "auto", "why": "the simplest of 2 candidates, and the best",
            "unnested": score + 0.004, "test": "McNemar, exact", "candidates": candidates,
        },
        "diversity": diversity if len(models) > 1 else {},
        "networks": [{"model": m, "fold": fold, **network} for m in models for fold in range(3)],
        "sha256": {"submission": "0123456789abcdef" * 4},
    }  # fmt: skip
    return make_card(models, classes, name=NAME, **(sections | changes))


class Page(HTMLParser):
    """The page as a browser parses it: tags, texts, and the figures in <data>."""

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
    def tiles(self) -> list[dict[str, str | None]]:
        """The pictures of the galleries."""
        return [each for each in self.all("img") if ": given " in str(each["alt"])]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory has all files that the stage reads."""
    make_outputs(tmp_path)
    monkeypatch.chdir(tmp_path)


def build(**changes: Any) -> Page:
    """Run the stage in the working directory; changes: make its inputs again, with these."""
    if changes:
        make_outputs(Path(), **changes)
    report.run(NAME)
    return Page(paths.REPORT.read_text(encoding="utf-8"))


def edit(path: Path, *keys: str | int, value: Any) -> None:
    """Change one place in a JSON file."""
    tree = place = json.loads(path.read_text())
    for key in keys[:-1]:
        place = place[key]
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


def test_another_population_is_said_beside_the_score() -> None:
    assert "another population" not in build().text
    shift = {
        "error": 0.1, "rises": {"confidence": {"by": 0.05, "band": [-0.01, 0.01]}}, "p": 0.005,
        "splits": 199, "is_other": True, "falls": [-0.03, -0.2],
    }  # fmt: skip
    edit(paths.card(NAME), "forecast", "shift", value=shift)
    report.run(NAME)
    page = Page(paths.REPORT.read_text(encoding="utf-8"))
    assert str(read_card(paths.card(NAME)).other_population) in page.text


def test_each_figure_of_the_page_is_the_one_that_dvc_gets() -> None:
    page = build()
    figures = flatten(json.loads(paths.FIGURES.read_text()))
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
    shown = re.findall(r"<strong>([\d,]+)</strong>", paths.REPORT.read_text())
    assert [int(count.replace(",", "")) for count in shown] == counts.ravel().tolist()
    plotted = pd.read_csv(paths.CONFUSION)
    np.testing.assert_array_equal(confusion_matrix(plotted["actual"], plotted["predicted"]), counts)


def test_the_same_inputs_give_the_same_bytes_in_another_process() -> None:
    build()
    files = (paths.REPORT, paths.FIGURES, paths.CONFUSION, paths.RELIABILITY)
    before = [file.read_bytes() for file in files]
    code = f"from pipeline.report import stage as report; report.run({NAME!r})"
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "TZ": f"UTC+{seed}"}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        assert [file.read_bytes() for file in files] == before


def test_the_page_says_whether_scores_are_inside_the_forecast() -> None:
    text = build().text
    assert "0.9342 on 20 images, inside the forecast" in text
    assert "0.9942 on 20 images, outside the forecast" in text
    edit(paths.LEADERBOARD, "solution", value=None)
    text = build().text
    assert "Public and private score not known here: there is no solution file" in text
    assert "actual score" not in text


def test_ids_classes_and_reasons_from_files_are_shown_as_text_only() -> None:
    """An id is in galleries, tables and attributes; a class is in charts too."""
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


def test_no_class_name_leaves_the_script_of_dvc_plots() -> None:
    """The file is given to DVC's own renderer, as `dvc plots show` does."""
    bad = "</script><script>alert(1)</script><!--\x1b[2J"
    make_outputs(Path(), classes=(bad, "<b>"))
    build()
    for name in ("reports/confusion.csv", "reports/reliability.csv"):
        table = pd.read_csv(name, dtype=str)
        made = VegaRenderer(table.to_dict("records"), name, x=table.columns[0], y=table.columns[1])
        html = made.generate_html()
        assert "alert" in html or "reliability" in name
        assert html.lower().count("<script") == html.lower().count("</script") == 1
        assert not [sign for sign in ("<!--", "<b>", "\x1b") if sign in html]
    assert "\\u001b" not in Path("reports/metrics.json").read_text()


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
    ("path", "keys", "value", "gone"),
    [
        (paths.card(NAME), ["blend", "candidates"], [], "Candidates"),
        (paths.card(NAME), ["diversity", "pairs"], [], "correlation of errors"),
        (paths.AUDIT, ["corrections", "count"], 0, "Corrected labels"),
        (paths.AUDIT, ["conflicts", "same_pixels"], [], "images, each with its label"),
        (paths.AUDIT, ["train_test_duplicates", "pairs"], [], "also in train"),
        (paths.AUDIT, ["duplicates", "clusters"], 0, "cluster of duplicates"),
        (paths.AUDIT, ["excluded"], [], "training image that cannot be read"),
    ],
)
def test_an_empty_section_is_left_out(path: Path, keys: list[str], value: Any, gone: str) -> None:
    before = build()
    edit(path, *keys, value=value)
    after = build()
    assert after.figures == before.figures
    assert gone in before.text
    assert gone not in after.text


def test_each_model_is_listed_with_its_weight_and_what_it_adds() -> None:
    external = {"model": "colleague", "folds": "unchecked", "sha256": {"oof": "cd" * 32}}
    made = full_card(0.954167, ("vgg", "resnet", "colleague"), external=[external])
    own = [network for network in made.networks if network.model != "colleague"]
    write_record(paths.card(NAME), made.model_copy(update={"networks": own}))
    text = build().text
    assert "all weight ensemble without it it adds" in text
    assert "vgg 0.9000 0.9000 0.9000 0.9000 0.333 0.9442 +0.0100" in text
    assert "resnet 0.9000 0.9000 0.9000 0.9000 0.333 0.9442 −0.0050" in text
    assert "colleague external, folds unchecked – – – – 0.333 0.9442 −0.0200" in text
    assert f"colleague: oof {'cd' * 32}" in text


def test_a_stack_has_no_weights_and_a_calibrated_blend_has_a_temperature() -> None:
    logistic = FittedLogistic(
        kind="logistic", features="logits", known=[], coefficients=[[1.0, 1.0]], intercepts=[0.0]
    )
    edit(paths.card(NAME), "blend", "fitted", "blend", value=logistic.model_dump())
    edit(paths.card(NAME), "blend", "fitted", "temperature", value=1.23456)
    text = build().text
    assert "fold 2 all ensemble without it it adds" in text
    assert "Calibrated with a temperature of 1.235." in text


def test_one_model_is_said_to_be_one() -> None:
    text = build(models=("vgg",)).text
    assert "One model: the prediction of a test image is the mean over its networks" in text
    assert "it adds" not in text


def test_five_classes_without_groups_make_a_page() -> None:
    page = build(classes=("a", "b", "c", "d", "e"), grouped=False, rows=300)
    assert "300 training images, 5 classes" in page.text
    assert "ROC curve" not in page.text
    assert "Groups with most errors" not in page.text
    assert "probability of the predicted class" in page.text
    assert len([name for name in page.figures if name.startswith("roc_auc.")]) == 5


def test_a_thousand_classes_are_a_small_page_that_names_those_confused_most() -> None:
    names = tuple(f"class-{place}" for place in range(1010))
    make_outputs(Path(), classes=names, rows=1600, grouped=False, models=("vgg",))
    facts = read_facts(NAME)
    assert facts.confusion is None
    counts = confusion_matrix(facts.rows.labels, facts.rows.decided, labels=range(1010))
    np.fill_diagonal(counts, 0)
    assert [each.rows for each in facts.confused] == sorted(counts.ravel(), reverse=True)[:50]
    for each in facts.confused:
        given, predicted = names.index(each.given), names.index(each.predicted)
        assert counts[given, predicted] == each.rows
        assert each.share == each.rows / (facts.rows.labels == given).sum()
    worst = min(each.sensitivity for each in facts.class_reports if each.rows)
    assert facts.shown_classes[0].sensitivity == worst
    text = build().text
    assert "The classes that are confused most" in text
    assert "The 50 of 1010 classes that are recognised least, each against the rest" in text
    assert "and 960 more classes" in text
    assert paths.REPORT.stat().st_size < 5e6
    assert len(json.loads(paths.FIGURES.read_text())["sensitivity"]) == 50


def keep_fold_0() -> None:
    """What a run with train.folds: [0] leaves."""
    table = pd.read_csv(paths.FOLDS)
    oof = pd.read_csv(paths.ENSEMBLE_OOF, dtype=str)
    oof = oof[oof["image_id"].isin(table.loc[table["fold"] == 0, "image_id"])]
    write_table(paths.ENSEMBLE_OOF, oof)
    labels = table.set_index("image_id").loc[oof["image_id"], "label"]
    right = (oof["p_ill"].astype(float) > 0.5).to_numpy() == (labels == "ill").to_numpy()
    edit(paths.card(NAME), "out_of_fold", "rows", value=len(oof))
    edit(paths.card(NAME), "out_of_fold", "accuracy", value=float(right.mean()))


def test_a_quick_look_at_one_fold_says_that_it_is_one() -> None:
    keep_fold_0()
    page = build()
    assert "Only 80 of 240 training images are scored: not all folds were trained." in page.text
    assert {name for name in page.figures if name.startswith("folds.")} == {"folds.0"}


def test_folds_of_another_repeat_have_no_score_of_the_rows_that_they_share() -> None:
    """Only fold 0 was trained; the second repeat's folds have some of its images."""
    keep_fold_0()
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


def test_only_flagged_properties_count_as_leaks() -> None:
    text = build().text
    assert "1 property of the files predicts the label. The file's size predicts" in text
    edit(paths.AUDIT, "leaks", "checks", 0, "flagged", value=False)
    assert "No property of the files predicts the label." in build().text


def test_doubtful_labels_are_marked_and_shown_once() -> None:
    """30 of 240 labels are changed: these are confident mistakes, and more than one gallery shows."""
    folds, train = pd.read_csv(paths.FOLDS), pd.read_csv(paths.TRAIN_TABLE)
    oof = pd.read_csv(paths.ENSEMBLE_OOF)
    sure = (oof["p_ill"] - 0.5).abs().sort_values().index[-30:]
    changed = folds["label"].copy()
    changed[sure] = changed[sure].map({"ill": "healthy", "healthy": "ill"})
    write_table(paths.FOLDS, folds.assign(label=changed))
    write_table(paths.TRAIN_TABLE, train.assign(label=changed))
    right = (oof["p_ill"] > 0.5) == (changed == "ill")
    edit(paths.card(NAME), "out_of_fold", "accuracy", value=float(right.mean()))
    page = build()
    start, more, end = (
        page.text.index(title)
        for title in ("Most confident mistakes", "More doubtful", "Closest decisions")
    )
    ranks = [int(rank) for rank in re.findall(r"doubtful #(\d+)", page.text[start:end])]
    assert len(set(ranks)) == len(ranks) > MOST
    later = [int(rank) for rank in re.findall(r"doubtful #(\d+)", page.text[more:end])]
    assert later == sorted(later)
    assert 25 <= page.figures["estimated_wrong_labels"] <= 40


def test_a_fitted_threshold_decides_the_classes_of_the_page() -> None:
    edit(paths.card(NAME), "blend", "fitted", "threshold", value=0.2)
    page = build()
    oof = pd.read_csv(paths.ENSEMBLE_OOF)
    labels = pd.read_csv(paths.FOLDS).set_index("image_id").loc[oof["image_id"], "label"]
    assert page.figures["sensitivity.ill"] == pytest.approx(
        recall_score(labels == "ill", oof["p_ill"] >= 0.2), abs=1e-6
    )
    assert "As in the submission, ill is predicted from a probability of 0.200 on." in page.text


def test_another_metric_is_the_pages_figure() -> None:
    metric = {"name": "roc_auc", "value": 0.987654, "interval": [0.97, 0.99]}
    edit(paths.card(NAME), "metric", value=metric)
    edit(paths.card(NAME), "test", "holds", value="probability")
    half = {"rows": 20, "scores": {"roc_auc": 0.975}}
    edit(paths.LEADERBOARD, "metric", value="roc_auc")
    edit(paths.LEADERBOARD, "solution", value={"public": half, "private": half})
    page = build()
    assert page.figures["out_of_fold.roc_auc"] == 0.987654
    assert page.figures["leaderboard.public"] == 0.975
    assert "Cross-validated roc auc 0.9877" in page.text
    assert "Cross-validated accuracy 0.95" in page.text
    assert "Most probable classes; the submission has probabilities" in page.text
    oof = pd.read_csv(paths.ENSEMBLE_OOF)
    table = pd.read_csv(paths.FOLDS)
    own = (table["fold"] == 1).to_numpy()
    assert page.figures["folds.1"] == pytest.approx(
        roc_auc_score(table["label"][own] == "ill", oof["p_ill"][own]), abs=1e-6
    )


def test_the_galleries_show_the_most_confident_mistakes_and_the_closest_decisions() -> None:
    rows = read_facts(NAME).rows
    names = np.array(rows.image_ids)
    wrong = rows.decided != rows.labels
    confidence = rows.values.max(axis=1)
    mistakes = confident_mistakes(rows)
    assert set(mistakes) == set(np.flatnonzero(wrong))
    assert (np.diff(confidence[mistakes]) <= 0).all()
    closest = closest_decisions(rows, None)
    assert (np.diff(np.abs(rows.values[closest, 1] - 0.5)) >= 0).all()
    at_a_fifth = closest_decisions(rows, [0.2])
    assert (np.diff(np.abs(rows.values[at_a_fifth, 1] - 0.2)) >= 0).all()
    shown = [str(each["alt"]).split(":")[0] for each in build().tiles]
    expected = [*names[mistakes[:MOST]], *names[closest[:MOST]]]
    assert shown[: len(mistakes[:MOST])] == expected[: len(mistakes[:MOST])]
    assert shown[-MOST:] == expected[-MOST:]


def test_equally_confident_images_are_shown_by_id() -> None:
    """Whatever order the table has, the same images are shown."""
    oof = pd.read_csv(paths.ENSEMBLE_OOF, dtype=str)
    oof["p_healthy"], oof["p_ill"] = "0.4", "0.6"
    labels = pd.read_csv(paths.FOLDS)["label"]
    edit(paths.card(NAME), "out_of_fold", "accuracy", value=float((labels == "ill").mean()))
    write_table(paths.ENSEMBLE_OOF, oof)
    rows = read_facts(NAME).rows
    places = confident_mistakes(rows), closest_decisions(rows, None)
    forward = [[rows.image_ids[place] for place in each] for each in places]
    write_table(paths.ENSEMBLE_OOF, oof.iloc[::-1])
    rows = read_facts(NAME).rows
    places = confident_mistakes(rows), closest_decisions(rows, None)
    assert [[rows.image_ids[place] for place in each] for each in places] == forward


def test_a_picture_is_the_stored_image() -> None:
    images = np.load(paths.TRAIN_IMAGES)
    decoded = Pillow.open(io.BytesIO(b64decode(picture(images[3]).split(",")[1])))
    np.testing.assert_array_equal(np.asarray(decoded), images[3])
    page = build()
    shown = {str(each["alt"]).split(":")[0]: each["src"] for each in page.tiles}
    for name, source in shown.items():
        assert source == picture(images[int(name[4:])])


def test_the_page_of_a_signal_has_curves_instead_of_pictures() -> None:
    rows = len(np.load(paths.TRAIN_IMAGES))
    np.save(paths.TRAIN_IMAGES, np.random.default_rng(1).normal(size=(rows, 178)))
    page = build()
    assert not page.tiles
    assert len([each for each in page.all("svg") if each["class"] == "chart signal"]) >= MOST


def test_networks_whose_pictures_find_no_place_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    both = build()
    assert sum("maps of last" in str(each["alt"]) for each in both.all("img")) == 2
    monkeypatch.setattr(seen, "MOST_BYTES", 200)
    page = build()
    assert sum("maps of last" in str(each["alt"]) for each in page.all("img")) == 1
    assert "python -m pipeline explain resnet 0" in page.text
    assert "python -m pipeline explain vgg" not in page.text


def test_no_chart_has_a_position_that_is_not_a_number() -> None:
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
        (SEEN_VGG, "explain/vgg/seen.json: no such file. Run: dvc repro explain@vgg"),
        (
            SEEN_VGG.with_name("dot.png"),
            "explain/vgg/dot.png: no such file. Run: dvc repro --force",
        ),
    ],
)
def test_a_missing_file_is_named_with_the_command_that_makes_it(
    missing: Path, message: str
) -> None:
    missing.unlink()
    with pytest.raises(Exception, match=re.escape(message)):
        report.run(NAME)
    assert not paths.REPORT.exists()


def shorter_store() -> None:
    make_outputs(Path(), rows=239)
    np.save(paths.TRAIN_IMAGES, np.zeros((240, 8, 8, 3), np.uint8))


def strange_image() -> None:
    oof = pd.read_csv(paths.ENSEMBLE_OOF, dtype=str)
    oof.loc[5, "image_id"] = "stranger"
    write_table(paths.ENSEMBLE_OOF, oof)


HISTORY = Path("models/vgg/fold1/history.csv")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda: edit(paths.card(NAME), "forecast", "public", value="0.9 to 0.95"), r"submissions/made-up.json: forecast.public: Input should be a valid array, found '0.9 to 0.95'. Run: dvc repro --force ensemble"),
        (lambda: paths.AUDIT.write_text("{"), r"data/audit.json: Invalid JSON: .*--force prepare"),
        (lambda: edit(paths.card(NAME), "out_of_fold", "accuracy", value=0.5), r"submissions/made-up.json: expected the accuracy of ensemble/oof.csv, 0\.9\d+ on 240 rows, found 0.500000 on 240: they are of different runs. Run: dvc repro --force ensemble"),
        (lambda: edit(paths.card(NAME), "metric", "name", value="log_loss"), r"reports/leaderboard.json: expected scores by the metric log_loss of the card, found accuracy: they are of different runs. Run: dvc repro --force check"),
        (shorter_store, r"data/store/train.npy: expected the 239 rows of its table, found 240. Run: dvc repro --force prepare"),
        (strange_image, r"ensemble/oof.csv: expected images of .*found 1 of 240 others \(first: stranger\). Run: dvc repro ensemble"),
        (lambda: edit(SEEN_VGG, "weights_sha256", value="cd"), r"explain/vgg: expected the network vgg of a fold in submissions/made-up.json, found another one's record: .* Run: dvc repro --force explain@vgg"),
        (lambda: edit(SEEN_VGG, "first", "picture", "file", value="../x.png"), r"explain/vgg/seen.json: first.picture.file: String should match pattern .*found '../x.png'.*"),
        (lambda: HISTORY.write_text("step,loss\n1,0.5\n"), r"models/vgg/fold1/history.csv: expected a column epoch and rows, found 1 rows of \['step', 'loss'\]. Run: dvc repro --force train@vgg-1"),
        (lambda: HISTORY.write_text("epoch,loss\n1,low\n"), r"models/vgg/fold1/history.csv: expected numbers: .*low.*"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_together_are_refused(
    spoil: Callable[[], object], message: str
) -> None:
    spoil()
    with pytest.raises(TableError) as caught:
        report.run(NAME)
    assert re.fullmatch(message, str(caught.value))


def test_a_long_list_is_cut_and_says_so() -> None:
    excluded = [{"image_id": f"broken_{n}", "reason": "truncated"} for n in range(60)]
    edit(paths.AUDIT, "excluded", value=excluded)
    text = build().text
    assert "The first 50 of 60 training images that cannot be read" in text
    assert "broken_49" in text
    assert "broken_50" not in text


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
    assert flatten(files[str(paths.FIGURES)]["data"]) == page.figures
    solution = files[str(paths.LEADERBOARD)]["data"]["solution"]
    assert solution["public"]["scores"]["accuracy"] == page.figures["leaderboard.public"]
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
def test_a_browser_shows_the_page_without_errors_at_any_width(
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
        assert browser.overlapping_texts() == []
        assert browser.pale_texts() == []
        assert browser.evaluate("document.documentElement.scrollWidth") <= width  # details open


@pytest.mark.slow
def test_errors_of_a_browser_are_seen(browser: Browser, tmp_path: Path) -> None:
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
    assert len(browser.pale_texts()) == 1


def test_what_the_labels_allow_and_what_a_leak_would_gain_is_one_line_each() -> None:
    edit(
        paths.card(NAME), "ceiling",
        value={"value": 0.96, "interval": [0.95, 0.97], "above": {"anna": 0.99}},
    )  # fmt: skip
    page = build()
    assert "Accuracy that the labels allow about 0.9600 (0.9500 to 0.9700). Above it," in page.text
    assert "0.9900 of anna" in page.text
    each = {"score": 0.9, "interval": [0.85, 0.95]}
    record = {
        "model": "vgg", "metric": "accuracy", "by_row": each, "by_group": each, "gain": each,
        "confidence": 0.95, "rows": 240, "groups": 15, "on_both_sides": 14,
        "ceiling": {"why": "a test"}, "folds_sha256": "f", "train_images_sha256": "t",
    }  # fmt: skip
    paths.leak(NAME).parent.mkdir()
    paths.leak(NAME).write_text(json.dumps(record))
    shown = "by row, vgg would score 0.9000 (0.8500 to 0.9500); by group it scores 0.9000"
    assert shown not in build().text  # it is of other folds
    edit(paths.card(NAME), "sha256", "folds", value="f")
    edit(paths.card(NAME), "sha256", "train_images", value="t")
    assert shown in build().text
    edit(paths.leak(NAME), "rows", value="many")
    with pytest.raises(TableError, match=rf"leaks/{NAME}.json: rows: .*\. Run: rm "):
        build()


def test_the_page_of_signals_draws_curves_and_calls_nothing_an_image() -> None:
    rows = len(np.load(paths.TRAIN_IMAGES))
    np.save(paths.TRAIN_IMAGES, np.random.default_rng(1).normal(size=(rows, 50, 2)).astype("f4"))
    write_decoding(paths.DECODING, SignalDecoding(length=50, channels=2))
    for part in ("train_test_duplicates", "conflicts"):  # whose words are those of `prepare`
        edit(paths.AUDIT, part, "sentence", value="")
    edit(paths.AUDIT, "leaks", "checks", value=[])
    for record in Path("explain").glob("*/seen.json"):
        edit(record, "kind", value="signals")
    page = build()
    assert re.search(r"\b240 training signals\b", page.text)
    assert "All signals of a group are in the same fold" in page.text
    pictures = [each["class"] for each in page.all("svg") if "signal" in str(each.get("class"))]
    assert len(pictures) > MOST
    found = re.findall(r"\b[\w ]* (?:[Ii]mages?|px)\b", page.text)
    assert [words for words in found if not words.endswith("train images test images")] == []
