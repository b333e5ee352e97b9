"""Looks at the stream's and the features' stored tables: contracts, and that no row was lost.

Belongs here: what is read back and compared. Not here: when, and what a failure stops (checks.py).
"""

from collections.abc import Iterator, Mapping
from datetime import UTC as UTC_ZONE
from datetime import datetime
from datetime import time as time_of_day

import duckdb
import polars as pl

from exfm.online import View
from exfm.source_views import SourceView
from exfm.stream import Slice, Stream
from pipeline.streams.contract import TIME, UTC, schema_of
from pipeline.streams.footers import may_hold
from pipeline.streams.layout import LogFiles, log_files
from pipeline.streams.repeats import IDS_AT_ONCE
from pipeline.streams.seen import digest_of, seen_of
from pipeline.transforms.inputs import literal, stored_type
from pipeline.transforms.labels import label_type
from pipeline.verify.findings import CheckFn, Finding, all_hold
from pipeline.workspace import Workspace


def expected_schema(stream: Stream, table: str) -> dict[str, pl.DataType]:
    """The contract's columns of a stored table of the stream."""
    if table == "labels":
        tasks = {task.name: label_type(task) for task in stream.tasks}
        weight = {} if stream.weight is None else {stream.weight: pl.Float64()}
        return {"impression_id": pl.Int64(), "event_timestamp": UTC, **tasks, "closed_at": UTC, **weight}
    return dict(schema_of(stream, table))


def contract(table: str) -> CheckFn:
    """Schema, null keys, repeated keys and times outside the slice."""

    def look(work: Workspace, slices: list[Slice]) -> Finding:
        expected = expected_schema(work.project.stream, table)
        key = ["impression_id"] if table in ("impressions", "labels") else []
        time = TIME.get(table, "event_timestamp")
        faults, rows = [], 0
        for slice_ in slices:
            here = work.table(table).rows(slice_)
            rows += here
            stored = work.table(table).scan([slice_])
            faults += [f"{table} {slice_.key}: {fault}" for fault in _faults(stored, here, expected, key)]
            inside = pl.col(time).is_between(slice_.start, slice_.end, closed="left")
            if table != "labels" and not _all(stored, inside):
                faults.append(f"{table} {slice_.key}: {time} outside the slice")
        return all_hold(faults, f"{rows:,} rows as the contract says", rows=rows)

    return look


def feature_contract(view: View) -> CheckFn:
    """A view's schema, one row a key and stamp, and stamps in (start, end]."""
    key = [*view.entities, "event_timestamp"]

    def look(work: Workspace, slices: list[Slice]) -> Finding:
        values = _values(view, work.project.stream)
        types = {
            column.name: pl.Int64() if column.dtype is int else pl.String() for column in work.project.stream.id_columns
        }
        entities = {entity: types[entity] for entity in view.entities}
        expected = {**entities, "event_timestamp": UTC, "created_timestamp": UTC, **values}
        faults, rows = [], 0
        for slice_ in slices:
            here = work.features(view.name).rows(slice_)
            rows += here
            stored = work.features(view.name).scan([slice_])
            faults += [f"{view.name} {slice_.key}: {fault}" for fault in _faults(stored, here, expected, key)]
            if not _all(stored, _stamped_inside(view, slice_)):
                faults.append(f"{view.name} {slice_.key}: stamped outside the slice")
            if not _all(stored, pl.col("created_timestamp") >= pl.col("event_timestamp")):
                faults.append(f"{view.name} {slice_.key}: created before the end of its window")
        return all_hold(faults, f"{rows:,} rows as declared", rows=rows)

    return look


def _stamped_inside(view: View, slice_: Slice) -> pl.Expr:
    """In (start, end]; the first slice of a table that somebody else keeps has all that held before it, too."""
    stamp = pl.col("event_timestamp")
    if isinstance(view, SourceView) and slice_.index == 0:
        return stamp <= slice_.end
    return stamp.is_between(slice_.start, slice_.end, closed="right")


def _all(stored: pl.LazyFrame, holds: pl.Expr) -> bool:
    """Does something hold for all rows, of which few are in memory at once?"""
    return bool(stored.select(holds.all()).collect(engine="streaming").item())


def _values(view: View, stream: Stream) -> dict[str, pl.DataType]:
    dtypes = {column.name: column.dtype for column in stream.id_columns}
    return {feature: stored_type(view.encoding(feature, dtypes)) for feature in view.features}


def _faults(stored: pl.LazyFrame, rows: int, expected: Mapping[str, pl.DataType], key: list[str]) -> Iterator[str]:
    columns = dict(stored.collect_schema())
    if columns != dict(expected):
        yield f"columns are {columns}, not {expected}"
        return
    nulls = stored.select(pl.col(name).null_count() for name in key).collect(engine="streaming") if key else None
    for name in key if nulls is not None else ():
        if nulls is not None and nulls[name].item():
            yield f"{nulls[name].item()} null {name}"
    if key and _distinct(stored, rows, key) != rows:
        yield f"repeated {', '.join(key)}"


