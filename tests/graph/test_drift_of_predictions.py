"""Drift of what teachers say: features of their predictions, coverage, age."""

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from exfm.project import Drift
from pipeline.drift.findings import of_inputs
from pipeline.drift.predicted import Predicted, of_predicted, predicted_slices
from pipeline.drift.profile import ITEMS, USERS, of_surface, profiles
from pipeline.drift.report import _columns, drift_rows
from pipeline.sidecar import write_stored
from pipeline.slices.predictions import files_of
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.tiny import tiny_workspace


@pytest.fixture
def work(ran: Ran, tmp_path: Path) -> Workspace:
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    return tiny_workspace(tmp_path)


def test_teacher_features_are_compared_as_well(work: Workspace) -> None:
    slice_ = work.project.stream.slice_at(3)
    second = work.table("logged_teacher_features").read([slice_])
    columns = [name for name in second.columns if name not in ("impression_id", "event_timestamp")]
    whole = of_surface(profiles(work, [slice_])[3], None)
    assert columns and all(sum(whole[name].values()) == second.height for name in columns)
    assert whole[columns[0]].get("null", 0) == second[columns[0]].null_count()
    read = {name for student in work.project.students for name in _columns(work, student)}
    assert set(columns) == read & set(columns)


def test_coverage_and_age_of_predictions_are_said(work: Workspace) -> None:
    teacher, stream = work.project.teachers[0], work.project.stream
    found = predicted_slices(work, teacher)
    assert [each.index for each in found] == [1, 2, 3, 4] and {each.coverage for each in found} == {1.0}
    assert all(0 <= each.age < 0.1 for each in found)  # the checkpoint of the slice before: lag 1
    path = files_of(work, teacher, stream.slice_at(3))[-1]
    write_stored(pl.read_parquet(path).head(5), path)
    assert [each.coverage < 0.01 for each in predicted_slices(work, teacher)] == [False, False, True, False]
    reasons = drift_rows(work).filter(model="teacher/large", measure="coverage")
    assert reasons["slice"].to_list() == [stream.slice_at(3).key] and not reasons["drifted"].any()
    assert "of the impressions have a prediction" in reasons["reason"][0]
    aged = [Predicted(index, 1.0, 3.5 if index == 8 else 0.0) for index in range(10)]
    assert [(each.measure, each.index, each.acts) for each in of_predicted(aged, 3)] == [("age", 8, False)]
    assert not list(of_predicted([replace(each, age=9.0) for each in aged], 3))  # always so old: nothing changed


def test_features_of_a_young_teacher_move_and_that_is_no_drift() -> None:
    counts = [{"1": 900 - 100 * at, "2": 100 + 100 * at} for at in range(8)] + [{"9": 1000}]
    made = {
        at: {"v__click_mean_3d": each, USERS: {"": 500}, ITEMS: {"": 500}, "rows": {"": 1000}}
        for at, each in enumerate(counts)
    }
    few = {at: made[at] for at in (3, 4, 5, 8)}
    limits = Drift(slices=1)
    assert [finding.index for finding in of_inputs(few, ["v__click_mean_3d"], limits, 5)] == [8]
    assert not list(of_inputs(few, ["v__click_mean_3d"], limits, 5, ("v__click_mean_3d",)))
    assert [each.index for each in of_inputs(made, ["v__click_mean_3d"], limits, 6, ("v__click_mean_3d",))] == [8]
