"""Jobs with names: each resolves, and does over a slice what its name says."""

import shutil
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from exfm_assets.definitions import build_defs
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.tiny import tiny_project, tiny_workspace

NAMES = ["catch_up", "promote", "release", "retrain_teachers", "rollback", "train_students", "unpin", "withdraw"]


@pytest.fixture
def work(ran: Ran, tmp_path: Path) -> Workspace:
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    return tiny_workspace(tmp_path)


def test_every_job_has_a_name_and_says_what_it_does(work: Workspace) -> None:
    jobs = [job for job in build_defs(work).resolve_all_job_defs() if not job.name.startswith("__")]
    assert sorted(job.name for job in jobs) == NAMES
    assert all(job.description and job.description.endswith(".") for job in jobs)


@pytest.mark.parametrize(("name", "made"), [
    ("retrain_teachers", {"teacher/large/checkpoint", "teacher/large/predictions"}),
    ("train_students", {f"student/feed_{task}/{part}" for task in ("click", "convert")
                        for part in ("checkpoint", "control", "evaluation")} | {"student_progress"}),
    ("release", {"student/feed_click/release", "student/feed_convert/release", "release_gates"}),
])  # fmt: skip
def test_a_job_makes_what_its_name_says(work: Workspace, name: str, made: set[str]) -> None:
    job = build_defs(work).resolve_job_def(name)
    partition = None if name == "release" else work.project.stream.slice_at(3).key
    result = job.execute_in_process(partition_key=partition, instance=dg.DagsterInstance.ephemeral())
    events = result.get_asset_materialization_events()
    assert result.success and {event.materialization.asset_key.to_user_string() for event in events} == made


def test_catch_up_is_everything_but_studies(work: Workspace) -> None:
    defs = build_defs(work)
    keys = defs.resolve_job_def("catch_up").asset_layer.selected_asset_keys
    every = defs.resolve_asset_graph().get_all_asset_keys()
    assert every - keys == {dg.AssetKey("freshness_cost")}


def test_a_project_without_models_has_jobs_for_what_it_has(tmp_path: Path) -> None:
    bare = replace(tiny_project(), teachers=(), students=(), prediction_views=())
    jobs = [job.name for job in build_defs(tiny_workspace(tmp_path, bare)).resolve_all_job_defs()]
    assert [name for name in jobs if not name.startswith("__")] == ["catch_up", "withdraw"]
