"""Odd but right declarations run: words of Python or SQL as names, surfaces in any script, models without views."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from exfm.feature_views import FeatureView
from exfm.history_views import HistoryView
from exfm.log_columns import Column
from exfm.project import Project
from tests.graph.runs import failed_checks, run
from tests.tiny import tiny_project, tiny_workspace

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)
LAST = "2026-01-03"
COLUMNS = {"user_id": "select", "item_id": "order", "device": "at", "country": "class", "surface": "group"}
TASKS = {"click": "not", "convert": "lambda"}
SURFACES = ("", "größe", "a'b")
# Words of SQL, of Python, of polars, of our own tables and of hive folders; the longest name that is allowed.
MORE = ("day", "slice", "model", "rows", "student", "count", "window", "last", "null", "true", "index", "stamp",
        "start", "key", "value", "impressions", "from", "limit", "a" * 64)  # fmt: skip
BY = ("slice", "day", "null")


def _oddly_named() -> Project:
    tiny = tiny_project()
    stream, more = tiny.stream, tuple(Column(name=name, rows=8, dtype=str) for name in MORE)
    return replace(
        tiny,
        name="while",
        stream=replace(
            stream,
            user=replace(stream.user, name="select"),
            item=replace(stream.item, name="order"),
            surface=replace(stream.surface, name="group"),
            surfaces=SURFACES,
            context=(*(replace(column, name=COLUMNS[column.name]) for column in stream.context), *more),
            tasks=tuple(replace(task, name=TASKS[task.name]) for task in stream.tasks),
        ),
        feature_views=(
            *(_renamed(view) for view in tiny.feature_views),
            FeatureView(
                name="by", entities=BY, counts=("impressions", "not"), rates=("not",), windows=(DAY,), every=DAY,
                prior_weight=0.0,
            ),
            HistoryView(name="where", entity="window", of="count", source="impressions", window=DAY, every=DAY),
        ),
        prediction_views=tuple(
            replace(view, tasks=tuple(TASKS.values()), entities=_columns(view.entities))
            for view in tiny.prediction_views
        ),
        teachers=tuple(
            replace(teacher, tasks=tuple(TASKS.values()), inputs=(*_columns(teacher.inputs), *MORE, "by", "where"))
            for teacher in tiny.teachers
        ),
        students=tuple(
            replace(
                student, name=name, surface=surface, task=TASKS[student.task],
                inputs=(*_columns(student.inputs), *MORE, "by"),
            )
            for student, name, surface in zip(tiny.students, ("import", "large"), SURFACES, strict=False)
        ),
    )  # fmt: skip


def _columns(names: tuple[str, ...]) -> tuple[str, ...]:
    renamed = [COLUMNS.get(name, name) for name in names]
    return tuple(name.replace("convert", "lambda").replace("click", "not") for name in renamed)


def _renamed(view: FeatureView | HistoryView) -> FeatureView | HistoryView:
    if isinstance(view, HistoryView):
        return replace(view, entity="select", of="order", source=tuple(TASKS.get(name, name) for name in view.sources))
    counts = tuple(TASKS.get(name, name) for name in view.counts)
    return replace(view, entities=_columns(view.entities), counts=counts, rates=tuple(TASKS.values()))


@pytest.mark.slow
def test_odd_names_change_no_value(tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path, _oddly_named())
    ran = run(work, last=LAST)
    assert ran.success and not failed_checks(ran)
    newest, before = work.project.stream.slice_at(2), work.project.stream.slice_at(1)
    logged = work.table("logged_inputs").read([newest])
    seen = work.table("impressions").read([before]).group_by(BY).len("seen")
    counted = logged.join(seen, on=BY, how="left", maintain_order="left")
    assert counted["seen"].drop_nulls().len() > 100
    # A window of one day, stamped at the slice's start, holds the day before. Nobody seen there: nothing, or zero.
    assert counted["by__impressions_1d"].fill_null(0).equals(counted["seen"].fill_null(0).cast(pl.Int64).alias("x"))
    for student in work.project.students:
        judged = work.evaluations(student.name).read([newest]).filter(pl.col("model") == "student")
        rows = logged.filter(pl.col("group") == student.surface).height
        assert judged["rows"].to_list() == [rows] and rows > 100


@pytest.mark.parametrize("is_taught", [True, False])
def test_models_that_read_no_view_need_none(tmp_path: Path, is_taught: bool) -> None:
    tiny, ids = tiny_project(), ("user_id", "item_id", "hour_of_day")
    student, teacher = replace(tiny.students[0], inputs=ids), replace(tiny.teachers[0], inputs=ids)
    project = replace(tiny, feature_views=(), prediction_views=(), teachers=(teacher,), students=(student,))
    if not is_taught:
        alone = replace(student, teacher=None, distillation=None, lead=None)
        project = replace(project, teachers=(), students=(alone,), feature_views=tiny.feature_views)
    work = tiny_workspace(tmp_path, project)
    ran = run(work, last=LAST)
    assert ran.success and not failed_checks(ran)
    newest = work.project.stream.slice_at(2)
    logged, shown = work.table("logged_inputs").read([newest]), work.table("impressions").read([newest])
    assert logged["impression_id"].equals(shown["impression_id"])
    assert logged.columns == ["impression_id", "event_timestamp", "user_id", "item_id", "surface", "hour_of_day"]
