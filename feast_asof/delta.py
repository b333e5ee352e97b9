"""Delta tables: the files of the newest version, as their log lists them.

Belongs here: what the log says. Not here: reading the files (they are plain parquet, as any source's).
"""

import os
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Literal

import pyarrow as pa
from feast.infra.offline_stores.file_source import FileSource

from feast_asof.errors import NoFilesError, RetrievalError
from feast_asof.locations import SourcePath

Mode = Literal["append", "overwrite"]
_REWRITING = {"deletionVectors", "columnMapping"}  # with these, a file alone does not say what its rows are


def find_in_delta(source: FileSource, path: str, *, view: str) -> list[SourcePath]:
    """The files of a Delta table, with the values of its partition columns.

    Raises:
        RetrievalError: if deltalake is not installed, there is no table, or it uses features that hide rows in files.
    """
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError:
        raise RetrievalError(
            f"view {view!r}: its source is a Delta table, and deltalake is not installed: pip install 'exfm[delta]'"
        ) from None
    try:
        options = options_of(source.resolve_credentials() or {}, source.s3_endpoint_override)
        table = DeltaTable(path, storage_options=options)
    except (DeltaError, OSError) as error:
        raise NoFilesError(f"view {view!r}: no Delta table at {path!r} ({error}): write it first") from None
    hidden = _REWRITING & set(table.protocol().reader_features or [])
    if hidden:
        raise RetrievalError(
            f"view {view!r}: the Delta table {path!r} uses {sorted(hidden)}, which this store can't read: "
            "rewrite it without (for deletion vectors: purge it and drop the feature)"
        )
    return _files(table, path)


def options_of(credentials: Mapping[str, str], endpoint: str | None) -> dict[str, str]:
    """deltalake's options: an endpoint and credentials, over those of the environment."""
    options = dict(credentials)
    if endpoint:
        options |= {"AWS_ENDPOINT_URL": endpoint if "://" in endpoint else f"https://{endpoint}"}
    endpoint = options.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint.startswith("http://"):
        options |= {"AWS_ALLOW_HTTP": "true"}
    return options


def _files(table: "object", path: str) -> list[SourcePath]:
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()  # type: ignore[attr-defined]
    files = []
    for action in actions:
        partitions = tuple(
            (name.removeprefix("partition."), None if value is None else str(value))
            for name, value in action.items()
            if name.startswith("partition.")
        )
        modified = int(action["modification_time"] or 0)
        full = f"{path.rstrip('/')}/{action['path']}"
        files.append(SourcePath(full.removeprefix("file://"), (modified, int(action["size_bytes"])), partitions))
    return sorted(files, key=lambda file: file.path)


def overwrite(path: str, chunks: Iterator[pa.Table], endpoint: str | None) -> None:
    """Replace a Delta table's rows by those of the chunks, as one version."""
    _write(path, chunks, endpoint, "overwrite")


def append(path: str, table: pa.Table, endpoint: str | None) -> None:
    """Add rows to a Delta table, as one version."""
    _write(path, iter([table]), endpoint, "append")


def _write(path: str, chunks: Iterator[pa.Table], endpoint: str | None, mode: Mode) -> None:
    from deltalake import write_deltalake

    first = next(chunks)
    batches = (batch for chunk in chain([first], chunks) for batch in chunk.to_batches())
    reader = pa.RecordBatchReader.from_batches(first.schema, batches)
    write_deltalake(path, reader, mode=mode, storage_options=options_of({}, endpoint))
