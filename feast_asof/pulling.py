"""Whole ranges of a source: what materialisation, saved datasets and logs read.

Belongs here: pulls by time. Not here: joins (answering.py).
"""

from __future__ import annotations  # held as classes, what they name would be "leaked" at exit, says duckdb 2

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import duckdb
import pyarrow as pa
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.repo_config import RepoConfig

from feast_asof.connection import Session, pieces_of, register_places
from feast_asof.files import microseconds
from feast_asof.plan import check_columns, check_features, source_of
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

    def query(self, connection: duckdb.DuckDBPyConnection) -> tuple[str, list[str]]:
        """The SELECT, its files checked and within the connection's reach, and what its columns are called.

        Raises:
            RetrievalError: if there are no files, or a column is not in one.
        """
        original = source_of(self.source, self.config.repo_path, view=self.source.name)
        register_places(connection, [original.location])
        if self._is_saved_dataset:
            names = list(dict.fromkeys(name for file in original.files for name in file.types))
            return f"SELECT * FROM {scan(original.files, names).relation}", names
        # Feast asks by the files' names and renames itself.
        held = dict.fromkeys(name for file in original.files for name in (*file.types, *file.partitions))
        keys, clocks = list(self.keys), [self.timestamp, *([self.created] if self.created else [])]
        features = list(self.features)
        if not features:  # what a view's own transformation computes from
            features = [name for name in held if name not in {*keys, *clocks}]
        columns = {name: name if name in held else original.column(name) for name in [*keys, *features, *clocks]}
        created = columns[self.created] if self.created else None
        source = replace(original, timestamp=columns[self.timestamp], created=created)
        check_columns(self.source.name, [columns[name] for name in [*keys, *clocks]], source)
        check_features(self.source.name, [columns[name] for name in features], source)
        first, last = (None if end is None else microseconds(end) for end in (self.first, self.last))
        key_columns, feature_columns = ([columns[name] for name in names] for names in (keys, features))
        query = pull_query(source, key_columns, feature_columns, first, last, latest=self.latest)
        return query, [*keys, *features, *clocks]

    def chunks(self, session: Session, size: int) -> Iterator[pa.Table]:
        """The rows, at most ``size`` per chunk; at least one chunk."""
        query, names = self.query(session.connection)
        for chunk in pieces_of(session.connection.sql(query), size):
            chunk = chunk.rename_columns(names)
            if not self.keys and self.source.timestamp_field:  # Feast's mark of a view without entities
                chunk = chunk.append_column(DUMMY_ENTITY_ID, pa.array([DUMMY_ENTITY_VAL] * chunk.num_rows, pa.string()))
            yield chunk

    @property
    def _is_saved_dataset(self) -> bool:
        # Feast asks for a saved dataset by its features alone, and would lose the label. Its source, unlike a view's,
        # has no timestamp field of its own. A saved dataset is given back as it was saved: all columns, in order.
        return not self.source.timestamp_field and self.timestamp == _DATASET_CLOCK and not self.latest
