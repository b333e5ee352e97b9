"""The plug-in that ``feature_store.yaml`` names: Feast's questions, answered by as-of joins in DuckDB.

Belongs here: Feast's interface. Not here: plans (plan.py), SQL (sql.py), running (job.py).
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureView, OnDemandFeatureView
from feast.data_source import DataSource
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.infra.offline_stores.file_source import FileLoggingDestination, FileSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import PositiveInt

from feature_repo.asof.errors import RetrievalError
from feature_repo.asof.job import AsofRetrievalJob, Engine, Question
from feature_repo.asof.plan import check_columns, source_of
from feature_repo.asof.rows import EntityRows
from feature_repo.asof.sql import pull_query
from feature_repo.asof.types import DECLARED, MOMENT
from feature_repo.asof.write import add_rows

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AsofOfflineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]  # Feast ships no types
    """The ``offline_store`` block.

    Args:
        threads: DuckDB's threads for one question; ``None`` for all cores.
        memory_limit: for example ``4GB``; ``None`` for DuckDB's share of the machine.
        temp_directory: where it spills; ``None`` for the machine's temporary folder.
    """

    type: Literal["feature_repo.asof.store.AsofOfflineStore"] = "feature_repo.asof.store.AsofOfflineStore"
    threads: PositiveInt | None = None
    memory_limit: str | None = None
    temp_directory: str | None = None


def _engine(config: RepoConfig) -> Engine:
    settings = config.offline_store
    return Engine(settings.threads, settings.memory_limit, settings.temp_directory)


def _microseconds(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


class AsofOfflineStore(OfflineStore):  # type: ignore[misc]  # Feast ships no types
    """Parquet files on this machine, joined as of each entity row's moment."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: EntityRows | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **options: Any,
    ) -> AsofRetrievalJob:
        """For each entity row and feature, the value that was newest at the row's ``event_timestamp``.

        Args:
            entity_df: a pandas frame, an Arrow table, or a DuckDB SELECT.
            options: ``filter_by_created_timestamp``: a value counts only from its created timestamp on.

        Raises:
            RetrievalError: here if there are no entity rows to ask for; when run, if rows, files and views do not fit.
        """
        if entity_df is None:
            raise RetrievalError(
                "entity_df: None: this store answers for entity rows only: pass a frame, an Arrow table or a SELECT"
            )
        asked: dict[str, list[str]] = {view.projection.name_to_use(): [] for view in feature_views}
        for reference in feature_refs:
            view_name, _, feature = reference.partition(":")
            if view_name in asked:  # the others are on-demand views, which Feast computes from these
                asked[view_name].append(feature)
        question = Question(
            entity_rows=entity_df,
            views=tuple((view, tuple(asked[view.projection.name_to_use()])) for view in feature_views),
            full_names=full_feature_names,
            cutoff=bool(options.get("filter_by_created_timestamp", False)),
            repo_path=config.repo_path,
        )
        keys = {v.projection.join_key_map.get(f.name, f.name) for v in feature_views for f in v.entity_columns}
        return AsofRetrievalJob(
            question.answer,
            _engine(config),
            full_feature_names=full_feature_names,
            on_demand_feature_views=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            metadata=RetrievalMetadata(features=feature_refs, keys=sorted(keys)),
            repo_path=config.repo_path,
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> AsofRetrievalJob:
        """The newest row of each key with a timestamp in [start_date, end_date]."""
        clocks = (timestamp_field, created_timestamp_column or None)
        columns = (join_key_columns, feature_name_columns)
        return _pull(config, data_source, columns, clocks, (start_date, end_date), latest=True)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> AsofRetrievalJob:
        """Every row with a timestamp in [start_date, end_date], oldest first."""
        clocks = (timestamp_field, created_timestamp_column or None)
        columns = (join_key_columns, feature_name_columns)
        return _pull(config, data_source, columns, clocks, (start_date, end_date), latest=False)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Add rows to a view's source as a new file of its own (a source that is one file is rewritten).

        Raises:
            RetrievalError: if the table lacks a column of the view, or the source is not made of files.
        """
        source = feature_view.batch_source
        if not isinstance(source, FileSource):
            raise RetrievalError(f"view {feature_view.name!r}: its source is not files: use a FileSource")
        path = FileSource.get_uri_for_file_path(config.repo_path, source.path)
        add_rows(_as_declared(feature_view, table), path)
        if progress is not None:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Add a feature server's log to the destination's folder as a new file.

        Raises:
            RetrievalError: if the destination is not a file destination.
        """
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise RetrievalError(
                f"logging destination: {type(destination).__name__} is not files: use FileLoggingDestination"
            )
        table = data if isinstance(data, pa.Table) else pq.read_table(data)
        add_rows(table, FileSource.get_uri_for_file_path(config.repo_path, destination.path))

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """The columns that the files hold; a hive folder's name is not one of them.

        Raises:
            RetrievalError: if there are no files.
        """
        source = source_of(data_source, config.repo_path, view=data_source.name)
        return [(name, str(dtype)) for name, dtype in source.files[0].types.items()]

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """Accept a source whose files are still to be written: definitions are applied before the first run."""


def _as_declared(view: FeatureView, table: pa.Table) -> pa.Table:
    """The view's columns of a table, with the names that its files have and the types that it declares."""
    source = view.batch_source
    mapped = {new: old for old, new in source.field_mapping.items()}
    types = {mapped.get(field.name, field.name): DECLARED.get(field.dtype) for field in view.schema}
    wanted: dict[str, pa.DataType | None] = {name: known[2] if known else None for name, known in types.items()}
    wanted |= {name: MOMENT for name in (source.timestamp_field, source.created_timestamp_column) if name}
    missing = sorted(set(wanted) - set(table.column_names))
    if missing:
        raise RetrievalError(f"view {view.name!r}: the rows to write lack columns {missing}: add them")
    return pa.table({name: table[name].cast(dtype) if dtype else table[name] for name, dtype in wanted.items()})


def _pull(
    config: RepoConfig,
    data_source: DataSource,
    columns: tuple[list[str], list[str]],
    clocks: tuple[str, str | None],
    window: tuple[datetime | None, datetime | None],
    *,
    latest: bool,
) -> AsofRetrievalJob:
    def run(connection: duckdb.DuckDBPyConnection) -> pa.Table:
        found = source_of(data_source, config.repo_path, view=data_source.name)
        source = replace(found, timestamp=clocks[0], created=clocks[1])
        keys, features = columns
        check_columns(data_source.name, [*keys, *features, *filter(None, clocks)], source)
        first, last = map(_microseconds, window)
        return connection.sql(pull_query(source, keys, features, first, last, latest=latest)).to_arrow_table()

    return AsofRetrievalJob(run, _engine(config), repo_path=config.repo_path)
