"""Each file that a command reads, damaged in each way, ends in one sentence that names it.

Exit code 1, no traceback, nothing written; or the damage changes nothing: the same bytes come out.
"""

import ast
import contextlib
import io
import multiprocessing
import os
import queue
import random
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from project import PARAMS, stage
from test_attack import load_libraries, time_limit, working_copy, write_a_ledger
from test_report import NAME, make_outputs

from pipeline.core import paths
from pipeline.core.files import write_text
from pipeline.scoring.seen import SEEN

LIMIT_S = 10
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
    argv, sys.argv = sys.argv, ["pipeline", *command]
    try:
        with (
            time_limit(LIMIT_S),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(said),
        ):
            code: Any = main()
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        return None, traceback.format_exc(limit=-8)
    finally:
        sys.argv = argv
    return code, said.getvalue()


def contents(place: Path = Path()) -> dict[str, bytes]:
    """Every file with its bytes."""
    files = sorted(path for path in place.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files}


def walk(damaged: list[Path], command: Command) -> list[str]:
    """What goes wrong when a command meets each of the files damaged, in the present folder."""
    before = contents()
    code, said = run_command(command)
    if code != 0:
        return [f"undamaged: {' '.join(command)}: {said}"]
    result = contents()
    faults = []
    for path in damaged:
        for name, damage in DAMAGES.items():
            restore(before)
            damage(path)
            if fault := meet(path, command, result):
                faults.append(f"{path}, {name}: {' '.join(command)}: {fault}")
    restore(before)
    return faults


def meet(path: Path, command: Command, result: dict[str, bytes]) -> str:
    """What goes wrong when a command meets a damaged file; "" where nothing does.

    result: every file after the command without damage.
    """
    before = contents()
    code, said = run_command(command)
    after = contents()
    if code == 0:  # the same bytes come out, or the damage went unnoticed
        others = {each for each in result if each != str(path) and result[each] != after.get(each)}
        return f"unnoticed, with another result in {others}" if others else ""
    if code != 1 or "Traceback" in said:
        return f"exit code {code}: {said}"
    if after != before:
        return f"wrote {[each for each in after if after[each] != before.get(each)]} all the same"
    lines = said.splitlines()
    errors = [line for line in lines if line.partition(": ")[0].endswith("Error")]
    named = path.name, path.stem.replace("_", " ")  # "the sample submission"
    if len(errors) != 1 or not any(name in said[said.index(errors[0]) :] for name in named):
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
    (paths.explained("vgg") / SEEN, ("report",)),
]


@pytest.mark.parametrize(("path", "command"), QUICK, ids=str)
def test_a_damaged_file_of_a_page_is_named_in_one_sentence(
    path: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_outputs(tmp_path))
    write_text(paths.PARAMS, PARAMS.replace("name: tiny", f"name: {NAME}"))
    faults = walk([path], command)
    assert not faults, "\n\n".join(faults)


READ: dict[Command, list[str]] = {
    ("summary",): ["params.yaml", "submissions/tiny.json", "reports/leaderboard.json"],
    ("use", "other"): ["profiles/other.yaml"],
    ("profiles",): ["params.yaml", "profiles/more.yaml"],
    ("finals", "--competition", "cells"): ["submissions/ledger.csv"],
    ("prepare",): ["params.yaml", "data/raw/*.csv", "data/raw/*.zip", "corrections/made.csv"],
    ("split",): ["data/store/train.csv", "data/store/competition.json"],
    ("train", "one", "0"): ["data/store/t*.csv", "data/store/*.npy", "folds/folds.csv"],
    ("ensemble",): [
        "data/store/*.json", "data/store/test.csv", "data/store/sample_submission.csv",
        "data/store/*.npy", "folds/folds.csv", "models/one/fold0/*t.csv", "models/one/fold0/oof.csv",
    ],
    ("check",): [
        "data/store/competition.json", "data/store/sample_submission.csv",
        "data/hidden/solution.csv", "submissions/tiny.csv", "submissions/tiny.json",
    ],
    ("report",): [
        "data/audit.json", "data/store/train.*", "data/store/competition.json", "folds/*",
        "models/one/fold0/history.csv", "ensemble/oof.csv", "submissions/tiny.json",
        "reports/leaderboard.json", "explain/one/seen.json",
    ],
    ("explain", "one"): [
        "data/store/t*.csv", "data/store/*.npy", "data/store/competition.json", "folds/folds.csv",
        "models/one/fold0/*t.csv", "models/one/fold0/oof.csv", "models/one/fold0/weights.safetensors",
    ],
    ("noise",): ["data/store/train.csv", "ensemble/oof.csv", "corrections/made.csv"],
    ("predict", "data/raw/test_data.zip"): [
        "models/one/fold0/weights.safetensors", "submissions/tiny.csv", "submissions/tiny.json",
    ],
}  # fmt: skip
"""What commands read in a trained project."""


