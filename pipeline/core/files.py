"""Files that appear whole or not at all.

A file or folder is written beside its final place as `.NAME.partial` and renamed when it is
complete; the next run removes what a killed one has left.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.errors import DiskError, TableError

MOST_BYTES = 2**28
"""Of a file that is read whole: the audit of a million images has half of it."""

_DISK_ERRNOS = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than this system allows",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "permission denied",
}


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path to write to, renamed to `path` at the end of the block.

    On any exception `path` stays as it was.
    Raises DiskError where the disk is full or may not be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    with _disk_errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            with partial.open("rb") as written:
                os.fsync(written.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill, which replaces `path` at the end of the block.

    On any exception `path` stays as it was.
    Raises DiskError where the disk is full or may not be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    with _disk_errors_named(path):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            shutil.rmtree(path, ignore_errors=True)
            partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    with new_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def is_there(path: Path) -> bool:
    """Whether anything has this name. A folder or a broken link in the place of a file is no
    absent file: who reads it names the fault."""
    return path.exists() or path.is_symlink()


def read_whole(path: Path, remedy: str) -> bytes:
    """A file's bytes. remedy: the command that makes it again.

    Raises TableError where it is missing, no file, unreadable, or too large to be what it should.
    """
    if not path.is_file():
        found = f"{path}: no such file"
        if path.exists():
            found = f"{path}: expected a file, found something else. Move it away"
        raise TableError(f"{found}. Run: {remedy}")
    try:
        with path.open("rb") as file:
            if (size := os.fstat(file.fileno()).st_size) > MOST_BYTES:
                raise TableError(
                    f"{path}: expected at most {MOST_BYTES:,} bytes, found {size:,}. Run: {remedy}"
                )
            return file.read()
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {error.strerror}. Run: ls -l {path}") from error


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _disk_errors_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRNOS:
            raise
        existing = next(folder for folder in path.absolute().parents if folder.exists())
        free_mb = shutil.disk_usage(existing).free // 2**20
        raise DiskError(
            f"{path}: cannot be written: {_DISK_ERRNOS[error.errno]} ({free_mb} MiB free there). "
            "Nothing half-written was left; free some space or correct the permissions, "
            "then run the same command again"
        ) from error
