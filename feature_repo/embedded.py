"""Where the embedded registry and online store lie: the chosen project's own folder of the state.

Belongs here: resolving the ``exfm:`` registry and the online store's file when Feast opens them. Not here: what is in
them. Feast expands only environment variables in its yaml, and resolves a relative registry against the current folder;
so the registry is an SQLAlchemy dialect (SQLite, with another way to find its file), registered when Feast loads the
online store's class.
"""

import feature_repo.unchecked  # noqa: F401  # isort: skip  # before Feast, which then takes half the time

import logging
import sqlite3
import threading
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import pyarrow as pa
from feast import Entity, FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.sqlite import (
    SqliteOnlineStore,
    SqliteOnlineStoreConfig,
    _initialize_conn,
    _quote_id,
    _table_id,
)
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.repo_config import RepoConfig
from sqlalchemy import URL
from sqlalchemy.dialects import registry as dialects
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from exfm.load import load_project
from exfm.state import State, state_root
from exfm.writing import StateError, alone, unwritable
from feast_asof.errors import RetrievalError
from feature_repo.mending import remove_damaged
from feature_repo.online_rows import OnlineTable
from feature_repo.registry import follow, make

REGISTRY, ONLINE, LOCK = "registry.db", "online.db", ".lock"
MAKING = ".making"  # a separate lock: a process that applies holds the other one already
BUSY_SECONDS = 30  # how long a connection waits for another process's transaction; sqlite's own 5 s are short
_OPENING = threading.Lock()
_log = logging.getLogger(__name__)


def chosen_state() -> State:
    """The chosen project's state, for its own folders only: the log need not be there to ask Feast what it knows."""
    folder = state_root() / load_project().name
    return State(folder=folder, log=folder / "log")


class StateDialect(SQLiteDialect_pysqlite):
    """``exfm:///registry.db``: a SQLite file in the chosen project's Feast folder; absolute paths stay."""

    supports_statement_cache = True

    def create_connect_args(self, url: URL) -> Any:
        """Find the file once, when the engine is made; make it, or let it follow a state that was moved."""
        # A query's values are unquoted alike in all versions, a database's name is not.
        named = url.query.get("folder")
        path = (Path(str(named)) if named else chosen_state().feast) / (url.database or REGISTRY)
        if not path.exists():
            with alone(path.parent / MAKING, "making the Feast registry"):
                if not path.exists():
                    _log.warning("no Feast registry at %s yet, so an empty one is made: `feast apply` fills it", path)
                    make(path)
        follow(path)
        arguments, options = super().create_connect_args(URL.create("sqlite", database=str(path)))
        return arguments, {"timeout": BUSY_SECONDS, **options}


def url_of(registry: Path) -> str:
    """The URL of a registry's file, whatever characters its path has."""
    return f"exfm:///{registry.name}?folder={quote(str(registry.parent), safe='/')}"


dialects.register("exfm", __name__, "StateDialect")


class EmbeddedOnlineStoreConfig(SqliteOnlineStoreConfig):  # type: ignore[misc]  # Feast ships no types
    """The ``online_store`` block; ``path`` is relative to the chosen project's Feast folder."""

    type: Literal["feature_repo.embedded.EmbeddedOnlineStore"] = "feature_repo.embedded.EmbeddedOnlineStore"
    path: str = ONLINE