def _distinct(stored: pl.LazyFrame, rows: int, key: list[str]) -> int:
    """How many keys the rows have, counted for a share of them at a time."""
    shares, counted = -(-rows // IDS_AT_ONCE), 0
    for share in range(shares):
        mine = stored.select(key) if shares == 1 else stored.filter(pl.struct(key).hash(seed=0) % shares == share)
        counted += int(mine.select(pl.struct(key).n_unique()).collect(engine="streaming").item())
    return counted


def same_rows(table: str) -> CheckFn:
    """The same impressions, each once, in the same order."""

    def look(work: Workspace, slices: list[Slice]) -> Finding:
        faults, rows = [], 0
        for slice_ in slices:
            tables = (work.table(table), work.table("impressions"))
            ours, shown = (each.rows(slice_) for each in tables)
            rows += ours
            parts = zip(*(each.parts(slice_, ["impression_id"]) for each in tables), strict=False)
            if ours != shown or not all(mine.equals(theirs) for mine, theirs in parts):
                faults.append(f"{table} {slice_.key}: {ours} rows are not the {shown} impressions")
        return all_hold(faults, f"{rows:,} rows, one an impression", rows=rows)

    return look


def not_empty(work: Workspace, slices: list[Slice]) -> Finding:
    """A slice without impressions: the stream paused, or its files are missing."""
    shown = [slice_ for slice_ in slices if slice_.start >= work.project.stream.shown_since]
    empty = [slice_.key for slice_ in shown if not work.table("impressions").rows(slice_)]
    faults = [f"impressions {key}: no rows, so the log lacks its files or the stream paused" for key in empty]
    before = f", {len(slices) - len(shown)} are before Stream.impressions_from" if len(shown) < len(slices) else ""
    return all_hold(faults, f"{len(shown)} slices have impressions{before}", slices=len(slices))


def rows_kept(table: str) -> CheckFn:
    """Counts the log's rows of these slices anew, by Arrow, and compares with what was stored and quarantined."""

    def look(work: Workspace, slices: list[Slice]) -> Finding:
        faults, rows = [], 0
        files = log_files(work, table)
        for slice_ in slices:
            stored, quarantined = work.table(table).rows(slice_), work.quarantine(table).rows(slice_)
            counted = _in_log(work, files, slice_)
            rows += counted
            if counted != stored + quarantined and not _changed_since(work, table, slice_):
                faults.append(
                    f"{table} {slice_.key}: {counted} rows in the log, {stored} stored, {quarantined} quarantined"
                )
        return all_hold(faults, f"{rows:,} rows, none lost", rows=rows)

    return look


def _changed_since(work: Workspace, table: str, slice_: Slice) -> bool:
    """Have files come, or changed, since the slice was read? Then it is out of date, and nothing of it is lost."""
    sidecar = work.table(table).sidecar(slice_)
    then = {} if sidecar is None else sidecar.log.get(table, {})
    return bool(then) and seen_of(log_files(work, table), slice_.start, slice_.end, then).digest != digest_of(then)


def data_fault(work: Workspace, slices: list[Slice]) -> str | None:
    """What is wrong with the data that a model learnt from or is judged on; ``None`` if its checks hold.

    The same that stop a run below the table that breaks them; here for tables that were stored by other means.
    """
    looks = (contract("impressions"), contract("labels"), same_rows("labels"), same_rows("logged_inputs"))
    findings = (look(work, slices) for look in looks)
    return next((finding.message for finding in findings if not finding.passed), None)


def _in_log(work: Workspace, files: LogFiles, slice_: Slice) -> int:
    """Rows of the log that the slice must account for, file by file, for files may differ in their types.

    By their time; without one, or in a wrong day's folder, by where that day begins in the stream.
    """
    time, count = TIME[files.table], 0
    query = (
        f"SELECT CAST({time} AS TIMESTAMPTZ) AS moment, "
        "CASE WHEN CAST(moment AS DATE) = $day THEN moment ELSE $begins END AS counted "
        "FROM read_parquet($file, hive_partitioning=false)"
    )
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for day, path in files.between(slice_.start, slice_.end):
            if not may_hold(path, day, files.table, slice_.start, slice_.end):
                continue
            begins = max(datetime.combine(day, time_of_day(), UTC_ZONE), work.project.stream.first_slice)
            parameters = {"file": literal(path), "day": day, "begins": begins, "start": slice_.start, "end": slice_.end}
            row = connection.execute(
                f"SELECT count(*) FROM ({query}) WHERE counted >= $start AND counted < $end", parameters
            ).fetchone()
            count += int(row[0]) if row else 0
    return count
