"""The asset ``mlflow``: when it is asked for, that it comes last, and that a release stands where MLflow is down."""

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from exfm.declaration import digest
from exfm.mlflow import MLflow
from exfm.state import ROOT
from exfm_assets.assets.mirror import MLFLOW
from exfm_assets.definitions import build_defs
from exfm_assets.main_job import of_student
from exfm_assets.plan import Planner
from pipeline.registry.lineage import declaration_digest
from pipeline.releases.release import current_release
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.clockwork import KEYS, Clockwork
from tests.graph.runs import failed_checks, run, sentences
from tests.mirror.held import Held
from tests.tiny import tiny_project, tiny_workspace

RELEASE = dg.AssetKey(["student", "feed_click", "release"])
SUMMED = 'key:"student/feed_click/release" or key:release_gates or key:mlflow'


def steps_of(result: dg.ExecuteInProcessResult) -> list[str]:
    return [event.step_key or "" for event in result.get_step_success_events()]


def test_without_a_declaration_there_is_no_such_asset(tmp_path: Path) -> None:
    keys = build_defs(tiny_workspace(tmp_path)).resolve_asset_graph().get_all_asset_keys()
    assert MLFLOW not in keys and "mlflow" not in of_student(tiny_project(), "feed_click")
    nobody = tiny_project(mlflow=MLflow(), students=(), prediction_views=())
    assert MLFLOW not in build_defs(tiny_workspace(tmp_path, nobody)).resolve_asset_graph().get_all_asset_keys()


def test_nothing_that_is_stored_depends_on_the_declaration(ran: Ran, tmp_path: Path) -> None:
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    project = tiny_project(mlflow=MLflow(tracking_uri="http://127.0.0.1:9", models="ads.{student}"))
    work = tiny_workspace(tmp_path, project)
    for model in (*project.teachers, *project.students):
        assert declaration_digest(project, model) == declaration_digest(tiny_project(), model)
    assert digest(tiny_project(mlflow=None)) == digest(tiny_project()) != digest(project)
    graph = build_defs(work).resolve_asset_graph()
    slices = list(project.stream.slices(project.stream.first_slice, work.now()))
    selected = dg.AssetSelection.from_string('not group:"studies"').resolve(graph)
    assert Planner(work, graph).plan(slices, selected).is_empty


@pytest.mark.slow
def test_it_comes_after_the_releases_of_its_run(work: Workspace, store: Held) -> None:
    shutil.rmtree(work.state.release("feed_click"))
    result = run(work, KEYS[-1], select=SUMMED)
    assert result.success and failed_checks(result) == []
    assert steps_of(result)[-1] == "mlflow"
    assert store.aliases() == {"serving": 1}
    told = result.asset_materializations_for_node("mlflow")[0].metadata
    assert told["serving/tiny.feed_click"].value == 1 and told["changes"].value > 20


@pytest.mark.slow
def test_a_release_that_is_refused_skips_nothing(work: Workspace, store: Held) -> None:
    student = work.project.students[0]
    strict = replace(student, gate=replace(student.gate, tolerance=-0.9))
    refusing = tiny_workspace(
        work.state.folder.parent, replace(work.project, students=(strict, *work.project.students[1:]))
    )
    result = run(refusing, KEYS[-1], select=SUMMED)
    assert result.success and not result.asset_materializations_for_node("release_feed_click")
    assert steps_of(result)[-1] == "mlflow" and store.aliases() == {"serving": 3, "previous": 2}


@pytest.mark.usefixtures("empty_store")
def test_where_mlflow_is_down_the_release_stands(ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{probe.getsockname()[1]}"
    work = tiny_workspace(tmp_path, tiny_project(mlflow=MLflow(tracking_uri=uri)))
    shutil.rmtree(work.state.release("feed_click"))
    instance = dg.DagsterInstance.ephemeral()
    result = run(work, KEYS[-1], select=SUMMED, instance=instance)
    assert not result.success and len(sentences(result)) == 1
    assert sentences(result)[0].startswith(f"MLflow at {uri.removeprefix('http://')} can't be reached or used: ")
    served = current_release(work, work.project.students[0])
    assert served is not None and served.number == 1
    assert instance.get_latest_materialization_event(RELEASE) is not None


@pytest.fixture
def clockwork(tmp_path: Path) -> Clockwork:
    return Clockwork(tiny_workspace(tmp_path, tiny_project(mlflow=MLflow())))


@pytest.mark.slow
def test_it_follows_the_gates_and_what_a_person_decides(clockwork: Clockwork) -> None:
    clockwork.everything_but()
    clockwork.tick()
    assert not any("mlflow" in clockwork.tick() for _ in range(3))
    clockwork.materialised("student/feed_click/release")  # as exfm releases rollback does
    assert "mlflow" in clockwork.tick()
    clockwork.materialised("mlflow")
    assert not any("mlflow" in clockwork.tick() for _ in range(3))
    clockwork.materialised("release_gates")
    assert "mlflow" in clockwork.tick()


@pytest.mark.slow
def test_what_failed_is_tried_again_each_hour(clockwork: Clockwork) -> None:
    from dagster._core.events import DagsterEvent

    at = datetime(2026, 3, 1, 12, 10, 30, tzinfo=UTC)
    clockwork.everything_but()
    clockwork.tick(at)
    run_id = clockwork.at_work("mlflow", None)
    clockwork.tick(at)
    clockwork.instance.report_dagster_event(DagsterEvent(event_type_value="PIPELINE_FAILURE", job_name="job"), run_id)
    after = (1, 49, 50, 51, 110)  # minutes
    assert [n for n in after if "mlflow" in clockwork.tick(at + timedelta(minutes=n))] == [50, 110]


@pytest.mark.slow
def test_the_command_brings_mlflow_up(ran: Ran, tmp_path: Path, declared: MLflow, store: Held) -> None:
    shutil.copytree(ran.work.state.folder, tmp_path / "state" / "tiny")
    (tmp_path / "mine.py").write_text(
        "from exfm import MLflow\nfrom tests.tiny import tiny_project\nPROJECT = tiny_project(mlflow=MLflow())\n"
    )
    cleaned = {name: value for name, value in os.environ.items() if not name.startswith(("EXFM_", "DAGSTER"))}
    (tmp_path / "home").mkdir()
    done = subprocess.run(
        [Path(sys.executable).with_name("python"), "-m", "dagster", "asset", "materialize", "--select", "mlflow",
         "-m", "exfm_assets.definitions"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        env={**cleaned, "EXFM_PROJECT": str(tmp_path / "mine.py"), "EXFM_STATE": str(tmp_path / "state"),
             "DAGSTER_HOME": str(tmp_path / "home"), "MLFLOW_TRACKING_URI": str(declared.tracking_uri)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert store.aliases() == {"serving": 1}
