"""Feast's monitoring tables as parquet files, so that nothing half-written is seen and no writer loses another's rows.

Belongs here: the tables. Not here: Feast's interface (monitored.py), what is counted (statistics.py).
"""

import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from feast.monitoring.monitoring_utils import (
    MONITORING_PARQUET_FILES,
    monitoring_parquet_meta,
    normalize_monitoring_row,
)

from feast_asof.types import MOMENT
from feast_asof.write import write_parquet

Row = dict[str, Any]
_DATES, _MOMENTS = {"metric_date"}, {"computed_at", "max_event_timestamp", "started_at", "completed_at"}
_COUNTS = {"row_count", "null_count", "total_row_count", "total_features", "features_with_nulls", "total_feature_views"}
_NUMBERS = {"null_rate", "avg_null_rate", "max_null_rate", "mean", "stddev", "min_val", "max_val"}
_NUMBERS |= {"p50", "p75", "p90", "p95", "p99"}
_KINDS = [(_DATES, pa.date32()), (_MOMENTS, MOMENT), (_COUNTS, pa.int64()), (_NUMBERS, pa.float64())]
_FLAG = "is_baseline"


def ensure_tables(folder: Path) -> None:
    """Make the tables that are not there yet, empty."""
    with _writing_alone(folder):
        for kind in MONITORING_PARQUET_FILES:
            path, columns, _ = _table(folder, kind)
            if not path.is_file():
                _write(path, columns, [])


def save_metrics(folder: Path, kind: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows; a row whose key is there already replaces the old one."""
    path, columns, key = _table(folder, kind)
    with _writing_alone(folder):
        held = {_key(row, key): row for row in _read(path)}
        held |= {_key(row, key): row for row in (_storable(row, columns) for row in rows)}
        _write(path, columns, list(held.values()))


def query_metrics(
    folder: Path,
    project: str,
    kind: str,
    filters: Mapping[str, Any] | None,
    start_date: date | None,
    end_date: date | None,
) -> list[Row]:
    """Rows of a project that equal the filters that are not ``None``, oldest first, in the form of Feast's stores."""
    path, columns, _ = _table(folder, kind)
    wanted = {"project_id": project or None, **(filters or {})}
    rows = [row for row in _read(path) if all(v is None or row[name] == v for name, v in wanted.items())]
    if "metric_date" in columns:
        first, last = start_date or date.min, end_date or date.max
        rows = [row for row in rows if first <= (row["metric_date"] or date.min) <= last]
    rows.sort(key=lambda row: row["metric_date"] or date.min if kind != "job" else row["job_id"])
    return [normalize_monitoring_row(row) for row in rows]


def clear_baseline(folder: Path, project: str, *where: tuple[str, str | None]) -> None:
    """Take the mark of a baseline from a project's feature rows that equal the given (column, value) pairs."""
    path, columns, _ = _table(folder, "feature")
    with _writing_alone(folder):
        rows = _read(path)
        for row in rows:
            if row["project_id"] == project and all(value is None or row[name] == value for name, value in where):
                row[_FLAG] = False
        _write(path, columns, rows)


def _table(folder: Path, kind: str) -> tuple[Path, list[str], list[str]]:
    name, columns, key = monitoring_parquet_meta(kind)
    return folder / name, columns, key


def _read(path: Path) -> list[Row]:
    return list(pq.read_table(path, partitioning=None).to_pylist()) if path.is_file() else []


def _write(path: Path, columns: Sequence[str], rows: list[Row]) -> None:
    write_parquet(pa.Table.from_pylist(rows, schema=pa.schema([(name, _dtype(name)) for name in columns])), path)


def _dtype(column: str) -> pa.DataType:
    if column == _FLAG:
        return pa.bool_()
    return next((dtype for names, dtype in _KINDS if column in names), pa.string())


def _storable(row: Mapping[str, Any], columns: Sequence[str]) -> Row:
    values = {name: row.get(name) for name in columns}
    if "histogram" in values and not isinstance(values["histogram"], str | None):
        values["histogram"] = json.dumps(values["histogram"])
    return values


def _key(row: Mapping[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


@contextmanager
def _writing_alone(folder: Path) -> Iterator[None]:
    """Let one process at a time read, change and write the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
