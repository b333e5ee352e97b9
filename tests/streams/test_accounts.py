"""What a run says of the log, and when too little of it stops the run: green, real runs of the stream's assets."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from exfm.log_columns import Task
from exfm.project import Project
from exfm.state import State
from exfm_assets import metadata_keys as keys
from pipeline.streams.accounts import Account
from pipeline.streams.layout import find_files
from pipeline.workspace import Workspace
from tests.graph.runs import run
from tests.tiny import tiny_project

START, DAY, HOUR = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1), timedelta(hours=1)
STREAM_ASSETS = 'key:"impressions" or key:"outcomes" or key:"interactions" or key:"labels"'
Folder = Callable[[datetime], str]


def project(**changes: object) -> Project:
    """Three days of the tiny stream over a real log, with one task."""
    tiny = tiny_project(simulation=None, feature_views=(), prediction_views=(), teachers=(), students=())
    tasks = (Task(name="click", window=HOUR),)
    stream = replace(tiny.stream, until=START + 3 * DAY, tasks=tasks, known_until=None)
    return replace(tiny, stream=replace(stream, **changes))  # type: ignore[arg-type]


def events(rows: int = 300, days: int = 3) -> dict[str, pl.DataFrame]:
    """A row every few minutes; every fourth impression has its click seven minutes later."""
    step = days * DAY / rows
    shown = pl.DataFrame(
        {
            "impression_id": list(range(rows)),
            "event_timestamp": [START + n * step for n in range(rows)],
            "user_id": [n % 7 for n in range(rows)],
            "item_id": [n % 5 for n in range(rows)],
            "surface": ["feed"] * rows,
            "device": ["a", None] * (rows // 2),
            "country": ["x"] * rows,
        },
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
    )
    later = pl.col("event_timestamp") + timedelta(minutes=7)
    done = shown.gather_every(4).select("impression_id", task=pl.lit("click"), outcome_timestamp=later)
    return {
        "impressions": shown,
        "outcomes": done,
        "interactions": shown.select("event_timestamp", "user_id", "item_id"),
    }


def put(log: Path, tables: dict[str, pl.DataFrame], shift: timedelta = timedelta(0)) -> None:
    for table, rows in tables.items():
        (log / table).mkdir(parents=True, exist_ok=True)
        time = "outcome_timestamp" if table == "outcomes" else "event_timestamp"
        for (day,), part in rows.with_columns((pl.col(time) + shift).dt.date().alias("day")).group_by("day"):
            path = log / table / f"day={day}" / "a.parquet"
            path.parent.mkdir(exist_ok=True)
            part.drop("day").write_parquet(path)


def work_of(tmp_path: Path, declared: Project | None = None) -> Workspace:
    return Workspace(declared or project(), State(folder=tmp_path / "state", log=tmp_path / "log"))


def log_messages(result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance) -> list[tuple[str, str]]:
    """Level and text of what the assets logged."""
    logs = instance.all_logs(result.run_id)
    return [(logged_level(entry.level), entry.user_message) for entry in logs if not entry.is_dagster_event]


def logged_level(level: object) -> str:
    return {20: "INFO", 30: "WARNING"}.get(int(str(level)), str(level))


Said = dict[str, tuple[str, str]]


def ran(work: Workspace, first: str = "2026-01-01", last: str = "2026-01-03") -> tuple[bool, Said, str]:
    """Success; what was said of each table; what stopped the run."""
    instance = dg.DagsterInstance.ephemeral()
    result = run(work, first, last, STREAM_ASSETS, instance)
    messages = {
        text.partition(":")[0]: (level, text) for level, text in log_messages(result, instance) if "rows read" in text
    }
    failures = [event for event in result.all_events if event.is_step_failure]
    causes = [cause.step_failure_data.error.cause for cause in failures if cause.step_failure_data.error]
    return result.success, messages, " | ".join(cause.message for cause in causes if cause)


def test_a_sound_log_is_said_quietly_with_its_numbers(tmp_path: Path) -> None:
    put(tmp_path / "log", events())
    work = work_of(tmp_path)
    result = run(work, "2026-01-01", "2026-01-03", STREAM_ASSETS, instance := dg.DagsterInstance.ephemeral())
    assert result.success
    assert ("INFO", "impressions: 300 rows read, 300 kept, 0 quarantined") in log_messages(result, instance)
    assert ("INFO", "outcomes: 75 rows read, 75 kept, 0 quarantined") in log_messages(result, instance)
    (made,) = [event for event in result.asset_materializations_for_node("outcomes") if event.partition == "2026-01-03"]
    assert made.metadata[keys.RUN_READ].value == 75 and made.metadata[keys.RUN_QUARANTINED].value == 0


def test_columns_that_nothing_reads_are_named(tmp_path: Path) -> None:
    """A log that was sampled brings its weights along; passed over in silence, models would be miscalibrated."""
    log = events()
    more = {f"c{n}": pl.lit(n) for n in range(8)}
    log["impressions"] = log["impressions"].with_columns(weight=pl.lit(2.0), **more)
    put(tmp_path / "log", log)
    success, said, _ = ran(work_of(tmp_path))
    assert success and said["impressions"] == (
        "INFO", "impressions: 300 rows read, 300 kept, 0 quarantined; "
        "not read, for Stream declares no such column: weight, c0, c1, c2, c3, c4, c5, c6 and 1 more",
    )  # fmt: skip
    newest = max((tmp_path / "log" / "impressions").rglob("*.parquet"))
    newest.write_bytes(b"PAR1")  # of a slice that is not read yet
    assert "not read" not in Account(find_files(tmp_path / "log", "impressions"), project().stream).sentence()[0]


def test_rows_outside_the_stream_are_counted(tmp_path: Path) -> None:
    put(tmp_path / "log", events())
    stream = project(first_slice=START + DAY, until=START + 2 * DAY)
    success, messages, _ = ran(work_of(tmp_path, stream), "2026-01-02", "2026-01-02")
    assert success
    level, text = messages["impressions"]
    assert level == "WARNING"
    assert "100 rows read, 100 kept, 0 quarantined; 200 rows of the log lie outside the stream" in text
    assert "(first_slice 2026-01-02 .. until 2026-01-03): move Stream.first_slice or until" in text


def test_rows_outside_a_stream_that_begins_inside_a_day_are_counted(tmp_path: Path) -> None:
    put(tmp_path / "log", events())
    first, until = START + 6 * HOUR, START + 2 * DAY + 12 * HOUR
    stream = project(slice_length=6 * HOUR, first_slice=first, until=until).stream
    tables = events()
    for table, time, end in (
        ("impressions", "event_timestamp", until),
        ("interactions", "event_timestamp", until),
        ("outcomes", "outcome_timestamp", until + stream.longest_window + stream.lateness),
    ):
        expected = tables[table].filter(~pl.col(time).is_between(first, end, closed="left")).height
        assert expected
        assert f"{expected} rows of the log" in Account(find_files(tmp_path / "log", table), stream).outside()


def test_local_days_are_said_with_the_reason(tmp_path: Path) -> None:
    put(tmp_path / "log", events(), shift=8 * HOUR)
    success, messages, _ = ran(work_of(tmp_path))
    assert success
    level, text = messages["impressions"]
    misfiled = sum(at.hour >= 16 and at.day < 3 for at in events()["impressions"]["event_timestamp"])
    assert level == "WARNING" and f"outside its day folder {misfiled}" in text
    assert "a folder's day is the UTC day of its rows, not a local one" in text
    assert "of the log lie outside the stream" in text  # what local days put behind the last one


def test_a_task_named_otherwise_stops_the_run_and_names_the_names(tmp_path: Path) -> None:
    tables = events(900)
    tables["outcomes"] = tables["outcomes"].with_columns(task=pl.lit("clicks"))
    put(tmp_path / "log", tables)
    work = work_of(tmp_path)
    success, _, stopped = ran(work)
    assert not success
    assert "outcomes: 225 rows read, 0 kept, 225 quarantined (unknown task 225: 'clicks')" in stopped
    assert "Stream.quarantine_limit (50%)" in stopped and "quarantine/outcomes" in stopped
    slices = work.project.stream.all_slices or []
    assert sum(map(work.quarantine("outcomes").rows, slices)) == 225
    assert not work.table("labels").stored(work.project.stream)


def test_the_declared_share_decides(tmp_path: Path) -> None:
    tables = events(1200)
    odd = pl.when(pl.col("impression_id") % 12 == 0).then(pl.lit("billboard")).otherwise("surface")
    tables["impressions"] = tables["impressions"].with_columns(surface=odd)
    put(tmp_path / "log", tables)
    success, messages, _ = ran(work_of(tmp_path))
    assert success and "unknown surface 100" in messages["impressions"][1]
    success, _, stopped = ran(work_of(tmp_path, project(quarantine_limit=0.05)))
    assert not success and "Stream.quarantine_limit (5%)" in stopped


def test_one_silent_task_among_others_stops_at_the_labels(tmp_path: Path) -> None:
    tables = events(1200)
    bought = tables["outcomes"].head(20).with_columns(task=pl.lit("buy"))
    put(tmp_path / "log", {**tables, "outcomes": pl.concat([tables["outcomes"], bought])})
    tasks = (Task(name="click", window=HOUR), Task(name="purchase", window=HOUR))
    success, _, stopped = ran(work_of(tmp_path, project(tasks=tasks)))
    assert not success
    assert "task 'purchase': none of 1,200 closed labels is positive: the log has outcomes of other names" in stopped
    assert "'buy' (20): write Task.name as the log does" in stopped


def test_a_task_of_which_the_log_has_nothing_stops_a_closed_log_but_not_a_young_live_one(tmp_path: Path) -> None:
    put(tmp_path / "log", events(1200))
    tasks = (Task(name="click", window=HOUR), Task(name="purchase", window=HOUR))
    live = Workspace(project(tasks=tasks, until=None), State(folder=tmp_path / "live", log=tmp_path / "log"))
    assert ran(live)[0]
    part = Workspace(project(tasks=tasks), State(folder=tmp_path / "part", log=tmp_path / "log"))
    assert ran(part, "2026-01-01", "2026-01-02")[0]
    success, _, stopped = ran(part)
    assert not success and "task 'purchase': none of 1,200 closed labels" in stopped
    assert "take the task out of Stream.tasks" in stopped


def test_outcomes_that_all_come_too_late_are_told_apart(tmp_path: Path) -> None:
    tables = events(600)
    tables["outcomes"] = tables["outcomes"].with_columns(pl.col("outcome_timestamp") + 2 * HOUR)
    put(tmp_path / "log", tables)
    success, _, stopped = ran(work_of(tmp_path, project(lateness=DAY)))
    assert not success and "outcomes came after their window (or before their impression): check Task.window" in stopped


def test_outcomes_before_the_first_impression_are_counted_and_stop_nothing(tmp_path: Path) -> None:
    tables = events()
    tables["impressions"] = tables["impressions"].filter(pl.col("event_timestamp").dt.day() != 1)
    put(tmp_path / "log", tables)
    success, messages, _ = ran(work_of(tmp_path, project(impressions_from=START + DAY)), "2026-01-01", "2026-01-02")
    assert success and "orphan" in messages["outcomes"][1]
    other = Workspace(project(), State(folder=tmp_path / "other", log=tmp_path / "log"))
    assert not ran(other, "2026-01-01", "2026-01-01")[0]  # there some are missing


def test_a_paused_stream_runs_and_a_log_that_never_had_a_row_does_not(tmp_path: Path) -> None:
    tables = events()
    tables["impressions"] = tables["impressions"].filter(pl.col("event_timestamp").dt.day() != 2)
    tables["outcomes"] = tables["outcomes"].filter(pl.col("outcome_timestamp").dt.day() != 2)
    put(tmp_path / "log", tables)
    assert ran(work_of(tmp_path))[0]  # the whole log, with a pause
    assert ran(work_of(tmp_path), "2026-01-02", "2026-01-02")[0]  # the pause alone: other slices have rows
    live = project(until=None, first_slice=START + DAY)
    fresh = Workspace(live, State(folder=tmp_path / "fresh", log=tmp_path / "log"))
    success, messages, _ = ran(fresh, "2026-01-02", "2026-01-02")  # a live stream whose first slice is quiet
    assert success and messages["impressions"][0] == "WARNING" and "0 rows read" in messages["impressions"][1]


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        (None, "impressions holds no parquet file: write day=YYYY-MM-DD/*.parquet there, or set EXFM_DATA"),
        ("day=2025-12-01", "its files are of 2025-12-01 .. 2025-12-01, none of the stream"),
    ],
)
def test_a_log_without_impressions_stops_the_run(tmp_path: Path, closed: bool, folder: str | None, reason: str) -> None:
    tables = events()
    put(tmp_path / "log", {**tables, "impressions": tables["impressions"].clear()})
    if folder:
        (tmp_path / "log/impressions" / folder).mkdir()
        tables["impressions"].write_parquet(tmp_path / "log/impressions" / folder / "a.parquet")
    declared = project() if closed else project(until=None)
    success, _, stopped = ran(work_of(tmp_path, declared))
    assert not success
    assert "no slice that is stored has a row" in stopped and reason in stopped


def test_empty_files_all_along_stop_a_closed_log(tmp_path: Path) -> None:
    tables = events()
    put(tmp_path / "log", tables)
    for path in (tmp_path / "log/impressions").rglob("*.parquet"):
        tables["impressions"].clear().write_parquet(path)
    success, _, stopped = ran(work_of(tmp_path))
    assert not success and "impressions: 0 rows read" in stopped and "no slice of the stream has one" in stopped


def test_orphans_of_a_stream_that_has_just_begun_are_no_fault(tmp_path: Path) -> None:
    """With a window longer than the log, an outcome may be of an impression before the first slice."""
    tables = events(900)
    strange = tables["outcomes"].with_columns(pl.col("impression_id") + 10**6)
    put(tmp_path / "log", {**tables, "outcomes": pl.concat([tables["outcomes"].head(10), strange])})
    long = (Task(name="click", window=7 * DAY),)
    success, messages, _ = ran(work_of(tmp_path, project(tasks=long)))
    assert success and "orphan 225" in messages["outcomes"][1]
    success, _, stopped = ran(work_of(tmp_path))
    assert not success and "Stream.quarantine_limit" in stopped


def test_other_files_of_the_log_are_said(tmp_path: Path) -> None:
    put(tmp_path / "log", events())
    (tmp_path / "log/impressions/day=2026-01-01/b.csv").write_text("x")
    _, messages, _ = ran(work_of(tmp_path))
    assert messages["impressions"][0] == "WARNING"
    assert "1 files are not read, for they don't end in .parquet: day=2026-01-01/b.csv" in messages["impressions"][1]


def test_a_range_that_ends_before_it_begins_stops_every_table(tmp_path: Path) -> None:
    """Dagster takes it for an empty range, and would report success of nothing."""
    put(tmp_path / "log", events())
    for table in ("impressions", "outcomes", "interactions", "labels"):
        result = run(work_of(tmp_path), "2026-01-03", "2026-01-01", f'key:"{table}"')
        assert not result.success
    assert not (tmp_path / "state").exists()
