"""Commands `push` and `pull`: what dvc.lock names, and earlier trainings, to and from a remote.

Each stage counts as whole or not at all: what could not be sent or fetched is said by the stage
that made it. What arrives is compared with its hash, and a file of the user's own is never
replaced.
"""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from pipeline.commands.remote import (
    LIST,
    Moved,
    Remote,
    Runs,
    contents_of,
    copy,
    copy_runs,
    find_outputs,
    find_trainings,
    is_whole,
    send,
)
from pipeline.commands.repro import with_dvc
from pipeline.core.errors import PipelineError, examples, plural
from pipeline.core.progress import say
from pipeline.core.terminal import print_line
from pipeline.ledger.git import git_bytes

_HALF_PLACED = re.compile(r"\.[\w-]{22}\.tmp", re.ASCII)
"""The name under which DVC writes a file before it has its own (dvc_objects' tmp_fname)."""


def push() -> None:
    """Send what dvc.lock names and the remote lacks, and the trainings of DVC's cache of runs.

    Raises PipelineError where there is no remote, it cannot be written, or, after all else was
    sent, what dvc.lock names is neither in DVC's cache nor in the remote.
    """
    with_dvc(_push, "push")


def pull() -> None:
    """Fetch what dvc.lock names, put it in its place, and fetch the remote's earlier trainings.

    Raises PipelineError where there is no remote, it cannot be read, a file of the user's own would
    be replaced, or, after all else was placed, the remote lacks what dvc.lock names.
    """
    with_dvc(_pull, "pull")


def _push(repo: Any) -> None:
    remote, cache = Remote(repo, "push"), repo.cache.local
    _say_what_stays(repo)
    now, earlier = find_outputs(repo), find_trainings(repo)
    whole = [made for made in earlier.values() if is_whole(cache, made)]
    wanted = {made: contents_of(cache, made) or made.roots for made in [*now, *whole]}
    oids = frozenset[str]().union(*wanted.values())
    there = remote.has(oids)
    here = frozenset(cache.oids_exist(oids - there))
    lacking = {made: contents for made, contents in wanted.items() if contents - there - here}
    held_back = {root for made in lacking for root in made.roots if root.endswith(LIST)}
    sent = send(cache, remote, here - held_back)
    runs = Runs(cache.fs, repo.stage_cache.cache_dir)
    keys = [key for key, made in earlier.items() if made in whole]
    added = copy_runs(runs, remote.runs, keys, f"push: {remote.place}")
    say(
        f"sent to {remote.place}: {sent}; {len(there):,} were there. Its cache of runs has "
        f"{plural(added, 'training')} more"
    )
    if lacking:
        stages = sorted({made.stage for made in lacking})
        raise PipelineError(
            f"push: expected in DVC's cache or in the remote what dvc.lock names, found neither "
            f"for {plural(len(stages), 'stage')} {examples(stages)}; all else was sent. Where the "
            f"outputs are in their place, run: dvc commit {stages[0]}; else: make run"
        )


def _pull(repo: Any) -> None:
    remote, cache = Remote(repo, "pull"), repo.cache.local
    if remote.is_folder and not remote.exists:
        raise PipelineError(
            f"pull: {remote.place}: no such folder. Nobody has run make push yet, or its disk is "
            "not mounted"
        )
    now = find_outputs(repo)
    runs = Runs(cache.fs, repo.stage_cache.cache_dir)
    added = copy_runs(remote.runs, runs, None, f"pull: {remote.place}")
    every = [*now, *find_trainings(repo).values()]
    lists = {oid for made in every for oid in made.roots if oid.endswith(LIST)}
    listed = _fetch(remote, cache, lists)
    files = _fetch(remote, cache, {oid for made in every for oid in contents_of(cache, made)})
    came = Moved(listed.oids | files.oids, listed.bytes + files.bytes)
    damaged = sorted(came.oids - set(cache.oids_exist(came.oids)))
    whole = [made.stage for made in now if is_whole(cache, made)]
    placed = _place(repo, whole) if whole else 0
    say(
        f"fetched from {remote.place}: {came}. Placed: {plural(placed, 'file')} of "
        f"{plural(len(whole), 'stage')}. The cache of runs has {plural(added, 'training')} more"
    )
    if lacking := [made.stage for made in now if made.stage not in whole]:
        broken = [remote.objects.oid_to_path(oid) for oid in damaged]
        hint = f" Damaged there, to be deleted: {examples(broken)}." if broken else ""
        raise PipelineError(
            f"pull: {remote.place} lacks what {plural(len(lacking), 'stage')} of dvc.lock made "
            f"{examples(lacking)}; all else is here.{hint} Who made it must run make push; or make "
            "run computes it here"
        )


