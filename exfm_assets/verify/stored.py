"""Looks at the stream's and the features' stored tables: contracts, and that no row was lost.

Belongs here: what is read back and compared. Not here: when, and what a failure stops (checks.py).
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC as UTC_ZONE
from datetime import datetime
from datetime import time as time_of_day

import duckdb
import polars as pl

from exfm_assets.resources import Workspace
from exfm_assets.streams.contract import schema_of
from exfm_assets.streams.layout import LogFiles, find_files
from exfm_assets.transforms.inputs import literal
from exfm_assets.verify.findings import Finding, all_hold
from projects.features import FeatureView
from projects.histories import LAST, HistoryView
from projects.predicted import PredictionView
from projects.stream import Slice, Stream

Look = Callable[[Workspace, list[Slice]], Finding]
UTC = pl.Datetime("us", "UTC")
TIMES = {"impressions": "event_timestamp", "outcomes": "outcome_timestamp", "interactions": "event_timestamp"}


def expected_schema(stream: Stream, table: str) -> dict[str, pl.DataType]:
    """The contract's columns of a stored table of the stream."""
    if table == "labels":
        tasks = dict.fromkeys(stream.task_names, pl.Int8())
        return {"impression_id": pl.Int64(), "event_timestamp": UTC, **tasks, "closed_at": UTC}
    return dict(schema_of(stream, table))


def contract(table: str) -> Look:
    """Schema, null keys, repeated keys and times outside the slice."""

    def look(work: Workspace, pieces: list[Slice]) -> Finding:
        expected = expected_schema(work.project.stream, table)
        key = ["impression_id"] if table in ("impressions", "labels") else []
        time = TIMES.get(table, "event_timestamp")
        faults, rows = [], 0
        for piece in pieces:
            frame = work.table(table).read([piece])
            rows += frame.height
            faults += [f"{table} {piece.key}: {fault}" for fault in _faults(frame, expected, key)]
            if table != "labels" and not frame[time].is_between(piece.start, piece.end, closed="left").all():
                faults.append(f"{table} {piece.key}: {time} outside the slice")
        return all_hold(faults, f"{rows:,} rows as the contract says", rows=rows)

    return look


def feature_contract(view: FeatureView | HistoryView | PredictionView) -> Look:
    """A view's schema, one row a key and stamp, and stamps in (start, end]."""
    key = [*view.entities, "event_timestamp"]

    def look(work: Workspace, pieces: list[Slice]) -> Finding:
        values = _values(view, work.project.stream)
        types = {
            column.name: pl.Int64() if column.dtype is int else pl.String() for column in work.project.stream.id_columns
        }
        entities = {entity: types[entity] for entity in view.entities}
        expected = {**entities, "event_timestamp": UTC, "created_timestamp": UTC, **values}
        faults, rows = [], 0
        for piece in pieces:
            frame = work.features(view.name).read([piece])
            rows += frame.height
            faults += [f"{view.name} {piece.key}: {fault}" for fault in _faults(frame, expected, key)]
            if not frame["event_timestamp"].is_between(piece.start, piece.end, closed="right").all():
                faults.append(f"{view.name} {piece.key}: stamped outside the slice")
            if frame.height and not (frame["created_timestamp"] >= frame["event_timestamp"]).all():
                faults.append(f"{view.name} {piece.key}: created before the end of its window")
        return all_hold(faults, f"{rows:,} rows as declared", rows=rows)

    return look


def _values(view: FeatureView | HistoryView | PredictionView, stream: Stream) -> dict[str, pl.DataType]:
    if isinstance(view, HistoryView):
        listed = next(column for column in stream.id_columns if column.name == view.of)
        return {LAST: pl.List(pl.String() if listed.dtype is str else pl.Int64())}
    counts = dict.fromkeys(view.count_features, pl.Int64())
    numbers = view.number_features if isinstance(view, PredictionView) else view.rate_features
    return {**counts, **dict.fromkeys(numbers, pl.Float32())}


def _faults(frame: pl.DataFrame, expected: Mapping[str, pl.DataType], key: list[str]) -> Iterator[str]:
    found = dict(frame.schema)
    if found != dict(expected):
        yield f"columns are {found}, not {expected}"
        return
    for name in key:
        if frame[name].null_count():
            yield f"{frame[name].null_count()} null {name}"
    if key and frame.select(pl.struct(key).n_unique()).item() != frame.height:
        yield f"repeated {', '.join(key)}"


def same_rows(table: str) -> Look:
    """The same impressions, each once, in the same order."""

    def look(work: Workspace, pieces: list[Slice]) -> Finding:
        faults, rows = [], 0
        for piece in pieces:
            impressions = work.table("impressions").read([piece], columns=["impression_id"])
            ours = work.table(table).read([piece], columns=["impression_id"])
            rows += ours.height
            if not ours.equals(impressions):
                faults.append(f"{table} {piece.key}: {ours.height} rows are not the {impressions.height} impressions")
        return all_hold(faults, f"{rows:,} rows, one an impression", rows=rows)

    return look


def not_empty(work: Workspace, pieces: list[Slice]) -> Finding:
    """A slice without impressions: the stream paused, or its files are missing."""
    empty = [piece.key for piece in pieces if not work.table("impressions").rows(piece)]
    faults = [f"impressions {key}: no rows, so the log lacks its files or the stream paused" for key in empty]
    return all_hold(faults, f"{len(pieces)} slices have impressions", slices=len(pieces))


def rows_kept(table: str) -> Look:
    """Counts the log's rows of these slices anew, by Arrow, and compares with what was stored and quarantined."""

    def look(work: Workspace, pieces: list[Slice]) -> Finding:
        faults, rows = [], 0
        files = find_files(work.state.log, table)
        for piece in pieces:
            stored, quarantined = work.table(table).rows(piece), work.quarantine(table).rows(piece)
            counted = _in_log(work, files, piece)
            rows += counted
            if counted != stored + quarantined:
                faults.append(
                    f"{table} {piece.key}: {counted} rows in the log, {stored} stored, {quarantined} quarantined"
                )
        return all_hold(faults, f"{rows:,} rows, none lost", rows=rows)

    return look


def _in_log(work: Workspace, files: LogFiles, piece: Slice) -> int:
    """Rows of the log that the slice must account for, file by file, for files may differ in their types.

    By their time; without one, or in a wrong day's folder, by where that day begins in the stream.
    """
    time, count = TIMES[files.table], 0
    query = (
        f"SELECT CAST({time} AS TIMESTAMPTZ) AS moment, "
        "CASE WHEN CAST(moment AS DATE) = $day THEN moment ELSE $begins END AS counted "
        "FROM read_parquet($file, hive_partitioning=false)"
    )
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for day, path in files.between(piece.start, piece.end):
            begins = max(datetime.combine(day, time_of_day(), UTC_ZONE), work.project.stream.first_slice)
            asked = {"file": literal(path), "day": day, "begins": begins, "start": piece.start, "end": piece.end}
            found = connection.execute(
                f"SELECT count(*) FROM ({query}) WHERE counted >= $start AND counted < $end", asked
            ).fetchone()
            count += int(found[0]) if found else 0
    return count
