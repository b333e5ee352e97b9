"""Where the embedded registry and online store lie: the chosen project's own folder of the state.

Belongs here: resolving the ``exfm:`` registry and the online store's file when Feast opens them. Not here: what is in
them. Feast expands only environment variables in its yaml, and resolves a relative registry against the current folder;
so the registry is an SQLAlchemy dialect (SQLite, with another way to find its file), registered when Feast loads the
online store's class.
"""

import logging
import sqlite3
from pathlib import Path
from typing import Any, Literal

from feast import FeatureView
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.repo_config import RepoConfig
from sqlalchemy import URL
from sqlalchemy.dialects import registry as dialects
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from feature_repo.asof.errors import RetrievalError
from feature_repo.mending import remove_damaged
from projects.load import load_project
from projects.state import State, state_root

REGISTRY, ONLINE = "registry.db", "online.db"
_log = logging.getLogger(__name__)


def chosen_state() -> State:
    """The chosen project's state, for its own folders only: the log need not be there to ask Feast what it knows."""
    folder = state_root() / load_project().name
    return State(folder=folder, log=folder / "log")


class StateDialect(SQLiteDialect_pysqlite):
    """``exfm:///registry.db``: a SQLite file in the chosen project's Feast folder; absolute paths stay."""

    supports_statement_cache = True

    def create_connect_args(self, url: URL) -> Any:
        """Find the file once, when the engine is made, and make its folder."""
        path = chosen_state().feast / (url.database or REGISTRY)
        if not path.exists():
            _log.warning("no Feast registry at %s yet, so an empty one is made: `feast apply` fills it", path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return super().create_connect_args(url.set(drivername="sqlite", database=str(path)))


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
        path.parent.mkdir(parents=True, exist_ok=True)
        return str(path)

    def _get_conn(self, config: RepoConfig) -> Any:
        """The connection; a file that is damaged is removed before it is opened, for all in it can be loaded again."""
        if self._conn is None:
            remove_damaged(Path(self._get_db_path(config)), "materialise online_store to load it again")
        return super()._get_conn(config)

    def online_write_batch(self, config: RepoConfig, table: FeatureView, *rest: Any, **named: Any) -> None:
        """Write rows; into a file that is new or was removed, after making its tables as an apply does."""
        self.update(config, [], [table], [], [], partial=True)
        super().online_write_batch(config, table, *rest, **named)

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