def _fetch(remote: Remote, cache: Any, oids: set[str]) -> Moved:
    """Copy those that the cache lacks and the remote has."""
    wanted = oids - set(cache.oids_exist(oids))
    return copy(remote.objects, cache, remote.has(wanted), f"pull: {remote.place}")


def _place(repo: Any, stages: list[str]) -> int:
    """Put the outputs of stages, which are in the cache, in their place; how many files changed."""
    from dvc.exceptions import DvcException

    _remove_half_placed(repo)
    try:
        stats: dict[str, int] = repo.checkout(targets=stages)["stats"]
    except DvcException as error:
        head, *files = str(error).splitlines()
        if not head.startswith("Can't remove the following unsaved files"):
            raise
        own = [os.path.relpath(file) for file in files]
        raise PipelineError(
            "pull: expected files as dvc.lock names them, or none, found "
            f"{plural(len(own), 'file')} that differ and are in no cache {examples(own)}. All was "
            "fetched, and nothing here was replaced: move them away or delete them, then run the "
            "same command"
        ) from error
    return stats["added"] + stats["modified"]


def _remove_half_placed(repo: Any) -> None:
    """Remove what a killed `pull` left among the outputs: DVC takes it for the user's own."""
    for place in {Path(out.fs_path) for stage in repo.index.stages for out in stage.outs}:
        for file in place.rglob(".*.tmp"):
            if _HALF_PLACED.fullmatch(file.name):
                file.unlink()


def _say_what_stays(repo: Any) -> None:
    """Name what a colleague's clone would not have: what no commit holds, what is out of date."""
    status = git_bytes("-c", "core.quotePath=false", "status", "--porcelain")
    if changed := [line[3:] for line in status.decode(errors="replace").splitlines()]:
        say(
            f"no commit holds {plural(len(changed), 'file')} {examples(changed)}: a colleague's "
            "clone will not have them. Commit them"
        )
    if stale := sorted(repo.status()):
        say(
            f"{plural(len(stale), 'stage')} out of date {examples(stale)}: what dvc.lock names is "
            "sent, not what make run would make"
        )


def examine() -> None:
    """Print what `doctor` says of the default remote: ok, note or problem, and a text.

    In a process of its own, which `doctor` ends where a remote does not answer. Nothing is hashed.
    """
    from dvc.repo import Repo

    print_line(" ".join(_examine(Repo())))


def _examine(repo: Any) -> tuple[str, str]:
    try:
        remote = Remote(repo, "dvc")
    except PipelineError as error:
        return "problem", str(error).removeprefix("dvc: ")
    text, state = f"{remote.place} answers", "ok"
    if remote.is_folder:
        try:
            folder = Path(remote.path) if remote.exists else Path(remote.path).parent
            tempfile.TemporaryFile(dir=folder).close()
            text = f"{remote.place} can be read and written"
        except OSError as error:
            text, state = f"{remote.place} can be read, not written: {error.strerror}", "note"
    networks = [made for made in find_outputs(repo) if made.stage.startswith("train@")]
    absent = [made for made in networks if not all(map(remote.objects.exists, made.roots))]
    if absent:
        text += (
            f"; {len(absent)} of {plural(len(networks), 'network')} of dvc.lock "
            f"{'is' if len(absent) == 1 else 'are'} not in it yet. Run: make push"
        )
        state = "note"
    return state, text
