"""The store in DVC's default remote, from which nodes fetch it with an access of their own."""

from pathlib import Path
from typing import Any

from pipeline.commands.remote import Made, Remote, contents_of, files_in, is_whole, send
from pipeline.commands.repro import with_dvc
from pipeline.core import paths
from pipeline.core.errors import TrainError, plural, shown
from pipeline.core.progress import say
from pipeline.kaggle.scrub import scrub
from pipeline.ledger.git import file_at

DVC_CONFIG = Path(".dvc/config")
_COMMAND = "jobs --remote"


def send_store() -> dict[str, str]:
    """Send data/store to the remote, and say so; the MD5 of each of its files, by its path.

    Raises PipelineError where there is no remote or it cannot be written, TrainError where the
    last commit does not lead nodes to it.
    """
    return with_dvc(_send_store, _COMMAND)


def _send_store(repo: Any) -> dict[str, str]:
    remote, cache = Remote(repo, _COMMAND), repo.cache.local
    _require_found_elsewhere(repo, remote.name)
    (out,) = repo.find_outs_by_path(str(paths.STORE.absolute()))
    made = Made("prepare", frozenset({out.hash_info.value}))
    files = files_in(cache, out.hash_info.value)
    if files is None or not is_whole(cache, made):
        raise TrainError(
            f"{_COMMAND}: {paths.STORE} is not whole in DVC's cache. Run: dvc commit prepare"
        )
    oids = contents_of(cache, made)
    sent = send(cache, remote, oids - remote.has(oids))
    say(f"sent to {remote.place}: {sent}; nodes fetch {plural(len(files), 'file')} from there")
    return {str(paths.STORE / path): md5 for path, md5 in files.items()}


def _require_found_elsewhere(repo: Any, name: str) -> None:
    """Raise TrainError where .dvc/config of the last commit does not lead nodes to the remote."""
    from dvc.config_schema import RelPath

    own = repo.config.load_one("repo")
    url = own["remote"].get(name.lower(), {}).get("url", "")
    if own["core"].get("remote") != name or not url or isinstance(url, RelPath):
        raise TrainError(
            f"{_COMMAND}: expected in {DVC_CONFIG} the default remote, at an address that each "
            f"node can use, found {shown(scrub(str(url), [])) if url else 'none'}. Run: dvc remote "
            f"add --force --default {name} URL (of a folder its absolute path), and commit it"
        )
    if file_at("HEAD", DVC_CONFIG) != DVC_CONFIG.read_bytes():
        raise TrainError(
            f"{_COMMAND}: {DVC_CONFIG} goes to the nodes, and is not as in the last commit. "
            "Commit it, without credentials: those stay on each machine"
        )
