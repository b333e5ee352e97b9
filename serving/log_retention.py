"""How long the request log is kept.

Belongs here: which of its day folders go. Not here: writing them (request_log.py).
"""

import logging
import re
import shutil
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

LOOK_SECONDS = 3_600.0
_DAY = re.compile(r"day=(\d{4}-\d{2}-\d{2})")
_log = logging.getLogger(__name__)


def forget_days(folder: Path, keep: int, today: date) -> list[str]:
    """Delete days of a request log of which so many are kept, today among them; their names below the folder.

    What is no folder of a day is left alone, and so is what the system refuses to delete: it is tried again later.
    """
    first, gone = today - timedelta(days=keep - 1), list[str]()
    for path in sorted(folder.glob("*/day=*")):
        named = _DAY.fullmatch(path.name)
        if named is None or not path.is_dir() or path.is_symlink() or named[1] >= first.isoformat():
            continue
        shutil.rmtree(path, ignore_errors=True)  # another worker may do the same
        if not path.exists():
            gone.append(f"{path.parent.name}/{path.name}")
    return gone


class Retention:
    """Deletes what is too old, now and then.

    Args:
        keep: days; 0: all of them.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep, self._next = folder, keep, 0.0

    def look(self) -> None:
        """Delete what became too old since the last hour, and say so."""
        if not self._keep or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOK_SECONDS
        if gone := forget_days(self._folder, self._keep, datetime.now(UTC).date()):
            _log.warning("%s: %d days are kept, so %s went", self._folder, self._keep, ", ".join(gone))
