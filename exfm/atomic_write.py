"""Writing aside: where an unfinished file or folder lies until it is put in place in one step.

Belongs here: its name, putting it in place, sweeping up what killed writers left. Not here: what is written.
"""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import BinaryIO

from exfm.writing import StateError, refusal, unwritable

STALE_SECONDS = 3600.0  # no writer takes so long between its first byte and its rename


def unfinished_path(path: Path) -> Path:
    """A name beside ``path`` for its unfinished version: hidden, this process's own, and matched by no reader's glob.

    What writers that were killed left beside the same path is removed once it is an hour old: another process may be
    writing the same path right now, so anything younger stays.
    """
    for left in path.parent.glob(f".{escape(path.name)}.*.aside"):
        try:
            age = time.time() - left.lstat().st_mtime
        except FileNotFoundError:  # put in place by its writer since it was listed
            continue
        if age > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.aside")


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file to write ``path`` with: when the block ends, it holds all that was written; if it fails, what it held.

    The bytes are on the disk before the name is theirs, and so is the name: a power cut leaves no empty file behind.

    Raises:
        StateError: if the system refuses to write (no room, read-only, no permission).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = unfinished_path(path)
        try:
            with unfinished.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        sync_folder(path.parent)
    except Exception as error:
        refused = refusal(error)
        if refused is None:
            raise
        raise StateError(unwritable(path, refused)) from error


def sync_folder(folder: Path) -> None:
    """Put a folder's names on the disk, where its file system can."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as refused:  # some network file systems sync files only
        if refused.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(opened)


def write_text(path: Path, text: str) -> None:
    """Write a text so that ``path`` holds either what it held before or all of it.

    Raises:
        StateError: if the system refuses to write.
    """
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))
