"""Sorting more rows than fit into memory.

Belongs here: the sort, by DuckDB. Not here: which rows they are.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from pipeline.imports.connection import connected
from pipeline.parts import folder_aside
from pipeline.transforms.inputs import rows_of


def sorted_parts(files: Sequence[Path], chosen: pl.Expr, order: Sequence[str], rows: int) -> Iterator[pl.DataFrame]:
    """The chosen rows of parquet files in parts, at least one, sorted in bounded memory.

    Args:
        files: of one schema, in one folder, in which what does not fit is written aside.
        order: columns without nulls; no two rows are alike in all of them.
        rows: of a part.
    """
    every = pl.scan_parquet(list(files), hive_partitioning=False, glob=False)
    schema, keys = every.collect_schema(), ", ".join(f'"{name}"' for name in order)
    yield pl.DataFrame(schema=schema)
    with folder_aside(files[0].parent, "sorted") as aside, connected(aside) as connection:
        every.filter(chosen).sink_parquet(aside / "chosen.parquet", compression="lz4")
        answer = connection.sql(f"{rows_of(aside / 'chosen.parquet')} ORDER BY {keys}")
        for batch in answer.to_arrow_reader(rows):
            yield pl.DataFrame(pl.from_arrow(batch)).cast(schema)
