"""A repository that is ready to submit, and commands in it against a local server as Kaggle."""

import hashlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cards import make_card
from kaggle_server import KaggleServer
from project import PARAMS, ROOT
from scipy import stats

from pipeline.core.files import sha256_of
from pipeline.core.record import write_record
from pipeline.scoring.card import Card

COMPETITION = "fighting-malaria"
KEY = {"KAGGLE_USERNAME": "tester", "KAGGLE_KEY": "secret-key"}
IDS = [f"test_{number:05}" for number in range(40)]

QUICK = """\
import os, sys
import pipeline.kaggle.client as client
import pipeline.ledger.submit as submit
client.TIMEOUT_S, client.BACKOFF_S = 2.0, 0.01
submit.SETTLE_S, submit.POLL_S = 0.3, (0.02, 0.1)
{more}
from pipeline.__main__ import main
sys.exit(main())
"""
"""The command line with pauses that suit a test."""


LEVELS = [0.005, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.995]


def normal_card(mean: float = 0.9, **changes: dict[str, Any]) -> Card:
    """A card of 2,000 test rows, whose forecast is normal with a standard deviation of 0.01."""
    sd = 0.01
    quantiles = [mean + sd * stats.norm.ppf(level) for level in LEVELS]
    interval = (mean - 1.65 * sd, mean + 1.65 * sd)
    sections: dict[str, dict[str, Any]] = {
        "out_of_fold": {"rows": 600, "groups": 30},
        "forecast": {
            "mean": mean, "sd": (sd, sd), "public": interval, "private": interval,
            "levels": LEVELS, "quantiles": {"public": quantiles, "private": quantiles},
            "rows": {"public": 1000, "private": 1000},
        },
        "test": {"rows": 2000, "labels": {"0": 800, "1": 1200}},
    }  # fmt: skip
    for name, fields in changes.items():
        sections[name] = sections.get(name, {}) | fields
    return make_card(**sections)


def kaggle_params(name: str = "tiny") -> str:
    """PARAMS whose files come from the local server's competition."""
    start, end = PARAMS.index("download:"), PARAMS.index("prepare:")
    source = f"download: {{source: kaggle, competition: {COMPETITION}}}\n"
    return (PARAMS[:start] + source + PARAMS[end:]).replace("name: tiny", f"name: {name}")


def labels_csv(ones: int) -> str:
    """A submission whose first rows are 1."""
    return "id,label\n" + "".join(f"{name},{int(row < ones)}\n" for row, name in enumerate(IDS))


def make_ready(folder: Path) -> Path:
    """Everything that `submit` reads, committed: as after `dvc repro` and `git commit`."""
    write_submission(folder, "tiny", ones=20)
    store = folder / "data" / "store"
    store.mkdir(parents=True)
    (store / "sample_submission.csv").write_text(labels_csv(0))
    (store / "competition.json").write_text(
        json.dumps(
            {
                "id_column": "id",
                "label_column": "label",
                "task": {"kind": "one_of", "classes": ["0", "1"], "ordered": True},
            }
        )
    )
    (folder / "params.yaml").write_text(kaggle_params())
    (folder / ".gitignore").write_text("/data/\n*.lock\n!/dvc.lock\n/home/\n")
    copy_dvc(folder)
    init(folder)
    commit(folder)
    (folder / "home").mkdir()
    return folder


def write_submission(folder: Path, name: str, ones: int) -> Path:
    """submissions/NAME.csv, its card, and dvc.yaml and dvc.lock that describe it."""
    path = folder / "submissions" / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(labels_csv(ones))
    card = make_card(sha256={"submission": sha256_of(path)})
    write_record(path.with_suffix(".json"), card)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    stage = "stages:\n  ensemble:\n    cmd: python\n    outs:\n"
    out = f"submissions/{name}.csv"
    (folder / "dvc.yaml").write_text(f"{stage}    - {out}: {{cache: false}}\n")
    (folder / "dvc.lock").write_text(
        f"schema: '2.0'\n{stage}    - path: {out}\n      hash: md5\n      md5: {md5}\n"
    )
    return path


def copy_dvc(folder: Path) -> None:
    """Set up DVC as in this repository."""
    (folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, folder / ".dvc")


def init(folder: Path) -> None:
    """A new git repository in the folder."""
    git(folder, "init", "--quiet")
    git(folder, "config", "user.email", "test@example.org")
    git(folder, "config", "user.name", "test")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(folder: Path) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "work")
    return git(folder, "rev-parse", "HEAD")


WARM = multiprocessing.get_context("forkserver")
WARM.set_forkserver_preload(
    [
        "kagglesdk",
        "pipeline.download.stage",
        "pipeline.kaggle.client",
        "pipeline.ledger.commands",
        "pipeline.ledger.submit",
        "pipeline.params",
        "pytest",
    ]
)
"""Starts processes that have imported already what takes most of a command's time."""


def command(
    server: KaggleServer, folder: Path, *arguments: str, more: str = "", **variables: str | None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m pipeline ARGUMENTS` in `folder`, with the local server as the internet."""
    known = {name: text for name, text in (KEY | variables).items() if text is not None}
    environment = server.environment(folder / "home", **known)
    readers, writers = zip(*(WARM.Pipe(duplex=False) for _ in range(2)), strict=True)
    place = folder, environment, writers
    process = WARM.Process(target=_run_quick, args=(more, ["-c", *arguments], *place))
    process.start()
    for writer in writers:
        writer.close()
    with ThreadPoolExecutor() as pool:
        out, err = pool.map(_read_all, readers)
    process.join()
    return subprocess.CompletedProcess(arguments, process.exitcode or 0, out, err)


def _read_all(reader: Connection) -> str:
    with reader, open(reader.fileno(), closefd=False, encoding="utf-8") as text:
        return text.read()


def _run_quick(
    more: str,
    argv: list[str],
    folder: Path,
    environment: dict[str, str],
    outputs: tuple[Connection, Connection],
) -> None:
    """QUICK in a process of its own, which writes into two pipes."""
    for number, output in enumerate(outputs, start=1):
        os.dup2(output.fileno(), number)
        output.close()
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, "utf-8") for number in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = argv
    exec(compile(QUICK.format(more=more), "<string>", "exec"), {"__name__": "__main__"})
