"""Odd but right declarations are accepted, and become a graph and Feast's objects: the rules don't refuse too much."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import numpy as np
import pytest

from exfm import names
from exfm.distillation import AuxiliaryHead, LeadAware, Recalibration, StudentAdapter
from exfm.freshness import Freshness
from exfm.learning import Gate, Training
from exfm.load import load_project
from exfm.log_columns import Column, Task
from exfm.networks import DLRM, DCNv2, DeepFM, TwoTower, Wukong
from exfm.project import Drift, Project, Retention
from exfm.simulation import Simulation
from exfm.state import State
from exfm_assets.definitions import build_defs
from feature_repo.project_views import objects_of
from pipeline.workspace import Workspace
from projects.simulated import PROJECT
from tests.declarations.base import (
    DAY,
    FIRST,
    HOUR,
    IDS,
    MINUTE,
    history,
    opinion,
    project,
    reading,
    stream,
    student,
    teacher,
    view,
    with_context,
    with_history,
    with_opinion,
    with_stream,
    with_student,
    with_tasks,
    with_teacher,
    with_view,
)  # fmt: skip

ALONE = replace(PROJECT.student("search_convert"), inputs=IDS)  # a student without a teacher


def many_students() -> Project:
    everyone = tuple(
        student(name=name) for name in ("large", "a", "class", "a" * 64, "user_id", "click", "x1", "stream")
    )
    return project(students=everyone)


ODD: dict[str, Callable[[], Project]] = {
    "no students": lambda: project(students=()),
    "no teachers": lambda: project(teachers=(), prediction_views=(), students=(ALONE,)),
    "nothing to learn": lambda: project(teachers=(), prediction_views=(), students=()),
    "no views": lambda: project(
        feature_views=(), prediction_views=(), teachers=(teacher(inputs=IDS),), students=(student(),)
    ),
    "a teacher twice, apart": lambda: project(teachers=(teacher(), teacher(name="other", lag=2, publish_every=3))),
    "two teachers of one student": lambda: project(
        teachers=(teacher(), teacher(name="other")), students=(student(teacher=("large", "other")),)
    ),
    "a student of all surfaces": lambda: with_student(surface=None),
    "names of all sorts": many_students,
    "keywords as columns": lambda: with_context("class", "select", "order", "group", "lambda", "null", "true", "def"),
    "columns as other tables have them": lambda: with_context("student", "model", "rows", "slice", "day", "auc", "ne"),
    "columns as views work with them": lambda: with_context("at", "stamp", "count", "last", "start", "impressions"),
    "a calendar column of the log's own": lambda: with_context("day_of_week"),
    "the longest name": lambda: with_context("c" * 64),
    "keywords as tasks": lambda: with_tasks("not", "import", "last", "count", "click_rate", "labels"),
    "a view named as a task": lambda: with_view(name="click"),
    "a view with an odd name": lambda: with_view(name="v1_2_3"),
    "a history of surfaces": lambda: with_history(of="surface", source="impressions"),
    "one surface": lambda: project(stream=stream(surfaces=("feed",)), students=(student(),)),
    "surfaces in any script": lambda: project(stream=stream(surfaces=("", "größe", "a'b\n", "名前")), students=()),
    "surfaces of large numbers": lambda: project(
        stream=stream(surface=Column(name="surface", rows=8), surfaces=(-(2**63), 0, 2**63 - 1)), students=()
    ),
    "ids as text": lambda: with_stream(user=Column(name="user_id", rows=8, dtype=str)),
    "two rows for all ids": lambda: with_stream(user=Column(name="user_id", rows=2)),
    "a log that begins on a leap day": lambda: with_stream(first_slice=datetime(2024, 2, 29, tzinfo=UTC)),
    "UTC by its zone": lambda: with_stream(first_slice=datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC"))),
    "UTC by its offset": lambda: with_stream(first_slice=datetime(2026, 1, 1, tzinfo=timezone.utc)),  # noqa: UP017
    "a live stream": lambda: with_stream(until=None),
    "a stream of one slice": lambda: with_stream(until=FIRST + DAY),
    "a log that is known further": lambda: with_stream(known_until=datetime(2027, 1, 1, tzinfo=UTC)),
    "a tiny window": lambda: with_stream(
        tasks=(*PROJECT.stream.tasks, Task(name="blink", window=timedelta(microseconds=1)))
    ),
    "a window longer than the log": lambda: with_stream(
        tasks=(*PROJECT.stream.tasks, Task(name="stay", window=90 * DAY))
    ),
    "slices of a minute": lambda: project(
        stream=stream(slice_length=MINUTE, until=FIRST + DAY), prediction_views=(), students=(),
        feature_views=(view(every=MINUTE, windows=(MINUTE, 30 * DAY)),), teachers=(teacher(inputs=IDS),),
    ),
    "half a minute for teachers": lambda: with_view(every=timedelta(seconds=30), windows=(MINUTE,), online=False),
    "an hourly view that is pushed": lambda: reading(view(name="more", every=HOUR, pushed=True, delay=MINUTE)),
    "an hourly history that is pushed": lambda: reading(history(name="more", pushed=True)),
    "an hourly view that no student reads": lambda: with_view(every=HOUR),
    "no prior": lambda: with_view(prior_weight=0.0, prior=0.0),
    "a certain prior": lambda: with_view(prior=1),
    "a long delay": lambda: with_view(delay=36 * HOUR),
    "rates alone": lambda: with_view(counts=()),
    "an opinion of a cross": lambda: with_opinion(entities=("user_id", "surface", "device"), tasks=("convert",)),
    "whole numbers for numbers": lambda: with_student(
        distillation=AuxiliaryHead(weight=1, gradient_scale=0, adapter=Recalibration(half_life=1)),
        training=Training(learning_rate=1, table_learning_rate=1),
    ),
    "a number of numpy": lambda: with_student(training=Training(learning_rate=np.float64(1e-3))),
    "no weight": lambda: with_student(distillation=AuxiliaryHead(weight=0.0)),
    "told all": lambda: with_student(
        distillation=AuxiliaryHead(adapter=StudentAdapter(context=("surface", "staleness"))), lead=LeadAware(none_at=0)
    ),
    "the smallest networks": lambda: project(
        teachers=(teacher(network=Wukong(embedding=1, hidden=(1,), layers=1, fields=1, rank=1, mixer=1)),),
        students=(student(network=DCNv2(embedding=1, hidden=(1,), cross=0), training=Training(batch_size=1)),),
    ),
    "a batch of a whole slice": lambda: with_student(training=Training(batch_size=1_000_000)),
    "the largest seed": lambda: with_student(training=Training(seed=2**63 - 1)),
    "numbers alone": lambda: with_student(network=DLRM(), inputs=("item_activity",)),
    "one column": lambda: with_student(network=DeepFM(), inputs=("user_id",)),
    "a retrieval teacher": lambda: with_teacher(network=TwoTower(hidden=(8,)), inputs=("item_id", "user_activity")),
    "a rank that saves": lambda: with_teacher(network=DCNv2(cross_rank=4)),
    "a teacher that never scores": lambda: with_teacher(lag=500),
    "a gate that nothing passes": lambda: with_student(gate=Gate(tolerance=-0.99, slices=10**5)),
    "a gate that all pass": lambda: with_student(gate=Gate(tolerance=1e6)),
    "a release that is always stale": lambda: with_student(freshness=Freshness(warn=MINUTE)),
    "drift of none": lambda: project(drift=Drift(ne_rise=0, calibration_error=0), retention=Retention(last=10**5)),
    "a world that stands still": lambda: project(
        simulation=Simulation(seed=0, users=1, items=1, new_users_per_day=0, new_items_per_day=0, late_share=0,
                              duplicate_share=1, drift="none", drift_strength=0.0)
    ),
    "a delayed opinion": lambda: project(prediction_views=(opinion(delay=DAY),), students=()),
}  # fmt: skip


@pytest.mark.parametrize(
    "what",
    [what if number % 3 == 0 else pytest.param(what, marks=pytest.mark.slow) for number, what in enumerate(ODD)],
)
def test_an_odd_declaration_becomes_a_graph_and_feast_objects(what: str, tmp_path: Path) -> None:
    declared = ODD[what]()
    state = State(folder=tmp_path / declared.name, log=tmp_path / "log")
    dg.Definitions.validate_loadable(build_defs(Workspace(declared, state)))
    objects = objects_of(declared, state)
    assert set(objects.views) == {
        *(view.name for view in declared.all_views),
        *(teacher.view for teacher in declared.teachers),
    }
    assert {f"{student.name}_inputs" for student in declared.students if _reads_views(declared, student.inputs)} <= set(
        objects.services
    )


def _reads_views(declared: Project, inputs: tuple[str, ...]) -> bool:
    return bool(declared.columns_of(inputs, where="").of_views)


@pytest.mark.parametrize("name", ["simulated", "news"])
def test_every_name_that_feast_holds_is_among_those_that_are_checked(name: str) -> None:
    declared = load_project(name)
    with tempfile.TemporaryDirectory() as folder:
        objects = objects_of(declared, State(folder=Path(folder), log=Path(folder)))
    checked = names.feast_objects(
        [column.name for column in declared.stream.id_columns],
        [(type(view).__name__, view.name) for view in declared.all_views],
        [teacher.name for teacher in declared.teachers],
        [student.name for student in declared.students],
    )
    assert {*objects.entities, *objects.views, *objects.services} <= set(checked)
