"""The plug-in that ``feature_store.yaml`` names: Feast's questions, answered by as-of joins in DuckDB.

Belongs here: Feast's interface. Not here: plans (plan.py), SQL (sql.py), running (job.py).
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureView, OnDemandFeatureView
from feast.data_source import DataSource
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.offline_stores.file_source import FileLoggingDestination, FileSource
from feast.infra.offline_stores.offline_store import OfflineStore
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.utils import compute_non_entity_date_range
from pydantic import PositiveInt, field_validator

from feast_asof.answering import Question, Window
from feast_asof.connection import Engine, Session, bytes_of, engine_of
from feast_asof.errors import NoFilesError, RetrievalError
from feast_asof.files import microseconds
from feast_asof.job import AsofRetrievalJob, Chunks, LazyMetadata
from feast_asof.plan import source_of
from feast_asof.pulling import Pull
from feast_asof.pushing import declared_columns, push
from feast_asof.rows import EntityRows
from feast_asof.write import add_logs

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AsofOfflineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]  # Feast ships no types
    """The ``offline_store`` block.

    Args:
        engine: ``memory`` arranges the views' rows in memory, ``duckdb`` may spill them to disk, ``auto`` takes memory
            where they fit into the limit, or where a stretch of time of them does and entity rows come in that order.
        threads: for one question; ``None`` for all cores.
        memory_limit: for example ``4GB``; ``None`` for half of the machine's (``auto``) and DuckDB's share of it.
        temp_directory: where DuckDB spills; ``None`` for the machine's temporary folder.
    """

    type: Literal["feast_asof.store.AsofOfflineStore", "feature_repo.asof.store.AsofOfflineStore"] = (
        "feast_asof.store.AsofOfflineStore"
    )
    engine: Literal["auto", "memory", "duckdb"] = "auto"
    threads: PositiveInt | None = None
    memory_limit: str | None = None
    temp_directory: str | None = None

    @field_validator("memory_limit")
    @classmethod
    def _is_size(cls, value: str | None) -> str | None:
        if value is not None:
            bytes_of(value)
        return value


class AsofOfflineStore(OfflineStore):  # type: ignore[misc]
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
            entity_df: a pandas or polars frame, an Arrow table, a DuckDB SELECT, or the path of a parquet file, folder
                or glob; ``None`` asks for every key that a view has in [``start_date``, ``end_date``], as of the end.
            options: ``start_date``, ``end_date``: without a start, the longest ttl (or 30 days) before the end;
                ``filter_by_created_timestamp``: a value counts only from its created timestamp on.

        Raises:
            RetrievalError: when run, if rows, files and views do not fit.
        """
        requested: dict[str, list[str]] = {view.projection.name_to_use(): [] for view in feature_views}
        for reference in feature_refs:
            view_name, _, feature = reference.partition(":")
            if view_name in requested:  # the others are on-demand views, which Feast computes from these
                requested[view_name].append(feature)
        question = Question(
            entity_rows=_window(feature_views, options) if entity_df is None else entity_df,
            views=tuple((view, tuple(requested[view.projection.name_to_use()])) for view in feature_views),
            full_names=full_feature_names,
            cutoff=bool(options.get("filter_by_created_timestamp", False)),
            repo_path=config.repo_path,
        )
        engine = engine_of(config)

        def stamped(first: int, last: int) -> Chunks:
            narrowed = replace(question, stamped=(first, last))
            return lambda session, size: narrowed.chunks(session, engine, size)

        keys = {v.projection.join_key_map.get(f.name, f.name) for v in feature_views for f in v.entity_columns}
        return AsofRetrievalJob(
            lambda session, size: question.chunks(session, engine, size),
            engine,
            full_feature_names=full_feature_names,
            on_demand_feature_views=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            metadata=LazyMetadata(feature_refs, sorted(keys - {DUMMY_ENTITY_ID}), lambda: _span(question, engine)),
            repo_path=config.repo_path,
            stamped=stamped,
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
        clocks = (timestamp_field, created_timestamp_column or None, start_date, end_date)
        return _pulling(Pull(config, data_source, join_key_columns, feature_name_columns, *clocks, latest=True))

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
        """Every row with a timestamp in [start_date, end_date], oldest first; of a saved dataset, all as saved."""
        clocks = (timestamp_field, created_timestamp_column or None, start_date, end_date)
        return _pulling(Pull(config, data_source, join_key_columns, feature_name_columns, *clocks, latest=False))

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Add rows to a view's source as a new file of its own (one file is rewritten, Delta gets a version).

        Raises:
            RetrievalError: if the table lacks a column of the view, a value would be lost, or the source is not files.
        """
        push(feature_view, table, config.repo_path)
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
        """Add a feature server's log to the destination's folder as a new file, below its partitions if it has some.

        Raises:
            RetrievalError: if the destination is not a file destination.
        """
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise RetrievalError(
                f"logging destination: {type(destination).__name__} is not files: use FileLoggingDestination"
            )
        table = data if isinstance(data, pa.Table) else pq.read_table(data)
        path = FileSource.get_uri_for_file_path(config.repo_path, destination.path)
        add_logs(table, path, destination.partition_by or [], endpoint=destination.s3_endpoint_override or None)

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """The columns that the files hold, and a Delta table's partitions; without files, those that views declare.

        The name of a hive folder is a column only for a view that declares it.

        Raises:
            RetrievalError: if there are no files, and no view is applied that would be pushed to.
        """
        try:
            source = source_of(data_source, config.repo_path, view=data_source.name)
        except NoFilesError:
            declared = declared_columns(config, data_source)  # the first push makes the first file
            if not declared:
                raise
            return declared
        types = {name: dtype for file in source.files for name, dtype in file.types.items()}
        folders = source.files[-1].partitions if source.grows else ()
        held = {name: dtype.value_type if pa.types.is_dictionary(dtype) else dtype for name, dtype in types.items()}
        return [*((name, str(dtype)) for name, dtype in held.items()), *((name, "string") for name in folders)]

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """Accept a source whose files are still to be written: definitions are applied before the first run."""


def _pulling(pull: Pull) -> AsofRetrievalJob:
    return AsofRetrievalJob(pull.chunks, engine_of(pull.config), repo_path=pull.config.repo_path)


def _window(views: list[FeatureView], options: dict[str, Any]) -> Window:
    first, last = compute_non_entity_date_range(views, options.get("start_date"), options.get("end_date"))
    if first > last:
        raise RetrievalError(f"start_date: {first} is after end_date {last}: swap them")
    return Window(microseconds(first), microseconds(last))


def _span(question: Question, engine: Engine) -> tuple[datetime, datetime] | None:
    """First and last moment of the entity rows; ``None`` if there is none."""
    with Session(engine) as session:
        clock = question.load(session, stream=True).measure([])
    if clock is None:
        return None
    first, last = (_EPOCH + timedelta(microseconds=end) for end in (clock.first, clock.last))
    return first, last
