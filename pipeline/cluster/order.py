"""What trainings take along: the commit's code, the parameters, and all inputs by their SHA-256."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.cluster.stored import DVC_CONFIG, send_store
from pipeline.cluster.worker import TrainingOrder
from pipeline.commands.board import Training
from pipeline.core import paths
from pipeline.core.errors import TrainError, examples
from pipeline.core.files import new_file, sha256_of
from pipeline.ledger.git import find_changed, git, git_bytes
from pipeline.params import Config

CODE = ("pipeline", "metrics")
"""The folders of code that stage `train` runs."""


@dataclass(frozen=True)
class Luggage:
    """Files by their SHA-256: those on this disk, and the code's archive."""

    code: bytes
    inputs: dict[str, str]
    """The SHA-256 of each file by its path."""
    state: str
    """What of the code and of the files tells that one has changed, as _state gives it."""
    remote: dict[str, str]
    """The MD5, by SHA-256, of the files that nodes fetch from DVC's default remote."""

    @property
    def size(self) -> int:
        """Bytes that go to a node, without what it fetches from the remote."""
        files = [each for each in self.contents().values() if isinstance(each, Path)]
        return len(self.code) + sum(file.stat().st_size for file in files)

    def contents(self) -> dict[str, Path | bytes]:
        """Each file, or its bytes, by SHA-256, but those in the remote."""
        files: dict[str, Path | bytes] = {
            sha: Path(path) for path, sha in self.inputs.items() if sha not in self.remote
        }
        return files | {_sha256(self.code): self.code}

    def order(self, training: Training, config: Config, shared: Path | None) -> TrainingOrder:
        """The order of a training."""
        name = f"{training.model}-fold{training.fold}"
        return TrainingOrder(
            name=name,
            arguments=["train", training.model, str(training.fold)],
            output=str(paths.model_folder(training.model, training.fold)),
            live=str(training.live),
            lock=str(paths.RESUME / f"{name}.lock"),
            threads=config.train.threads,
            code=_sha256(self.code),
            inputs=self.inputs,
            shared=None if shared is None else str(shared),
            remote=self.remote,
        )


def pack(config: Config, through_remote: bool = False) -> Luggage:
    """What every training of these parameters needs.

    through_remote: send the store to DVC's default remote, from which nodes fetch it.
    Raises TrainError where the code is not that of the last commit: a network of it could not be
    made again; PipelineError where the remote cannot take the store or nodes not find it.
    """
    if changed := _changed():
        raise TrainError(
            f"expected the code of the last commit, found {len(changed)} files that differ from it "
            f"{examples(changed)}. Commit them: a cluster trains a commit"
        )
    present = [name for name in CODE if Path(name).is_dir()]
    code = git_bytes("archive", "--format=tar", "HEAD", *present)
    stored = send_store() if through_remote else {}
    first = [DVC_CONFIG] if through_remote else []  # before what is fetched with it
    used = [*first, paths.PARAMS, paths.FOLDS, *sorted(paths.STORE.rglob("*"))]
    for member in config.train.members:
        start = config.train.models[member].network.weights
        used += [Path(start.file)] if start is not None else []
    outside = [str(path) for path in used if path.is_absolute() or ".." in path.parts]
    if outside:
        raise TrainError(
            f"expected weights files in this folder, found {examples(outside)}. Copy them to "
            f"{paths.WEIGHTS}, and name them so in {paths.PARAMS}"
        )
    files = [path for path in used if path.is_file()]
    state = _state(files)
    inputs = {path.as_posix(): sha256_of(path) for path in files}
    remote = {inputs[path]: md5 for path, md5 in stored.items()}
    return Luggage(code, inputs, state, remote)


def require_same(luggage: Luggage) -> None:
    """Raise TrainError where what trains is no more what lies here, which DVC would record."""
    if _changed() or _state([Path(path) for path in luggage.inputs]) != luggage.state:
        raise TrainError(
            "the code, params.yaml or an input was changed while the cluster trained: what came "
            "back since is not placed. The same command trains what is here now"
        )


def _changed() -> list[str]:
    """The files of code that are not those of the last commit."""
    changed = [path for path in find_changed() if path.split("/")[0] in CODE]
    return changed + git("ls-files", "--others", "--exclude-standard", "--", *CODE).splitlines()


def _state(files: list[Path]) -> str:
    trees = [git("rev-parse", f"HEAD:./{name}") for name in CODE if Path(name).is_dir()]
    facts = [(each.stat().st_mtime_ns, each.stat().st_size) for each in files if each.exists()]
    return repr((trees, facts))


def share(luggage: Luggage, folder: Path) -> None:
    """Put everything into a folder that all nodes see, under its SHA-256, once.

    Raises DiskError where it cannot be written.
    """
    for sha256, content in luggage.contents().items():
        place = folder / "files" / sha256
        if place.exists():
            continue
        with new_file(place) as partial:
            if isinstance(content, bytes):
                partial.write_bytes(content)
            else:
                shutil.copyfile(content, partial)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
