"""Writing parquet so that nothing half-written is ever seen, and a batch of rows into a source's folder.

Belongs here: files that the offline store itself makes. Not here: slices (their assets write them).
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import reduce
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feast_asof.casting import fit
from feast_asof.errors import RetrievalError
from feast_asof.files import bare
from feast_asof.locations import NULL_PARTITION, Location, place_of

_ROW_GROUP = 1 << 18  # rows: small enough that a question about some of them skips the others


def write_pieces(chunks: Iterator[pa.Table], location: Location) -> int:
    """Write chunks of one schema, at least one, as one file, and return the number of rows."""
    first = next(chunks)
    rows: int = first.num_rows
    with location.writing() as sink, pq.ParquetWriter(sink, first.schema) as writer, ThreadPoolExecutor(1) as pool:
        written = pool.submit(writer.write_table, first, row_group_size=_ROW_GROUP)
        for chunk in chunks:  # the next one is made while the last one is written, and no further ahead
            written.result()
            written = pool.submit(writer.write_table, chunk.cast(first.schema), row_group_size=_ROW_GROUP)
            rows += chunk.num_rows
        written.result()
    return rows


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write one table as one file on this machine."""
    write_pieces(iter([table]), Location(str(path)))


def add_rows(table: pa.Table, source: str, *, endpoint: str | None = None) -> str:
    """Add rows to a source as one new file, named by its content: adding the same rows twice changes nothing.

    Args:
        source: a folder, a glob (its wildcards are filled with ``pushed-<digest>``), or one file, which is rewritten.

    Returns:
        the path of the file that holds them now.
    """
    name = f"pushed-{_digest(table)}"
    location = place_of(source, endpoint=endpoint)
    if location.base is not None:
        location = location.filled(name)
    elif not location.path.endswith(".parquet"):
        location = location.child(f"{name}.parquet")
    elif location.exists():
        held = pq.read_table(bare(location.path), filesystem=location.system, partitioning=None)
        table = _below(held, table, location.path)
    write_pieces(iter([table]), location)
    return f"{location.scheme}{location.path}"


def _below(held: pa.Table, added: pa.Table, path: str) -> pa.Table:
    """Both tables' rows, of a column with two types in one that holds both."""
    for index, name in enumerate(held.column_names):
        if name in added.column_names and held.schema.field(name).type != added.schema.field(name).type:
            with suppress(pa.ArrowException):
                held = held.set_column(index, name, fit(held[name], added.schema.field(name).type))
    try:
        return pa.concat_tables([held, added], promote_options="permissive")
    except pa.ArrowException as error:
        raise RetrievalError(f"file {path!r}: rows can't be added ({error}): write them with its types") from None


def add_logs(table: pa.Table, source: str, partition_by: Sequence[str], *, endpoint: str | None = None) -> None:
    """Add rows to a folder, those that agree in the partition columns to a folder ``<column>=<value>`` of their own."""
    if not partition_by:
        add_rows(table, source, endpoint=endpoint)
        return
    for values in table.select(partition_by).group_by(partition_by).aggregate([]).to_pylist():
        alike = [
            pc.is_null(table[name]) if value is None else pc.equal(table[name], pa.scalar(value, table[name].type))
            for name, value in values.items()
        ]
        folder = "/".join(
            f"{name}={NULL_PARTITION if value is None else quote(str(value))}" for name, value in values.items()
        )
        rows = table.filter(reduce(pc.and_, alike))
        add_rows(rows, f"{source.rstrip('/')}/{folder}", endpoint=endpoint)


def _digest(table: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()[:12]
