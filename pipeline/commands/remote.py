"""DVC's default remote and its cache, as what stages made: each of them whole or not at all.

`dvc push` and `dvc pull` pass over what is missing with a list of hashes, and leave the networks
of DVC's cache of runs where they are. Here what is missing is known by the stage that made it. A
list of files (.dir) follows the files that it names, so that what a list in the remote names is
there.
"""

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.core.errors import PipelineError, TableError, examples, plural
from pipeline.core.progress import say
from pipeline.core.yaml import parse_yaml
from pipeline.kaggle.scrub import one_line, scrub
from pipeline.ledger.stages import LockedStage

LIST = ".dir"
"""Ends the hash of a folder, whose object lists the folder's files."""

_NETWORKS = Path("models")
_VALUE = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Made:
    """What a stage made, now or in an earlier run: the MD5 of each output."""

    stage: str
    roots: frozenset[str]


@dataclass(frozen=True)
class Moved:
    """Objects that were copied, by their MD5."""

    oids: frozenset[str]
    bytes: int

    def __str__(self) -> str:
        return f"{plural(len(self.oids), 'file')}, {self.bytes / 1e6:.1f} MB"


class Remote:
    """The default remote of DVC."""

    def __init__(self, repo: Any, command: str) -> None:
        """Raises PipelineError where there is no default remote, or it does not answer."""
        self.command = command
        self.name: str = repo.config["core"].get("remote") or ""
        if not self.name:
            raise PipelineError(
                f"{command}: expected a default remote of DVC, found none. Run: dvc remote add "
                "--default NAME URL (a folder that all see, s3://…, ssh://…), and commit "
                ".dvc/config"
            )
        try:
            found = repo.cloud.get_remote(self.name, command)
            self.objects: Any = repo.cloud.get_remote_odb(self.name, command)
            self.runs = Runs(found.fs, found.fs.join(found.path, "runs"))
            self.path: str = found.path
            self.place = f"remote {self.name} ({scrub(found.fs.unstrip_protocol(found.path), [])})"
            self.is_folder = found.fs.protocol == "local"
            self.exists: bool = found.fs.exists(found.path)
            if not self.exists and not self.runs.can_list:
                _connect(found)
        except Exception as error:  # each kind of remote has its own
            raise PipelineError(
                f"{command}: remote {self.name} cannot be reached: {explain(error)}. Check "
                ".dvc/config, the network, and your access to it"
            ) from error
        if self.is_folder and not self.exists and not Path(self.path).parent.is_dir():
            raise PipelineError(
                f"{command}: {self.place} cannot be reached: no such folder, nor the one that it "
                "would be in. Mount the disk, or correct it: dvc remote modify "
                f"{self.name} url FOLDER"
            )

    def has(self, oids: Iterable[str]) -> frozenset[str]:
        """Those of the objects that are in it. Raises PipelineError where it cannot be read."""
        try:
            return (
                frozenset(self.objects.oids_exist(wanted)) if (wanted := {*oids}) else frozenset()
            )
        except Exception as error:  # each kind of remote has its own
            raise PipelineError(
                f"{self.command}: {self.place} cannot be read: {explain(error)}"
            ) from error


def _connect(remote: Any) -> None:
    """Raise an error where no server answers, which HTTP's `exists` keeps to itself."""
    from aiohttp import ClientResponseError

    with contextlib.suppress(FileNotFoundError, ClientResponseError):  # it answers something
        remote.fs.fs.cat_file(remote.path)


class Runs:
    """DVC's cache of runs, in a cache or in a remote: a file for each run, runs/ab/KEY/VALUE."""

    def __init__(self, fs: Any, folder: str) -> None:
        self.fs, self.folder = fs, folder
        self.can_list = fs.protocol not in ("http", "https")

    def find(self) -> dict[str, tuple[str, ...]]:
        """The parts of the files' paths, by KEY, which says what the run was made from.

        What else lies there (.DS_Store, a copy that was interrupted) is no run.
        """
        if not self.fs.exists(self.folder):
            return {}
        found = [self.fs.relparts(file, self.folder) for file in self.fs.find(self.folder)]
        runs = [parts for parts in found if len(parts) == 3 and _VALUE.fullmatch(parts[2])]
        return {parts[1]: parts for parts in sorted(runs)}

    def join(self, parts: tuple[str, ...]) -> str:
        return str(self.fs.join(self.folder, *parts))


def find_outputs(repo: Any) -> list[Made]:
    """What dvc.lock names, stage by stage; stages that it does not name are said."""
    stages = {
        stage.addressing: [out.hash_info.value for out in stage.outs if out.use_cache]
        for stage in repo.index.stages
    }
    if never := sorted(name for name, oids in stages.items() if not all(oids)):
        say(
            f"dvc.lock names no outputs of {plural(len(never), 'stage')} {examples(never)}, which "
            "never ran with these parameters: make run computes them"
        )
    return [Made(name, frozenset(oids)) for name, oids in stages.items() if oids and all(oids)]


