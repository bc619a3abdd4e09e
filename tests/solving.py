"""A drawn competition from its folder to a score, in one process: stage by stage."""

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from drawing import Drawn, Layout
from numpy import ndarray
from project import PARAMS
from sklearn import metrics

from pipeline.check import stage as check
from pipeline.commands import new
from pipeline.core import paths
from pipeline.core.errors import PipelineError
from pipeline.core.yaml import parse_yaml
from pipeline.download import stage as download
from pipeline.ensemble import stage as ensemble
from pipeline.explain import stage as explain
from pipeline.params import read_config
from pipeline.prepare import stage as prepare
from pipeline.report import stage as report
from pipeline.split import stage as split
from pipeline.train import stage as train

TINY = {
    "network": {"family": "small", "name": "vgg", "width": 12, "stages": 2, "dropout": 0.0},
    "lr": 0.02,
    "ema": 0.0,
    "label_smoothing": 0.0,
    "weight_decay": 0.0,
    "tta": False,
    "augment": [],
    "engine": "batched",
}
"""A network that learns what is drawn."""


def params_for(layout: Layout, folder: str) -> dict[str, Any]:
    """The whole of params.yaml."""
    tree = parse_yaml("PARAMS", PARAMS.encode())
    assert isinstance(tree, dict)
    tree["download"] = {"source": "local", "folder": folder}
    tree["prepare"] |= {"groups": {"source": "none"}, "near_duplicate": 0.0} | layout.prepare
    tree["ensemble"] |= {"metric": layout.metric}
    return tree


@contextmanager
def prepared(layout: Layout, drawn: Drawn, project: Path) -> Iterator[None]:
    """In a project whose stages `download` and `prepare` have run, with the layout's parameters."""
    drawn.write(project / "competitions/drawn")
    with chdir(project):
        paths.PARAMS.write_text(json.dumps(params_for(layout, "competitions/drawn")))
        config = read_config(paths.PARAMS)
        download.run(config.download)
        prepare.run(config.prepare, config.ensemble.metric)
        yield


@contextmanager
def begun(layout: Layout, drawn: Drawn, project: Path) -> Iterator[None]:
    """In a project that `new` has begun, with the metric of the competition's page alone, and,
    where the layout has parameters of its own, after these were set."""
    drawn.write(project / "competitions/drawn")
    with chdir(project), patch.object(new, "reproduce", reproduce):
        try:
            new.new("competitions/drawn", "tiny", layout.metric)
        except PipelineError:
            assert layout.prepare
        write(prepare=layout.prepare)
        if layout.prepare:
            reproduce(["split"])
        yield


def reproduce(stages: list[str]) -> None:
    """What DVC would run, in this process."""
    config = read_config(paths.PARAMS)
    if stages == ["download"]:
        download.run(config.download)
    else:
        prepare.run(config.prepare, config.ensemble.metric, config.split, config.ensemble.choices)
        split.run(config.split)


def write(**sections: dict[str, Any]) -> None:
    """Change sections of params.yaml."""
    tree = parse_yaml("params.yaml", paths.PARAMS.read_bytes())
    assert isinstance(tree, dict)
    for name, values in sections.items():
        tree[name] |= values
    paths.PARAMS.write_text(json.dumps(tree))


def solve(layout: Layout, project: Path, written: Sequence[str] = ()) -> float:
    """Run the whole pipeline, check the submission's form, and score it by the hidden answers.

    written: the classes as the submission has them, where the labels have them otherwise.
    """
    drawn = Drawn(layout)
    with begun(layout, drawn, project):
        model = read_config(paths.PARAMS).train.models["vgg"].model_dump() | TINY
        model |= {"epochs": layout.epochs, "seed": layout.seed}
        model["batch_size"] = 8 if len(layout.classes) < 20 else 20
        write(train={"folds": [0, 1], "models": {"vgg": model}}, split={"folds": 2})
        config = read_config(paths.PARAMS)
        split.run(config.split)
        for fold in config.train.folds:
            train.run(config.train, "vgg", fold)
        ensemble.run(config.ensemble, config.train.members, config.train.folds)
        check.run(config.ensemble.name, config.ensemble.metric)
        explain.run("vgg", config.train.folds[0])
        report.run(config.ensemble.name)
        assert not re.search(r">[^<]*\bnan\b", paths.REPORT.read_text())
        with paths.submission(config.ensemble.name).open(newline="") as file:
            header, *rows = csv.reader(file)
    return score(replace(layout, classes=written or layout.classes), drawn, header, rows)


