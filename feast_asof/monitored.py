"""Feast's monitoring hooks: statistics of features, and the tables that keep them.

Belongs here: Feast's interface. Not here: the statistics (statistics.py), the tables (monitoring.py).
"""

from datetime import date, datetime
from pathlib import Path
from typing import Any

from feast.data_source import DataSource
from feast.infra.offline_stores.offline_store import OfflineStore
from feast.monitoring.monitoring_utils import MONITORING_DIR
from feast.repo_config import RepoConfig

from feast_asof import monitoring
from feast_asof.connection import WHOLE, Session, engine_of
from feast_asof.pulling import Pull
from feast_asof.statistics import compute_metrics

_BASELINE_COLUMNS = ("feature_view_name", "feature_name", "data_source_type")


class MonitoredStore(OfflineStore):  # type: ignore[misc]  # Feast ships no types
    """The part of an offline store that ``feast monitor`` asks."""

    @staticmethod
    def compute_monitoring_metrics(
        config: RepoConfig,
        data_source: DataSource,
        feature_columns: list[tuple[str, str]],
        timestamp_field: str,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        histogram_bins: int = 20,
        top_n: int = 10,
    ) -> list[dict[str, Any]]:
        """Statistics of each feature over the rows with a timestamp in [start_date, end_date], in Feast's form."""
        names = list(dict.fromkeys(name for name, _ in feature_columns))
        window = (start_date, end_date)
        pull = Pull(config, data_source, [], names, timestamp_field, None, *window, latest=False, whole=False)
        with Session(engine_of(config)) as session:
            query, names = pull.query(session.connection)
            columns = dict(zip(names, session.connection.sql(query).columns, strict=True))
            return compute_metrics(session.connection, query, columns, feature_columns, histogram_bins, top_n)

    @staticmethod
    def get_monitoring_max_timestamp(
        config: RepoConfig, data_source: DataSource, timestamp_field: str
    ) -> datetime | None:
        """The newest timestamp of a source; ``None`` if it has no rows."""
        pull = Pull(config, data_source, [], [], timestamp_field, None, None, None, latest=True, whole=False)
        with Session(engine_of(config)) as session:
            newest = next(pull.chunks(session, WHOLE))[timestamp_field].to_pylist()
        return newest[0] if newest else None

    @staticmethod
    def ensure_monitoring_tables(config: RepoConfig) -> None:
        """Make the folder ``feast_monitoring`` of the repository hold Feast's tables."""
        monitoring.ensure_tables(_monitored(config))

    @staticmethod
    def save_monitoring_metrics(config: RepoConfig, metric_type: str, metrics: list[dict[str, Any]]) -> None:
        """Add or replace rows of one of Feast's monitoring tables."""
        monitoring.save_metrics(_monitored(config), metric_type, metrics)

    @staticmethod
    def query_monitoring_metrics(
        config: RepoConfig,
        project: str,
        metric_type: str,
        filters: dict[str, Any] | None = None,
        start_date: date | None = None,
        end_date: date | None = None,
    ) -> list[dict[str, Any]]:
        """Rows of one of Feast's monitoring tables, oldest first."""
        return monitoring.query_metrics(_monitored(config), project, metric_type, filters, start_date, end_date)

    @staticmethod
    def clear_monitoring_baseline(
        config: RepoConfig,
        project: str,
        feature_view_name: str | None = None,
        feature_name: str | None = None,
        data_source_type: str | None = None,
    ) -> None:
        """Take the mark of a baseline from matching rows, before another one is set."""
        folder = _monitored(config)
        where = zip(_BASELINE_COLUMNS, (feature_view_name, feature_name, data_source_type), strict=True)
        monitoring.clear_baseline(folder, project, *where)


def _monitored(config: RepoConfig) -> Path:
    return Path(config.repo_path or ".") / str(MONITORING_DIR)
