"""Names that nothing could carry, that are taken, or that are given twice.

Belongs here: cases, each with the field that its sentence must name. Not here: the test (test_wrong.py).
"""

from exfm import distillation as distil
from exfm.alerts import Alerts
from exfm.log_columns import Column, Request, Task
from exfm.mlflow import MLflow
from projects.simulated import PROJECT
from tests.declarations.base import (
    AGAIN,
    DAY,
    HOUR,
    IDS,
    LONG,
    Wrong,
    history,
    keyed_by,
    opinion,
    opinion_of,
    project,
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
)

_SHAPES = (
    "Big Model", "userId", "user-id", "user id", "1st", "", " a", "a__b", "a_", "_a", "a.b", "a/b", "../a", "a:b",
    "größe", "名前", "a\n", "a\x00", "ᵃ", LONG,
)  # fmt: skip

_VARIABLES = ("", "1X", "$HOOK", "A B", "X\n", "https://hooks.slack.com/services/T0/B0/x")

NAMES: list[Wrong] = [
    *((("Alerts.webhook_env"), lambda name=name: Alerts(webhook_env=name)) for name in _VARIABLES),  # type: ignore[misc]
    *((("Alerts.ui"), lambda ui=ui: Alerts(ui=ui)) for ui in ("", "localhost:3000", "ftp://x", "http://", "http://[x")),  # type: ignore[misc]
    *(
        (("MLflow.models"), lambda name=name: MLflow(models=name))
        for name in (  # type: ignore[misc]
            "",
            "ads",
            "{project}",
            "{nothing}.{student}",
            "{student",
            "{}.{student}",
            "{student.x}",
            "a/{student}",
            "a:{student}",
            "it's {student}",
        )
    ),
    *(
        (("MLflow.tracking_uri"), lambda uri=uri: MLflow(tracking_uri=uri))
        for uri in (  # type: ignore[misc]
            "",
            "mlflow.db",
            "/var/mlflow",
            "sqlite:///mlflow.db",
            "sqlite://",
            "https://me:secret@mlflow",
            "https://token@mlflow",
            "http://[",
        )
    ),
    ("MLflow.experiment", lambda: MLflow(experiment=" ")),
    *((("Student.name"), lambda name=name: student(name=name)) for name in _SHAPES),  # type: ignore[misc]
    *((("FeatureView.name"), lambda name=name: view(name=name)) for name in ("v_", "_v", "V", LONG, "größe")),  # type: ignore[misc]
    *((("HistoryView.name"), lambda name=name: history(name=name)) for name in ("v_", "名前", LONG)),  # type: ignore[misc]
    *((("PredictionView.name"), lambda name=name: opinion(name=name)) for name in ("v_", "V", LONG)),  # type: ignore[misc]
    *((("Teacher.name"), lambda name=name: teacher(name=name)) for name in ("t_", "Große", LONG)),  # type: ignore[misc]
    *((("Project.name"), lambda name=name: project(name=name)) for name in ("p_", "..", LONG, "p/q", "dagster_home")),  # type: ignore[misc]
    ("Project.name", lambda: project(name="dagster")),
    *((("Column.name"), lambda name=name: Column(name=name, rows=8)) for name in ("c_", "Größe", LONG)),  # type: ignore[misc]
    *((("Task.name"), lambda name=name: Task(name=name, window=HOUR)) for name in ("t_", "klick€", LONG)),  # type: ignore[misc]
]

_OURS = ("impression_id", "event_timestamp", "created_timestamp", "outcome_timestamp", "task", "closed_at", "reason",
         "trained_until", "checkpoint", "run_id")  # fmt: skip

