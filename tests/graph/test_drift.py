"""Drift: profiles against brute force, tests on made sequences, and what an alarm asks for until it is handled."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from exfm.project import Drift
from pipeline.drift.detection import first_change, spread
from pipeline.drift.findings import Finding, Judged, mended, of_inputs, of_judged, of_rows
from pipeline.drift.profile import (
    ITEMS,
    ROWS,
    SCHEMA,
    USERS,
    _number_bins,
    added,
    of_surface,
    profiles,
    psi,
    psi_and_chance,
)
from pipeline.drift.report import drift_rows, drift_table, drifted, stored_drift
from pipeline.evaluation.slice_metrics import prediction_histogram
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.tiny import tiny_workspace

LIMITS = Drift()


@pytest.fixture
def work(ran: Ran, tmp_path: Path) -> Workspace:
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    return tiny_workspace(tmp_path)


# Profiles.


def test_a_profile_counts_each_value_of_each_column(work: Workspace) -> None:
    slice_ = work.project.stream.slice_at(2)
    made = profiles(work, [slice_])[2]
    frame = work.table("logged_inputs").read([slice_])
    for surface in work.project.stream.surfaces:
        counts = of_surface(made, surface)
        mine = frame.filter(pl.col("surface") == surface)
        assert counts[ROWS] == {"": mine.height}
        for name in frame.columns[2:]:
            assert sum(counts[name].values()) == mine.height, name
        column = "user_activity__impressions_7d"
        if column in frame.columns:
            expected: dict[str, int] = {}
            for value in mine[column]:
                name = "null" if value is None else "0" if value == 0 else str(int(np.floor(2 * np.log2(value))) + 41)
                expected[name] = expected.get(name, 0) + 1
            assert counts[column] == expected
    users = [set(work.table("impressions").read([work.project.stream.slice_at(i)])["user_id"]) for i in (0, 1, 2)]
    new = frame.height - sum(
        user in users[0] | users[1] for user in work.table("impressions").read([slice_])["user_id"]
    )
    assert of_surface(made, None)["new user_id"].get("new", 0) == new
    whole = of_surface(made, None)
    assert whole[ITEMS][""] >= 1 and 1 <= whole[USERS][""] <= len(work.project.stream.surfaces) * len(users[2])


def test_an_empty_slice_has_an_empty_profile(work: Workspace) -> None:
    slice_ = work.project.stream.slice_at(2)
    for name in ("logged_inputs", "impressions"):
        table = work.table(name)
        table.write(slice_, table.read([slice_]).head(0))
    made = profiles(work, [slice_])[2]
    assert made.is_empty() and dict(made.schema) == SCHEMA


def test_numbers_that_are_none_have_bins_of_their_own() -> None:
    values = pl.Series([None, float("nan"), 0.0, 1.0, -1.0, 1.5, float("inf"), float("-inf"), 1e-30])
    assert _number_bins(values).to_list() == ["null", "nan", "0", "41", "-41", "42", "81", "-81", "1"]


def test_a_profile_is_made_once_and_again_when_its_slice_changes(
    work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = [work.project.stream.slice_at(index) for index in range(3)]
    first = profiles(work, slices)
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.drift.profile.profile_of", lambda *_: pytest.fail("it is there"))
        again = profiles(work, slices)
    assert all(first[index].equals(again[index]) for index in range(3))
    table = work.table("logged_inputs")
    sidecar = table.sidecar(slices[1])
    assert sidecar is not None
    table.write(slices[1], table.read([slices[1]]).with_columns(surface=pl.lit("feed")), sidecar.made_of)
    assert not profiles(work, slices)[1].equals(first[1])


def test_psi_is_nothing_for_samples_of_one_distribution_and_large_for_a_shift() -> None:
    generator, values = np.random.default_rng(0), []
    for _ in range(200):
        samples = [np.unique(generator.integers(0, 20, 500), return_counts=True) for _ in range(2)]
        counts = [{str(name): int(count) for name, count in zip(*sample, strict=True)} for sample in samples]
        values.append(psi(counts[0], counts[1], (500, 500)))
    assert np.quantile(values, 0.99) < 0.1
    assert psi({"a": 500, "b": 500}, {"a": 900, "b": 100}, (1000, 1000)) == pytest.approx(0.88, abs=0.05)
    assert psi({"null": 1000}, {"a": 900, "b": 100}, (1000, 1000)) > 5
    assert psi({}, {"a": 1}, (1, 1)) == psi({"a": 5}, {"a": 7}, (5, 7)) == 0.0
    assert added([{"a": 1}, {"a": 2, "b": 3}]) == {"a": 3, "b": 3}


def test_chance_exceeds_its_bound_about_once_in_ten_thousand() -> None:
    """Also of few values, where PSI alone would be above any fixed limit again and again."""
    generator, beyond, large = np.random.default_rng(1), 0, 0
    for _ in range(4_000):
        samples = [np.bincount(generator.choice(6, 60, p=[0.3, 0.25, 0.2, 0.1, 0.1, 0.05]), minlength=6) for _ in "ab"]
        counts = [{str(name): int(count) for name, count in enumerate(sample)} for sample in samples]
        value, chance = psi_and_chance(counts[0], counts[1], (60, 60))
        beyond, large = beyond + (value > chance), large + (value > LIMITS.psi)
    assert beyond <= 4 and large > 40
    value, chance = psi_and_chance({"a": 60}, {"b": 60}, (60, 60))
    assert value > 5 * chance  # what turned over is seen all the same


# Sequences.


def noisy(count: int, seed: int, shift: float = 0.0, at: int = 0, sd: float = 1.0) -> list[float]:
    values = sd * np.random.default_rng(seed).normal(size=count)
    values[at:] += shift if at else 0.0
    return list(10 + values)


def test_of_a_hundred_slices_that_only_vary_hardly_any_is_an_alarm() -> None:
    alarms = [first_change(noisy(100, seed), [0.5] * 100, up=True, threshold=6.0) for seed in range(60)]
    assert sum(alarm is not None for alarm in alarms) <= 12  # 6,000 slices


@pytest.mark.parametrize(("shift", "within"), [(2.0, 9), (4.0, 5), (30.0, 3)])
@pytest.mark.parametrize("up", [True, False])
def test_a_shift_is_seen_within_some_slices_and_the_smaller_the_later(shift: float, within: int, up: bool) -> None:
    sign = 1 if up else -1
    seen = [
        first_change([sign * v for v in noisy(40, seed, shift, at=20)], [0.5] * 40, up=up, threshold=6.0)
        for seed in range(20)
    ]
    late = [at - 19 if at is not None and at >= 20 else 99 for at in seen]
    assert np.median(late) <= within


def test_one_odd_slice_is_no_change() -> None:
    values = noisy(40, 1)
    values[20] += 50
    assert first_change(values[:22], [0.5] * 22, up=True, threshold=6.0) is None


def test_the_spread_is_not_below_what_the_size_of_a_slice_makes() -> None:
    assert spread([1.0] * 20, [0.3] * 20) == 0.3
    assert spread(noisy(500, 2, sd=2.0), [0.1] * 500) == pytest.approx(2.0, rel=0.2)
    assert spread([1.0, 2.0], [0.3, 0.3]) == 0.6  # too few to tell


# Findings.


def judged(values: list[float], learnt: list[int] | None = None, **more: Any) -> list[Judged]:
    lag = learnt or [index - 2 for index in range(len(values))]
    return [
        Judged(index, learnt=lag[index], positives=400, ne=value, calibration=1.0, **more)
        for index, value in enumerate(values)
    ]


def jump(before: float, after: float, at: int, count: int) -> list[float]:
    generator = np.random.default_rng(4)
    return [float((after if index >= at else before) + 0.005 * generator.normal()) for index in range(count)]


def test_drift_once_acts_until_what_serves_has_learnt_from_it() -> None:
    values = jump(0.90, 1.05, at=12, count=16)
    stale = [min(index - 2, 10) for index in range(16)]
    found = [finding for finding in of_judged(judged(values, stale), LIMITS, released=10) if finding.acts]
    assert found and {finding.measure for finding in found} == {"ne"} and found[0].index in (12, 13, 14)
    handled = list(of_judged(judged(values, stale), LIMITS, released=15))
    assert handled and not [finding for finding in handled if finding.acts]


def test_drift_that_training_does_not_mend_is_said_once_and_left_alone() -> None:
    values = jump(0.90, 1.05, at=12, count=40)
    learnt = [min(index - 2, 10) if index < 16 else index - 2 for index in range(40)]
    found = [finding for finding in of_judged(judged(values, learnt), LIMITS, released=37) if finding.measure == "ne"]
    sequential = [finding for finding in found if "Page-Hinkley" in finding.reason]
    assert len(sequential) == 1 and not any(finding.acts for finding in found)
    assert mended(judged(values, learnt), sequential[0], LIMITS).startswith("not mended by training on it: NE 1.04")
    values = jump(0.90, 1.05, at=12, count=16) + jump(0.90, 0.90, at=0, count=24)
    assert mended(judged(values, learnt), sequential[0], LIMITS).startswith("mended")


def test_drift_twice_in_a_row_is_found_twice() -> None:
    values = [*jump(0.90, 1.0, at=12, count=16), *jump(0.92, 0.92, at=0, count=12), *jump(1.05, 1.05, at=0, count=4)]
    learnt = [min(i - 2, 10) if i < 16 else min(i - 2, 25) for i in range(len(values))]
    found = [f for f in of_judged(judged(values, learnt), LIMITS, released=25) if "Page-Hinkley" in f.reason]
    assert len(found) == 2
    assert [finding.acts for finding in found] == [False, True]


@pytest.mark.parametrize(("calibration", "measure"), [(1.6, "calibration"), (0.5, "calibration"), (1.1, None)])
def test_calibration_outside_its_band_acts(calibration: float, measure: str | None) -> None:
    values = [replace(each, calibration=1.0 if each.index < 10 else calibration) for each in judged([0.9] * 16)]
    stale = [replace(each, learnt=min(each.learnt, 5)) for each in values]
    found = {finding.measure for finding in of_judged(stale, LIMITS, released=5) if finding.acts}
    assert found == ({measure} if measure else set())


def test_calibration_that_comes_closer_to_1_is_no_drift() -> None:
    values = [replace(each, calibration=1.5 if each.index < 10 else 1.02) for each in judged([0.9] * 30)]
    stale = [replace(each, learnt=min(each.learnt, 5)) for each in values]
    found = [finding for finding in of_judged(stale, LIMITS, released=29) if "Page-Hinkley" in finding.reason]
    assert found == []


def test_a_teacher_that_loses_its_lead_and_students_that_part_from_it_are_found() -> None:
    generator = np.random.default_rng(1)
    values = [
        replace(
            each, positives=10_000, lead=(0.05 if each.index < 14 else 0.01) + 0.002 * float(generator.normal()),
            disagreement=(0.1 if each.index < 14 else 0.4) + 0.002 * float(generator.normal()),
        )
        for each in judged([0.9] * 20)
    ]  # fmt: skip
    found = {finding.measure for finding in of_judged(values, LIMITS, released=5) if finding.acts}
    assert {"lead", "disagreement"} <= found


def test_predictions_that_moved_are_found() -> None:
    generator = np.random.default_rng(1)
    made = []
    for each in judged([0.9] * 12):
        logits = generator.normal(-3.0 if each.index < 11 else -1.5, 1.0, 2_000)
        made.append(replace(each, histogram=prediction_histogram(logits)))
    assert [f.measure for f in of_judged(made[:-1], LIMITS, released=5) if f.acts] == []
    assert [f.measure for f in of_judged(made, LIMITS, released=5) if f.acts] == ["predictions"]


def profile(counts: dict[str, int], rows: int = 1000) -> dict[str, dict[str, int]]:
    return {"device": counts, USERS: {"": rows}, ITEMS: {"": rows}, ROWS: {"": rows}}


def test_an_input_that_moved_acts_until_its_slice_was_learnt() -> None:
    usual, broken = {"a": 500, "b": 500}, {"null": 1000}
    made = {index: profile(broken if index >= 10 else usual) for index in range(13)}
    (found,) = of_inputs(made, ["device"], LIMITS, learnt=9)
    assert found.index == 10 and found.acts and "PSI of device is" in found.reason
    assert list(of_inputs(made, ["device"], LIMITS, learnt=12)) == []
    assert list(of_inputs({index: profile(usual) for index in range(13)}, ["device"], LIMITS, learnt=9)) == []
    assert list(of_inputs(made, ["device"], LIMITS, learnt=-1)) == []  # nothing serves


def test_what_always_moves_from_slice_to_slice_is_no_drift() -> None:
    """As the hour of the day does where slices are hours."""
    made = {index: profile({f"h{index % 3}": 1000}) for index in range(13)}
    assert list(of_inputs(made, ["device"], LIMITS, learnt=9)) == []


def test_traffic_that_halves_is_said_and_asks_for_nothing() -> None:
    made = {index: profile({"a": 1}, rows=300 if index == 11 else 1000) for index in range(12)}
    (found,) = of_rows(made, learnt=9)
    assert found == Finding("rows", 11, "300 rows, 1,000 in the median before", False) and not found.acts


# The report.


def test_the_report_names_each_model_and_is_read_again(work: Workspace) -> None:
    rows = drift_rows(work)
    names = ["teacher/large", "student/feed_click", "student/feed_convert"]
    assert rows["model"].unique(maintain_order=True).to_list() == names
    said = [drifted(rows, name) for name in names]
    assert said == [None] * 3 and "| teacher/large |" in drift_table(rows)
    assert stored_drift(work) is not None
    (work.state.reports / "drift.parquet").write_bytes(b"PAR1 not")
    assert stored_drift(work) is None


def test_an_input_that_turns_null_in_the_newest_slice_is_drift_of_who_reads_it(work: Workspace) -> None:
    stream, table = work.project.stream, work.table("logged_inputs")
    slice_ = stream.slice_at(4)
    name = "device"
    sidecar = table.sidecar(slice_)
    assert sidecar is not None
    frame = table.read([slice_])
    table.write(slice_, frame.with_columns(pl.lit(None, frame[name].dtype).alias(name)), sidecar.made_of)
    rows = drift_rows(replace(work, project=replace(work.project, drift=Drift(slices=2))))
    reason = drifted(rows, "student/feed_click")
    assert reason is not None and name in reason and slice_.key in reason
