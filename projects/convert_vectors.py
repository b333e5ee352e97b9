"""Vectors of items from HDF5 to parquet, as a ``SourceView(path=...)`` and a ``SideTable`` read them.

    python -m projects.convert_vectors item_visual_emb_dim64.h5 item_visual.parquet

The file has two data sets of equally many rows: ``key``, the ids, and ``value``, a vector each. Rows go through in
chunks, so memory does not grow with the file. A vector with NaN or infinity inside is written as it is. Needs h5py:
pip install 'exfm[public]'.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 65_536
SECONDS = 5.0  # between lines about how far it is


def convert(source: Path, target: Path, key: str = "item_id", value: str = "image") -> int:
    """Write the vectors as parquet, in one step when all are there.

    Args:
        key, value: what the columns of ids and of vectors are called.

    Returns:
        How many there are.

    Raises:
        ValueError: if the file has no such data sets, or they don't fit each other.
    """
    import h5py
    import pyarrow.parquet as pq

    part, said = target.with_name(f".{target.name}-{os.getpid()}"), time.monotonic()
    try:
        with h5py.File(source, "r") as file:
            keys, values = _checked(file, source)
            total = len(keys)
            with pq.ParquetWriter(part, _schema(keys, values, key, value), compression="zstd") as writer:
                for start in range(0, total, CHUNK):
                    rows = slice(start, start + CHUNK)
                    writer.write_table(_table(keys[rows], values[rows], writer.schema))
                    if time.monotonic() - said > SECONDS:
                        said = time.monotonic()
                        print(f"{min(start + CHUNK, total):,} of {total:,} vectors", file=sys.stderr)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return total


def _checked(file, source: Path):  # type: ignore[no-untyped-def]
    """The two data sets.

    Raises:
        ValueError: if one is missing, or they don't fit each other.
    """
    for name, dimensions in (("key", 1), ("value", 2)):
        if name not in file:
            raise ValueError(
                f"{source}: it has {', '.join(file) or 'nothing'}, and no data set {name!r}: see what it is"
            )
        if file[name].ndim != dimensions:
            raise ValueError(f"{source}: {name!r} has the shape {file[name].shape}, not {dimensions} dimensions")
    if len(file["key"]) != len(file["value"]):
        raise ValueError(f"{source}: {len(file['key']):,} keys beside {len(file['value']):,} vectors: it is not whole")
    return file["key"], file["value"]


def _schema(keys, values, key: str, value: str) -> "pa.Schema":  # type: ignore[no-untyped-def]
    import pyarrow as pa

    ids = pa.int64() if keys.dtype.kind in "iu" else pa.string()
    return pa.schema([(key, ids), (value, pa.list_(pa.float32(), values.shape[1]))])


def _table(keys, values, schema: "pa.Schema") -> "pa.Table":  # type: ignore[no-untyped-def]
    import pyarrow as pa

    texts = [each.decode() if isinstance(each, bytes) else str(each) for each in keys]
    ids = pa.array(keys.astype("int64") if pa.types.is_int64(schema.field(0).type) else texts, schema.field(0).type)
    flat = pa.array(values.astype("float32").reshape(-1))
    return pa.Table.from_arrays([ids, pa.FixedSizeListArray.from_arrays(flat, values.shape[1])], schema=schema)


def main(arguments: list[str] | None = None) -> int:
    """Convert one file, and give the exit status."""
    parser = argparse.ArgumentParser(prog="python -m projects.convert_vectors", description="HDF5 vectors to parquet.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--key", default="item_id", help="what the column of ids is called (default: item_id)")
    parser.add_argument("--value", default="image", help="what the column of vectors is called (default: image)")
    given = parser.parse_args(arguments)
    try:
        rows = convert(given.source, given.target, given.key, given.value)
    except ImportError:
        print("convert_vectors: h5py is not installed: pip install 'exfm[public]'", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"convert_vectors: {error}", file=sys.stderr)
        return 2
    print(f"{given.target}: {rows:,} vectors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
