"""Dagster's own tables in SQLite files, made by one process at a time and whole or not at all, and kept open.

Belongs here: making and opening the files. Not here: what is in them (Dagster).

Two first runs that make them at once leave them in a state that no later run can open ("more than one head"), and so
does a process that is killed while it makes them.

Dagster opens and closes a file for each statement, some thousand times a run, and waits each time until the disk has
it: a fifth of a small run. Here the files stay open, and what is written is safe from a process that ends, not from a
machine that does: then the last events may be missing, and what they told of is found by the data itself. The files
are whole after both.
"""

import fcntl
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.schedules import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import URL, Connection, Engine, create_engine, event

_PARTS = ("history", "schedules")  # Dagster's own folders below the base
RUNS_OPEN = 8  # files of runs that a process keeps open: its own, and those that somebody looks at


class _Open:
    """Connections to a file that stay open between uses; a file that was replaced is opened anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._of: tuple[int, int, int] | None = None  # the process, and which file it was

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        with self._current().connect() as connection, connection.begin():
            yield connection

    def close(self) -> None:
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
            self._engine = self._of = None

    def _current(self) -> Engine:
        with self._lock:
            now = self._identity()
            if self._engine is None or now is None or now != self._of:
                if self._engine is not None:
                    # A fork's parent still uses its own.
                    self._engine.dispose(close=self._of is None or self._of[0] == os.getpid())
                url = URL.create("sqlite", database=str(self._path))
                self._engine = create_engine(url, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})
                event.listen(self._engine, "connect", _without_waiting)
                self._of = now
            return self._engine

    def _identity(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return os.getpid(), found.st_dev, found.st_ino


def _without_waiting(connection: Any, _: Any) -> None:
    """In write-ahead mode, which Dagster sets: wait for the disk when the log is copied back, not at each commit."""
    connection.execute("PRAGMA synchronous = NORMAL")


class OpenEventLog(SqliteEventLogStorage):
    """Dagster's, but its files stay open: the index of all runs, and those of a few runs."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._index = _Open(Path(base_dir).absolute() / f"{INDEX_SHARD_NAME}.db")
        self._runs: OrderedDict[str, _Open] = OrderedDict()
        super().__init__(base_dir, inst_data)

    @contextmanager
    def index_connection(self) -> Iterator[Connection]:
        self._make_tables(INDEX_SHARD_NAME)
        with self._db_lock, self._index.connection() as connection:
            yield connection

    @contextmanager
    def run_connection(self, run_id: str | None = None) -> Iterator[Connection]:
        assert run_id is not None  # as in Dagster's own
        self._make_tables(run_id)
        with self._db_lock, self._of_run(run_id).connection() as connection:
            yield connection

    def store_event(self, event: EventLogEntry) -> None:
        super().store_event(event)
        # Dagster's UI watches the file. It changes when it is closed, or when its log is copied back, not at a commit.
        with suppress(FileNotFoundError):
            os.utime(self.path_for_shard(event.run_id))

    def dispose(self) -> None:
        super().dispose()
        self._index.close()
        while self._runs:
            self._runs.popitem()[1].close()

    def _make_tables(self, shard: str) -> None:
        if shard not in self._initialized_dbs:
            with self._connect(shard):  # which makes or looks at them
                pass

    def _of_run(self, run_id: str) -> _Open:
        if run_id not in self._runs:
            self._runs[run_id] = _Open(Path(self.path_for_shard(run_id)))
            if len(self._runs) > RUNS_OPEN:
                self._runs.popitem(last=False)[1].close()
        self._runs.move_to_end(run_id)
        return self._runs[run_id]


class _KeptOpen:
    """One of Dagster's storages of a single file, whose file stays open."""

    _conn_string: str

    @cached_property
    def _file(self) -> _Open:
        return _Open(Path(self._conn_string.removeprefix("sqlite:///")))

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._file.connection() as connection:
            yield connection

    def dispose(self) -> None:
        super().dispose()  # type: ignore[misc]  # the storage's
        self._file.close()


class OpenRuns(_KeptOpen, SqliteRunStorage):
    """Dagster's table of runs."""


class OpenSchedules(_KeptOpen, SqliteScheduleStorage):
    """Dagster's tables of ticks."""


class LockedSqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage; ``dagster.yaml`` names it under ``storage: custom``."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        # What Dagster's own does, but for the classes: its folders, and no second look at each file's version.
        super(DagsterSqliteStorage, self).__init__()
        self.base_dir, self._inst_data, base = base_dir, inst_data, Path(base_dir)
        self._run_storage = OpenRuns.from_local(str(base / "history"))
        self._event_log_storage = OpenEventLog(str(base / "history" / "runs"))
        self._schedule_storage = OpenSchedules.from_local(str(base / "schedules"))

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
