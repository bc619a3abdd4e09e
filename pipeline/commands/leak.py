"""Command `leak`: what one model would score if groups were on both sides of the split.

The model is trained on all folds by the competition's groups and by row, with everything else
equal, and both are scored on the same rows. The stage `train` runs as it is, in folders of links of
its own under .resume/leak, so that neither DVC nor any output sees it. A folder is named by a hash
of all that decides its networks: what is trained there is not trained again. The last few stay.
"""

import sys
from collections import deque
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.commands import jobs, repro
from pipeline.commands.processes import Processes
from pipeline.core import paths
from pipeline.core.competition import read_competition
from pipeline.core.errors import FoldError, TableError, TrainError, plural
from pipeline.core.files import keep_newest, sha256_of, write_text
from pipeline.core.fold_summary import OnlyTrained
from pipeline.core.machine import cores, free_memory
from pipeline.core.ours import refuse_others, remember
from pipeline.core.progress import say
from pipeline.core.record import write_record
from pipeline.core.shapes import Outputs
from pipeline.core.tables import (
    FOLD_COLUMNS,
    IMAGE_COLUMNS,
    average_rows,
    predictions_file,
    read_predictions,
    read_table,
    write_table,
)
from pipeline.core.task import Task
from pipeline.ensemble.blend import Prediction
from pipeline.ensemble.bootstrap import ScoredRows
from pipeline.ensemble.compare import compare
from pipeline.params import Config
from pipeline.scoring.ceiling import measure_ceiling
from pipeline.scoring.leak import Leak, SplitScore, read_leak
from pipeline.scoring.metric import Metric
from pipeline.scoring.plan import plan
from pipeline.split.folds import make_folds

WORK = paths.RESUME / "leak"
_KEPT = 3
"""The folders in it that stay: those that were used last."""

_MADE_THERE = {
    paths.FOLDS.parent, Path("models"), paths.LIVE, paths.RESUME, paths.REPORT.parent,
    paths.ENSEMBLE_OOF.parent, paths.LEDGER.parent, paths.DVC_YAML, paths.DVC_LOCK, paths.PARAMS,
    Path(".git"), Path(".dvc"),
}  # fmt: skip
"""Entries of the project that a folder of links does not share: it has its own, or none."""


def run(config: Config, model: str) -> None:
    """Train what is not trained yet, and write and say what the leak gains.

    Raises FoldError where each row is its own group; TrainError, with its log, where a training
    fails; OutputError where a file of another kind has the record's name.
    """
    asked, record = config.ensemble, paths.leak(config.ensemble.name)
    try:
        read_leak(asked.name)
    except TableError:
        refuse_others(record)
    task = read_competition(paths.COMPETITION).task
    images = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
    if images["group"].nunique() == images["row_id"].nunique():
        raise FoldError(
            f"{paths.TRAIN_TABLE}: each row is its own group, so the folds are by row already and "
            "there is no leak to show. If several rows are of one patient, slide or site, name "
            "them with prepare.groups in params.yaml (docs/DATA.md)"
        )
    folds = read_table(paths.FOLDS, FOLD_COLUMNS)
    by_group = folds[folds["repeat"] == folds["repeat"].iloc[0]]
    ungrouped, split = images.assign(group=images["row_id"]), config.split
    by_row = make_folds(ungrouped, task, split.folds, split.seeds[:1], split.rare).astype(str)
    by_row["fold"] = by_row["fold"].replace("<NA>", "")
    only = [OnlyTrained.of(table) for table in (by_group, by_row)]
    never = {name for each in only if each for name in each.classes}
    metric, _ = plan(asked.metric, asked.choices, paths.SAMPLE_SUBMISSION, task, never_scored=never)
    tables = {"by_group": by_group, "by_row": by_row}
    folders = _train(config, model, tables)
    row_of = images[["image_id", "row_id"]]
    found = {
        kind: _read(folders[kind], table.merge(row_of, "left"), task)
        for kind, table in tables.items()
    }
    leak = _compare(config, model, metric, task, found, by_group.merge(row_of, "left"), by_row)
    write_record(record, leak)
    remember(record)
    say(f"{leak.metric} {leak.sentence}")
    say(f"{record}: {paths.REPORT} shows it after: dvc repro report")


def _train(
    config: Config, model: str, tables: dict[str, pd.DataFrame]
) -> dict[str, dict[int, Path]]:
    """The folder of each fold's network in models/, by the way that the rows are split."""
    from pipeline.train.checkpoint import hash_of_inputs  # torch: 2 s
    from pipeline.train.device import choose_compute

    train, chosen = config.train, config.train.models[model]
    compute = choose_compute(train.device, chosen.precision)
    machine = f"{compute.kind} {train.threads} {train.world} {train.sync_batch_norm}"
    text = f"{machine} {chosen.model_dump_json()} {tables['by_row'].to_csv()}"
    inputs = [path for path in sorted(paths.STORE.iterdir()) if path.is_file()]
    work = WORK / hash_of_inputs(text, [*inputs, paths.FOLDS])
    up_to_date = _trained_before(config, model)
    folders: dict[str, dict[int, Path]] = {}
    left: deque[tuple[str, Path, int]] = deque()
    for kind, table in tables.items():
        root = work / kind
        _make_root(root, table)
        folders[kind] = {}
        for fold in sorted({int(fold) for fold in table["fold"] if fold}):
            own = paths.model_folder(model, fold)
            shared = kind == "by_group" and fold in up_to_date
            folders[kind][fold] = own if shared else root / own
            if not folders[kind][fold].is_dir():
                left.append((kind, root, fold))
    work.touch()
    if left:
        _train_side_by_side(config, model, work, left)
    keep_newest(WORK, _KEPT)
    return folders


