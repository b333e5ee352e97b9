"""Some twenty changes: what a plan says is to be made of each, and that a run makes just that, and leaves nothing.

Also a table for people: ``python -m pytest tests/graph/test_changes.py -s -k table`` prints it.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from exfm.alerts import Alerts
from exfm.atomic_write import write_text
from exfm.distillation import AuxiliaryHead
from exfm.feature_views import FeatureView
from exfm.freshness import Freshness
from exfm.history_views import HistoryView
from exfm.learning import Gate, Training
from exfm.project import Drift, Project, Retention, Upkeep
from exfm.serving import Serving
from exfm_assets.definitions import build_defs
from exfm_assets.main_job import EVERYDAY
from exfm_assets.plan import Plan, Planner
from exfm_assets.plan_words import plan_lines
from pipeline.slices import provenance
from pipeline.streams.simulated_log import write_log
from pipeline.streams.simulator import simulate
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.runs import made_by, run, sentences
from tests.tiny import SLICES, tiny_project, tiny_workspace

Change = Callable[[Workspace, pytest.MonkeyPatch], Project]
DAY = timedelta(days=1)


def declared(**changes: Any) -> Change:
    return lambda work, patch: replace(work.project, **changes)


def with_student(index: int, **changes: Any) -> Change:
    def change(work: Workspace, patch: pytest.MonkeyPatch) -> Project:
        students = list(work.project.students)
        students[index] = replace(students[index], **changes)
        return replace(work.project, students=tuple(students))

    return change


def with_teacher(**changes: Any) -> Change:
    return lambda work, patch: replace(work.project, teachers=(replace(work.project.teachers[0], **changes),))


def with_view(name: str, **changes: Any) -> Change:
    def change(work: Workspace, patch: pytest.MonkeyPatch) -> Project:
        views = [replace(view, **changes) if view.name == name else view for view in work.project.feature_views]
        return replace(work.project, feature_views=tuple(views))

    return change


def new_student(work: Workspace, patch: pytest.MonkeyPatch) -> Project:
    new = replace(work.project.students[0], name="new")
    return replace(work.project, students=(*work.project.students, new))


def new_view(work: Workspace, patch: pytest.MonkeyPatch) -> Project:
    view = FeatureView(name="device_activity", entities=("device",), counts=("impressions",), windows=(DAY,), every=DAY)
    return replace(work.project, feature_views=(*work.project.feature_views, view))


def grown_teacher(work: Workspace, patch: pytest.MonkeyPatch) -> Project:
    project = new_view(work, patch)
    teacher = project.teachers[0]
    return replace(project, teachers=(replace(teacher, inputs=("device_activity", *teacher.inputs)),))


def grown_student(work: Workspace, patch: pytest.MonkeyPatch) -> Project:
    """By a column that the teacher reads: it is logged already."""
    inputs = (*work.project.students[0].inputs, "item_activity:convert_1d")
    return with_student(0, inputs=inputs)(work, patch)


def grown_context(work: Workspace, patch: pytest.MonkeyPatch) -> Project:
    calendar = (*work.project.stream.calendar, "day_of_week")
    return replace(work.project, stream=replace(work.project.stream, calendar=calendar))


def lost(path: str) -> Change:
    def change(work: Workspace, patch: pytest.MonkeyPatch) -> Project:
        shutil.rmtree(work.state.folder / path)
        return work.project

    return change


def labels_flipped(work: Workspace, patch: pytest.MonkeyPatch) -> Project:
    slice_ = work.project.stream.slice_at(2)
    table = work.table("labels")
    before, frame = table.sidecar(slice_), table.read([slice_])
    assert before is not None
    table.write(slice_, frame.with_columns(click=1 - frame["click"]), before.made_of, before.log, before.notes)
    return work.project


def code_of(table: str) -> Change:
    def change(work: Workspace, patch: pytest.MonkeyPatch) -> Project:
        patch.setitem(provenance.CODE_VERSIONS, table, "2")
        return work.project

    return change


def log_rewritten(work: Workspace, patch: pytest.MonkeyPatch) -> Project:
    simulation, stream = work.project.simulation, work.project.stream
    assert simulation is not None
    slice_ = stream.slice_at(2)
    write_log(work.state.log, simulate(simulation, stream, slice_), slice_, "")
    return work.project


MINE = ("student/feed_click/checkpoint", "student/feed_click/control", "student/feed_click/evaluation")
EVALUATIONS = ("student/feed_click/evaluation", "student/feed_convert/evaluation")
# Change -> assets that it makes, for reasons of their own; the first slice's index that is made of each is the same.
CHANGES: dict[str, tuple[Change, set[str]]] = {
    "nothing": (lambda work, patch: work.project, set()),
    "a gate": (with_student(0, gate=Gate(tolerance=1.0, judged_rows=200, rows=300)), set()),
    "how it is served": (with_student(0, serving=Serving(canary=0.1, exploration=0.1)), set()),
    "a freshness policy": (with_student(0, freshness=Freshness(warn=7 * DAY)), set()),
    "drift": (declared(drift=Drift(slices=2)), set()),
    "retention": (declared(retention=Retention(last=5)), set()),
    "alerts": (declared(alerts=Alerts(format="slack", ui="http://localhost:3000")), set()),
    "upkeep": (declared(upkeep=Upkeep(look_back=7)), set()),
    "a student's distillation": (with_student(0, distillation=AuxiliaryHead(weight=3.0)), {MINE[0]}),
    "a student's training": (with_student(0, training=Training(batch_size=128)), set(MINE[:2])),
    "a student's inputs": (with_student(0, inputs=("user_id", "item_id")), {*MINE[:2], "feature_registry"}),
    "a student's inputs, one more": (grown_student, {"feature_registry"}),
    "a teacher's inputs, a new view": (grown_teacher, {"features/device_activity", "logged_inputs",
                                                       "feature_registry"}),
    "a calendar column that nobody reads": (grown_context, {"feature_registry"}),
    "a new student": (new_student, {"student/new/checkpoint", "student/new/control", "student/new/evaluation",
                                    "feature_registry"}),
    "a teacher's training": (with_teacher(training=Training(batch_size=128)),
                             {"teacher/large/checkpoint", "teacher/large/predictions"}),
    "a view's window": (with_view("user_activity", windows=(DAY, 2 * DAY, 7 * DAY)),
                        {"features/user_activity", "logged_inputs", "teacher/large/checkpoint",
                         "teacher/large/predictions", "feature_registry"}),
    "the length of a history": (with_view("user_history", length=10),
                                              {"features/user_history", "teacher/large/checkpoint",
                                               "teacher/large/predictions", "feature_registry"}),
    "a view that nobody reads": (new_view, {"features/device_activity", "feature_registry"}),
    "lateness": (lambda work, patch: replace(work.project, stream=replace(work.project.stream, lateness=DAY)),
                 {"simulated_log", "outcomes"}),
    "labels of a slice": (labels_flipped, {"teacher/large/checkpoint", *MINE,
                                           "student/feed_convert/checkpoint", "student/feed_convert/control",
                                           "student/feed_convert/evaluation"}),
    "a slice of a view is lost": (lost("tables/features/user_activity/slice=2026-01-03"),
                                  {"features/user_activity", "logged_inputs"}),
    "a slice of inputs is lost": (lost("tables/logged_inputs/slice=2026-01-03"), {"logged_inputs", *EVALUATIONS}),
    "the code of labels": (code_of("labels"), {"labels"}),
    "the log is written again, the same": (log_rewritten, {"simulated_log"}),
    "the online store is lost": (lost("feast"), {"feature_registry", "online_store"}),
}  # fmt: skip


@pytest.fixture
def copy(ran: Ran, tmp_path: Path) -> Workspace:
    work = tiny_workspace(tmp_path)
    shutil.copytree(ran.work.state.folder, work.state.folder)
    return work


def planned(work: Workspace) -> Plan:
    graph = build_defs(work).resolve_asset_graph()
    chosen = dg.AssetSelection.from_string(EVERYDAY).resolve(graph)
    return Planner(work, graph).plan(work.project.stream.slices_between("2026-01-01", f"2026-01-0{SLICES}"), chosen)


def of_their_own(plan: Plan) -> set[str]:
    """Assets that are made for another reason than that something above them is."""
    return {
        step.key.to_user_string()
        for step in plan.steps
        if any(not why.startswith("after ") for why in step.slices.values())
    }


@pytest.mark.parametrize("name", CHANGES)
def test_a_plan_says_what_a_change_makes(copy: Workspace, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    change, expected = CHANGES[name]
    project = change(copy, monkeypatch)
    plan = planned(replace(copy, project=project))
    assert of_their_own(plan) == expected
    assert plan.is_empty == (not expected)


def test_a_plan_says_what_goes_on_with_more_inputs(copy: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    project = grown_teacher(copy, monkeypatch)
    lines = list(plan_lines(planned(replace(copy, project=project))))
    (said,) = [line for line in lines if "warm_start" in line]
    assert said == (
        "  teacher/large: what it learnt of 2026-01-01...2026-01-05 stands, and the log ends there, so nothing has "
        "taught it its new inputs (device_activity__impressions_1d): Training(warm_start=False) trains all again"
    )
    models = [line for line in lines if line.startswith(("  teacher/large/", "  student/"))]
    assert [line for line in models if "/release" not in line] == [], models
    cold = replace(project.teachers[0], training=replace(project.teachers[0].training, warm_start=False))
    plan = planned(replace(copy, project=replace(project, teachers=(cold,))))
    assert not plan.warm_starts and "teacher/large/checkpoint" in of_their_own(plan)


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    pytest.param("a view's window", marks=pytest.mark.long), "a teacher's inputs, a new view", "labels of a slice",
    "lateness",
])  # fmt: skip
def test_a_run_makes_what_its_plan_says_and_then_nothing_is_left(
    copy: Workspace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    project = CHANGES[name][0](copy, monkeypatch)
    work = replace(copy, project=project)
    plan = planned(work)
    result = run(work)
    assert result.success, sentences(result)
    made = made_by(result)
    stream = work.project.stream
    foreseen = {(step.key, stream.slice_at(index).key) for step in plan.steps for index in step.slices if index >= 0}
    made.discard((dg.AssetKey(["teacher", "large", "predictions"]), "2026-01-01"))  # nobody scores the first slice
    assert made and made <= foreseen, sorted((key.to_user_string(), slice_) for key, slice_ in made - foreseen)
    assert planned(work).is_empty, of_their_own(planned(work))


def test_the_project_of_these_changes_has_views_of_both_kinds() -> None:
    assert any(isinstance(view, HistoryView) for view in tiny_project().feature_views)


def test_where_a_teacher_has_not_learnt_yet_no_prediction_is_planned(copy: Workspace) -> None:
    """A log that begins with an empty slice: nothing scores the next one, run as often as you like."""
    first, second = copy.project.stream.slice_at(0), copy.project.stream.slice_at(1)
    path = copy.state.checkpoints("teacher/large") / first.folder / "manifest.json"
    plain = json.loads(path.read_text(encoding="utf-8"))
    write_text(path, json.dumps({**plain, "trained_until": None}))
    shutil.rmtree(copy.state.predictions("large") / second.folder)
    made = {step.key.to_user_string(): step.slices for step in planned(copy).steps}
    assert second.index not in made.get("teacher/large/predictions", {})
    write_text(path, json.dumps(plain))
    assert planned(copy).steps[0].slices == {second.index: "not made yet"}
