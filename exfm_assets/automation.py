"""What runs by itself, and when: one named condition for each reason.

Belongs here: automation conditions and the sensors that evaluate them.
Not here: operands that look at what is stored (conditions.py), what a check measures (checks.py).

All are levels: what is missing, or is not what would be made now, is asked for until it is there. So a correction, a
late slice, a failed run and a new declaration heal in the same way, and nothing that stands is asked for again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, reduce
from operator import or_

import dagster as dg

from exfm.learning import Student
from exfm.names import student_group
from exfm.stream import Stream
from exfm_assets.alerts.sensor import alerts_sensor
from exfm_assets.assets.teachers import supervising
from exfm_assets.conditions import (
    Correctable,
    FilesDue,
    LabelsClosed,
    NeverReleased,
    Outdated,
    RefreshWanted,
    Supervised,
    Unbroken,
)
from exfm_assets.freshness_marks import freshness_sensor
from exfm_assets.range_runs import RangeRunSensor
from exfm_assets.running import end_dead_runs
from pipeline.workspace import Workspace

AC = dg.AutomationCondition
LONGEST_WAIT_MINUTES = 5
STUDENTS_A_SENSOR = 100  # four assets each
RETRY_ELSEWHERE = "0 * * * *"  # so is what another system refused, less often: a person may be needed
RETRY = "*/10 * * * *"  # what failed is tried again then, while its slice is recent


def _either(left: dg.AutomationCondition, right: dg.AutomationCondition) -> dg.AutomationCondition:
    """The same as ``left | right``, with another name.

    Dagster 1.13 keeps the memory of a ``since`` under the names of its two conditions alone: two of one asset whose
    conditions are both an "or" share it.
    """
    return ~(~left & ~right)


def _just_ended() -> dg.AutomationCondition:
    """It was requested in the last tick, or its run was seen to end in this one.

    Dagster 1.13 reads what is made before what is in progress: a run that ends in between shows as neither, and its
    slice would be requested again. The next tick sees it.
    """
    begun = _either(AC.newly_requested(), AC.in_progress()).since(AC.newly_updated())
    return AC.newly_requested() | (begun & (~AC.in_progress()).newly_true())


def _updated(but_for: dg.AssetSelection | None) -> dg.AutomationCondition:
    """Something upstream was updated, but for some that are not looked at."""
    updated = AC.any_deps_updated()
    return updated if but_for is None else updated.ignore(but_for)


def _labelled(condition: dg.AutomationCondition, label: str) -> dg.AutomationCondition:
    """A condition with a name, also where it is one of ours."""
    return (condition & ~AC.in_progress()).with_label(label)


@dataclass(frozen=True)
class Automation:
    """The conditions of a workspace's assets."""

    work: Workspace

    @property
    def _stream(self) -> Stream:
        return self.work.project.stream

    @cached_property
    def _outdated(self) -> dg.AutomationCondition:
        return Outdated(self.work)

    def _ready(self, but_for: dg.AssetSelection | None = None) -> dg.AutomationCondition:
        """Every input is there and up to date, or asked for on the same tick; nothing of it is in progress.

        Args:
            but_for: inputs that are not looked at.
        """
        lacks = AC.any_deps_missing()
        stale = AC.any_deps_match(self._outdated & ~AC.will_be_requested())
        if but_for is not None:
            lacks, stale = lacks.ignore(but_for), stale.ignore(but_for)
        recent = AC.in_latest_time_window(self.work.project.upkeep.look_back * self._stream.slice_length)
        failed = AC.execution_failed() & ~(AC.cron_tick_passed(RETRY) & recent)
        return ~_just_ended() & ~lacks & ~stale & ~AC.in_progress() & ~failed

    def _carried_on(self, but_for: dg.AssetSelection | None = None) -> dg.AutomationCondition:
        """It is stored, and something that it is made of is made again on the same tick.

        Feast's registry is no such thing: what is stored does not depend on it.
        """
        registry = dg.AssetSelection.assets(dg.AssetKey("feature_registry"))
        above = AC.any_deps_match(AC.will_be_requested()).ignore(registry if but_for is None else registry | but_for)
        return ~AC.missing() & above & Correctable(self.work)

    def keep_current(self, but_for: dg.AssetSelection | None = None) -> dg.AutomationCondition:
        """Every slice that has ended, whenever it is missing or out of date."""
        lacking = AC.missing() | self._outdated | self._carried_on(but_for)
        return _labelled(lacking & self._ready(but_for), "keep_current")

    def keep_labels(self) -> dg.AutomationCondition:
        """The same, once the slice's longest attribution window is over."""
        lacking = (AC.missing() & LabelsClosed(self.work)) | self._outdated | self._carried_on()
        return _labelled(lacking & self._ready(), "keep_labels")

    def keep_trained(self, own: dg.AssetKey) -> dg.AutomationCondition:
        """A chain of checkpoints: as ``keep_current``, as many slices at once as follow each other.

        Args:
            own: the chain itself, whose earlier slices are walked over in the same run.
        """
        selection = dg.AssetSelection.assets(own)
        lacking = AC.missing() | self._outdated | self._carried_on(selection)
        return _labelled(Unbroken(self.work, lacking & self._ready(selection)), "keep_trained")

    def refresh_student(self, student: Student, own: dg.AssetKey) -> dg.AutomationCondition:
        """Train on what has come since, when there is a reason; and again on what was corrected or declared otherwise.

        Only slices that are missing are asked for, so none is learnt twice. A drift asks once; where the gate lets no
        candidate through that has learnt from it, each new slice is one more try, up to ``Drift.tries``.
        """
        selection = dg.AssetSelection.assets(own, *self._succeeded(student))
        new = AC.missing() & RefreshWanted(self.work, student)
        lacking = new | self._outdated | self._carried_on(selection)
        return _labelled(Unbroken(self.work, lacking & self._ready_to_learn(student, own)), "refresh_student")

    def _succeeded(self, student: Student) -> list[dg.AssetKey]:
        """Where a teacher may take over: what is read of all of them, for who teaches may change between slices."""
        is_open = any(len(self.work.project.line_of(name)) > 1 for name in student.teachers)
        return supervising(self.work.project, student) if is_open else []

    def _ready_to_learn(self, student: Student, *own: dg.AssetKey) -> dg.AutomationCondition:
        """Every input is there, but for those of its own; of its teachers, the one that teaches the slice."""
        others = self._succeeded(student)
        ready = self._ready(dg.AssetSelection.assets(*own, *others))
        return ready & Supervised(self.work, student) if others else ready

    def judge_what_served(
        self, student: Student, checkpoint: dg.AssetKey, control: dg.AssetKey
    ) -> dg.AutomationCondition:
        """Every slice whose labels are closed, by the checkpoint that served it.

        A released student is judged by the checkpoints it had, also while it is not refreshed. One that was never
        released needs its checkpoints of the slices before first, or an older one would be judged instead.
        """
        own = dg.AssetSelection.assets(checkpoint, control)
        waits = AC.any_deps_match(AC.missing() & ~AC.will_be_requested()).allow(own) & NeverReleased(self.work, student)
        others = self._succeeded(student)
        carried_on = self._carried_on(dg.AssetSelection.assets(*others) if others else None)
        lacking = AC.missing() | self._outdated | carried_on
        busy = AC.any_deps_match(AC.in_progress()).allow(own)
        ready = self._ready_to_learn(student, checkpoint, control)
        return _labelled(lacking & ready & ~waits & ~busy, "judge_what_served")

    def ride_along(self) -> dg.AutomationCondition:
        """In the run of whatever it depends on; by itself where that was materialised without it."""
        recent = AC.in_latest_time_window(self.work.project.upkeep.look_back * self._stream.slice_length)
        with_them = AC.any_deps_match(AC.will_be_requested())
        after_them = AC.any_deps_updated().since(AC.newly_updated()) & ~AC.any_deps_in_progress() & recent
        return ((with_them | after_them) & ~AC.in_progress()).with_label("ride_along")

    def _settled(self, but_for: dg.AssetSelection | None) -> dg.AutomationCondition:
        """Nothing upstream is in progress, or it has been for long: where runs never end, drift would never be seen.

        A reader sees whole evaluations even while others are written; waiting only saves doing it twice.
        """
        minutes = min(max(self._stream.slice_length // timedelta(minutes=1), 1), LONGEST_WAIT_MINUTES)
        waited = AC.cron_tick_passed(f"*/{minutes} * * * *").since_last_handled()  # type: ignore[misc]  # typed for assets alone
        busy = AC.any_deps_in_progress()
        return (~(busy if but_for is None else busy.ignore(but_for)) | waited) & ~AC.in_progress()

    def follow(self, but_for: dg.AssetSelection | None = None) -> dg.AutomationCondition:
        """Once for each change upstream, when it has settled; again if the run of it died or was cancelled.

        Args:
            but_for: tables that are read, whose every slice would ask for a look where what follows them will do.
        """
        return (self._after(_updated(but_for)) & self._settled(but_for)).with_label("follow")

    @staticmethod
    def _after(updated: dg.AutomationCondition) -> dg.AutomationCondition:
        """Once for each update; again if the run of it died or was cancelled."""
        once = updated.since_last_handled() | AC.newly_missing()
        made = _either(AC.newly_updated(), AC.initial_evaluation())
        return once | (updated.since(made) & ~AC.execution_failed())

    def mirror(self, releases: Sequence[dg.AssetKey]) -> dg.AutomationCondition:
        """As ``follow``, also after a person changed what serves; and what failed is tried again each hour.

        Whatever is down elsewhere comes back without a word, so nothing upstream would ask again.

        Args:
            releases: assets whose records are looked at, though it hangs on none: a refused one would skip it.
        """
        alone = AC.newly_updated() & ~AC.executed_with_root_target()
        released = [AC.asset_matches(key, alone) for key in releases]
        updated = reduce(or_, released, _updated(None))
        again = AC.execution_failed() & AC.cron_tick_passed(RETRY_ELSEWHERE)
        return ((self._after(updated) | again) & self._settled(None)).with_label("mirror")

    def follow_once(self, but_for: dg.AssetSelection | None = None) -> dg.AutomationCondition:
        """Once for each change upstream, for what may decide that there is nothing to record; else as ``follow``."""
        once = _updated(but_for).since_last_handled() | AC.newly_missing()
        return (once & self._settled(but_for)).with_label("follow_once")

    def read_in(self) -> dg.AutomationCondition:
        """The log's files: when one is new or changed; what failed is tried again later."""
        failed = AC.execution_failed() & ~AC.cron_tick_passed(RETRY)
        return _labelled((AC.missing() | FilesDue(self.work)) & ~_just_ended() & ~failed, "read_in")

    @staticmethod
    def on_change() -> dg.AutomationCondition:
        """When it is missing, or its declaration changed."""
        changed = AC.code_version_changed() | AC.newly_missing() | AC.missing()
        failed = AC.execution_failed() & ~AC.cron_tick_passed(RETRY)
        return (changed & ~AC.in_progress() & ~failed).with_label("on_change")


def sensors(work: Workspace) -> list[dg.SensorDefinition]:
    """The automation, on from the start, the marks of freshness, what ends the runs of dead processes, and alerts.

    Dagster evaluates at most 500 assets a sensor in the code location, so of very many students each hundred has its
    own. Such a sensor does not see what another asks for on the same tick; it asks on the next.
    """
    checks = dg.AssetSelection.all_asset_checks()  # they have no conditions of their own, and count as assets do
    named = [student_group(student.name) for student in work.project.students]
    groups = [named[first : first + STUDENTS_A_SENSOR] for first in range(0, len(named), STUDENTS_A_SENSOR)]
    everything = dg.AssetSelection.all() - checks
    declared = work.project.alerts
    others = [freshness_sensor(), _dead_runs(), *([] if declared is None else [alerts_sensor(declared)])]
    if len(groups) < 2:
        return [_automation("automation", everything, work), *others]
    of_students = [dg.AssetSelection.groups(*names) - checks for names in groups]
    rest = everything - dg.AssetSelection.groups(*(name for names in groups for name in names))
    automations = [
        _automation(f"automation_students_{number}", part, work) for number, part in enumerate(of_students, 1)
    ]
    return [_automation("automation", rest, work), *automations, *others]


def _automation(name: str, target: dg.AssetSelection, work: Workspace) -> dg.AutomationConditionSensorDefinition:
    return RangeRunSensor(
        name,
        work,
        target=target,
        default_status=dg.DefaultSensorStatus.RUNNING,  # Dagster's own sensor is off until a user finds the switch
        minimum_interval_seconds=30,
    )


def _dead_runs() -> dg.SensorDefinition:
    @dg.sensor(name="dead_runs", default_status=dg.DefaultSensorStatus.RUNNING, minimum_interval_seconds=15, jobs=[])
    def dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        """Ends runs whose process is gone, so that their slices and pool slots are free again."""
        ended = end_dead_runs(context.instance)
        for message in ended:
            context.log.warning(message)
        return dg.SkipReason("; ".join(ended) or "every run that is under way has a process")

    return dead_runs
