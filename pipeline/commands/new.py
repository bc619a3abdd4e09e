"""Command `new`: look at a competition's files, and write the params.yaml that fits them.

What the files tell is found and said; what only the competition's page tells (the metric, which of
two words is the positive class) gets a default that is named as one. Then the images are prepared
and split, so that the next command trains.
"""

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.commands.decide import Decided, Line, choose_folds, decide, fit_signals
from pipeline.commands.profiles import require_kept
from pipeline.commands.recipe import FOLDS, Facts, choose_size, write_params
from pipeline.commands.repro import reproduce
from pipeline.commands.sheet import SHEET, draw_sheet
from pipeline.core import paths
from pipeline.core.competition import ImageDecoding
from pipeline.core.errors import (
    CompetitionError,
    ConfigError,
    EnsembleError,
    ImageError,
    SubmissionError,
    plural,
)
from pipeline.core.files import new_file, write_text
from pipeline.core.machine import cores
from pipeline.core.ours import remember
from pipeline.core.progress import say
from pipeline.core.terminal import make_table, print_table
from pipeline.kaggle.slug import competition_slug
from pipeline.params import read_config
from pipeline.prepare.config import ImagesConfig, PrepareConfig
from pipeline.prepare.decode import ImageDecoder
from pipeline.prepare.layout import Layout, Split, understand
from pipeline.prepare.roles import Roles
from pipeline.prepare.signals import hold_signals
from pipeline.prepare.survey import survey
from pipeline.prepare.tables import Table
from pipeline.raw.files import RawFiles
from pipeline.scoring.metrics import metric_named
from pipeline.scoring.plan import Choices, plan

_LOOKED_AT = 60
_MOST_SIDE_PX = 2**14
_QUICK = ImageDecoder(
    ImageDecoding(size_px=8, channels=3, fit="stretch", black_white=(0.0, 1.0)), _MOST_SIDE_PX
)
"""Only the originals' sizes are wanted."""


@dataclass(frozen=True)
class Looked:
    """A competition as it is understood. row: what its rows are called.

    side_px: the median of the originals' shorter sides; 0 of signals.
    """

    layout: Layout
    row: str
    side_px: int


def new(source: str, name: str | None, metric: str | None) -> None:
    """Write params.yaml for a folder, a zip or a Kaggle competition, prepare and split its images.

    Raises ConfigError where params.yaml has changes that would be lost, or the source is nothing of
    these; and what the stages raise, with params.yaml as it then is.
    """
    require_kept("python -m pipeline new")
    if metric is not None:
        metric_named(metric)
    name, download = _read_source(source, name)
    first = metric or "accuracy"
    facts = Facts(1000, 64, True, FOLDS, "stop", cores(), _has_gpu())
    alone: dict[str, Any] = {"kind": "images", "groups": {"source": "none"}}
    _write(write_params(name, download, alone, first, facts))
    reproduce(["download"])

    prepare, files = _list_files()
    _write(write_params(name, download, alone | prepare, first, facts))
    looked = _look(prepare, first)
    choices = decide(looked.layout, metric)
    prepare |= {"groups": choices.groups} | choices.classes
    looked = _look(prepare, choices.metric)
    if choices.groups["source"] == "none" and (grouped := _look_for_groups(prepare, choices)):
        looked, choices = grouped
        prepare |= {"groups": choices.groups}
    side_px, rate_hz = looked.side_px, None
    if looked.row == "signal":
        with _understood(prepare, choices.metric) as (_, layout):
            fitted = fit_signals(survey([layout.train, layout.test]))
        side_px, rate_hz, prepare = fitted.length, fitted.rate_hz, prepare | fitted.prepare
        choices = replace(choices, lines=[*fitted.lines, *choices.lines])
    folds, rare = choose_folds(looked.layout)
    facts = replace(
        facts,
        images=len(looked.layout.train.image_ids),
        side_px=side_px,
        mirrored=looked.row == "image"
        and any(picture and picture.files for picture in looked.layout.train.pictures),
        folds=folds,
        rare=rare,
        rate_hz=rate_hz,
    )
    _write(write_params(name, download, prepare, choices.metric, facts))
    _print(files, looked, choices, facts)
    reproduce(["split"])
    draw_sheet()
    say(
        f"{paths.PARAMS} is written; {SHEET} shows some {looked.row}s of each class. Next: make run"
    )


def _write(text: str) -> None:
    write_text(paths.PARAMS, text)
    remember(paths.PARAMS)


def _read_source(source: str, name: str | None) -> tuple[str, dict[str, Any]]:
    """The submission's name and the section `download`."""
    path = Path(source)
    if path.is_dir():
        return _name(name or path.resolve().name), {"source": "local", "folder": source}
    if path.is_file():
        called = _name(name or path.name.split(".")[0])
        folder = Path("competitions") / called
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / path.name).exists():
            with new_file(folder / path.name) as partial:
                shutil.copyfile(path, partial)
            say(f"{path} is copied to {folder}")
        return called, {"source": "local", "folder": folder.as_posix()}
    if "/" in source and "://" not in source:
        raise ConfigError(
            f"{source}: expected a folder, a zip, or a competition's name or address on Kaggle; "
            "found no such folder or file"
        )
    slug = competition_slug(source)
    return _name(name or slug), {"source": "kaggle", "competition": slug}


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "mine"


