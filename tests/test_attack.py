"""Damaged files end in one sentence or in a plain value: never in a traceback, never without end.

Each format's reader, and what uses its value, gets files with seeded damage (tests/mutations.py), in
a few forked processes. ATTACK_SEED and ATTACK_CASES choose other cases.
"""

import contextlib
import io
import multiprocessing
import os
import resource
import shutil
import signal
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import mutate
from PIL import Image as Pillow
from tasks import one_of

from pipeline.core.errors import PipelineError

SEED = int(os.environ.get("ATTACK_SEED", "1"))
CASES = int(os.environ.get("ATTACK_CASES", "60"))
LIMIT_S = 10
MOST_KB = 2**20
"""Memory of a process above what it has before the first case."""


class TooSlowError(BaseException):
    """No `except Exception` may hide it."""


@dataclass(frozen=True)
class Format:
    """A file in a copy of the trained project, and how it is read there."""

    name: str
    path: Path
    read: Callable[[Path], Any]
    """What a command makes of it."""
    plain: Callable[[Any, Any], bool]
    """Whether a value may be read, given that of the undamaged file."""


def attack(form: Format, cases: range, project: Path, found: Any) -> None:
    """Read each case in this process, and put what must not be into `found`, a queue."""
    os.chdir(project)
    whole = form.path.read_bytes()
    with quiet():
        expected = form.read(form.path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in cases:
        damaged = mutate(whole, f"{form.name} {SEED} {case}")
        form.path.write_bytes(damaged)
        fault = judge(form, expected)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        if grown > MOST_KB:
            fault = f"{grown / 2**20:.1f} GB of memory"
            before += grown
        if fault:
            found.put((form.name, case, fault))
    form.path.write_bytes(whole)
    found.put((form.name, len(cases), None))


def judge(form: Format, expected: Any) -> str | None:
    """What is wrong with the way a damaged file is read; None where nothing is."""
    try:
        with time_limit(LIMIT_S), quiet():
            value = form.read(form.path)
    except TooSlowError:
        return f"more than {LIMIT_S} s"
    except PipelineError as error:
        return None if str(error).strip() else "an error without a word"
    except BaseException as error:
        return describe(error)
    return None if form.plain(value, expected) else f"read as {str(value)[:300]}"


def describe(error: BaseException) -> str:
    """An exception with the lines of pipeline/ that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{f.filename}:{f.lineno}" for f in frames if "/pipeline/" in f.filename]
    return f"{type(error).__name__}: {str(error)[:300]} at {' '.join(places[-4:])}"


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise TooSlowError after so long on a processor, or ten times as long on the clock."""

    def stop(*_: object) -> None:
        raise TooSlowError

    signal.signal(signal.SIGALRM, stop)
    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What is printed goes nowhere; a warning of NumPy means that a number was no number."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error", RuntimeWarning)
        warnings.filterwarnings("ignore", module="PIL")
        yield


# The formats. Their readers import late, so that collecting the tests is quick.


def read_zip(path: Path) -> dict[str, bytes]:
    from pipeline.raw.archive import ImageArchive, check_archive

    check_archive(path)
    with ImageArchive(path) as archive:
        return {member: archive.read(member) for member in archive.members}


def read_image(path: Path) -> np.ndarray:
    from pipeline.core.competition import ImageDecoding
    from pipeline.prepare.decode import decode

    return decode(
        path.read_bytes(), ImageDecoding(size_px=24, channels=3, fit="pad", black_white=None), 4096
    ).pixels


def read_predictions_table(path: Path) -> np.ndarray:
    from pipeline.core.tables import FOLD_COLUMNS, read_predictions, read_table

    folds = read_table(Path("folds/folds.csv"), FOLD_COLUMNS)
    return read_predictions(path, list(folds["image_id"]), one_of(2))


def read_any_csv(path: Path) -> Any:
    from pipeline.prepare.tables import Table
    from pipeline.raw.kinds import is_solution

    is_solution(path.name, path)
    table = Table(path.name, path, path, "utf-8")
    return table.columns, table.cells, table.pixels


