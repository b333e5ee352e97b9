"""Declarations to change: the default project's parts, and projects with one more of a kind.

Belongs here: making them. Not here: which are wrong (wrong_*.py) or odd but right (test_odd.py).
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

from exfm.feature_views import FeatureView
from exfm.history_views import HistoryView
from exfm.learning import Student, Teacher
from exfm.log_columns import Column, Task
from exfm.prediction_views import PredictionView
from exfm.project import Project
from exfm.stream import Stream
from projects.simulated import PROJECT

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
AGES = timedelta(days=999_999_999)
NAN, INF = float("nan"), float("inf")
FIRST = PROJECT.stream.first_slice
IDS = ("user_id", "item_id")
AGAIN = IDS + ("user_id",)
LONG = "a" * 300

Wrong = tuple[str, Callable[[], object]]


def stream(**changes: Any) -> Stream:
    return replace(PROJECT.stream, **changes)


def view(**changes: Any) -> FeatureView:
    return replace(cast(FeatureView, PROJECT.view("item_activity")), **changes)


def history(**changes: Any) -> HistoryView:
    return replace(cast(HistoryView, PROJECT.view("user_history")), **changes)


def opinion(**changes: Any) -> PredictionView:
    return replace(cast(PredictionView, PROJECT.view("user_opinion")), **changes)


def teacher(**changes: Any) -> Teacher:
    return replace(PROJECT.teachers[0], **changes)


def student(**changes: Any) -> Student:
    return replace(PROJECT.student("feed_click"), **changes)


def project(**changes: Any) -> Project:
    return replace(PROJECT, **changes)


def with_stream(**changes: Any) -> Project:
    return project(stream=stream(**changes))


def with_context(*names: str) -> Project:
    """The default stream with further columns."""
    return with_stream(context=PROJECT.stream.context + tuple(Column(name=name, rows=8) for name in names))


def with_tasks(*names: str) -> Project:
    return with_stream(tasks=PROJECT.stream.tasks + tuple(Task(name=name, window=HOUR) for name in names))


def with_view(**changes: Any) -> Project:
    """The default project with one more view, which nobody reads."""
    return project(feature_views=(*PROJECT.feature_views, view(**{"name": "more", **changes})))


def with_history(**changes: Any) -> Project:
    return project(feature_views=(*PROJECT.feature_views, history(**{"name": "more", **changes})))


def with_opinion(**changes: Any) -> Project:
    return project(prediction_views=(*PROJECT.prediction_views, opinion(**{"name": "more", **changes})))


def with_student(**changes: Any) -> Project:
    return project(students=(student(**changes),))


def with_teacher(**changes: Any) -> Project:
    return project(teachers=(teacher(**changes),))


def reading(added: FeatureView | HistoryView, *inputs: str) -> Project:
    """A student that reads an added view."""
    views = (*PROJECT.feature_views, added)
    return project(feature_views=views, students=(student(inputs=(*IDS, added.name, *inputs)),))


def keyed_by(column: str, **changes: Any) -> Project:
    """A view of an added column."""
    wide = replace(PROJECT.stream, context=(*PROJECT.stream.context, Column(name=column, rows=8)))
    added = view(**{"name": "more", "entities": (column,), "counts": ("impressions",), **changes})
    return project(stream=wide, feature_views=(*PROJECT.feature_views, added))


def opinion_of(column: str, *tasks: str) -> Project:
    wide = replace(PROJECT.stream, context=(*PROJECT.stream.context, Column(name=column, rows=8)))
    added = opinion(name="more", entities=(column,), tasks=tasks or ("click",))
    return project(stream=wide, prediction_views=(*PROJECT.prediction_views, added))
