"""Writing state: one process at a time where that is needed, and a sentence where nothing can be written.

Belongs here: locks between processes, wording what the system refuses. Not here: what is written.
"""

import errno
import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_log = logging.getLogger(__name__)
_REMEDIES = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room in your quota",
    errno.EROFS: "it lies on a read-only file system, so set EXFM_STATE to a folder that can be written",
    errno.EACCES: "make it writable for this user, or set EXFM_STATE to a folder that is",
    errno.EPERM: "make it writable for this user, or set EXFM_STATE to a folder that is",
    errno.ENAMETOOLONG: "set EXFM_STATE to a folder with a shorter name",
    errno.ENOTDIR: "a file lies where a folder should be, so move it away or set EXFM_STATE to another folder",
    errno.EEXIST: "a file lies where a folder should be, so move it away or set EXFM_STATE to another folder",
}


class StateError(ValueError):
    """State that can't be written or opened: one sentence that names the path and the mend."""


def unwritable(path: Path, error: OSError) -> str:
    """What is said of a path that the system does not let us write."""
    remedy = _REMEDIES.get(error.errno or 0, "mend that, or set EXFM_STATE to another folder")
    return f"{path} can't be written ({error.strerror or error}): {remedy}, and run again"


def refusal(error: Exception) -> OSError | None:
    """The system's refusal in an error; libraries written in Rust pass it on as text ("... (os error 28)")."""
    if isinstance(error, OSError):
        return error
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else None


@contextmanager
def alone(path: Path, doing: str) -> Iterator[None]:
    """Hold a lock file, so that one process at a time does this; whoever dies lets go of it.

    Args:
        path: of the lock file, made if it is not there and left there.
        doing: what waits, for the log.

    Raises:
        StateError: if the lock file can't be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise StateError(unwritable(path, error)) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.warning("%s waits for another process that holds %s", doing, path)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
