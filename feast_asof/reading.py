"""Reading a view's columns from its files into memory.

Belongs here: files with differing types, folder columns, skipping row groups. Not here: which files (files.py).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from feast_asof.casting import fit
from feast_asof.files import SourceFile, bare
from feast_asof.locations import Location

_DAY = 86_400_000_000
_FAR = 2**62
Bounds = Mapping[str, tuple[int | None, int | None]]


def read(
    location: Location,
    files: Iterable[SourceFile],
    columns: Sequence[str],
    bounds: Bounds,
    types: Mapping[str, pa.DataType],
) -> pl.DataFrame:
    """The columns of the files, in the order of the files; rows outside the bounds may or may not be among them.

    Args:
        bounds: smallest and largest value (timestamps in microseconds) of a column that can matter.
        types: of columns that are no plain values, where files differ.
    """
    parts = [_read_alike(location, list(alike), columns, bounds) for _, alike in groupby(files, _likeness(columns))]
    return stacked(parts, types)


def stacked(parts: Sequence[pl.DataFrame], types: Mapping[str, pa.DataType]) -> pl.DataFrame:
    """Frames of the same columns as one, with types that hold all their values."""
    if len(parts) == 1:
        return parts[0]
    for name in parts[0].columns:
        dtypes = [part.schema[name] for part in parts]
        if all(dtype == dtypes[0] for dtype in dtypes):
            continue
        if name in types:
            parts = [part.with_columns(_fitted(part[name], types[name])) for part in parts]
        else:
            parts = [part.with_columns(pl.col(name).cast(_widest(dtypes))) for part in parts]
    return pl.concat(parts)


def _fitted(values: pl.Series, dtype: pa.DataType) -> pl.Series:
    column = pa.chunked_array([values.to_arrow(compat_level=pl.CompatLevel.oldest())])
    return pl.Series(pl.from_arrow(fit(column, dtype))).alias(values.name)


def _likeness(columns: Sequence[str]) -> Callable[[SourceFile], tuple[object, ...]]:
    def likeness(file: SourceFile) -> tuple[object, ...]:
        return tuple(
            str(file.types[name]) if name in file.types else (name in file.partitions, file.partitions.get(name))
            for name in columns
        )

    return likeness


def _widest(dtypes: Sequence[pl.DataType]) -> pl.DataType:
    """One type for a column whose files differ: the widest integer, float, or microseconds UTC."""
    kinds = [dtype for dtype in dtypes if dtype != pl.Null]
    if len(set(kinds)) < 2:
        return kinds[0] if kinds else pl.Null()
    if all(dtype.is_integer() for dtype in kinds):
        return pl.Int128() if pl.UInt64 in kinds else pl.Int64()
    if all(dtype.is_float() for dtype in kinds):
        return pl.Float64()
    if all(dtype.is_temporal() for dtype in kinds):
        return pl.Datetime("us", "UTC")
    return pl.String() if any(dtype == pl.String for dtype in kinds) else kinds[0]


def _read_alike(location: Location, files: list[SourceFile], columns: Sequence[str], bounds: Bounds) -> pl.DataFrame:
    """Files that agree in the types and folder values of the columns."""
    held = [name for name in columns if name in files[0].types]
    if location.system is None:
        frame = _read_local(files, held, bounds)
    else:
        tables = [
            pq.read_table(bare(file.path), columns=held, filesystem=location.system, partitioning=None)
            for file in files
        ]
        frame = pl.DataFrame(pl.from_arrow(pa.concat_tables(tables)))
    # A column that neither a file nor its folders have was added later.
    constants = [
        pl.lit(files[0].partitions.get(name), pl.String if name in files[0].partitions else pl.Null).alias(name)
        for name in columns
        if name not in held
    ]
    return frame.with_columns(constants).select(columns)


def _read_local(files: Sequence[SourceFile], held: Sequence[str], bounds: Bounds) -> pl.DataFrame:
    # Other columns may differ from file to file: they are neither read nor missed.
    scan = pl.scan_parquet(
        [file.path for file in files],
        glob=False,
        hive_partitioning=False,
        missing_columns="insert",
        extra_columns="ignore",
        cache=False,
    )
    schema = scan.collect_schema()
    for name, (low, high) in bounds.items():
        if name in held and not all(_inside(file, name, low, high) for file in files):
            scan = scan.filter(_within(name, schema[name], low, high))
    return scan.select(held).collect()


def _inside(file: SourceFile, name: str, low: int | None, high: int | None) -> bool:
    """Does the footer say that no row lies outside the bounds? Then filtering would only copy."""
    first, last = file.ranges.get(name, (None, None))
    return first is not None and last is not None and (low is None or first >= low) and (high is None or last <= high)


def _within(name: str, dtype: pl.DataType, low: int | None, high: int | None) -> pl.Expr:
    """A comparison that parquet statistics can answer: against literals of the column's own type."""
    column, wanted = pl.col(name), pl.lit(True)
    if low is not None:
        wanted = wanted & (column >= _literal(low, dtype))
    if high is not None:
        # The part below a microsecond is cut off only after reading, so the last microsecond is read whole.
        wanted = wanted & (column <= _literal(high, dtype, up=1))
    return wanted


def _literal(value: int, dtype: pl.DataType, *, up: int = 0) -> pl.Expr:
    if isinstance(dtype, pl.Datetime):
        value = {"ms": value // 1000, "us": value, "ns": value * 1000}[dtype.time_unit] + up * 1000
    elif isinstance(dtype, pl.Date):
        value = value // _DAY + up
    elif dtype.is_unsigned_integer():
        return pl.lit(max(value, 0), pl.UInt64)
    return pl.lit(min(max(value, -_FAR), _FAR), pl.Int64).cast(dtype)
