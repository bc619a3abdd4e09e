"""The state of a half-trained network, so that a killed run goes on where it was.

It lies outside the outputs, in a folder named by a hash of everything that decides the
result, so that a changed parameter, fold, image or module of this folder starts afresh. It is
written after each epoch, and removed when the stage is complete.
"""

import hashlib
import pickle
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pipeline.core.errors import TrainError
from pipeline.core.files import new_file, sha256_of


@dataclass(frozen=True)
class Checkpoint:
    """One file, written whole or not at all."""

    folder: Path

    @property
    def _file(self) -> Path:
        return self.folder / "checkpoint.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state."""
        with new_file(self._file) as partial:
            torch.save(state, partial)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The saved state, or None where there is none. Loads tensors and plain values only."""
        if not self._file.exists():
            return None
        try:
            return torch.load(self._file, map_location=device, weights_only=True)  # type: ignore[no-any-return]
        except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            raise TrainError(
                f"{self._file}: cannot be read ({type(error).__name__}). "
                f"Delete {self.folder} to start afresh"
            ) from error

    def remove(self) -> None:
        """Delete the state."""
        shutil.rmtree(self.folder, ignore_errors=True)


def hash_of_inputs(parameters: str, files: list[Path]) -> str:
    """16 hexadecimal digits over the parameters, the files' bytes, the code and the libraries."""
    digest = hashlib.sha256(parameters.encode())
    code = sorted(Path(__file__).parent.rglob("*.py"))
    for path in [*files, *code]:
        digest.update(sha256_of(path).encode())
    for library in ("torch", "timm", "albumentations", "numpy"):
        digest.update(version(library).encode())
    return digest.hexdigest()[:16]
