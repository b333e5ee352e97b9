"""A live simulated stream for tests: short slices that end while the test runs.

    EXFM_PROJECT=tests.graph.live:PROJECT EXFM_LIVE_SINCE=<ISO moment> ...

Belongs here: the declaration. Not here: what a test does with it. ``EXFM_LIVE_SINCE`` is the start of the first slice:
a declaration must be the same in every process of an instance, so it can't be "now".
"""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from exfm.distillation import AuxiliaryHead
from exfm.feature_views import FeatureView
from exfm.freshness import Freshness
from exfm.learning import Gate
from exfm.prediction_views import PredictionView
from exfm.project import Project
from exfm.simulation import Simulation
from exfm.stream import Task
from tests.tiny import tiny_project

SLICE = timedelta(minutes=int(os.environ.get("EXFM_LIVE_MINUTES", "1")))
WINDOWS = (SLICE, 3 * SLICE)


def live_project(since: datetime) -> Project:
    """The tiny project on slices of a minute: two teachers' features, two students, labels a slice later."""
    tiny = tiny_project()
    stream = replace(
        tiny.stream,
        first_slice=since,
        slice_length=SLICE,
        until=None,
        lateness=SLICE,
        tasks=(Task(name="click", window=SLICE / 2), Task(name="convert", window=SLICE)),
        calendar=(),
    )
    views = tuple(
        replace(view, windows=WINDOWS, every=SLICE) if isinstance(view, FeatureView)
        else replace(view, window=3 * SLICE, every=SLICE)
        for view in tiny.feature_views
    )  # fmt: skip
    opinions = tuple(replace(view, windows=WINDOWS) for view in tiny.prediction_views)
    teacher = replace(tiny.teachers[0], inputs=without_calendar(tiny.teachers[0].inputs))
    fresh = Freshness(warn=2 * SLICE, fail=10 * SLICE)
    students = tuple(
        replace(student, inputs=renamed(student.inputs, views, opinions), freshness=fresh,
                gate=Gate(tolerance=1.0, judged_rows=100, calibration=10.0, rows=100),
                distillation=AuxiliaryHead(weight=2.0), lead=None)
        for student in tiny.students
    )  # fmt: skip
    impressions = Simulation(
        impressions_per_day=int(400 * timedelta(days=1) / SLICE), users=200, items=60,
        new_users_per_day=20, new_items_per_day=6, orphan_share=0.02,
    )  # fmt: skip
    return replace(
        tiny, name="live", stream=stream, simulation=impressions, feature_views=views, prediction_views=opinions,
        teachers=(teacher,), students=students,
    )  # fmt: skip


def without_calendar(inputs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in inputs if name != "hour_of_day")


def renamed(
    inputs: tuple[str, ...], views: tuple[object, ...], opinions: tuple[PredictionView, ...]
) -> tuple[str, ...]:
    """Inputs without windows in their names: a view's features are called after its windows."""
    names = dict.fromkeys(name.partition(":")[0] for name in without_calendar(inputs))
    return tuple(names)


PROJECT = live_project(
    datetime.fromisoformat(os.environ.get("EXFM_LIVE_SINCE", "2026-01-01T00:00:00")).replace(tzinfo=UTC)
)
