"""Histories against a brute-force walk over events: half-open windows, late outcomes, ties, exits."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from exfm.errors import DeclarationError
from exfm.history_views import HistoryView
from pipeline.transforms.histories import histories, history_needed_since
from pipeline.transforms.view_rows import events_for
from projects.simulated import STREAM

HOUR = timedelta(hours=1)
UTC = pl.Datetime("us", "UTC")
START = STREAM.first_slice


def view(**changes: Any) -> HistoryView:
    fields: dict[str, Any] = {
        "name": "past", "entity": "user_id", "of": "item_id", "source": "interactions", "length": 3,
        "window": 12 * HOUR, "every": HOUR,
    }  # fmt: skip
    return HistoryView(**{**fields, **changes})


def world(seed: int) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """A day and a half of impressions, outcomes (some late, some twice) and interactions of a few users."""
    draw = random.Random(seed)

    def moment() -> Any:
        # Often exactly on an hour, where an event is not in the list stamped then.
        return START + timedelta(minutes=draw.choice([draw.randrange(36 * 60), 60 * draw.randrange(36)]))

    shown = [(n, moment(), draw.choice([1, 2, 3, None]), draw.randrange(5)) for n in range(60)]
    done = [
        (n, "click", at + timedelta(minutes=draw.choice([0, 5, 30, 31, 90])))
        for n, at, _, _ in shown
        for _ in range(draw.choice([0, 1, 2]))
    ]
    met = [(moment(), draw.choice([1, 2, 3, 4]), draw.choice([0, 1, 2, 3, None])) for _ in range(80)]
    return (
        pl.DataFrame(shown, ["impression_id", "event_timestamp", "user_id", "item_id"], orient="row")
        .cast({"event_timestamp": UTC}),
        pl.DataFrame(done, ["impression_id", "task", "outcome_timestamp"], orient="row")
        .cast({"outcome_timestamp": UTC}),
        pl.DataFrame(met, ["event_timestamp", "user_id", "item_id"], orient="row").cast({"event_timestamp": UTC}),
    )  # fmt: skip


def events_of(declared: HistoryView, frames: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]) -> list[tuple[Any, ...]]:
    """(user, when it counts, item) of each listed event, by hand."""
    shown, done, met = frames
    if declared.source == "interactions":
        return [(row["user_id"], row["event_timestamp"], row["item_id"]) for row in met.iter_rows(named=True)]
    if declared.source == "impressions":
        return [(row["user_id"], row["event_timestamp"], row["item_id"]) for row in shown.iter_rows(named=True)]
    by_id = {row["impression_id"]: row for row in shown.iter_rows(named=True)}
    first: dict[int, Any] = {}
    for row in done.iter_rows(named=True):
        age = row["outcome_timestamp"] - by_id[row["impression_id"]]["event_timestamp"]
        if timedelta(0) <= age <= STREAM.task("click").window:
            known = first.get(row["impression_id"], row["outcome_timestamp"])
            first[row["impression_id"]] = min(known, row["outcome_timestamp"])
    return [(by_id[n]["user_id"], at, by_id[n]["item_id"]) for n, at in first.items()]


def made(declared: HistoryView, frames: Sequence[pl.DataFrame], start: datetime, end: datetime) -> pl.DataFrame:
    impressions, outcomes, interactions = (frame.lazy() for frame in frames)
    events = events_for(declared, STREAM, impressions, outcomes, interactions)
    return histories(declared, STREAM, events, start, end)


SHELVES = {0: "a", 1: "b", 2: None, 3: "a", 4: "c"}  # what is listed beside an item, by the item


def with_shelves(frames: tuple[pl.DataFrame, ...]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    shown, done, met = frames
    shelves = pl.col("item_id").replace_strict(SHELVES, default=None, return_dtype=pl.String).alias("surface")
    return shown.with_columns(shelves), done, met


def beside(
    declared: HistoryView, frames: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame], user: int, stamp: Any
) -> list[tuple[Any, ...]]:
    """(item, shelf, action, at) of each listed event, newest last, ties by what is listed of them."""
    listed = []
    for source in declared.sources:
        for who, at, item in events_of(replace(declared, source=source), frames):
            if who == user and item is not None and stamp - declared.window <= at < stamp:
                listed.append((at, item, SHELVES[item], source))
    listed.sort(key=lambda event: (event[0], event[1], event[2] or "", event[3]))
    return [(item, shelf, source, int(at.timestamp())) for at, item, shelf, source in listed][-declared.length :]


@pytest.mark.parametrize("seed", range(4))
def test_what_stands_beside_an_id_is_of_the_same_event(seed: int) -> None:
    declared = view(source=("click", "impressions"), beside=("surface",), since=True)
    frames = with_shelves(world(seed))
    result = made(declared, frames, START, START + 60 * HOUR)
    assert declared.features == ("last", "surface", "action", "at") == tuple(result.columns[3:])
    assert result["at"].dtype == pl.List(pl.Int64) and result.height > 50
    for row in result.iter_rows(named=True):
        listed = list(zip(*(row[name] for name in declared.features), strict=True))
        assert listed == beside(declared, frames, row["user_id"], row["event_timestamp"]), row
    both = {action for actions in result["action"] for action in actions}
    assert both == {"click", "impressions"}


def brute(declared: HistoryView, events: list[tuple[Any, ...]], user: int, stamp: Any) -> list[int]:
    mine = [(at, item) for who, at, item in events if who == user and item is not None]
    inside = sorted((at, item) for at, item in mine if stamp - declared.window <= at < stamp)
    return [item for _, item in inside][-declared.length :]


@pytest.mark.parametrize("source", ["interactions", "impressions", "click"])
@pytest.mark.parametrize("seed", range(4))
def test_at_every_stamp_the_newest_row_is_the_brute_force_list(source: str, seed: int) -> None:
    declared, frames = view(source=source), world(seed)
    events = events_of(declared, frames)
    end = START + 60 * HOUR
    result = made(declared, frames, START, end)
    assert result.schema["last"] == pl.List(pl.Int64)
    assert result.select("user_id", "event_timestamp").is_duplicated().sum() == 0
    rows = {(row["user_id"], row["event_timestamp"]): row["last"] for row in result.iter_rows(named=True)}
    for user in (1, 2, 3, 4):
        known: list[int] = []
        for hour in range(1, 61):
            stamp = START + hour * HOUR
            known = rows.get((user, stamp), known)
            assert known == brute(declared, events, user, stamp), (user, stamp)
        assert known == []  # all has left, and a row said so


def test_a_range_is_its_slices_one_by_one_from_what_they_need() -> None:
    declared, frames = view(source="click", length=2), world(9)
    slices = [(START + n * 6 * HOUR, START + (n + 1) * 6 * HOUR) for n in range(8)]
    whole = made(declared, frames, START, slices[-1][1])
    parts = []
    for start, end in slices:
        since = history_needed_since(declared, STREAM, start)
        shown, done, met = frames
        needed = (
            shown.filter(pl.col("event_timestamp").is_between(since, end, closed="left")),
            done.filter(pl.col("outcome_timestamp").is_between(since, end, closed="left")),
            met.filter(pl.col("event_timestamp").is_between(since, end, closed="left")),
        )
        parts.append(made(declared, needed, start, end))
    assert pl.concat(parts).equals(whole)


def test_no_events_are_no_rows() -> None:
    frames = [frame.clear() for frame in world(0)]
    result = made(view(), frames, START, START + 24 * HOUR)
    assert result.height == 0
    assert result.schema["last"] == pl.List(pl.Int64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"of": "user_id"}, "is its own history"),
        ({"window": 90 * timedelta(minutes=1)}, "not a multiple of every"),
        ({"length": 0}, "HistoryView\\(past\\).length"),
        ({"of": "nothing"}, "column of the log"),
        ({"source": "buy"}, "HistoryView\\(past\\).source"),
        ({"of": "device"}, "use 'impressions' or a task"),
        ({"source": ()}, "declares no source"),
        ({"source": ("click", "click")}, "declared twice"),
        ({"source": ("click", "buy")}, "HistoryView\\(past\\).source"),
        ({"beside": ("item_id",), "source": "click"}, "is its entity or what it lists"),
        ({"beside": ("nothing",), "source": "click"}, "HistoryView\\(past\\).beside"),
        ({"beside": ("device",)}, "use 'impressions' or a task"),
        ({"every": 7 * HOUR, "window": 14 * HOUR}, "does not divide the slice length"),
    ],
)
def test_a_history_that_does_not_fit_is_refused_in_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        view(**changes).check(STREAM)
