"""Each file that a command reads, damaged in each way, ends in one sentence that names it.

Exit code 1, no traceback, nothing written; or the damage changes nothing: the same bytes come out.
"""

import contextlib
import io
import multiprocessing
import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from project import PARAMS, stage
from test_attack import load_libraries, too_slow, working_copy, write_a_ledger
from test_report import NAME, make_outputs

from pipeline.core import paths
from pipeline.core.files import write_text

LIMIT_S = 30
HUGE_BYTES = 50_000_000

Command = tuple[str, ...]


def put(content: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_bytes(content)

    return damage


def change(edit: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_bytes(edit(path.read_bytes()))

    return damage


def middle(inserted: bytes) -> Callable[[Path], None]:
    """Inserted at the start of a line near the middle, or where there are none, in the middle."""

    def edit(content: bytes) -> bytes:
        at = content.rfind(b"\n", 0, len(content) // 2 + 1) + 1 or len(content) // 2
        return content[:at] + inserted + content[at:]

    return change(edit)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def broken_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def huge(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(HUGE_BYTES)  # the rest are zeros, which take no room


WRONG = {
    ".json": b'[1, {"name": null}]\n',
    ".csv": b"one,two\n1,x\n",
    ".yaml": b"[1, {download: null}]\n",
    ".lock": b"[1, {stages: null}]\n",
}
DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": put(b""),
    "cut": change(lambda content: content[: len(content) * 6 // 10]),
    "garbage": put(random.Random(1).randbytes(3000)),
    "merge": middle(b"<<<<<<< HEAD\n=======\nx\n>>>>>>> other\n"),
    "types": lambda path: path.write_bytes(WRONG.get(path.suffix, b"text\n")) and None,
    "not UTF-8": middle(b"caf\xe9 \xff\n"),
    "a folder": folder,
    "a broken link": broken_link,
    "huge": huge,
    "a NUL": middle(b"\x00"),
}


def run_command(command: Command) -> tuple[int | None, str]:
    """The exit code and standard error of a command in this process; None with a traceback."""
    from pipeline.__main__ import main

    said = io.StringIO()
    signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(LIMIT_S)
    argv, sys.argv = sys.argv, ["pipeline", *command]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            code: Any = main()
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        return None, traceback.format_exc(limit=-8)
    finally:
        sys.argv = argv
        signal.alarm(0)
    return code, said.getvalue()


def contents(place: Path = Path()) -> dict[str, bytes]:
    """Every file with its bytes."""
    files = sorted(path for path in place.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files}


def walk(path: Path, command: Command, damages: dict[str, Callable[[Path], None]]) -> list[str]:
    """What goes wrong when a command meets the damaged file, in the present folder."""
    before = contents()
    code, said = run_command(command)
    assert code == 0, f"{command}: {said}"
    result = contents()
    faults = []
    for name, damage in damages.items():
        restore(before)
        damage(path)
        damaged = contents()
        code, said = run_command(command)
        fault = judge(path, code, said)
        found = contents()
        if code == 1 and found != damaged:
            others = {each for each in found if found[each] != damaged.get(each)}
            fault = f"wrote {others} all the same"
        if code == 0:
            others = {
                each for each in result if each != str(path) and (result[each] != found.get(each))
            }
            fault = f"unnoticed, with another result in {others}" if others else ""
        if fault:
            faults.append(f"{path}, {name}: {' '.join(command)}: {fault}")
    restore(before)
    return faults


def judge(path: Path, code: int | None, said: str) -> str:
    lines = said.splitlines()
    errors = [line for line in lines if line.partition(": ")[0].endswith("Error")]
    if code not in (0, 1) or "Traceback" in said:
        return f"exit code {code}: {said}"
    if code == 1 and (len(errors) != 1 or path.name not in said[said.index(errors[0]) :]):
        return f"no sentence that names it: {said[-500:]!r}"
    return ""


def restore(before: dict[str, bytes]) -> None:
    """Bring the present folder back, and touch only what differs."""
    for link in [path for path in Path().rglob("*") if path.is_symlink()]:
        link.unlink()
    for name in before:
        if Path(name).is_dir():
            shutil.rmtree(name)
    now = contents()
    for name in now.keys() - before.keys():
        Path(name).unlink()
    for name, content in before.items():
        if now.get(name) != content:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(content)


QUICK: list[tuple[Path, Command]] = [
    (paths.PARAMS, ("summary",)),
    (paths.card(NAME), ("summary",)),
    (paths.LEADERBOARD, ("summary",)),
    (paths.AUDIT, ("report",)),
    (paths.FOLDS_SUMMARY, ("report",)),
    (paths.TRAIN_IMAGES, ("report",)),
    (paths.COMPETITION, ("noise",)),
    (Path("models/vgg/fold1/history.csv"), ("report",)),
]


@pytest.mark.parametrize(("path", "command"), QUICK, ids=str)
def test_a_damaged_file_of_a_page_is_named_in_one_sentence(
    path: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_outputs(tmp_path))
    write_text(paths.PARAMS, PARAMS.replace("name: tiny", f"name: {NAME}"))
    faults = walk(path, command, DAMAGES)
    assert not faults, "\n\n".join(faults)


FILES: list[tuple[str, list[Command]]] = [
    ("params.yaml", [("summary",), ("split",)]),
    ("dvc.lock", [("submit", "--competition", "cells", "--yes")]),
    ("data/raw/*.csv", [("prepare",)]),
    ("data/raw/*.zip", [("prepare",)]),
    ("data/store/train.csv", [("split",), ("train", "one", "0"), ("report",), ("noise",)]),
    ("data/store/test.csv", [("ensemble",), ("train", "one", "0")]),
    ("data/store/*.npy", [("ensemble",), ("train", "one", "0")]),
    ("data/store/competition.json", [("split",), ("ensemble",), ("check",)]),
    ("data/store/sample_submission.csv", [("check",), ("ensemble",)]),
    ("data/audit.json", [("report",)]),
    ("data/hidden/solution.csv", [("check",)]),
    ("folds/folds.csv", [("ensemble",), ("report",), ("train", "one", "0")]),
    ("folds/summary.json", [("report",)]),
    ("models/one/fold0/*.csv", [("ensemble",), ("report",)]),
    ("models/one/fold0/weights.safetensors", [("predict", "data/raw/test.zip")]),
    ("ensemble/oof.csv", [("report",), ("noise",)]),
    ("submissions/tiny.csv", [("check",), ("predict", "data/raw/test.zip")]),
    ("submissions/tiny.json", [("check",), ("summary",), ("report",)]),
    ("submissions/tiny.json", [("predict", "data/raw/test.zip")]),
    ("submissions/ledger.csv", [("finals", "--competition", "cells")]),
    ("reports/leaderboard.json", [("summary",), ("report",)]),
    ("corrections/made.csv", [("prepare",), ("noise",)]),
    ("profiles/other.yaml", [("use", "other")]),
]
"""What commands read, by the files' patterns in a trained project."""


def walk_share(project: Path, share: list[tuple[Path, Command]], found: Any) -> None:
    os.chdir(project)
    for path, command in share:
        found.put(walk(path, command, DAMAGES))


@pytest.mark.slow
def test_every_damaged_file_is_named_in_one_sentence(trained: Path, tmp_path: Path) -> None:
    place = full_project(trained, tmp_path / "copy")
    pairs = [
        (path.relative_to(place), command)
        for pattern, commands in FILES
        for path in sorted(place.glob(pattern))
        for command in commands
    ]
    load_libraries()
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    workers = []
    for number in range(2):
        copy = shutil.copytree(place, tmp_path / f"copy{number}")
        share = pairs[number::2]
        workers.append(context.Process(target=walk_share, args=(copy, share, found)))
        workers[-1].start()
    faults = [fault for _ in pairs for fault in found.get(timeout=300)]
    for worker in workers:
        worker.join()
    assert not faults, "\n\n".join([f"{len(faults)} faults", *faults])


def full_project(trained: Path, folder: Path) -> Path:
    """A trained project with corrections, a profile and a ledger, in no repository."""
    place = working_copy(trained, folder)
    write_a_ledger(place)
    train = pd.read_csv(place / paths.TRAIN_TABLE, dtype=str)
    other = {"0": "1", "1": "0"}
    rows = [
        (row.image_id, row.label, other[row.label], "seen")
        for row in train.head(3).itertuples(index=False)
    ]
    corrections = pd.DataFrame(rows, columns=["image_id", "old", "new", "reason"])
    (place / "corrections").mkdir()
    corrections.to_csv(place / "corrections/made.csv", index=False)
    params = (place / "params.yaml").read_text()
    params = params.replace("corrections: null", "corrections: corrections/made.csv")
    (place / "params.yaml").write_text(params)
    (place / "profiles").mkdir()
    (place / "profiles/other.yaml").write_text(params)
    (place / "profiles/more.yaml").write_text(params.replace("seed: 1", "seed: 3"))
    return place


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "command"),
    [("submissions/tiny.json", "summary"), ("data/store/train.npy", "report"), ("params.yaml", "split")],
)  # fmt: skip
def test_a_real_process_says_the_sentence_alone(
    trained: Path, tmp_path: Path, name: str, command: str
) -> None:
    place = working_copy(trained, tmp_path / "copy")
    shutil.copytree(Path(__file__).parent.parent / "pipeline", place / "pipeline")
    DAMAGES["cut"](place / name)
    done = stage(place, command)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    assert name in done.stdout
