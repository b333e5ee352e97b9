"""The steps of a slice as somebody would write them by hand, in polars or DuckDB, over the same files.

Belongs here: the queries; they check nothing beyond what is named. Not here: running and comparing (slice_steps.py).
"""

from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl

MEMORY = "1GB"  # of DuckDB, as where this project uses it
ORDER = ["event_timestamp", "impression_id", "user_id", "item_id", "surface"]
HOUR = 3_600_000_000  # microseconds


def impressions(log: Path, tables: Path, out: Path) -> None:
    """Polars: known surfaces, no null, each id once, in order."""
    rows = pl.scan_parquet(log / "impressions" / "day=2026-01-02" / "*.parquet", hive_partitioning=False).collect()
    sound = rows.filter(pl.all_horizontal(pl.col(ORDER).is_not_null()), pl.col("surface").is_in(["feed", "search"]))
    _written(sound.unique("impression_id", keep="first", maintain_order=True).sort(ORDER), out)


def outcomes(log: Path, tables: Path, out: Path) -> None:
    """Polars: those of a known impression, in order."""
    happened = pl.scan_parquet(log / "outcomes" / "day=2026-01-02" / "*.parquet", hive_partitioning=False)
    shown = pl.scan_parquet(tables / "impressions" / "*" / "*.parquet", hive_partitioning=False).select("impression_id")
    known = happened.join(shown, on="impression_id", how="semi").sort("outcome_timestamp", "impression_id", "task")
    _written(known.collect(), out)


def labels(log: Path, tables: Path, out: Path) -> None:
    """Polars: clicks within an hour."""
    shown = pl.scan_parquet(_slice(tables, "impressions"), hive_partitioning=False)
    happened = pl.scan_parquet(log / "outcomes" / "*" / "*.parquet", hive_partitioning=False)
    clicks = happened.group_by("impression_id").agg(pl.col("outcome_timestamp").min())
    age = pl.col("outcome_timestamp") - pl.col("event_timestamp")
    inside = (age >= pl.duration(hours=0)) & (age <= pl.duration(hours=1))
    labelled = shown.select("impression_id", "event_timestamp").join(
        clicks, on="impression_id", how="left", maintain_order="left"
    )
    closed_at = pl.col("event_timestamp") + pl.duration(hours=1)
    _written(
        labelled.select(
            "impression_id", "event_timestamp", click=inside.fill_null(False).cast(pl.Int8), closed_at=closed_at
        ).collect(),
        out,
    )


def view(log: Path, tables: Path, out: Path) -> None:
    """DuckDB: impressions of each user in the last 24 hours, when it changes."""
    query = f"""
        WITH hours AS (
            SELECT user_id, epoch_us(event_timestamp) // {HOUR} + 1 AS hour, count(*) AS n
            FROM read_parquet('{tables}/impressions/*/*.parquet', hive_partitioning = false) GROUP BY ALL
        ), moves AS (
            SELECT user_id, hour, sum(n) AS n
            FROM (SELECT * FROM hours UNION ALL SELECT user_id, hour + 24, -n FROM hours) GROUP BY ALL
        ), running AS (
            SELECT user_id, hour, sum(n) OVER (PARTITION BY user_id ORDER BY hour)::BIGINT AS impressions_1d FROM moves
        )
        SELECT user_id, make_timestamptz(hour * {HOUR}) AS event_timestamp, impressions_1d FROM running
        WHERE event_timestamp > TIMESTAMPTZ '2026-01-02' AND event_timestamp <= TIMESTAMPTZ '2026-01-03'
        ORDER BY event_timestamp, user_id
    """
    _copied(query, out)


def logged_inputs(log: Path, tables: Path, out: Path) -> None:
    """DuckDB: the impressions with the user's count as of each."""
    query = f"""
        SELECT i.impression_id, i.event_timestamp, i.user_id, i.item_id, i.surface, i.device, i.price, v.impressions_1d
        FROM read_parquet('{_slice(tables, "impressions")}', hive_partitioning = false) i
        ASOF LEFT JOIN read_parquet('{tables}/features/user_activity/*/*.parquet', hive_partitioning = false) v
        ON i.user_id = v.user_id AND i.event_timestamp >= v.event_timestamp
        ORDER BY i.event_timestamp, i.impression_id
    """
    _copied(query, out)


BY_HAND: dict[str, Callable[[Path, Path, Path], None]] = {
    "impressions": impressions,
    "outcomes": outcomes,
    "labels": labels,
    "features/user_activity": view,
    "logged_inputs": logged_inputs,
}


def _slice(tables: Path, name: str) -> Path:
    return tables / name / "slice=2026-01-02" / "part.parquet"


def _written(frame: pl.DataFrame, out: Path) -> None:
    frame.write_parquet(out, compression="zstd", statistics=True)


def _copied(query: str, out: Path) -> None:
    with duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(out.parent / "spilt")}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"COPY ({query}) TO '{out}' (FORMAT parquet, COMPRESSION zstd)")
