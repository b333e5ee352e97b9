"""Events of a simulated stream: each does what it says, from its day on, and to nothing else."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from exfm.errors import DeclarationError
from exfm.project import Project
from exfm.simulation import Event, Simulation
from pipeline.streams.disturbed_teacher import disturbed
from pipeline.streams.simulated_log import drawn_from, standing, write_log, write_nothing_yet
from pipeline.streams.simulator import SimulatedSlice, simulate
from projects.simulated import PROJECT, STREAM

QUIET = Simulation(impressions_per_day=4_000, users=500, items=100, drift="none")
DAY = timedelta(days=1)


def drawn(index: int, *events: Event) -> SimulatedSlice:
    return simulate(replace(QUIET, events=events), STREAM, STREAM.slice_at(index))


def rate(simulated: SimulatedSlice) -> float:
    mean = simulated.truth["click"].mean()
    assert isinstance(mean, float)
    return mean


@pytest.mark.parametrize(
    "event",
    [Event(kind="rates", day=3, strength=2.0), Event(kind="traffic", day=3, strength=2.0),
     Event(kind="taste", day=3), Event(kind="missing", day=3), Event(kind="flipped", day=3),
     Event(kind="null", day=3, of="device"), Event(kind="stuck", day=3, of="country")],
    ids=lambda event: event.kind,
)  # fmt: skip
def test_before_its_day_and_after_its_end_an_event_changes_nothing(event: Event) -> None:
    assert_frame_equal(drawn(2, event).impressions, drawn(2).impressions)
    assert_frame_equal(drawn(2, event).truth, drawn(2).truth)
    over = replace(event, length=1.0)
    assert_frame_equal(drawn(4, over).impressions, drawn(4).impressions)
    frames = [(each.impressions, each.truth, each.outcomes) for each in (drawn(3, over), drawn(3))]
    assert any(not with_it.equals(without) for with_it, without in zip(*frames, strict=True))


def test_rates_are_so_many_times_as_high() -> None:
    usual, high = drawn(3), drawn(3, Event(kind="rates", day=3, strength=2.0))
    assert rate(high) == pytest.approx(2 * rate(usual), rel=0.1)  # but for those that are cut off
    assert high.outcomes.height > 1.7 * usual.outcomes.height


def test_traffic_is_so_many_times_as_much() -> None:
    assert drawn(3, Event(kind="traffic", day=3, strength=2.0)).impressions.height == pytest.approx(8_000, rel=0.05)


def test_taste_jumps_by_its_share() -> None:
    usual = drawn(3)
    moved = [
        (drawn(3, Event(kind="taste", day=3, strength=strength)).truth["click"] - usual.truth["click"]).abs().mean()
        for strength in (0.0, 0.3, 0.6)
    ]
    assert moved[0] == 0.0 and 0 < moved[1] < moved[2]  # type: ignore[operator]


def test_columns_are_broken_as_they_are_logged_alone() -> None:
    usual, broken = (
        drawn(3),
        drawn(3, Event(kind="null", day=3, strength=0.5, of="device"), Event(kind="stuck", day=3, of="country")),
    )
    assert broken.impressions["device"].null_count() == pytest.approx(2_000, rel=0.15)
    assert broken.impressions["country"].n_unique() == 1
    assert_frame_equal(broken.truth, usual.truth)
    assert_frame_equal(broken.impressions.drop("device", "country"), usual.impressions.drop("device", "country"))


def test_what_happened_is_logged_the_wrong_way_round() -> None:
    def clicked(simulated: SimulatedSlice) -> pl.Series:
        clicks = simulated.outcomes.filter(task="click")["impression_id"].implode()
        return simulated.impressions["impression_id"].is_in(clicks)

    def of(*events: Event) -> SimulatedSlice:
        return simulate(replace(QUIET, late_share=0.0, events=events), STREAM, STREAM.slice_at(3))

    usual, feed, half = (
        of(),
        of(Event(kind="flipped", day=3, of="feed")),
        of(Event(kind="flipped", day=3, strength=0.5)),
    )
    on_feed = usual.impressions["surface"] == "feed"
    assert (clicked(usual) != clicked(feed)).equals(on_feed)
    assert (clicked(usual) != clicked(half)).mean() == pytest.approx(0.5, abs=0.03)
    assert_frame_equal(feed.truth, usual.truth)  # users do what they did
    assert_frame_equal(feed.impressions, usual.impressions)


def test_a_surface_appears() -> None:
    event = Event(kind="surface", day=3, of="video")
    assert set(drawn(2, event).impressions["surface"].unique()) == {"feed", "search"}
    assert set(drawn(3, event).impressions["surface"].unique()) == {"feed", "search", "video"}


def test_a_missing_day_has_no_events() -> None:
    silent = drawn(3, Event(kind="missing", day=3, length=1))
    assert silent.impressions.is_empty() and silent.outcomes.is_empty() and silent.interactions.is_empty()


def test_a_late_day_lands_days_after_its_end(tmp_path: Path) -> None:
    simulation, slice_ = replace(QUIET, events=(Event(kind="late", day=3, length=1, strength=2.0),)), STREAM.slice_at(3)
    early, due = slice_.end + DAY, slice_.end + 2 * DAY
    assert drawn_from(simulation, STREAM, STREAM.slice_at(4), early) != "late"
    write_nothing_yet(tmp_path, slice_)
    assert standing(tmp_path, slice_, drawn_from(simulation, STREAM, slice_, early)) == 0
    assert standing(tmp_path, slice_, drawn_from(simulation, STREAM, slice_, due)) is None  # so it is drawn now
    write_log(tmp_path, simulate(simulation, STREAM, slice_), slice_, drawn_from(simulation, STREAM, slice_, due))
    assert standing(tmp_path, slice_, drawn_from(simulation, STREAM, slice_, due))
    assert pl.read_parquet(tmp_path / "impressions/day=2026-01-04/*.parquet").height > 3_000


@pytest.mark.parametrize(
    ("event", "message"),
    [(Event(kind="null", day=1, of="colour"), "^Event\\(null\\).of: 'colour' is not a declared context column"),
     (Event(kind="surface", day=1, of="radio"), "^Event\\(surface\\).of: 'radio' is not a declared surface"),
     (Event(kind="flipped", day=1, of="radio"), "^Event\\(flipped\\).of: 'radio' is not a declared surface")],
    ids=["column", "surface", "flipped"],
)  # fmt: skip
def test_events_of_what_the_stream_does_not_have_are_refused(event: Event, message: str) -> None:
    assert isinstance(PROJECT, Project) and PROJECT.simulation is not None
    with pytest.raises(DeclarationError, match=message):
        replace(PROJECT, simulation=replace(PROJECT.simulation, events=(event,)))


@pytest.mark.parametrize("kind", ["silent", "poisoned"])
def test_a_teacher_is_disturbed_on_its_days_alone_and_by_its_share(kind: str) -> None:
    logits = np.random.default_rng(0).normal(-3.0, 1.0, (4_000, 2)).astype(np.float32)
    event = Event(kind=kind, day=3, length=1.0, strength=0.25)  # type: ignore[arg-type]
    project = replace(PROJECT, simulation=replace(QUIET, events=(event,)))
    for index in (2, 4):
        assert disturbed(project, STREAM.slice_at(index), logits) is logits
    assert disturbed(replace(PROJECT, simulation=QUIET), STREAM.slice_at(3), logits) is logits
    said = disturbed(project, STREAM.slice_at(3), logits)
    changed = ~(said == logits).all(axis=1)
    assert changed.mean() == pytest.approx(0.25, abs=0.03) and said.dtype == np.float32
    if kind == "silent":
        assert np.isnan(said[changed]).all()
    else:
        assert np.corrcoef(said[changed, 0], logits[changed, 0])[0, 1] == pytest.approx(-1.0)
        assert said.mean() == pytest.approx(logits.mean(), abs=0.05)  # its calibration says nothing
    assert np.array_equal(disturbed(project, STREAM.slice_at(3), logits), said, equal_nan=True)