def read_folds(_: Path) -> object:
    from pipeline.core import paths
    from pipeline.core.competition import read_competition
    from pipeline.core.tables import FOLD_COLUMNS, IMAGE_COLUMNS, read_table
    from pipeline.ensemble.members import PredictedImages, covered_images, read_model
    from pipeline.params import read_config
    from pipeline.report.facts import read_facts
    from pipeline.train.stage import _rows_of_fold

    table = read_table(paths.FOLDS, FOLD_COLUMNS)
    config = read_config(paths.PARAMS)
    train = list(read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)["image_id"])
    test = list(read_table(paths.TEST_TABLE, IMAGE_COLUMNS)["image_id"])
    task = read_competition(paths.COMPETITION).task
    for name, model in config.train.models.items():
        for fold in config.train.folds:
            _rows_of_fold(fold, train, task, model)
        covered = covered_images(table, config.train.folds)
        of_rows = table.assign(row_id=table["image_id"])
        images = PredictedImages(covered, test, of_rows, task, test)
        read_model(name, config.train.folds, images)
    return read_facts("tiny").card


def read_params(path: Path) -> object:
    from pipeline.params import read_config

    return read_config(path)


def read_page(_: Path) -> str:
    """All that the report reads, and the page made of it."""
    from pipeline.core import paths
    from pipeline.core.arrays import read_array
    from pipeline.core.tables import IMAGE_COLUMNS, read_table
    from pipeline.report.facts import list_figures, read_facts
    from pipeline.report.gallery import show_galleries
    from pipeline.report.page import render_page
    from pipeline.report.seen import read_seen

    facts = read_facts("tiny")
    ids = list(read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)["image_id"])
    images = read_array(paths.TRAIN_IMAGES, len(ids))
    rows = {name: row for row, name in enumerate(ids)}
    page = render_page(facts, show_galleries(facts, images, rows), *read_seen(facts.card))
    page.encode()
    list_figures(facts)
    return page


def read_card_everywhere(path: Path) -> str:
    """The page, the summary, the networks with their blend, the ledger's explanation, the finals."""
    from pipeline.commands import summary
    from pipeline.core import paths
    from pipeline.core.audit import Audit
    from pipeline.core.record import read_record
    from pipeline.ensemble.saved import read_fitted
    from pipeline.ledger.explain import explain_score
    from pipeline.ledger.finals import choose_finals, describe_finals
    from pipeline.ledger.history import PastSubmission, read_groups
    from pipeline.ledger.review import review
    from pipeline.params import read_config
    from pipeline.predict.command import find_weights
    from pipeline.scoring.card import read_card

    card = read_card(path)
    config = read_config(paths.PARAMS)
    audit = read_record(paths.AUDIT, Audit, "prepare")
    for public in (0.0, 0.5, 0.9, 1.0):
        explain_score(card, public, audit)
    past = [
        PastSubmission(str(place), 0.8 + place / 10, card, "", {"a": (str(place),), "b": ("1",)})
        for place in range(2)
    ]
    review(past)
    with contextlib.suppress(PipelineError):  # the rule may find no finalist
        describe_finals(choose_finals(past, read_groups(paths.FOLDS)))
    with contextlib.suppress(PipelineError):
        _, weights = find_weights(config)
        blend = read_fitted(path, card.blend.fitted, len(weights), one_of(2))
        blend.apply(np.full((len(weights), 3, 2), 0.5))
    summary.run(config)
    return read_page(path)


def read_lock(path: Path) -> object:
    from pipeline.ledger.stages import read_lock as parse_lock

    return parse_lock(path.read_bytes())


def read_the_ledger(path: Path) -> object:
    from pipeline.core.audit import Audit
    from pipeline.core.record import read_record
    from pipeline.ledger import commands
    from pipeline.ledger.explain import explain_entries
    from pipeline.ledger.ledger import latest, read_ledger

    entries = read_ledger(path)
    for competition in {entry.competition for entry in entries}:
        known = latest(entries, competition)
        commands._print_entries(known)
        explain_entries(known, read_record(Path("data/audit.json"), Audit, "prepare"))
        with contextlib.suppress(PipelineError):
            commands.finals(competition)
    return entries


def read_weights(path: Path) -> list[tuple[int, ...]]:
    from pipeline.train.models import load_model

    model, _ = load_model(path)
    return [tuple(each.shape) for each in model.state_dict().values()]


