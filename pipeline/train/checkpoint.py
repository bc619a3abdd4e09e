"""The state of a half-trained network, so that a killed run goes on where it was.

It lies outside the outputs, in a folder named by a hash of everything that decides the
result, so that a changed parameter, fold, image or module of this folder starts afresh. It is
written after each epoch, and removed when the stage is complete.
"""

import fcntl
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pipeline.core.errors import TrainError
from pipeline.core.files import new_file, sha256_of
from pipeline.core.progress import say


@dataclass(frozen=True)
class Checkpoint:
    """One file, written whole or not at all: the SHA-256 of what follows, and the state."""

    folder: Path

    @property
    def _file(self) -> Path:
        return self.folder / "checkpoint.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state."""
        saved = io.BytesIO()  # PyTorch names no reason where it writes to a full disk itself
        torch.save(state, saved)
        with new_file(self._file) as partial, partial.open("wb") as file:
            file.write(hashlib.sha256(saved.getbuffer()).digest())
            file.write(saved.getbuffer())

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The saved state; None where there is none, or a damaged one, which is said.

        Loads tensors and plain values only.
        """
        if not self._file.exists():
            return None
        with self._file.open("rb") as file:
            digest, saved = file.read(hashlib.sha256().digest_size), file.read()
        if hashlib.sha256(saved).digest() != digest:
            say(f"{self._file}: damaged (another SHA-256): the training starts from its beginning")
            return None
        return torch.load(io.BytesIO(saved), map_location=device, weights_only=True)  # type: ignore[no-any-return]

    def remove(self) -> None:
        """Delete the state."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold a lock file, which is removed at the end of the block.

    Raises TrainError, with its process, where another one holds it. The system frees the lock of
    a process that is killed. Not FileLock's flock, which its loader processes would still hold.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a+") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                raise TrainError(
                    f"the same training already runs, as process {file.read() or '(unknown)'} "
                    f"says in {path}. Wait for it, or end it; then run the same command again"
                ) from error
            if not os.fstat(file.fileno()).st_nlink:  # removed since by who held it
                continue
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def hash_of_inputs(parameters: str, files: list[Path]) -> str:
    """16 hexadecimal digits over the parameters, the files' bytes, the code and the libraries."""
    digest = hashlib.sha256(parameters.encode())
    code = sorted(Path(__file__).parent.rglob("*.py"))
    for path in [*files, *code]:
        digest.update(sha256_of(path).encode())
    for library in ("torch", "timm", "albumentations", "numpy", "scikit-learn"):
        digest.update(version(library).encode())
    return digest.hexdigest()[:16]
