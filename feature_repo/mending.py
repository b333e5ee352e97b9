"""Damaged SQLite files of the embedded stores: found when they are opened, and made again, for both are derived.

Belongs here: detecting and removing. Not here: filling them again: the registry from the declaration (store.apply), the
online store from the offline one (store.load_online).
"""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

_log = logging.getLogger(__name__)


def is_sound(path: Path) -> bool:
    """Is it a SQLite file whose pages hang together? An empty or missing file is sound: SQLite makes it anew."""
    if not path.exists() or not path.stat().st_size:
        return True
    try:
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.OperationalError:
        return True  # locked, or not to be opened: no damage
    except sqlite3.DatabaseError:
        return False


def remove_damaged(path: Path, again: str) -> bool:
    """Remove a SQLite file if it is damaged, and log that; returns whether it was.

    Args:
        again: how it is made again, for the log.
    """
    if is_sound(path):
        return False
    remove(path)
    _log.warning("%s was damaged (no SQLite file, or cut short) and was removed: %s", path, again)
    return True


def remove(path: Path) -> None:
    """Remove a SQLite file with its journals."""
    for name in (path, *(path.with_name(f"{path.name}{journal}") for journal in ("-wal", "-shm", "-journal"))):
        name.unlink(missing_ok=True)