def read_array(path: Path) -> np.ndarray:
    from pipeline.core.arrays import read_array
    from pipeline.core.tables import IMAGE_COLUMNS, read_table
    from pipeline.ensemble.forecast.drift import pool_rows
    from pipeline.report.gallery import picture

    table = read_table(path.with_suffix(".csv"), IMAGE_COLUMNS)
    images = read_array(path, len(table))
    pool_rows(path, table, np.arange(len(table)))
    picture(np.asarray(images[0]))
    return np.asarray(images)


def read_answers(_: Path) -> object:
    """The sample submission, the submission and the solution, as `check` reads them."""
    from pipeline.check.score import score_submission
    from pipeline.core import paths
    from pipeline.core.competition import read_competition
    from pipeline.scoring.metrics import METRICS
    from pipeline.scoring.submission import check_submission
    from pipeline.scoring.which_form import read_form

    competition = read_competition(paths.COMPETITION)
    metric = METRICS["accuracy"]
    form = read_form(paths.SAMPLE_SUBMISSION, metric, competition.task)
    counts = check_submission(Path("submissions/tiny.csv"), form)
    label = competition.label_column
    scores = score_submission(Path("submissions/tiny.csv"), form, paths.SOLUTION, label, metric)
    return counts, scores


def read_checkpoint(path: Path) -> object:
    import torch

    from pipeline.train.checkpoint import Checkpoint

    return Checkpoint(path.parent).load(torch.device("cpu"))


def read_live(path: Path) -> object:
    from pipeline.commands.board import Board, Training

    with Board() as board:
        training = Training("one", 0, 20)
        assert path == training.live
        board.show({training: ""}, 0, 1)
        board._last_line -= 1000
        board.show({training: ""}, 0, 1)
        board.show_end(training, "done", "1 of 1")
    return None


def equal(value: Any, expected: Any) -> bool:
    return bool(value == expected)


def anything(value: Any, expected: Any) -> bool:
    """The reader has checked everything there is to know."""
    del value, expected
    return True


def same_shape(value: np.ndarray, expected: np.ndarray) -> bool:
    return value.shape == expected.shape and value.dtype == expected.dtype


def formats(project: Path) -> list[Format]:
    """Those of real files of the project, and of made ones beside them."""
    from pictures import dicom

    made = project / "made"
    made.mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (20, 16, 3), np.uint8)
    for name in ("a.png", "b.jpg", "c.bmp", "d.webp", "e.tif", "f.gif"):
        Pillow.fromarray(pixels).save(made / name)
    with zipfile.ZipFile(made / "images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.png", "b.jpg", "c.bmp"):
            archive.write(made / name, f"images/{name}")
    with zipfile.ZipFile(made / "stored.zip", "w") as archive:
        archive.write(made / "a.png", "ä.png")
    np.save(made / "g.npy", pixels)
    (made / "h.dcm").write_bytes(dicom(pixels))
    packed = {(made / name).read_bytes() for name in ("a.png", "b.jpg", "c.bmp")}

    def packed_only(value: dict[str, bytes], _: object) -> bool:
        return set(value.values()) <= packed

    import torch

    torch.save({"epoch": 3, "weights": torch.arange(9.0)}, made / "checkpoint.pt")
    write_a_ledger(project)
    images = [
        Format(name.partition(".")[2], Path("made") / name, read_image, same_shape)
        for name in ("a.png", "b.jpg", "c.bmp", "d.webp", "e.tif", "f.gif", "h.dcm")
    ]
    records = {
        "leaderboard.json": Path("reports/leaderboard.json"),
        "audit.json": Path("data/audit.json"),
        "folds/summary.json": Path("folds/summary.json"),
        "competition.json": Path("data/store/competition.json"),
        "history.csv": Path("models/one/fold0/history.csv"),
        "ensemble/oof.csv": Path("ensemble/oof.csv"),
        "train.csv": Path("data/store/train.csv"),
    }
    answers = {
        "sample.csv": Path("data/store/sample_submission.csv"),
        "submission.csv": Path("submissions/tiny.csv"),
        "solution.csv": Path("data/hidden/solution.csv"),
    }
    return [
        Format("zip", Path("made/images.zip"), read_zip, packed_only),
        Format("stored.zip", Path("made/stored.zip"), read_zip, packed_only),
        *images,
        Format("npy of an image", Path("made/g.npy"), read_image, same_shape),
        Format("csv", Path("models/one/fold0/test.csv"), read_any_csv, anything),
        Format("folds.csv", Path("folds/folds.csv"), read_folds, anything),
        *(Format(name, path, read_page, anything) for name, path in records.items()),
        *(Format(name, path, read_answers, anything) for name, path in answers.items()),
        Format("params.yaml", Path("params.yaml"), read_params, anything),
        Format("card", Path("submissions/tiny.json"), read_card_everywhere, anything),
        Format("dvc.lock", Path("dvc.lock"), read_lock, anything),
        Format("ledger.csv", Path("submissions/ledger.csv"), read_the_ledger, anything),
        Format("safetensors", Path("models/one/fold0/weights.safetensors"), read_weights, equal),
        Format("npy", Path("data/store/train.npy"), read_array, same_shape),
        Format("checkpoint", Path("made/checkpoint.pt"), read_checkpoint, anything),
        Format("live.csv", Path("live/one-fold0.csv"), read_live, anything),
    ]


