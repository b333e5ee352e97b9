"""The files that the retrieval benchmarks ask: impressions, and three views of them with histories of known length.

Belongs here: making them, once. Not here: asking (retrieval_arms.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

DAYS = 30
_START = 1_767_225_600_000_000  # 2026-01-01, microseconds UTC
_HOUR = 3_600_000_000
_DAY = 24 * _HOUR
_DELAY = 300_000_000  # from what a row is about to when it is written
_AGAIN = 0.05  # share of rows that a later run wrote once more, with other values
_MOMENT = pa.timestamp("us", "UTC")
Array = npt.NDArray[np.int64]


@dataclass(frozen=True)
class View:
    """One view: its key, its features, and after how many seconds a value expires (0: never)."""

    name: str
    key: str
    features: tuple[str, ...]
    ttl: int


@dataclass(frozen=True)
class Shape:
    """How long the history of an ad is, and whether it expires."""

    name: str
    rows_per_ad: int
    ads: int
    ttl: int

    @property
    def views(self) -> tuple[View, ...]:
        return (
            View("user", "user_id", tuple(f"user_{i}" for i in range(4)), 2 * 86_400),
            View("ad", "ad_id", tuple(f"ad_{i}" for i in range(4)), self.ttl),
            View("teacher", "impression_id", ("teacher_0", "teacher_1"), 0),
        )


SHAPES = {
    "30 rows a key, ttl": Shape("30 rows a key, ttl", 30, 20_000, 2 * 86_400),
    "720 rows a key, ttl": Shape("720 rows a key, ttl", 720, 2_000, 86_400),
    "720 rows a key": Shape("720 rows a key", 720, 2_000, 0),
}
_USERS = 20_000


def files_of(folder: Path, shape: Shape, rows: int, *, in_order: bool = False) -> Path:
    """The folder with ``entities.parquet`` and one folder a view; made if it is not there.

    Args:
        rows: of impressions.
        in_order: in order of time and of their ids, as a log comes; otherwise shuffled.
    """
    data_folder = folder / f"{shape.rows_per_ad}-{rows}{'-in-order' if in_order else ''}"
    if (data_folder / "made").exists():
        return data_folder
    rng = np.random.default_rng(0)
    stamps = _START + np.arange(DAYS) * _DAY
    _write_history(data_folder / "user", "user_id", _USERS, stamps, ("user", 4), rng)
    stamps = _START + np.arange(shape.rows_per_ad) * (DAYS * _DAY // shape.rows_per_ad)
    _write_history(data_folder / "ad", "ad_id", shape.ads, stamps, ("ad", 4), rng)
    _write_impressions(data_folder, rows, shape.ads, rng, in_order=in_order)
    (data_folder / "made").touch()
    return data_folder


def _write_history(
    folder: Path, key: str, keys: int, stamps: Array, features: tuple[str, int], rng: np.random.Generator
) -> None:
    """One row per key and stamp, one file a day."""
    for day in range(DAYS):
        today = stamps[(stamps >= _START + day * _DAY) & (stamps < _START + (day + 1) * _DAY)]
        ids = np.tile(np.arange(keys), len(today))
        _write_day(folder, day, key, ids, np.repeat(today, keys), features, rng)


def _write_day(
    folder: Path, day: int, key: str, ids: Array, stamps: Array, features: tuple[str, int], rng: np.random.Generator
) -> None:
    again = rng.random(len(ids)) < _AGAIN
    ids, stamps = np.append(ids, ids[again]), np.append(stamps, stamps[again])
    created = stamps + _DELAY
    created[len(again) :] += _HOUR
    order = np.argsort(stamps, kind="stable")
    columns = {
        key: pa.array(ids[order]),
        "event_timestamp": pa.array(stamps[order], _MOMENT),
        "created_timestamp": pa.array(created[order], _MOMENT),
    }
    prefix, count = features
    columns |= {f"{prefix}_{i}": pa.array(rng.random(len(ids), dtype=np.float32)) for i in range(count)}
    path = folder / f"slice={day:03d}" / "part.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=1 << 18)


def _write_impressions(folder: Path, rows: int, ads: int, rng: np.random.Generator, *, in_order: bool) -> None:
    counts = np.full(DAYS, rows // DAYS) + (np.arange(DAYS) < rows % DAYS)
    days = _days(counts, ads, rng) if in_order else [_shuffled(list(_days(counts, ads, rng)), rng)]
    with pq.ParquetWriter(folder / "entities.parquet", _IMPRESSIONS) as writer:
        for table in days:
            writer.write_table(table, row_group_size=1 << 20)
    first = 0
    for day, count in enumerate(counts):  # predictions are made as the log comes, in both cases
        stamps = np.sort(np.random.default_rng(day).integers(0, _DAY, count)) + _START + day * _DAY
        _write_day(
            folder / "teacher", day, "impression_id", np.arange(first, first + count), stamps, ("teacher", 2), rng
        )
        first += int(count)


_IMPRESSIONS = pa.schema(
    [
        ("impression_id", pa.int64()),
        ("user_id", pa.int64()),
        ("ad_id", pa.int64()),
        ("event_timestamp", _MOMENT),
        ("label", pa.int64()),
    ]
)


def _days(counts: Array, ads: int, rng: np.random.Generator) -> Iterator[pa.Table]:
    first = 0
    for day, count in enumerate(counts):
        stamps = np.sort(np.random.default_rng(day).integers(0, _DAY, count)) + _START + day * _DAY
        columns = [
            pa.array(np.arange(first, first + count)),
            pa.array(rng.integers(0, _USERS, count)),
            pa.array(rng.integers(0, ads, count)),
            pa.array(stamps, _MOMENT),
            pa.array(rng.integers(0, 2, count)),
        ]
        yield pa.Table.from_arrays(columns, schema=_IMPRESSIONS)
        first += int(count)


def _shuffled(tables: list[pa.Table], rng: np.random.Generator) -> pa.Table:
    table = pa.concat_tables(tables)
    return table.take(pa.array(rng.permutation(table.num_rows))).combine_chunks()