def _train_side_by_side(
    config: Config, model: str, work: Path, left: deque[tuple[str, Path, int]]
) -> None:
    train, gpus = config.train, jobs.find_gpus(config.train.device)
    machine = cores(), free_memory()
    count = jobs.choose_jobs(gpus, train.threads, train.world, *machine, len(left))
    say(f"{plural(len(left), 'training')}, {count} at a time; logs in {work}")
    free = deque(range(count))
    running: dict[str, tuple[int, Path]] = {}
    with Processes() as processes:
        while left or running:
            while left and free:
                kind, root, fold = left.popleft()
                name, slot = f"{model} fold {fold} {kind.replace('_', ' ')}", free.popleft()
                log = work / f"{kind}-{model}-{fold}.log"
                command = [sys.executable, "-m", "pipeline", "train", model, str(fold)]
                share = jobs.share(gpus, train.threads, train.world, slot)
                processes.start(name, command, share, log, folder=root)
                running[name] = slot, log
            for name, code in processes.wait().items():
                slot, log = running.pop(name)
                free.append(slot)
                if code:
                    raise TrainError(
                        f"{name}: exit code {code}, log in {log}. What was trained is kept: the "
                        "same command goes on from there"
                    )
                say(f"{name}: done, {len(left) + len(running)} left")


def _trained_before(config: Config, model: str) -> set[int]:
    """The folds whose networks in models/ are up to date, as DVC sees it."""
    if model not in config.train.members:
        return set()
    stale = repro.find_stale("train")
    if any(not name.startswith("train@") for name in stale):  # the data or the folds
        return set()
    return {fold for fold in config.train.folds if f"train@{model}-{fold}" not in stale}


def _make_root(root: Path, folds: pd.DataFrame) -> None:
    """A folder that is the project to stage `train`, but for its folds and outputs."""
    root.mkdir(parents=True, exist_ok=True)
    for entry in Path().iterdir():
        link = root / entry.name
        if entry not in _MADE_THERE:
            link.unlink(missing_ok=True)
            link.symlink_to(entry.absolute())
    # A copy: who edits the parameters meanwhile changes none of the trainings to come.
    write_text(root / paths.PARAMS, paths.PARAMS.read_text(encoding="utf-8"))
    write_table(root / paths.FOLDS, folds)


def _read(folders: dict[int, Path], folds: pd.DataFrame, task: Task) -> tuple[list[str], Outputs]:
    """The rows that are scored, and their out-of-fold predictions."""
    rows: list[str] = []
    values = []
    for fold, folder in folders.items():
        scored = folds[folds["fold"] == str(fold)]
        path = predictions_file(folder / "oof.csv", task)
        row_ids = list(scored["row_id"])
        values.append(average_rows(row_ids, read_predictions(path, list(scored["image_id"]), task)))
        rows += dict.fromkeys(row_ids)
    return rows, np.concatenate(values)


def _compare(
    config: Config,
    model: str,
    metric: Metric,
    task: Task,
    found: dict[str, tuple[list[str], Outputs]],
    by_group: pd.DataFrame,
    by_row: pd.DataFrame,
) -> Leak:
    """Score both ways on the rows that both score, and resample whole groups."""
    asked = config.ensemble
    in_both = set(found["by_group"][0]) & set(found["by_row"][0])
    known = by_group.drop_duplicates("row_id").set_index("row_id")
    known = known[known.index.isin(in_both)]
    rows = ScoredRows(
        task=task,
        labels=task.encode(paths.FOLDS, known["label"]),
        groups=list(known["group"]),
        folds=known["fold"].to_numpy(np.int64),
        confidence=asked.confidence,
        resamples=asked.resamples,
        seed=asked.seed,
    )
    both = {}
    for kind, (row_ids, values) in found.items():
        place = pd.Series(np.arange(len(row_ids)), index=row_ids)
        chosen = values[place.loc[known.index].to_numpy()]
        both[kind] = Prediction(chosen, task.decide(chosen, None))
    scores = {
        kind: SplitScore(score=rows.score(metric, each), interval=rows.interval(metric, each))
        for kind, each in both.items()
    }
    against = compare(metric, both["by_row"], both["by_group"], rows)
    placed = by_row[by_row["fold"] != ""].merge(
        by_group[["image_id", "group"]], "left", on="image_id", suffixes=("_own", "")
    )
    return Leak(
        model=model,
        metric=metric.name,
        by_row=scores["by_row"],
        by_group=scores["by_group"],
        gain=SplitScore(score=against.difference, interval=against.interval),
        confidence=asked.confidence,
        rows=len(known),
        groups=len(set(rows.groups)),
        on_both_sides=int((placed.groupby("group")["fold"].nunique() > 1).sum()),
        ceiling=measure_ceiling(
            metric,
            task,
            both["by_group"].values,
            rows.labels,
            rows.groups,
            {"the split by row": scores["by_row"].score},
        ),
        folds_sha256=sha256_of(paths.FOLDS),
        train_images_sha256=sha256_of(paths.TRAIN_IMAGES),
    )