def walk_share(project: Path, commands: Any, found: Any) -> None:
    """Take one command after the other, and put what goes wrong."""
    os.chdir(project)
    while not commands.empty():
        with contextlib.suppress(queue.Empty):
            command = commands.get(timeout=0.1)
            damaged = [path for pattern in READ[command] for path in sorted(Path().glob(pattern))]
            found.put((command, len(damaged), walk(damaged, command)))


READERS = {
    "json.load": [],
    "json.loads": [
        "commands/jobs.py",
        "commands/repro.py",
        "core/wide.py",
        "kaggle/credentials.py",
        "kaggle/transport.py",
        "notebook/needs.py",
        "prepare/groups.py",
        "prepare/tables.py",
        "train/augment/names.py",
        "winner/build.py",
    ],
    "model_validate_json": ["core/ours.py", "core/record.py", "train/models.py", "winner/run.py"],
    "csv.reader": [
        "core/tables.py",
        "ledger/history.py",
        "ledger/ledger.py",
        "prepare/signal_files.py",
        "prepare/tables.py",
    ],
    "csv.DictReader": [],
    "pd.read_csv": ["core/tables.py"],
    "np.load": [],
    "np.memmap": [],
    "open_memmap": ["core/arrays.py"],
    "load_file": ["train/models.py", "train/published.py"],
    "safe_open": ["core/wide.py", "ensemble/members.py", "train/models.py"],
    "torch.load": ["commands/weights.py", "train/checkpoint.py"],
    "YAML": ["core/yaml.py"],
    "ZipFile": [
        "download/drawn/files.py",
        "download/kaggle.py",
        "raw/archive.py",
        "winner/build.py",
    ],
    "TarFile": [],
    "tarfile.open": ["cluster/worker.py", "raw/unpack.py", "winner/build.py"],
    "SevenZipFile": ["raw/unpack.py"],
    "Pillow.open": ["prepare/dicom_files.py", "prepare/pillow_files.py"],
    "pickle.load": [],
}
"""What reads a format, and the modules that may: json.loads what another program said, or
credentials, or the versions beside a notebook; csv.reader also text from git, the ledger's lines, a
first line, and a signal's own file; ZipFile writes, and
winner/build.py reads a tar from git."""


@pytest.mark.parametrize("reader", READERS)
def test_a_format_is_read_in_its_modules_only(reader: str) -> None:
    root = Path(__file__).parent.parent / "pipeline"
    found = {
        file.relative_to(root).as_posix()
        for file in root.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and f".{ast.unparse(node.func)}".endswith(f".{reader}")
    }
    assert found <= set(READERS[reader])


@pytest.mark.slow
def test_every_damaged_file_is_named_in_one_sentence(trained: Path, tmp_path: Path) -> None:
    place = full_project(trained, tmp_path / "copy")
    load_libraries()
    context = multiprocessing.get_context("fork")
    commands, found = context.Queue(), context.Queue()
    for command in READ:
        commands.put(command)
    workers = []
    for number in range(2):
        copy = shutil.copytree(place, tmp_path / f"copy{number}")
        workers.append(context.Process(target=walk_share, args=(copy, commands, found)))
        workers[-1].start()
    walked = [found.get(timeout=300) for _ in READ]
    for worker in workers:
        worker.join()
    faults = [fault for _, _, faults in walked for fault in faults]
    assert not faults, "\n\n".join([f"{len(faults)} faults", *faults])
    assert all(files >= len(READ[command]) for command, files, _ in walked)


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
    params = params.replace("epochs: 20", "epochs: 1")
    (place / "params.yaml").write_text(params)
    (place / "profiles").mkdir()
    (place / "profiles/other.yaml").write_text(params)
    (place / "profiles/more.yaml").write_text(params.replace("seed: 1", "seed: 3"))
    return place


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "command"),
    [("submissions/tiny.json", "summary"), ("data/store/train.npy", "report"), ("folds/folds.csv", "ensemble"), ("params.yaml", "split")],
)  # fmt: skip
def test_a_real_process_says_the_sentence_alone(
    trained: Path, tmp_path: Path, name: str, command: str
) -> None:
    place = working_copy(trained, tmp_path / "copy")
    shutil.copytree(Path(__file__).parent.parent / "pipeline", place / "pipeline")
    DAMAGES["cut"](place / name)
    done = stage(place, command)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert all(name in line for line in lines)
    assert len(lines) == 1 or name == "params.yaml"  # which has a line for each mistake
