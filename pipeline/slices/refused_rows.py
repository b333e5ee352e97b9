"""Rows of the log that break its contract, by slice: to be looked at, and mended ones written beside them.

Belongs here: the quarantine of the log's tables. Not here: rows that could not even be read in (imports/mending.py).
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from exfm.stream import Stream
from pipeline.imports.finding import TABLES
from pipeline.streams.contract import TIME, UTC, schema_of, sound_rules
from pipeline.tables import DataError, write_parquet
from pipeline.transforms.quarantine import part
from pipeline.workspace import Workspace

LOG_TABLES = TABLES


@dataclass(frozen=True)
class Broken:
    """A row of a table of the log that breaks the contract.

    Args:
        slice: the key of the slice in which it was counted.
        values: by the log's names.
    """

    table: str
    slice: str
    reason: str
    values: Mapping[str, Any]

    def plain(self) -> dict[str, Any]:
        """As a line of JSON has it."""
        values = {name: value for name, value in self.values.items() if value is not None}
        return {"table": self.table, "slice": self.slice, "reason": self.reason, "values": values}


def broken_rows(work: Workspace, table: str) -> Iterator[Broken]:
    """The quarantine of a table of the log, oldest slice first."""
    kept = work.quarantine(table)
    for slice_ in kept.stored(work.project.stream):
        for some in kept.parts(slice_):
            for row in some.iter_rows(named=True):
                yield Broken(table, slice_.key, row.pop("reason"), row)


def mend_broken(work: Workspace, table: str, rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, int], int]:
    """Write mended rows into the log, each into its day's folder. Safe to do again.

    Args:
        rows: by the log's names; moments as ISO texts.

    Returns:
        file of the log -> rows; and how many were left alone, for they are as they were, or were mended before.

    Raises:
        DataError: for the first row that still breaks the contract, or has a column or type that the log has not.
        StateError: if the log can't be written.
    """
    stream = work.project.stream
    clock, given = TIME[table], _frame(stream, table, rows)
    known = [_comparable(stream, table, list(row.values.items())) for row in broken_rows(work, table)]
    known += [
        _comparable(stream, table, list(row.items()))
        for path in sorted((work.state.log / table).glob("day=*/mended-*.parquet"))
        for row in pl.read_parquet(path, hive_partitioning=False, glob=False).iter_rows(named=True)
    ]
    as_before = [_comparable(stream, table, list(row.items())) in known for row in given.iter_rows(named=True)]
    frame = given.filter(~pl.Series(as_before, dtype=pl.Boolean))
    judged = frame.with_columns(pl.col(clock).dt.date().alias("_day"))
    _, broken = part(judged, sound_rules(stream, table))
    if broken.height:
        raise DataError(f"{table}: {broken.height:,} mended rows still break the contract: {broken['reason'][0]}")
    name = f"mended-{hashlib.sha256(repr(frame.rows()).encode()).hexdigest()[:12]}.parquet"
    written: dict[str, int] = {}
    for (day,), of_day in judged.group_by("_day", maintain_order=True):
        path = f"{table}/day={day}/{name}"
        write_parquet(of_day.drop("_day"), work.state.log / path)
        written[path] = of_day.height
    return written, sum(as_before)


def _comparable(stream: Stream, table: str, values: list[tuple[str, Any]]) -> list[Any]:
    """A row's values in the log's order; NaN is like itself."""
    row = dict(values)
    return [str(row.get(name)) for name in schema_of(stream, table)]


def _frame(stream: Stream, table: str, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    schema = schema_of(stream, table)
    unknown = sorted({name for row in rows for name in row} - schema.keys())
    if unknown:
        raise DataError(f"{table}: {unknown[0]!r} is no column of the log: it has {', '.join(schema)}")
    texts = {name: pl.String() if dtype == UTC else dtype for name, dtype in schema.items()}
    try:
        plain = pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=texts, orient="row")
        return plain.with_columns(pl.col(TIME[table]).str.to_datetime(time_zone="UTC", time_unit="us"))
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        told = str(error).splitlines()[0]
        raise DataError(f"{table}: a mended row has a value of another type than the log: {told}") from error