RESERVED: list[Wrong] = [
    *((f"Column({name}).name", lambda name=name: with_context(name)) for name in _OURS),  # type: ignore[misc]
    *((f"Task({name}).name", lambda name=name: with_tasks(name)) for name in (*_OURS, "impressions", "interactions")),  # type: ignore[misc]
    ("Column(impression_id).name", lambda: with_stream(user=Column(name="impression_id", rows=8))),
    ("Task(user_id).name", lambda: with_tasks("user_id")),
    ("Task(surface).name", lambda: with_tasks("surface")),
    ("Task(hour_of_day).name", lambda: with_tasks("hour_of_day")),
    ("Student(logged).name", lambda: with_student(name="logged")),
    ("Student(logged).name", lambda: with_student(name="logged", inputs=IDS)),
    ("FeatureView(logged_inputs).name", lambda: with_view(name="logged_inputs")),
    ("FeatureView(impression_id).name", lambda: with_view(name="impression_id")),
    ("FeatureView(user_id).name", lambda: with_view(name="user_id")),
    ("HistoryView(device).name", lambda: with_history(name="device")),
    ("PredictionView(hour_of_day).name", lambda: with_opinion(name="hour_of_day")),
    ("Teacher(large).name", lambda: with_view(name="teacher_large")),
    ("Teacher(large).name", lambda: with_opinion(name="teacher_large")),
    ("Student(feed_click).name", lambda: with_view(name="feed_click_inputs")),
    ("Student(feed_click).name", lambda: with_history(name="feed_click_supervision")),
    ("FeatureView(more).entities", lambda: keyed_by("at")),
    ("FeatureView(more).entities", lambda: keyed_by("stamp")),
    ("FeatureView(more).entities", lambda: keyed_by("impressions")),
    ("FeatureView(more).entities", lambda: keyed_by("impressions_1d")),
    ("FeatureView(more).entities", lambda: keyed_by("click_rate_3d")),
    (
        "HistoryView(more).of",
        lambda: project(
            stream=stream(context=(*PROJECT.stream.context, Column(name="at", rows=8))),
            feature_views=(*PROJECT.feature_views, history(name="more", of="at", source="impressions")),
        ),
    ),
    (
        "HistoryView(more).entity",
        lambda: project(
            stream=stream(context=(*PROJECT.stream.context, Column(name="last", rows=8))),
            feature_views=(*PROJECT.feature_views, history(name="more", entity="last", source="impressions")),
        ),
    ),
    ("PredictionView(more).entities", lambda: opinion_of("count")),
    ("PredictionView(more).entities", lambda: opinion_of("start")),
    ("PredictionView(more).entities", lambda: opinion_of("click_last")),
    ("PredictionView(more).entities", lambda: opinion_of("age_hours")),
    (
        "FeatureView(more).rates",
        lambda: project(
            stream=stream(tasks=(*PROJECT.stream.tasks, Task(name="click_rate", window=HOUR))),
            feature_views=(*PROJECT.feature_views, view(name="more", counts=("click_rate",), rates=("click",))),
        ),
    ),
]

TWICE: list[Wrong] = [
    ("Stream.surfaces", lambda: stream(surfaces=("feed", "feed"))),
    ("Stream.tasks", lambda: stream(tasks=PROJECT.stream.tasks * 2)),
    ("Stream.context", lambda: stream(context=PROJECT.stream.context * 2)),
    ("Stream.context", lambda: stream(item=PROJECT.stream.user)),
    ("Stream.context", lambda: with_context("hour_of_day")),
    ("Stream.request", lambda: stream(request=Request(name="user_id"))),
    ("Stream.request", lambda: stream(request=Request(name="click"))),
    ("Stream.request", lambda: stream(weight="page", request=Request(name="page"))),
    ("Request.name", lambda: Request(name="a page")),
    ("Stream.calendar", lambda: stream(calendar=("hour_of_day", "hour_of_day"))),
    ("FeatureView(item_activity).windows", lambda: view(windows=(DAY, 24 * HOUR))),
    ("FeatureView(item_activity).entities", lambda: view(entities=("item_id", "item_id"))),
    ("FeatureView(item_activity).counts", lambda: view(counts=("click", "click"))),
    ("FeatureView(item_activity).rates", lambda: view(rates=("click", "click"))),
    ("PredictionView(user_opinion).tasks", lambda: opinion(tasks=("click", "click"))),
    ("PredictionView(user_opinion).entities", lambda: opinion(entities=("user_id", "user_id"))),
    ("PredictionView(user_opinion).windows", lambda: opinion(windows=(DAY, DAY))),
    ("StudentAdapter.context", lambda: distil.StudentAdapter(context=("surface", "surface"))),
    ("Teacher(large).tasks", lambda: teacher(tasks=("click", "click"))),
    ("Teacher(large).inputs", lambda: with_teacher(inputs=AGAIN)),
    ("Student(feed_click).inputs", lambda: with_student(inputs=AGAIN)),
    ("Student(feed_click).inputs", lambda: with_student(inputs=(*IDS, "item_activity", "item_activity:click_1d"))),
    ("Student(feed_click).teacher", lambda: student(teacher=("large", "large"))),
    ("Project.students", lambda: project(students=(student(), student()))),
    ("Project.teachers", lambda: project(teachers=PROJECT.teachers * 2)),
    ("Project.feature_views", lambda: with_view(name="user_activity")),
    ("Project.prediction_views", lambda: with_opinion(name="user_activity")),
]
