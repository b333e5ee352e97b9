"""The simulator: the same bytes again, slices that don't need each other, rates, drift, and rows that break rules."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from exfm.simulation import Simulation
from pipeline.streams.reader import read_log
from pipeline.streams.simulated_log import write_log
from pipeline.streams.simulator import SimulatedSlice, simulate, world_of
from pipeline.streams.world import World
from pipeline.transforms.labels import join_labels, part_orphans
from projects.simulated import STREAM

SMALL = Simulation(impressions_per_day=20_000, users=2_000, items=300, new_users_per_day=100, new_items_per_day=40)


def drawn(index: int = 3, simulation: Simulation = SMALL) -> SimulatedSlice:
    return simulate(simulation, STREAM, STREAM.slice_at(index))


def test_a_slice_is_a_function_of_seed_and_slice_alone() -> None:
    first = drawn(3)
    world_of.cache_clear()
    drawn(0)
    again = drawn(3)
    for table in ("impressions", "outcomes", "interactions", "truth"):
        assert getattr(first, table).equals(getattr(again, table))
    assert not drawn(3, replace(SMALL, seed=8)).impressions.equals(first.impressions)


def test_writing_again_changes_no_byte(tmp_path: Path) -> None:
    write_log(tmp_path, drawn(), STREAM.slice_at(3))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write_log(tmp_path, drawn(), STREAM.slice_at(3))
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_rates_are_as_declared_and_outcomes_follow_the_truth(tmp_path: Path) -> None:
    slice_, simulated = STREAM.slice_at(3), drawn()
    write_log(tmp_path, simulated, slice_)
    outcomes = read_log(tmp_path, STREAM, "outcomes", slice_.start, slice_.end + 2 * STREAM.longest_window).frame
    joined = join_labels(simulated.impressions, outcomes, STREAM, slice_.end + 2 * STREAM.longest_window)
    rates = World(SMALL, STREAM).rates()
    assert rates.max() == pytest.approx(0.30, abs=0.01) and rates.min() == pytest.approx(0.03, abs=0.005)
    for row, surface in enumerate(STREAM.surfaces):
        here = simulated.impressions["surface"] == surface
        for column, task in enumerate(STREAM.task_names):
            truth, labels = simulated.truth[task].filter(here), joined.frame[task].filter(here)
            assert truth.mean() == pytest.approx(rates[row, column], rel=0.15)
            noise = np.sqrt((truth * (1 - truth)).sum()) / here.sum()
            assert abs(labels.mean() - truth.mean()) < 4 * noise


def test_late_repeated_and_orphaned_outcomes_are_there_in_their_shares(tmp_path: Path) -> None:
    slice_, often = STREAM.slice_at(3), replace(SMALL, late_share=0.1, duplicate_share=0.2, orphan_share=0.05)
    simulated = drawn(3, often)
    joined = join_labels(simulated.impressions, simulated.outcomes, STREAM, slice_.end + 3 * STREAM.longest_window)
    hits = sum(joined.frame[task].sum() for task in STREAM.task_names)
    assert joined.late == pytest.approx(0.1 * hits, rel=0.02)
    # A repeated outcome may fall past its window, and then is late instead.
    assert joined.duplicates == pytest.approx(0.2 * hits, rel=0.05)
    is_known = simulated.outcomes["impression_id"].is_in(simulated.impressions["impression_id"].implode())
    assert part_orphans(simulated.outcomes, is_known)[1].height == pytest.approx(0.05 * hits, rel=0.02)


def moved(simulation: Simulation, day: float) -> float:
    """Mean distance of true affinity between the stream's start and a day, for the same users and items."""
    world, ids = World(simulation, STREAM), np.arange(300)
    surfaces = np.zeros(300, dtype=np.int64)
    at = [world.affinity(ids, ids, surfaces, np.full(300, moment)) for moment in (0.0, day)]
    return float(np.abs(at[1] - at[0]).mean())


def test_drift_can_be_switched() -> None:
    none, gradual = replace(SMALL, drift="none"), replace(SMALL, drift="gradual")
    sudden = replace(SMALL, drift="sudden", drift_day=7.0)
    assert moved(none, 13.0) == 0.0
    assert 0.0 < moved(gradual, 3.0) < moved(gradual, 7.0)
    assert moved(sudden, 6.9) == 0.0 < moved(sudden, 7.0) == moved(sudden, 13.0)


def test_new_users_and_items_keep_coming_and_old_items_fade() -> None:
    first, last = drawn(0), drawn(13)
    assert last.impressions["user_id"].max() > SMALL.users > first.impressions["user_id"].max()
    lasting = drawn(13, replace(SMALL, half_life_days=1_000.0))
    fading, staying = ((s.impressions["item_id"] >= SMALL.items).mean() for s in (last, lasting))
    assert isinstance(fading, float) and isinstance(staying, float)
    assert fading > 0.5 and fading > staying + 0.1
    assert first.impressions["impression_id"].max() < last.impressions["impression_id"].min()
    assert pl.concat([first.truth, last.truth])["impression_id"].is_unique().all()
