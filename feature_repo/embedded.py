"""Where the embedded registry and online store lie: the chosen project's own folder of the state.

Belongs here: resolving the ``exfm:`` registry and the online store's file when Feast opens them. Not here: what is in
them. Feast expands only environment variables in its yaml, and resolves a relative registry against the current folder;
so the registry is an SQLAlchemy dialect (SQLite, with another way to find its file), registered when Feast loads the
online store's class.
"""

import feature_repo.unchecked  # noqa: F401  # isort: skip  # before Feast, which then takes half the time

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from feast import FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import extract_text_and_num
from feast.infra.online_stores.sqlite import (
    SqliteOnlineStore,
    SqliteOnlineStoreConfig,
    _quote_id,
    _table_id,
    adapt_datetime_epoch,
)
from feast.repo_config import RepoConfig
from feast.utils import to_naive_utc
from sqlalchemy import URL
from sqlalchemy.dialects import registry as dialects
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from exfm.load import load_project
from exfm.state import State, state_root
from exfm.writing import StateError, alone, unwritable
from feast_asof.errors import RetrievalError
from feature_repo.mending import remove_damaged
from feature_repo.registry import follow, make

REGISTRY, ONLINE, LOCK = "registry.db", "online.db", ".lock"
MAKING = ".making"  # a separate lock: a process that applies holds the other one already
BUSY_SECONDS = 30  # how long a connection waits for another process's transaction; sqlite's own 5 s are short
_log = logging.getLogger(__name__)


def chosen_state() -> State:
    """The chosen project's state, for its own folders only: the log need not be there to ask Feast what it knows."""
    folder = state_root() / load_project().name
    return State(folder=folder, log=folder / "log")


# As Feast's store writes, in one statement for all cells.
_UPSERT = """
    INSERT INTO {table} (entity_key, feature_name, value, value_text, event_ts, created_ts) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (entity_key, feature_name) DO UPDATE SET value = excluded.value, value_text = excluded.value_text,
        event_ts = excluded.event_ts, created_ts = excluded.created_ts
"""


def _cells(config: RepoConfig, data: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """A row of the table for each feature of each entity; times as the store's own adapter has them."""
    epoch = cache(lambda moment: None if moment is None else adapt_datetime_epoch(to_naive_utc(moment)))
    version = config.entity_key_serialization_version
    for entity_key, values, event, created in data:
        key = serialize_entity_key(entity_key, entity_key_serialization_version=version)
        times = epoch(event), epoch(created)
        for name, value in values.items():
            yield key, name, value.SerializeToString(), extract_text_and_num(value, False)[0], *times


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
    """Feast's SQLite store in the chosen project's Feast folder."""

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
        """The connection; a file that is damaged is removed before it is opened, for all in it can be loaded again."""
        if self._conn is None:
            remove_damaged(Path(self._get_db_path(config)), "materialise online_store to load it again")
        return super()._get_conn(config)

    def online_write_batch(self, config: RepoConfig, table: FeatureView, *rest: Any, **named: Any) -> None:
        """Write rows; into a file that is new or was removed, after making its tables as an apply does."""
        self.update(config, [], [table], [], [], partial=True)
        if config.online_store.vector_enabled or getattr(config.online_store, "enable_openai_compatible_store", False):
            super().online_write_batch(config, table, *rest, **named)  # more columns
            return
        data = named["data"] if "data" in named else rest[0]
        name = _table_id(config.project, table, config.registry.enable_online_feature_view_versioning)
        with self._get_conn(config) as connection:
            connection.executemany(_UPSERT.format(table=_quote_id(name)), _cells(config, data))

    def online_read(self, config: RepoConfig, table: FeatureView, *rest: Any, **named: Any) -> Any:
        """Read rows.

        Raises:
            RetrievalError: if the file is damaged, or was never loaded.
        """
        try:
            return super().online_read(config, table, *rest, **named)
        except sqlite3.DatabaseError as error:
            raise RetrievalError(
                f"online store {self._get_db_path(config)}: view {table.name!r} can't be read ({error}): "
                "materialise online_store again"
            ) from error
