"""The log's contract: each way to break it, said in one sentence or quarantined with a reason; no row lost."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from exfm.load import load_project
from pipeline.streams.reader import LOOK_BACK, read_log
from pipeline.tables import DataError
from pipeline.transforms.quarantine import count_reasons
from projects.simulated import STREAM

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
REAL_LOG = Path(__file__).parents[3] / "shared" / "data" / "news"


def impressions() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "impression_id": [3, 1, 2],
            "event_timestamp": [START + timedelta(hours=h) for h in (5, 1, 2)],
            "user_id": [7, 8, 9],
            "item_id": [1, 1, 2],
            "surface": ["feed", "search", "video"],
            "device": ["a", "b", None],
            "country": ["x", "y", "z"],
        },
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
    )


def write(log: Path, frame: pl.DataFrame, day: str = "2026-01-01", table: str = "impressions") -> Path:
    path = log / table / f"day={day}" / "part.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(path)
    return path


def overwritten(content: bytes, where: str) -> bytes:
    """A parquet file whose ends are right and whose data pages or footer are not."""
    first, last = (4, 200) if where == "pages" else (len(content) - 300, len(content) - 8)
    return content[:first] + b"\xff" * (last - first) + content[last:]


def test_rows_come_by_time_in_the_contracts_types(tmp_path: Path) -> None:
    narrow = impressions().with_columns(
        pl.col("user_id").cast(pl.Int16), pl.col("event_timestamp").dt.cast_time_unit("ns"), extra=pl.lit(1)
    )
    write(tmp_path, narrow)
    read = read_log(tmp_path, STREAM, "impressions", START, START + DAY)
    assert read.frame["impression_id"].to_list() == [1, 2, 3]
    assert read.frame.schema == impressions().schema
    assert (read.quarantine.height, read.rows_read) == (0, 3)


def test_other_zones_are_converted(tmp_path: Path) -> None:
    write(tmp_path, impressions().with_columns(pl.col("event_timestamp").dt.convert_time_zone("America/New_York")))
    read = read_log(tmp_path, STREAM, "impressions", START, START + DAY)
    assert read.frame["event_timestamp"].to_list() == sorted(impressions()["event_timestamp"].to_list())


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (lambda f: f.drop("surface"), "impressions.surface: no such column in day=2026-01-01/part.parquet"),
        (
            lambda f: f.with_columns(pl.col("user_id").cast(pl.String)),
            "impressions.user_id is String in day=2026-01-01",
        ),
        (lambda f: f.with_columns(pl.col("item_id").cast(pl.Float64)), "impressions.item_id is Float64 in"),
        (
            lambda f: f.with_columns(pl.col("event_timestamp").dt.replace_time_zone(None)),
            "impressions.event_timestamp is naive",
        ),
        (lambda f: f.with_columns(pl.col("event_timestamp").dt.epoch("us")), "impressions.event_timestamp is Int64 in"),
        (
            lambda f: f.with_columns(pl.lit(2**63, pl.UInt64).alias("user_id")),
            "impressions.user_id holds 9223372036854775808 in day=2026-01-01/part.parquet, too large for Int64",
        ),
    ],
)
def test_a_table_that_is_not_the_contracts_is_refused(
    tmp_path: Path, broken: Callable[[pl.DataFrame], pl.DataFrame], sentence: str
) -> None:
    write(tmp_path, broken(impressions()))
    with pytest.raises(DataError) as refused:
        read_log(tmp_path, STREAM, "impressions", START, START + DAY)
    assert sentence in str(refused.value)
    assert "write it as" in str(refused.value) and "\n" not in str(refused.value)


def test_a_missing_folder_and_a_file_cut_short_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no folder impressions/: set EXFM_DATA"):
        read_log(tmp_path, STREAM, "impressions", START, START + DAY)
    path = write(tmp_path, impressions())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"day=2026-01-01/part.parquet is not a whole parquet file"):
        read_log(tmp_path, STREAM, "impressions", START, START + DAY)


@pytest.mark.parametrize("where", ["pages", "footer"])
def test_a_file_overwritten_inside_is_refused(tmp_path: Path, where: str) -> None:
    path = write(tmp_path, impressions())
    path.write_bytes(overwritten(path.read_bytes(), where))
    with pytest.raises(DataError, match=r"day=2026-01-01/part.parquet is not a whole parquet file .*: write it again"):
        read_log(tmp_path, STREAM, "impressions", START, START + DAY)


def test_hidden_files_are_no_part_of_the_log(tmp_path: Path) -> None:
    path = write(tmp_path, impressions())
    for name in (".part.parquet", "_part.parquet"):
        path.with_name(name).write_bytes(b"half written by another tool")
    assert read_log(tmp_path, STREAM, "impressions", START, START + DAY).rows_read == 3


def test_a_window_without_files_is_empty(tmp_path: Path) -> None:
    write(tmp_path, impressions())
    read = read_log(tmp_path, STREAM, "impressions", START + 3 * DAY, START + 4 * DAY)
    assert read.frame.is_empty() and read.frame.schema == impressions().schema


def test_rows_that_break_the_contract_are_quarantined_with_their_reason(tmp_path: Path) -> None:
    good = impressions()
    bad = pl.concat(
        [
            good,
            good.head(1).with_columns(surface=pl.lit("billboard"), impression_id=pl.lit(10, pl.Int64)),
            good.head(1).with_columns(user_id=pl.lit(None, pl.Int64), impression_id=pl.lit(11, pl.Int64)),
            good.head(1),
            good.head(1).with_columns(pl.col("event_timestamp") + DAY, impression_id=pl.lit(12, pl.Int64)),
        ]
    )
    write(tmp_path, bad)
    read = read_log(tmp_path, STREAM, "impressions", START, START + DAY)
    assert read.frame["impression_id"].to_list() == [1, 2, 3]
    assert count_reasons(read.quarantine) == {
        "null user_id": 1,
        "outside its day folder": 1,
        "repeated impression_id": 1,
        "unknown surface": 1,
    }
    assert "unknown surface: billboard" in read.quarantine["reason"].to_list()
    assert read.rows_read == read.frame.height + read.quarantine.height == bad.height


def test_a_sound_row_stands_beside_a_broken_one_of_the_same_id(tmp_path: Path) -> None:
    earlier = impressions().with_columns(pl.col("event_timestamp") - timedelta(minutes=5))
    broken = earlier.head(1).with_columns(surface=pl.lit("billboard"))
    write(tmp_path, pl.concat([impressions(), broken, impressions().tail(1)]))
    read = read_log(tmp_path, STREAM, "impressions", START, START + DAY)
    assert read.frame["impression_id"].to_list() == [1, 2, 3]
    assert count_reasons(read.quarantine) == {"repeated impression_id": 1, "unknown surface": 1}


def days_of(*rows: tuple[int, int, str]) -> dict[int, pl.DataFrame]:
    """(id, hours after the start, surface) as the log's days."""
    template = impressions().head(1)
    made = pl.concat(
        [
            template.with_columns(
                impression_id=pl.lit(i, pl.Int64), event_timestamp=START + timedelta(hours=h), surface=pl.lit(surface)
            ).select(template.columns)
            for i, h, surface in rows
        ]
    )
    return {day[0]: part for day, part in made.group_by(pl.col("event_timestamp").dt.day(), maintain_order=True)}  # type: ignore[misc]


