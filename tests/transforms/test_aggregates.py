"""Activity features against a loop over events, slice by slice against the range at once, and zeros at the end."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from exfm.feature_views import FeatureView, window_name
from pipeline.transforms.aggregates import aggregate, needed_since
from pipeline.transforms.view_rows import events_for
from projects.simulated import STREAM

HOUR = timedelta(hours=1)
START = datetime(2026, 1, 3, tzinfo=UTC)
END = START + timedelta(days=2)
TIME = pl.Datetime("us", "UTC")
VIEW = FeatureView(
    name="user_activity",
    entities=("user_id",),
    counts=("interactions", "impressions", "click"),
    rates=("click",),
    windows=(6 * HOUR, 24 * HOUR),
    every=6 * HOUR,
    delay=timedelta(minutes=5),
)
CROSS = replace(VIEW, name="cross", entities=("user_id", "surface"), counts=("impressions", "convert"), rates=())


def drawn(seed: int) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Events of three days; many on the very hour, so that windows' ends are hit."""
    random = np.random.default_rng(seed)

    def times(count: int) -> list[datetime]:
        minutes = random.choice([0, 0, 17, 59], count) + 60 * random.integers(-24, 48, count)
        return [START + timedelta(minutes=int(m)) for m in minutes]

    impressions = pl.DataFrame(
        {
            "impression_id": np.arange(150),
            "event_timestamp": times(150),
            "user_id": random.integers(0, 4, 150),
            "surface": random.choice(["feed", "video"], 150),
        },
        schema_overrides={"event_timestamp": TIME},
    )
    shown = random.integers(0, 150, 90)
    delays = [timedelta(minutes=int(m)) for m in random.choice([0, 10, 30, 31, 500, 800], 90)]
    at = [impressions["event_timestamp"][int(i)] + delay for i, delay in zip(shown, delays, strict=True)]
    outcomes = pl.DataFrame(
        {"impression_id": shown, "task": random.choice(["click", "convert"], 90), "outcome_timestamp": at},
        schema_overrides={"outcome_timestamp": TIME},
    )
    interactions = pl.DataFrame(
        {"event_timestamp": times(120), "user_id": random.integers(0, 4, 120), "item_id": random.integers(0, 3, 120)},
        schema_overrides={"event_timestamp": TIME},
    )
    return impressions, outcomes, interactions


def rows(view: FeatureView, seed: int, start: datetime = START, end: datetime = END) -> pl.DataFrame:
    frames = [frame.lazy() for frame in drawn(seed)]
    return aggregate(view, STREAM, events_for(view, STREAM, *frames), start=start, end=end)


def happened(view: FeatureView, seed: int) -> dict[str, list[tuple[tuple[object, ...], datetime]]]:
    """By loop: what counts, for whom, and from when."""
    impressions, outcomes, interactions = drawn(seed)
    shown = {row["impression_id"]: row for row in impressions.iter_rows(named=True)}

    def entity(row: dict[str, object]) -> tuple[object, ...]:
        return tuple(row[name] for name in view.entities)

    counted: dict[str, list[tuple[tuple[object, ...], datetime]]] = {
        "impressions": [(entity(row), row["event_timestamp"]) for row in shown.values()]
    }
    if "interactions" in view.counts:
        counted["interactions"] = [(entity(r), r["event_timestamp"]) for r in interactions.iter_rows(named=True)]
    for task in STREAM.tasks:
        first: dict[int, datetime] = {}
        for row in outcomes.filter(pl.col("task") == task.name).sort("outcome_timestamp").iter_rows(named=True):
            age = row["outcome_timestamp"] - shown[row["impression_id"]]["event_timestamp"]
            if timedelta(0) <= age <= task.window:
                first.setdefault(row["impression_id"], row["outcome_timestamp"])
        counted[task.name] = [(entity(shown[impression]), at) for impression, at in first.items()]
    return counted


def stamps(view: FeatureView) -> Iterator[datetime]:
    stamp = START + view.every
    while stamp <= END:
        yield stamp
        stamp += view.every