class EmbeddedOnlineStore(SqliteOnlineStore):  # type: ignore[misc]  # Feast ships no types
    """An SQLite file in the chosen project's Feast folder, of one row an entity (online_rows.py).

    Where the block asks for what only Feast's own layout can (vectors, text search, OpenAI's interface), that is kept.
    """

    _conn: Any = None
    _opened: tuple[Any, tuple[int, int] | None] = (None, None)  # the connection, and of which file it is

    @staticmethod
    def _get_db_path(config: RepoConfig) -> str:
        named = Path(config.online_store.path)
        path = named if named.is_absolute() else chosen_state().feast / named
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(unwritable(path, error)) from error
        return str(path)

    def _get_conn(self, config: RepoConfig) -> Any:
        """The connection; a file that is damaged is removed before it is opened, for all in it can be loaded again.

        A file that another process made anew is opened anew: a server would read the old one for ever. Threads may ask
        at once.
        """
        path = Path(self._get_db_path(config))
        if not self._is_open(path):
            with _OPENING:
                if not self._is_open(path):
                    self._open(config, path)
        return self._conn

    def _is_open(self, path: Path) -> bool:
        opened, of = self._opened
        return opened is not None and opened is self._conn and of == _identity(path)

    def _open(self, config: RepoConfig, path: Path) -> None:
        remove_damaged(path, "materialise online_store to load it again")
        opened = _initialize_conn(str(path))
        opened.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        opened.execute("SELECT name FROM sqlite_master LIMIT 1")  # which makes the file
        # The one before is not closed: another thread may be reading.
        self._conn = opened
        self._opened = opened, _identity(path)

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Make the tables of some views and drop those of others; tables of Feast's layout, of before, make way."""
        if _feasts_layout(config):
            super().update(config, tables_to_delete, tables_to_keep, entities_to_delete, entities_to_keep, partial)
            return
        connection = self._get_conn(config)
        connection.execute("PRAGMA journal_mode = WAL")  # who reads does not wait for who loads
        if not connection.in_transaction:
            connection.execute("BEGIN IMMEDIATE")  # or a reader would see a table between two changes
        old = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        old &= {_id(config, view) for view in (*tables_to_delete, *tables_to_keep)}
        with connection:
            for name in old:
                connection.execute(f"DROP TABLE {_quote_id(name)}")
            for view in tables_to_delete:
                table_of(config, view).drop(connection)
            for view in tables_to_keep:
                table_of(config, view).make(connection)
        if old:
            connection.execute("VACUUM")

    def online_write_batch(self, config: RepoConfig, table: FeatureView, *rest: Any, **named: Any) -> None:
        """Write rows; into a file that is new or was removed, after making its tables as an apply does."""
        self.update(config, [], [table], [], [], partial=True)
        if _feasts_layout(config):
            super().online_write_batch(config, table, *rest, **named)
            return
        data = named["data"] if "data" in named else rest[0]
        rows, version = table_of(config, table), config.entity_key_serialization_version
        with self._get_conn(config) as connection:
            # Rows of one statement have the same features: mostly all of the view.
            for features, some in groupby(data, key=lambda row: tuple(row[1])):
                rows.write(connection, features, rows.rows_of_protos(some, features, version))

    def write_table(self, config: RepoConfig, view: FeatureView, table: pa.Table) -> bool:
        """Write an Arrow table of all features of a view, if it can be written a column at a time; was it?"""
        if _feasts_layout(config):
            return False
        self.update(config, [], [view], [], [], partial=True)
        rows, version = table_of(config, view), config.entity_key_serialization_version
        size = config.materialization_config.online_write_batch_size or max(table.num_rows, 1)
        for batch in table.combine_chunks().to_batches(max_chunksize=size):
            with self._get_conn(config) as connection:
                rows.write(connection, list(rows.kinds), rows.rows_of_batch(batch, view, version))
        return True

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
        *rest: Any,
        **named: Any,
    ) -> Any:
        """Read rows.

        Raises:
            RetrievalError: if the file is damaged, or was never loaded.
        """
        try:
            if _feasts_layout(config):
                return super().online_read(config, table, entity_keys, requested_features, *rest, **named)
            version = config.entity_key_serialization_version
            keys = [serialize_entity_key(key, entity_key_serialization_version=version) for key in entity_keys]
            rows = table_of(config, table)
            features = [name for name in requested_features or rows.kinds if name in rows.kinds]
            found = rows.read(self._get_conn(config), keys, features)
            return [rows.protos(found[key], features) if key in found else (None, None) for key in keys]
        except sqlite3.DatabaseError as error:
            raise RetrievalError(
                f"online store {self._get_db_path(config)}: view {table.name!r} can't be read ({error}): "
                "materialise online_store again"
            ) from error


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def table_of(config: RepoConfig, view: FeatureView) -> OnlineTable:
    """Where a view's rows are kept."""
    return OnlineTable.of(_id(config, view), view)


def _id(config: RepoConfig, view: FeatureView) -> str:
    name: str = _table_id(config.project, view, config.registry.enable_online_feature_view_versioning)
    return name


def _feasts_layout(config: RepoConfig) -> bool:
    """Does the block ask for what only Feast's own layout can?"""
    wants = ("vector_enabled", "text_search_enabled", "enable_openai_compatible_store")
    return any(getattr(config.online_store, name, False) for name in wants)
