"""Files that appear whole or not at all.

A file or folder is written beside its final place as `.NAME.PROCESS.partial` and renamed when it
is complete. What a killed process has left is removed by the next one that writes there.
"""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from pipeline.core.errors import DiskError, TableError

MOST_BYTES = 2**28
"""Of a file that is read whole: the audit of a million images has half of it."""

MOST_FIELD = 2**24
"""Bytes of a CSV's field: one may be a picture, in numbers."""

_PARTIAL = re.compile(r"\.(?P<name>.+?)(\.old)?(\.(?P<process>[0-9]+))?\.partial")

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
    with disk_errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = _partial_of(path)
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
    with disk_errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = _partial_of(path)
        partial.mkdir()
        try:
            yield partial
            _replace_folder(path, partial)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, removed at the end of the block; after a kill, by the next."""
    with disk_errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = _partial_of(path)
        partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_abandoned(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes have left half-written in a folder; name: of that file alone."""
    for partial in sorted(folder.glob(".*.partial")):
        found = _PARTIAL.fullmatch(partial.name)
        if not found or (name is not None and found["name"] != name):
            continue
        if found["process"] and _is_at_work(int(found["process"]), partial):
            continue
        if partial.is_dir() and not partial.is_symlink():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def keep_newest(folder: Path, count: int) -> None:
    """Remove the folders in a folder, but for those that were touched last. What their links lead
    to stays."""
    folders = [each for each in folder.iterdir() if each.is_dir() and not each.is_symlink()]
    for old in sorted(folders, key=lambda each: each.stat().st_mtime_ns)[:-count]:
        shutil.rmtree(old, ignore_errors=True)


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


def _partial_of(path: Path) -> Path:
    remove_abandoned(path.parent, path.name)
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def _is_at_work(process: int, partial: Path) -> bool:
    """Whether the process that wrote a file or folder still runs; another may have its number."""
    if process == os.getpid():
        return False  # this process has yet to begin
    try:
        started: float = psutil.Process(process).create_time()  # to about a second
        return started <= partial.lstat().st_ctime + 5
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False
    except psutil.AccessDenied:
        return True


def _replace_folder(path: Path, partial: Path) -> None:
    """Move a complete folder to its place. A link there is replaced, and what it leads to stays."""
    if path.is_symlink() or not path.exists():
        path.unlink(missing_ok=True)
        partial.rename(path)
        return
    old = path.with_name(f".{path.name}.old.{os.getpid()}.partial")
    path.rename(old)
    try:
        partial.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def disk_errors_named(path: Path) -> Iterator[None]:
    """Raise DiskError, with the path, for an error of the disk in the block."""
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
