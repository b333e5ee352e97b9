"""The lazy answer: runs when its rows are requested, each time in a DuckDB connection of its own.

Belongs here: Feast's job: tables, chunks, files, on-demand views. Not here: what is run (answering.py).
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
from feast import OnDemandFeatureView
from feast.data_format import DeltaFormat
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import FileSource, SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.saved_dataset import SavedDatasetStorage, ValidationReference

from feast_asof.connection import WHOLE, Engine, Session
from feast_asof.errors import RetrievalError
from feast_asof.files import microseconds
from feast_asof.locations import place_of
from feast_asof.write import write_pieces

Chunks = Callable[[Session, int], Iterator[pa.Table]]
CHUNK_ROWS = 1 << 18  # of a streamed answer
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LazyMetadata(RetrievalMetadata):  # type: ignore[misc]  # Feast ships no types
    """Feast's metadata of an answer, whose time range is looked up only when it is read."""

    def __init__(
        self, features: list[str], keys: list[str], span: Callable[[], tuple[datetime, datetime] | None]
    ) -> None:
        self.features = features
        self.keys = keys
        self._span = span

    @property
    def min_event_timestamp(self) -> datetime:
        return (self._span() or (_EPOCH, _EPOCH))[0]

    @property
    def max_event_timestamp(self) -> datetime:
        return (self._span() or (_EPOCH, _EPOCH))[1]


