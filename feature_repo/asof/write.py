"""Writing parquet so that nothing half-written is ever seen, and a batch of rows into a source's folder.

Belongs here: files that the offline store itself makes. Not here: slices (their assets write them).
"""

import hashlib
import os
import re
from glob import has_magic
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write aside under a dot-name in the same folder, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pq.write_table(table, aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def add_rows(table: pa.Table, source: str) -> Path:
    """Add rows to a source as one new file, named by its content: adding the same rows twice changes nothing.

    Args:
        source: a folder, a glob (its wildcards are filled with ``pushed-<digest>``), or one file, which is rewritten.
    """
    path = Path(source)
    name = f"pushed-{_digest(table)}"
    if has_magic(source):
        path = Path(re.sub(r"\*+", name, source))
    elif path.suffix != ".parquet":
        path = path / f"{name}.parquet"
    elif path.is_file():
        table = pa.concat_tables([pq.read_table(path, partitioning=None), table], promote_options="permissive")
    write_parquet(table, path)
    return path


def _digest(table: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()[:12]