def write_a_ledger(project: Path) -> None:
    """Two submissions, one of them scored, through the functions that submit uses."""
    from pipeline.core.files import sha256_of
    from pipeline.ledger.ledger import Entry, append

    first = Entry(
        time="2026-01-02T03:04:05+00:00", status="uploading", submitted="2026-01-02T03:04:05+00:00",
        competition="cells", file="submissions/tiny.csv",
        sha256=sha256_of(project / "submissions/tiny.csv"), metric="accuracy",
        cross_validated="0.9", forecast_low="0.8", forecast_high="0.95", mark="a #1",
    )  # fmt: skip
    done = replace(first, status="complete", ref="11", public="0.91", private="0.9")
    other = replace(first, ref="12", mark="a #2", status="pending")
    for entry in (first, replace(first, status="pending", ref="11"), done, other):
        append(project / "submissions/ledger.csv", entry)


USED = (
    "data", "folds", "models", "submissions", "ensemble", "explain", "reports", "live",
    "params.yaml", "dvc.lock", "dvc.yaml",
)  # fmt: skip


def working_copy(trained: Path, folder: Path) -> Path:
    """What the readers read, without git and DVC's cache."""
    folder.mkdir()
    for name in USED:
        copy = shutil.copytree if (trained / name).is_dir() else shutil.copyfile
        copy(trained / name, folder / name)
    return folder


def run_attack(folder: Path, forms: list[Format], cases: int, workers: int) -> list[str]:
    """The faults of all cases, from as many processes; one that dies is a fault, too."""
    load_libraries()
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    jobs = [(form, range(at, cases, workers)) for form in forms for at in range(workers)]
    copies = []
    for at in range(workers):
        copies.append(shutil.copytree(folder, folder.with_name(f"{folder.name}{at}")))
    slots: list[Any] = [None] * workers
    faults, finished = [], {}
    names: dict[int, str] = {}
    while jobs or any(slots) or not found.empty():
        for at, process in enumerate(slots):
            if process is not None and not process.is_alive():
                if process.exitcode:
                    faults.append(f"{names[at]}: the process died: {process.exitcode}")
                slots[at] = process = None
            if process is None and jobs:
                form, share = jobs.pop(0)
                names[at] = form.name
                slots[at] = context.Process(target=attack, args=(form, share, copies[at], found))
                slots[at].start()
        with contextlib.suppress(Exception):
            name, case, fault = found.get(timeout=0.05)
            if fault is None:
                finished[name] = finished.get(name, 0) + case
            else:
                faults.append(f"{name}, case {case}: {fault}")
    assert finished == {form.name: cases for form in forms} or faults
    return faults


def load_libraries() -> None:
    """Once, before processes are forked; with one thread, torch starts none until it computes."""
    import pipeline.check.score
    import pipeline.commands.board
    import pipeline.commands.summary
    import pipeline.ledger.commands
    import pipeline.ledger.explain
    import pipeline.ledger.finals
    import pipeline.predict.command
    import pipeline.report.stage
    import pipeline.train.stage  # noqa: F401


@pytest.mark.slow
def test_no_damage_to_any_format_is_a_traceback_or_a_hang(trained: Path, tmp_path: Path) -> None:
    folder = working_copy(trained, tmp_path / "copy")
    faults = run_attack(folder, formats(folder), CASES, workers=2)
    assert not faults, "\n\n".join([f"{len(faults)} faults", *faults[:40]])
