"""DVC as a library: `dvc repro` and `dvc status`, whatever another run does or a kill has left.

No setting of DVC turns off the hints that it gives to somebody who types its commands (`git add
…`, `dvc config core.autostage true`, `dvc push`), and its --quiet hides its errors too: here its
loggers say what runs, and what fails. Where DVC says that files are busy and a lock file is to be
removed by hand, those who are at work are waited for, and those who are dead struck out.
"""

import json
import logging
import os
import re
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from pipeline.core import paths
from pipeline.core.errors import PipelineError
from pipeline.core.files import new_file, write_text
from pipeline.core.progress import say
from pipeline.download.changes import find_changes
from pipeline.ledger.stages import explain_refusal
from pipeline.params import read_config

if TYPE_CHECKING:
    from dvc.repo import Repo

Result = TypeVar("Result")

_TURN_S = 0.5


def reproduce(stages: list[str], single_item: bool = False) -> None:
    """Rebuild what is out of date of these stages and those before them; without any, of all.

    A local folder that has changed, which DVC cannot see, is taken anew first.
    single_item: these stages alone. Raises PipelineError where DVC fails.
    """
    if not single_item and (changes := find_changes(read_config(paths.PARAMS).download)):
        say(f"{changes}: `download` runs again")
        with_dvc(lambda repo: repo.reproduce(["download"], force=True))
    if not with_dvc(lambda repo: repo.reproduce(stages or None, single_item=single_item)):
        say("Data and pipelines are up to date.")


def record(stages: list[str]) -> None:
    """Let DVC record and cache the outputs of stages that lie in their place, as after their runs.

    All at once: DVC reads and writes the whole of dvc.lock for each record, however many stages
    are in it. Where one fails, none is recorded.
    """
    with_dvc(lambda repo: _commit(repo, stages))


def _commit(repo: "Repo", stages: list[str]) -> None:
    """What `dvc commit --force` does, which takes one stage at a time."""
    from dvc.dvcfile import PROJECT_FILE, ProjectFile
    from dvc.repo import lock_repo

    with lock_repo(repo):
        file = ProjectFile(repo, PROJECT_FILE)
        found = [file.stages[name] for name in stages]
        for stage in found:
            stage.save()
            stage.commit()
        file.dump_stages(found, update_pipeline=False)


def find_stale(stage: str) -> set[str]:
    """Those of a stage, which needs the data, and the stages before it that would run or be
    restored."""
    stale = set(with_dvc(lambda repo: repo.status(targets=[stage], with_deps=True)))
    return stale | ({"download"} if find_changes(read_config(paths.PARAMS).download) else set())


def with_dvc(work: Callable[["Repo"], Result], command: str = "repro") -> Result:
    """Do something with DVC, after others that use the same files.

    command: the one of ours that fails where DVC does, with PipelineError.
    """
    from dvc.exceptions import DvcException  # 1 s
    from dvc.lock import LockError
    from dvc.repo import Repo
    from dvc.utils import strictyaml
    from dvc.utils.serialize import _common, _yaml

    logging.getLogger("dvc").setLevel(logging.WARNING)
    for runs in ("dvc.stage.run", "dvc.stage.cache"):  # "Running stage …", "… is cached"
        logging.getLogger(runs).setLevel(logging.INFO)
    _common._dump_data = _dump_whole
    _yaml.parse_yaml = strictyaml.parse_yaml = _parse_once
    try:
        with Repo(_wait_for_lock=True) as repo:
            locks = Path(str(repo.tmp_dir))
            while True:
                _others_at_work(locks)
                try:
                    return work(repo)
                except DvcException as error:
                    if not isinstance(error.__cause__ or error, LockError):
                        raise
                    _wait_for_others(locks)
    except (DvcException, sqlite3.Error) as error:
        cause = str(error.__cause__ or "")
        if cause.endswith(("exited with 130", f"exited with {-signal.SIGINT}")):  # Ctrl-C
            raise SystemExit(130) from error
        explain_refusal(error)
        raise PipelineError(f"dvc {command}: {error}{cause and ': '}{cause}") from error


def _wait_for_others(locks: Path) -> None:
    """Return when one of those at work has ended, or uses fewer files, or others."""
    others = _others_at_work(locks)
    names = [f"{_module(command)} (process {pid})" for pid, command in sorted(others)]
    if names:
        say(f"waiting for {', '.join(names)}: at work on the same files")
    time.sleep(_TURN_S)
    while others and _others_at_work(locks) == others:
        time.sleep(_TURN_S)


def _others_at_work(locks: Path) -> Counter[tuple[int, str]]:
    """The processes that DVC's lock file names, with their commands: how many files each uses.

    Those that are dead are struck out first. DVC does that too, but with a warning for each, not
    where another process has got the number since, and not in a file that a kill has cut short.
    """
    from dvc.lock import make_lock
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

    path = locks / RWLOCK_FILE
    kept: dict[str, dict[str, Any]] = {"write": {}, "read": {}}
    with make_lock(str(locks / RWLOCK_LOCK), tmp_dir=str(locks), wait=True):
        try:
            found = json.loads(path.read_bytes())
            for file, one in found.get("write", {}).items():
                kept["write"] |= {file: one} if _is_at_work(one) else {}
            for file, some in found.get("read", {}).items():
                at_work = [one for one in some if _is_at_work(one)]
                kept["read"] |= {file: at_work} if at_work else {}
        except FileNotFoundError:
            return Counter()
        except (ValueError, LookupError, TypeError, AttributeError):
            found = None
        if kept != found:
            write_text(path, json.dumps(kept))
    holders = [*kept["write"].values(), *chain.from_iterable(kept["read"].values())]
    return Counter((one["pid"], one["cmd"]) for one in holders)


def _is_at_work(holder: dict[str, Any]) -> bool:
    """Whether the process with this number is another one than this, and runs that command."""
    if holder["pid"] == os.getpid():
        return False
    try:
        words = psutil.Process(holder["pid"]).cmdline()
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False
    return bool(words) and holder["cmd"].endswith(words[-1])


def _module(command: str) -> str:
    """A command as it was typed: DVC notes the file of the module that `python -m` has run."""
    return re.sub(r"^.*/(\w+)/__main__\.py", r"python -m \1", command)


def _dump_whole(path: str, data: Any, dumper: Callable[..., Any], **arguments: Any) -> None:
    """Write YAML for DVC: whole or not at all, and the stages of dvc.lock by name, so that its
    bytes do not depend on which of several trainings was done first."""
    arguments.pop("fs", None)
    if "stages" in data:
        data["stages"] = dict(sorted(data["stages"].items()))
    with new_file(Path(path)) as partial, partial.open("w", encoding="utf-8") as file:
        dumper(data, file, **arguments)


def _parse_once(text: str, path: str, typ: str = "safe") -> Any:
    """Read YAML for DVC, which asks for the whole of params.yaml three times for each stage: the
    same text is parsed once, and whoever asks has a copy of his own."""
    if typ == "safe":
        return deepcopy(_parse(text, path))
    from dvc.utils.serialize import parse_yaml

    return parse_yaml(text, path, typ)


@lru_cache(maxsize=4)
def _parse(text: str, path: str) -> Any:
    from dvc.utils.serialize import parse_yaml

    return parse_yaml(text, path)