class AsofRetrievalJob(RetrievalJob):  # type: ignore[misc]  # Feast ships no types
    """Runs a question when its rows are requested."""

    def __init__(
        self,
        chunks: Chunks,
        engine: Engine,
        *,
        full_feature_names: bool = False,
        on_demand_feature_views: list[OnDemandFeatureView] | None = None,
        metadata: RetrievalMetadata | None = None,
        repo_path: Path | None = None,
        stamped: Callable[[int, int], Chunks] | None = None,
    ) -> None:
        self._chunks = chunks
        self._stamped = stamped
        self._engine = engine
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = on_demand_feature_views or []
        self._metadata = metadata
        self._repo_path = repo_path

    def of_rows_stamped(self, first: datetime, last: datetime) -> "AsofRetrievalJob":
        """The same question, answered with rows of the views that are stamped in [first, last] alone.

        Where it is known when what is looked for was stamped, files and row groups of other times need not be read.

        Raises:
            RetrievalError: if the job is no historical retrieval.
        """
        if self._stamped is None:
            raise RetrievalError("of_rows_stamped: this is no historical retrieval: ask with get_historical_features")
        return AsofRetrievalJob(
            self._stamped(microseconds(first), microseconds(last)),
            self._engine,
            full_feature_names=self._full_feature_names,
            on_demand_feature_views=self._on_demand_feature_views,
            metadata=self._metadata,
            repo_path=self._repo_path,
        )

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        with self._running(timeout) as session:
            return self._fit_for_on_demand(pa.concat_tables(self._chunks(session, WHOLE)))

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return as_pandas(self._to_arrow_internal(timeout))

    def to_df(
        self, validation_reference: ValidationReference | None = None, timeout: int | None = None
    ) -> pd.DataFrame:
        """The answer as a pandas frame, on-demand views included; integers beside a null keep their digits."""
        return as_pandas(self.to_arrow(validation_reference=validation_reference, timeout=timeout))

    def to_polars(self) -> pl.DataFrame:
        """The answer as a polars frame, on-demand views included."""
        return pl.DataFrame(pl.from_arrow(self.to_arrow()))

    def to_arrow_batches(self, rows: int = CHUNK_ROWS, timeout: int | None = None) -> Iterator[pa.Table]:
        """The answer in chunks, in the entity rows' order: neither it nor entity rows from SQL or a file are ever
        whole in memory.

        Args:
            rows: at most so many per chunk.
            timeout: seconds until the last chunk is taken.

        Yields:
            Arrow tables of the same schema, at least one; on-demand views are computed chunk by chunk.
        """
        if rows < 1:
            raise RetrievalError(f"rows: {rows} is no size of a piece: ask for 1 or more")
        with self._running(timeout) as session:
            for chunk in self._chunks(session, rows):
                yield self._with_on_demand(chunk)

    def to_parquet(self, path: str | Path, *, rows: int = CHUNK_ROWS, timeout: int | None = None) -> int:
        """Write the answer to one parquet file (local path or URI), chunk by chunk; it is visible only when whole.

        Returns:
            the number of rows.
        """
        return write_pieces(self.to_arrow_batches(rows, timeout), place_of(str(path)))

    @contextmanager
    def _running(self, timeout: int | None) -> Iterator[Session]:
        with Session(self._engine) as session:
            if timeout is None:
                yield session
                return
            over = threading.Event()

            def stop() -> None:
                over.set()
                session.interrupt()

            timer = threading.Timer(timeout, stop)
            timer.start()
            try:
                yield session
            except Exception as error:
                if over.is_set():
                    raise RetrievalError(f"timeout: {timeout} s are over: allow more, or ask for less") from error
                raise
            finally:
                timer.cancel()
            if over.is_set():
                raise RetrievalError(f"timeout: {timeout} s are over: allow more, or ask for less")

    def _with_on_demand(self, chunk: pa.Table) -> pa.Table:
        if not self._on_demand_feature_views:
            return chunk
        return _ChunkJob(self._fit_for_on_demand(chunk), self).to_arrow()

    def _fit_for_on_demand(self, table: pa.Table) -> pa.Table:
        for view in self._on_demand_feature_views:
            for name in view.get_request_data_schema():
                if name not in table.column_names:
                    raise RetrievalError(
                        f"entity rows: no column {name!r}, which on-demand view {view.name!r} computes from: add it"
                    )
        return table

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
        """Write the answer, with every column of the entity rows, to a parquet file (in a folder: ``data.parquet``)
        or a Delta table, as a stream.

        Raises:
            SavedDatasetLocationAlreadyExists: if it exists and may not be overwritten.
            RetrievalError: if the storage is not files.
        """
        if not isinstance(storage, SavedDatasetFileStorage):
            raise RetrievalError(f"storage: {type(storage).__name__} is not files: use SavedDatasetFileStorage")
        options = storage.file_options
        path = FileSource.get_uri_for_file_path(self._repo_path, options.uri)
        location = place_of(path, endpoint=options.s3_endpoint_override or None)
        if location.exists() and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=path)
        if isinstance(options.file_format, DeltaFormat):
            from feast_asof.delta import overwrite

            overwrite(path, self.to_arrow_batches(timeout=timeout), options.s3_endpoint_override)
            return
        folder = None if location.path.endswith(".parquet") else location
        held = folder.find() if folder else []
        whole = location if folder is None else folder.child("data.parquet")
        write_pieces(self.to_arrow_batches(timeout=timeout), whole)
        for file in held:  # what another store left in the folder
            if not file.path.endswith("/data.parquet"):
                location.remove(file.path)


def as_pandas(table: pa.Table) -> pd.DataFrame:
    """A table as a frame in which integers keep their digits.

    A column of 64 bits with a null gets a nullable type; narrower ones become floats, as ever, which hold them exactly.
    """
    frame = table.to_pandas()
    for name in table.column_names:
        dtype = table.schema.field(name).type
        if pa.types.is_nested(dtype):  # elements beside a null would be rounded too
            frame[name] = table[name].to_pandas(integer_object_nulls=True)
        elif dtype in (pa.int64(), pa.uint64()) and table[name].null_count:
            nullable = pd.api.types.pandas_dtype(str(dtype).replace("i", "I").replace("u", "U"))
            frame[name] = table[name].to_pandas(types_mapper={dtype: nullable}.get)
    return frame


class _ChunkJob(AsofRetrievalJob):
    """A chunk of another job's answer, for Feast to add the on-demand views to."""

    def __init__(self, chunk: pa.Table, job: AsofRetrievalJob) -> None:
        super().__init__(
            lambda _session, _size: iter(()),
            Engine(),
            full_feature_names=job.full_feature_names,
            on_demand_feature_views=job.on_demand_feature_views,
            metadata=job.metadata,
        )
        self._chunk = chunk

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._chunk
