"""Writing aside: where an unfinished file or folder lies until it is put in place in one step.

Belongs here: its name, and sweeping up what killed writers left. Not here: writing.
"""

import os
import shutil
import time
from glob import escape
from pathlib import Path

STALE_SECONDS = 3600.0  # no writer takes so long between its first byte and its rename


def aside_of(path: Path) -> Path:
    """A name beside ``path`` for its unfinished version: hidden, this process's own, and matched by no reader's glob.

    What writers that were killed left beside the same path is removed once it is an hour old: another process may be
    writing the same path right now, so anything younger stays.
    """
    for left in path.parent.glob(f".{escape(path.name)}.*.aside"):
        if time.time() - left.lstat().st_mtime > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.aside")