@pytest.mark.parametrize("view", [VIEW, CROSS])
@pytest.mark.parametrize("seed", range(4))
def test_the_last_row_at_a_stamp_is_what_a_loop_counts(view: FeatureView, seed: int) -> None:
    frame, counted = rows(view, seed), happened(view, seed)
    entities = {entity for events in counted.values() for entity, _ in events}
    looked_at = 0
    for stamp in stamps(view):
        for entity in entities:
            same = [pl.col(name) == value for name, value in zip(view.entities, entity, strict=True)]
            last = frame.filter(pl.col("event_timestamp") <= stamp, *same).tail(1)
            if last.is_empty():
                continue
            looked_at += 1
            row = last.row(0, named=True)
            for window in view.windows:
                within = {
                    what: sum(event_entity == entity and stamp - window <= at < stamp for event_entity, at in events)
                    for what, events in counted.items()
                }
                for what in view.counts:
                    assert row[f"{what}_{window_name(window)}"] == within[what], (entity, stamp, what, window)
                for task in view.rates:
                    rate = (within[task] + 1.0) / (within["impressions"] + 10.0)  # prior 0.1, weight 10
                    assert row[f"{task}_rate_{window_name(window)}"] == pytest.approx(rate, rel=1e-6)
    assert looked_at > 20


@pytest.mark.parametrize("view", [VIEW, CROSS])
@pytest.mark.parametrize("seed", range(4))
def test_a_row_stands_where_an_event_entered_or_left_and_nowhere_else(view: FeatureView, seed: int) -> None:
    expected = set()
    for what, events in happened(view, seed).items():
        for entity, at in events:
            entered = at - (at - START) % view.every + view.every
            moves = [entered, *(entered + window for window in view.windows)]
            if at < END and what in (*view.counts, *view.rates):
                expected |= {(*entity, stamp) for stamp in moves if START < stamp <= END}
    result = rows(view, seed).select(*view.entities, "event_timestamp").rows()
    assert len(result) == len(set(result)) and set(result) == expected


@pytest.mark.parametrize("view", [VIEW, CROSS])
def test_slice_by_slice_is_the_range_at_once(view: FeatureView) -> None:
    day = timedelta(days=1)
    apart = pl.concat([rows(view, 5, START, START + day), rows(view, 5, START + day, END)])
    assert apart.equals(rows(view, 5))


@pytest.mark.parametrize("view", [VIEW, CROSS])
@pytest.mark.parametrize("seed", range(6, 10))
def test_what_lies_before_needed_since_changes_nothing(view: FeatureView, seed: int) -> None:
    impressions, outcomes, interactions = drawn(seed)
    since = needed_since(view, STREAM, END - view.every)
    cut = [
        impressions.filter(pl.col("event_timestamp") >= since).lazy(),
        outcomes.filter(pl.col("outcome_timestamp") >= since).lazy(),
        interactions.filter(pl.col("event_timestamp") >= since).lazy(),
    ]
    whole = [frame.lazy() for frame in (impressions, outcomes, interactions)]
    last, of_all = (events_for(view, STREAM, *frames) for frames in (cut, whole))
    span = END - view.every, END
    assert aggregate(view, STREAM, last, *span).equals(aggregate(view, STREAM, of_all, *span))


@pytest.mark.parametrize("name", ["entity", "order", "first", "last", "index"])
def test_an_entity_may_be_called_anything(name: str) -> None:
    frames = [frame.rename({"user_id": name}, strict=False).lazy() for frame in drawn(3)]
    renamed = replace(VIEW, entities=(name,))
    named = aggregate(renamed, STREAM, events_for(renamed, STREAM, *frames), START, END)
    assert named.rename({name: "user_id"}).equals(rows(VIEW, 3))


def test_of_no_events_there_are_no_rows_of_the_same_types() -> None:
    frames = [frame.clear().lazy() for frame in drawn(3)]
    none = aggregate(VIEW, STREAM, events_for(VIEW, STREAM, *frames), START, END)
    assert none.is_empty() and none.schema == rows(VIEW, 3).schema


def test_an_event_at_the_stamp_is_not_in_it_and_one_that_left_leaves_zeros() -> None:
    at = START + 6 * HOUR
    interaction = pl.DataFrame(
        {"event_timestamp": [at], "user_id": [1], "item_id": [1]}, schema_overrides={"event_timestamp": TIME}
    )
    impressions, outcomes, _ = drawn(0)
    view = replace(VIEW, counts=("interactions",), rates=(), windows=(6 * HOUR,))
    events = events_for(view, STREAM, impressions.lazy(), outcomes.lazy(), interaction.lazy())
    frame = aggregate(view, STREAM, events, START, END)
    assert frame["event_timestamp"].to_list() == [at + 6 * HOUR, at + 12 * HOUR]
    assert frame["interactions_6h"].to_list() == [1, 0]
    assert (frame["created_timestamp"] - frame["event_timestamp"]).unique().to_list() == [view.delay]
