"""A live stream for tests: slices of a minute that end while the test runs, a log that the test writes meanwhile.

    EXFM_PROJECT=tests.graph.live:PROJECT EXFM_LIVE_SINCE=<ISO moment> ...

Belongs here: the declaration, and the writer of its log. Not here: what a test expects of it. ``EXFM_LIVE_SINCE`` is
the start of the first slice: a declaration must be the same in every process of an instance, so it can't be "now".
"""

import os
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from exfm.distillation import AuxiliaryHead
from exfm.feature_views import FeatureView
from exfm.freshness import Freshness
from exfm.learning import Gate
from exfm.log_columns import Task
from exfm.prediction_views import PredictionView
from exfm.project import Drift, Project
from exfm.simulation import Event, Simulation
from pipeline.streams.simulated_log import write_log
from pipeline.streams.simulator import simulate
from tests.tiny import tiny_project

SLICE = timedelta(minutes=int(os.environ.get("EXFM_LIVE_MINUTES", "1")))
WINDOWS = (SLICE, 3 * SLICE)
LATE, FILLED, CORRECTED, AGAIN, BROKEN = 1, 4, 3, 5.5, 5  # slices: see Writer
WORLD = Simulation(
    impressions_per_day=int(900 * timedelta(days=1) / SLICE), users=200, items=60,
    new_users_per_day=20, new_items_per_day=6, orphan_share=0.02,
)  # fmt: skip


def live_project(since: datetime) -> Project:
    """The tiny project on slices of a minute: two teachers' features, labels a slice later, a log of somebody else.

    ``feed_click`` is trained when it was never released or drifts, not for its age; ``feed_convert`` for its age, but
    its gate passes nothing.
    """
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
    patient, strict = tiny.students
    passing = Gate(tolerance=1.0, judged_rows=100, calibration=10.0, rows=100)
    students = tuple(
        replace(student, inputs=renamed(student.inputs, views, opinions), freshness=fresh, gate=gate,
                distillation=AuxiliaryHead(weight=2.0), lead=None)
        for student, fresh, gate in (
            (patient, Freshness(warn=400 * SLICE, fail=500 * SLICE), passing),
            (strict, Freshness(warn=2 * SLICE, fail=10 * SLICE), replace(passing, tolerance=-0.9)),
        )
    )  # fmt: skip
    return replace(
        tiny, name="live", stream=stream, simulation=None, feature_views=views, prediction_views=opinions,
        teachers=(teacher,), students=students, drift=Drift(slices=2),
    )  # fmt: skip


class Writer(threading.Thread):
    """Writes each slice of the log as it ends, as another system would.

    Slice ``LATE`` lands when ``FILLED`` slices are over, slice ``CORRECTED`` is written anew when ``AGAIN`` are, and
    from slice ``BROKEN`` on every device is null.
    """

    def __init__(self, project: Project, log: Path) -> None:
        super().__init__(daemon=True)
        self._stream, self._log, self._over = project.stream, log, threading.Event()
        self.filled_at: datetime | None = None

    def run(self) -> None:
        early = timedelta(seconds=2)
        steps = [(index + 1.0, index, 0) for index in range(1000) if index != LATE]
        for after, index, seed in sorted([*steps, (FILLED + 0.1, LATE, 0), (AGAIN, CORRECTED, 8)]):
            due = self._stream.first_slice + after * SLICE - early
            if self._over.wait(max((due - datetime.now(UTC)).total_seconds(), 0)):
                return
            self._write(index, seed)
            if index == LATE:
                self.filled_at = datetime.now(UTC)

    def _write(self, index: int, seed: int) -> None:
        world = replace(WORLD, seed=WORLD.seed + seed)
        if index >= BROKEN:
            world = replace(world, events=(Event(kind="null", day=0, strength=1.0, of="device"),))
        slice_ = self._stream.slice_at(index)
        write_log(self._log, simulate(world, self._stream, slice_), slice_)

    def stop(self) -> None:
        self._over.set()
        self.join()


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