def find_trainings(repo: Any) -> dict[str, Made]:
    """The trainings in this machine's cache of runs, by key; what else ran is soon computed."""
    runs, found = Runs(repo.cache.local.fs, repo.stage_cache.cache_dir), dict[str, Made]()
    for key, parts in runs.find().items():
        file = Path(runs.join(parts))
        try:
            run = LockedStage.model_validate(parse_yaml(file, file.read_bytes()))
        except (TableError, ValidationError):
            continue  # DVC removes it when it reads it
        if run.outs and all(_NETWORKS in Path(out.path).parents for out in run.outs):
            found[key] = Made("train", frozenset(out.md5 for out in run.outs))
    return found


def explain(error: BaseException) -> str:
    """A foreign error in one line, without secrets."""
    text = re.sub(r"[^\s/]+:[^\s/]+@", "***@", one_line(scrub(str(error), []))).rstrip(".")
    return text if isinstance(error, PipelineError) else f"{type(error).__name__}: {text}"


def files_in(cache: Any, root: str) -> dict[str, str] | None:
    """The MD5 of each file of a folder, by its path there; None where its list is missing."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree
    from dvc_objects.errors import ObjectFormatError

    try:
        tree = Tree.load(cache, HashInfo("md5", root))
    except (FileNotFoundError, ObjectFormatError):
        return None
    return {"/".join(path): str(info.value) for path, _, info in tree}


def contents_of(cache: Any, made: Made) -> frozenset[str]:
    """All objects of it, lists and files; none where a list is missing in the cache."""
    oids = set(made.roots)
    for root in made.roots:
        if root.endswith(LIST):
            if (files := files_in(cache, root)) is None:
                return frozenset()
            oids |= set(files.values())
    return frozenset(oids)


def is_whole(cache: Any, made: Made) -> bool:
    contents = contents_of(cache, made)
    return bool(contents) and len(cache.oids_exist(contents)) == len(contents)


def copy(source: Any, target: Any, oids: frozenset[str], what: str) -> Moved:
    """Copy objects. Raises PipelineError, which begins with `what`, where any cannot be copied.

    What arrives in a local folder is compared with its hash, and removed if it differs.
    """
    from dvc.fs.callbacks import TqdmCallback

    if not oids:
        return Moved(oids, 0)
    failed, ordered = dict[str, BaseException](), sorted(oids)
    try:
        with TqdmCallback(desc=what, unit="file") as callback:
            target.add(
                [source.oid_to_path(oid) for oid in ordered], source.fs, ordered,
                check_exists=False, verify=target.fs.protocol == "local", callback=callback,
                batch_size=target.fs.jobs, on_error=failed.__setitem__,
            )  # fmt: skip
    except Exception as error:  # each kind of remote has its own
        failed[""] = error
    if failed:
        raise PipelineError(
            f"{what}: {len(failed)} of {plural(len(oids), 'file')} could not be copied: "
            f"{explain(next(iter(failed.values())))}. What was copied stays: the same command goes "
            "on from there"
        )
    here = source if source.fs.protocol == "local" else target  # not a request for each file
    files = [Path(here.oid_to_path(oid)) for oid in ordered]
    return Moved(oids, sum(file.stat().st_size for file in files if file.is_file()))


def send(cache: Any, remote: Remote, oids: frozenset[str]) -> Moved:
    """Copy objects of the cache, lists after all files. Raises as copy."""
    lists = frozenset(oid for oid in oids if oid.endswith(LIST))
    what = f"{remote.command}: {remote.place}"
    files = copy(cache, remote.objects, oids - lists, what)
    listed = copy(cache, remote.objects, lists, what)
    return Moved(oids, files.bytes + listed.bytes)


def copy_runs(source: Runs, target: Runs, keys: Iterable[str] | None, what: str) -> int:
    """Copy runs that the target does not have from anyone; how many. Raises as copy.

    keys: None for all.
    """
    from dvc.fs import generic

    if not (source.can_list and target.can_list):
        return 0
    try:
        known, found = target.find(), source.find()
        wanted = found if keys is None else keys
        new = [found[key] for key in sorted(wanted) if key not in known]
        if new:
            generic.copy(source.fs, [*map(source.join, new)], target.fs, [*map(target.join, new)])
    except Exception as error:  # each kind of remote has its own
        raise PipelineError(
            f"{what}: DVC's cache of runs could not be copied: {explain(error)}"
        ) from error
    return len(new)
