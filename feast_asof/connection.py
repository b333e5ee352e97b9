"""The engine's settings, and DuckDB connections made by them.

Belongs here: threads, memory, spilling, object stores. Not here: what is run.
"""

from __future__ import annotations  # held as classes, what they name would be "leaked" at exit, says duckdb 2

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

import duckdb
import pyarrow as pa
from feast.repo_config import RepoConfig

from feast_asof.errors import RetrievalError
from feast_asof.locations import Location

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
WHOLE = 1 << 62  # rows per chunk where one chunk holds them all
_SHARE = 2  # without a limit: the machine's memory divided by this


@dataclass(frozen=True)
class Engine:
    """How questions are run.

    Args:
        kind: ``memory`` arranges each view's rows in memory; ``duckdb`` may spill to disk; ``auto`` takes memory if
            the views' rows fit in the limit, else reads them along with entity rows in order of time (sweep.py), else
            takes DuckDB.
        threads: at once, for one question; ``None`` for all cores. (polars, which reads and gathers, has its own:
            POLARS_MAX_THREADS.)
        memory_limit: for example ``4GB``; ``None`` for half of the machine's.
        temp_directory: where DuckDB spills; ``None`` for the machine's temporary folder.
    """

    kind: Literal["auto", "memory", "duckdb"] = "auto"
    threads: int | None = None
    memory_limit: str | None = None
    temp_directory: str | None = None

    def choose(self, needed: int) -> str:
        """The engine for a question whose views' rows take ``needed`` bytes."""
        if self.kind != "auto":
            return self.kind
        return "memory" if needed <= self.limit else "duckdb"

    @property
    def limit(self) -> int:
        """The memory limit in bytes."""
        if self.memory_limit is not None:
            return bytes_of(self.memory_limit)
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _SHARE

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A fresh in-memory connection whose time zone is UTC."""
        settings: dict[str, Any] = {"temp_directory": self.temp_directory or f"{tempfile.gettempdir()}/exfm-duckdb"}
        if self.threads is not None:
            settings["threads"] = self.threads
        if self.memory_limit is not None:
            settings["memory_limit"] = self.memory_limit
        connection = duckdb.connect(":memory:", config=settings)
        connection.execute("SET TimeZone = 'UTC'")
        return connection


def engine_of(config: RepoConfig) -> Engine:
    """The engine that the ``offline_store`` block describes."""
    settings = config.offline_store
    return Engine(settings.engine, settings.threads, settings.memory_limit, settings.temp_directory)


def bytes_of(limit: str) -> int:
    """A memory limit such as ``4GB`` or ``512MiB`` in bytes.

    Raises:
        RetrievalError: if it is not a number with a unit.
    """
    digits = limit.strip().rstrip("BbKkMmGgTtIi ")
    unit = limit.strip()[len(digits) :].strip().upper()
    try:
        return int(float(digits) * _UNITS[unit])
    except (KeyError, ValueError):
        raise RetrievalError(f"memory_limit: {limit!r} is not a size: write for example 4GB") from None


class Session:
    """One question's connection, made when it is first needed: frames are answered without any."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: duckdb.DuckDBPyConnection | None = None

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def interrupt(self) -> None:
        """Stop what the connection runs, if there is one."""
        if self._connection is not None:
            self._connection.interrupt()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._connection is not None:
            self._connection.close()


def pieces_of(answer: duckdb.DuckDBPyRelation, size: int) -> Iterator[pa.Table]:
    """The rows of a query, at most ``size`` per chunk; at least one chunk."""
    if size == WHOLE:
        yield answer.to_arrow_table()
        return
    empty = True
    for batch in answer.to_arrow_reader(size):
        yield pa.Table.from_batches([batch])
        empty = False
    if empty:
        yield answer.limit(0).to_arrow_table()


def register_places(connection: duckdb.DuckDBPyConnection, locations: Iterable[Location]) -> None:
    """Let a connection read what lies on object stores, through Arrow's file systems."""
    from fsspec.implementations.arrow import ArrowFSWrapper  # 60 ms, and only for object stores

    for location in locations:
        if location.system is None:
            continue
        system = ArrowFSWrapper(location.system)
        if not connection.filesystem_is_registered(system.fs.type_name):
            connection.register_filesystem(system)
