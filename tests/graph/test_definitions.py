"""The definitions load fast and alone, and say what the declaration says."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from exfm.learning import Student
from exfm.load import load_project
from exfm.names import GROUPS, student_group, teacher_group
from exfm_assets.definitions import build_defs
from pipeline.workspace import Workspace
from projects import simulated
from tests.tiny import tiny_project, tiny_workspace

HEAVY = ("torch", "feast", "vl_convert", "pandas")


def test_definitions_load_without_heavy_imports() -> None:
    code = f"import sys, exfm_assets.definitions; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_models_import_neither_dagster_nor_feast_nor_polars() -> None:
    modules = "batch, checkpoint, distillation, embedding, interactions, learner, manifest, metrics, network, state"
    code = (
        f"import sys\nfrom models import {modules}\n"
        "print([name for name in ('dagster', 'feast', 'polars', 'duckdb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_declared_project_loads_and_resolves() -> None:
    for name in ("simulated", "news"):
        defs = build_defs(Workspace(load_project(name)))
        dg.Definitions.validate_loadable(defs)
        assert len(defs.resolve_asset_graph().get_all_asset_keys()) > 20


def test_assets_are_what_is_declared() -> None:
    graph = build_defs(Workspace(simulated.PROJECT)).resolve_asset_graph()
    keys = {key.to_user_string() for key in graph.get_all_asset_keys()}
    stream = {"simulated_log", "impressions", "outcomes", "interactions", "labels"}
    features = {"feature_registry", "online_store", "logged_inputs", "logged_teacher_features"}
    views = {f"features/{view.name}" for view in simulated.PROJECT.all_views}
    teachers = {"teacher/large/checkpoint", "teacher/large/predictions"}
    parts = ("checkpoint", "control", "evaluation", "release")
    students = {f"student/{student.name}/{part}" for student in simulated.PROJECT.students for part in parts}
    upkeep = {"student_progress", "release_gates", "drift_report", "report", "freshness_cost"}
    assert keys == stream | features | views | teachers | students | upkeep
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description and node.group_name != "default" and node.kinds
        assert node.backfill_policy == dg.BackfillPolicy.single_run()
        assert node.automation_condition is not None or key.path[-1] == "freshness_cost"  # a study is asked for


def test_what_is_kept_current_promises_how_old_its_data_may_be() -> None:
    graph = build_defs(Workspace(simulated.PROJECT)).resolve_asset_graph()
    promised = {key.path[-1] for key in graph.get_all_asset_keys() if graph.get(key).freshness_policy is not None}
    assert promised == {"release", "checkpoint", "predictions", "labels", "online_store"}


def test_a_new_student_brings_its_assets_checks_and_services() -> None:
    first = simulated.PROJECT.students[0]
    student: Student = replace(first, name="video_convert", surface="video", task="convert")
    project = replace(simulated.PROJECT, students=(*simulated.PROJECT.students, student))
    graph = build_defs(Workspace(project)).resolve_asset_graph()
    mine = [key for key in graph.get_all_asset_keys() if "video_convert" in key.path]
    assert len(mine) == 4
    checked = {key.asset_key.path[-1] for key in graph.asset_check_keys if "video_convert" in key.asset_key.path}
    assert checked == {"checkpoint", "control", "evaluation", "release"}


@pytest.mark.slow
def test_of_very_many_students_each_hundred_has_its_own_sensor(tmp_path: Path) -> None:
    """Dagster refuses a sensor of more than 500 assets on every tick, so nothing at all would be asked for."""
    tiny = tiny_project()
    many = tuple(replace(tiny.students[0], name=f"s{index}") for index in range(230))
    defs = build_defs(tiny_workspace(tmp_path, replace(tiny, students=many)))
    graph = defs.resolve_asset_graph()
    automations = [
        sensor for sensor in defs.sensors or () if isinstance(sensor, dg.AutomationConditionSensorDefinition)
    ]
    targets = [sensor.asset_selection.resolve(graph) for sensor in automations]
    assert len(targets) == 4 and max(map(len, targets)) < 500
    assert sorted(key for target in targets for key in target) == sorted(graph.get_all_asset_keys())
    assert not any(sensor.asset_selection.resolve_checks(graph) for sensor in automations)


def test_no_two_models_share_a_group_whatever_they_are_called() -> None:
    names = ("stream", "features", "upkeep", "studies", "large_teacher", "large", "stream_student", "feed_click")
    groups = [*map(student_group, names), *map(teacher_group, names), *GROUPS]
    assert len({*groups}) == len(groups)
    assert student_group("feed_click") == "feed_click"  # the graph shows some 15 letters of it
