"""Whole pieces of a source: what materialisation, saved datasets, logs and monitoring read.

Belongs here: pulls by time. Not here: joins (answering.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import duckdb
import pyarrow as pa
from feast.data_source import DataSource
from feast.repo_config import RepoConfig

from feast_asof.connection import Session, pieces_of, register_places
from feast_asof.files import microseconds
from feast_asof.plan import check_columns, source_of
from feast_asof.sql import pull_query, scan

_DATASET_CLOCK = "event_timestamp"


@dataclass(frozen=True)
class Pull:
    """Rows of a source with a timestamp in [first, last]: all, oldest first, or the newest one of each key."""

    config: RepoConfig
    source: DataSource
    keys: Sequence[str]
    features: Sequence[str]
    timestamp: str
    created: str | None
    first: datetime | None
    last: datetime | None
    latest: bool

    def query(self, connection: duckdb.DuckDBPyConnection) -> str:
        """The SELECT, its files checked and within the connection's reach.

        Raises:
            RetrievalError: if there are no files, or a column is not in one.
        """
        found = source_of(self.source, self.config.repo_path, view=self.source.name)
        register_places(connection, [found.place])
        if self._is_saved_dataset:
            names = list(dict.fromkeys(name for file in found.files for name in file.types))
            return f"SELECT * FROM {scan(found.files, names)}"
        wanted = [*self.keys, *self.features, self.timestamp, *([self.created] if self.created else [])]
        check_columns(self.source.name, wanted, found)
        first, last = (None if end is None else microseconds(end) for end in (self.first, self.last))
        source = replace(found, timestamp=self.timestamp, created=self.created)
        return pull_query(source, list(self.keys), list(self.features), first, last, latest=self.latest)

    def pieces(self, session: Session, size: int) -> Iterator[pa.Table]:
        """The rows, at most ``size`` to a piece; at least one piece."""
        yield from pieces_of(session.connection.sql(self.query(session.connection)), size)

    @property
    def _is_saved_dataset(self) -> bool:
        # Feast asks for a saved dataset by its features alone, and would lose the label. Its source, unlike a view's,
        # has no timestamp field of its own. A saved dataset is given back as it was saved: all columns, in order.
        return not self.source.timestamp_field and self.timestamp == _DATASET_CLOCK and not self.latest