def kept_by_day(log: Path, days: int, order: list[int]) -> dict[int, tuple[list[int], list[str]]]:
    kept = {}
    for day in order:
        read = read_log(log, STREAM, "impressions", START + day * DAY, START + (day + 1) * DAY)
        assert read.rows_read == read.frame.height + read.quarantine.height
        kept[day] = (read.frame["impression_id"].to_list(), read.quarantine["reason"].to_list())
    return {day: kept[day] for day in range(days)}


def test_an_id_that_an_earlier_slice_has_is_quarantined_in_whatever_order_slices_are_read(tmp_path: Path) -> None:
    rows = [(1, 23, "feed"), (2, 1, "feed"), (1, 25, "feed"), (3, 26, "feed"), (2, 50, "feed"), (1, 51, "feed")]
    for day, part in days_of(*rows).items():
        write(
            tmp_path,
            part.with_columns(pl.col("impression_id").cast(pl.UInt32 if day == 1 else pl.Int64)),
            f"2026-1-{day}",
        )
    expected = {
        0: ([2, 1], []),
        1: ([3], ["repeated impression_id: 1 is in slice 2026-01-01 already"]),
        2: ([], [f"repeated impression_id: {i} is in slice 2026-01-01 already" for i in (2, 1)]),
    }
    assert kept_by_day(tmp_path, 3, [0, 1, 2]) == kept_by_day(tmp_path, 3, [2, 1, 0, 1, 2]) == expected


def test_a_broken_row_of_an_earlier_slice_repeats_nothing(tmp_path: Path) -> None:
    for day, part in days_of((1, 5, "billboard"), (1, 30, "feed"), (1, 60, "feed")).items():
        write(tmp_path, part, f"2026-01-0{day}")
    kept = kept_by_day(tmp_path, 3, [0, 1, 2])
    assert [ids for ids, _ in kept.values()] == [[], [1], []]
    assert kept[2][1] == ["repeated impression_id: 1 is in slice 2026-01-02 already"]