def score(layout: Layout, drawn: Drawn, header: list[str], rows: list[list[str]]) -> float:
    """The submission's score as the competition has it; of log losses the share of right rows."""
    spec = layout.tables.get(layout.sample, "id=id, label=")
    assert isinstance(spec, str)
    keys = [
        column
        for column, _, source in (pair.partition("=") for pair in spec.split(", "))
        if source == "id"
    ]
    if layout.sample:
        sample = drawn.tables[layout.sample].astype(str)
        assert header == list(sample.columns)
        assert [row[: len(keys)] for row in rows] == sample[keys].to_numpy().tolist()
    else:  # in the order of the files
        assert [Path(row[0]).stem for row in rows] == sorted(row.fields["id"] for row in drawn.test)
        row_of = {Path(row[0]).stem: row for row in rows}
        rows = [row_of[row.fields["id"]] for row in drawn.test]
    cells = np.array([row[len(keys) :] for row in rows])
    found = _values(layout, header[len(keys) :], cells)
    return float(GRADERS[layout.metric](drawn.truth, found))


def _values(layout: Layout, columns: list[str], cells: ndarray) -> ndarray:
    """Class indices, flags, numbers or probabilities, each checked."""
    names = list(layout.classes)
    if layout.kind == "number":
        return cells[:, [columns.index(name) for name in names]].astype(float)
    if len(columns) > 1:
        chances = cells[:, [columns.index(name) for name in names]].astype(float)
        assert ((chances >= 0) & (chances <= 1)).all()
        assert layout.kind == "any_of" or abs(chances.sum(axis=1) - 1).max() < 1e-4
        return chances / chances.sum(axis=1, keepdims=True) if layout.kind == "one_of" else chances
    if layout.kind == "any_of":
        sets = [text.split() for text in cells[:, 0]]
        assert {name for each in sets for name in each} <= set(names)
        return np.array([[name in each for name in names] for each in sets])
    if layout.metric.startswith(("top_", "map_")):
        return np.array([[names.index(name) for name in text.split(" ")] for text in cells[:, 0]])
    if GRADERS[layout.metric] in (_area, _right_by_chance, _probabilistic_f1):
        second = cells.astype(float)
        assert ((second >= 0) & (second <= 1)).all()
        return np.hstack([1 - second, second])
    return np.array([names.index(text) for text in cells[:, 0]])


def _area(truth: ndarray, found: ndarray) -> float:
    """Of the second class, or the mean over columns."""
    if truth.ndim == 1 and found.shape[1] == 2:
        return float(metrics.roc_auc_score(truth, found[:, 1]))
    flags = truth if truth.ndim == 2 else np.eye(found.shape[1])[truth]
    return float(metrics.roc_auc_score(flags, found))


def _right_by_chance(truth: ndarray, found: ndarray) -> float:
    classes = np.arange(found.shape[1])
    assert metrics.log_loss(truth, found, labels=classes) < 0.7 * np.log(len(classes))
    return float(metrics.accuracy_score(truth, found.argmax(axis=1)))


def _probabilistic_f1(truth: ndarray, found: ndarray) -> float:
    hits = (truth * found[:, 1]).sum()
    return float(2 * hits / (truth.sum() + found[:, 1].sum()))


def _reciprocal_place(truth: ndarray, found: ndarray) -> float:
    hits = found == truth[:, None]
    return float((hits / (1 + np.arange(found.shape[1]))).sum(axis=1).mean())


GRADERS: dict[str, Callable[[ndarray, ndarray], float]] = {
    "accuracy": metrics.accuracy_score,
    "micro_f1": lambda truth, found: metrics.f1_score(truth, found, average="micro"),
    "macro_f1": lambda truth, found: metrics.f1_score(truth, found, average="macro"),
    "samples_f1": lambda truth, found: metrics.f1_score(truth, found, average="samples"),
    "micro_f2": lambda truth, found: metrics.fbeta_score(truth, found, beta=2, average="micro"),
    "balanced_accuracy": metrics.balanced_accuracy_score,
    "samples_f2": lambda truth, found: metrics.fbeta_score(truth, found, beta=2, average="samples"),
    "quadratic_kappa": lambda t, found: metrics.cohen_kappa_score(t, found, weights="quadratic"),
    "roc_auc": _area,
    "macro_roc_auc": _area,
    "log_loss": _right_by_chance,
    "probabilistic_f1": _probabilistic_f1,
    "map_at_5": _reciprocal_place,
    "top_1_error": lambda truth, found: (found[:, 0] == truth).mean(),
    "rmse": metrics.r2_score,
}
"""By scikit-learn, so that more is better of each: of errors in numbers the share explained."""
