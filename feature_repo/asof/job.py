"""The lazy answer: runs when asked for rows, each time in a DuckDB connection of its own.

Belongs here: connections, running, persisting an answer. Not here: what is run (sql.py).
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
from feast import FeatureView, OnDemandFeatureView
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import FileSource, SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.saved_dataset import SavedDatasetStorage

from feature_repo.asof.errors import RetrievalError
from feature_repo.asof.plan import plan_view
from feature_repo.asof.rows import EntityRows, given_columns, load_rows, measure
from feature_repo.asof.sql import join_query
from feature_repo.asof.write import write_parquet

Run = Callable[[duckdb.DuckDBPyConnection], pa.Table]


@dataclass(frozen=True)
class Engine:
    """How DuckDB runs: ``None`` leaves it to DuckDB, and spills to the machine's temporary folder."""

    threads: int | None = None
    memory_limit: str | None = None
    temp_directory: str | None = None

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


@dataclass(frozen=True)
class Question:
    """A historical retrieval: each view with the features asked of it."""

    entity_rows: EntityRows
    views: tuple[tuple[FeatureView, tuple[str, ...]], ...]
    full_names: bool
    cutoff: bool
    repo_path: Path | None

    def answer(self, connection: duckdb.DuckDBPyConnection) -> pa.Table:
        """The entity rows in their order, with one column per feature.

        Raises:
            RetrievalError: if rows, files and definitions do not fit.
        """
        rows = load_rows(connection, self.entity_rows)
        plans = [
            plan_view(view, names, full_names=self.full_names, types=rows.types, repo_path=self.repo_path)
            for view, names in self.views
        ]
        clock = measure(connection, {key.entity for plan in plans for key in plan.keys if key.is_integer})
        table = given_columns(connection, rows)
        for plan in plans:
            joined = connection.sql(join_query(plan, clock, cutoff=self.cutoff)).to_arrow_table()
            for name in joined.column_names:
                table = table.append_column(name, joined[name])
        return table


class AsofRetrievalJob(RetrievalJob):  # type: ignore[misc]  # Feast ships no types
    """Runs a question when its rows are asked for."""

    def __init__(
        self,
        run: Run,
        engine: Engine,
        *,
        full_feature_names: bool = False,
        on_demand_feature_views: list[OnDemandFeatureView] | None = None,
        metadata: RetrievalMetadata | None = None,
        repo_path: Path | None = None,
    ) -> None:
        self._run = run
        self._engine = engine
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = on_demand_feature_views or []
        self._metadata = metadata
        self._repo_path = repo_path

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        with self._engine.connect() as connection:
            return self._run(connection)

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    @property
    def full_feature_names(self) -> bool:
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return self._metadata

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Write the answer to one parquet file.

        Raises:
            SavedDatasetLocationAlreadyExists: if the file exists and may not be overwritten.
            RetrievalError: if the storage is not a file.
        """
        if not isinstance(storage, SavedDatasetFileStorage):
            raise RetrievalError(f"storage: {type(storage).__name__} is not a file: use SavedDatasetFileStorage")
        path = Path(FileSource.get_uri_for_file_path(self._repo_path, storage.file_options.uri))
        if path.exists() and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=str(path))
        write_parquet(self.to_arrow(timeout=timeout), path)