def _list_files() -> tuple[dict[str, Any], list[Line]]:
    """What section `prepare` needs for a first look, and what files there are."""
    with RawFiles(paths.RAW) as files:
        tables = {n: Table(n, paths.RAW / n, path, "utf-8") for n, path in files.tables.items()}
        members = [*files.images.members, *files.sounds]
        suffixes = Counter(Path(member).suffix.lower() for member in members)
        lines = [("table", name, ", ".join(table.columns[:8])) for name, table in tables.items()]
        has_sample = bool(Roles(paths.RAW, tables).sample_submissions())
        of_signals = hold_signals(
            files, {name: replace(table, signals=True) for name, table in tables.items()}
        )
        others = len(files.others)
    shown = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in suffixes.items())
    lines.append(("files", shown or "no images or sounds", plural(others, "other file")))
    kind = "signals" if of_signals else "images"
    lines.append(("kind", kind, "what a row is, by its files (prepare.kind)"))
    return {"kind": kind} | ({} if has_sample else {"sample_submission": "none"}), lines


def _look(prepare: dict[str, Any], metric: str) -> Looked:
    with _understood(prepare, metric) as (config, layout):
        of_images = isinstance(config, ImagesConfig)
        return Looked(layout, config.row, int(np.median(_sides(layout))) if of_images else 0)


@contextmanager
def _understood(prepare: dict[str, Any], metric: str) -> Iterator[tuple[PrepareConfig, Layout]]:
    """The files, understood. What is said on the way, `prepare` says again."""
    known = read_config(paths.PARAMS).prepare
    config = type(known).model_validate(known.model_dump() | prepare)
    with ExitStack() as stack:
        with redirect_stderr(StringIO()):
            layout = stack.enter_context(understand(paths.RAW, config, metric_named(metric)))
        yield config, layout


def _look_for_groups(prepare: dict[str, Any], decided: Decided) -> tuple[Looked, Decided] | None:
    """The same with the groups of a table of ids and groups, where there is one."""
    groups = {"source": "file", "file": "auto"}
    try:
        looked = _look(prepare | {"groups": groups}, decided.metric)
    except CompetitionError:
        return None
    train = looked.layout.train
    if (count := len(set(train.groups))) == len(train.image_ids):
        return None
    (name,) = (name for name, role in looked.layout.roles.items() if role == "groups")
    why = f"a table with {count} values; folds keep the {looked.row}s of each together"
    others = [line for line in decided.lines if line[0] != "groups"]
    return looked, replace(decided, groups=groups, lines=[*others, ("groups", name, why)])


def _sides(layout: Layout) -> list[int]:
    """The shorter sides of some of the training images."""
    pictures = [picture for picture in layout.train.pictures if picture]
    step = max(1, len(pictures) // _LOOKED_AT)
    sides = []
    for picture in pictures[::step]:
        with suppress(ImageError):  # `prepare` says which cannot be read
            decoded, _ = picture.decode(layout.train.images, _QUICK)
            sides.append(min(decoded.width, decoded.height))
    return sides or [64]


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _print(files: list[Line], looked: Looked, decided: Decided, facts: Facts) -> None:
    layout = looked.layout
    task, train = layout.competition.task, layout.train
    counts = task.count(task.encode(layout.labels_file, train.labels))
    largest = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name}: {count}" for name, count in largest[:8])
    more = f" and {len(counts) - 8} more" if len(counts) > 8 else ""
    size, found = f"{choose_size(facts)} px", f"the originals' shorter side: {looked.side_px} px"
    if looked.row == "signal":
        size, found = plural(facts.side_px, "sample"), "of each stored signal"
    rows = [
        *((what, name, layout.roles.get(name, why)) for what, name, why in files),
        ("task", task.kind, f"{plural(len(task.outputs), 'output')}; {shown}{more}"),
        ("train", plural(len(train.image_ids), looked.row), _several(train)),
        ("test", plural(len(layout.test.image_ids), looked.row), _several(layout.test)),
        ("size", size, found),
        *decided.lines,
        *_submission(layout, decided.metric),
    ]
    if facts.folds < FOLDS:
        rows.append(("folds", str(facts.folds), f"not every one of {FOLDS} would have each class"))
    if facts.rare != "stop":
        why = "classes in too few groups are trained on and never scored (split.rare)"
        rows.append(("rare classes", facts.rare, why))
    print_table(make_table(["what", "found", "as"], rows, wrapped=["as"]), width=120)


def _submission(layout: Layout, metric: str) -> list[Line]:
    """What a row of the submission will hold, where `prepare` will not refuse it."""
    sample, task = layout.sample, layout.competition.task
    with suppress(EnsembleError, SubmissionError):
        _, form = plan(metric, Choices(), sample.place, task, sample.table)
        return [("submission", form.holds, "as the sample and the metric say (ensemble.form)")]
    return []


def _several(split: Split) -> str:
    rows = len(set(split.row_ids))
    return f"of {plural(rows, 'row')}" if rows < len(split.image_ids) else "one for each row"
