"""The steps of a slice as somebody would write them by hand, in polars or DuckDB, over the same files.

Belongs here: the queries; they check nothing beyond what is named. Not here: running and comparing (slice_steps.py).
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl

MEMORY = "1GB"  # of DuckDB, as where this project uses it
ORDER = ["event_timestamp", "impression_id", "user_id", "item_id", "surface"]
HOUR = 3_600_000_000  # microseconds
NO_TIME, WINDOW = timedelta(0), timedelta(hours=1)
AS_OF = datetime(2026, 1, 3, 1, tzinfo=UTC)  # when the last window of the day is over
REFUSED, TOLD = "refused.parquet", "told.json"


def impressions(log: Path, tables: Path, out: Path) -> None:
    """Polars: known surfaces, no null, each id once, in order."""
    rows = pl.scan_parquet(log / "impressions" / "day=2026-01-02" / "*.parquet", hive_partitioning=False).collect()
    sound = rows.filter(pl.all_horizontal(pl.col(ORDER).is_not_null()), pl.col("surface").is_in(["feed", "search"]))
    _written(sound.unique("impression_id", keep="first", maintain_order=True).sort(ORDER), out)


def outcomes(log: Path, tables: Path, out: Path) -> None:
    """Polars: of known tasks and impressions, in order; the others aside, each with the reason; how many of each."""
    happened = pl.read_parquet(log / "outcomes" / "day=2026-01-02" / "*.parquet", hive_partitioning=False)
    ids, clock = pl.col("impression_id"), pl.col("outcome_timestamp")
    shown = pl.scan_parquet(tables / "impressions" / "*" / "*.parquet", hive_partitioning=False).select(ids)
    known = shown.filter(ids.is_in(happened["impression_id"].implode())).collect()["impression_id"]
    orphan = "orphan: no impression of this id within the attribution window"
    reason = (
        pl.when(pl.any_horizontal(pl.all().is_null())).then(pl.lit("null"))
        .when(clock.dt.date() != datetime(2026, 1, 2).date()).then(pl.lit("outside its day folder"))
        .when(pl.col("task") != "click").then(pl.format("unknown task: {}", "task"))
        .when(~ids.is_in(known.implode())).then(pl.lit(orphan))
    )  # fmt: skip
    judged = happened.with_columns(reason=reason).sort("outcome_timestamp", "impression_id", "task", nulls_last=True)
    refused = judged.filter(pl.col("reason").is_not_null())
    _written(judged.filter(pl.col("reason").is_null()).drop("reason"), out)
    _written(refused, out.with_name(REFUSED))
    kinds = refused["reason"].str.split(":").list.first().value_counts().iter_rows()
    _told(out, {"exfm/rows_read": happened.height, "exfm/quarantined": dict(kinds)})


def labels(log: Path, tables: Path, out: Path) -> None:
    """Polars: clicks within an hour, null where the hour is not over; how many came after it, before, or again."""
    ids, shown_at = pl.col("impression_id"), pl.col("event_timestamp")
    shown = pl.scan_parquet(_slice(tables, "impressions"), hive_partitioning=False).select(ids, shown_at)
    happened = pl.scan_parquet(log / "outcomes" / "*" / "*.parquet", hive_partitioning=False)
    clicks = happened.filter(pl.col("task") == "click", pl.col("outcome_timestamp") <= AS_OF)
    known = clicks.join(shown, on="impression_id").collect()
    age = known["outcome_timestamp"] - known["event_timestamp"]
    inside = known.filter((age >= NO_TIME) & (age <= WINDOW))["impression_id"]
    hits = inside.unique()
    label = pl.when(shown_at + WINDOW <= AS_OF).then(ids.is_in(hits.implode()).cast(pl.Int8))
    labelled = shown.with_columns(click=label, closed_at=shown_at + WINDOW).collect()
    _written(labelled, out)
    rate, open_ = labelled["click"].mean(), labelled["click"].null_count()
    passed = {"late": int((age > WINDOW).sum()), "early": int((age < NO_TIME).sum())}
    _told(out, {**passed, "duplicates": len(inside) - len(hits), "rate/click": rate, "open/click": open_})


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


def history(log: Path, tables: Path, out: Path) -> None:
    """DuckDB: the last 20 items that each user clicked in the last 24 hours, when that changes."""
    query = f"""
        WITH clicks AS (
            SELECT any_value(i.user_id) AS user_id, any_value(i.item_id) AS item_id, min(o.outcome_timestamp) AS clicked
            FROM read_parquet('{tables}/outcomes/*/*.parquet', hive_partitioning = false) o
            JOIN read_parquet('{tables}/impressions/*/*.parquet', hive_partitioning = false) i USING (impression_id)
            WHERE o.outcome_timestamp BETWEEN i.event_timestamp AND i.event_timestamp + INTERVAL 1 HOUR
            GROUP BY impression_id
        ), hours AS (SELECT user_id, item_id, clicked, epoch_us(clicked) // {HOUR} + 1 AS hour FROM clicks),
        stamps AS (SELECT DISTINCT user_id, unnest([hour, hour + 24]) AS hour FROM hours)
        SELECT s.user_id, make_timestamptz(s.hour * {HOUR}) AS event_timestamp,
               coalesce(list(item_id ORDER BY clicked, item_id) FILTER (item_id IS NOT NULL)[-20:], []) AS last
        FROM stamps s LEFT JOIN hours h ON s.user_id = h.user_id AND h.hour <= s.hour AND h.hour > s.hour - 24
        WHERE event_timestamp > TIMESTAMPTZ '2026-01-02' AND event_timestamp <= TIMESTAMPTZ '2026-01-03'
        GROUP BY s.user_id, s.hour
        ORDER BY event_timestamp, s.user_id
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
    "features/user_clicks": history,
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


def _told(out: Path, counts: Mapping[str, object]) -> None:
    """Counts by the names that exfm notes them under."""
    out.with_name(TOLD).write_text(json.dumps(counts))
