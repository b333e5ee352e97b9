"""Slices cut by a zone's clock: as Dagster cuts them, without a gap, and windows of local days."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from exfm.errors import DeclarationError
from exfm.feature_views import FeatureView
from exfm.history_views import HistoryView
from exfm.prediction_views import PredictionView
from exfm.stream import Stream
from exfm.time_zones import begin
from exfm_assets.partitions import slice_partitions
from pipeline.transforms.aggregates import aggregate
from pipeline.transforms.histories import histories
from pipeline.transforms.inputs import with_calendar
from pipeline.transforms.predicted import needed, predicted
from pipeline.transforms.view_rows import events_for
from projects.simulated import PROJECT

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
# A clock that never changes, in whole and in half hours; changes at night, of half an hour, at midnight both ways.
ZONES = (
    "UTC", "Asia/Shanghai", "Asia/Kolkata", "Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo",
    "America/Santiago", "America/Havana", "Asia/Beirut",
)  # fmt: skip
EVEN = ("UTC", "Asia/Shanghai", "Asia/Kolkata")


def stream(zone: str, day: date = date(2017, 1, 1), days: int = 800, length: timedelta = DAY) -> Stream:
    first, until = (begin(ZoneInfo(zone), day + timedelta(days=at)) for at in (0, days))
    return replace(PROJECT.stream, first_slice=first, until=until, slice_length=length, time_zone=zone)


def at(*moments: datetime) -> list[float]:
    """Python takes a local time that a clock skips, or shows twice, for unlike all others."""
    return [moment.timestamp() for moment in moments]


@pytest.mark.parametrize("zone", ZONES)
def test_slices_are_dagsters_partitions(zone: str) -> None:
    declared = stream(zone)
    partitions, slices = slice_partitions(declared), declared.all_slices
    assert slices is not None and [slice_.key for slice_ in slices] == partitions.get_partition_keys()
    for slice_ in slices:
        window = partitions.time_window_for_partition_key(slice_.key)
        assert at(window.start, window.end) == at(slice_.start, slice_.end)
        assert declared.slice_of(slice_.key) == slice_
        inside = (slice_.start, slice_.start + HOUR / 7, slice_.end - timedelta(microseconds=1))
        assert {declared.index_at(moment) for moment in inside} == {slice_.index}
    assert all(one.end == other.start for one, other in zip(slices, slices[1:], strict=False))
    lengths = {slice_.end - slice_.start for slice_ in slices}
    assert (min(lengths), max(lengths)) == declared.lengths and (len(lengths) == 1) == declared.is_even
    assert declared.is_even or zone not in EVEN


@pytest.mark.parametrize(("zone", "length"), [(zone, HOUR * hours) for zone in EVEN for hours in (1, 6)])
def test_shorter_slices_of_a_clock_that_never_changes(zone: str, length: timedelta) -> None:
    declared = stream(zone, days=3, length=length)
    slices, partitions = declared.all_slices, slice_partitions(declared)
    assert slices is not None and [slice_.key for slice_ in slices] == partitions.get_partition_keys()
    for slice_ in slices:
        window = partitions.time_window_for_partition_key(slice_.key)
        assert at(window.start, window.end) == at(slice_.start, slice_.end) and declared.slice_of(slice_.key) == slice_
    assert slices[0].key.endswith("-00:00")


def shown(declared: Stream) -> pl.DataFrame:
    """An impression of two users every 31 minutes, over the whole stream and a little beyond it."""
    assert declared.until is not None
    start, count = declared.first_slice - 3 * HOUR, (declared.until - declared.first_slice) // timedelta(minutes=31) + 9
    at = pl.Series([start + index * timedelta(minutes=31) for index in range(count)], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame({"impression_id": range(count), "event_timestamp": at}).with_columns(
        user_id=pl.col("impression_id") % 2, item_id=pl.col("impression_id") % 5
    )


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("days", [1, 7])
def test_windows_are_of_local_days(zone: str, days: int) -> None:
    """Brute force by the local date of each event, over both changes of the clock of two years."""
    declared = stream(zone, days=600)
    view = FeatureView(name="mine", entities=("user_id",), windows=(DAY * days,), every=DAY, counts=("impressions",))
    listed = HistoryView(
        name="last", entity="user_id", of="item_id", source="impressions", length=4, window=DAY * days, every=DAY
    )
    view.check(declared)
    listed.check(declared)
    events = shown(declared)
    none = events.select("event_timestamp", "user_id", "item_id").clear()
    outcomes = pl.DataFrame(
        schema={"impression_id": pl.Int64, "task": pl.String, "outcome_timestamp": none.schema["event_timestamp"]}
    )
    slices = declared.all_slices
    assert slices is not None
    span = slices[300].start, slices[-1].end
    frames = (events.lazy(), outcomes.lazy(), none.lazy())
    counted = aggregate(view, declared, events_for(view, declared, *frames), *span)
    lists = histories(listed, declared, events_for(listed, declared, *frames), *span)
    by_day = events.with_columns(day=pl.col("event_timestamp").dt.convert_time_zone(zone).dt.date())
    per_day = by_day.group_by("day", "user_id").agg(pl.len(), pl.col("item_id").sort_by("event_timestamp"))
    known = {(row["day"], row["user_id"]): row for row in per_day.iter_rows(named=True)}
    name = view.count_features[0]
    found = {(row["event_timestamp"], row["user_id"]): row[name] for row in counted.iter_rows(named=True)}
    last = {(row["event_timestamp"], row["user_id"]): row["last"] for row in lists.iter_rows(named=True)}
    assert set(found) == set(last) == {(slice_.end, user) for slice_ in slices[300:] for user in (0, 1)}
    for slice_ in slices[300:]:
        today = slice_.start.astimezone(ZoneInfo(zone)).date()
        for user in (0, 1):
            rows = [known[today - timedelta(days=back), user] for back in range(days)]
            assert found[slice_.end, user] == sum(row["len"] for row in rows), slice_.key
            items = [item for row in reversed(rows) for item in row["item_id"]]
            assert last[slice_.end, user] == items[-4:], slice_.key


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Sao_Paulo"])
def test_slice_by_slice_gives_what_all_at_once_does(zone: str) -> None:
    declared = stream(zone, days=330)
    view = FeatureView(name="mine", entities=("user_id",), windows=(DAY * 3,), every=DAY, counts=("impressions",))
    events = shown(declared)
    none = events.select("event_timestamp", "user_id", "item_id").clear().lazy()
    outcomes = pl.LazyFrame(
        schema={"impression_id": pl.Int64, "task": pl.String, "outcome_timestamp": pl.Datetime("us", "UTC")}
    )
    slices = declared.all_slices
    assert slices is not None
    met = events_for(view, declared, events.lazy(), outcomes, none)
    whole = aggregate(view, declared, met, slices[0].start, slices[-1].end)
    parts = [aggregate(view, declared, met, each.start, each.end) for each in slices]
    assert pl.concat(parts).equals(whole)


def test_what_a_teacher_said_is_of_local_days() -> None:
    """Of 7 slices before a stamp, whatever their hours; the clocks of Berlin change within."""
    declared = stream("Europe/Berlin", date(2017, 3, 20), days=16)
    view = PredictionView(name="said", teacher="large", tasks=("click",), entities=("user_id",), windows=(7 * DAY,))
    schema = {
        "user_id": pl.Int64,
        "count": pl.Int64,
        "last_at": pl.Datetime("us", "UTC"),
        "click_sum": pl.Float64,
        "click_last": pl.Float32,
    }
    slices = declared.all_slices
    assert slices is not None
    buckets = {
        slice_.key: pl.DataFrame([(1, 1, slice_.start, 2.0**slice_.index, 0.0)], schema=schema, orient="row")
        for slice_ in slices
    }
    for slice_ in slices[8:]:
        read = [each.index for each in needed(view, declared, timedelta(0), slice_.end)]
        assert read[-8:] == list(range(slice_.index - 7, slice_.index + 1))
        (row,) = predicted(view, declared, timedelta(0), buckets, slice_.end).iter_rows(named=True)
        assert row["count_7d"] == 7
        assert row["click_mean_7d"] == pytest.approx(
            sum(2.0**at for at in range(slice_.index - 6, slice_.index + 1)) / 7
        )


def test_the_calendar_is_local() -> None:
    declared = replace(stream("Asia/Kolkata"), calendar=("hour_of_day", "day_of_week"))
    frame = pl.DataFrame({"event_timestamp": [datetime(2017, 1, 1, 20, 45, tzinfo=UTC)]})  # Monday 02:15 there
    assert with_calendar(frame, declared).row(0)[1:] == (2, 1)


def test_a_checkpoint_never_serves_before_its_labels_are_known() -> None:
    for zone in ZONES:
        declared = stream(zone)
        slices = declared.all_slices
        assert slices is not None
        for task in declared.tasks:
            lag = declared.serving_lag(task.name)
            pairs = zip(slices, slices[lag:], strict=False)
            assert all(one.end + task.window <= serves.start for one, serves in pairs), (zone, task.name)


BERLIN = {"time_zone": "Europe/Berlin"}
IN_MARCH = {"first_slice": datetime(2026, 3, 19, 23, tzinfo=UTC), "until": datetime(2026, 4, 1, 23, tzinfo=UTC)}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"time_zone": "Europe/Berlim"}, r"zone: 'Europe/Berlim' is no time zone \(did you mean 'Europe/Berlin'\?\)"),
        ({"time_zone": "localtime"}, r"zone: 'localtime' is no time zone"),
        ({"time_zone": "../etc/passwd"}, r"zone: '../etc/passwd' is no time zone"),
        ({**BERLIN, "slice_length": HOUR}, r"zone: 'Europe/Berlin' changes its clock"),
        ({"time_zone": "Asia/Shanghai"}, r"first_slice: .* since midnight in Asia/Shanghai: use 2025-12-31 16:00"),
        ({**BERLIN, **IN_MARCH}, r"until: .* is not the end of a slice in Europe/Berlin: use 2026-04-02 22:00:00"),
    ],
)
def test_what_can_not_be_cut_is_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(DeclarationError, match=sentence):
        replace(PROJECT.stream, **{"until": None, **changes})  # type: ignore[arg-type]


def test_stamps_between_the_ends_of_uneven_slices_are_refused() -> None:
    view = FeatureView(name="mine", entities=("user_id",), windows=(DAY,), every=HOUR, counts=("impressions",))
    with pytest.raises(
        DeclarationError, match=r"FeatureView\(mine\)\.every: 1:00:00 is not the slice length: in Europe/Berlin"
    ):
        view.check(stream("Europe/Berlin"))
    view.check(stream("Asia/Kolkata"))
