"""A live world: all that is shown is in the log once, by when it happened, whoever chose it and whatever befalls it."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from exfm.project import Project
from exfm.simulation import Event
from pipeline.live.choosing import Choice, Server
from pipeline.live.live_world import NOBODY, LiveWorld, add_events, read_traffic, student_of
from pipeline.live.visits import HOLDOUT, SHOWN, Visitors, holdout
from pipeline.streams.contract import schema_of
from pipeline.streams.world import ITEMS
from tests.live.worlds import FIRST, SECOND, Clock, live_project, world

MINUTE = timedelta(minutes=1)


class Answers(Server):
    """A server that puts the items with the highest ids first, or refuses."""

    def __init__(self, refuses: bool = False) -> None:
        super().__init__("nowhere", 0)
        self.refuses, self.asked = refuses, list[tuple[str, dict[str, Any]]]()
        self._random = np.random.default_rng(1)

    def choose(self, student: str, body: dict[str, Any]) -> Choice | None:
        self.asked.append((student, body))
        if self.refuses:
            self.unanswered["it refuses"] += 1
            return None
        items = np.sort(np.array(body["candidates"]))[::-1][:SHOWN]
        return Choice(student, items, self._random.integers(0, 2**63, len(items)))


def lived(of: LiveWorld, clock: Clock, until: datetime) -> None:
    of.run(cast(Any, clock.waits(until)))


def logged(of: LiveWorld, table: str) -> pl.DataFrame:
    files = sorted((of.state.log / table).rglob("*.parquet"))
    return pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files])


def test_what_was_shown_is_in_the_log_once_and_outcomes_are_there_by_the_end_of_their_slice(tmp_path: Path) -> None:
    clock = Clock(FIRST)
    of = world(tmp_path, clock)
    lived(of, clock, FIRST + 4 * MINUTE + 30 * SECOND)
    stream = of.project.stream
    shown, outcomes = logged(of, "impressions"), logged(of, "outcomes")
    assert shown.schema == schema_of(stream, "impressions") and outcomes.schema == schema_of(stream, "outcomes")
    assert (
        shown["impression_id"].n_unique()
        == shown.height
        == sum(told["impressions"] for told in read_traffic(of.state.folder, 9))
    )
    assert shown.height == pytest.approx(400 * 4.5, rel=0.15)
    joined = outcomes.join(shown, on="impression_id")
    assert joined.height == outcomes.height
    after = (joined["outcome_timestamp"] - joined["event_timestamp"]).dt.total_microseconds() / 1e6
    assert after.min() > 0 and after.max() <= stream.tasks[0].window.total_seconds()  # type: ignore[operator]
    for file in (of.state.log / "outcomes").rglob("*.parquet"):
        minute = datetime.strptime(file.name[:15], "%Y-%m-%d-%H%M").replace(tzinfo=FIRST.tzinfo)
        times = pl.read_parquet(file, hive_partitioning=False)["outcome_timestamp"]
        assert minute <= times.min() and times.max() < minute + MINUTE  # type: ignore[operator]
    truth = shown.join(logged(of, "truth"), on="impression_id")
    clicked = truth.join(outcomes.select("impression_id", came=pl.lit(1)), on="impression_id", how="left")
    assert clicked["came"].fill_null(0).mean() == pytest.approx(clicked["click"].mean(), rel=0.2)


def test_whom_a_student_answers_sees_what_it_chose_and_the_holdout_does_not(tmp_path: Path) -> None:
    clock, server = Clock(FIRST), Answers()
    of = world(tmp_path, clock, server)
    lived(of, clock, FIRST + 2 * MINUTE)
    shown = logged(of, "impressions")
    asked_for = {body["user"] for _, body in server.asked}
    assert not any(holdout(user) for user in asked_for)
    users = set(shown["user_id"])
    assert users == asked_for | {user for user in users if holdout(user)}
    best = [sorted(body["candidates"])[-SHOWN:] for _, body in server.asked]
    assert Counter(item for items in best for item in items) <= Counter(shown["item_id"].to_list())
    assert {student for student, _ in server.asked} == {"feed_click", "video_click"}
    assert set(server.asked[0][1]["context"]) == {"device", "country"}
    (first, *_), surfaces = read_traffic(of.state.folder, 9), of.project.stream.surfaces
    for surface in surfaces:
        student = student_of(of.project, surface)
        assert student is not None and set(first["surfaces"][surface]) == {student.name, NOBODY}


def test_where_nobody_answers_popularity_chooses_and_why_is_counted(tmp_path: Path) -> None:
    clock, server = Clock(FIRST), Answers(refuses=True)
    of = world(tmp_path, clock, server)
    lived(of, clock, FIRST + MINUTE + SECOND)
    first = read_traffic(of.state.folder, 9)[0]
    assert first["unanswered"] == {"it refuses": pytest.approx(len(server.asked), abs=4)}
    assert all(set(by) == {NOBODY} for by in first["surfaces"].values())
    assert logged(of, "impressions").height > 300


def test_what_is_over_when_a_world_begins_lies_in_its_slices_and_nobody_was_asked(tmp_path: Path) -> None:
    clock, server = Clock(FIRST + 3 * MINUTE), Answers()
    of = world(tmp_path, clock, server)
    of.live_through([of.project.stream.slice_at(index) for index in range(3)])
    lived(of, clock, FIRST + 4 * MINUTE)
    by_minute = logged(of, "impressions").group_by(pl.col("event_timestamp").dt.truncate("1m")).len()
    assert by_minute.height == 4 and by_minute["len"].max() < 1.3 * by_minute["len"].min()  # type: ignore[operator]
    assert 0 < len(server.asked) < by_minute["len"].max() / SHOWN  # type: ignore[operator]


def test_a_world_that_was_held_up_asks_nobody_for_what_is_over_and_misses_no_slice(tmp_path: Path) -> None:
    clock, server = Clock(FIRST + 20 * SECOND, step=150 * SECOND), Answers()
    of = world(tmp_path, clock, server)
    lived(of, clock, FIRST + 7 * MINUTE)
    told = read_traffic(of.state.folder, 9)
    assert [each["slice"][-5:] for each in told] == [f"12:0{minute}" for minute in range(len(told))]
    shown = logged(of, "impressions")
    by_minute = shown.group_by(pl.col("event_timestamp").dt.truncate("1m")).len()
    assert by_minute.height == len(told) and by_minute["len"].min() > 100  # type: ignore[operator]
    assert len(server.asked) < shown.height / SHOWN / 4


def test_a_later_process_replaces_no_file_of_an_earlier_one(tmp_path: Path) -> None:
    first_clock = Clock(FIRST)
    first = world(tmp_path, first_clock)
    lived(first, first_clock, FIRST + 20 * SECOND)
    before = logged(first, "impressions").height
    second_clock = Clock(FIRST + 30 * SECOND)
    second = world(tmp_path, second_clock)
    lived(second, second_clock, FIRST + 2 * MINUTE)
    shown = logged(second, "impressions")
    assert before > 50 and shown.height > before + 300
    at = shown["event_timestamp"].dt.epoch("s") - int(FIRST.timestamp())
    assert not at.is_between(21, 29).any()


def test_outcomes_to_come_are_kept_over_an_end(tmp_path: Path) -> None:
    clock = Clock(FIRST)
    first = world(tmp_path, clock)
    lived(first, clock, FIRST + 30 * SECOND)
    shown = logged(first, "impressions")
    second_clock = Clock(FIRST + 2 * MINUTE)
    second = world(tmp_path, second_clock)
    lived(second, second_clock, FIRST + 3 * MINUTE + SECOND)
    outcomes = logged(second, "outcomes").join(shown, on="impression_id")
    truth = logged(first, "truth").join(shown, on="impression_id")["click"]
    assert outcomes.height == pytest.approx(truth.sum(), rel=0.3)
    late = outcomes.filter(pl.col("outcome_timestamp") > FIRST + 31 * SECOND)
    assert late.height > 0 and late["outcome_timestamp"].max() < FIRST + MINUTE  # type: ignore[operator]


def test_what_is_added_befalls_a_world_that_runs(tmp_path: Path) -> None:
    clock = Clock(FIRST)
    of = world(tmp_path, clock)
    minute_in_days = 1 / 1440
    of.on_slice = lambda slice_, _: (
        add_events(of.state, [Event(kind="rates", day=3 * minute_in_days, strength=3.0, of="feed")])
        if slice_.index == 1
        else None
    )
    lived(of, clock, FIRST + 6 * MINUTE)
    truth = logged(of, "truth").join(logged(of, "impressions"), on="impression_id")
    late = truth.with_columns(late=pl.col("event_timestamp") >= FIRST + 3 * MINUTE)
    rates = {
        (surface, is_late): rate
        for surface, is_late, rate in late.group_by("surface", "late").agg(pl.col("click").mean()).iter_rows()
    }
    assert rates["feed", True] > 2 * rates["feed", False]
    assert rates["video", True] == pytest.approx(rates["video", False], rel=0.25)


def test_clicks_are_logged_the_wrong_way_round_and_counted_as_they_are(tmp_path: Path) -> None:
    clock = Clock(FIRST)
    of = world(tmp_path, clock)
    add_events(of.state, [Event(kind="flipped", day=0, of="feed")])
    lived(of, clock, FIRST + 3 * MINUTE)
    shown = logged(of, "impressions").filter(pl.col("event_timestamp") < FIRST + 2 * MINUTE)
    rates = {}
    for surface in ("feed", "video"):
        ids = shown.filter(surface=surface).select("impression_id")
        truth = ids.join(logged(of, "truth"), on="impression_id")["click"].mean()
        rates[surface] = (ids.join(logged(of, "outcomes"), on="impression_id", how="semi").height / ids.height, truth)
    assert rates["feed"][0] == pytest.approx(1 - rates["feed"][1], rel=0.1)
    assert rates["video"][0] == pytest.approx(rates["video"][1], rel=0.2)
    by = read_traffic(of.state.folder, 9)[0]["surfaces"]["feed"][NOBODY]
    assert by["clicks"] / by["impressions"] == pytest.approx(rates["feed"][1], rel=0.2)


def test_popularity_turns_over() -> None:
    before = Visitors(live_project(), np.random.default_rng(0)).world
    project = live_project()
    assert project.simulation is not None
    events = (Event(kind="popularity", day=0.01),)
    after = Visitors(
        replace(project, simulation=replace(project.simulation, events=events)), np.random.default_rng(0)
    ).world
    items, later = np.arange(60), FIRST + timedelta(days=0.02)
    assert np.array_equal(before.appeal(items, FIRST), after.appeal(items, FIRST))
    turned = np.corrcoef(np.log(before.appeal(items, later)), np.log(after.appeal(items, later)))[0, 1]
    assert abs(turned) < 0.4
    assert np.array_equal(before.intercepts, after.intercepts)


def test_the_holdout_is_a_tenth_of_users_and_candidates_are_distinct() -> None:
    project: Project = live_project()
    assert np.mean([holdout(user) for user in range(20_000)]) == pytest.approx(HOLDOUT, abs=0.01)
    visitors = Visitors(project, np.random.default_rng(0))
    visits = list(visitors.between(FIRST, FIRST + MINUTE, 400 * 1440))
    assert visits == sorted(visits, key=lambda visit: visit.at)
    for visit in visits:
        assert len(set(visit.candidates.tolist())) == len(visit.candidates) >= SHOWN
        assert visit.candidates.max() < visitors.world.alive(ITEMS, FIRST)
