"""Dagster's own tables in SQLite files, made by one process at a time and whole or not at all.

Belongs here: making the files. Not here: what is in them (Dagster).

Two first runs that make them at once leave them in a state that no later run can open ("more than one head"), and so
does a process that is killed while it makes them.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData

_PARTS = ("history", "schedules")  # Dagster's own folders below the base


class LockedSqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage; ``dagster.yaml`` names it under ``storage: custom``."""

    @classmethod
    def from_config_value(  # type: ignore[override]
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, str]
    ) -> "LockedSqliteStorage":
        return cls.from_local(inst_data=inst_data, **config_value)  # Dagster's own names its own class here

    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> "LockedSqliteStorage":
        base = Path(base_dir).absolute()
        base.mkdir(parents=True, exist_ok=True)
        with _locked(base):
            if not all((base / part).is_dir() for part in _PARTS):
                _make(base)
            return cls(str(base), inst_data=inst_data)


@contextmanager
def _locked(base: Path) -> Iterator[None]:
    with (base / ".making").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(base: Path) -> None:
    """Make the files aside and put them in place: a process that is killed on the way leaves nothing behind."""
    unfinished = base / ".new"
    shutil.rmtree(unfinished, ignore_errors=True)
    DagsterSqliteStorage(str(unfinished)).dispose()
    for part in _PARTS:
        if not (base / part).exists():
            os.rename(unfinished / part, base / part)
    shutil.rmtree(unfinished, ignore_errors=True)