def test_repeats_are_found_as_brute_force_finds_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    surfaces = ["feed", "video", "billboard"]
    rows = [
        (int(i), int(h), surfaces[k]) for i, h, k in zip(*rng.integers((0, 0, 0), (40, 96, 3), (120, 3)).T, strict=True)
    ]
    for day, part in days_of(*rows).items():
        write(tmp_path, part, f"2026-01-0{day}")
    seen: set[int] = set()
    expected: dict[int, list[int]] = {day: [] for day in range(4)}
    for i, hour, surface in sorted(rows, key=lambda row: row[1]):
        if surface != "billboard" and i not in seen:
            seen.add(i)
            expected[hour // 24].append(i)
    kept = kept_by_day(tmp_path, 4, [3, 0, 2, 1])
    assert {day: sorted(ids) for day, (ids, _) in kept.items()} == {day: sorted(ids) for day, ids in expected.items()}
    hours = read_log(tmp_path, STREAM, "impressions", START + 30 * HOUR, START + 31 * HOUR).frame["impression_id"]
    first = {i for i, h, s in rows if s != "billboard" and h == 30} - {
        i for i, h, s in rows if s != "billboard" and h < 30
    }
    assert set(hours) == first


def test_ids_before_the_stream_or_long_ago_repeat_nothing(tmp_path: Path) -> None:
    late = STREAM.first_slice + LOOK_BACK + 2 * DAY
    template = impressions().head(1)
    for moment in (START - HOUR, START + HOUR, START + 2 * HOUR, late):
        write(tmp_path, template.with_columns(event_timestamp=moment), f"{moment:%Y-%m-%d}")
    assert read_log(tmp_path, STREAM, "impressions", START, START + DAY).frame.height == 1
    assert read_log(tmp_path, STREAM, "impressions", late, late + DAY).frame.height == 1


def test_damage_in_an_earlier_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, impressions())
    write(tmp_path, impressions().with_columns(pl.col("event_timestamp") + DAY), "2026-01-02")
    path.write_bytes(overwritten(path.read_bytes(), "pages"))
    with pytest.raises(DataError, match=r"day=2026-01-01/part.parquet is not a whole parquet file .*: write it again"):
        read_log(tmp_path, STREAM, "impressions", START + DAY, START + 2 * DAY)


def test_broken_outcomes_and_interactions_are_quarantined(tmp_path: Path) -> None:
    at = [START, None, START, START + DAY]
    time = {"event_timestamp": pl.Datetime("us", "UTC"), "outcome_timestamp": pl.Datetime("us", "UTC")}
    outcomes = {"impression_id": [1, 1, None, 2], "task": ["click"] * 4, "outcome_timestamp": at}
    interactions = {"event_timestamp": at, "user_id": [1, 1, None, 2], "item_id": [5] * 4}
    for table, rows in (("outcomes", outcomes), ("interactions", interactions)):
        write(tmp_path, pl.DataFrame(rows, schema_overrides={k: v for k, v in time.items() if k in rows}), table=table)
        read = read_log(tmp_path, STREAM, table, START, START + DAY)
        kinds = sorted(count_reasons(read.quarantine))
        assert len(kinds) == 3 and [kind.split()[0] for kind in kinds] == ["null", "null", "outside"]
        assert read.rows_read == read.frame.height + read.quarantine.height == 4


def test_unknown_tasks_are_quarantined(tmp_path: Path) -> None:
    outcomes = pl.DataFrame(
        {"impression_id": [1, 1], "task": ["click", "clck"], "outcome_timestamp": [START, START]},
        schema_overrides={"outcome_timestamp": pl.Datetime("us", "UTC")},
    )
    write(tmp_path, outcomes, table="outcomes")
    read = read_log(tmp_path, STREAM, "outcomes", START, START + DAY)
    assert read.frame.height == 1
    assert read.quarantine["reason"].to_list() == ["unknown task: clck"]


def test_adjacent_windows_account_for_every_row_once(tmp_path: Path) -> None:
    rows = pl.concat([impressions().with_columns(pl.col("impression_id") + 10 * n) for n in range(3)])
    moved = rows.with_columns(pl.col("event_timestamp") + pl.duration(hours=pl.int_range(pl.len()) * 4))
    timeless = moved.head(1).with_columns(event_timestamp=pl.lit(None, pl.Datetime("us", "UTC")))
    misfiled_twin = moved.head(1).with_columns(pl.col("event_timestamp") - DAY)
    on_the_edge = moved.head(1).with_columns(impression_id=pl.lit(99, pl.Int64), event_timestamp=START + 2 * DAY / 6)
    moved = pl.concat([moved, timeless, misfiled_twin, on_the_edge.select(moved.columns)])
    write(tmp_path, moved.with_columns(pl.lit(date(2026, 1, 1)).alias("ignored")))
    whole = read_log(tmp_path, STREAM, "impressions", START, START + DAY)
    parts = [
        read_log(tmp_path, STREAM, "impressions", START + n * timedelta(hours=4), START + (n + 1) * timedelta(hours=4))
        for n in range(6)
    ]
    assert pl.concat([part.frame for part in parts]).equals(whole.frame)
    apart = pl.concat([part.quarantine for part in parts])
    assert apart.sort("impression_id", "reason").equals(whole.quarantine.sort("impression_id", "reason"))
    assert sum(part.rows_read for part in parts) == whole.rows_read == moved.height
    assert {"null event_timestamp", "outside its day folder"} == set(count_reasons(whole.quarantine))


@pytest.mark.skipif(not REAL_LOG.is_dir(), reason="the real log is not on this machine")
def test_the_real_log_keeps_the_contract() -> None:
    stream = load_project("news").stream
    for table, rows in {"impressions": 542_301, "outcomes": 431_021, "interactions": 1_539_538}.items():
        read = read_log(REAL_LOG, stream, table, stream.first_slice, stream.first_slice + 10 * DAY)
        assert (read.rows_read, read.quarantine.height) == (rows, 0), table
