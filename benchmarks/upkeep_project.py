"""A live project of many short slices and several students, for benchmarks/upkeep.py.

    EXFM_PROJECT=benchmarks.upkeep_project:PROJECT BENCH_SINCE=<ISO moment> BENCH_STUDENTS=8 ...

Belongs here: the declaration. Its first slice is told by the environment: every process must see the same.
"""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from exfm import AuxiliaryHead, DCNv2, FeatureView, Freshness, Gate, Project, Simulation, Student, Task, Training
from projects.simulated import PROJECT as SIMULATED

SLICE, WINDOW = timedelta(minutes=5), timedelta(seconds=30)
ROWS = 300  # a slice
WORLD = Simulation(
    impressions_per_day=ROWS * (timedelta(days=1) // SLICE), users=200, items=60, new_users_per_day=20,
    new_items_per_day=6,
)  # fmt: skip
TRAINING = Training(batch_size=256)
SEEN = ("user_id", "item_id", "device", "item_activity")


def project(since: datetime, students: int) -> Project:
    """A growing log that somebody else writes: one view, a teacher, and students that are refreshed every slice."""
    stream = replace(
        SIMULATED.stream, first_slice=since, slice_length=SLICE, until=None, lateness=WINDOW, calendar=(),
        tasks=(Task(name="click", window=WINDOW), Task(name="convert", window=WINDOW)),
    )  # fmt: skip
    views = tuple(
        replace(view, windows=(SLICE, 6 * SLICE), every=SLICE)
        for view in SIMULATED.feature_views
        if isinstance(view, FeatureView) and view.name == "item_activity"
    )
    teacher = replace(
        SIMULATED.teachers[0], inputs=(*SEEN, "surface"), training=TRAINING,
        network=DCNv2(embedding=4, cross=1, hidden=(16,)),
    )  # fmt: skip
    gate = Gate(tolerance=1.0, judged_rows=20, calibration=10.0, rows=100)
    declared = tuple(
        Student(
            name=f"student_{number}", surface="feed", task="click", inputs=SEEN, training=TRAINING, gate=gate,
            network=DCNv2(embedding=4, cross=1, hidden=(8,)), teacher=teacher.name, distillation=AuxiliaryHead(),
            freshness=Freshness(warn=1.5 * SLICE, fail=60 * SLICE),
        )
        for number in range(students)
    )  # fmt: skip
    return replace(
        SIMULATED, name="upkeep", simulation=None, stream=stream, feature_views=views, prediction_views=(),
        teachers=(teacher,), students=declared,
    )  # fmt: skip


PROJECT = project(
    datetime.fromisoformat(os.environ.get("BENCH_SINCE", "2026-01-01T00:00:00")).replace(tzinfo=UTC),
    int(os.environ.get("BENCH_STUDENTS", "8")),
)
